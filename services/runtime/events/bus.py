"""The bell inside one process: who published wakes the sequencer, the sequencer wakes the readers.

It only saves waiting. Processes that do not share it find the same rows by polling.
"""

from __future__ import annotations

import asyncio
import contextlib


class EventBus:
    """Two bells: `wake` after a commit that published, `moved` when the feed has grown."""

    def __init__(self) -> None:
        self._published = asyncio.Event()
        self._moved: set[asyncio.Event] = set()

    def wake(self) -> None:
        """Say that a transaction that published has committed. Call it after the commit."""
        self._published.set()

    async def published(self, timeout_s: float) -> bool:
        """Wait for `wake`; False when the time passed without it. One waiter: the sequencer."""
        rung = await _wait(self._published, timeout_s)
        self._published.clear()
        return rung

    def moved(self) -> None:
        """Say that there is something new to read."""
        for bell in self._moved:
            bell.set()

    def listener(self) -> Listener:
        """Return a listener for `moved`; use it as a context manager."""
        return Listener(self._moved)


class Listener:
    """One reader's bell: a ring between two waits is not lost."""

    def __init__(self, bells: set[asyncio.Event]) -> None:
        self._bells = bells
        self._bell = asyncio.Event()

    def __enter__(self) -> Listener:
        self._bells.add(self._bell)
        return self

    def __exit__(self, *_: object) -> None:
        self._bells.discard(self._bell)

    def ring(self) -> None:
        """Wake this listener alone."""
        self._bell.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait for news; False when the time passed without any."""
        rung = await _wait(self._bell, timeout_s)
        self._bell.clear()
        return rung


async def _wait(event: asyncio.Event, timeout_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)
    return event.is_set()
