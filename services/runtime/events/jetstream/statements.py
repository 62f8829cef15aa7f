"""The transport's own statements, run as those of the relay are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from services.runtime.events import relay
from services.runtime.events.relay import Relay, Row
from services.runtime.leases import LeaseLost, Term
from services.runtime.postgres import sql
from services.runtime.postgres.session import Call, Rows, Session
from services.runtime.postgres.statements import statement

_SQL = sql.load("services.runtime.events.jetstream", "queries.sql")


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
    # In a transaction the server counts.
    limit_s = session.limit_s if isinstance(session, relay.ControlSession) else None
    async with asyncio.timeout(limit_s):
        (answer,) = await session.run(Call(statement(_SQL[name]), parameters))
    return answer


@asynccontextmanager
async def fenced(relay_: Relay, lease: dict[str, object]) -> AsyncIterator[Session]:
    """A transaction that ends with nothing when the lease is another's. Raises LeaseLost."""
    async with relay_.pool.begun() as session:
        if await relay.row(session, "fence", **lease, limit_ms=str(relay_.transaction_ms)) is None:
            raise LeaseLost
        yield session


async def renew(session: Session, relay_: Relay, lease: dict[str, object]) -> Term:
    """Hold a lane or share for another term, and return that. Raises LeaseLost."""
    term = Term(relay_.lease_ms)
    if not await relay.changed(session, "renew", **lease, ttl_ms=relay_.lease_ms):
        raise LeaseLost
    return term
