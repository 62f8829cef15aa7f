"""Receipts of batches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from services.metering.domain.receipts import RECEIPT_PREFIX, Receipt, ReceiptKind
from services.metering.store.rows import bare, rows_of
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.metering", "queries/receipts.sql")


def insert_receipt(
    work: UnitOfWork,
    receipt: Receipt,
    moments: Collection[datetime],
    recorded_by: str,
    kind: ReceiptKind = ReceiptKind.INGEST,
    batch_digest: str | None = None,
) -> None:
    """Store the answer to a batch, with the commit; `moments` are times of use of what was accepted."""
    work.later(
        _SQL["insert_receipt"],
        {
            "tenant_id": work.tenant_id,
            "receipt_id": bare(receipt.receipt_id),
            "accepted": receipt.accepted,
            "duplicate": receipt.duplicate,
            "conflict": receipt.conflict,
            "rejected": receipt.rejected,
            "first_event_at": min(moments, default=None),
            "last_event_at": max(moments, default=None),
            "recorded_at": work.now,
            "recorded_by": recorded_by,
            "kind": kind.value,
            "batch_digest": batch_digest,
        },
    )


async def receipts_of_batches(
    work: UnitOfWork, batch_digests: Collection[str], rejected: int
) -> dict[str, str]:
    """Return the ids of the receipts that batches got before, with as many refusals; what got none is not in it."""
    if not batch_digests:
        return {}
    names = {"batch_digests": list(batch_digests), "rejected": rejected}
    rows = await rows_of(work, _SQL, "receipts_of_batches", **names)
    return {row.batch_digest.replace("-", ""): f"{RECEIPT_PREFIX}{row.receipt_id}" for row in rows}


def insert_receipts(
    work: UnitOfWork,
    receipts: Sequence[Receipt],
    moments: Sequence[Collection[datetime]],
    recorded_by: Sequence[str],
    batch_digests: Sequence[str],
) -> None:
    """Store the answers to several batches, with the commit.

    Args:
        moments: of each, times of use of what was accepted.
        recorded_by: of each, who brought it.
        batch_digests: of each, what it says.
    """
    work.later(
        _SQL["insert_receipts"],
        {
            "tenant_id": work.tenant_id,
            "receipt_ids": [bare(receipt.receipt_id) for receipt in receipts],
            "accepted": [receipt.accepted for receipt in receipts],
            "duplicate": [receipt.duplicate for receipt in receipts],
            "conflict": [receipt.conflict for receipt in receipts],
            "rejected": [receipt.rejected for receipt in receipts],
            "firsts": [min(each, default=None) for each in moments],
            "lasts": [max(each, default=None) for each in moments],
            "recorded_by": list(recorded_by),
            "batch_digests": list(batch_digests),
            "recorded_at": work.now,
            "kind": ReceiptKind.INGEST.value,
        },
    )
