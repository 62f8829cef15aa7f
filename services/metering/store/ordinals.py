"""Ordinals of receipts: which became visible when."""

from __future__ import annotations

from services.metering.domain.ordinals import Position
from services.metering.store.rows import rows_of
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.metering", "queries/ordinals.sql")


async def position(work: UnitOfWork) -> Position:
    """Return where the tenant's receipts stand, in the snapshot of the transaction."""
    (row,) = await rows_of(work, _SQL, "position")
    return Position(row.last_ordinal, row.unsequenced)


async def sequence(work: UnitOfWork) -> int:
    """Give the next ordinals to all receipts that are visible and have none; returns the newest ordinal.

    Whoever does the same waits until the commit.
    """
    (held,) = await rows_of(work, _SQL, "lock_counter")
    (row,) = await rows_of(work, _SQL, "sequence", last_ordinal=held.last_ordinal)
    return int(row.last_ordinal)


async def ordinal_of_snapshot(work: UnitOfWork, snapshot: str) -> int:
    """Return the ordinal up to which a snapshot from before ordinals has everything; all are sequenced."""
    (row,) = await rows_of(work, _SQL, "ordinal_of_snapshot", snapshot=snapshot)
    return int(row.ordinal)


async def unsequenced_tenants(work: UnitOfWork, after: str, limit: int) -> list[str]:
    """Return the tenants behind one that have receipts without an ordinal; across tenants."""
    found = await work.execute(_SQL["unsequenced"], {"after": after, "tenants": limit})
    return [row.tenant_id for row in found]
