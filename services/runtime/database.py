"""The unit of work: state, audit entries and events commit together or not at all.

Every transaction names its tenant (`mesh.tenant`), because row-level security shows only that tenant's rows and
raises an error when none is named. Never hold one open across a network call.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any

import psycopg
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Executable

from services.runtime.clock import Clock
from services.runtime.conditions import Conditions
from services.runtime.context import CallContext, acting, acting_tenant, current
from services.runtime.crashpoints import crashpoint
from services.runtime.errors import (
    DatabaseUnavailable,
    DeadlineExceeded,
    InvalidField,
    StorageLow,
)
from services.runtime.fair_turns import FairTurns
from services.runtime.ids import new_ulid, new_uuid
from services.runtime.measures import Measure
from services.runtime.outbox import facts, publish
from services.runtime.outbox import timer_setting as setting
from services.runtime.postgres import pool, sql
from services.runtime.postgres.session import Call, Rows, Session
from services.runtime.postgres.statements import compiled, statement
from services.runtime.telemetry import Silent, Telemetry

STATEMENT_TIMEOUT_MS = 60_000
POOL_WAIT_SECONDS = 10.0
# Nobody makes room on a disk sooner.
STORAGE_RETRY_MS = 10_000
# A transaction never waits for anything but the database: one that idles so long has lost its process or its
# network, and its locks hold up everybody else.
IDLE_TIMEOUT_MS = 30_000
# The same for a peer that went without a word; sockets of the file system leave these out of account.
CONNECT_ARGUMENTS: Mapping[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def connect_arguments(application_name: str, *, pooled: bool) -> dict[str, Any]:
    """Return what psycopg connects with.

    Args:
        application_name: what the server lists the session as.
        pooled: a pooler in transaction mode stands in between. The session that it gives a transaction knows
            nothing of what another one prepared, so nothing is prepared.
    """
    unprepared: dict[str, Any] = {"prepare_threshold": None} if pooled else {}
    return {"application_name": application_name, **CONNECT_ARGUMENTS, **unprepared}


# What a transaction runs on with for at most so long once its client is gone; also while it waits for a lock.
CLIENT_CHECK_MS = 1_000

_BEGIN = Call(statement("BEGIN"))
_BEGIN_READING = Call(statement("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"))
_OPEN = statement(
    "SELECT set_config('mesh.tenant', %(tenant_id)s, true), set_config('statement_timeout', %(timeout_ms)s, true),"
    f" set_config('idle_in_transaction_session_timeout', '{IDLE_TIMEOUT_MS}', true),"
    f" set_config('client_connection_check_interval', '{CLIENT_CHECK_MS}', true)"
)
_GONE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
)
_SAVEPOINT = Call(statement("SAVEPOINT part"))
_COMMIT = Call(statement("COMMIT"))
_ROLLBACK_TO = Call(statement("ROLLBACK TO SAVEPOINT part"))
_RELEASE = Call(statement("RELEASE SAVEPOINT part"))
_AUDIT = sql.load("services.runtime", "queries.sql")["insert_audit"]
# Rows that are written before other calls have their turns.
_PART_ROWS = 500

# Acts for no tenant: `mesh.current_tenant` takes an empty name for none.
NOBODY = CallContext("", "mesh", frozenset(), request_id="", correlation_id="")

Parameters = Mapping[str, Any]


_SILENT = Silent()


class UnitOfWork:
    """One transaction on behalf of one tenant.

    Statements that nobody waits for an answer of travel with the next one, or with the commit.

    Attributes:
        tenant_id: whose rows it sees and writes.
        now: business time at its start; the same for everything that it writes.
        scheduled: true once a timer or a schedule was set.
    """

    def __init__(
        self,
        session: Session,
        call: CallContext,
        now: datetime,
        opening: Sequence[Call] = (),
        telemetry: Telemetry = _SILENT,
    ) -> None:
        self._session = session
        self.tenant_id = call.tenant_id
        self.now = now
        self._call = call
        self._waiting: list[Call] = list(opening)
        self._runs = 0
        self._events: list[publish.Pending] = []
        self._audits: list[dict[str, Any]] = []
        self._told = False
        self._afterwards: list[Callable[[], None]] = []
        self._telemetry = telemetry
        self.scheduled = False

    async def execute(
        self,
        query: Executable | str,
        parameters: Parameters | Sequence[Parameters] | None = None,
        *,
        prepare: bool = True,
    ) -> Rows:
        """Run a statement; a text has psycopg's `%(name)s` parameters.

        Several sets of parameters run it as often. The answer is that of the last.

        Args:
            query: the statement.
            parameters: its values.
            prepare: keep its plan for the next time on the session.
        """
        self.later(query, parameters, prepare=prepare)
        return (await self._run())[-1]

    async def execute_all(
        self, *queries: tuple[Executable | str, Parameters | None], prepare: bool = True
    ) -> list[Rows]:
        """Run statements in one go, in their order; returns the answer of each.

        Args:
            queries: the statements with their values.
            prepare: keep their plans for the next time on the session.
        """
        for query, parameters in queries:
            self.later(query, parameters, prepare=prepare)
        return (await self._run())[-len(queries) :]

    def later(
        self,
        query: Executable | str,
        parameters: Parameters | Sequence[Parameters] | None = None,
        *,
        prepare: bool = True,
    ) -> None:
        """Have a statement run before the next one, or before the commit: it fails there, if it fails."""
        sets: Sequence[Parameters | None]
        sets = [parameters] if parameters is None or isinstance(parameters, Mapping) else parameters
        for each in sets:
            if isinstance(query, str):
                self._waiting.append(Call(statement(query), each or {}, prepare))
            else:
                self._waiting.append(Call(*compiled(query, each), prepare))

    async def raw(self) -> psycopg.AsyncConnection[Any]:
        """Return psycopg's connection inside the same transaction, for COPY."""
        if self._waiting:
            await self._run()
        return self._session

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo what is done inside when it fails; the transaction goes on."""
        runs, before = self._runs, len(self._waiting)
        self._waiting.append(_SAVEPOINT)
        try:
            yield
        except Exception:
            # Whatever it was goes on to the caller; what was begun inside is undone first.
            if self._runs == runs:
                del self._waiting[before:]
            else:
                self._waiting = [_ROLLBACK_TO, _RELEASE]
                await self._run()
            raise
        self._waiting.append(_RELEASE)

    async def _run(self) -> list[Rows]:
        calls, self._waiting = self._waiting, []
        self._runs += 1
        return await self._session.run(*calls)

    @property
    def published(self) -> bool:
        """True once an event was published."""
        return self._told or bool(self._events)

    def publish(
        self,
        payload: Message | publish.JsonFact,
        *,
        causation_id: str | None = None,
        cause: publish.Cause | None = None,
    ) -> str:
        """Publish a fact with this transaction; returns the event's id.

        Subject, version, owner and key come from the options of the payload's message; JSON says them itself. A
        handler of batches says which event of its batch is the `cause`; the fact then belongs to the chain of that one.
        """
        event_id = new_ulid()
        if cause is None:
            causation_id = causation_id or self._call.causation_id
            pending = publish.Pending(event_id, payload, causation_id)
        else:
            pending = publish.Pending(event_id, payload, cause.event_id, cause.correlation_id)
        self._events.append(pending)
        return event_id

    async def schedule(self, payload: Message, due_at: datetime, *, key: str = "") -> str:
        """Let a fact be published when its time has come; returns the id of the timer and of the event.

        A tenant has one timer of a `key`: the same key again replaces it. Without one nothing replaces it.
        """
        timer_id = new_ulid()
        self._waiting.append(
            setting.set_timer(self._call, self.now, timer_id, payload, due_at, key)
        )
        await self._run()
        self.scheduled = True
        return timer_id

    async def cancel_timers(self, *keys: str) -> int:
        """Take back what was scheduled; returns how many there were. Those missing are events by now."""
        self._waiting.append(setting.cancel_timers(self._call, keys))
        return (await self._run())[-1].rowcount

    def audit(
        self,
        entity: str,
        entity_id: str,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
    ) -> None:
        """Leave an audit entry: who changed what from which state to which."""
        self._audits.append(
            {
                "tenant_id": self.tenant_id,
                "audit_id": new_uuid(),
                "entity": entity,
                "entity_id": entity_id,
                "actor": self._call.principal_id,
                # Written here, in the turn of who tells it, not all at once when the transaction ends.
                "before": None if before is None else json.dumps(dict(before)),
                "after": None if after is None else json.dumps(dict(after)),
                "request_id": self._call.request_id,
            }
        )

    def violation(
        self,
        contract_id: str,
        severity: str,
        message: str,
        *,
        request_id: str | None = None,
        subject_id: str = "",
    ) -> None:
        """Tell the contract monitor, as a fact of this transaction, that a contract was broken."""
        occurred_at = Timestamp()
        occurred_at.FromDatetime(self.now)
        self.publish(
            facts.fact(
                facts.VIOLATED,
                contract_id=contract_id,
                request_id=request_id or self._call.request_id,
                severity=severity,
                message=message[:1000],
                subject_id=subject_id,
                occurred_at=occurred_at,
            )
        )

    def after_commit(self, call: Callable[[], None]) -> None:
        """Have something done once this is committed, e.g. forget what is remembered of the state before."""
        self._afterwards.append(call)

    def count(self, measure: Measure, amount: int, **labels: str) -> None:
        """Add to a counter once this is committed; labels are those that the measure declares."""
        if amount:
            self.after_commit(partial(self._telemetry.count, measure, amount, labels))

    def committed(self) -> None:
        """Do what was to be done after the commit."""
        for call in self._afterwards:
            call()

    def forget(self) -> None:
        """Drop what was published and audited so far: its state was rolled back to a savepoint."""
        self._events.clear()
        self._audits.clear()
        self._afterwards.clear()

    async def flush(self) -> None:
        """Write what is still to be written, for whoever ends the transaction by other means."""
        calls = await self.rest()
        if calls:
            await self._session.run(*calls)

    async def rest(self) -> list[Call]:
        """Return what is still to be written: statements, audit entries, then events, the last before the commit."""
        for start in range(0, len(self._audits), _PART_ROWS):
            if start:
                await self._run()
            self.later(_AUDIT, self._audits[start : start + _PART_ROWS])
        self._waiting += await publish.calls(self._call, self.now, self._events)
        self._audits, self._events, self._told = [], [], self._told or bool(self._events)
        calls, self._waiting = self._waiting, []
        return calls


class Database:
    """The services' database, through the services' role.

    Args:
        url: `postgresql://…` of the services' role.
        clock: business time.
        pool_size: connections at most.
        wake: called after each commit that published an event.
        scheduled: called after each commit that set a timer.
        pooled: a connection pooler in transaction mode stands in between.
        conditions: of the process, for the background work that uses it.
        telemetry: told what units of work count.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        pool_size: int = 16,
        wake: Callable[[], None] = lambda: None,
        scheduled: Callable[[], None] = lambda: None,
        pooled: bool = False,
        conditions: Conditions | None = None,
        telemetry: Telemetry = _SILENT,
    ) -> None:
        self._telemetry = telemetry
        self.conditions = conditions or Conditions()
        self._clock = clock
        self._wake = wake
        self._scheduled = scheduled
        # Who waits for a session waits here: the pool opens one for whoever asks.
        self._turns = FairTurns(pool_size)
        self.pool = pool.Pool(
            url,
            size=pool_size,
            arguments=connect_arguments("tollmesh", pooled=pooled),
            pooled=pooled,
        )

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A session in no transaction; of those that wait for one each tenant has its share.

        Raises:
            DatabaseUnavailable: it cannot be reached, or no session became free.
        """
        tenant_id = acting_tenant()
        with translated_errors():
            await self._turn(tenant_id)
            try:
                async with self.pool.session() as session:
                    yield session
            finally:
                self._turns.give_back(tenant_id)

    async def _turn(self, tenant_id: str) -> None:
        """Wait until fewer sessions are in use than the pool has, and it is the tenant's turn."""
        if self._turns.take_free(tenant_id):
            return
        try:
            async with asyncio.timeout(POOL_WAIT_SECONDS):
                await self._turns.take(tenant_id)
        except TimeoutError as error:
            raise DatabaseUnavailable(
                f"no database connection became free in {POOL_WAIT_SECONDS:.0f} s; try again",
                retry_after_ms=1000,
            ) from error

    @asynccontextmanager
    async def unit_of_work(self, name: str) -> AsyncIterator[UnitOfWork]:
        """Open a transaction for the current tenant; commit on a clean exit, else roll back.

        `name` gives the crash points `<name>.before_commit` and `<name>.after_commit`.

        Raises:
            DatabaseUnavailable: Postgres cannot be reached; nothing was changed, unless the connection broke
                during the commit itself, which the same request_id finds out.
        """
        call = current()
        async with self.session() as session:
            opening = (_BEGIN, _opening(call))
            work = UnitOfWork(session, call, self._clock.now(), opening, self._telemetry)
            try:
                yield work
                rest = await work.rest()
                crashpoint(f"{name}.before_commit")
                await pool.commit(session, *rest)
            except BaseException:
                await pool.roll_back(session)
                raise
        crashpoint(f"{name}.after_commit")
        if work.published:
            self._wake()
        if work.scheduled:
            self._scheduled()
        work.committed()

    @asynccontextmanager
    async def trial(self) -> AsyncIterator[UnitOfWork]:
        """Open a transaction in which all is written and checked, and which leaves nothing."""
        call = current()
        async with self.session() as session:
            work = UnitOfWork(session, call, self._clock.now(), (_BEGIN, _opening(call)))
            try:
                yield work
                await work.flush()
            finally:
                await pool.roll_back(session)

    @asynccontextmanager
    async def across_tenants(self, name: str) -> AsyncIterator[UnitOfWork]:
        """Open a transaction for no tenant, to find work of all of them by functions that run as their owner.

        Row-level security shows it nothing: a statement on a table, an event and an audit entry are refused, with an
        error. `name` gives crash points as `unit_of_work` does.

        Raises:
            DatabaseUnavailable: Postgres cannot be reached.
        """
        with acting(NOBODY):
            async with self.unit_of_work(name) as work:
                yield work

    @asynccontextmanager
    async def read(self) -> AsyncIterator[UnitOfWork]:
        """Open a read-only transaction with one snapshot for the current tenant."""
        call = current()
        async with self.session() as session:
            work = UnitOfWork(session, call, self._clock.now(), (_BEGIN_READING, _opening(call)))
            try:
                yield work
            except psycopg.errors.ReadOnlySqlTransaction as error:
                # Not the database's doing: translated, a fault of ours would be tried again for ever.
                raise AssertionError("a use case that reads has written") from error
            finally:
                await pool.roll_back(session)

    async def ask(self, query: str, parameters: Parameters) -> Rows:
        """Read by one statement for the current tenant, all in one go."""
        (answer,) = await self.ask_all((query, parameters))
        return answer

    async def ask_all(self, *queries: tuple[str, Parameters]) -> list[Rows]:
        """Read by several statements in one snapshot for the current tenant, all in one go; the answer of each."""
        calls = [Call(statement(query), parameters) for query, parameters in queries]
        async with self.session() as session:
            try:
                answers = await session.run(_BEGIN_READING, _opening(current()), *calls, _COMMIT)
            except BaseException:
                await pool.roll_back(session)
                raise
        return answers[2:-1]

    def now(self) -> datetime:
        """Return business time."""
        return self._clock.now()

    async def close(self) -> None:
        """Close every session."""
        await self.pool.close()


def _opening(call: CallContext) -> Call:
    timeout_ms = STATEMENT_TIMEOUT_MS
    if call.deadline_at is not None:
        timeout_ms = max(1, int((call.deadline_at - time.monotonic()) * 1000))
    values = {"tenant_id": call.tenant_id, "timeout_ms": str(min(timeout_ms, STATEMENT_TIMEOUT_MS))}
    return Call(_OPEN, values)


class translated_errors:  # noqa: N801 - reads as a statement at its place of use
    """Turn what the driver says of connections, deadlines and texts into typed errors; all else passes."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, psycopg.errors.QueryCanceled):
            raise DeadlineExceeded(
                "the database did not finish the statement within the call's deadline"
            ) from error
        if _holds_nul(error):
            raise InvalidField.one(
                "request", "a string contains the character NUL (U+0000), which cannot be stored"
            ) from error
        if isinstance(error, psycopg.errors.DiskFull):
            raise StorageLow(
                "the database's disk is full; repeat the same request once there is space",
                retry_after_ms=STORAGE_RETRY_MS,
            ) from error
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            raise DatabaseUnavailable(
                "the database is read-only now, as a standby is: nothing was changed; repeat the same request",
                retry_after_ms=1000,
            ) from error
        if isinstance(error, _GONE):
            raise DatabaseUnavailable(
                "the database is unavailable; repeat the same request: nothing is done twice",
                retry_after_ms=1000,
            ) from error


def _holds_nul(cause: BaseException | None) -> bool:
    """True when Postgres (in JSON) or its driver (in text) refused the one character that Postgres cannot hold."""
    refused = type(cause) is psycopg.DataError and "NUL (0x00)" in str(cause)
    return refused or isinstance(cause, psycopg.errors.UntranslatableCharacter)
