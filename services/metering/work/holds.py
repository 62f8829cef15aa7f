"""Ends holds whose time is over, so that what they keep is free again."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.metering.app.holds import Holds
from services.metering.store import holds as store
from services.runtime.database import Database
from services.runtime.telemetry import Telemetry
from services.runtime.work import Claim, Lag, Worker

LEASE_MS = 30_000
CALL_SECONDS = 10.0
POLL_SECONDS = 0.5
# Those of a tenant that are served at once share a transaction.
PLACES = 64
BATCH = 64
PRINCIPAL = "mesh:metering.holds"


class DueHolds:
    """The holds whose time is over; any number of processes may look for them."""

    def __init__(self, database: Database, holds: Holds) -> None:
        self._database = database
        self._holds = holds

    async def claim(self, owner: str, limit: int) -> tuple[Sequence[Claim], bool]:
        """Lease holds that are over, of any tenant."""
        async with self._database.across_tenants("metering.claim_due_holds") as work:
            claimed = await store.claim_due(work, owner, LEASE_MS, limit)
        return claimed, len(claimed) == limit

    async def serve(self, claim: Claim) -> None:
        """End a hold. One that has ended meanwhile is left alone, whoever has the lease."""
        await self._holds.expire(UUID(claim.item_id))

    async def failed(self, _claim: Claim, _error: Exception) -> None:
        """Leave it: it is tried again when the lease has run out."""

    async def lag(self) -> Lag:
        """Tell how many holds wait for it."""
        return await store.due_lag(self._database)


def expiring(database: Database, holds: Holds, telemetry: Telemetry) -> Worker[Claim]:
    """Build what ends them."""
    return Worker(
        "metering.holds",
        DueHolds(database, holds),
        database,
        claiming="holds of budgets that are over",
        serving="expiry of holds of budgets",
        principal_id=PRINCIPAL,
        telemetry=telemetry,
        serve_seconds=CALL_SECONDS,
        places=PLACES,
        batch=BATCH,
        poll_seconds=POLL_SECONDS,
        writes=True,
    )
