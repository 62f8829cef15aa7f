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
from typing import Any

import psycopg
from google.protobuf.message import Message
from payments.events.v1 import monitoring_events_pb2
from psycopg.sql import Literal
from sqlalchemy import CursorResult, Executable
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.runtime import pool, sql
from services.runtime.clock import Clock
from services.runtime.conditions import Conditions
from services.runtime.context import CallContext, current
from services.runtime.crashpoints import crashpoint
from services.runtime.driver import driver_of
from services.runtime.errors import (
    DatabaseUnavailable,
    DeadlineExceeded,
    InvalidField,
    StorageLow,
)
from services.runtime.events import publish
from services.runtime.events.envelope import Envelope
from services.runtime.ids import new_ulid, new_uuid
from services.runtime.timers import store as timers

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

_OPEN = (
    "SELECT set_config('mesh.tenant', {tenant_id}, true), set_config('statement_timeout', '{timeout_ms}', true),"
    f" set_config('idle_in_transaction_session_timeout', '{IDLE_TIMEOUT_MS}', true),"
    f" set_config('client_connection_check_interval', '{CLIENT_CHECK_MS}', true)"
)
# Sent with `_OPEN` in one go. As a statement and not as attributes of the connection: see `pool`.
_READ_ONLY = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; "
_GONE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
)
_AUDIT = sql.load("services.runtime", "queries.sql")["insert_audit"]
# Rows that are written before other calls have their turns.
_PART_ROWS = 500


class UnitOfWork:
    """One transaction on behalf of one tenant.

    Attributes:
        tenant_id: whose rows it sees and writes.
        now: business time at its start; the same for everything that it writes.
        connection: the SQLAlchemy connection.
        scheduled: true once a timer or a schedule was set.
    """

    def __init__(self, connection: AsyncConnection, call: CallContext, now: datetime) -> None:
        self.connection = connection
        self.tenant_id = call.tenant_id
        self.now = now
        self._call = call
        self._events: list[publish.Pending] = []
        self._audits: list[dict[str, Any]] = []
        self.scheduled = False

    async def execute(
        self,
        statement: Executable | str,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> CursorResult[Any]:
        """Run a statement; a text is sent as it stands, with psycopg's `%(name)s` parameters."""
        if isinstance(statement, str):
            bound = dict(parameters) if isinstance(parameters, Mapping) else parameters
            return await self.connection.exec_driver_sql(statement, bound)
        return await self.connection.execute(statement, parameters)

    async def raw(self) -> psycopg.AsyncConnection[Any]:
        """Return psycopg's connection inside the same transaction, for COPY."""
        return driver_of(self.connection)

    @property
    def published(self) -> bool:
        """True once an event was published."""
        return bool(self._events)

    def publish(
        self,
        payload: Message,
        *,
        causation_id: str | None = None,
        cause: Envelope | None = None,
    ) -> str:
        """Publish a fact with this transaction; returns the event's id.

        Subject, version, owner and key come from the options of the payload's message. A handler of batches
        says which event of its batch is the `cause`; the fact then belongs to the chain of that one.
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
        timer_id = await timers.schedule(self, self._call, payload, due_at, key)
        self.scheduled = True
        return timer_id

    async def cancel_timers(self, *keys: str) -> int:
        """Take back what was scheduled; returns how many there were. Those missing are events by now."""
        return await timers.cancel(self, keys)

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
        payload = monitoring_events_pb2.ContractViolated(
            contract_id=contract_id,
            request_id=request_id or self._call.request_id,
            severity=severity,
            message=message[:1000],
            subject_id=subject_id,
        )
        payload.occurred_at.FromDatetime(self.now)
        self.publish(payload)

    def forget(self) -> None:
        """Drop what was published and audited so far: its state was rolled back to a savepoint."""
        self._events.clear()
        self._audits.clear()

    async def flush(self) -> None:
        """Write audit entries, then events: events are the last statement before the commit."""
        for start in range(0, len(self._audits), _PART_ROWS):
            await self.execute(_AUDIT, self._audits[start : start + _PART_ROWS])
        if self._events:
            await publish.write(self.connection, self._call, self.now, self._events)


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
    ) -> None:
        self.conditions = conditions or Conditions()
        self._clock = clock
        self._wake = wake
        self._scheduled = scheduled
        # Who waits for a connection waits here. The pool itself wakes nobody when a connection that was to be made
        # was given up, and lets them wait although none is in use.
        self._free = asyncio.Semaphore(pool_size)
        self.engine: AsyncEngine = pool.new_engine(
            sqlalchemy_url(url),
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=False,
            connect_args=connect_arguments("tollmesh", pooled=pooled),
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Open a bare transaction, of no tenant. Raises DatabaseUnavailable."""
        with translated_errors():
            await self._turn()
            try:
                async with pool.begun(self.engine) as connection:
                    yield connection
            finally:
                self._free.release()

    async def _turn(self) -> None:
        """Wait until fewer transactions are open than the pool has connections."""
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(POOL_WAIT_SECONDS):
                await self._free.acquire()
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
        async with self.transaction() as connection:
            await _open(connection, call)
            work = UnitOfWork(connection, call, self._clock.now())
            yield work
            await work.flush()
            crashpoint(f"{name}.before_commit")
        crashpoint(f"{name}.after_commit")
        if work.published:
            self._wake()
        if work.scheduled:
            self._scheduled()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[UnitOfWork]:
        """Open a read-only transaction with one snapshot for the current tenant."""
        call = current()
        async with self.transaction() as connection:
            await _open(connection, call, first=_READ_ONLY)
            try:
                yield UnitOfWork(connection, call, self._clock.now())
            except (psycopg.errors.ReadOnlySqlTransaction, DBAPIError) as error:
                if _is_read_only(error):
                    # Not the database's doing: translated, a fault of ours would be tried again for ever.
                    raise AssertionError("a use case that reads has written") from error
                raise

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


async def _open(connection: AsyncConnection, call: CallContext, *, first: str = "") -> None:
    timeout_ms = STATEMENT_TIMEOUT_MS
    if call.deadline_at is not None:
        timeout_ms = max(1, int((call.deadline_at - time.monotonic()) * 1000))
    driver = driver_of(connection)
    statement = first + _OPEN.format(
        tenant_id=Literal(call.tenant_id).as_string(driver),
        timeout_ms=min(timeout_ms, STATEMENT_TIMEOUT_MS),
    )
    # Without parameters, since several statements go together, and so it cannot be prepared.
    await driver.execute(statement.encode(), prepare=False)


class translated_errors:  # noqa: N801 - reads as a statement at its place of use
    """Turn what the driver says of connections, deadlines and texts into typed errors; all else passes."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, psycopg.errors.QueryCanceled):
            raise DeadlineExceeded(
                "the database did not end the statement within the call's deadline"
            ) from error
        if _holds_nul(cause):
            raise InvalidField.one(
                "request", "a text holds the character NUL (U+0000), which cannot be stored"
            ) from error
        if isinstance(cause, psycopg.errors.DiskFull):
            raise StorageLow(
                "the database's disk is full; make the same request again once there is room",
                retry_after_ms=STORAGE_RETRY_MS,
            ) from error
        if _is_read_only(error):
            raise DatabaseUnavailable(
                "the database takes no writes now, as a standby does: nothing was changed; make the same request again",
                retry_after_ms=1000,
            ) from error
        if isinstance(error, OperationalError | InterfaceError) or isinstance(cause, _GONE):
            raise DatabaseUnavailable(
                "the database cannot be reached or gave up; make the same request again: nothing is done twice",
                retry_after_ms=1000,
            ) from error


def _is_read_only(error: BaseException | None) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, psycopg.errors.ReadOnlySqlTransaction)


def _holds_nul(cause: BaseException | None) -> bool:
    """True when Postgres (in JSON) or its driver (in text) refused the one character that Postgres cannot hold."""
    refused = type(cause) is psycopg.DataError and "NUL (0x00)" in str(cause)
    return refused or isinstance(cause, psycopg.errors.UntranslatableCharacter)


def sqlalchemy_url(url: str) -> str:
    """Name the psycopg driver in a plain Postgres URL."""
    scheme, separator, rest = url.partition("://")
    if scheme in {"postgres", "postgresql"} and separator:
        return f"postgresql+psycopg://{rest}"
    return url
