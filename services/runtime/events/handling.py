"""One transaction of a lane: check the lease, enter the inbox, call the handler, settle; all of it or nothing.

Who may touch what: the relay's role reads the log and owns the queue's tables; a handler runs as the services'
role, sees its event's tenant only and cannot reach the queue.

A failing event is rolled back to its savepoint and waits; later events of its key wait behind it, all others go on.
Events that are handled together share a savepoint, one for each tenant: when their handler fails, none of them
counts as tried, and they are left to be handled singly.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog
from google.protobuf import empty_pb2

from services.runtime.clock import Clock
from services.runtime.context import CallContext, acting
from services.runtime.contracts import DEAD_LETTER
from services.runtime.crashpoints import crashpoint
from services.runtime.database import UnitOfWork
from services.runtime.events import relay
from services.runtime.events.bus import EventBus
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.events.relay import Delivery, Relay
from services.runtime.leases import LeaseLost
from services.runtime.outbox import registry
from services.runtime.outbox.facts import VIOLATED
from services.runtime.postgres import pool
from services.runtime.postgres.session import Call, Session
from services.runtime.postgres.statements import statement
from services.runtime.telemetry import Telemetry, read_traceparent

# Of a transaction's time: when no further event of the batch is begun.
CUT_SHARE = 0.25
ERROR_CHARS_MAX = 1000

_BEGIN_EVENT = Call(statement("SAVEPOINT event"))
_END_EVENT = (Call(statement("RELEASE SAVEPOINT event")), Call(statement("SET LOCAL ROLE NONE")))
_UNDO_EVENT = (Call(statement("ROLLBACK TO SAVEPOINT event")), _END_EVENT[0])

_log = structlog.get_logger(__name__)


class ProcessEnded(Exception):
    """A handler took its process, or its connection, with it."""


class TransactionFailed(Exception):
    """The connection broke, time ran out or the commit was refused.

    Attributes:
        suspect: the delivery that was being handled; None when it cannot be told which is at fault.
    """

    def __init__(self, cause: Exception, suspect: Delivery | None) -> None:
        super().__init__(error_text(cause))
        self.cause = cause
        self.suspect = suspect


@dataclass(frozen=True, slots=True)
class Lane:
    """A leased lane.

    Attributes:
        reaction: the consumer whose lane it is.
        lane: its number, 0 to 255.
        epoch: counts its owners; names this lease.
        unclean: the owner before vanished without giving it back.
        low: what is up to here was settled before.
    """

    reaction: Reaction
    lane: int
    epoch: int
    unclean: bool
    low: int = -1

    @property
    def place(self) -> dict[str, object]:
        """The parameters that name the lane."""
        return {"consumer": self.reaction.consumer, "lane": self.lane}

    @property
    def lease(self) -> dict[str, object]:
        """The parameters that name this lease of the lane."""
        return {**self.place, "epoch": self.epoch}


@dataclass(slots=True)
class Outcome:
    """The results of the events of one transaction.

    Attributes:
        settled: handled singly, now or on an earlier delivery.
        failed: to be put off, with what they failed with.
        spoilt: events that failed together: to be handled singly.
        published: something was published.
        scheduled: a timer or a schedule was set.
        noted: the units of work, of which some is left to do after the commit.
        current: the one being handled, who is at fault when the whole transaction fails.
        cut: the rest is left to the next transaction.
        released: the lane was given back with the transaction.
    """

    settled: list[Delivery] = field(default_factory=list)
    failed: list[tuple[Delivery, Exception]] = field(default_factory=list)
    spoilt: Sequence[Delivery] = ()
    published: bool = False
    scheduled: bool = False
    noted: list[UnitOfWork] = field(default_factory=list)
    current: Delivery | None = None
    cut: bool = False
    released: bool = False

    def note(self, work: UnitOfWork) -> None:
        """Remember what to report after the commit."""
        self.published |= work.published
        self.scheduled |= work.scheduled
        self.noted.append(work)

    @property
    def is_whole(self) -> bool:
        """True when every event of the transaction was handled."""
        return not (self.failed or self.cut)

    def blocks(self, delivery: Delivery) -> bool:
        """True when an earlier event of the same key failed in this transaction."""
        return any(delivery.ordered_by == other.ordered_by for other, _ in self.failed)


class Handling:
    """Handles deliveries of leased lanes.

    Args:
        relay_: where its connections come from.
        bus: told when something was published.
        clock: business time, for the handlers.
        role: the services' role, as which handlers run.
        telemetry: told what handlers count.
    """

    def __init__(
        self, relay_: Relay, bus: EventBus, clock: Clock, role: str, telemetry: Telemetry
    ) -> None:
        self._telemetry = telemetry
        self._relay = relay_
        self._bus = bus
        self._clock = clock
        self._role = role
        self._limit_ms = str(relay_.transaction_ms)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A session that is thrown away when a transaction on it failed."""
        async with self._relay.pool.session() as session:
            try:
                yield session
            except TransactionFailed:
                session.pgconn.finish()
                raise

    async def handle(
        self,
        session: Session,
        lane: Lane,
        deliveries: Sequence[Delivery],
        *,
        together: bool = False,
        release_low: int | None = None,
    ) -> Outcome:
        """Handle events in one transaction, singly or those of each tenant together.

        Args:
            session: in no transaction.
            lane: where they lie.
            deliveries: of the lane, in their order.
            together: those of a tenant in one call of the batch handler.
            release_low: give the lane back with the transaction when all of them are handled: everything up to this
                position is settled then. None keeps it.

        Raises:
            LeaseLost: the lane is another's by now.
            TransactionFailed: nothing of it counts.
        """
        outcome = Outcome()
        suspect = deliveries[0] if len(deliveries) == 1 else None
        cut_at = time.monotonic() + self._relay.transaction_ms / 1000 * CUT_SHARE
        go_through = self._in_groups if together else self._singly
        try:
            async with (
                asyncio.timeout(self._relay.transaction_ms / 1000),
                self._fenced(session, lane) as last,
            ):
                await go_through(session, lane, deliveries, outcome, cut_at)
                outcome.current = suspect
                await self._record(session, lane, outcome)
                outcome.released = release_low is not None and outcome.is_whole
                if outcome.released:
                    last.append(relay.call("release", {**lane.lease, "low": release_low}))
                crashpoint("events.dispatch.before_commit")
        except LeaseLost:
            raise
        except Exception as error:
            # Whatever it was, nothing was committed for certain: the dispatcher finds out who is at fault.
            raise TransactionFailed(error, outcome.current) from error
        crashpoint("events.dispatch.after_commit")
        if outcome.published:
            self._bus.wake()
        if outcome.scheduled:
            self._bus.scheduled()
        for work in outcome.noted:
            work.committed()
        return outcome

    async def count_attempt(self, session: Session, lane: Lane, delivery: Delivery) -> None:
        """Count a try, in a transaction of its own, before the handler is called."""
        async with self._fenced(session, lane):
            await relay.changed(session, "count_attempt", **lane.place, **delivery.place)

    async def blame(self, lane: Lane, delivery: Delivery, error: Exception) -> None:
        """Put off an event whose transaction is gone, in one of its own."""
        outcome = Outcome(failed=[(delivery, error)])
        async with (
            self.session() as session,
            self._fenced(session, lane),
        ):
            await self._record(session, lane, outcome)
        if outcome.published:
            self._bus.wake()

    @asynccontextmanager
    async def _fenced(self, session: Session, lane: Lane) -> AsyncIterator[list[Call]]:
        """A transaction that ends with nothing when the lane is another's; gives what is to be run before its commit.

        Raises:
            LeaseLost: it is another's.
        """
        fence = relay.call("fence", {**lane.lease, "limit_ms": self._limit_ms})
        last: list[Call] = []
        async with pool.transaction(session, fence, last=last) as (held,):
            if held.first() is None:
                raise LeaseLost
            yield last

    # ---- events of a tenant together

    async def _in_groups(
        self,
        session: Session,
        lane: Lane,
        deliveries: Sequence[Delivery],
        outcome: Outcome,
        cut_at: float,
    ) -> None:
        groups: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            groups.setdefault(delivery.tenant_id, []).append(delivery)
        for number, group in enumerate(groups.values()):
            outcome.cut = outcome.cut or (number > 0 and time.monotonic() > cut_at)
            if outcome.cut:
                return
            await self._attempt_group(session, lane, group, outcome)

    async def _attempt_group(
        self,
        session: Session,
        lane: Lane,
        group: Sequence[Delivery],
        outcome: Outcome,
    ) -> None:
        """Hand over the events of a tenant in one call, inside a savepoint."""
        try:
            entered = await self._enter_group(session, lane, group)
            meant = [each for each in entered if _is_meant(lane.reaction, each)]
            rest: list[Call] = []
            if meant:
                work = await self._react_together(session, lane.reaction, meant)
                outcome.note(work)
                rest = await work.rest()
            await session.run(*rest, *_END_EVENT)
        except Exception as error:
            # A handler may raise anything, and must not take other tenants' events with it.
            if _is_broken(session):
                raise
            await session.run(*_UNDO_EVENT)
            _log.warning(
                "reaction failed on a batch", **lane.place, size=len(group), error=error_text(error)
            )
            outcome.spoilt, outcome.cut = group, True

    async def _enter_group(
        self, session: Session, lane: Lane, group: Sequence[Delivery]
    ) -> Sequence[Delivery]:
        """Take events off the queue, enter them into the inbox, and their tenant's place; returns those that
        were not handled before.
        """
        asked = {
            **lane.place,
            "positions": [each.position for each in group],
            "generations": [each.generation for each in group],
            "count": len(group),
            "tenant_id": group[0].tenant_id,
            "role": self._role,
        }
        _, answer = await session.run(_BEGIN_EVENT, relay.call("enter_group", asked))
        found = answer.one()
        if found.entered == len(group):
            return group
        entered = set(zip(found.event_ids or (), found.generations or (), strict=True))
        return [each for each in group if (each.event_id, each.generation) in entered]

    async def _react_together(
        self, session: Session, reaction: Reaction, group: Sequence[Delivery]
    ) -> UnitOfWork:
        """Call the batch handler as the events' tenant; returns what it worked with.

        What it publishes continues the chain of the last event, unless it names another cause.
        """
        call = _call(reaction, group[-1])
        with acting(call):
            work = UnitOfWork(session, call, self._clock.now(), telemetry=self._telemetry)
            await reaction.handle_batch(work, [envelope_of(each, reaction) for each in group])
        return work

    # ---- events one by one

    async def _singly(
        self,
        session: Session,
        lane: Lane,
        deliveries: Sequence[Delivery],
        outcome: Outcome,
        cut_at: float,
    ) -> None:
        for number, delivery in enumerate(deliveries):
            # Each event begins with most of the time before it: who fails for lack of it is slow.
            outcome.cut = number > 0 and time.monotonic() > cut_at
            if outcome.cut:
                break
            if not outcome.blocks(delivery):
                outcome.current = delivery
                await self._attempt(session, lane, delivery, outcome)

    async def _attempt(
        self,
        session: Session,
        lane: Lane,
        delivery: Delivery,
        outcome: Outcome,
    ) -> None:
        """Run the handler for one event, inside a savepoint."""
        try:
            rest: list[Call] = []
            if await self._enter(session, lane, delivery) and _is_meant(lane.reaction, delivery):
                work = await self._react(session, lane.reaction, delivery)
                outcome.note(work)
                rest = await work.rest()
            await session.run(*rest, *_END_EVENT)
        except Exception as error:
            # A handler may raise anything; its event alone pays for it.
            if _is_broken(session):
                raise
            await session.run(*_UNDO_EVENT)
            _log.warning(
                "reaction failed",
                **lane.place,
                event_id=delivery.event_id,
                tries=delivery.attempts + 1,
                error=error_text(error),
            )
            outcome.failed.append((delivery, error))
        else:
            outcome.settled.append(delivery)

    async def _enter(self, session: Session, lane: Lane, delivery: Delivery) -> bool:
        """Enter the event into the inbox and take its tenant; False when it was handled before."""
        asked = {
            "consumer": lane.reaction.consumer,
            "tenant_id": delivery.tenant_id,
            "event_id": delivery.event_id,
            "generation": delivery.generation,
            "recorded_at": delivery.recorded_at,
            "role": self._role,
        }
        _, entered = await session.run(_BEGIN_EVENT, relay.call("enter_inbox", asked))
        return entered.first() is not None

    async def _react(self, session: Session, reaction: Reaction, delivery: Delivery) -> UnitOfWork:
        """Call the handler as its event's tenant; returns what it worked with."""
        call = _call(reaction, delivery)
        with acting(call):
            work = UnitOfWork(session, call, self._clock.now(), telemetry=self._telemetry)
            await reaction.handle(work, envelope_of(delivery, reaction))
        return work

    # ---- what becomes of them

    async def _record(self, session: Session, lane: Lane, outcome: Outcome) -> None:
        """Remove what was handled singly, put off what failed: part of the same transaction."""
        if outcome.settled:
            await relay.changed(
                session,
                "settle",
                **lane.place,
                positions=relay.int_array(each.position for each in outcome.settled),
                generations=relay.int_array(each.generation for each in outcome.settled),
            )
        for delivery, error in outcome.failed:
            if await self._put_off(session, lane, delivery, error):
                outcome.published |= await self._report(session, lane, delivery, error)

    async def _put_off(
        self, session: Session, lane: Lane, delivery: Delivery, error: Exception
    ) -> bool:
        """Let an event wait for its next try, or bury it after its last; True when it was buried."""
        policy = lane.reaction.retry
        tries = delivery.attempts + 1
        what = {**lane.place, **delivery.place, "error": error_text(error)}
        if tries < policy.tries_max:
            await relay.changed(
                session, "retry_later", **what, attempts=tries, delay_ms=policy.delay_ms(tries)
            )
            return False
        _log.error("event buried", **what, event_id=delivery.event_id)
        park = lane.reaction.on_dead == "park_key"
        attempts = min(tries, policy.tries_max)
        return await relay.changed(session, "bury", **what, attempts=attempts, park=park) > 0

    async def _report(
        self,
        session: Session,
        lane: Lane,
        delivery: Delivery,
        error: Exception,
    ) -> bool:
        """Tell the contract monitor of a buried event, as its tenant; whatever fails here, it stays buried.

        A report that cannot be handled is not reported: each would bring the next.
        """
        if delivery.subject == VIOLATED:
            return False
        consumer = lane.reaction.consumer
        try:
            act_for = {"tenant_id": delivery.tenant_id, "role": self._role}
            await session.run(_BEGIN_EVENT, relay.call("act_for", act_for))
            call = _call(lane.reaction, delivery)
            work = UnitOfWork(session, call, self._clock.now(), telemetry=self._telemetry)
            work.violation(
                DEAD_LETTER,
                "CRITICAL" if lane.reaction.on_dead == "park_key" else "HIGH",
                f"{consumer} gave up on {delivery.subject} {delivery.event_id}: {error_text(error)}",
                subject_id=delivery.event_id,
            )
            await session.run(*await work.rest(), *_END_EVENT)
        except Exception as failure:
            if _is_broken(session):
                raise
            await session.run(*_UNDO_EVENT)
            _log.error("dead letter not reported", consumer=consumer, error=error_text(failure))
            return False
        return True


def envelope_of(delivery: Delivery, reaction: Reaction) -> Envelope:
    """Return an event as a reaction's handler sees it."""
    name, payload = delivery.message_name, delivery.payload
    is_read = bool(name) and reaction.reads_payload
    return Envelope(
        event_id=delivery.event_id,
        subject=delivery.subject,
        schema_version=delivery.schema_version,
        tenant_id=delivery.tenant_id,
        key=delivery.key,
        payload=registry.unpack(name, payload) if is_read else empty_pb2.Empty(),
        json=b"" if name else payload,
        correlation_id=delivery.correlation_id,
        causation_id=delivery.causation_id,
        created_at=delivery.created_at,
        generation=delivery.generation,
        position=delivery.position,
    )


def error_text(error: Exception) -> str:
    """Return what a dead letter keeps of an error."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    # A text in Postgres holds no zero byte.
    return f"{type(error).__name__}: {error}".replace("\0", "")[:ERROR_CHARS_MAX]


def _call(reaction: Reaction, delivery: Delivery) -> CallContext:
    return CallContext(
        tenant_id=delivery.tenant_id,
        principal_id=f"mesh:{reaction.consumer}",
        scopes=frozenset(),
        request_id=delivery.event_id,
        correlation_id=delivery.correlation_id,
        causation_id=delivery.event_id,
        # What an outside producer gave is kept as it came; what goes on from here is sound, or none.
        traceparent=read_traceparent(delivery.traceparent),
    )


def _is_meant(reaction: Reaction, delivery: Delivery) -> bool:
    # An empty message name: JSON of an outside producer.
    return bool(delivery.message_name) or reaction.takes_json


def _is_broken(session: Session) -> bool:
    return session.closed or session.broken
