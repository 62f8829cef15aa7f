"""Batches of plain transfers that the database posts as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from services.ledger.domain.plain import Layout, PlainBatch
from services.ledger.store import monitors, periods
from services.ledger.store.rows import names, numbers
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.ledger", "queries/plain.sql")


@dataclass(frozen=True, slots=True)
class Posted:
    """What became of a batch.

    Attributes:
        batch_no: of the batch that is posted; None where its transfers are to be judged one by one.
        claimed: then the ids that are claimed for it by now; None where none was looked at.
    """

    batch_no: int | None
    claimed: set[UUID] | None


async def post_plain(work: UnitOfWork, batch: PlainBatch, layout: Layout) -> Posted:
    """Post a batch as a whole, or nothing of it. Locks: periods, transfer ids, then balances, each in sorted order."""
    monitors.share(work)
    sharing, _ = periods.sharing(work)
    work.later(*sharing)
    debit, credit = layout.debit, layout.credit
    parameters = {
        "tenant_id": work.tenant_id,
        "now": work.now,
        # As Postgres reads arrays: in one go, where each of thousands would be adapted by itself.
        "transfer_ids": "{" + ",".join(batch.transfer_ids) + "}",
        "fingerprints": layout.fingerprints,
        "currency_codes": names(batch.currency_codes),
        "amounts": numbers(batch.amounts_minor),
        "codes": numbers(batch.codes),
        "debit_account_ids": names(batch.debit_account_ids),
        "debit_places": numbers(debit.places),
        "debit_seqs": numbers(debit.seqs),
        "debit_nets": numbers(debit.nets),
        "credit_account_ids": names(batch.credit_account_ids),
        "credit_places": numbers(credit.places),
        "credit_seqs": numbers(credit.seqs),
        "credit_nets": numbers(credit.nets),
        "account_ids": names(layout.account_ids),
        "account_currency_codes": names(layout.currency_codes),
        "debits": numbers(layout.debits),
        "credits": numbers(layout.credits),
        "entries": numbers(layout.entries),
    }
    ((batch_no, claimed),) = (await work.execute(_SQL["post_plain"], parameters)).tuples()
    return Posted(batch_no, None if claimed is None else set(claimed))
