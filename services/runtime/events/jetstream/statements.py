"""The transport's own statements, run as those of the relay are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.runtime.events import relay
from services.runtime.events.relay import Relay
from services.runtime.leases import LeaseLost, Term
from services.runtime.postgres import sql
from services.runtime.postgres.session import Session

_SQL = sql.load("services.runtime.events.jetstream", "queries.sql")


rows, row, changed = _SQL.rows, _SQL.row, _SQL.changed


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
