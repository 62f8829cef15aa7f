"""Health of what answers by background work, as by the event feed: it cannot be relied on while that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

STALL_SECONDS_MAX = 15.0
LOOK_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class FeedHealth:
    """Tells of the services that follow the feed whether they serve, and no others.

    Args:
        set_serving: says so of one service.
        names: full names of the services.
        stalled_seconds: how long the feed has not been brought up to date.
        stall_seconds_max: for so long it may be.
        what: what stands still, for the log.
    """

    def __init__(
        self,
        set_serving: Callable[[str, bool], Awaitable[None]],
        names: Sequence[str],
        stalled_seconds: Callable[[], float],
        *,
        stall_seconds_max: float = STALL_SECONDS_MAX,
        what: str = "event feed",
    ) -> None:
        self._what = what
        self._set_serving = set_serving
        self._names = names
        self._stalled_seconds = stalled_seconds
        self._stall_seconds_max = stall_seconds_max
        self._serving = True
        self._task: asyncio.Task[None] | None = None

    async def look(self) -> bool:
        """Look once; returns whether they serve."""
        stalled = self._stalled_seconds()
        serving = stalled <= self._stall_seconds_max
        if serving != self._serving:
            say = _log.info if serving else _log.error
            state = "kept up" if serving else "stands still"
            say(f"{self._what} {state}", stalled_s=stalled)
            for name in self._names:
                await self._set_serving(name, serving)
            self._serving = serving
        return serving

    def start(self) -> None:
        """Look once a second from now on."""
        if self._names:
            self._task = asyncio.create_task(self._run(), name="feed-health")

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)
