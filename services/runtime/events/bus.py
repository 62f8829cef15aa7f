"""The bell inside one process: who published wakes the sequencer, the sequencer wakes the readers.

It only saves waiting. Processes that do not share it find the same rows by polling.
"""

from __future__ import annotations

import asyncio

from services.runtime.loops import wait_for


class EventBus:
    """Three bells: `wake` after a commit that published, `scheduled` after one that set a timer, `moved` when the
    feed has grown.
    """

    def __init__(self) -> None:
        self._published = asyncio.Event()
        self._timers = asyncio.Event()
        self._listeners: set[Listener] = set()
        self._closed = False

    def wake(self) -> None:
        """Say that a transaction that published has committed. Call it after the commit."""
        self._published.set()

    async def published(self, timeout_s: float) -> bool:
        """Wait for `wake`; False when the time passed without it. One waiter: the sequencer."""
        rung = await wait_for(self._published, timeout_s)
        self._published.clear()
        return rung

    def scheduled(self) -> None:
        """Say that a transaction that set a timer has committed, or that the clock was moved."""
        self._timers.set()

    async def due(self, timeout_s: float) -> bool:
        """Wait for `scheduled`; False when the time passed without it. One waiter: the pump of timers."""
        rung = await wait_for(self._timers, timeout_s)
        self._timers.clear()
        return rung

    def moved(self) -> None:
        """Say that there is something new to read."""
        for listener in self._listeners:
            listener.ring()

    def close(self) -> None:
        """Say that the process is stopping: readers that would wait for ever end, those to come too."""
        self._closed = True
        for listener in self._listeners:
            listener.close()

    def listener(self) -> Listener:
        """Return a listener for `moved`; use it as a context manager."""
        return Listener(self._listeners, closed=self._closed)


class Listener:
    """One reader's bell: a ring between two waits is not lost.

    Attributes:
        closed: true once the process is stopping.
    """

    def __init__(self, listeners: set[Listener], *, closed: bool = False) -> None:
        self._listeners = listeners
        self._bell = asyncio.Event()
        self.closed = closed

    def __enter__(self) -> Listener:
        self._listeners.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._listeners.discard(self)

    def ring(self) -> None:
        """Wake this listener alone."""
        self._bell.set()

    def close(self) -> None:
        """Wake it for the last time."""
        self.closed = True
        self.ring()

    async def wait(self, timeout_s: float) -> bool:
        """Wait for news; False when the time passed without any."""
        rung = await wait_for(self._bell, timeout_s)
        self._bell.clear()
        return rung
