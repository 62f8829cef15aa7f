"""What falls due: payments to be brought into the books. They are tried for as long as it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from services.orders.app.payments import Payments
from services.orders.store import actions as store
from services.runtime.database import Database
from services.runtime.errors import DomainError
from services.runtime.telemetry import Telemetry
from services.runtime.work import Claim, Lag, Worker, backoff

LEASE_MS = 60_000
CALL_SECONDS = 30.0
POLL_SECONDS = 0.5
PLACES = 8
BATCH = 32
AGAIN_FIRST = timedelta(seconds=1)
AGAIN_MAX = timedelta(minutes=5)
# So many tries take some four minutes at first: longer than another service takes to be started again.
TRIES_TOLD = 8
_WHAT = "posting of a payment of an order"


@dataclass(frozen=True, slots=True)
class Posting:
    """Payments that are not in the books yet; any number of processes may look for them."""

    database: Database
    payments: Payments

    async def claim(self, owner: str, limit: int) -> tuple[Sequence[Claim], bool]:
        """Lease what is due, of any tenant."""
        async with self.database.across_tenants("orders.claim_due") as work:
            claimed = await store.claim_due(work, owner, LEASE_MS, limit)
        return claimed, len(claimed) == limit

    async def serve(self, claim: Claim) -> None:
        """Post it."""
        await self.payments.post(claim.item_id)

    async def failed(self, claim: Claim, error: Exception) -> None:
        """Try it again later, each time twice as long, and tell of it every eight tries."""
        async with self.database.unit_of_work("orders.put_off") as work:
            again_at = work.now + backoff(claim.tries, AGAIN_FIRST, AGAIN_MAX)
            await store.put_off(work, claim, again_at)
            if claim.tries % TRIES_TOLD == 0:
                why = error.message if isinstance(error, DomainError) else type(error).__name__
                message = f"{_WHAT} {claim.item_id} failed {claim.tries} times: {why}"
                work.violation("orders/posting-stuck", "HIGH", message, subject_id=claim.item_id)

    async def lag(self) -> Lag:
        """Tell how much is due."""
        return await store.due_lag(self.database)


def posting(database: Database, payments: Payments, telemetry: Telemetry) -> Worker[Claim]:
    """Build what brings payments into the books."""
    return Worker(
        "order-payments",
        Posting(database, payments),
        database,
        claiming="sweep of order-payments",
        serving=_WHAT,
        principal_id="mesh:orders.order-payments",
        telemetry=telemetry,
        serve_seconds=CALL_SECONDS,
        places=PLACES,
        batch=BATCH,
        poll_seconds=POLL_SECONDS,
        # What is stored needs room.
        writes=True,
    )
