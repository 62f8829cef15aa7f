"""What falls due of credits: entries to be brought into the books, and grants whose time is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from services.orders.app.credits import Credits
from services.orders.store import credits as store
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
_WHAT = "work on credits"


@dataclass(frozen=True, slots=True)
class Due:
    """What is due of credits, by the beginning of its id; any number of processes may look for it."""

    database: Database
    serves: dict[str, Callable[[str], Awaitable[None]]]

    async def claim(self, owner: str, limit: int) -> tuple[Sequence[Claim], bool]:
        """Lease what is due, of any tenant."""
        async with self.database.across_tenants("orders.credits.claim_due") as work:
            claimed = await store.claim_due(work, owner, LEASE_MS, limit)
        return claimed, len(claimed) == limit

    async def serve(self, claim: Claim) -> None:
        """Do it."""
        prefix, _, _ = claim.item_id.partition("_")
        await self.serves[prefix](claim.item_id)

    async def failed(self, claim: Claim, error: Exception) -> None:
        """Try it again later, each time twice as long, and tell of it every eight tries."""
        async with self.database.unit_of_work("orders.credits.put_off") as work:
            again_at = work.now + backoff(claim.tries, AGAIN_FIRST, AGAIN_MAX)
            await store.put_off(work, claim, again_at)
            if claim.tries % TRIES_TOLD == 0:
                why = error.message if isinstance(error, DomainError) else type(error).__name__
                message = f"{_WHAT}, {claim.item_id}, failed {claim.tries} times: {why}"
                work.violation("orders/credits-stuck", "HIGH", message, subject_id=claim.item_id)

    async def lag(self) -> Lag:
        """Tell how much is due."""
        return await store.due_lag(self.database)


def credit_work(database: Database, credits: Credits, telemetry: Telemetry) -> Worker[Claim]:
    """Build what does what is due of credits."""
    return Worker(
        "order-credits",
        Due(database, {"cre": credits.post, "gra": credits.end}),
        database,
        claiming="sweep of order-credits",
        serving=_WHAT,
        principal_id="mesh:orders.order-credits",
        telemetry=telemetry,
        serve_seconds=CALL_SECONDS,
        places=PLACES,
        batch=BATCH,
        poll_seconds=POLL_SECONDS,
        # What is stored needs room.
        writes=True,
    )
