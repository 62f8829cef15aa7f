"""Long work on the event loop, in steps: other calls run in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import ParamSpec, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
ParametersT = ParamSpec("ParametersT")
SLICE_SECONDS = 0.005
"""After so long others have their turn, however few items it was."""
ASIDE_ITEMS = 500
"""Pure work on fewer items is not worth a thread."""


async def in_slices(items: Iterable[ItemT], size: int) -> AsyncIterator[ItemT]:
    """Give items one by one, and let other calls run after every `size` of them, or sooner when they take longer."""
    began = time.perf_counter()
    for number, item in enumerate(items, start=1):
        yield item
        if number % size == 0 or time.perf_counter() - began > SLICE_SECONDS:
            await asyncio.sleep(0)
            began = time.perf_counter()


async def aside(
    items: int,
    work: Callable[ParametersT, ResultT],
    *arguments: ParametersT.args,
    **named: ParametersT.kwargs,
) -> ResultT:
    """Do work that cannot be cut: in a thread when it has many items, so that other calls have their turns.

    The work must be pure, and nothing else may touch its arguments meanwhile: a caller that is cancelled leaves it to
    end by itself.
    """
    if items < ASIDE_ITEMS:
        return work(*arguments, **named)
    return await asyncio.to_thread(work, *arguments, **named)
