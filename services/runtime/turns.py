"""Long work on the event loop, in steps: other calls run in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

ItemT = TypeVar("ItemT")


async def in_slices(items: Iterable[ItemT], size: int) -> AsyncIterator[ItemT]:
    """Give items one by one, and let other calls run after every `size` of them."""
    for number, item in enumerate(items, start=1):
        yield item
        if number % size == 0:
            await asyncio.sleep(0)
