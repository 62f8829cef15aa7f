"""What the typed methods of the services stand on: an RPC, and whoever can call one.

`make generate` writes this module into the package from `tools/sdk_rpc.py`. Nothing here knows a transport.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from .checked import CheckedMessage

RequestT = TypeVar("RequestT", bound=CheckedMessage)
ResponseT = TypeVar("ResponseT", bound=CheckedMessage)


@dataclasses.dataclass(frozen=True)
class Method(Generic[RequestT, ResponseT]):
    """One RPC.

    Attributes:
        path: `/payments.ledger.v1.LedgerService/PostTransfers`.
        request, response: classes of its messages.
        repeatable: the same request again changes nothing more: it only reads, or carries ids that are kept.
        has_request_id: its request has a field request_id, which names the call for ever.
    """

    path: str
    request: type[RequestT]
    response: type[ResponseT]
    repeatable: bool
    has_request_id: bool


class Caller(Protocol):
    """Calls RPCs and waits for the answer."""

    def unary(
        self, method: Method[RequestT, ResponseT], request: RequestT, timeout: float | None
    ) -> ResponseT:
        """Call one that has one answer."""
        ...

    def stream(
        self, method: Method[RequestT, ResponseT], request: RequestT, timeout: float | None
    ) -> Iterator[ResponseT]:
        """Call one that answers with a stream."""
        ...

    def both_ways(
        self,
        method: Method[RequestT, ResponseT],
        requests: Iterable[RequestT],
        timeout: float | None,
    ) -> Iterator[ResponseT]:
        """Call one in which both sides stream."""
        ...


class AsyncCaller(Protocol):
    """Calls RPCs from an event loop."""

    async def unary(
        self, method: Method[RequestT, ResponseT], request: RequestT, timeout: float | None
    ) -> ResponseT:
        """Call one that has one answer."""
        ...

    def stream(
        self, method: Method[RequestT, ResponseT], request: RequestT, timeout: float | None
    ) -> AsyncIterator[ResponseT]:
        """Call one that answers with a stream."""
        ...

    def both_ways(
        self,
        method: Method[RequestT, ResponseT],
        requests: AsyncIterable[RequestT],
        timeout: float | None,
    ) -> AsyncIterator[ResponseT]:
        """Call one in which both sides stream."""
        ...


class PagesDoNotEnd(RuntimeError):
    """A page named itself as the next one: whoever followed it would read it for ever."""


def items(
    call: Callable[[RequestT], CheckedMessage], request: RequestT, field: str, pages: Pages
) -> Iterator[Any]:
    """Yield the items of all pages, asking for a page when the one before is used up. Raises PagesDoNotEnd."""
    asked: RequestT | None = request
    while asked is not None:
        page = call(asked)
        yield from getattr(page, field)
        asked = pages.after(asked, page, field)


async def items_async(
    call: Callable[[RequestT], Awaitable[CheckedMessage]],
    request: RequestT,
    field: str,
    pages: Pages,
) -> AsyncIterator[Any]:
    """Yield as `items` does."""
    asked: RequestT | None = request
    while asked is not None:
        page = await call(asked)
        for item in getattr(page, field):
            yield item
        asked = pages.after(asked, page, field)


@dataclasses.dataclass(frozen=True)
class Pages:
    """How an RPC names its next page.

    Attributes:
        asked_by: field of the request that says where a page begins.
        told_by: field of the response that says where the next one does.
        always_told: the last page tells it too, so the end is a page without items.
    """

    asked_by: str
    told_by: str
    always_told: bool

    def after(self, request: RequestT, page: CheckedMessage, field: str) -> RequestT | None:
        """Return the request of the page after this one; None after the last."""
        token = getattr(page, self.told_by)
        if not token or (self.always_told and not getattr(page, field)):
            return None
        if token == getattr(request, self.asked_by):
            raise PagesDoNotEnd(f"{type(page).__name__}.{self.told_by} is that of the page itself")
        asked: Any = request
        after: RequestT = dataclasses.replace(asked, **{self.asked_by: token})
        return after


BY_TOKEN = Pages("page_token", "next_page_token", always_told=False)
BY_CURSOR = Pages("after", "next_cursor", always_told=True)
