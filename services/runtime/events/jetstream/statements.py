"""The transport's own statements, run as those of the relay are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg.rows import dict_row

from services.runtime import pool, sql
from services.runtime.driver import driver_of
from services.runtime.events import relay
from services.runtime.events.relay import Relay, Row, Session

_SQL = sql.load("services.runtime.events.jetstream", "queries.sql")


class LeaseLost(Exception):
    """Another process holds the lane or the share; nothing more of this one counts."""


async def rows(session: Session, name: str, **parameters: object) -> list[Row]:
    """Run a named statement and return its rows."""
    async with asyncio.timeout(_limit_s(session)), session.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SQL[name], parameters or None)
        return await cursor.fetchall() if cursor.description else []


async def row(session: Session, name: str, **parameters: object) -> Row | None:
    """Run a named statement and return its first row, or None."""
    found = await rows(session, name, **parameters)
    return found[0] if found else None


async def changed(session: Session, name: str, **parameters: object) -> int:
    """Run a named statement and return how many rows it wrote."""
    async with asyncio.timeout(_limit_s(session)):
        return (await session.execute(_SQL[name], parameters or None)).rowcount


def _limit_s(session: Session) -> float | None:
    # In a transaction the server counts.
    return session.limit_s if isinstance(session, relay.ControlSession) else None


@asynccontextmanager
async def fenced(relay_: Relay, lease: dict[str, object]) -> AsyncIterator[Session]:
    """A transaction that ends with nothing when the lease is another's. Raises LeaseLost."""
    async with pool.begun(relay_.engine) as connection:
        driver = driver_of(connection)
        if await relay.row(driver, "fence", **lease, limit_ms=str(relay_.transaction_ms)) is None:
            raise LeaseLost
        yield driver


async def renew(session: Session, relay_: Relay, lease: dict[str, object]) -> None:
    """Hold a lane or share for another term. Raises LeaseLost."""
    if not await relay.changed(session, "renew", **lease, ttl_ms=relay_.lease_ms):
        raise LeaseLost
