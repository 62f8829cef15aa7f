"""Every statement of billing, from and to domain values. Nothing here decides."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from sqlalchemy import ARRAY, Select, Text, any_, literal, select, tuple_

from services.billing.domain.charges import (
    Charge,
    ChargeFilter,
    ChargeKind,
    ChargeStatus,
    Line,
    Place,
    RatedLine,
    Span,
)
from services.billing.domain.corrections import Billed
from services.billing.domain.frozen import AccountType, FrozenTransfer, LedgerAccount
from services.billing.domain.transfers import LedgerTransfer, Posting
from services.billing.messages import taxes
from services.billing.messages.proofs import proof_bytes
from services.billing.tables import charge as charge_table
from services.billing.tables import charge_line as line_table
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import Internal
from services.runtime.money import Money
from services.runtime.postgres import sql
from services.runtime.turns import in_slices
from services.runtime.work import Claim, Lag, claims, lag

# A charge has up to 2,000 lines; this many keep a page well below what clients take in one message.
PAGE_LINES_MAX = 10_000

_SQL = sql.load("services.billing", "queries.sql")


async def insert_charge(work: UnitOfWork, charge: Charge) -> bool:
    """Store a charge with its lines; False when one of its id, or one that overlaps it, is there."""
    row = await work.execute(_SQL["insert_charge"], _charge_parameters(work, charge))
    if row.first() is None:
        return False
    if charge.lines:
        work.later(_SQL["insert_lines"], _line_parameters(work, charge))
    return True


async def overlapping(work: UnitOfWork, org_id: str, period: Span) -> str | None:
    """Return the id of the earliest charge of an organisation that overlaps a period."""
    parameters = {
        "tenant_id": work.tenant_id,
        "org_id": org_id,
        "start_at": period.start_at,
        "end_at": period.end_at,
    }
    charge_id: str | None = (await work.execute(_SQL["overlapping"], parameters)).scalar()
    return charge_id


async def read_charge(work: UnitOfWork, charge_id: str) -> Charge | None:
    """Read a charge with its lines and transfers."""
    found = await _read(work, [charge_id])
    return found[0] if found else None


async def read_billed(work: UnitOfWork, base: Charge) -> Billed:
    """Read what was billed for the period of a charge: it, and its corrections in their order."""
    parameters = {"tenant_id": work.tenant_id, "charge_id": base.charge_id}
    charge_ids = [row.charge_id for row in await work.execute(_SQL["corrections_of"], parameters)]
    corrections = await _read(work, charge_ids) if charge_ids else []
    return Billed(base, tuple(sorted(corrections, key=lambda each: each.correction_no)))


async def is_as_billed(work: UnitOfWork, billed: Billed) -> bool:
    """Lock a charge against other corrections; False when it has been corrected since it was read."""
    parameters = {"tenant_id": work.tenant_id, "charge_id": billed.base.charge_id}
    await work.execute(_SQL["lock_billed"], parameters)
    rows = await work.execute(_SQL["corrections_of"], parameters)
    return [row.charge_id for row in rows] == [each.charge_id for each in billed.corrections]


async def mark_reversed(work: UnitOfWork, billed: Billed, reversal_id: str) -> bool:
    """Mark a charge and its corrections as taken back; False when one of them is not settled."""
    charge_ids = [each.charge_id for each in billed.charges]
    parameters = {
        "tenant_id": work.tenant_id,
        "charge_ids": charge_ids,
        "reversal_id": reversal_id,
    }
    rows = await work.execute(_SQL["mark_reversed"], parameters)
    return len(rows.all()) == len(charge_ids)


async def _read(work: UnitOfWork, charge_ids: Sequence[str]) -> list[Charge]:
    table = charge_table
    query = select(table).where(
        table.c.tenant_id == work.tenant_id,
        table.c.charge_id == any_(literal([*charge_ids], ARRAY(Text))),
    )
    return await _whole(work, [*(await work.execute(query))], with_proof=True)


async def list_charges(
    work: UnitOfWork, wanted: ChargeFilter, after: Place | None, limit: int
) -> tuple[list[Charge], bool]:
    """List charges behind `after`, the latest period first, with lines but without proofs.

    A page ends after `limit` charges or before PAGE_LINES_MAX lines, with one charge at least. Also says whether
    there are more.
    """
    rows = [*(await work.execute(charges_query(work.tenant_id, wanted, after, limit + 1)))]
    lines = accumulate(row.line_count for row in rows)
    fitting = sum(1 for place, total in enumerate(lines) if place == 0 or total <= PAGE_LINES_MAX)
    page = rows[: min(fitting, limit)]
    return await _whole(work, page, with_proof=False), len(rows) > len(page)


def charges_query(
    tenant_id: str, wanted: ChargeFilter, after: Place | None, limit: int
) -> Select[Any]:
    """Select charges behind `after`, the latest period first; a comparison of rows, so that the index leads there."""
    table = charge_table
    place = tuple_(table.c.start_at, table.c.charge_id)
    query = (
        select(table)
        .where(table.c.tenant_id == tenant_id)
        .order_by(table.c.start_at.desc(), table.c.charge_id.desc())
        .limit(limit)
    )
    if wanted.org_id:
        query = query.where(table.c.org_id == wanted.org_id)
    if wanted.adjusts_charge_id:
        query = query.where(table.c.adjusts_charge_id == wanted.adjusts_charge_id)
    if wanted.period is not None:
        query = query.where(
            table.c.start_at < wanted.period.end_at, table.c.end_at > wanted.period.start_at
        )
    if after is not None:
        query = query.where(place < tuple_(literal(after.start_at), literal(after.charge_id)))
    return query


async def settle(work: UnitOfWork, charge: Charge) -> bool:
    """Mark a charge as settled, and store what was posted of it; False when it was settled before."""
    posting = charge.posting
    parameters = {
        "tenant_id": work.tenant_id,
        "charge_id": charge.charge_id,
        "now": work.now,
        "transfer_round": charge.transfer_round,
        "transfer_count": len(charge.transfers),
        "posting_id": posting and posting.posting_id,
        "recipe": posting and posting.recipe,
        "recipe_version": posting and posting.version,
    }
    if (await work.execute(_SQL["settle"], parameters)).first() is None:
        return False
    if posting is not None:
        work.later(_SQL["insert_transfers"], _transfer_parameters(work, charge))
    return True


async def claim_due(work: UnitOfWork, owner: str, lease_ms: int, limit: int) -> list[Claim]:
    """Lease pending charges of any tenant that are due and held by nobody."""
    return await claims(work, _SQL["claim_due"], owner=owner, lease_ms=lease_ms, batch=limit)


async def due_lag(database: Database) -> Lag:
    """Tell how many charges are due and held by nobody."""
    return await lag(database, _SQL["due_lag"])


async def put_off(work: UnitOfWork, claim: Claim, due_at: datetime) -> None:
    """Give a charge back, due later; one that was settled meanwhile, or is another's, stays as it is."""
    parameters = {
        "tenant_id": work.tenant_id,
        "charge_id": claim.item_id,
        "epoch": claim.epoch,
        "due_at": due_at,
    }
    await work.execute(_SQL["put_off"], parameters)


def _charge_parameters(work: UnitOfWork, charge: Charge) -> dict[str, Any]:
    call = current()
    return {
        "tenant_id": work.tenant_id,
        "charge_id": charge.charge_id,
        "org_id": charge.org_id,
        "start_at": charge.period.start_at,
        "end_at": charge.period.end_at,
        "currency_code": charge.total.currency_code,
        "total_minor": charge.total.minor_units,
        "partner_total_minor": charge.partner_total.minor_units,
        "status": int(charge.status),
        "plan_id": charge.plan_id,
        "plan_version": charge.plan_version,
        "usage_snapshot": charge.usage_snapshot,
        "usage_ordinal": charge.usage_ordinal,
        "line_count": len(charge.lines),
        "transfer_round": charge.transfer_round,
        "created_at": charge.created_at,
        "correlation_id": call.correlation_id,
        "causation_id": call.causation_id,
        "traceparent": call.traceparent,
        "kind": int(charge.kind),
        "adjusts_charge_id": charge.adjusts_charge_id or None,
        "correction_no": charge.correction_no,
        "cause": charge.cause,
    }


def _line_parameters(work: UnitOfWork, charge: Charge) -> dict[str, Any]:
    lines = charge.lines
    return {
        "tenant_id": work.tenant_id,
        "charge_id": charge.charge_id,
        "line_nos": [int(line.line_id) for line in lines],
        "skus": [line.rated.sku for line in lines],
        "project_ids": [line.rated.project_id for line in lines],
        "quantities": [line.rated.quantity for line in lines],
        "exact_amounts": [line.rated.exact_amount for line in lines],
        "amounts": [line.rated.amount.minor_units for line in lines],
        "partner_ids": [line.rated.partner_id for line in lines],
        "partner_pcts": [line.rated.partner_pct for line in lines],
        "partner_amounts": [line.partner_amount.minor_units for line in lines],
        "proofs": [proof_bytes(line.rated) for line in lines],
        "dispute_ids": [line.rated.dispute_id for line in lines],
        "quantities_before": [line.quantity_before for line in lines],
        "amounts_before": [_minor(line.amount_before) for line in lines],
        "partner_amounts_before": [_minor(line.partner_amount_before) for line in lines],
        "taxes": [_json(taxes.stored(line.rated.taxes)) for line in lines],
    }


def _json(document: object) -> str | None:
    return None if document is None else json.dumps(document)


def _minor(amount: Money | None) -> int | None:
    return None if amount is None else amount.minor_units


def _transfer_parameters(work: UnitOfWork, charge: Charge) -> dict[str, Any]:
    transfers = charge.transfers
    return {
        "tenant_id": work.tenant_id,
        "charge_id": charge.charge_id,
        "posting_round": charge.transfer_round,
        "transfer_nos": [*range(1, len(transfers) + 1)],
        "transfer_ids": [item.transfer_id for item in transfers],
        "line_nos": [int(item.line_id) for item in transfers],
        "legs": [item.leg for item in transfers],
        "debits": [item.debit_account_id for item in transfers],
        "credits": [item.credit_account_id for item in transfers],
        "currency_codes": [item.amount.currency_code for item in transfers],
        "amounts": [item.amount.minor_units for item in transfers],
        "codes": [item.code for item in transfers],
        "effective_ats": [item.effective_at for item in transfers],
    }


async def _whole(work: UnitOfWork, rows: Sequence[Any], *, with_proof: bool) -> list[Charge]:
    """Read what belongs to rows of charges: however many there are, in one trip."""
    if not rows:
        return []
    charge_ids = [row.charge_id for row in rows]
    table = line_table
    columns = [column for column in table.c if with_proof or column is not table.c.proof]
    lines_query = (
        select(*columns)
        .where(
            table.c.tenant_id == work.tenant_id,
            table.c.charge_id == any_(literal(charge_ids, ARRAY(Text))),
        )
        .order_by(table.c.charge_id, table.c.line_no)
    )
    parameters = {
        "tenant_id": work.tenant_id,
        "charge_ids": charge_ids,
        "posting_rounds": [row.transfer_round for row in rows],
    }
    found = await work.execute_all((lines_query, None), (_SQL["transfers_of"], parameters))
    lines, transfers = (_by_charge(answer) for answer in found)
    return [
        _charge(row, lines[row.charge_id], transfers[row.charge_id])
        async for row in in_slices(rows, 1)
    ]


def _by_charge(rows: Iterable[Any]) -> defaultdict[str, list[Any]]:
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.charge_id].append(row)
    return found


def _charge(row: Any, lines: Sequence[Any], transfers: Sequence[Any]) -> Charge:
    if len(transfers) != (row.transfer_count or 0):
        # Without those that an earlier release stored, its money might get into the books twice.
        raise Internal(
            f"charge {row.charge_id} has only {len(transfers)} of the {row.transfer_count} transfers of its round"
            f" {row.transfer_round}; restore them before using it"
        )
    currency = row.currency_code
    is_settled = row.settled_at is not None
    return Charge(
        charge_id=row.charge_id,
        org_id=row.org_id,
        period=Span(row.start_at.astimezone(UTC), row.end_at.astimezone(UTC)),
        lines=tuple(_line(line, currency) for line in lines),
        total=Money(currency, row.total_minor),
        partner_total=Money(currency, row.partner_total_minor),
        status=ChargeStatus(row.status),
        plan_id=row.plan_id,
        plan_version=row.plan_version,
        usage_snapshot=row.usage_snapshot,
        transfer_round=row.transfer_round,
        created_at=row.created_at.astimezone(UTC),
        settled_at=None if row.settled_at is None else row.settled_at.astimezone(UTC),
        transfers=tuple(LedgerTransfer(**_transfer(each)) for each in transfers if is_settled),
        posting=_posting(row),
        frozen=tuple(_frozen(each) for each in transfers if not is_settled),
        kind=ChargeKind(row.kind),
        adjusts_charge_id=row.adjusts_charge_id or "",
        correction_no=row.correction_no,
        cause=row.cause,
        reversed_by_charge_id=row.reversed_by_charge_id or "",
        usage_ordinal=row.usage_ordinal,
    )


def _posting(row: Any) -> Posting | None:
    if row.posting_id is None:
        return None
    return Posting(row.posting_id, row.recipe, row.recipe_version)


def _line(row: Any, currency_code: str) -> Line:
    amount = Money(currency_code, row.amount_minor)
    partner_amount = Money(currency_code, row.partner_amount_minor)
    rated = RatedLine(
        sku=row.sku,
        project_id=row.project_id,
        quantity=row.quantity,
        exact_amount=row.exact_amount,
        amount=amount,
        partner_id=row.partner_id,
        partner_pct=row.partner_pct,
        proof=bytes(getattr(row, "proof", b"")),
        dispute_id=row.dispute_id,
        taxes=taxes.of_stored(row.taxes, currency_code),
    )
    line = Line(str(row.line_no), rated, partner_amount, rated.without_tax - partner_amount)
    if row.quantity_before is None:
        return line
    return replace(
        line,
        quantity_before=row.quantity_before,
        amount_before=Money(currency_code, row.amount_before_minor),
        partner_amount_before=Money(currency_code, row.partner_amount_before_minor),
    )


def _transfer(row: Any) -> dict[str, Any]:
    return {
        "transfer_id": row.transfer_id,
        "line_id": str(row.line_no),
        "leg": row.leg,
        "debit_account_id": row.debit_account_id,
        "credit_account_id": row.credit_account_id,
        "amount": Money(row.currency_code, row.amount_minor),
        "code": row.code,
        "effective_at": row.effective_at.astimezone(UTC),
    }


def _frozen(row: Any) -> FrozenTransfer:
    debit, credit = (
        LedgerAccount(account_id, row.currency_code, AccountType(kind), owner)
        for account_id, kind, owner in (
            (row.debit_account_id, row.debit_type, row.debit_owner),
            (row.credit_account_id, row.credit_type, row.credit_owner),
        )
    )
    return FrozenTransfer(**_transfer(row), charge_id=row.charge_id, debit=debit, credit=credit)
