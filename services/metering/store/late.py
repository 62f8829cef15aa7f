"""Usage that was stored for closed periods."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

from services.metering.domain.events import Batch
from services.metering.domain.late import Closing, LateEvent, LateFilter, LatePlace, LateTotal
from services.metering.domain.receipts import RECEIPT_PREFIX, Total
from services.metering.domain.times import EPOCH
from services.metering.store.rows import bare, content_of, rows_of
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.metering", "queries/late.sql")


async def mark_stored(work: UnitOfWork, receipt_id: str, batch: Batch) -> list[LateTotal]:
    """Mark what this transaction stored for closed periods; returns it by charge and SKU."""
    return _late_totals(
        await rows_of(
            work,
            _SQL,
            "mark_of_stored",
            receipt_id=bare(receipt_id),
            event_keys=batch.event_keys,
            charge_id=None,
        )
    )


async def mark_unseen(work: UnitOfWork, charge_id: str, skus: Sequence[str]) -> list[LateTotal]:
    """Mark what a charge did not see although it was stored before its closing was heard of."""
    return _late_totals(
        await rows_of(work, _SQL, "mark_of_unseen", charge_id=charge_id, skus=list(skus))
    )


async def mark_changed(
    work: UnitOfWork, receipt_id: str, event_keys: Sequence[str]
) -> list[LateTotal]:
    """Mark what this transaction corrected of closed periods; returns the differences by charge and SKU."""
    return _late_totals(
        await rows_of(
            work,
            _SQL,
            "mark_of_sides_of_stored_changes",
            receipt_id=bare(receipt_id),
            event_keys=list(event_keys),
            charge_id=None,
        )
    )


async def mark_unseen_changes(
    work: UnitOfWork, charge_id: str, skus: Sequence[str]
) -> list[LateTotal]:
    """Mark corrections that a charge did not see although they were stored before its closing was heard of."""
    return _late_totals(
        await rows_of(
            work,
            _SQL,
            "mark_of_sides_of_unseen_changes",
            charge_id=charge_id,
            skus=list(skus),
        )
    )


def _late_totals(rows: Sequence[Any]) -> list[LateTotal]:
    return [
        LateTotal(
            Closing(row.charge_id, row.org_id, row.start_at, row.end_at),
            Total(
                row.org_id,
                row.sku,
                row.event_count,
                row.quantity,
                row.first_event_at,
                row.last_event_at,
            ),
        )
        for row in rows
    ]


async def list_late(
    work: UnitOfWork, wanted: LateFilter, after: LatePlace | None, limit: int
) -> list[LateEvent]:
    """List late events behind `after`, by organisation and the time from which they count."""
    rows = await rows_of(
        work,
        _SQL,
        "list_late",
        org_id=wanted.org_id,
        start_at=wanted.start_at,
        end_at=wanted.end_at,
        after_org=after.org_id if after else "",
        after_time=after.event_time if after else EPOCH,
        after_key=after.event_key if after else str(UUID(int=0)),
        after_version=after.version if after else -1,
        limit=limit,
    )
    return [
        LateEvent(
            content=content_of(row),
            before=content_of(row, "before_") if row.version else None,
            cancelled=row.cancelled,
            charge_id=row.charge_id,
            receipt_id=f"{RECEIPT_PREFIX}{row.receipt_id}",
            ordinal=row.ordinal,
            recorded_at=row.recorded_at.astimezone(UTC),
            place=LatePlace(
                row.place_org_id, row.place_time.astimezone(UTC), row.event_key, row.version
            ),
        )
        for row in rows
    ]
