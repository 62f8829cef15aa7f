"""Sessions of the relay's role, which sequences and dispatches.

Every transaction gives up by itself before its lease runs out: a process that hangs holds nothing for long. Limits
are set inside each transaction and never on the session, which a connection pooler may give to somebody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

from services.runtime.conditions import Conditions
from services.runtime.database import connect_arguments
from services.runtime.leases import TRANSACTION_SHARE
from services.runtime.postgres import pool, sql
from services.runtime.postgres.session import Call, Rows, Session
from services.runtime.postgres.statements import statement as numbered

LEASE_MS = 10_000
# Of payloads that are read at once, by each worker. The event that goes beyond it is still read.
FETCH_BYTES_MAX = 16 * 1024 * 1024

_SQL = sql.load("services.runtime.events", "queries.sql")
_FETCH = numbered(_SQL["fetch"])

Row = dict[str, Any]


class Delivery(NamedTuple):
    """An event on its way to a consumer: the columns of statement `fetch`, in their order.

    Attributes:
        position: its place in the feed, and so in its lane.
        generation: 0, or the number of the replay that brought it again.
        attempts: failed tries so far.
        held: events of the lane wait for a next try, or for the replay of a dead letter.
        message_name: the payload's message; empty for the JSON of an outside producer.
    """

    position: int
    generation: int
    attempts: int
    tenant_id: str
    key: str
    event_id: str
    recorded_at: datetime
    held: bool
    subject: str
    schema_version: int
    message_name: str
    payload: bytes
    correlation_id: str
    causation_id: str
    traceparent: str
    created_at: datetime

    @property
    def ordered_by(self) -> tuple[str, str]:
        """What its order is kept for."""
        return self.tenant_id, self.key

    @property
    def place(self) -> dict[str, object]:
        """The parameters that name it within its lane."""
        return {"position": self.position, "generation": self.generation}


def statement(name: str) -> str:
    """Return a named statement of `queries.sql`."""
    return _SQL[name]


async def rows(session: Session, name: str, **parameters: object) -> list[Row]:
    """Run a named statement and return its rows."""
    return (await _run(session, name, parameters)).mappings()


async def row(session: Session, name: str, **parameters: object) -> Row | None:
    """Run a named statement and return its first row, or None."""
    found = await rows(session, name, **parameters)
    return found[0] if found else None


async def changed(session: Session, name: str, **parameters: object) -> int:
    """Run a named statement and return how many rows it wrote."""
    return (await _run(session, name, parameters)).rowcount


async def _run(session: Session, name: str, parameters: Mapping[str, object]) -> Rows:
    async with asyncio.timeout(_limit_s(session)):
        (answer,) = await session.run(call(name, parameters))
    return answer


def call(name: str, parameters: Mapping[str, object]) -> Call:
    """Return a named statement with its values."""
    return Call(numbered(_SQL[name]), parameters)


def int_array(numbers: Iterable[int]) -> str:
    """Return an array as Postgres reads it: psycopg takes ten times as long for hundreds of numbers."""
    return "{" + ",".join(map(str, numbers)) + "}"


async def fetch(
    session: Session, *, consumer: str, lane: int, low: int, limit: int
) -> list[Delivery]:
    """Return the next deliveries of a lane behind a position, with their events: `limit` of them, or fewer when
    they are large.
    """
    bound = {
        "consumer": consumer,
        "lane": lane,
        "low": low,
        "limit": limit,
        "bytes_max": FETCH_BYTES_MAX,
    }
    async with asyncio.timeout(_limit_s(session)):
        (answer,) = await session.run(Call(_FETCH, bound, binary=True))
    return [Delivery._make(found) for found in answer.tuples()]


def is_rest(fetched: Sequence[Delivery], limit: int) -> bool:
    """Return whether nothing lay behind what was fetched with a limit."""
    if len(fetched) >= limit:
        return False
    return sum(len(delivery.payload) for delivery in fetched) <= FETCH_BYTES_MAX


@asynccontextmanager
async def transaction(session: Session, limit_ms: int) -> AsyncIterator[None]:
    """A transaction that the server ends when it takes, or idles, too long."""
    async with pool.transaction(session):
        await rows(session, "limit_transaction", limit_ms=str(limit_ms))
        yield


class ControlSession(Session):
    """A dedicated session outside the pool.

    Attributes:
        limit_s: how long one may take.
    """

    limit_s: float | None = None


def _limit_s(session: Session) -> float | None:
    return session.limit_s if isinstance(session, ControlSession) else None


class Relay:
    """Opens sessions of the relay's role.

    Args:
        url: Postgres as the relay's role.
        lease_ms: how long a lane is held without renewal.
        workers: transactions that handle events at once.
        pooled: a connection pooler in transaction mode stands in between.
        conditions: of the process, for the loops that use it.
    """

    def __init__(
        self,
        url: str,
        *,
        lease_ms: int = LEASE_MS,
        workers: int = 4,
        pooled: bool = False,
        conditions: Conditions | None = None,
    ) -> None:
        self._url = url
        self.conditions = conditions or Conditions()
        self._arguments = connect_arguments("tollmesh-relay", pooled=pooled)
        self._pooled = pooled
        self.lease_ms = lease_ms
        self.transaction_ms = int(lease_ms * TRANSACTION_SHARE)
        self.workers = workers
        # Whose transaction failed opens another one to put the event off.
        self.pool = pool.Pool(url, size=workers, arguments=self._arguments, pooled=pooled)

    async def control(self, *, statement_ms: int | None = None) -> ControlSession:
        """Open a session that commits every statement by itself, for leases, reading and ticks.

        `statement_ms` is how long one may take; without it, as long as a transaction.
        """
        async with asyncio.timeout(10):
            session = await pool.connect(
                ControlSession, self._url, autocommit=True, **self._arguments
            )
        session.pooled = self._pooled
        session.limit_s = (statement_ms or self.transaction_ms) / 1000
        if not self._pooled:
            # A prepared plan that was made for an empty log must not stick when the log is full. Behind a pooler
            # nothing is prepared, so each plan is made for the tables as they are.
            try:
                await session.execute("SET enable_seqscan = off")
            except BaseException:
                await session.close()
                raise
        return session

    async def close(self) -> None:
        """Close the pooled sessions."""
        await self.pool.close()
