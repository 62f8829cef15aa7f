"""Statements of orders."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import literal, select, tuple_

from services.orders.domain.listing import OrderFilter, Place
from services.orders.domain.orders import Order
from services.orders.store import SQL
from services.orders.tables import sales_order as table
from services.runtime.database import UnitOfWork
from services.runtime.money import Money


def insert(work: UnitOfWork, order: Order) -> None:
    """Store a new order, with the next statement."""
    row = {
        "tenant_id": work.tenant_id,
        "order_id": order.order_id,
        "person_id": order.person_id,
        "organization_id": order.organization_id,
        "status": order.status,
        "currency_code": order.total.currency_code,
        "total_minor": order.total.minor_units,
        "created_via": order.created_via,
        "notes": order.notes,
        "operator_flags": list(order.operator_flags),
        "created_at": order.created_at,
    }
    work.later(SQL["insert_order"], row)


def update(work: UnitOfWork, order: Order) -> None:
    """Store what has changed of an order that is locked, with the next statement."""
    row = {
        "tenant_id": work.tenant_id,
        "order_id": order.order_id,
        "status": order.status,
        "total_minor": order.total.minor_units,
        "paid_minor": order.paid_minor,
        "refunded_minor": order.refunded_minor,
        "updated_via": order.updated_via,
        "notes": order.notes,
        "operator_flags": list(order.operator_flags),
        "cancel_reason": order.cancel_reason,
        "cancelled_at": order.cancelled_at,
        "updated_at": order.updated_at,
    }
    work.later(SQL["update_order"], row)


async def lock(work: UnitOfWork, order_id: str) -> Order | None:
    """Return an order, and let nobody else change it."""
    key = {"tenant_id": work.tenant_id, "order_id": order_id}
    row = (await work.execute(SQL["lock_order"], key)).first()
    return None if row is None else _order(row)


async def read(work: UnitOfWork, order_id: str) -> Order | None:
    """Return an order."""
    key = {"tenant_id": work.tenant_id, "order_id": order_id}
    row = (await work.execute(SQL["read_order"], key)).first()
    return None if row is None else _order(row)


async def list_orders(
    work: UnitOfWork, wanted: OrderFilter, after: Place | None, limit: int
) -> list[Order]:
    """List orders behind `after`, the latest made first."""
    query = (
        select(table)
        .where(table.c.tenant_id == work.tenant_id)
        .order_by(table.c.created_at.desc(), table.c.order_id.desc())
        .limit(limit)
    )
    if wanted.person_id:
        query = query.where(table.c.person_id == wanted.person_id)
    if wanted.organization_id:
        query = query.where(table.c.organization_id == wanted.organization_id)
    if wanted.status:
        query = query.where(table.c.status == wanted.status)
    if after is not None:
        place = tuple_(table.c.created_at, table.c.order_id)
        query = query.where(place < tuple_(literal(after.created_at), literal(after.order_id)))
    return [_order(row) for row in await work.execute(query)]


def _order(row: Any) -> Order:
    return Order(
        order_id=row.order_id,
        person_id=row.person_id,
        organization_id=row.organization_id,
        status=row.status,
        total=Money(row.currency_code, row.total_minor),
        created_via=row.created_via,
        created_at=row.created_at.astimezone(UTC),
        paid_minor=row.paid_minor,
        refunded_minor=row.refunded_minor,
        updated_via=row.updated_via,
        notes=row.notes,
        operator_flags=tuple(row.operator_flags),
        cancel_reason=row.cancel_reason,
        cancelled_at=_utc(row.cancelled_at),
        updated_at=_utc(row.updated_at),
    )


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
