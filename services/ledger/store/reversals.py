"""What was taken back of transfers: by recipes, in full or in part, and by reversing one as a whole."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from services.ledger.store.rows import parts
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.ledger", "queries/reversals.sql")
_LOCKS = 1024


async def lock(work: UnitOfWork, transfer_ids: Collection[UUID]) -> dict[UUID, int]:
    """Keep others from reversing these transfers until the transaction ends; returns what was taken back of each.

    It comes behind the locks of periods and postings, ahead of those of ids, holds and balances.
    """
    keys = sorted({transfer_id.int % _LOCKS for transfer_id in transfer_ids})
    await work.execute(_SQL["lock_reversed"], {"keys": keys})
    found: dict[UUID, int] = {}
    for ids in parts(sorted(transfer_ids)):
        keyed = {"tenant_id": work.tenant_id, "transfer_ids": ids}
        rows = await work.execute(_SQL["sum_reversed"], keyed)
        found |= {reversed_id: int(amount_minor) for reversed_id, amount_minor in rows.tuples()}
    return found


def insert(work: UnitOfWork, reversed_id: UUID, transfer_id: UUID, amount_minor: int) -> None:
    """Note that a transfer takes so much of another back, with what the transaction does next."""
    parameters = {
        "tenant_id": work.tenant_id,
        "reversed_id": reversed_id,
        "transfer_id": transfer_id,
        "amount_minor": amount_minor,
    }
    work.later(_SQL["insert_reversal"], parameters)
