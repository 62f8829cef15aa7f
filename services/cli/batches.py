"""Splits items into calls, limited by number and by message size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from services.runtime.edge.weight import MESSAGE_BYTES_MAX

# The answer may name every item of a call again, with what is wrong with it, and has the same limit.
CALL_BYTES_MAX = MESSAGE_BYTES_MAX // 4
# Tag and length of an item within its message.
ITEM_BYTES = 16

ItemT = TypeVar("ItemT")


def cut(
    items: Iterable[ItemT],
    weigh: Callable[[ItemT], int],
    items_max: int,
    bytes_max: int = CALL_BYTES_MAX,
) -> Iterator[list[ItemT]]:
    """Group items by number and encoded size. An item that is too large for a call gets a group of its own.

    If `items` fails, what was read before is yielded first, and then the failure is raised.
    """
    batch: list[ItemT] = []
    weight = 0
    failure: Exception | None = None
    try:
        for item in items:
            item_bytes = weigh(item) + ITEM_BYTES
            if batch and weight + item_bytes > bytes_max:
                yield batch
                batch, weight = [], 0
            batch.append(item)
            weight += item_bytes
            # Don't wait for the next item: it may take long.
            if len(batch) == items_max:
                yield batch
                batch, weight = [], 0
    except Exception as error:
        failure = error
    if batch:
        yield batch
    if failure is not None:
        raise failure
