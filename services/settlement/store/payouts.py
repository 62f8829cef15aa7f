"""Statements of payouts and of what the ledger is to make of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, literal, select, tuple_

from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.money import Money
from services.runtime.work import Claim, Lag, claims, lag
from services.settlement.domain.listing import PayoutFilter, Place
from services.settlement.domain.payouts import Leg, Payout, PayoutKind, PayoutStatus, Posting
from services.settlement.store import SQL
from services.settlement.tables import payout as table


def insert(work: UnitOfWork, payouts: Sequence[Payout]) -> None:
    """Store payouts, PENDING, and have them posted, with the next statement."""
    if not payouts:
        return
    row = {
        "tenant_id": work.tenant_id,
        "payout_ids": [each.payout_id for each in payouts],
        "parties": [each.party for each in payouts],
        "currency_codes": [each.amount.currency_code for each in payouts],
        "amounts": [each.amount.minor_units for each in payouts],
        "kinds": [int(each.kind) for each in payouts],
        "destinations": [each.destination for each in payouts],
        "charge_ids": [each.charge_id for each in payouts],
        "line_nos": [each.line_no for each in payouts],
        "sweep_ids": [each.sweep_id for each in payouts],
        "created_ats": [each.created_at for each in payouts],
    }
    work.later(SQL["insert_payouts"], row)
    book(work, [each.claim for each in payouts])


def book(work: UnitOfWork, postings: Sequence[Posting]) -> None:
    """Have the ledger make something of payouts, with the next statement."""
    call = current()
    row = {
        "tenant_id": work.tenant_id,
        "item_ids": [each.item_id for each in postings],
        "payout_ids": [each.payout_id for each in postings],
        "legs": [int(each.leg) for each in postings],
        "effective_ats": [each.effective_at for each in postings],
        "paid": [each.was_paid for each in postings],
        "correlation_id": call.correlation_id,
        "causation_id": call.causation_id,
        "traceparent": call.traceparent,
        "now": work.now,
    }
    work.later(SQL["insert_postings"], row)


async def lock(work: UnitOfWork, payout_id: str) -> Payout | None:
    """Return a payout, and let nobody else change it."""
    await work.execute(SQL["lock_payout"], {"tenant_id": work.tenant_id, "payout_id": payout_id})
    return await read(work, payout_id)


async def read(work: UnitOfWork, payout_id: str) -> Payout | None:
    """Read a payout with its postings."""
    query = select(table).where(table.c.tenant_id == work.tenant_id, table.c.payout_id == payout_id)
    found = await _whole(work, query)
    return found[0] if found else None


async def list_payouts(
    work: UnitOfWork, wanted: PayoutFilter, after: Place | None, limit: int
) -> list[Payout]:
    """List payouts behind `after`, the latest first."""
    query = (
        select(table)
        .where(table.c.tenant_id == work.tenant_id)
        .order_by(table.c.created_at.desc(), table.c.payout_id.desc())
        .limit(limit)
    )
    if wanted.party:
        query = query.where(table.c.party == wanted.party)
    if wanted.status is not None:
        query = query.where(table.c.status == int(wanted.status))
    # Said twice: the indexes are of those that have one.
    if wanted.sweep_id:
        query = query.where(table.c.sweep_id == wanted.sweep_id, table.c.sweep_id != "")
    if wanted.charge_id:
        query = query.where(table.c.charge_id == wanted.charge_id, table.c.charge_id != "")
    if after is not None:
        place = tuple_(table.c.created_at, table.c.payout_id)
        query = query.where(place < tuple_(literal(after.created_at), literal(after.item_id)))
    return await _whole(work, query)


async def claimed(work: UnitOfWork, payout_id: str) -> None:
    """Mark a payout as claimed."""
    key = {"tenant_id": work.tenant_id, "payout_id": payout_id, "now": work.now}
    await work.execute(SQL["claimed"], key)


async def paid(work: UnitOfWork, payout_id: str, reference: str, paid_at: datetime) -> None:
    """Mark a payout as paid."""
    row = {
        "tenant_id": work.tenant_id,
        "payout_id": payout_id,
        "payment_reference": reference,
        "paid_at": paid_at,
    }
    await work.execute(SQL["paid"], row)


async def returned(work: UnitOfWork, payout_id: str, return_code: str, at: datetime) -> None:
    """Mark a payout as returned."""
    row = {
        "tenant_id": work.tenant_id,
        "payout_id": payout_id,
        "return_code": return_code,
        "returned_at": at,
    }
    await work.execute(SQL["returned"], row)


async def settle(work: UnitOfWork, posting: Posting, posting_id: UUID) -> bool:
    """Store what the ledger made of a payout; False where somebody else has done so."""
    row = {
        "tenant_id": work.tenant_id,
        "item_id": posting.item_id,
        "posting_id": posting_id,
        "now": work.now,
    }
    return (await work.execute(SQL["settle_posting"], row)).first() is not None


async def claim_due(work: UnitOfWork, owner: str, lease_ms: int, limit: int) -> list[Claim]:
    """Lease what of any tenant is to be posted and held by nobody."""
    return await claims(work, SQL["claim_posting"], owner=owner, lease_ms=lease_ms, batch=limit)


async def due_lag(database: Database) -> Lag:
    """Tell how much waits to be posted."""
    return await lag(database, SQL["posting_lag"])


async def put_off(work: UnitOfWork, claim: Claim, due_at: datetime) -> None:
    """Give a posting back, due later; one that was made meanwhile, or is another's, stays as it is."""
    key = {"tenant_id": work.tenant_id, "item_id": claim.item_id, "epoch": claim.epoch}
    await work.execute(SQL["put_off_posting"], {**key, "due_at": due_at})


async def _whole(work: UnitOfWork, query: Select[Any]) -> list[Payout]:
    rows = (await work.execute(query)).all()
    if not rows:
        return []
    asked = {"tenant_id": work.tenant_id, "payout_ids": [row.payout_id for row in rows]}
    postings = defaultdict(list)
    for row in await work.execute(SQL["postings_of"], asked):
        postings[row.payout_id].append(_posting(row))
    return [_payout(row, tuple(postings[row.payout_id])) for row in rows]


def _posting(row: Any) -> Posting:
    return Posting(
        payout_id=row.payout_id,
        leg=Leg(row.leg),
        effective_at=row.effective_at.astimezone(UTC),
        was_paid=row.was_paid,
        posting_id=row.posting_id,
        posted_at=_utc(row.posted_at),
    )


def _payout(row: Any, postings: tuple[Posting, ...]) -> Payout:
    return Payout(
        payout_id=row.payout_id,
        party=row.party,
        amount=Money(row.currency_code, row.amount_minor),
        kind=PayoutKind(row.kind),
        status=PayoutStatus(row.status),
        created_at=row.created_at.astimezone(UTC),
        destination=row.destination,
        charge_id=row.charge_id,
        line_no=row.line_no,
        sweep_id=row.sweep_id,
        claimed_at=_utc(row.claimed_at),
        paid_at=_utc(row.paid_at),
        returned_at=_utc(row.returned_at),
        payment_reference=row.payment_reference,
        return_code=row.return_code,
        postings=postings,
    )


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
