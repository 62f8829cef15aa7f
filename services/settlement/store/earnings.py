"""Statements of commissions: charges to take in, what is earned, and how parties stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import literal, select, tuple_

from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.money import Money
from services.runtime.work import Claim, Lag, claims, lag
from services.settlement.domain.checks import Expected
from services.settlement.domain.earnings import Earning, Standing, sums
from services.settlement.domain.listing import BalanceRow, EarningFilter, EarningPlace
from services.settlement.store import SQL
from services.settlement.tables import earning as table


def note_charge(work: UnitOfWork, charge_id: str) -> None:
    """Have a charge taken in, with the commit; one that is known stays as it is."""
    call = current()
    row = {
        "tenant_id": work.tenant_id,
        "charge_id": charge_id,
        "correlation_id": call.correlation_id,
        "causation_id": call.causation_id,
        "traceparent": call.traceparent,
        "now": work.now,
    }
    work.later(SQL["insert_intake"], row)


async def take_in(work: UnitOfWork, charge_id: str) -> bool:
    """Mark a charge as taken in; False when it was before."""
    key = {"tenant_id": work.tenant_id, "charge_id": charge_id, "now": work.now}
    return (await work.execute(SQL["take_in"], key)).first() is not None


async def claim_due(work: UnitOfWork, owner: str, lease_ms: int, limit: int) -> list[Claim]:
    """Lease charges of any tenant that are to be taken in and held by nobody."""
    return await claims(work, SQL["claim_intake"], owner=owner, lease_ms=lease_ms, batch=limit)


async def due_lag(database: Database) -> Lag:
    """Tell how many charges wait to be taken in."""
    return await lag(database, SQL["intake_lag"])


async def put_off(work: UnitOfWork, claim: Claim, due_at: datetime) -> None:
    """Give a charge back, due later; one that was taken in meanwhile, or is another's, stays as it is."""
    key = {"tenant_id": work.tenant_id, "item_id": claim.item_id, "epoch": claim.epoch}
    await work.execute(SQL["put_off_intake"], {**key, "due_at": due_at})


async def earn(work: UnitOfWork, earnings: Sequence[Earning]) -> dict[tuple[str, str], Standing]:
    """Add earnings to their balances; returns how parties stand then, by party and currency, and holds them there."""
    amounts = sums(earnings)
    parameters = {
        "tenant_id": work.tenant_id,
        "parties": [party for party, _, _ in amounts],
        "currency_codes": [currency for _, currency, _ in amounts],
        "dispute_ids": [dispute for _, _, dispute in amounts],
        "earned": list(amounts.values()),
        "now": work.now,
    }
    rows = await work.execute(SQL["earn"], parameters)
    return {(row.party, row.currency_code): _standing(row) for row in rows if not row.dispute_id}


def insert(work: UnitOfWork, charge_id: str, earnings: Sequence[Earning]) -> None:
    """Store the earnings of a charge, with the next statement."""
    row = {
        "tenant_id": work.tenant_id,
        "charge_id": charge_id,
        "line_nos": [each.line_no for each in earnings],
        "org_ids": [each.org_id for each in earnings],
        "skus": [each.sku for each in earnings],
        "parties": [each.party for each in earnings],
        "currency_codes": [each.amount.currency_code for each in earnings],
        "amounts": [each.amount.minor_units for each in earnings],
        "dispute_ids": [each.dispute_id for each in earnings],
        "earned_ats": [each.earned_at for each in earnings],
        "payout_ids": [each.payout_id for each in earnings],
        "now": work.now,
    }
    work.later(SQL["insert_earnings"], row)


async def lock_standing(work: UnitOfWork, party: str, currency_code: str) -> Standing:
    """Return how a party stands, and hold it there; one that never earned anything stands at nothing."""
    key = {"tenant_id": work.tenant_id, "party": party, "currency_code": currency_code}
    row = (await work.execute(SQL["lock_balance"], key)).first()
    return Standing(party, currency_code, 0, 0, 0) if row is None else _standing(row)


async def lock_owed(
    work: UnitOfWork, after: tuple[str, str], through_at: datetime, limit: int
) -> list[tuple[Standing, int]]:
    """Return the next parties that are owed something, held there, each with what it earned later than a moment.

    What of that was paid at once does not count.
    """
    asked = {
        "tenant_id": work.tenant_id,
        "after_party": after[0],
        "after_currency": after[1],
        "limit": limit,
    }
    keys = (await work.execute(SQL["lock_owed"], asked)).all()
    if not keys:
        return []
    named = {
        "tenant_id": work.tenant_id,
        "parties": [row.party for row in keys],
        "currency_codes": [row.currency_code for row in keys],
        "through_at": through_at,
    }
    rows = await work.execute(SQL["owed"], named)
    return [(_standing(row), row.later_minor) for row in rows]


def move(
    work: UnitOfWork,
    claimed: Mapping[tuple[str, str], int],
    paid: Mapping[tuple[str, str], int] | None = None,
) -> None:
    """Move amounts of parties, by party and currency, with the next statement; their balances are held by now."""
    keys = sorted(claimed.keys() | (paid or {}).keys())
    if not keys:
        return
    row = {
        "tenant_id": work.tenant_id,
        "parties": [party for party, _ in keys],
        "currency_codes": [currency for _, currency in keys],
        "claimed": [claimed.get(key, 0) for key in keys],
        "paid": [(paid or {}).get(key, 0) for key in keys],
        "now": work.now,
    }
    work.later(SQL["move"], row)


async def list_earnings(
    work: UnitOfWork, wanted: EarningFilter, after: EarningPlace | None, limit: int
) -> list[Earning]:
    """List earnings behind `after`, the latest first."""
    place = tuple_(table.c.earned_at, table.c.charge_id, table.c.line_no)
    query = (
        select(table)
        .where(table.c.tenant_id == work.tenant_id)
        .order_by(table.c.earned_at.desc(), table.c.charge_id.desc(), table.c.line_no.desc())
        .limit(limit)
    )
    if wanted.party:
        query = query.where(table.c.party == wanted.party)
    if wanted.charge_id:
        query = query.where(table.c.charge_id == wanted.charge_id)
    if wanted.dispute_id:
        # Said twice: the index is of those that are held.
        query = query.where(table.c.dispute_id == wanted.dispute_id, table.c.dispute_id != "")
    if wanted.start_at is not None:
        query = query.where(table.c.earned_at >= wanted.start_at)
    if wanted.end_at is not None:
        query = query.where(table.c.earned_at < wanted.end_at)
    if after is not None:
        found = tuple_(literal(after.earned_at), literal(after.charge_id), literal(after.line_no))
        query = query.where(place < found)
    return [_earning(row) for row in await work.execute(query)]


async def list_balances(
    work: UnitOfWork, party: str, after: tuple[str, str], limit: int
) -> list[BalanceRow]:
    """List how parties stand behind a party and currency, by party and currency."""
    asked = {
        "tenant_id": work.tenant_id,
        "party": party,
        "after_party": after[0],
        "after_currency": after[1],
        "limit": limit,
    }
    return [
        BalanceRow(
            row.party,
            row.currency_code,
            row.earned_minor,
            row.paid_minor,
            row.claimed_minor,
            row.held_minor,
        )
        for row in await work.execute(SQL["balances"], asked)
    ]


async def expected(work: UnitOfWork, after: tuple[str, str, str], limit: int) -> list[Expected]:
    """Return what accounts of the ledger should hold, behind a party, currency and dispute."""
    asked = {
        "tenant_id": work.tenant_id,
        "after_party": after[0],
        "after_currency": after[1],
        "after_dispute": after[2],
        "limit": limit,
    }
    return [
        Expected(row.party, row.dispute_id, row.currency_code, row.expected_minor, row.posting)
        for row in await work.execute(SQL["expected"], asked)
    ]


async def on_their_way(work: UnitOfWork) -> bool:
    """True while charges are to be taken in; which parties earn on them is not known before."""
    key = {"tenant_id": work.tenant_id}
    return bool((await work.execute(SQL["on_their_way"], key)).scalar_one())


def _standing(row: Any) -> Standing:
    return Standing(
        row.party, row.currency_code, row.earned_minor, row.claimed_minor, row.paid_minor
    )


def _earning(row: Any) -> Earning:
    return Earning(
        charge_id=row.charge_id,
        line_no=row.line_no,
        org_id=row.org_id,
        sku=row.sku,
        party=row.party,
        amount=Money(row.currency_code, row.amount_minor),
        dispute_id=row.dispute_id,
        earned_at=row.earned_at.astimezone(UTC),
        payout_id=row.payout_id,
    )
