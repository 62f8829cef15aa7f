"""Posts scheduled transfers that are due."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.ledger.app.scheduled import post_due
from services.ledger.store import scheduled as store
from services.runtime.commands import Commands
from services.runtime.database import Database
from services.runtime.telemetry import Telemetry
from services.runtime.work import Claim, Lag, Worker

LEASE_MS = 30_000
CALL_SECONDS = 10.0
POLL_SECONDS = 1.0
PLACES = 8
BATCH = 64
PRINCIPAL = "mesh:ledger.scheduled"


class DueTransfers:
    """The chains that are due; any number of processes may look for them."""

    def __init__(self, database: Database, commands: Commands) -> None:
        self._database = database
        self._commands = commands

    async def claim(self, owner: str, limit: int) -> tuple[Sequence[Claim], bool]:
        """Lease chains that are due, of any tenant."""
        async with self._database.across_tenants("ledger.claim_scheduled") as work:
            claimed = await store.claim_scheduled(work, owner, LEASE_MS, limit)
        return claimed, len(claimed) == limit

    async def serve(self, claim: Claim) -> None:
        """Post a chain. One that was posted or cancelled meanwhile is left alone, whoever has the lease."""
        await self._commands.apply("ledger.post_scheduled", post_due, UUID(claim.item_id))

    async def failed(self, _claim: Claim, _error: Exception) -> None:
        """Leave it: it is tried again when the lease has run out."""

    async def lag(self) -> Lag:
        """Tell how many chains wait for it."""
        return await store.scheduled_lag(self._database)


def posting_due(database: Database, commands: Commands, telemetry: Telemetry) -> Worker[Claim]:
    """Build what posts them."""
    return Worker(
        "scheduled",
        DueTransfers(database, commands),
        database,
        claiming="scheduled transfers that are due",
        serving="scheduled transfers",
        principal_id=PRINCIPAL,
        telemetry=telemetry,
        serve_seconds=CALL_SECONDS,
        places=PLACES,
        batch=BATCH,
        poll_seconds=POLL_SECONDS,
        writes=True,
    )
