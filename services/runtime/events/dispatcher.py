"""The dispatcher: carries each event to each consumer, in the order of its key, once in effect.

A consumer's deliveries lie in 256 lanes by (tenant, key). A lane is leased by one dispatcher at a time; the
lease's epoch is checked inside every transaction that handles events, so that one that was paused past
its lease commits nothing once another holds the lane. In one transaction: fence, then for each event the
inbox row, the services' role with the event's tenant, and the handler; then the deliveries are removed.

Who may touch what: the relay's role reads the log and owns the queue's tables; a handler runs as the services'
role, sees its event's tenant only and cannot reach the queue.

A failing event is rolled back to its savepoint and waits; later events of its key wait behind it, all
others go on. When a whole transaction is lost, the event that was being handled is put off. Where that cannot be
told (the commit was refused, or the lane's last owner vanished) the lane is gone through event by event, each
try counted before its handler runs: a handler that kills its process is counted too.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psycopg
import structlog
from google.protobuf import empty_pb2
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.runtime.clock import Clock
from services.runtime.context import CallContext, acting
from services.runtime.crashpoints import crashpoint
from services.runtime.database import UnitOfWork
from services.runtime.events import registry, relay
from services.runtime.events.bus import EventBus, Listener
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.events.relay import Relay, Row, Session
from services.runtime.ids import new_uuid

# Savepoints in one transaction stay below the 64 that Postgres keeps in shared memory.
BATCH_MAX = 50
# Of a transaction's time: when no further event of the batch is begun.
CUT_SHARE = 0.25
ERROR_CHARS_MAX = 1000
IDLE_MS_MIN = 20
IDLE_MS_MAX = 500
ERROR_MS_MAX = 5_000

_log = structlog.get_logger(__name__)


class LaneLost(Exception):
    """Another dispatcher holds the lane; nothing of this transaction counts."""


class ProcessEnded(Exception):
    """A handler took its process, or its connection, with it."""


class TransactionFailed(Exception):
    """The connection broke, time ran out or the commit was refused.

    Attributes:
        suspect: the delivery that was being handled; None when it cannot be told which is at fault.
    """

    def __init__(self, cause: Exception, suspect: Row | None) -> None:
        super().__init__(_text(cause))
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
    """

    reaction: Reaction
    lane: int
    epoch: int
    unclean: bool

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
    """What became of the events of one transaction.

    Attributes:
        settled: handled, now or on an earlier delivery.
        failed: to be put off, with what they failed with.
        published: a handler published.
        current: the one being handled, who is at fault when the whole transaction fails.
        cut: time was short, so the rest is left to the next transaction.
    """

    settled: list[Row] = field(default_factory=list)
    failed: list[tuple[Row, Exception]] = field(default_factory=list)
    published: bool = False
    current: Row | None = None
    cut: bool = False

    def blocks(self, row: Row) -> bool:
        """True when an earlier event of the same key failed in this transaction."""
        return any(_key(row) == _key(other) for other, _ in self.failed)


class Dispatcher:
    """Runs the reactions of one process."""

    def __init__(
        self, relay_: Relay, reactions: Sequence[Reaction], bus: EventBus, clock: Clock
    ) -> None:
        self._relay = relay_
        self._reactions: Mapping[str, Reaction] = {r.consumer: r for r in reactions}
        self._bus = bus
        self._clock = clock
        self._role = ""
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{new_uuid()}"
        self._stopping = asyncio.Event()
        self._bell: Listener | None = None

    @property
    def consumers(self) -> list[str]:
        """Names of the consumers that it serves."""
        return sorted(self._reactions)

    async def run(self, role: str) -> None:
        """Work until `stop`; handlers run as `role`. A database that is away is waited for."""
        if not self._reactions:
            return
        self._role = role
        wait_ms = float(IDLE_MS_MIN)
        with self._bus.listener() as self._bell:
            while not self._stopping.is_set():
                try:
                    async with await self._relay.control() as session:
                        await self._work(session, self._bell)
                        wait_ms = IDLE_MS_MIN
                except Exception as error:
                    # Leases run out and deliveries stay: log it, wait, go on.
                    _log.warning("dispatcher interrupted", error=_text(error), wait_ms=wait_ms)
                    await self._bell.wait(wait_ms / 1000)
                    wait_ms = min(wait_ms * 2, ERROR_MS_MAX)

    def stop(self) -> None:
        """Ask it to end after the transactions that are under way."""
        self._stopping.set()
        if self._bell is not None:
            self._bell.ring()

    async def _work(self, session: Session, bell: Listener) -> None:
        free = asyncio.Semaphore(self._relay.workers)
        wait_ms = float(IDLE_MS_MIN)
        async with asyncio.TaskGroup() as tasks:
            while not self._stopping.is_set():
                await free.acquire()
                lane = await self._claim(session)
                if lane is not None:
                    tasks.create_task(self._serve(session, lane, free, bell))
                    wait_ms = IDLE_MS_MIN
                    continue
                free.release()
                rung = await bell.wait(wait_ms / 1000)
                wait_ms = IDLE_MS_MIN if rung else min(wait_ms * 1.5, IDLE_MS_MAX)

    async def _claim(self, session: Session) -> Lane | None:
        if not (await relay.rows(session, "has_work", consumers=self.consumers))[0]["work"]:
            return None
        found = await relay.row(
            session,
            "claim",
            consumers=self.consumers,
            owner=self._owner,
            ttl_ms=self._relay.lease_ms,
        )
        if found is None:
            return None
        reaction = self._reactions[found["consumer"]]
        return Lane(reaction, found["lane"], found["epoch"], found["unclean"])

    async def _serve(
        self, session: Session, lane: Lane, free: asyncio.Semaphore, bell: Listener
    ) -> None:
        """Handle what lies in a lane, then give it back. Errors end this lease, not the dispatcher."""
        try:
            await self._empty(session, lane)
            await relay.changed(session, "release", **lane.lease)
        except LaneLost:
            _log.info("lane lost", **lane.place)
        except Exception as error:
            # The lease is left to run out: who takes the lane next sees that its owner vanished.
            _log.warning("lane given up", **lane.place, error=_text(error))
        finally:
            free.release()
            # More may have come since the last fetch.
            bell.ring()

    async def _empty(self, session: Session, lane: Lane) -> None:
        careful = lane.unclean
        while True:
            try:
                work = self._one_by_one if careful else self._in_batches
                return await work(session, lane)
            except TransactionFailed as error:
                _log.warning("transaction failed", **lane.place, error=str(error))
                if error.suspect is None:
                    careful = True
                else:
                    await self._blame(lane, error.suspect, error.cause)

    async def _in_batches(self, session: Session, lane: Lane) -> None:
        low, renew_at = -1, self._renew_at()
        async with self._connection() as connection:
            while not self._stopping.is_set():
                if time.monotonic() > renew_at:
                    renew_at = await self._renew(session, lane)
                rows = await relay.rows(session, "fetch", **lane.place, low=low, limit=BATCH_MAX)
                if not rows:
                    return
                outcome = await self._handle(connection, lane, rows)
                if outcome.failed or outcome.cut:
                    continue
                if len(rows) < BATCH_MAX:
                    return
                if not rows[0]["held"]:
                    low = rows[-1]["position"]

    async def _one_by_one(self, session: Session, lane: Lane) -> None:
        """Handle events singly, each try counted and committed before its handler runs."""
        async with self._connection() as connection:
            while not self._stopping.is_set():
                await self._renew(session, lane)
                found = await relay.rows(session, "fetch", **lane.place, low=-1, limit=1)
                if not found:
                    return
                row = found[0]
                if row["attempts"] >= lane.reaction.retry.tries_max:
                    await self._blame(lane, row, ProcessEnded("it ended during every try"))
                    continue
                async with self._fenced(connection, lane) as driver:
                    await relay.changed(driver, "count_attempt", **lane.place, **_delivery(row))
                await self._handle(connection, lane, [row])

    async def _blame(self, lane: Lane, row: Row, error: Exception) -> None:
        """Put off an event whose transaction is gone, in one of its own."""
        async with (
            self._connection() as connection,
            self._fenced(connection, lane) as driver,
        ):
            await self._put_off(driver, lane, row, error)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection that is thrown away when a transaction on it failed."""
        async with self._relay.engine.connect() as connection:
            try:
                yield connection
            except TransactionFailed:
                await connection.invalidate()
                raise

    @asynccontextmanager
    async def _fenced(self, connection: AsyncConnection, lane: Lane) -> AsyncIterator[Session]:
        """A transaction that ends with nothing when the lane is another's. Raises LaneLost."""
        async with connection.begin():
            driver = await _driver(connection)
            if await relay.row(driver, "fence", **lane.lease) is None:
                raise LaneLost
            yield driver

    async def _renew(self, session: Session, lane: Lane) -> float:
        """Hold the lane for another term; returns when to renew again."""
        if not await relay.changed(session, "renew", **lane.lease, ttl_ms=self._relay.lease_ms):
            raise LaneLost
        return self._renew_at()

    def _renew_at(self) -> float:
        # A transaction that begins before this instant ends before the lease does.
        return time.monotonic() + self._relay.lease_ms / 4000

    async def _handle(
        self, connection: AsyncConnection, lane: Lane, rows: Sequence[Row]
    ) -> Outcome:
        """Handle events in one transaction.

        Raises:
            LaneLost: the lane is another's by now.
            TransactionFailed: nothing of it counts.
        """
        outcome = Outcome()
        suspect = rows[0] if len(rows) == 1 else None
        cut_at = time.monotonic() + self._relay.transaction_ms / 1000 * CUT_SHARE
        try:
            async with (
                asyncio.timeout(self._relay.transaction_ms / 1000),
                self._fenced(connection, lane) as driver,
            ):
                for row in rows:
                    # Each event begins with most of the time before it: who fails for lack of it is slow.
                    outcome.cut = row is not rows[0] and time.monotonic() > cut_at
                    if outcome.cut:
                        break
                    if not outcome.blocks(row):
                        outcome.current = row
                        await self._attempt(connection, driver, lane, row, outcome)
                outcome.current = suspect
                await self._record(driver, lane, outcome)
                crashpoint("events.dispatch.before_commit")
        except LaneLost:
            raise
        except Exception as error:
            raise TransactionFailed(error, outcome.current) from error
        crashpoint("events.dispatch.after_commit")
        if outcome.published:
            self._bus.wake()
        return outcome

    async def _attempt(
        self,
        connection: AsyncConnection,
        driver: Session,
        lane: Lane,
        row: Row,
        outcome: Outcome,
    ) -> None:
        """Run the handler for one event inside a savepoint."""
        await driver.execute("SAVEPOINT event", prepare=False)
        try:
            # An empty message name: JSON of an outside producer.
            meant = bool(row["message_name"]) or lane.reaction.takes_json
            if await self._enter(driver, lane, row) and meant:
                outcome.published |= await self._react(connection, lane.reaction, row)
            await driver.execute("RELEASE SAVEPOINT event; SET LOCAL ROLE NONE", prepare=False)
        except Exception as error:
            if _is_broken(error, driver):
                raise
            await driver.execute(
                "ROLLBACK TO SAVEPOINT event; RELEASE SAVEPOINT event", prepare=False
            )
            _log.warning(
                "reaction failed",
                **lane.place,
                event_id=row["event_id"],
                tries=row["attempts"] + 1,
                error=_text(error),
            )
            outcome.failed.append((row, error))
        else:
            outcome.settled.append(row)

    async def _enter(self, driver: Session, lane: Lane, row: Row) -> bool:
        """Enter the event into the inbox and take its tenant; False when it was handled before."""
        entered = await relay.row(
            driver,
            "enter_inbox",
            consumer=lane.reaction.consumer,
            tenant_id=row["tenant_id"],
            event_id=row["event_id"],
            generation=row["generation"],
            recorded_at=row["recorded_at"],
            role=self._role,
        )
        return entered is not None

    async def _react(self, connection: AsyncConnection, reaction: Reaction, row: Row) -> bool:
        """Call the handler as its event's tenant; True when it published."""
        envelope = _envelope(row)
        call = CallContext(
            tenant_id=envelope.tenant_id,
            principal_id=f"mesh:{reaction.consumer}",
            scopes=frozenset(),
            request_id=envelope.event_id,
            correlation_id=envelope.correlation_id,
            causation_id=envelope.event_id,
            traceparent=row["traceparent"],
        )
        with acting(call):
            work = UnitOfWork(connection, call, self._clock.now())
            await reaction.handler(work, envelope)
            await work.flush()
        return work.published

    async def _record(self, driver: Session, lane: Lane, outcome: Outcome) -> None:
        """Remove what is done, put off what failed: part of the same transaction."""
        if outcome.settled:
            await relay.changed(
                driver,
                "settle",
                **lane.place,
                positions=[row["position"] for row in outcome.settled],
                generations=[row["generation"] for row in outcome.settled],
            )
        for row, error in outcome.failed:
            await self._put_off(driver, lane, row, error)

    async def _put_off(self, session: Session, lane: Lane, row: Row, error: Exception) -> None:
        """Let an event wait for its next try, or bury it after its last."""
        policy = lane.reaction.retry
        tries = row["attempts"] + 1
        what = {**lane.place, **_delivery(row), "error": _text(error)}
        if tries < policy.tries_max:
            await relay.changed(
                session, "retry_later", **what, attempts=tries, delay_ms=policy.delay_ms(tries)
            )
            return
        _log.error("event buried", **what, event_id=row["event_id"])
        park = lane.reaction.on_dead == "park_key"
        await relay.changed(
            session, "bury", **what, attempts=min(tries, policy.tries_max), park=park
        )


def _envelope(row: Row) -> Envelope:
    name, payload = row["message_name"], row["payload"]
    return Envelope(
        event_id=row["event_id"],
        subject=row["subject"],
        schema_version=row["schema_version"],
        tenant_id=row["tenant_id"],
        key=row["key"],
        payload=registry.unpack(name, payload) if name else empty_pb2.Empty(),
        json=b"" if name else payload,
        correlation_id=row["correlation_id"],
        causation_id=row["causation_id"],
        created_at=row["created_at"],
        generation=row["generation"],
        position=row["position"],
    )


async def _driver(connection: AsyncConnection) -> Session:
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)
    return driver


def _key(row: Row) -> tuple[str, str]:
    return row["tenant_id"], row["key"]


def _delivery(row: Row) -> dict[str, object]:
    return {"position": row["position"], "generation": row["generation"]}


def _text(error: Exception) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    # A text in Postgres holds no zero byte.
    return f"{type(error).__name__}: {error}".replace("\0", "")[:ERROR_CHARS_MAX]


def _is_broken(error: Exception, driver: Session) -> bool:
    disconnected = isinstance(error, DBAPIError) and error.connection_invalidated
    return disconnected or driver.closed
