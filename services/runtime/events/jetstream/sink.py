"""The sink: publishes the events that were born here to this site's stream, each lane in its order.

It is a consumer of the backbone like any other (`transport.jetstream`), but its effect lies outside of the database. A
lane is leased; its batch is published under the condition that the lane's last message is the one that is known;
then, in one transaction, the lease is checked, the deliveries are removed and the new tail is kept.

Who dies between the two leaves messages that nobody has accounted for. Whoever has the lane next sees that its
tail is another than the one that is kept, reads what lies between, and removes the deliveries of exactly those. Who
was paused past the lease publishes nothing, because its condition is wrong by then; and should its batch arrive
before anything else of the lane, it is found in the same way.

Events that came from another site are passed over: each site publishes its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from nats.errors import Error as NatsError

from services.runtime.crashpoints import crashpoint
from services.runtime.events import relay
from services.runtime.events.bus import EventBus, Listener
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.events.jetstream import message
from services.runtime.events.jetstream.broker import (
    BATCH_BYTES_MAX,
    BATCH_MAX,
    Broker,
    BrokerAway,
    Repeated,
    Stored,
    StreamState,
    TailMoved,
)
from services.runtime.events.jetstream.message import Event
from services.runtime.events.jetstream.statements import (
    changed,
    fenced,
    renew,
    row,
    rows,
)
from services.runtime.events.jetstream.waits import BACKOFF, STOP_SECONDS_MAX
from services.runtime.events.owners import new_owner
from services.runtime.events.relay import Delivery, Relay, Row
from services.runtime.interruptions import error_summary
from services.runtime.leases import LeaseLost
from services.runtime.loops import Loop
from services.runtime.outbox.publish import identity_hash
from services.runtime.postgres.session import Session

CONSUMER = "transport.jetstream"
IDLE_MS_MIN = 20
IDLE_MS_MAX = 500
# Messages read back at once, of a lane that has more of them than are accounted for.
READ_BACK_MAX = 200
# How often a lane's tail may turn out to be another one before the lane is given up for now.
SURPRISES_MAX = 5
# Too large for NATS as it is set up: no try will change that.
_TRIES = 1

_log = structlog.get_logger(__name__)


async def _never(_work: object, envelope: Envelope) -> None:
    raise AssertionError(
        f"{CONSUMER} is served by the sink, not by a dispatcher: {envelope.event_id}"
    )


# What its subscription is made from. Later events of a key wait behind one that cannot be sent. A period may be
# replayed to it, for that is how a stream is made again: the generation makes each a message that the stream has
# not seen, and a site that has the event already knows it by its id.
REACTION = Reaction(CONSUMER, ("*",), _never, takes_json=True, replayable=True)


@dataclass(slots=True)
class Tail:
    """The last message of a lane.

    Attributes:
        sequence: its sequence in the stream; 0 when the stream has none of the lane.
        number: its place in the lane, which goes on counting when messages are dropped.
    """

    sequence: int
    number: int


@dataclass(frozen=True, slots=True)
class Lane:
    """A leased lane.

    Attributes:
        lane: its number, 0 to 255.
        epoch: counts its owners; names this lease.
        low: everything up to this position is settled.
    """

    lane: int
    epoch: int
    low: int

    @property
    def place(self) -> dict[str, object]:
        """The parameters that name the lane."""
        return {"consumer": CONSUMER, "lane": self.lane}

    @property
    def lease(self) -> dict[str, object]:
        """The parameters that name this lease of the lane."""
        return {**self.place, "epoch": self.epoch}


@dataclass(slots=True)
class Plan:
    """What is to become of a batch of deliveries.

    Attributes:
        publish: deliveries of events that were born here, with the events.
        pass_over: deliveries of events of other sites.
        bury: deliveries of events that no message can carry.
        cut: deliveries were left to the next batch.
    """

    publish: list[tuple[Delivery, Event]] = field(default_factory=list)
    pass_over: list[Delivery] = field(default_factory=list)
    bury: list[Delivery] = field(default_factory=list)
    cut: bool = False

    @property
    def settled(self) -> list[Delivery]:
        """What is done once the events are published."""
        return [delivery for delivery, _ in self.publish] + self.pass_over


class Sink:
    """Publishes what lies in the lanes of `transport.jetstream`.

    Args:
        relay_: sessions of the relay's role.
        broker: NATS.
        bus: rings when there is something new.
    """

    def __init__(self, relay_: Relay, broker: Broker, bus: EventBus) -> None:
        self._relay = relay_
        self._broker = broker
        self._bus = bus
        self._stream = message.stream_of(broker.options.site)
        self._owner = new_owner()
        self.loop = Loop(
            "sink",
            self._hold_session,
            conditions=relay_.conditions,
            backoff=BACKOFF,
            stop_seconds=STOP_SECONDS_MAX,
            ring=self._ring,
            fields={"stream": self._stream},
        )
        self._bell: Listener | None = None
        # Tails that this sink left behind, with the epoch of its lease: true while no other had the lane.
        self._left: dict[int, tuple[int, Tail]] = {}
        self._weight_max = 0
        self._serving = 0
        self.published = 0

    async def _hold_session(self) -> None:
        # Broker or database, when either fails the deliveries stay where they are.
        with self._bus.listener() as self._bell:
            async with await self._relay.control() as session:
                await self._prepare(session)
                await self._work(session, self._bell)

    def _ring(self) -> None:
        if self._bell is not None:
            self._bell.ring()

    async def _prepare(self, session: Session) -> None:
        self._left.clear()
        owner = await row(session, "identify")
        assert owner is not None
        await self._broker.ensure_stream(owner["owner"])
        await self._limit()

    async def _limit(self) -> int:
        """Ask what a message may weigh: its servers may have been set up anew."""
        self._weight_max = await self._broker.message_bytes_max(await self._state())
        return self._weight_max

    async def _state(self) -> StreamState:
        state = await self._broker.state(self._broker.options.site)
        if state is None:
            raise BrokerAway("the stream is gone")
        return state

    async def _work(self, session: Session, bell: Listener) -> None:
        """Serve lanes until one fails: errors of NATS or of the database are everybody's.

        Raises:
            Exception: the first failure, once the other lanes have ended their batch.
        """
        free = asyncio.Semaphore(self._relay.workers)
        failures: list[Exception] = []
        wait_ms = float(IDLE_MS_MIN)
        async with asyncio.TaskGroup() as tasks:
            while not self.loop.is_stopping() and not failures:
                await free.acquire()
                lane = None if failures else await self._claim(session)
                if lane is not None:
                    tasks.create_task(self._serve(session, lane, failures, free, bell))
                    wait_ms = IDLE_MS_MIN
                    continue
                free.release()
                if failures:
                    break
                if not self._serving:
                    self.loop.works()
                rung = await bell.wait(wait_ms / 1000)
                wait_ms = IDLE_MS_MIN if rung else min(wait_ms * 1.5, IDLE_MS_MAX)
        if failures:
            raise failures[0]

    async def _claim(self, session: Session) -> Lane | None:
        found = await relay.row(
            session,
            "claim",
            consumers=[CONSUMER],
            owner=self._owner,
            ttl_ms=self._relay.lease_ms,
            limit=1,
        )
        return None if found is None else Lane(found["lane"], found["epoch"], found["low"])

    async def _serve(
        self,
        session: Session,
        lane: Lane,
        failures: list[Exception],
        free: asyncio.Semaphore,
        bell: Listener,
    ) -> None:
        """Publish what lies in a lane, then give it back."""
        low = -1
        self._serving += 1
        try:
            low = await self._empty(session, lane)
        except LeaseLost:
            _log.warning("lane lost: another sink holds it", lane=lane.lane, stream=self._stream)
        except Exception as error:
            # Raised by `_work`, once the other lanes have ended their batch.
            failures.append(error)
        try:
            # Nothing is left half-way that the next owner would not find out by itself.
            await relay.changed(session, "release", **lane.lease, low=low)
        except Exception as error:
            # The lease runs out.
            failures.append(error)
        finally:
            self._serving -= 1
            free.release()
            # More may have come since the last fetch.
            bell.ring()

    async def _empty(self, session: Session, lane: Lane) -> int:
        """Publish until nothing is left; returns the position up to which everything is settled."""
        tail = await self._open(session, lane)
        low, surprises, limit, publish = lane.low, 0, BATCH_MAX, self._publish
        while not self.loop.is_stopping():
            await renew(session, self._relay, lane.lease)
            found = await relay.fetch(
                session, consumer=CONSUMER, lane=lane.lane, low=low, limit=limit
            )
            if not found:
                break
            plan = await self._plan(session, found)
            try:
                await publish(lane, plan, tail)
            except (TailMoved, TimeoutError, NatsError) as error:
                surprises += 1
                if surprises > SURPRISES_MAX:
                    raise BrokerAway(f"lane {lane.lane}: {error_summary(error)}") from error
                _log.warning("batch in doubt", lane=lane.lane, error=error_summary(error))
                known, tail = tail.sequence, await self._find_out(session, lane)
                singly = isinstance(error, Repeated) and tail.sequence == known
                publish = self._publish_singly if singly else self._publish
                continue
            publish = self._publish
            await self._settle(lane, plan, tail)
            if plan.cut:
                # Large ones: no more of them in memory than one batch takes.
                limit = max(1, len(plan.publish))
            if plan.bury or plan.cut:
                continue
            if not found[0].held:
                # The same place again, in another generation, may be the next.
                low = found[-1].position - 1
            if relay.is_rest(found, limit):
                break
            limit = min(2 * limit, BATCH_MAX)
        self._left[lane.lane] = (lane.epoch, tail)
        return low

    async def _plan(self, session: Session, found: Sequence[Delivery]) -> Plan:
        """Judge deliveries, in their order."""
        plan, weight = Plan(), 0
        stuck: set[tuple[str, str]] = set()
        for delivery, detail in zip(found, await _details(session, found), strict=True):
            if delivery.ordered_by in stuck:
                continue
            if detail["origin"]:
                plan.pass_over.append(delivery)
                continue
            site = self._broker.options.site
            event = message.of_delivery(delivery, site, detail["content_hash"])
            heavy = message.weight(event, self._weight_max)
            if heavy > self._weight_max and heavy > await self._limit():
                plan.bury.append(delivery)
                stuck.add(delivery.ordered_by)
                continue
            weight += heavy
            plan.cut = bool(plan.publish) and weight > BATCH_BYTES_MAX
            if plan.cut:
                break
            plan.publish.append((delivery, event))
        return plan

    async def _publish(self, lane: Lane, plan: Plan, tail: Tail) -> None:
        """Publish what is to be published, behind the known tail."""
        if not plan.publish:
            return
        events = [event for _, event in plan.publish]
        crashpoint("transport.sink.before_publish")
        tail.sequence = await self._broker.publish(
            lane.lane, events, tail.sequence, tail.number + 1
        )
        tail.number += len(events)
        self.published += len(events)
        crashpoint("transport.sink.after_publish")

    async def _publish_singly(self, lane: Lane, plan: Plan, tail: Tail) -> None:
        """Publish what the stream takes; the rest it says to have, although it is not behind the known tail.

        Raises:
            TailMoved: the lane has another tail by now.
        """
        repeated = False
        for _, event in plan.publish:
            sequence = await self._broker.publish_one(
                lane.lane, event, tail.sequence, tail.number + 1
            )
            if sequence is None:
                repeated = True
                continue
            tail.sequence, tail.number = sequence, tail.number + 1
            self.published += 1
        if not repeated:
            return
        # A stream of several copies knows an id again before it looks at the condition, a stream of one copy after it:
        # only the tail tells whether somebody else has written here.
        last = await self._broker.tail(lane.lane)
        if (last.sequence if last else 0) != tail.sequence:
            raise TailMoved(f"the stream has events of the batch, and lane {lane.lane} has moved")

    async def _settle(self, lane: Lane, plan: Plan, tail: Tail) -> None:
        """Remove the deliveries and keep the tail, if the lane is still ours."""
        settled = plan.settled
        async with fenced(self._relay, lane.lease) as driver:
            if settled:
                await relay.changed(
                    driver,
                    "settle",
                    **lane.place,
                    positions=[delivery.position for delivery in settled],
                    generations=[delivery.generation for delivery in settled],
                )
            for delivery in plan.bury:
                await self._bury(driver, lane, delivery)
            if plan.publish:
                await self._keep(driver, lane, tail)
        crashpoint("transport.sink.after_settle")

    async def _bury(self, driver: Session, lane: Lane, delivery: Delivery) -> None:
        error = (
            f"larger than NATS allows ({self._weight_max} bytes per message): raise its servers' max_payload to 2 MB, "
            "then replay"
        )
        _log.error("event buried", lane=lane.lane, event_id=delivery.event_id, error=error)
        await relay.changed(
            driver,
            "bury",
            **lane.place,
            **delivery.place,
            attempts=_TRIES,
            error=error,
            # Later events of the key must not get there before it.
            park=True,
        )

    # ---- What the lane's last message is

    async def _open(self, session: Session, lane: Lane) -> Tail:
        """Return the tail of a lane that was just leased."""
        epoch, tail = self._left.pop(lane.lane, (0, Tail(0, 0)))
        if epoch and lane.epoch == epoch + 1:
            return tail
        return await self._find_out(session, lane)

    async def _find_out(self, session: Session, lane: Lane) -> Tail:
        """Set the tail that is kept against the one that there is, and account for what lies between."""
        await renew(session, self._relay, lane.lease)
        kept_row = await row(session, "tail", stream=self._stream, lane=lane.lane)
        kept = Tail(kept_row["sequence"], kept_row["number"]) if kept_row else Tail(0, 0)
        last = await self._broker.tail(lane.lane)
        if last is None:
            if kept.sequence:
                await self._report_loss(lane, kept, 0)
            return Tail(0, kept.number)
        if last.sequence < kept.sequence:
            await self._report_loss(lane, kept, last.sequence)
            return Tail(last.sequence, max(kept.number, last.number))
        while kept.sequence < last.sequence:
            kept = await self._read_back(session, lane, kept, last)
        return kept

    async def _read_back(self, session: Session, lane: Lane, kept: Tail, last: Stored) -> Tail:
        """Account for messages behind the kept tail: their events are published."""
        found: list[Stored] = []
        sequence, number = kept.sequence, kept.number
        while len(found) < READ_BACK_MAX and sequence < last.sequence:
            stored = await self._broker.next_of_lane(
                self._broker.options.site, lane.lane, sequence + 1
            )
            if stored is None:
                raise BrokerAway(f"lane {lane.lane} ends before {last.sequence}")
            found.append(stored)
            sequence, number = stored.sequence, max(number, stored.number)
        tail = Tail(sequence, number)
        named = [stored.identity for stored in found if stored.identity is not None]
        await renew(session, self._relay, lane.lease)
        async with fenced(self._relay, lane.lease) as driver:
            settled = await changed(
                driver,
                "settle_published",
                **lane.place,
                tenant_id=[tenant for tenant, _, _ in named],
                event_id=[event_id for _, event_id, _ in named],
                generation=[generation for _, _, generation in named],
            )
            await self._keep(driver, lane, tail)
        _log.warning(
            "published before, and not settled",
            lane=lane.lane,
            messages=len(found),
            settled=settled,
        )
        return tail

    async def _report_loss(self, lane: Lane, kept: Tail, sequence: int) -> None:
        """Say it when the stream has less than it acknowledged. Messages that grew old are no loss."""
        state = await self._state()
        if state.last < kept.sequence:
            _log.error(
                "the stream lost messages that it had acknowledged, or was recreated: replay the events to "
                "transport.jetstream",
                stream=self._stream,
                lane=lane.lane,
                acknowledged=kept.sequence,
                last_of_lane=sequence,
                last_of_stream=state.last,
            )

    async def _keep(self, driver: Session, lane: Lane, tail: Tail) -> None:
        await changed(
            driver,
            "store_tail",
            stream=self._stream,
            lane=lane.lane,
            sequence=tail.sequence,
            number=tail.number,
        )


async def _details(session: Session, found: Sequence[Delivery]) -> list[Row]:
    return await rows(
        session,
        "details",
        tenant_id=[delivery.tenant_id for delivery in found],
        recorded_at=[delivery.recorded_at for delivery in found],
        event_id=[delivery.event_id for delivery in found],
        id_hash=[identity_hash(delivery.event_id.encode()) for delivery in found],
    )
