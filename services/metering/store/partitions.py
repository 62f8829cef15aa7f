"""The partitions that usage events lie in."""

from __future__ import annotations

from datetime import UTC

from services.metering.domain.storage import Storage
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.metering", "queries/partitions.sql")


async def make_months(work: UnitOfWork, months: int) -> int:
    """Make the partitions that are missing of this month and those behind it; returns how many were made.

    Args:
        months: how many there shall be, this one included.
    """
    answer = await work.execute(_SQL["make_months"], {"months": months})
    return int(answer.scalar_one())


async def storage(work: UnitOfWork) -> Storage:
    """Return what the usage of all tenants takes."""
    row = (await work.execute(_SQL["storage"], {})).one()
    return Storage(
        row.partitions,
        row.seen_at.astimezone(UTC),
        row.until_at.astimezone(UTC),
        row.event_bytes,
        row.id_bytes,
        row.strays,
    )
