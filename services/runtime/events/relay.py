"""Sessions of the relay's role, which sequences and dispatches.

Every session gives up by itself before its lease runs out: a process that hangs holds nothing for long.
"""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from services.runtime import sql
from services.runtime.database import CONNECT_ARGUMENTS, sqlalchemy_url

LEASE_MS = 10_000
# Of the lease: what a transaction may take in all. The rest is for the way to it and back.
_TRANSACTION_SHARE = 0.6

_SQL = sql.load("services.runtime.events", "queries.sql")

Row = dict[str, Any]
Session = psycopg.AsyncConnection[Any]


def statement(name: str) -> str:
    """Return a named statement of `queries.sql`."""
    return _SQL[name]


async def rows(session: Session, name: str, **parameters: object) -> list[Row]:
    """Run a named statement and return its rows."""
    async with session.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement(name), parameters or None)
        return await cursor.fetchall() if cursor.description else []


async def row(session: Session, name: str, **parameters: object) -> Row | None:
    """Run a named statement and return its first row, or None."""
    found = await rows(session, name, **parameters)
    return found[0] if found else None


async def changed(session: Session, name: str, **parameters: object) -> int:
    """Run a named statement and return how many rows it wrote."""
    return (await session.execute(statement(name), parameters or None)).rowcount


class Relay:
    """Opens sessions of the relay's role.

    Args:
        url: Postgres as the relay's role.
        lease_ms: how long a lane is held without renewal.
        workers: transactions that handle events at once.
    """

    def __init__(self, url: str, *, lease_ms: int = LEASE_MS, workers: int = 4) -> None:
        self._url = url
        self.lease_ms = lease_ms
        self.transaction_ms = int(lease_ms * _TRANSACTION_SHARE)
        self.workers = workers
        self.engine: AsyncEngine = create_async_engine(
            sqlalchemy_url(url),
            pool_size=workers,
            # Whose transaction failed opens another one to put the event off.
            max_overflow=workers,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={"application_name": "tollmesh-relay", **CONNECT_ARGUMENTS},
        )
        event.listen(self.engine.sync_engine, "connect", self._limit)

    async def control(self, *, statement_ms: int | None = None) -> Session:
        """Open a session that commits every statement by itself, for leases, reading and ticks.

        `statement_ms` is how long one may take; without it, as long as a transaction.
        """
        async with asyncio.timeout(10):
            session = await psycopg.AsyncConnection.connect(
                self._url,
                autocommit=True,
                application_name="tollmesh-relay",
                **CONNECT_ARGUMENTS,
            )
        try:
            for setting, value in self._limits(statement_ms).items():
                await session.execute("SELECT set_config(%s, %s, false)", (setting, value))
            # A plan that was made for an empty log must not stick when the log is full.
            await session.execute("SET enable_seqscan = off")
        except BaseException:
            await session.close()
            raise
        return session

    async def close(self) -> None:
        """Close the pooled sessions."""
        await self.engine.dispose()

    def _limits(self, statement_ms: int | None = None) -> dict[str, str]:
        statement = str(statement_ms or self.transaction_ms)
        return {
            "statement_timeout": statement,
            "lock_timeout": statement,
            "idle_in_transaction_session_timeout": str(self.transaction_ms),
        }

    def _limit(self, connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for setting, value in self._limits().items():
            cursor.execute("SELECT set_config(%s, %s, false)", (setting, value))
        cursor.close()
        connection.commit()
