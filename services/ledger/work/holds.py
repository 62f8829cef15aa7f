"""Gives up holds whose time is over, so that they no longer count against the limits of their accounts."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.ledger.app.posting import expire_hold
from services.ledger.store import posting as store
from services.runtime.database import Database
from services.runtime.telemetry import Telemetry
from services.runtime.work import Claim, Lag, Worker

LEASE_MS = 30_000
CALL_SECONDS = 10.0
POLL_SECONDS = 1.0
PLACES = 8
BATCH = 64
PRINCIPAL = "mesh:ledger.holds"


class DueHolds:
    """The holds whose time is over; any number of processes may look for them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, owner: str, limit: int) -> tuple[Sequence[Claim], bool]:
        """Lease holds that are over, of any tenant."""
        async with self._database.across_tenants("ledger.claim_due") as work:
            claimed = await store.claim_due(work, owner, LEASE_MS, limit)
        return claimed, len(claimed) == limit

    async def serve(self, claim: Claim) -> None:
        """Give a hold up. One that was posted or voided meanwhile is left alone, whoever has the lease."""
        async with self._database.unit_of_work("ledger.expire_hold") as work:
            await expire_hold(work, UUID(claim.item_id))

    async def failed(self, _claim: Claim, _error: Exception) -> None:
        """Leave it: it is tried again when the lease has run out."""

    async def lag(self) -> Lag:
        """Tell how many holds wait for it."""
        return await store.due_lag(self._database)


def expiring(database: Database, telemetry: Telemetry) -> Worker[Claim]:
    """Build what gives them up."""
    return Worker(
        "holds",
        DueHolds(database),
        database,
        claiming="holds that are over",
        serving="expiry of holds",
        principal_id=PRINCIPAL,
        telemetry=telemetry,
        serve_seconds=CALL_SECONDS,
        places=PLACES,
        batch=BATCH,
        poll_seconds=POLL_SECONDS,
        writes=True,
    )
