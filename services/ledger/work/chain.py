"""Closes blocks of transfers behind those who post: nobody who posts waits for a hash."""

from __future__ import annotations

from services.ledger.app.chain import close_block
from services.ledger.domain.chain import BLOCK_TRANSFERS_MAX
from services.ledger.store import chain as store
from services.runtime.context import CallContext, acting
from services.runtime.database import Database
from services.runtime.ids import new_id
from services.runtime.loops import Loop

REST_SECONDS = 2.0
# Looked at in one statement.
TENANTS_AT_ONCE = 200
# Of a tenant before the others have their turn.
BLOCKS_AT_ONCE = 20
PRINCIPAL = "mesh:ledger.chain"


class Chaining:
    """Closes blocks round after round; any number of processes may, each block is closed once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.loop = Loop(
            "chain of transfers",
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
            async with self._database.across_tenants("ledger.find_unchained") as work:
                tenants = await store.unchained_tenants(work, after, TENANTS_AT_ONCE)
            for tenant_id, is_unchained in tenants:
                if not is_unchained:
                    continue
                try:
                    more |= await self.close(tenant_id)
                except Exception as error:
                    # Whatever it is, it must not hold up the tenants behind this one; the loop tells of it.
                    failed = failed or error
            if len(tenants) < TENANTS_AT_ONCE:
                break
            after = tenants[-1][0]
        if failed is not None:
            raise failed
        return 0 if more else None

    async def close(self, tenant_id: str) -> bool:
        """Close blocks of a tenant; says whether there may be more."""
        run = new_id("run")
        with acting(CallContext(tenant_id, PRINCIPAL, frozenset(), run, run)):
            for _ in range(BLOCKS_AT_ONCE):
                async with self._database.unit_of_work("ledger.close_block") as work:
                    block = await close_block(work)
                if block is None or block.transfer_count < BLOCK_TRANSFERS_MAX:
                    return False
        return True

    async def start(self) -> None:
        """Begin."""
        self.loop.start()

    async def stop(self) -> None:
        """End."""
        await self.loop.stop()
