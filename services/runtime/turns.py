"""Long work on the event loop, in steps: other calls run in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

ItemT = TypeVar("ItemT")
SLICE_SECONDS = 0.005
"""After so long others have their turn, however few items it was."""


async def in_slices(items: Iterable[ItemT], size: int) -> AsyncIterator[ItemT]:
    """Give items one by one, and let other calls run after every `size` of them, or sooner when they take longer."""
    began = time.perf_counter()
    for number, item in enumerate(items, start=1):
        yield item
        if number % size == 0 or time.perf_counter() - began > SLICE_SECONDS:
            await asyncio.sleep(0)
            began = time.perf_counter()
