"""Every statement of bookings."""

from __future__ import annotations

from datetime import datetime

from services.orchestration.domain.booking import Booked, Booking, Comparison
from services.orchestration.domain.payment import PaymentStatus
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.leases import LeaseLost
from services.runtime.postgres import sql
from services.runtime.work import Claim, Lag, claims, lag

_SQL = sql.load("services.orchestration", "queries.sql")


def insert(work: UnitOfWork, payment_id: str, attempt_id: str, *, earlier: bool) -> None:
    """Store what is to be booked, due at once, with the commit."""
    call = current()
    row = {
        "tenant_id": work.tenant_id,
        "attempt_id": attempt_id,
        "payment_id": payment_id,
        "earlier": earlier,
        "correlation_id": call.correlation_id,
        "causation_id": call.causation_id,
        "traceparent": call.traceparent,
        "now": work.now,
    }
    work.later(_SQL["insert_booking"], row)


async def payment_of(work: UnitOfWork, attempt_id: str) -> str:
    """Return the payment of what is to be booked."""
    key = {"tenant_id": work.tenant_id, "attempt_id": attempt_id}
    return str((await work.execute(_SQL["payment_of_booking"], key)).scalar_one())


async def of_payment(work: UnitOfWork, payment_id: str) -> list[Booking]:
    """Return what is booked, or is to be, of a payment."""
    key = {"tenant_id": work.tenant_id, "payment_id": payment_id}
    return [
        Booking(
            row.attempt_id,
            row.earlier,
            Booked(row.booked_minor, row.posting_id, row.transfer_id) if row.booked_at else None,
        )
        for row in await work.execute(_SQL["bookings_of_payment"], key)
    ]


async def lock_payment(work: UnitOfWork, payment_id: str) -> None:
    """Wait until nobody else changes the payment, or books something of it."""
    key = {"tenant_id": work.tenant_id, "payment_id": payment_id}
    await work.execute(_SQL["lock_payment"], key)


async def settle(work: UnitOfWork, attempt_id: str, booked: Booked) -> bool:
    """Store that an attempt is in the books; False where somebody else has done so."""
    row = {
        "tenant_id": work.tenant_id,
        "attempt_id": attempt_id,
        "posting_id": booked.posting_id,
        "transfer_id": booked.transfer_id,
        "booked_minor": booked.amount_minor,
        "now": work.now,
    }
    return (await work.execute(_SQL["settle_booking"], row)).first() is not None


async def compare(work: UnitOfWork, payment_id: str) -> Comparison:
    """Return what was kept of a payment beside what is booked of it."""
    key = {"tenant_id": work.tenant_id, "payment_id": payment_id}
    row = (await work.execute(_SQL["compare_payment"], key)).one()
    return Comparison(PaymentStatus(row.status), row.kept_minor, row.booked_minor, row.waiting)


async def claim_due(work: UnitOfWork, owner: str, lease_ms: int, limit: int) -> list[Claim]:
    """Lease what is to be booked, of any tenant, and which nobody holds."""
    return await claims(work, _SQL["claim_booking"], owner=owner, lease_ms=lease_ms, batch=limit)


async def put_off(work: UnitOfWork, claim: Claim, due_at: datetime) -> None:
    """Hand back what could not be booked. Raises LeaseLost when it is another's, or booked, by now."""
    row = {
        "tenant_id": work.tenant_id,
        "attempt_id": claim.item_id,
        "epoch": claim.epoch,
        "due_at": due_at,
    }
    if (await work.execute(_SQL["put_off_booking"], row)).first() is None:
        raise LeaseLost(claim.item_id)


async def due_lag(database: Database) -> Lag:
    """Tell how much waits to be booked and is held by nobody."""
    return await lag(database, _SQL["booking_lag"])
