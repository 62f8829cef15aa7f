"""What became of batches that were held while the database was away."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import UTC
from typing import Any

from services.metering.domain.receipts import RECEIPT_PREFIX, Problem, Receipt, Verdict
from services.metering.domain.spool import HeldBatch, SpooledBatch
from services.metering.store.rows import bare, rows_of
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.metering", "queries/spool.sql")


async def take_turn(work: UnitOfWork) -> bool:
    """Be the only one that drains the tenant, until the commit; False when another is at it."""
    (row,) = await rows_of(work, _SQL, "take_turn")
    return bool(row.taken)


async def find_drained(work: UnitOfWork, receipt_id: str) -> SpooledBatch | None:
    """Return a batch that was stored; None when none was under this id."""
    rows = await rows_of(work, _SQL, "find_drained", receipt_id=bare(receipt_id))
    return _batch(rows[0]) if rows else None


async def which_are_drained(work: UnitOfWork, receipt_ids: Collection[str]) -> set[str]:
    """Return those of some ids under which batches were stored."""
    asked = [bare(receipt_id) for receipt_id in receipt_ids]
    rows = await rows_of(work, _SQL, "which_are_drained", receipt_ids=asked)
    return {f"{RECEIPT_PREFIX}{row.receipt_id}" for row in rows}


async def insert_drained(work: UnitOfWork, held: HeldBatch, stored: Receipt) -> None:
    """Keep what became of a batch, with the batch itself."""
    await rows_of(
        work,
        _SQL,
        "insert_drained",
        receipt_id=bare(held.receipt_id),
        stored_receipt_id=bare(stored.receipt_id),
        events=held.events,
        accepted=stored.accepted,
        duplicate=stored.duplicate,
        conflict=stored.conflict,
        rejected=stored.rejected,
        # No jsonb: ids that were refused may hold what it cannot.
        problems=json.dumps([_written(problem) for problem in stored.problems]).encode(),
        received_at=held.received_at,
        drained_at=work.now,
    )


def _written(problem: Problem) -> list[object]:
    return [
        problem.index,
        problem.request_id,
        problem.verdict.value,
        problem.reason,
        problem.message,
    ]


def _batch(row: Any) -> SpooledBatch:
    problems = [
        Problem(index, request_id, Verdict(verdict), reason, message)
        for index, request_id, verdict, reason, message in json.loads(bytes(row.problems))
    ]
    stored = Receipt(
        f"{RECEIPT_PREFIX}{row.stored_receipt_id}",
        row.accepted,
        row.duplicate,
        row.conflict,
        row.rejected,
        problems,
    )
    return SpooledBatch(
        receipt_id=f"{RECEIPT_PREFIX}{row.receipt_id}",
        events=row.events,
        received_at=row.received_at.astimezone(UTC),
        drained_at=row.drained_at.astimezone(UTC),
        stored=stored,
    )
