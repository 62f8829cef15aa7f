"""The source: takes the events of another site into this database's log.

The other site's 256 lanes are read as eight shares, each by one process at a time, under a lease in this database. One
transaction checks the lease, claims the events' ids, appends what is new to the log, and moves the share's position;
only then is NATS told. Where a share goes on is therefore this database's word alone: it is read from there whenever a
lease begins, so neither a redelivery nor somebody's late acknowledgement can skip, repeat or turn anything round.

Messages of a lane are numbered. A number that is missing was dropped by the stream before it was read, or was lost
by it: that is recorded and said aloud, and mended by a replay at the other site.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from nats.errors import Error as NatsError
from psycopg.types.json import Jsonb

from services.runtime.conditions import Conditions
from services.runtime.crashpoints import crashpoint
from services.runtime.events import relay
from services.runtime.events.bus import EventBus
from services.runtime.events.jetstream import broker as brokers
from services.runtime.events.jetstream import message
from services.runtime.events.jetstream.broker import (
    Broker,
    BrokerAway,
    BrokerUnfit,
    ConsumerGone,
    StreamState,
)
from services.runtime.events.jetstream.message import Arrived, Event, Unreadable
from services.runtime.events.jetstream.statements import (
    changed,
    fenced,
    renew,
    row,
    rows,
)
from services.runtime.events.jetstream.waits import BACKOFF, STOP_SECONDS_MAX
from services.runtime.events.lanes import LANES
from services.runtime.events.owners import new_owner
from services.runtime.events.relay import Relay
from services.runtime.interruptions import Interruptions, is_database_away
from services.runtime.leases import LeaseLost
from services.runtime.loops import Loop
from services.runtime.postgres.session import Session
from services.runtime.turns import aside, in_slices

SHARES = 8
# How often a process looks whether a share became free.
LOOK_SECONDS = 2.0
# How often it looks whether a stream that tells nothing new is still what it was.
STREAM_SECONDS = 5.0
# How often it looks for a stream that is not there yet.
MISSING_SECONDS = 0.5
_LANES_OF_SHARE = LANES // SHARES
# Messages that are read before other work has its turn; one of more than 32 kB is read in a thread.
_SLICE = 50
_BYTES_AN_ITEM = 64

_log = structlog.get_logger(__name__)

Report = Callable[[str, str, str], None]
"""Tells the contract monitor: tenant, event id, and what was seen."""


class Restart(Exception):
    """What was read does not follow on what is kept: read again from there."""


@dataclass(frozen=True, slots=True)
class Share:
    """A leased share.

    Attributes:
        consumer: what its lease is kept under.
        share: its number; it has every lane that leaves this remainder.
        epoch: counts its owners; names this lease.
    """

    consumer: str
    share: int
    epoch: int

    @property
    def lease(self) -> dict[str, object]:
        """The parameters that name the lease."""
        return {"consumer": self.consumer, "lane": self.share, "epoch": self.epoch}


@dataclass(slots=True)
class Position:
    """How far a share was read.

    Attributes:
        made_at: when the stream was made that `sequence` belongs to.
        sequence: everything of the share up to here is in the log, or recorded as refused.
        numbers: of each lane of the share the number of its last message; below zero when that message was in a
            stream before this one, and none of the lane was read since.
    """

    made_at: datetime
    sequence: int = 0
    numbers: list[int] = field(default_factory=lambda: [0] * _LANES_OF_SHARE)

    def number(self, lane: int) -> int:
        """Return the number of the last message of a lane."""
        return abs(self.numbers[lane // SHARES])

    def in_stream(self, made_at: datetime) -> Position:
        """Return where another stream is read from: its start. Numbers go on counting in whatever stream."""
        return Position(made_at, 0, [-abs(number) for number in self.numbers])

    def moved(self, sequence: int, lane: int, number: int) -> None:
        """Count a message as read; 0 for one that tells no number."""
        self.sequence = sequence
        index = lane // SHARES
        known = self.numbers[index]
        if number:
            # A message that comes again turns nothing back. But where its first one in a new stream has a number that
            # was there before, the other site counts anew: its database is another one.
            self.numbers[index] = number if known < 0 else max(known, number)
        elif known >= 0:
            # It most likely has the next; if not, the next message sets it right.
            self.numbers[index] = known + 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was not taken in.

    Attributes:
        sequence: of the message in the stream.
        reason: CONFLICT, UNREADABLE or LOST.
        detail: what is wrong.
        event: the event, if it could be read.
        received: the message, unless there is none.
    """

    sequence: int
    reason: str
    detail: str
    event: Event | None = None
    received: Any = None


@dataclass(slots=True)
class Batch:
    """Messages that are taken in together, in the order of the stream.

    Attributes:
        arrived: events, with their sequence.
        refusals: what is not taken in.
        left_out: why the batch ends before messages that were received, if it does.
    """

    arrived: list[tuple[int, Arrived]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    left_out: str = ""


class _Rest:
    """The waits of one share after its failures, ever longer while it goes on failing."""

    def __init__(
        self,
        conditions: Conditions,
        fields: Mapping[str, str],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._interruptions = Interruptions("source", conditions, fields=fields)
        self._draw = draw
        self._failures = 0

    async def wait(self, error: Exception, ended: asyncio.Event) -> None:
        """Tell of a failure and wait before the next try, or until the work ends."""
        self._failures += 1
        self._interruptions.failed(error)
        await _pause(ended, BACKOFF.after(self._failures, self._draw()))

    def reset(self) -> None:
        """Note that it works."""
        self._failures = 0
        self._interruptions.works()


class Source:
    """Reads one other site.

    Args:
        relay_: sessions of the relay's role.
        broker: NATS.
        site: the other site.
        bus: rung when events were taken in.
        report: told of events that contradict one another.
    """

    def __init__(
        self, relay_: Relay, broker: Broker, site: str, bus: EventBus, report: Report
    ) -> None:
        self._relay = relay_
        self._broker = broker
        self._site = site
        self._bus = bus
        self._report = report
        self._consumer = f"transport.source.{site}"
        self._owner = new_owner()
        self._role = ""
        self.loop = Loop(
            "source",
            self._hold_session,
            conditions=relay_.conditions,
            backoff=BACKOFF,
            stop_seconds=STOP_SECONDS_MAX,
            ring=self._end,
            fields={"site": site},
        )
        # Of the current work: the process stops, or a share failed.
        self._ended = asyncio.Event()
        self._told_missing = False
        self._behind: dict[int, int] = {}
        self._rests = [
            _Rest(relay_.conditions, {"site": site, "share": str(share)}) for share in range(SHARES)
        ]
        self.taken = 0

    @property
    def behind(self) -> int:
        """Messages of the shares that this process reads which wait in the stream, when last it got some."""
        return sum(self._behind.values())

    def start(self, role: str) -> None:
        """Begin; the log is written as `role`."""
        self._role = role
        self.loop.start()

    def _end(self) -> None:
        self._ended.set()

    async def _hold_session(self) -> None:
        # Broker or database, when either fails the messages stay where they are.
        async with await self._relay.control() as session:
            await self._work(session, self._role)

    async def _work(self, session: Session, role: str) -> None:
        """Read shares until NATS or the database is away: that is everybody's failure.

        Raises:
            Exception: the first failure, once the other shares have ended their batch.
        """
        await changed(session, "make_shares", consumer=self._consumer, shares=SHARES)
        failures: list[Exception] = []
        self._ended = ended = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            while not ended.is_set() and not self.loop.is_stopping():
                state = await self._broker.state(self._site)
                self._tell_missing(state)
                # A share that failed is free again at once: nothing more is begun then.
                while state is not None and not ended.is_set():
                    share = await self._claim(session)
                    if share is None:
                        break
                    tasks.create_task(self._serve(session, share, state, role, failures))
                await _pause(ended, MISSING_SECONDS if state is None else LOOK_SECONDS)
                if state is not None and not failures:
                    self.loop.works()
        if failures:
            raise failures[0]

    def _tell_missing(self, state: StreamState | None) -> None:
        if state is None and not self._told_missing:
            _log.warning("the site has no stream yet", site=self._site)
        self._told_missing = state is None

    async def _claim(self, session: Session) -> Share | None:
        found = await row(
            session,
            "claim_share",
            consumer=self._consumer,
            shares=SHARES,
            owner=self._owner,
            ttl_ms=self._relay.lease_ms,
        )
        return None if found is None else Share(self._consumer, found["share"], found["epoch"])

    async def _serve(
        self,
        session: Session,
        share: Share,
        state: StreamState,
        role: str,
        failures: list[Exception],
    ) -> None:
        """Read a share until it is taken away, then give it back."""
        rest = self._rests[share.share]
        while not self._ended.is_set():
            try:
                await self._follow(session, share, state, role)
            except LeaseLost:
                _log.warning(
                    "share lost: another process reads it", site=self._site, share=share.share
                )
                break
            except Exception as error:
                if not _is_away(error, session):
                    # The others go on. Should the lease run out meanwhile, another process tries.
                    await rest.wait(error, self._ended)
                    continue
                # Raised again once the other shares have ended their transaction.
                failures.append(error)
                self._ended.set()
        try:
            await relay.changed(session, "release", **share.lease, low=-1)
        except Exception as error:
            # The lease runs out.
            failures.append(error)
            self._ended.set()

    async def _follow(self, session: Session, share: Share, state: StreamState, role: str) -> None:
        while not self._ended.is_set():
            try:
                await self._read(session, share, state, role)
            except Restart as error:
                _log.warning("reading again", site=self._site, share=share.share, why=str(error))
                found = await self._broker.state(self._site)
                if found is None:
                    raise BrokerAway(f"the stream of {self._site} is gone") from error
                state = found
                await _pause(self._ended, MISSING_SECONDS)

    async def _read(self, session: Session, share: Share, state: StreamState, role: str) -> None:
        term = await renew(session, self._relay, share.lease)
        position = await self._position(session, share, state)
        reader = await self._broker.reader(self._site, share.share, SHARES, position.sequence)
        loop = asyncio.get_running_loop()
        look_at = 0.0
        try:
            while not self._ended.is_set():
                if term.is_to_renew():
                    term = await renew(session, self._relay, share.lease)
                if self._relay.conditions.storage_low:
                    # What is taken in needs room; the other site keeps it.
                    await _pause(self._ended, MISSING_SECONDS)
                    continue
                received = await self._unless_ended(reader.batch())
                self._behind[share.share] = brokers.behind(received)
                if received:
                    await self._take(share, position, received, role)
                    self._rests[share.share].reset()
                elif loop.time() > look_at:
                    await self._look(position)
                    look_at = loop.time() + STREAM_SECONDS
        finally:
            self._behind.pop(share.share, None)
            await reader.close()

    async def _unless_ended(self, batch: Coroutine[Any, Any, list[Any]]) -> list[Any]:
        """Wait for messages; none once the work ends. What was under way is delivered again."""
        ending = asyncio.ensure_future(self._ended.wait())
        waiting = asyncio.ensure_future(batch)
        try:
            await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else []
        finally:
            for task in (ending, waiting):
                task.cancel()
            await asyncio.gather(ending, waiting, return_exceptions=True)

    async def _look(self, position: Position) -> None:
        """Notice a stream that was made anew, or has less than was read. Raises Restart."""
        state = await self._broker.state(self._site)
        if state is None or state.made_at != position.made_at or state.last < position.sequence:
            raise Restart("the stream was replaced, or lost messages")

    async def _position(self, session: Session, share: Share, state: StreamState) -> Position:
        kept = await row(session, "position", site=self._site, share=share.share)
        if kept is None:
            return Position(state.made_at)
        position = Position(kept["stream_made_at"], kept["sequence"], list(kept["numbers"]))
        if position.made_at == state.made_at and position.sequence <= state.last:
            return position
        _log.error(
            "the stream was recreated, or lost messages that had been read: reading it from its start",
            site=self._site,
            share=share.share,
            read=position.sequence,
            last=state.last,
        )
        # Ids tell what was taken in before.
        return position.in_stream(state.made_at)

    # ---- One batch

    async def _take(
        self, share: Share, position: Position, received: Sequence[Any], role: str
    ) -> None:
        """Take messages into the log in one transaction, then tell NATS.

        Raises:
            Restart: messages that are in the stream were left out; what came before them is taken in.
            LeaseLost: the share is another's by now.
        """
        moved = Position(position.made_at, position.sequence, list(position.numbers))
        batch = await self._judge(moved, received)
        fresh: list[Event] = []
        async with fenced(self._relay, share.lease) as driver:
            for tenant_id, events in _by_tenant(batch.arrived):
                fresh += await self._append(driver, tenant_id, events, batch, role)
            for refusal in batch.refusals:
                await self._record(driver, position.made_at, refusal)
            await self._keep(driver, share, moved)
            crashpoint("transport.source.before_commit")
        crashpoint("transport.source.after_commit")
        position.sequence, position.numbers = moved.sequence, moved.numbers
        self.taken += len(fresh)
        if fresh:
            self._bus.wake()
        for refusal in batch.refusals:
            self._tell(refusal)
        if batch.left_out:
            raise Restart(batch.left_out)
        await brokers.acknowledge(received[-1])

    async def _judge(self, position: Position, received: Sequence[Any]) -> Batch:
        """Read messages and move the position over them."""
        batch, start = Batch(), position.sequence
        seen: dict[int, int] = {}
        async for item in in_slices(received, _SLICE):
            sequence = brokers.sequence_of(item)
            if sequence <= position.sequence:
                continue  # delivered again, because an acknowledgement was late
            arrived = refusal = None
            try:
                arrived = await aside(len(item.data) // _BYTES_AN_ITEM, self._understood, item)
            except Unreadable as error:
                refusal = Refusal(sequence, "UNREADABLE", str(error), received=item)
            # The filter of the reader lets no other subjects through.
            lane, number = message.lane_of(item.subject), message.number_of(item.headers)
            try:
                before = seen.get(lane, start)
                batch.refusals += await self._gap(position, lane, number, sequence, before)
            except Restart as error:
                batch.left_out = str(error)
                break
            seen[lane] = sequence
            if arrived is not None:
                batch.arrived.append((sequence, arrived))
            if refusal is not None:
                batch.refusals.append(refusal)
            position.moved(sequence, lane, number)
        return batch

    def _understood(self, item: Any) -> Arrived:
        arrived = message.read(item.subject, item.headers, item.data)
        if arrived.event.site != self._site:
            raise Unreadable(f"it claims to come from site {arrived.event.site!r}")
        return arrived

    async def _gap(
        self, position: Position, lane: int, number: int, sequence: int, before: int
    ) -> list[Refusal]:
        """Account for numbers that are missing before a message.

        Raises:
            Restart: their messages are in the stream: they were left out on the way.
        """
        expected = position.number(lane) + 1
        if number <= expected:
            # Below it: it comes again, or the other site counts anew. Ids tell what is known.
            return []
        first = await self._broker.next_of_lane(self._site, lane, before + 1)
        if first is None or first.sequence < sequence:
            raise Restart(f"lane {lane}: number {expected} was skipped in transit")
        detail = (
            f"lane {lane}: numbers {expected} to {number - 1} are no longer in the stream; replay "
            f"them at site {self._site} to transport.jetstream"
        )
        return [Refusal(sequence, "LOST", detail)]

    async def _append(
        self,
        driver: Session,
        tenant_id: str,
        events: Sequence[tuple[int, Event]],
        batch: Batch,
        role: str,
    ) -> list[Event]:
        """Claim the ids of a tenant's events and write what is new; returns it."""
        first: dict[bytes, Event] = {}
        for _, event in events:
            first.setdefault(event.id_hash, event)
        await rows(driver, "act_for", tenant_id=tenant_id, role=role)
        ids = {
            "tenant_id": tenant_id,
            "id_hash": list(first),
            "content_hash": [event.fingerprint for event in first.values()],
        }
        free = {bytes(item["id_hash"]) for item in await rows(driver, "take_ids", **ids)}
        known = {id_hash: first[id_hash].fingerprint for id_hash in free}
        if len(free) < len(first):
            for item in await rows(driver, "known_ids", tenant_id=tenant_id, id_hash=list(first)):
                known[bytes(item["id_hash"])] = bytes(item["content_hash"])
        fresh = [event for id_hash, event in first.items() if id_hash in free]
        if fresh:
            await changed(
                driver, "append", tenant_id=tenant_id, origin=self._site, **_columns(fresh)
            )
        await driver.execute("SET LOCAL ROLE NONE")
        batch.refusals += [
            Refusal(sequence, "CONFLICT", "its id belongs to different content", event)
            for sequence, event in events
            if event.fingerprint != known[event.id_hash]
        ]
        return fresh

    async def _record(self, driver: Session, made_at: datetime, refusal: Refusal) -> None:
        event, received = refusal.event, refusal.received
        headers: Mapping[str, str] = (received.headers or {}) if received is not None else {}
        payload = event.payload if event else (received.data if received is not None else b"")
        await changed(
            driver,
            "refuse",
            site=self._site,
            stream_made_at=made_at,
            sequence=refusal.sequence,
            reason=refusal.reason,
            tenant_id=event.tenant_id if event else "",
            event_id=event.event_id if event else "",
            detail=refusal.detail.replace("\0", ""),
            headers=Jsonb({name: text.replace("\0", "") for name, text in headers.items()}),
            payload=payload,
        )

    async def _keep(self, driver: Session, share: Share, position: Position) -> None:
        await changed(
            driver,
            "store_position",
            site=self._site,
            share=share.share,
            stream_made_at=position.made_at,
            sequence=position.sequence,
            numbers=position.numbers,
        )

    def _tell(self, refusal: Refusal) -> None:
        event = refusal.event
        _log.error(
            "event refused",
            site=self._site,
            sequence=refusal.sequence,
            reason=refusal.reason,
            detail=refusal.detail,
            tenant_id=event.tenant_id if event else "",
            event_id=event.event_id if event else "",
        )
        if event is not None:
            self._report(
                event.tenant_id,
                event.event_id,
                f"site {self._site} sent event {event.event_id} ({event.subject}), whose id belongs to different "
                "content here; it was not accepted",
            )


def _is_away(error: Exception, session: Session) -> bool:
    """True when NATS or the database cannot be used by any share."""
    if isinstance(error, ConsumerGone):
        return False
    away = isinstance(error, BrokerAway | BrokerUnfit | NatsError | OSError)
    return away or is_database_away(error) or session.closed or session.broken


async def _pause(until: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(until.wait(), seconds)


def _by_tenant(
    arrived: Iterable[tuple[int, Arrived]],
) -> list[tuple[str, list[tuple[int, Event]]]]:
    """Return each tenant's events in their order; tenants sorted, so that two transactions do not dead-lock."""
    found: dict[str, list[tuple[int, Event]]] = {}
    for sequence, item in arrived:
        found.setdefault(item.event.tenant_id, []).append((sequence, item.event))
    return sorted(found.items())


def _columns(events: Sequence[Event]) -> dict[str, list[object]]:
    names = (
        *("event_id", "subject", "schema_version", "key", "message_name", "payload"),
        *("correlation_id", "causation_id", "traceparent", "created_at"),
    )
    return {name: [getattr(event, name) for event in events] for name in names}
