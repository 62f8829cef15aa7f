"""Cancels a coroutine at a chosen one of its awaits, so that every await of it can be tried in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class CutAt:
    """Awaits a coroutine and cancels its task at awaits that are told by their number.

    Attributes:
        reached: how many awaits it came to.
    """

    def __init__(self, inner: Coroutine[Any, Any, object], first: int, times: int = 1) -> None:
        self._inner = inner
        self._cut = range(first, first + times)
        self.reached = 0

    def __await__(self) -> Generator[Any, Any, object]:
        """Step through the coroutine as its task does."""
        step, given = self._inner.send, None
        while True:
            try:
                waited = step(given)
            except StopIteration as end:
                return end.value
            if self.reached in self._cut:
                task = asyncio.current_task()
                assert task is not None
                # Cancels what the coroutine waits for, as soon as it is yielded.
                task.cancel()
            self.reached += 1
            try:
                given = yield waited
                step = self._inner.send
            except BaseException as error:
                step, given = self._inner.throw, error


async def cut_at(inner: Coroutine[Any, Any, object], first: int, times: int = 1) -> bool:
    """Run a coroutine and cancel it at its await `first`, and at the `times - 1` after it.

    Returns whether it came that far.
    """

    async def run() -> None:
        await cutting

    cutting = CutAt(inner, first, times)
    await asyncio.gather(asyncio.create_task(run()), return_exceptions=True)
    return cutting.reached > first
