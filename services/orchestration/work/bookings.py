"""Posts to the books what processors did, as soon as it is known, and again until it is there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.orchestration.app.bookings import Bookings
from services.orchestration.store import bookings as store
from services.runtime.database import Database
from services.runtime.errors import DomainError
from services.runtime.telemetry import Telemetry
from services.runtime.work import Claim, Lag, Worker, backoff

LEASE_MS = 30_000
CALL_SECONDS = 20.0
POLL_SECONDS = 0.5
PLACES = 8
BATCH = 32
# What cannot be booked is tried again after a second, and every five minutes at last, for as long as it takes.
AGAIN_FIRST = timedelta(seconds=1)
AGAIN_MAX = timedelta(minutes=5)
# So many tries take some four minutes at first: longer than a ledger takes to be started again.
TRIES_TOLD = 8
PRINCIPAL = "mesh:orchestration.bookings"
BOOKING_STUCK = "orchestration/booking-stuck"


class DueBookings:
    """What is to be booked; any number of processes may look for it."""

    def __init__(self, database: Database, bookings: Bookings) -> None:
        self._database = database
        self._bookings = bookings

    async def claim(self, owner: str, limit: int) -> tuple[Sequence[Claim], bool]:
        """Lease what is to be booked, of any tenant."""
        async with self._database.across_tenants("orchestration.booking.claim") as work:
            claimed = await store.claim_due(work, owner, LEASE_MS, limit)
        return claimed, len(claimed) == limit

    async def serve(self, claim: Claim) -> None:
        """Bring it into the books."""
        await self._bookings.post(claim)

    async def failed(self, claim: Claim, error: Exception) -> None:
        """Try it again later, each time twice as long, and tell of it every eight tries."""
        async with self._database.unit_of_work("orchestration.booking.put_off") as work:
            again_at = work.now + backoff(claim.tries, AGAIN_FIRST, AGAIN_MAX)
            await store.put_off(work, claim, again_at)
            if claim.tries % TRIES_TOLD == 0:
                why = error.message if isinstance(error, DomainError) else type(error).__name__
                message = f"{claim.item_id} is not in the books after {claim.tries} tries: {why}"
                work.violation(BOOKING_STUCK, "HIGH", message, subject_id=claim.item_id)

    async def lag(self) -> Lag:
        """Tell how much waits to be booked."""
        return await store.due_lag(self._database)


def booking(database: Database, bookings: Bookings, telemetry: Telemetry) -> Worker[Claim]:
    """Build what books it."""
    return Worker(
        "bookings",
        DueBookings(database, bookings),
        database,
        claiming="sweep of bookings",
        serving="booking of payments",
        principal_id=PRINCIPAL,
        telemetry=telemetry,
        serve_seconds=CALL_SECONDS,
        places=PLACES,
        batch=BATCH,
        poll_seconds=POLL_SECONDS,
        # What is posted needs room.
        writes=True,
    )
