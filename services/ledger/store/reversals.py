"""What was taken back of transfers: by recipes, in full or in part, and by reversing one as a whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from uuid import UUID

from services.ledger.domain.reversals import Above, Taken
from services.ledger.store.rows import parts
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.ledger", "queries/reversals.sql")
_LOCKS = 1024


async def lock(work: UnitOfWork, transfer_ids: Collection[UUID]) -> Taken:
    """Keep others from reversing these transfers until the transaction ends; returns what was taken back of each.

    With a reversal come those that it touches further up: what it takes back is fixed when it is posted, so they are
    known before they are locked. It comes behind the locks of periods and postings, ahead of those of ids, holds and
    balances.
    """
    above: dict[UUID, list[Above]] = defaultdict(list)
    for ids in parts(sorted(transfer_ids)):
        keyed = {"tenant_id": work.tenant_id, "transfer_ids": ids}
        for row in await work.execute(_SQL["read_above"], keyed):
            found = Above(row.transfer_id, row.way > 0, int(row.posted_minor))
            above[row.of_id].append(found)
    touched = {*transfer_ids, *(each.transfer_id for found in above.values() for each in found)}
    keys = sorted({transfer_id.int % _LOCKS for transfer_id in touched})
    await work.execute(_SQL["lock_reversed"], {"keys": keys})
    minor = await sums(work, touched)
    return Taken(minor, {transfer_id: tuple(found) for transfer_id, found in above.items()})


async def sums(work: UnitOfWork, transfer_ids: Collection[UUID]) -> dict[UUID, int]:
    """Return what was taken back of transfers, where something was."""
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
