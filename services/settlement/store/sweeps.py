"""Statements of sweeps."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import literal, select, tuple_

from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.work import Claim, Lag, claims, lag
from services.settlement.domain.listing import Place
from services.settlement.domain.sweeps import Sweep, SweepStatus
from services.settlement.store import SQL
from services.settlement.tables import sweep as table


async def insert(work: UnitOfWork, sweep: Sweep, *, lease_ms: int = 0) -> None:
    """Store a sweep, held for so long by who makes it; one that is there, or another that waits, stays."""
    call = current()
    row = {
        "tenant_id": work.tenant_id,
        "sweep_id": sweep.sweep_id,
        "status": int(sweep.status),
        "scheduled": sweep.scheduled,
        "due_at": sweep.due_at,
        "lease_ms": lease_ms,
        "through_at": sweep.through_at,
        "started_at": sweep.started_at,
        "correlation_id": call.correlation_id,
        "causation_id": call.causation_id,
        "traceparent": call.traceparent,
        "created_at": sweep.created_at,
    }
    await work.execute(SQL["insert_sweep"], row)


async def has_waiting(work: UnitOfWork) -> bool:
    """True when a sweep by schedule waits."""
    key = {"tenant_id": work.tenant_id}
    return bool((await work.execute(SQL["has_waiting"], key)).scalar_one())


async def schedule_waiting(work: UnitOfWork, due_at: datetime | None) -> bool:
    """Move the sweep that waits; False when none does."""
    row = {"tenant_id": work.tenant_id, "due_at": due_at}
    return (await work.execute(SQL["schedule_waiting"], row)).first() is not None


async def lock(work: UnitOfWork, sweep_id: str) -> Sweep | None:
    """Return a sweep, and let nobody else go on with it."""
    key = {"tenant_id": work.tenant_id, "sweep_id": sweep_id}
    row = (await work.execute(SQL["lock_sweep"], key)).first()
    return None if row is None else _sweep(row)


async def begin(work: UnitOfWork, sweep: Sweep) -> Sweep:
    """Begin a sweep that waited."""
    key = {"tenant_id": work.tenant_id, "sweep_id": sweep.sweep_id, "now": work.now}
    await work.execute(SQL["begin_sweep"], key)
    return replace(sweep, status=SweepStatus.RUNNING, through_at=work.now, started_at=work.now)


async def advance(work: UnitOfWork, sweep: Sweep) -> None:
    """Store how far a sweep has come."""
    row = {
        "tenant_id": work.tenant_id,
        "sweep_id": sweep.sweep_id,
        "after_party": sweep.after[0],
        "after_currency": sweep.after[1],
        "payout_count": sweep.payout_count,
        "totals": json.dumps(dict(sweep.totals or {})),
    }
    await work.execute(SQL["advance_sweep"], row)


async def end(work: UnitOfWork, sweep: Sweep) -> Sweep:
    """End a sweep."""
    key = {"tenant_id": work.tenant_id, "sweep_id": sweep.sweep_id, "now": work.now}
    await work.execute(SQL["end_sweep"], key)
    return replace(sweep, status=SweepStatus.DONE, ended_at=work.now, due_at=None)


async def read(work: UnitOfWork, sweep_id: str) -> Sweep | None:
    """Read a sweep."""
    query = select(table).where(table.c.tenant_id == work.tenant_id, table.c.sweep_id == sweep_id)
    row = (await work.execute(query)).first()
    return None if row is None else _sweep(row)


async def list_sweeps(work: UnitOfWork, after: Place | None, limit: int) -> list[Sweep]:
    """List sweeps behind `after`, the latest made first."""
    query = (
        select(table)
        .where(table.c.tenant_id == work.tenant_id)
        .order_by(table.c.created_at.desc(), table.c.sweep_id.desc())
        .limit(limit)
    )
    if after is not None:
        place = tuple_(table.c.created_at, table.c.sweep_id)
        query = query.where(place < tuple_(literal(after.created_at), literal(after.item_id)))
    return [_sweep(row) for row in await work.execute(query)]


async def claim_due(work: UnitOfWork, owner: str, lease_ms: int, limit: int) -> list[Claim]:
    """Lease sweeps of any tenant that are due and held by nobody."""
    return await claims(work, SQL["claim_sweep"], owner=owner, lease_ms=lease_ms, batch=limit)


async def due_lag(database: Database) -> Lag:
    """Tell how many sweeps are due and held by nobody."""
    return await lag(database, SQL["sweep_lag"])


async def put_off(work: UnitOfWork, claim: Claim, due_at: datetime) -> None:
    """Give a sweep back, due later; one that has ended meanwhile, or is another's, stays as it is."""
    key = {"tenant_id": work.tenant_id, "item_id": claim.item_id, "epoch": claim.epoch}
    await work.execute(SQL["put_off_sweep"], {**key, "due_at": due_at})


def _sweep(row: Any) -> Sweep:
    return Sweep(
        sweep_id=row.sweep_id,
        status=SweepStatus(row.status),
        scheduled=row.scheduled,
        created_at=row.created_at.astimezone(UTC),
        # Of one that runs it is when it goes on, whoever does.
        due_at=_utc(row.due_at) if row.status == SweepStatus.WAITING else None,
        through_at=_utc(row.through_at),
        started_at=_utc(row.started_at),
        ended_at=_utc(row.ended_at),
        after=(row.after_party, row.after_currency),
        payout_count=row.payout_count,
        totals=dict(row.totals),
    )


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
