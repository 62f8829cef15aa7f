"""Reading the books: entries, and sums of them."""

from __future__ import annotations

from services.ledger.domain.accounts import (
    AccountType,
    EntryColumns,
    EntryFilter,
    EntryPlace,
    EntryView,
)
from services.ledger.domain.trial_balance import TypeSums
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.ledger", "queries/entries.sql")
_GROW_BY_DEBIT = [int(each) for each in AccountType if each.grows_by_debit]


async def list_entries(
    work: UnitOfWork, account_id: str, after: int, limit: int, *, newest_first: bool
) -> list[EntryView]:
    """List entries of an account behind (or, newest first, before) place `after`."""
    statement = "list_entries_newest_first" if newest_first else "list_entries_oldest_first"
    parameters = {
        "tenant_id": work.tenant_id,
        "account_id": account_id,
        "after": after,
        "limit": limit,
    }
    return [EntryView(**row._asdict()) for row in await work.execute(_SQL[statement], parameters)]


async def export_entries(
    work: UnitOfWork, wanted: EntryFilter, after: EntryPlace, limit: int
) -> tuple[EntryColumns, EntryPlace | None]:
    """Read entries behind a place by column, by account and number, and say behind which place more may stand.

    `limit` is the number of entries that are looked at, whether they were recorded in time or not.
    """
    parameters = {
        "tenant_id": work.tenant_id,
        "account_id": after.account_id,
        "seq": after.seq,
        "limit": limit,
        "owner": wanted.owner,
        "account_ids": list(wanted.account_ids),
        "grow_by_debit": _GROW_BY_DEBIT,
        "recorded_from": wanted.recorded_from,
        "recorded_before": wanted.recorded_before,
    }
    rows = await work.execute(_SQL["export_entries"], parameters)
    ((looked_at, account_id, seq, *columns),) = rows.tuples()
    entries = EntryColumns(*(column or [] for column in columns))
    return entries, EntryPlace(account_id, seq) if looked_at == limit else None


async def sum_accounts(work: UnitOfWork) -> list[TypeSums]:
    """Add all accounts up by currency and type, in one statement and so in one snapshot."""
    rows = await work.execute(_SQL["sum_accounts"], {"tenant_id": work.tenant_id})
    return [
        TypeSums(
            row.currency_code,
            AccountType(row.type),
            row.accounts,
            int(row.debits),
            int(row.credits),
        )
        for row in rows
    ]
