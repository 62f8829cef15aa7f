"""Reading the books: entries."""

from __future__ import annotations

from typing import Any

from services.ledger.domain.accounts import (
    AccountType,
    EntryColumns,
    EntryFilter,
    EntryPlace,
    EntryView,
)
from services.ledger.domain.months import month_after, month_of
from services.ledger.store.rows import reference_of
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
    _, found = await work.execute_all((_SQL["by_index"], {}), (_SQL[statement], parameters))
    return [_entry(row) for row in found]


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
        "month_from": month_of(wanted.recorded_from) if wanted.recorded_from else "-infinity",
        "month_before": month_after(wanted.recorded_before)
        if wanted.recorded_before
        else "infinity",
    }
    _, rows = await work.execute_all((_SQL["by_index"], {}), (_SQL["export_entries"], parameters))
    ((looked_at, account_id, seq, *columns),) = rows.tuples()
    entries = EntryColumns(*(column or [] for column in columns))
    return entries, EntryPlace(account_id, seq) if looked_at == limit else None


def _entry(row: Any) -> EntryView:
    return EntryView(
        account_id=row.account_id,
        seq=row.seq,
        transfer_id=row.transfer_id,
        amount_minor=row.amount_minor,
        balance_after_minor=row.balance_after_minor,
        currency_code=row.currency_code,
        counter_account_id=row.counter_account_id,
        code=row.code,
        recorded_at=row.recorded_at,
        effective_at=row.effective_at,
        metadata=row.metadata,
        reference=reference_of(row),
    )
