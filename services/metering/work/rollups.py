"""Rolls usage up behind ingest: nobody who sends events waits for it, and no two batches of one hour for each other."""

from __future__ import annotations

from services.metering.app.rollups import keep_up
from services.metering.store import rollups as store
from services.runtime.context import CallContext, acting
from services.runtime.database import Database
from services.runtime.ids import new_id
from services.runtime.loops import Loop

# What a dashboard may be behind.
REST_SECONDS = 1.0
# Looked at in one statement.
TENANTS_AT_ONCE = 200
# Transactions of a tenant before the others have their turn.
ROUNDS_AT_ONCE = 4
PRINCIPAL = "mesh:metering.rollups"


class RollingUp:
    """Keeps rollups up round after round; any number of processes may, each receipt is added once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.loop = Loop(
            "rollups of usage",
            self.roll_all_up,
            conditions=database.conditions,
            rest_seconds=REST_SECONDS,
            writes=True,
        )

    async def roll_all_up(self) -> float | None:
        """Do some of what is left of every tenant; asks to go on at once where more is."""
        after, more = "", False
        failed: Exception | None = None
        while not self.loop.is_stopping():
            async with self._database.across_tenants("metering.find_unrolled") as work:
                tenants = await store.unrolled_tenants(work, after, TENANTS_AT_ONCE)
            for tenant_id in tenants:
                try:
                    more |= await self.roll_up(tenant_id)
                except Exception as error:
                    # Whatever it is, it must not hold up the tenants behind this one; the loop tells of it.
                    failed = failed or error
            if len(tenants) < TENANTS_AT_ONCE:
                break
            after = tenants[-1]
        if failed is not None:
            raise failed
        return 0 if more else None

    async def roll_up(self, tenant_id: str) -> bool:
        """Do some of what is left of a tenant; says whether there may be more."""
        run = new_id("run")
        with acting(CallContext(tenant_id, PRINCIPAL, frozenset(), run, run)):
            for _ in range(ROUNDS_AT_ONCE):
                async with self._database.unit_of_work("metering.roll_up") as work:
                    more = await keep_up(work)
                if not more:
                    return False
        return True

    async def start(self) -> None:
        """Begin."""
        self.loop.start()

    async def stop(self) -> None:
        """End."""
        await self.loop.stop()
