"""Lists of any length: read page by page, and shown without being held."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from services.cli.client import Client
from services.cli.output import Format, JsonWriter, print_tables, say

# Most lists give this many at once; those whose items are large give fewer.
PAGE_SIZE = 1_000
ItemT = TypeVar("ItemT", bound=Message)
AnyT = TypeVar("AnyT")


def pages(
    client: Client, method: Callable[..., Any], request: Any, name: str, page_size: int = PAGE_SIZE
) -> Iterator[Any]:
    """Give the items of a list, page by page, up to its end.

    Args:
        client: how to call.
        method: the RPC of a stub.
        request: its request with the filters; it is used for every page.
        name: field of the answer that holds the items.
        page_size: most items of one page.
    """
    request.page_size = page_size
    while True:
        page = client.call(method, request)
        yield from getattr(page, name)
        request.page_token = page.next_page_token
        if not request.page_token:
            return


def up_to(client: Client, method: Callable[..., Any], request: Any, name: str, limit: int) -> Any:
    """Return one answer with up to `limit` items: pages of heavy items end before their size.

    Args:
        client: how to call.
        method: the RPC of a stub.
        request: its request with the filters; it is used for every page.
        name: field of the answer that holds the items.
        limit: most items.
    """
    request.page_size = min(limit, PAGE_SIZE)
    answer = client.call(method, request)
    items = getattr(answer, name)
    while answer.next_page_token and len(items) < limit:
        request.page_size = min(limit - len(items), PAGE_SIZE)
        request.page_token = answer.next_page_token
        page = client.call(method, request)
        items.extend(getattr(page, name))
        answer.next_page_token = page.next_page_token
    return answer


def page_size(limit: int) -> int:
    """Return how many to ask for at once: one more than are shown tells whether there are more."""
    return min(limit + 1, PAGE_SIZE) if limit else PAGE_SIZE


class Limited(Generic[AnyT]):
    """The first items of a list, and whether it has more.

    Attributes:
        more: known once all were given.
    """

    def __init__(self, items: Iterable[AnyT], limit: int) -> None:
        self._items, self._limit = iter(items), limit
        self.more = False

    def __iter__(self) -> Iterator[AnyT]:
        yield from islice(self._items, self._limit or None)
        self.more = bool(self._limit) and next(self._items, None) is not None


def show(
    output: Format,
    name: str,
    items: Iterable[ItemT],
    columns: Sequence[str],
    row: Callable[[ItemT], Sequence[str]],
    *,
    right: Collection[str] = (),
    optional: Collection[str] = (),
    limit: int = 0,
) -> None:
    """Print a list: as tables, or as `{"<name>": [...], "more": false}`.

    Args:
        output: how.
        name: of the list in JSON.
        items: what is listed.
        columns: headings of the table.
        row: an item's cells.
        right: columns that are numbers.
        optional: columns that a table leaves out when all their cells are empty.
        limit: most items; 0 for all.
    """
    limited = Limited(items, limit)
    if output is Format.JSON:
        with JsonWriter() as document:
            document.add_list(name, limited)
            document.add("more", limited.more)
        return
    print_tables(columns, map(row, limited), right=right, optional=optional)
    if limited.more:
        say(f"there are more than {limit}: raise --limit, or use --limit 0")
