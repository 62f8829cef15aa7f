"""Resumes charges that their callers left half-way: money must not stay half-posted when a client never returns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.billing import store
from services.billing.app.charges import Charges
from services.runtime.database import Database
from services.runtime.telemetry import Telemetry
from services.runtime.work import Claim, Lag, Worker, backoff

# Longer than one charge may take to be resumed.
LEASE_MS = 60_000
CALL_SECONDS = 30.0
POLL_SECONDS = 5.0
PLACES = 8
BATCH = 16
# A charge that cannot be posted is tried again after a minute, and after an hour at last.
AGAIN_FIRST = timedelta(minutes=1)
AGAIN_MAX = timedelta(hours=1)
PRINCIPAL = "mesh:billing.sweep"


class Resumable:
    """The charges that nobody has finished; any number of processes may look for them."""

    def __init__(self, database: Database, charges: Charges) -> None:
        self._database = database
        self._charges = charges

    async def claim(self, owner: str, limit: int) -> tuple[Sequence[Claim], bool]:
        """Lease charges whose callers have had their minute, of any tenant."""
        async with self._database.across_tenants("billing.claim_due") as work:
            claimed = await store.claim_due(work, owner, LEASE_MS, limit)
        return claimed, len(claimed) == limit

    async def serve(self, claim: Claim) -> None:
        """Finish a charge."""
        await self._charges.resume(claim.item_id)

    async def failed(self, claim: Claim, _error: Exception) -> None:
        """Try a charge again later: the next try is put off twice as long, so that the others have their turn."""
        async with self._database.unit_of_work("billing.put_off") as work:
            await store.put_off(
                work, claim, work.now + backoff(claim.tries, AGAIN_FIRST, AGAIN_MAX)
            )

    async def lag(self) -> Lag:
        """Tell how many charges wait."""
        return await store.due_lag(self._database)


def resuming(database: Database, charges: Charges, telemetry: Telemetry) -> Worker[Claim]:
    """Build what resumes them."""
    return Worker(
        "charges",
        Resumable(database, charges),
        database,
        claiming="billing sweep",
        serving="resuming of charges",
        principal_id=PRINCIPAL,
        telemetry=telemetry,
        serve_seconds=CALL_SECONDS,
        places=PLACES,
        batch=BATCH,
        poll_seconds=POLL_SECONDS,
        # A charge that is resumed is posted, for which there must be room.
        writes=True,
    )
