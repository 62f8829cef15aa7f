"""Statements of grants, of what happened to them, and of what falls due of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import literal, select, tuple_

from services.orders.domain.credits import Entry, Grant
from services.orders.domain.listing import GrantFilter, GrantPlace
from services.orders.store import SQL
from services.orders.tables import credit_grant as table
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.work import Claim, Lag, claims, lag


async def lock_account(work: UnitOfWork, owner_id: str, unit: str) -> None:
    """Let nobody else take of an owner's credits until this transaction ends."""
    key = {"tenant_id": work.tenant_id, "owner_id": owner_id, "unit": unit}
    await work.execute(SQL["lock_credit_account"], key)


def insert(work: UnitOfWork, grant: Grant) -> None:
    """Store a new grant, with the next statement."""
    key = {"tenant_id": work.tenant_id, "owner_id": grant.owner_id, "unit": grant.unit}
    work.later(SQL["open_credit_account"], {**key, "now": work.now})
    row = {
        **key,
        "grant_id": grant.grant_id,
        "amount": grant.amount,
        "source": grant.source,
        "priority": grant.priority,
        "order_id": grant.order_id,
        "granted_at": grant.granted_at,
        "effective_at": grant.effective_at,
        "expires_at": grant.expires_at,
        "rollover_max": grant.rollover_max,
        "rollovers_left": grant.rollovers_left,
        "period_days": grant.period_days,
    }
    work.later(SQL["insert_grant"], row)
    if grant.expires_at is not None:
        due(work, grant.grant_id, grant.expires_at)


def update(work: UnitOfWork, grant: Grant) -> None:
    """Store what has changed of a grant whose account is locked, with the next statement."""
    row = {
        "tenant_id": work.tenant_id,
        "grant_id": grant.grant_id,
        "expires_at": grant.expires_at,
        "rollovers_left": grant.rollovers_left,
        "held": grant.held,
        "used": grant.used,
        "lapsed": grant.lapsed,
        "taken_back": grant.taken_back,
        "reversed_at": grant.reversed_at,
    }
    work.later(SQL["update_grant"], row)


def enter(work: UnitOfWork, entry: Entry) -> None:
    """Store what happened to credits, and have it posted, with the next statement."""
    row = {
        "tenant_id": work.tenant_id,
        "entry_id": entry.entry_id,
        "grant_id": entry.grant_id,
        "owner_id": entry.owner_id,
        "unit": entry.unit,
        "source": entry.source,
        "kind": entry.kind,
        "amount": entry.amount,
        "reservation_id": entry.reservation_id,
        "order_id": entry.order_id,
        "recorded_at": entry.recorded_at,
    }
    work.later(SQL["insert_credit_entry"], row)
    if entry.is_posted:
        due(work, entry.entry_id, entry.recorded_at)


async def read(work: UnitOfWork, grant_id: str) -> Grant | None:
    """Return a grant."""
    key = {"tenant_id": work.tenant_id, "grant_id": grant_id}
    row = (await work.execute(SQL["read_grant"], key)).first()
    return None if row is None else _grant(row)


async def live(work: UnitOfWork, owner_id: str, unit: str) -> list[Grant]:
    """Return the grants of which something is available or held, whether they count at the moment or not."""
    key = {"tenant_id": work.tenant_id, "owner_id": owner_id, "unit": unit}
    return [_grant(row) for row in await work.execute(SQL["live_grants"], key)]


async def before(work: UnitOfWork, owner_id: str, unit: str, told_at: datetime) -> list[Grant]:
    """Return the grants that there were at a time, as they stood then."""
    key = {"tenant_id": work.tenant_id, "owner_id": owner_id, "unit": unit, "told_at": told_at}
    return [_grant(row) for row in await work.execute(SQL["grants_before"], key)]


async def list_grants(
    work: UnitOfWork, wanted: GrantFilter, after: GrantPlace | None, limit: int
) -> list[Grant]:
    """List grants behind `after`, the latest given first."""
    query = (
        select(table)
        .where(table.c.tenant_id == work.tenant_id)
        .order_by(table.c.granted_at.desc(), table.c.grant_id.desc())
        .limit(limit)
    )
    if wanted.owner_id:
        query = query.where(table.c.owner_id == wanted.owner_id)
    if wanted.unit:
        query = query.where(table.c.unit == wanted.unit)
    if wanted.order_id:
        # As the index of those that an order bought has it.
        query = query.where(table.c.order_id == wanted.order_id, table.c.order_id != "")
    if after is not None:
        place = tuple_(table.c.granted_at, table.c.grant_id)
        query = query.where(place < tuple_(literal(after.granted_at), literal(after.grant_id)))
    return [_grant(row) for row in await work.execute(query)]


async def entry(work: UnitOfWork, entry_id: str) -> tuple[Entry, UUID | None] | None:
    """Return what happened, if it is to be posted, and its posting, if it has one."""
    key = {"tenant_id": work.tenant_id, "entry_id": entry_id}
    row = (await work.execute(SQL["read_credit_entry"], key)).first()
    return None if row is None else (_entry(row), row.posting_id)


def due(work: UnitOfWork, item_id: str, due_at: datetime) -> None:
    """Have something done at a time, with the next statement."""
    call = current()
    row = {
        "tenant_id": work.tenant_id,
        "item_id": item_id,
        "due_at": due_at,
        "correlation_id": call.correlation_id,
        "causation_id": call.causation_id,
        "traceparent": call.traceparent,
        "now": work.now,
    }
    work.later(SQL["insert_credit_due"], row)


def settle(
    work: UnitOfWork,
    item_id: str,
    *,
    posting_id: UUID | None = None,
    again_at: datetime | None = None,
) -> None:
    """Say that what was due is done, until it is due again, with the next statement."""
    row = {
        "tenant_id": work.tenant_id,
        "item_id": item_id,
        "posting_id": posting_id,
        "due_at": again_at,
    }
    work.later(SQL["settle_credit_due"], row)


async def claim_due(work: UnitOfWork, owner: str, lease_ms: int, limit: int) -> list[Claim]:
    """Lease what of any tenant is due and held by nobody."""
    return await claims(work, SQL["claim_credit"], owner=owner, lease_ms=lease_ms, batch=limit)


async def due_lag(database: Database) -> Lag:
    """Tell how much is due."""
    return await lag(database, SQL["credit_lag"])


async def put_off(work: UnitOfWork, claim: Claim, due_at: datetime) -> None:
    """Give something back, due later; what was done meanwhile, or is another's, stays as it is."""
    key = {"tenant_id": work.tenant_id, "item_id": claim.item_id, "epoch": claim.epoch}
    await work.execute(SQL["put_off_credit"], {**key, "due_at": due_at})


def _grant(row: Any) -> Grant:
    return Grant(
        grant_id=row.grant_id,
        owner_id=row.owner_id,
        unit=row.unit,
        amount=row.amount,
        source=row.source,
        granted_at=row.granted_at.astimezone(UTC),
        effective_at=row.effective_at.astimezone(UTC),
        priority=row.priority,
        expires_at=_utc(row.expires_at),
        rollover_max=row.rollover_max,
        order_id=row.order_id,
        held=row.held,
        used=row.used,
        lapsed=row.lapsed,
        taken_back=row.taken_back,
        is_reversed=row.reversed_at is not None,
        rollovers_left=row.rollovers_left,
        period_days=row.period_days,
        reversed_at=_utc(row.reversed_at),
    )


def _entry(row: Any) -> Entry:
    return Entry(
        entry_id=row.entry_id,
        grant_id=row.grant_id,
        owner_id=row.owner_id,
        unit=row.unit,
        source=row.source,
        kind=row.kind,
        amount=row.amount,
        recorded_at=row.recorded_at.astimezone(UTC),
        reservation_id=row.reservation_id,
        order_id=row.order_id,
    )


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
