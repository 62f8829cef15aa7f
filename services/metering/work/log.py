"""Closes the log of receipts behind ingest: nobody who sends events waits for a hash."""

from __future__ import annotations

from services.metering.app.log import close
from services.metering.domain.log import RETRY_SECONDS
from services.metering.store import log as store
from services.runtime.context import CallContext, acting
from services.runtime.database import Database
from services.runtime.ids import new_id
from services.runtime.loops import Loop

# Half of what who waits for a receipt is told.
REST_SECONDS = RETRY_SECONDS / 2
# Looked at in one statement.
TENANTS_AT_ONCE = 200
# Of a tenant before the others have their turn.
CLOSINGS_AT_ONCE = 20
PRINCIPAL = "mesh:metering.log"


class Closing:
    """Closes logs round after round; any number of processes may, each receipt becomes a leaf once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.loop = Loop(
            "log of receipts",
            self.close_all,
            conditions=database.conditions,
            rest_seconds=REST_SECONDS,
            writes=True,
        )

    async def close_all(self) -> float | None:
        """Close what can be closed of every tenant; asks to go on at once where more is left."""
        after, more = "", False
        failed: Exception | None = None
        while not self.loop.is_stopping():
            async with self._database.across_tenants("metering.find_unlogged") as work:
                tenants = await store.unlogged_tenants(work, after, TENANTS_AT_ONCE)
            for tenant_id in tenants:
                try:
                    more |= await self.close(tenant_id)
                except Exception as error:
                    # Whatever it is, it must not hold up the tenants behind this one; the loop tells of it.
                    failed = failed or error
            if len(tenants) < TENANTS_AT_ONCE:
                break
            after = tenants[-1]
        if failed is not None:
            raise failed
        return 0 if more else None

    async def close(self, tenant_id: str) -> bool:
        """Close the log of a tenant; says whether there may be more."""
        run = new_id("run")
        with acting(CallContext(tenant_id, PRINCIPAL, frozenset(), run, run)):
            for _ in range(CLOSINGS_AT_ONCE):
                async with self._database.unit_of_work("metering.close_log") as work:
                    if not await close(work):
                        return False
        return True

    async def start(self) -> None:
        """Begin."""
        self.loop.start()

    async def stop(self) -> None:
        """End."""
        await self.loop.stop()
