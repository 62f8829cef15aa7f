"""The dispatcher: carries each event to each consumer, in the order of its key, once in effect.

A consumer's deliveries lie in 256 lanes by (tenant, key). A lane is leased by one dispatcher at a time; the
lease's epoch is checked inside every transaction that handles events (see `handling`), so that one that was paused
past its lease commits nothing once another holds the lane.

A consumer with a batch handler is given hundreds of events at once; those that fail together are handled singly.
When a whole transaction is lost, the event that was being handled is put off. Where that cannot be told (the
commit was refused, or the lane's last owner vanished) the events in question are gone through in transactions of
their own, each try counted before its handler runs: a handler that kills its process is counted too.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import structlog

from services.runtime.clock import Clock
from services.runtime.events import relay
from services.runtime.events.bus import EventBus, Listener
from services.runtime.events.envelope import Reaction
from services.runtime.events.handling import (
    Handling,
    Lane,
    Outcome,
    ProcessEnded,
    TransactionFailed,
)
from services.runtime.events.owners import new_owner
from services.runtime.events.relay import Delivery, Relay
from services.runtime.events.watch import Watch
from services.runtime.interruptions import Interruptions
from services.runtime.leases import LeaseLost, Term
from services.runtime.loops import Backoff, Loop
from services.runtime.postgres.session import Session
from services.runtime.telemetry import Telemetry

# Savepoints in one transaction stay below the 64 that Postgres keeps in shared memory.
BATCH_MAX = 50
ERROR_MS_MIN = 20
ERROR_MS_MAX = 1_000
STOP_SECONDS_MAX = 15.0

_NONE = -1

_log = structlog.get_logger(__name__)


class Mode(enum.Enum):
    """How the next events of a lane are handled."""

    TOGETHER = "by the batch handler, in one transaction"
    SINGLY = "one by one, in one transaction"
    CAREFUL = "one, in a transaction of its own, its try counted before"


@dataclass(slots=True)
class Progress:
    """How far a lane was gone through, and how warily to go on.

    Attributes:
        low: everything up to here was settled; nothing else is ever put there but under a new epoch.
        singly_to: up to here events failed when they were handled together.
        careful_to: up to here an event may have taken a whole transaction, or its process, with it.
        read_at: the feed had reached this position before the lane was last read.
        released: the lane was given back.
    """

    low: int = _NONE
    singly_to: int = _NONE
    careful_to: int = _NONE
    read_at: int = _NONE
    released: bool = False

    def limit(self, reaction: Reaction) -> int:
        """Return how many deliveries to fetch."""
        if self.careful_to != _NONE:
            return 1
        if self.singly_to != _NONE or reaction.batch_handler is None:
            return BATCH_MAX
        return reaction.batch_size

    def portion(
        self, fetched: Sequence[Delivery], reaction: Reaction
    ) -> tuple[Sequence[Delivery], Mode]:
        """Return what to handle in the next transaction, and how: always the first of what was fetched."""
        first = fetched[0]
        if first.position <= self.careful_to:
            return fetched[:1], Mode.CAREFUL
        self.careful_to = _NONE
        if first.position <= self.singly_to:
            return _while(fetched, lambda each: each.position <= self.singly_to), Mode.SINGLY
        self.singly_to = _NONE
        if reaction.batch_handler is None:
            return fetched, Mode.SINGLY
        # Who failed before would most likely spoil the batch again.
        if first.attempts:
            return _while(fetched[:BATCH_MAX], lambda each: each.attempts > 0), Mode.SINGLY
        return _while(fetched, lambda each: each.attempts == 0), Mode.TOGETHER

    def low_behind(self, handled: Sequence[Delivery]) -> int:
        """Return up to where everything is settled once these are."""
        # The same place again, in another generation, may be the next.
        return self.low if handled[0].held else handled[-1].position - 1


class Dispatcher:
    """Runs the reactions of one process."""

    def __init__(
        self,
        relay_: Relay,
        reactions: Sequence[Reaction],
        bus: EventBus,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._telemetry = telemetry
        self._relay = relay_
        self._reactions: Mapping[str, Reaction] = {r.consumer: r for r in reactions}
        self._bus = bus
        self._clock = clock
        self._owner = new_owner()
        self._role = ""
        self._bell: Listener | None = None
        self._watch = Watch([])
        self.loop = Loop(
            "dispatcher",
            self._hold_session,
            conditions=relay_.conditions,
            backoff=Backoff(ERROR_MS_MIN / 1000, ERROR_MS_MAX / 1000),
            stop_seconds=STOP_SECONDS_MAX,
            ring=self._ring,
        )
        self._lanes = Interruptions("lane", relay_.conditions)

    @property
    def consumers(self) -> list[str]:
        """Names of the consumers that it serves."""
        return sorted(self._reactions)

    def start(self, role: str) -> None:
        """Begin; handlers run as `role`."""
        self._role = role
        if self._reactions:
            self.loop.start()

    def _ring(self) -> None:
        if self._bell is not None:
            self._bell.ring()

    async def _hold_session(self) -> None:
        handling = Handling(self._relay, self._bus, self._clock, self._role, self._telemetry)
        with self._bus.listener() as self._bell:
            async with await self._relay.control() as session:
                await self._work(session, handling, self._bell)

    async def _work(self, session: Session, handling: Handling, bell: Listener) -> None:
        free = asyncio.Semaphore(self._relay.workers)
        self._watch = Watch(self.consumers)
        async with asyncio.TaskGroup() as tasks:
            while not self.loop.is_stopping():
                wanted = await _acquire_all(free)
                position, began = self._watch.position, time.monotonic()
                lanes = await self._claim(session, wanted)
                self.loop.works()
                for lane in lanes:
                    tasks.create_task(self._serve(session, handling, lane, free, bell))
                for _ in range(wanted - len(lanes)):
                    free.release()
                if len(lanes) < wanted:
                    took_s = time.monotonic() - began
                    self._watch.looked(position, took_s, found=bool(lanes))
                    await self._watch.work(session, bell, self.loop)

    async def _claim(self, session: Session, limit: int) -> list[Lane]:
        found = await relay.rows(
            session,
            "claim",
            consumers=self.consumers,
            owner=self._owner,
            ttl_ms=self._relay.lease_ms,
            limit=limit,
        )
        return [
            Lane(self._reactions[r["consumer"]], r["lane"], r["epoch"], r["unclean"], r["low"])
            for r in found
        ]

    async def _serve(
        self,
        session: Session,
        handling: Handling,
        lane: Lane,
        free: asyncio.Semaphore,
        bell: Listener,
    ) -> None:
        """Handle what lies in a lane, then give it back. Errors end this lease, not the dispatcher."""
        progress = Progress(lane.low)
        try:
            await self._empty(session, handling, lane, progress)
            if not progress.released:
                await relay.changed(session, "release", **lane.lease, low=progress.low)
            self._lanes.works()
        except LeaseLost:
            _log.info("lane lost", **lane.place)
        except Exception as error:
            # The lease is left to run out: who takes the lane next sees that its owner vanished.
            self._lanes.failed(error, **lane.place)
        finally:
            free.release()
            # More may have come since the last fetch.
            self._watch.given_back(progress.read_at, bell)

    async def _empty(
        self, session: Session, handling: Handling, lane: Lane, progress: Progress
    ) -> None:
        if lane.unclean:
            # One of the first events may have killed the lane's last owner.
            first = await self._fetch(session, lane, progress)
            progress.careful_to = first[-1].position if first else _NONE
        while True:
            try:
                async with handling.session() as working:
                    return await self._go_through(session, handling, working, lane, progress)
            except TransactionFailed as error:
                self._lanes.failed(error.cause or error, **lane.place)
                if error.suspect is not None:
                    await handling.blame(lane, error.suspect, error.cause)

    async def _go_through(
        self,
        session: Session,
        handling: Handling,
        working: Session,
        lane: Lane,
        progress: Progress,
    ) -> None:
        term = Term(self._relay.lease_ms)
        while not self.loop.is_stopping():
            if progress.careful_to != _NONE or term.is_to_renew():
                term = await self._renew(session, lane)
            limit = progress.limit(lane.reaction)
            fetched = await self._fetch(session, lane, progress)
            if not fetched:
                return
            portion, mode = progress.portion(fetched, lane.reaction)
            is_rest = len(portion) == len(fetched) and relay.is_rest(fetched, limit)
            low = progress.low_behind(portion)
            try:
                outcome = await self._handle(
                    handling, working, lane, portion, mode, release_low=low if is_rest else None
                )
            except TransactionFailed as error:
                if mode is Mode.TOGETHER:
                    progress.singly_to = portion[-1].position
                elif error.suspect is None:
                    progress.careful_to = portion[-1].position
                raise
            if outcome.spoilt:
                progress.singly_to = outcome.spoilt[-1].position
            if outcome.is_whole:
                progress.low, progress.released = low, outcome.released
                if is_rest:
                    return

    async def _handle(
        self,
        handling: Handling,
        working: Session,
        lane: Lane,
        portion: Sequence[Delivery],
        mode: Mode,
        release_low: int | None,
    ) -> Outcome:
        if mode is Mode.CAREFUL:
            (delivery,) = portion
            if delivery.attempts >= lane.reaction.retry.tries_max:
                ended = ProcessEnded("it ended during every try")
                await handling.blame(lane, delivery, ended)
                return Outcome(failed=[(delivery, ended)])
            await handling.count_attempt(working, lane, delivery)
        return await handling.handle(
            working, lane, portion, together=mode is Mode.TOGETHER, release_low=release_low
        )

    async def _fetch(self, session: Session, lane: Lane, progress: Progress) -> list[Delivery]:
        progress.read_at = self._watch.position
        return await relay.fetch(
            session,
            consumer=lane.reaction.consumer,
            lane=lane.lane,
            low=progress.low,
            limit=progress.limit(lane.reaction),
        )

    async def _renew(self, session: Session, lane: Lane) -> Term:
        """Hold the lane for another term, and return that. Raises LeaseLost."""
        term = Term(self._relay.lease_ms)
        if not await relay.changed(session, "renew", **lane.lease, ttl_ms=self._relay.lease_ms):
            raise LeaseLost
        return term


async def _acquire_all(free: asyncio.Semaphore) -> int:
    """Take what is free, at least one; returns how many."""
    await free.acquire()
    taken = 1
    while not free.locked():
        await free.acquire()
        taken += 1
    return taken


def _while(deliveries: Sequence[Delivery], holds: Callable[[Delivery], bool]) -> Sequence[Delivery]:
    return list(takewhile(holds, deliveries))
