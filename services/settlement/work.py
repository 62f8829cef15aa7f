"""What falls due: charges to take in, postings to make, sweeps to run. All of it is tried for as long as it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import DomainError
from services.runtime.telemetry import Telemetry
from services.runtime.work import Claim, Lag, Worker, backoff
from services.settlement.app.commissions import Commissions
from services.settlement.app.payouts import Payouts
from services.settlement.app.sweeps import Sweeps
from services.settlement.store import earnings, payouts, sweeps

LEASE_MS = 60_000
CALL_SECONDS = 30.0
POLL_SECONDS = 0.5
# Sweeps are rare, and the next look is soon enough.
SWEEP_POLL_SECONDS = 5.0
PLACES = 8
BATCH = 32
AGAIN_FIRST = timedelta(seconds=1)
AGAIN_MAX = timedelta(minutes=5)
# So many tries take some four minutes at first: longer than another service takes to be started again.
TRIES_TOLD = 8


@dataclass(frozen=True, slots=True)
class Due:
    """One kind of work that falls due; any number of processes may look for it.

    Attributes:
        name: of its queue, and of its units of work.
        contract_id: that is broken when it fails for long.
        what: it is, in words.
        claim_due: leases what of any tenant is due.
        put_off: gives one back, due later.
        due_lag: tells how much is due.
        serve_one: does one, by its id.
    """

    name: str
    contract_id: str
    what: str
    database: Database
    claim_due: Callable[[UnitOfWork, str, int, int], Awaitable[list[Claim]]]
    put_off: Callable[[UnitOfWork, Claim, datetime], Awaitable[None]]
    due_lag: Callable[[Database], Awaitable[Lag]]
    serve_one: Callable[[str], Awaitable[None]]

    async def claim(self, owner: str, limit: int) -> tuple[Sequence[Claim], bool]:
        """Lease what is due, of any tenant."""
        async with self.database.across_tenants("settlement.claim_due") as work:
            claimed = await self.claim_due(work, owner, LEASE_MS, limit)
        return claimed, len(claimed) == limit

    async def serve(self, claim: Claim) -> None:
        """Do it."""
        await self.serve_one(claim.item_id)

    async def failed(self, claim: Claim, error: Exception) -> None:
        """Try it again later, each time twice as long, and tell of it every eight tries."""
        async with self.database.unit_of_work("settlement.put_off") as work:
            again_at = work.now + backoff(claim.tries, AGAIN_FIRST, AGAIN_MAX)
            await self.put_off(work, claim, again_at)
            if claim.tries % TRIES_TOLD == 0:
                why = error.message if isinstance(error, DomainError) else type(error).__name__
                message = f"{self.what} {claim.item_id} failed {claim.tries} times: {why}"
                work.violation(self.contract_id, "HIGH", message, subject_id=claim.item_id)

    async def lag(self) -> Lag:
        """Tell how much is due."""
        return await self.due_lag(self.database)


def taking_in(database: Database, commissions: Commissions, telemetry: Telemetry) -> Worker[Claim]:
    """Build what takes charges in."""
    due = Due(
        "commissions",
        "settlement/charge-not-taken-in",
        "taking in charge",
        database,
        earnings.claim_due,
        earnings.put_off,
        earnings.due_lag,
        commissions.take_in,
    )
    return _worker(due, telemetry, poll_seconds=POLL_SECONDS)


def posting(database: Database, of: Payouts, telemetry: Telemetry) -> Worker[Claim]:
    """Build what brings payouts into the books."""
    due = Due(
        "payouts",
        "settlement/payout-stuck",
        "posting of payout",
        database,
        payouts.claim_due,
        payouts.put_off,
        payouts.due_lag,
        of.post,
    )
    return _worker(due, telemetry, poll_seconds=POLL_SECONDS)


def sweeping(database: Database, of: Sweeps, telemetry: Telemetry) -> Worker[Claim]:
    """Build what runs sweeps that are due, and those that were left half-way."""
    due = Due(
        "commission-sweeps",
        "settlement/sweep-stuck",
        "sweep",
        database,
        sweeps.claim_due,
        sweeps.put_off,
        sweeps.due_lag,
        of.run,
    )
    return _worker(due, telemetry, poll_seconds=SWEEP_POLL_SECONDS, serve_seconds=None)


def _worker(
    due: Due,
    telemetry: Telemetry,
    *,
    poll_seconds: float,
    serve_seconds: float | None = CALL_SECONDS,
) -> Worker[Claim]:
    return Worker(
        due.name,
        due,
        due.database,
        claiming=f"sweep of {due.name}",
        serving=due.what,
        principal_id=f"mesh:settlement.{due.name}",
        telemetry=telemetry,
        serve_seconds=serve_seconds,
        places=PLACES,
        batch=BATCH,
        poll_seconds=poll_seconds,
        # What is stored needs room.
        writes=True,
    )
