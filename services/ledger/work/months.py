"""Makes the partitions of the months to come, so that no month begins without one."""

from __future__ import annotations

from services.ledger.store import months as store
from services.runtime.database import Database
from services.runtime.loops import Loop

# A month is made three months before it begins: a process may be away for long, and a lock may be held for long.
MONTHS_AHEAD = 3
REST_SECONDS = 6 * 3600.0


class Months:
    """Makes them from time to time; any number of processes may."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.loop = Loop(
            "months of the books",
            self.make,
            conditions=database.conditions,
            rest_seconds=REST_SECONDS,
            writes=True,
        )

    async def make(self) -> None:
        """Make those that are missing, never the one that is: what is just being written to the rest would fail."""
        async with self._database.across_tenants("ledger.make_months") as work:
            await store.make_months(work, MONTHS_AHEAD)

    async def start(self) -> None:
        """Begin."""
        self.loop.start()

    async def stop(self) -> None:
        """End."""
        await self.loop.stop()
