"""Refused events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

from services.metering.domain.events import Rejection
from services.metering.domain.receipts import RECEIPT_PREFIX
from services.metering.domain.rejected import RejectedEvent, RejectedFilter, RejectedId
from services.metering.store.rows import bare, light_parts, rows_of
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.metering", "queries/rejected.sql")


async def insert_rejected(
    work: UnitOfWork, receipt_id: str, rejections: Sequence[Rejection]
) -> None:
    """Keep refused events with their reasons."""
    for part in light_parts(rejections, lambda item: len(item.content)):
        await rows_of(
            work,
            _SQL,
            "insert_rejected",
            receipt_id=bare(receipt_id),
            indexes=[item.index for item in part],
            # Postgres stores no NUL in a text; the content has it.
            request_ids=[item.request_id.replace("\0", "") for item in part],
            reasons=[item.reason for item in part],
            messages=[item.message.replace("\0", "") for item in part],
            contents=[item.content for item in part],
            org_ids=[item.org_id.replace("\0", "") for item in part],
            skus=[item.sku.replace("\0", "") for item in part],
        )


async def list_rejected(
    work: UnitOfWork, wanted: RejectedFilter, after: RejectedId | None, limit: int
) -> list[RejectedEvent]:
    """List rejected events behind `after`, in the order of their receipts."""
    rows = await rows_of(
        work,
        _SQL,
        "list_rejected",
        org_id=wanted.org_id,
        sku=wanted.sku,
        reason=wanted.reason,
        start_at=wanted.start_at,
        end_at=wanted.end_at,
        include_replayed=wanted.include_replayed,
        after_receipt=after.receipt_id if after else str(UUID(int=0)),
        after_index=after.index if after else -1,
        limit=limit,
    )
    return [_event(row) for row in rows]


async def find_rejected(work: UnitOfWork, ids: Sequence[RejectedId]) -> list[RejectedEvent]:
    """Return the rejected events that there are of these, in the order of their receipts."""
    return [_event(row) for row in await rows_of(work, _SQL, "find_rejected", **_columns(ids))]


async def mark_replayed(work: UnitOfWork, receipt_id: str, ids: Sequence[RejectedId]) -> None:
    """Keep with which receipt rejected events were taken in; those that were before stay as they are."""
    # In one order: of two replays of the same events the second waits.
    ordered = sorted(ids, key=lambda item: (item.receipt_id, item.index))
    await rows_of(work, _SQL, "mark_replayed", receipt_id=bare(receipt_id), **_columns(ordered))


def _columns(ids: Sequence[RejectedId]) -> dict[str, object]:
    return {
        "receipt_ids": [item.receipt_id for item in ids],
        "indexes": [item.index for item in ids],
    }


def _event(row: Any) -> RejectedEvent:
    replayed = row.replayed_receipt_id
    return RejectedEvent(
        place=RejectedId(row.receipt_id, row.event_index),
        content=bytes(row.content),
        reason=row.reason,
        message=row.message,
        rejected_at=row.recorded_at.astimezone(UTC),
        replayed_receipt_id=None if replayed is None else f"{RECEIPT_PREFIX}{replayed}",
    )
