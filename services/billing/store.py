"""Every statement of billing, from and to domain values. Nothing here decides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from sqlalchemy import ARRAY, Select, Text, any_, literal, select, tuple_

from services.billing.domain.charges import Charge, ChargeStatus, Line, RatedLine, Span
from services.billing.tables import charge as charge_table
from services.billing.tables import charge_line as line_table
from services.runtime.database import UnitOfWork
from services.runtime.money import Money
from services.runtime.postgres import sql

# A charge has up to 2,000 lines; this many keep a page well below what clients take in one message.
PAGE_LINES_MAX = 10_000

_SQL = sql.load("services.billing", "queries.sql")


@dataclass(frozen=True, slots=True)
class ChargeFilter:
    """Which charges to list; an empty organisation and no period mean any."""

    org_id: str = ""
    period: Span | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of charges ended."""

    start_at: datetime
    charge_id: str


async def insert_charge(work: UnitOfWork, charge: Charge) -> bool:
    """Store a charge with its lines; False when one of its id, or one that overlaps it, is there."""
    row = await work.execute(_SQL["insert_charge"], _charge_parameters(work, charge))
    if row.first() is None:
        return False
    if charge.lines:
        await work.execute(_SQL["insert_lines"], _line_parameters(work, charge))
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
    """Read a charge with its lines."""
    table = charge_table
    query = select(table).where(table.c.tenant_id == work.tenant_id, table.c.charge_id == charge_id)
    found = await _with_lines(work, [*(await work.execute(query))], with_proof=True)
    return found[0] if found else None


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
    return await _with_lines(work, page, with_proof=False), len(rows) > len(page)


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
    if wanted.period is not None:
        query = query.where(
            table.c.start_at < wanted.period.end_at, table.c.end_at > wanted.period.start_at
        )
    if after is not None:
        query = query.where(place < tuple_(literal(after.start_at), literal(after.charge_id)))
    return query


async def settle(work: UnitOfWork, charge_id: str) -> bool:
    """Mark a charge as settled; False when it was before."""
    parameters = {"tenant_id": work.tenant_id, "charge_id": charge_id, "now": work.now}
    return (await work.execute(_SQL["settle"], parameters)).first() is not None


async def next_round(work: UnitOfWork, charge: Charge) -> None:
    """Give a charge fresh transfer ids, unless another call did so already."""
    parameters = {
        "tenant_id": work.tenant_id,
        "charge_id": charge.charge_id,
        "posting_round": charge.posting_round,
    }
    await work.execute(_SQL["next_round"], parameters)


async def tenants_to_resume(work: UnitOfWork, limit: int) -> list[str]:
    """List tenants that have charges whose time to be resumed has come."""
    rows = await work.execute(_SQL["tenants_to_resume"], {"limit": limit})
    return [str(row.tenant_id) for row in rows]


async def take_to_resume(work: UnitOfWork, limit: int) -> list[str]:
    """Take charges of the tenant whose time to be resumed has come, and put their next try off."""
    parameters = {"tenant_id": work.tenant_id, "limit": limit}
    rows = await work.execute(_SQL["take_to_resume"], parameters)
    return [str(row.charge_id) for row in rows]


def _charge_parameters(work: UnitOfWork, charge: Charge) -> dict[str, Any]:
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
        "line_count": len(charge.lines),
        "posting_round": charge.posting_round,
        "created_at": charge.created_at,
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
        "proofs": [line.rated.proof for line in lines],
    }


async def _with_lines(work: UnitOfWork, rows: Sequence[Any], *, with_proof: bool) -> list[Charge]:
    if not rows:
        return []
    table = line_table
    columns = [column for column in table.c if with_proof or column is not table.c.proof]
    query = (
        select(*columns)
        .where(
            table.c.tenant_id == work.tenant_id,
            table.c.charge_id == any_(literal([row.charge_id for row in rows], ARRAY(Text))),
        )
        .order_by(table.c.charge_id, table.c.line_no)
    )
    lines: dict[str, list[Any]] = defaultdict(list)
    for line in await work.execute(query):
        lines[line.charge_id].append(line)
    return [_charge(row, lines[row.charge_id]) for row in rows]


def _charge(row: Any, lines: Sequence[Any]) -> Charge:
    currency = row.currency_code
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
        posting_round=row.posting_round,
        created_at=row.created_at.astimezone(UTC),
        settled_at=None if row.settled_at is None else row.settled_at.astimezone(UTC),
    )


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
    )
    return Line(str(row.line_no), rated, partner_amount, amount - partner_amount)
