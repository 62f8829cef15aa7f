"""One supervised loop under every background task of a process.

It does its work round after round, or hands a round the whole time until it fails (a session that is held, a stream
that is read). Whatever a round raises is noted, told of once a change, and tried again after a wait that grows: a loop
never ends by itself. Who wants to know how it fares reads `stalled_seconds` and `failing_seconds`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from services.runtime.conditions import Conditions, Health
from services.runtime.interruptions import Interruptions
from services.runtime.telemetry import Telemetry

# Of a wait after a failure: so much of it is left to chance, so that processes that failed together part.
JITTER = 0.2

Work = Callable[[], Awaitable[float | None]]
"""One round. It returns how many seconds to rest: 0 to go on at once, None for as long as the loop usually does."""

Wait = Callable[[asyncio.Event, float], Awaitable[bool]]
"""Waits for an event, at most so many seconds; says whether it is set."""

_log = structlog.get_logger(__name__)


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most so long; says whether it is set."""
    # Not asyncio.wait_for, which loses a cancellation that meets the event, and takes a task of its own.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after failures: twice as long after each, up to a limit.

    Attributes:
        first_seconds: after the first.
        max_seconds: after many.
    """

    first_seconds: float = 0.1
    max_seconds: float = 1.0

    def after(self, failures: int, draw: float) -> float:
        """Return the seconds to wait after so many failures in a row; `draw` is random, from 0 up to 1."""
        grown = self.first_seconds * 2.0 ** min(failures - 1, 60)
        return min(grown, self.max_seconds) * (1 - JITTER * draw)


class Loop:
    """A background task, supervised.

    Args:
        name: the work, as its log lines and gauges name it.
        work: one round.
        conditions: of the process.
        rest_seconds: between two rounds, unless the round says otherwise or `wake` ends it.
        first_seconds: before the first round.
        gap_seconds: from a `wake` to its round, so that one serves what comes at about the same time.
        writes: no round is begun while the storage is low.
        backoff: after failures; `wake` does not shorten it.
        stop_seconds: what a round may still take at a stop before it is cancelled.
        ring: ends what a round waits for, at a stop.
        fields: what its log lines and gauges say besides.
        clock: monotonic seconds.
        wait: how it waits.
        draw: randomness of the waits, from 0 up to 1.
    """

    def __init__(
        self,
        name: str,
        work: Work,
        *,
        conditions: Conditions | None = None,
        rest_seconds: float = 1.0,
        first_seconds: float = 0.0,
        gap_seconds: float = 0.0,
        writes: bool = False,
        backoff: Backoff | None = None,
        stop_seconds: float = 0.0,
        ring: Callable[[], None] = lambda: None,
        fields: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Wait = wait_for,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.fields: Mapping[str, str] = dict(fields or {})
        self._work = work
        self._conditions = conditions or Conditions()
        self._rest_seconds = rest_seconds
        self._first_seconds = first_seconds
        self._gap_seconds = gap_seconds
        self._writes = writes
        self._backoff = backoff or Backoff()
        self._stop_seconds = stop_seconds
        self._ring = ring
        self._clock = clock
        self._wait = wait
        self._draw = draw
        self._interruptions = Interruptions(name, self._conditions, clock=clock, fields=fields)
        self._stopping = asyncio.Event()
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # Up to here nothing is expected of it.
        self._expected_at = clock()
        self._failed_at = 0.0
        self._failures = 0
        self._worked = False

    def is_stopping(self) -> bool:
        """True once it was asked to end: a round that goes on and on has to look."""
        return self._stopping.is_set()

    @property
    def started(self) -> bool:
        """True from its start to its end."""
        return self._task is not None and not self._task.done()

    @property
    def stalled_seconds(self) -> float:
        """How long it has neither worked nor rested after work; 0 when all is well."""
        return max(self._clock() - self._expected_at, 0.0)

    @property
    def failing_seconds(self) -> float:
        """How long every try has failed; 0 while none does."""
        return self._interruptions.failing_seconds

    def start(self) -> None:
        """Begin; does nothing while it runs."""
        if self.started:
            return
        self._stopping.clear()
        self._task = asyncio.create_task(self.run(), name=self.name)
        self._conditions.loops.add(self)

    async def stop(self) -> None:
        """End after the round that is under way, or in the midst of one that takes longer than it may."""
        self.end()
        if self._task is None:
            return
        if self._stop_seconds:
            await asyncio.wait({self._task}, timeout=self._stop_seconds)
            if not self._task.done():
                _log.warning("loop cancelled", loop=self.name, **self.fields)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._conditions.loops.discard(self)

    def end(self) -> None:
        """Ask it to end after its round."""
        self._stopping.set()
        self._bell.set()
        self._ring()

    def wake(self) -> None:
        """End its rest: there is something to do. A call during a round is not lost."""
        self._bell.set()

    async def pause(self, seconds: float) -> None:
        """Wait within a round; not beyond a stop."""
        await self._wait(self._stopping, seconds)

    def works(self) -> None:
        """Take note that all is well; a round that goes on and on says so itself."""
        self._interruptions.works()
        self._worked = True
        self._expected_at = self._clock()

    async def run(self) -> None:
        """Work until it is asked to end."""
        if self._first_seconds:
            await self._rest(self._first_seconds)
        while not self.is_stopping():
            try:
                await self._rest(await self._round())
            except asyncio.CancelledError:
                if _is_cancelled():
                    raise
                # Not our end: something that the round waited for was cancelled.
                await self._fail(RuntimeError("what it waited for was cancelled"))
            except Exception as error:
                # Whatever it is, what there is to do must not wait for a restart.
                await self._fail(error)

    async def _round(self) -> float:
        rest_s = None
        if not (self._writes and self._conditions.storage_low):
            rest_s = await self._work()
        self.works()
        return self._rest_seconds if rest_s is None else rest_s

    async def _rest(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._expected_at = self._clock() + seconds
        if await self._wait(self._bell, seconds) and self._gap_seconds:
            await self.pause(self._gap_seconds)
        self._bell.clear()
        self._expected_at = min(self._expected_at, self._clock())

    async def _fail(self, error: BaseException) -> None:
        now = self._clock()
        # What works and fails by turns has not recovered.
        if self._worked and now - self._failed_at > self._backoff.max_seconds:
            self._failures = 0
        self._worked = False
        self._failed_at = now
        self._failures += 1
        self._interruptions.failed(error)
        await self.pause(self._backoff.after(self._failures, self._draw()))


async def stop_all(*loops: Loop) -> None:
    """Stop loops side by side."""
    await asyncio.gather(*(loop.stop() for loop in loops))


def observe(telemetry: Telemetry, conditions: Conditions) -> None:
    """Have gauges tell how every loop of a process fares."""

    def read(seconds: Callable[[Health], float]) -> list[tuple[float, Mapping[str, str]]]:
        # A copy: it is read by another thread.
        loops = list(conditions.loops)
        return [(seconds(loop), {"loop": loop.name, **loop.fields}) for loop in loops]

    telemetry.observe("tollmesh.loop.stalled_s", lambda: read(lambda loop: loop.stalled_seconds))
    telemetry.observe("tollmesh.loop.failing_s", lambda: read(lambda loop: loop.failing_seconds))


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
