"""Ordinals are given behind ingest, by whoever needs a position first, or by the loop that runs anyway."""

from __future__ import annotations

from services.metering.domain.ordinals import Position
from services.metering.store import ordinals as store
from services.runtime.database import Database


async def sequence(database: Database) -> int:
    """Give the next ordinals to the receipts of the tenant that have none; returns the newest ordinal.

    All that was committed before the call has one then.
    """
    async with database.unit_of_work("metering.sequence") as work:
        return await store.sequence(work)


async def reached(database: Database, at_ordinal: int | None) -> int:
    """Return the ordinal of a reading: the one asked for, or one that has all that was committed before the call.

    Raises:
        UsageOrdinalAhead: nothing has the ordinal that is asked for.
    """
    async with database.read() as work:
        position = await store.position(work)
    if position.is_behind(at_ordinal):
        position = Position(await sequence(database), unsequenced=False)
    return position.checked(at_ordinal)
