"""Holds."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from services.metering.domain.holds import Hold, HoldStatus, Share
from services.metering.store.rows import rows_of
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.postgres import sql
from services.runtime.work import Claim, Lag, claims, lag

_SQL = sql.load("services.metering", "queries/holds.sql")


async def lock(work: UnitOfWork, hold_ids: Collection[UUID]) -> dict[UUID, Hold]:
    """Lock holds, sorted by id; those that do not exist are missing."""
    if not hold_ids:
        return {}
    keys = {"tenant_id": work.tenant_id, "hold_ids": sorted(hold_ids)}
    return {row.hold_id: _hold(row) for row in await work.execute(_SQL["lock_holds"], keys)}


def insert(work: UnitOfWork, holds: Sequence[Hold]) -> None:
    """Store new holds."""
    if not holds:
        return
    call = current()
    rows = [
        {
            "hold_id": str(hold.hold_id),
            "org_id": hold.org_id,
            "sku": hold.sku,
            "quantity": str(hold.quantity),
            "shares": _shares(hold),
            "reserved_at": hold.reserved_at.isoformat(),
            "expires_at": hold.expires_at.isoformat(),
        }
        for hold in holds
    ]
    parameters = {
        "tenant_id": work.tenant_id,
        "rows": json.dumps(rows),
        "correlation_id": call.correlation_id,
        "causation_id": call.causation_id,
        "traceparent": call.traceparent,
    }
    work.later(_SQL["insert_holds"], parameters)


def write(work: UnitOfWork, holds: Sequence[Hold]) -> None:
    """Write holds that are locked and have changed."""
    if not holds:
        return
    rows = [
        {
            "hold_id": str(hold.hold_id),
            "status": hold.status.value,
            "accounted": str(hold.accounted),
            "reported": str(hold.reported),
            "shares": _shares(hold),
            "ended_at": hold.ended_at and hold.ended_at.isoformat(),
        }
        for hold in holds
    ]
    work.later(_SQL["write_holds"], {"tenant_id": work.tenant_id, "rows": json.dumps(rows)})


async def page(work: UnitOfWork, org_id: str, after: UUID, limit: int) -> list[Hold]:
    """List open holds behind an id, those of one organisation where one is given."""
    rows = await rows_of(work, _SQL, "list_holds", org_id=org_id, after=after, limit=limit)
    return [_hold(row) for row in rows]


async def claim_due(work: UnitOfWork, owner: str, lease_ms: int, limit: int) -> list[Claim]:
    """Lease holds of any tenant whose time is over and that nobody ends yet."""
    return await claims(work, _SQL["claim_due"], owner=owner, lease_ms=lease_ms, batch=limit)


async def due_lag(database: Database) -> Lag:
    """Tell how many holds are over and not ended yet."""
    return await lag(database, _SQL["due_lag"])


def _shares(hold: Hold) -> list[dict[str, str]]:
    return [
        {
            "budget_id": share.budget_id,
            "series": str(share.series),
            "start_at": share.start_at.isoformat(),
            "currency_code": share.currency_code,
            "held": str(share.held),
            "value": str(share.value),
        }
        for share in hold.shares
    ]


def _hold(row: Any) -> Hold:
    return Hold(
        hold_id=row.hold_id,
        org_id=row.org_id,
        sku=row.sku,
        quantity=row.quantity,
        shares=tuple(_share(item) for item in row.shares),
        reserved_at=row.reserved_at.astimezone(UTC),
        expires_at=row.expires_at.astimezone(UTC),
        status=HoldStatus(row.status),
        accounted=row.accounted,
        reported=row.reported,
        ended_at=row.ended_at and row.ended_at.astimezone(UTC),
    )


def _share(item: dict[str, str]) -> Share:
    return Share(
        item["budget_id"],
        UUID(item["series"]),
        datetime.fromisoformat(item["start_at"]),
        item["currency_code"],
        Decimal(item["held"]),
        Decimal(item["value"]),
    )
