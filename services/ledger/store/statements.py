"""What statements of accounts are made of."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from services.ledger.domain.accounts import AccountType, EntryView
from services.ledger.domain.reads import next_moment
from services.ledger.domain.statements import LinePlace, Statement, StatementHead, Sums, Time
from services.ledger.store.entries import BY_INDEX
from services.ledger.store.rows import entry_of
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.ledger", "queries/statements.sql")


async def read_head(work: UnitOfWork, account_id: str) -> StatementHead | None:
    """Read what is fixed about an account, and the number of its last entry."""
    keys = {"tenant_id": work.tenant_id, "account_id": account_id}
    row = (await work.execute(_SQL["head"], keys)).one_or_none()
    if row is None:
        return None
    return StatementHead(
        row.account_id, row.currency_code, AccountType(row.type), row.owner, row.last_seq
    )


async def net_before(
    work: UnitOfWork, account_id: str, by: Time, start_at: datetime, known: tuple[datetime, int]
) -> int:
    """Return debits less credits of the entries before a moment, in minor units.

    Args:
        by: which of their times lies before it.
        known: when they were recorded at the latest, and the highest of their numbers.
    """
    recorded_at, last_seq = known
    recorded_before = next_moment(recorded_at)
    if by is Time.RECORDED:
        return await _recorded_before(
            work, account_id, min(start_at, recorded_before), last_seq=last_seq
        )
    # All that is known less what takes effect later: as much work as has happened since, not as the account is old.
    all_of_it = await _recorded_before(work, account_id, recorded_before, last_seq=last_seq)
    parameters = {
        "tenant_id": work.tenant_id,
        "account_id": account_id,
        "last_seq": last_seq,
        "recorded_before": recorded_before,
        "start_at": start_at,
    }
    rows = await _by_index(work, "net_effective_from", parameters)
    return all_of_it - int(rows[0].net)


async def _recorded_before(
    work: UnitOfWork, account_id: str, before: datetime, *, last_seq: int
) -> int:
    parameters = {
        "tenant_id": work.tenant_id,
        "account_id": account_id,
        "last_seq": last_seq,
        "before": before,
    }
    return int((await _by_index(work, "net_recorded_before", parameters))[0].net)


async def sums(work: UnitOfWork, found: Statement) -> Sums:
    """Add the entries of a statement's period up."""
    (row,) = await _by_index(work, f"sums_{found.by.name.lower()}", _parameters(work, found))
    return Sums(int(row.debits), int(row.credits), row.entries, row.first_seq, row.last_seq)


async def list_lines(
    work: UnitOfWork, found: Statement, after: LinePlace, limit: int
) -> list[EntryView]:
    """List the entries of a statement behind a place, in its order."""
    if not found.sums.entries:
        return []
    parameters = {
        **_parameters(work, found),
        "last_seq": found.sums.last_seq,
        "after_at": after.at,
        "after_seq": after.seq,
        "limit": limit,
    }
    rows = await _by_index(work, f"lines_{found.by.name.lower()}", parameters)
    return [entry_of(row) for row in rows]


def _parameters(work: UnitOfWork, found: Statement) -> dict[str, Any]:
    return {
        "tenant_id": work.tenant_id,
        "account_id": found.head.account_id,
        "last_seq": found.last_seq,
        "recorded_before": next_moment(found.recorded_at),
        "start_at": found.span.start_at,
        "end_at": found.span.end_at,
    }


async def _by_index(work: UnitOfWork, name: str, parameters: dict[str, Any]) -> list[Any]:
    _, rows = await work.execute_all((BY_INDEX, {}), (_SQL[name], parameters))
    return list(rows)
