"""Statements of refunds."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC
from typing import Any

from sqlalchemy import Select, literal, select, tuple_

from services.orders.domain.listing import RefundPlace
from services.orders.domain.refunds import Refund, Tender
from services.orders.store import SQL
from services.orders.store.actions import action_of
from services.orders.store.actions import insert as insert_action
from services.orders.tables import refund as table
from services.runtime.database import UnitOfWork
from services.runtime.money import Money


async def tenders(work: UnitOfWork, order_id: str) -> list[Tender]:
    """Return the payments of an order that is locked, of which something is left; the latest first."""
    key = {"tenant_id": work.tenant_id, "order_id": order_id}
    rows = await work.execute(SQL["tenders"], key)
    return [Tender(action_of(row), row.rest_minor) for row in rows]


def insert(work: UnitOfWork, refund: Refund) -> None:
    """Store a refund with its parts, and have them posted, with the next statement."""
    row = {
        "tenant_id": work.tenant_id,
        "refund_id": refund.refund_id,
        "order_id": refund.order_id,
        "person_id": refund.person_id,
        "currency_code": refund.amount.currency_code,
        "amount_minor": refund.amount.minor_units,
        "reason": refund.reason,
        "initiated_by": refund.initiated_by,
        "principal_id": refund.principal_id,
        "completed_at": refund.completed_at,
    }
    work.later(SQL["insert_refund"], row)
    for part in refund.parts:
        insert_action(work, part)


async def read(work: UnitOfWork, refund_id: str) -> Refund | None:
    """Return a refund."""
    query = select(table).where(table.c.tenant_id == work.tenant_id, table.c.refund_id == refund_id)
    found = await _whole(work, query)
    return found[0] if found else None


async def list_refunds(
    work: UnitOfWork, order_id: str, after: RefundPlace | None, limit: int
) -> list[Refund]:
    """List refunds behind `after`, the latest first; of one order, or of all."""
    query = (
        select(table)
        .where(table.c.tenant_id == work.tenant_id)
        .order_by(table.c.completed_at.desc(), table.c.refund_id.desc())
        .limit(limit)
    )
    if order_id:
        query = query.where(table.c.order_id == order_id)
    if after is not None:
        place = tuple_(table.c.completed_at, table.c.refund_id)
        query = query.where(place < tuple_(literal(after.completed_at), literal(after.refund_id)))
    return await _whole(work, query)


async def _whole(work: UnitOfWork, query: Select[Any]) -> list[Refund]:
    rows = (await work.execute(query)).all()
    if not rows:
        return []
    asked = {"tenant_id": work.tenant_id, "refund_ids": [row.refund_id for row in rows]}
    parts = defaultdict(list)
    for row in await work.execute(SQL["parts_of"], asked):
        parts[row.refund_id].append(action_of(row))
    return [
        Refund(
            refund_id=row.refund_id,
            order_id=row.order_id,
            person_id=row.person_id,
            amount=Money(row.currency_code, row.amount_minor),
            reason=row.reason,
            initiated_by=row.initiated_by,
            principal_id=row.principal_id,
            completed_at=row.completed_at.astimezone(UTC),
            parts=tuple(parts[row.refund_id]),
        )
        for row in rows
    ]
