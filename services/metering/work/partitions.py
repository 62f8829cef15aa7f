"""Makes the partitions of usage events of the months to come, so that no month begins without one."""

from __future__ import annotations

from services.metering.store import partitions as store
from services.runtime.database import Database
from services.runtime.loops import Loop

# This month and three more: a process may be away for long, and a lock may be held for long.
MONTHS = 4
REST_SECONDS = 6 * 3600.0


class Partitions:
    """Makes them from time to time; any number of processes may."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.loop = Loop(
            "partitions of usage",
            self.make,
            conditions=database.conditions,
            rest_seconds=REST_SECONDS,
            writes=True,
        )

    async def make(self) -> None:
        """Make those that are missing."""
        async with self._database.across_tenants("metering.make_months") as work:
            await store.make_months(work, MONTHS)

    async def start(self) -> None:
        """Begin."""
        self.loop.start()

    async def stop(self) -> None:
        """End."""
        await self.loop.stop()
