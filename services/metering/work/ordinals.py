"""Gives receipts their ordinals behind ingest, so that readings mostly find them given."""

from __future__ import annotations

from services.metering.app.ordinals import sequence
from services.metering.store import ordinals as store
from services.runtime.context import CallContext, acting
from services.runtime.database import Database
from services.runtime.ids import new_id
from services.runtime.loops import Loop

REST_SECONDS = 1.0
# Looked at in one statement.
TENANTS_AT_ONCE = 200
PRINCIPAL = "mesh:metering.ordinals"


class Sequencing:
    """Gives ordinals round after round; any number of processes may, each receipt gets one once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.loop = Loop(
            "ordinals of receipts",
            self.sequence_all,
            conditions=database.conditions,
            rest_seconds=REST_SECONDS,
            writes=True,
        )

    async def sequence_all(self) -> None:
        """Give ordinals to what is visible of every tenant."""
        after = ""
        failed: Exception | None = None
        while not self.loop.is_stopping():
            async with self._database.across_tenants("metering.find_unsequenced") as work:
                tenants = await store.unsequenced_tenants(work, after, TENANTS_AT_ONCE)
            for tenant_id in tenants:
                try:
                    await self.sequence(tenant_id)
                except Exception as error:
                    # Whatever it is, it must not hold up the tenants behind this one; the loop tells of it.
                    failed = failed or error
            if len(tenants) < TENANTS_AT_ONCE:
                break
            after = tenants[-1]
        if failed is not None:
            raise failed

    async def sequence(self, tenant_id: str) -> None:
        """Give ordinals to what is visible of a tenant."""
        run = new_id("run")
        with acting(CallContext(tenant_id, PRINCIPAL, frozenset(), run, run)):
            await sequence(self._database)

    async def start(self) -> None:
        """Begin."""
        self.loop.start()

    async def stop(self) -> None:
        """End."""
        await self.loop.stop()
