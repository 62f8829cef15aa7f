"""Reading the books: entries."""

from __future__ import annotations

from collections.abc import Sequence

from services.ledger.domain.accounts import (
    AccountType,
    EntryColumns,
    EntryFilter,
    EntryPlace,
    EntryView,
)
from services.ledger.domain.months import month_after, month_of
from services.ledger.domain.reads import LOOKED_AT_MAX, EntriesWanted
from services.ledger.store.rows import entry_of
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.ledger", "queries/entries.sql")
BY_INDEX = _SQL["by_index"]
_GROW_BY_DEBIT = [int(each) for each in AccountType if each.grows_by_debit]


async def list_entries(
    work: UnitOfWork,
    wanted: EntriesWanted,
    account_ids: Sequence[str],
    after: EntryPlace,
    limit: int,
) -> tuple[list[EntryView], EntryPlace | None]:
    """List entries of these accounts, which are in order, behind a place, and say behind which place more may stand."""
    recorded, effective = wanted.recorded_in, wanted.effective_in
    looked_at = LOOKED_AT_MAX if wanted.is_filtered else limit
    parameters = {
        "tenant_id": work.tenant_id,
        "account_ids": list(account_ids),
        "after_account_id": after.account_id,
        "after_seq": after.seq,
        "limit": limit,
        "rows_max": looked_at,
        "recorded_from": recorded and recorded.start_at,
        "recorded_before": recorded and recorded.end_at,
        "effective_from": effective and effective.start_at,
        "effective_before": effective and effective.end_at,
        "code": wanted.code,
        "month_from": month_of(recorded.start_at) if recorded else "-infinity",
        "month_before": month_after(recorded.end_at) if recorded else "infinity",
    }
    order = "newest_first" if wanted.newest_first else "oldest_first"
    _, rows = await work.execute_all((BY_INDEX, {}), (_SQL[f"list_entries_{order}"], parameters))
    page = list(rows)
    if not page:
        return [], None
    found = [entry_of(row) for row in page if row.account_id is not None]
    place = EntryPlace(page[0].last_account_id, page[0].last_seq)
    return found, place if page[0].looked_at == looked_at else None


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
    _, rows = await work.execute_all((BY_INDEX, {}), (_SQL["export_entries"], parameters))
    ((looked_at, account_id, seq, *columns),) = rows.tuples()
    entries = EntryColumns(*(column or [] for column in columns))
    return entries, EntryPlace(account_id, seq) if looked_at == limit else None
