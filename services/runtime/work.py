"""One queue of due work, leased, under everything that a service has to come back to.

Due work is a row: when it is due, who holds it until when, an epoch that counts its holders, and the chain of calls
that it belongs to. A function of the service's schema, with the rights of the tables' owner, hands out what is due of
all tenants (`schema.queue`); it is asked in a transaction that names no tenant, in which every table refuses. Each
piece is then served as its tenant, under its correlation and causation.

A process that dies leaves its leases to run out; one that was paused past them finds another epoch and writes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from services.runtime.context import CallContext, acting
from services.runtime.database import NOBODY, Database, UnitOfWork
from services.runtime.ids import new_id
from services.runtime.interruptions import Interruptions
from services.runtime.leases import LeaseLost
from services.runtime.loops import Loop
from services.runtime.telemetry import Silent, Telemetry, log

LAG_SECONDS = 15.0
EAGER_POLL_SECONDS = 0.03


class Work(Protocol):
    """What is known of a piece of work, whatever it is."""

    @property
    def tenant_id(self) -> str:
        """Whose it is."""

    @property
    def correlation_id(self) -> str:
        """The chain that it belongs to; empty for one of its own."""

    @property
    def causation_id(self) -> str:
        """What caused it; empty when nothing did."""

    @property
    def traceparent(self) -> str:
        """W3C trace context of who made it; empty when it is not known."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to serve a row of due work until its lease runs out.

    Attributes:
        epoch: counts the holders; a stale one writes nothing.
        correlation_id: chain of calls that the work belongs to.
        causation_id: event or call that caused it.
        tries: which try this is, from 1, since it was last put off with success.
        traceparent: W3C trace context of that call, or an empty text.
    """

    tenant_id: str
    item_id: str
    epoch: int
    correlation_id: str
    causation_id: str = ""
    tries: int = 1
    traceparent: str = ""

    def __str__(self) -> str:
        return self.item_id


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a queue is behind.

    Attributes:
        due: pieces that are due and held by nobody, counted up to 10,000.
        oldest_at: since when the oldest of them is due; None without one.
    """

    due: int
    oldest_at: datetime | None

    def seconds(self, now: datetime) -> float:
        """Return how long the oldest has waited."""
        return 0.0 if self.oldest_at is None else max((now - self.oldest_at).total_seconds(), 0.0)


WorkT = TypeVar("WorkT", bound=Work)

Serve = Callable[[WorkT], Awaitable[None]]


class Queue(Protocol[WorkT]):
    """Where work of one kind waits, and what becomes of it."""

    async def claim(self, owner: str, limit: int) -> tuple[Sequence[WorkT], bool]:
        """Lease work that is due, of any tenant; says too whether there may be more to claim at once."""

    async def serve(self, work: WorkT, /) -> None:
        """Do it, as its tenant. Raises LeaseLost when it is another's by now."""

    async def failed(self, work: WorkT, error: Exception, /) -> None:
        """Put it off, as its tenant, or do nothing: then it waits for the end of its lease."""

    async def lag(self) -> Lag:
        """Tell how much is due."""


class Worker(Generic[WorkT]):
    """Claims due work and serves it, so many pieces at once; the rest waits in its table.

    Args:
        name: the queue, as gauges name it.
        claiming: the looking for due work, as logs name it.
        serving: the doing of it, as logs name it.
        queue: where it waits.
        database: of the process.
        principal_id: who acts.
        telemetry: told how much is due.
        serve_seconds: deadline of serving one piece; None without one.
        places: pieces that are served at once.
        batch: pieces of one claim at most.
        poll_seconds: between two looks, when nobody wakes it.
        gap_seconds: from a wake to its look.
        eager_seconds: after a wake from outside it looks all the time: a transaction is about to commit.
        writes: nothing is claimed while the storage is low.
        wakes_itself: the end of one piece may make another claimable.
        stop_seconds: what pieces may still take at a stop.
        owner: names this process in leases.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        queue: Queue[WorkT],
        database: Database,
        *,
        claiming: str,
        serving: str,
        principal_id: str,
        telemetry: Telemetry | None = None,
        serve_seconds: float | None = None,
        places: int,
        batch: int,
        poll_seconds: float,
        gap_seconds: float = 0.0,
        eager_seconds: float = 0.0,
        writes: bool = False,
        wakes_itself: bool = False,
        stop_seconds: float = 5.0,
        owner: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.owner = owner or new_id("own")
        self._queue = queue
        self._principal_id = principal_id
        self._serve_seconds = serve_seconds
        self._places_max = places
        self._places = asyncio.Semaphore(places)
        self._batch = batch
        self._wakes_itself = wakes_itself
        self._stop_seconds = stop_seconds
        self._clock = clock
        self._database = database
        self._tasks: set[asyncio.Task[None]] = set()
        self._eager_seconds = eager_seconds
        self._eager_until = clock()
        self._lag = LagGauge(name, telemetry, clock)
        self._serving = Interruptions(serving, database.conditions)
        self.loop = Loop(
            claiming,
            self._round,
            conditions=database.conditions,
            rest_seconds=poll_seconds,
            gap_seconds=gap_seconds,
            writes=writes,
            # Not cancelled at once: a claim that is being committed would be nobody's until its lease runs out.
            stop_seconds=stop_seconds,
        )

    @property
    def under_way(self) -> int:
        """Pieces that this process serves, or that wait in it for a place."""
        return len(self._tasks)

    async def start(self) -> None:
        """Begin; the first look takes what a death left behind, once its leases have run out."""
        self.loop.start()

    async def stop(self) -> None:
        """Claim no more, give what is under way some seconds, and leave the rest to its leases."""
        await self.loop.stop()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=self._stop_seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def wake(self) -> None:
        """Say that something is due, or will be within a moment."""
        self._eager_until = self._clock() + self._eager_seconds
        self.loop.wake()

    def begin(self, work: WorkT, serve: Serve[WorkT] | None = None) -> asyncio.Task[None]:
        """Serve a piece that is leased already, in a task which its caller's cancellation does not touch."""
        task = asyncio.create_task(
            self._serve(work, serve or self._queue.serve), name=f"{self.name}:{work.tenant_id}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def take(self) -> tuple[list[asyncio.Task[None]], bool]:
        """Claim what there are places for and begin it; returns the tasks, and whether there may be more."""
        free = min(self._batch, self._places_max - len(self._tasks))
        if free <= 0:
            return [], False
        claimed, more = await self._queue.claim(self.owner, free)
        return [self.begin(work) for work in claimed], more

    async def sweep(self) -> int:
        """Serve all that is due now; returns how many pieces, once each was done, put off or lost."""
        served, more = 0, True
        while more:
            tasks, more = await self.take()
            if tasks:
                await asyncio.wait(tasks)
            served += len(tasks)
        return served

    async def _round(self) -> float | None:
        # What was begun is not waited for: what takes long must not hold up the others.
        _, more = await self.take()
        await self._lag.tell(self._queue.lag, self._database.now)
        if more and len(self._tasks) < self._places_max:
            return 0
        return EAGER_POLL_SECONDS if self._clock() < self._eager_until else None

    async def _serve(self, work: WorkT, serve: Serve[WorkT]) -> None:
        async with self._places:
            call = self.call(
                work.tenant_id, work.correlation_id, work.causation_id, work.traceparent
            )
            with acting(call):
                try:
                    await serve(work)
                except LeaseLost:
                    log.info("lease_lost", queue=self.name, work=str(work))
                except Exception as error:
                    # Whatever it is, it is this piece's: the others go on.
                    self._serving.failed(error, work=str(work))
                    await self._put_off(work, error)
                else:
                    self._serving.works()

    async def _put_off(self, work: WorkT, error: Exception) -> None:
        try:
            await self._queue.failed(work, error)
        except LeaseLost:
            pass  # whoever has it now decides
        except Exception as again:
            # Its lease runs out, and it is claimed again.
            self._serving.failed(again, work=str(work))

    def call(
        self,
        tenant_id: str,
        correlation_id: str = "",
        causation_id: str = "",
        traceparent: str = "",
    ) -> CallContext:
        """Return the call that serves something of a tenant."""
        request_id = new_id("run")
        seconds = self._serve_seconds
        return CallContext(
            tenant_id=tenant_id,
            principal_id=self._principal_id,
            # What it asks of other services, it asks with the scopes of its service.
            scopes=frozenset(),
            request_id=request_id,
            correlation_id=correlation_id or request_id,
            causation_id=causation_id,
            traceparent=traceparent,
            deadline_at=None if seconds is None else self._clock() + seconds,
        )

    def _forget(self, done: asyncio.Task[None]) -> None:
        was_full = len(self._tasks) >= self._places_max
        self._tasks.discard(done)
        if was_full or self._wakes_itself:
            self.loop.wake()


class LagGauge:
    """Shows how far a queue is behind, looked at now and then.

    Args:
        name: the queue.
        telemetry: told how much is due, and how long the oldest has waited.
        clock: monotonic seconds.
    """

    def __init__(
        self, name: str, telemetry: Telemetry | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        # Where nobody is told nobody has to look.
        self._telemetry = None if isinstance(telemetry, Silent) else telemetry
        self._clock = clock
        self._next_at = clock()

    async def tell(self, read: Callable[[], Awaitable[Lag]], now: Callable[[], datetime]) -> None:
        """Look, unless it is too early; `now` is the time by which work is due."""
        if self._telemetry is None or self._clock() < self._next_at:
            return
        self._next_at = self._clock() + LAG_SECONDS
        found = await read()
        self._telemetry.gauge("tollmesh.work.due", found.due, queue=self._name)
        self._telemetry.gauge("tollmesh.work.oldest_s", found.seconds(now()), queue=self._name)


def backoff(tries: int, first: timedelta, max_: timedelta) -> timedelta:
    """Return how long to put off what failed so many times: twice as long after each, up to a limit."""
    return min(first * (1 << min(tries - 1, 20)), max_)


async def claims(work: UnitOfWork, statement: str, **asked: object) -> list[Claim]:
    """Run a claim of due rows of all tenants, in a transaction that names none."""
    found = await work.execute(statement, {"now": work.now, **asked})
    return [Claim(**row) for row in found.mappings()]


async def lag(database: Database, statement: str) -> Lag:
    """Ask a queue's function how much of all tenants is due."""
    with acting(NOBODY):
        (row,) = (await database.ask(statement, {"now": database.now()})).mappings()
    return Lag(**row)
