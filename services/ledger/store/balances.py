"""Balances at any time, and the sums by day and month that they are read from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.ledger.domain.accounts import AccountType
from services.ledger.domain.balances import AccountRange, AsOf, BalanceLine, bounds
from services.ledger.domain.posting import Balance
from services.ledger.domain.timelines import Timeline
from services.ledger.domain.trial_balance import TypeSums
from services.ledger.store.rows import parts
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.ledger", "queries/balances.sql")
_NO_BOUND = "infinity"


async def count_accounts(work: UnitOfWork, accounts: AccountRange, most: int) -> int:
    """Count the accounts of a range, up to `most`."""
    parameters = {**_range(work, accounts), "most": most}
    return int((await work.execute(_SQL["count_accounts"], parameters)).scalar_one())


async def sum_balances(work: UnitOfWork, accounts: AccountRange, as_of: AsOf) -> list[BalanceLine]:
    """Add accounts up by currency and type; in the snapshot of the transaction."""
    parameters = _range(work, accounts)
    if as_of.is_now:
        return [
            BalanceLine(_sums(row), int(row.debits_pending), int(row.credits_pending))
            for row in await work.execute(_SQL["sum_balances"], parameters)
        ]
    work.later(_SQL["by_key"])
    # Planned for its values: those of an infinite bound, or of a whole tenant, are no others' measure.
    rows = await work.execute(
        _SQL["sum_balances_at"], {**parameters, **_times(as_of)}, prepare=False
    )
    return [BalanceLine(_sums(row)) for row in rows]


def _range(work: UnitOfWork, accounts: AccountRange) -> dict[str, Any]:
    return {"tenant_id": work.tenant_id, "first": accounts.first, "last": accounts.last}


def _times(as_of: AsOf) -> dict[str, Any]:
    return {
        **_bounds("effective", as_of.effective_at),
        **_bounds("recorded", as_of.recorded_at),
    }


def _bounds(name: str, instant: datetime | None) -> dict[str, Any]:
    if instant is None:
        return {f"{name}_{each}": _NO_BOUND for each in ("at", "day", "month", "from")}
    cut = bounds(instant)
    return {
        f"{name}_at": cut.instant,
        f"{name}_day": cut.day,
        f"{name}_month": cut.month,
        f"{name}_from": cut.day_starts_at,
    }


def _sums(row: Any) -> TypeSums:
    return TypeSums(
        row.currency_code,
        AccountType(row.type),
        int(row.accounts),
        int(row.debits),
        int(row.credits),
    )


async def read_timelines(
    work: UnitOfWork, balances: Collection[Balance], times: Sequence[datetime]
) -> dict[str, Timeline]:
    """Read the balance of locked accounts over effective time, in spans that begin at `times`, which are in order."""
    parameters = {
        "tenant_id": work.tenant_id,
        "account_ids": [balance.account_id for balance in balances],
        "finals": [balance.debits_posted - balance.credits_posted for balance in balances],
        "times": list(times),
        "first_at": times[0],
    }
    spans: dict[str, tuple[list[int], list[int]]] = {b.account_id: ([], []) for b in balances}
    for account_id, _, low, high in (
        await work.execute(_SQL["read_timelines"], parameters)
    ).tuples():
        lows, highs = spans[account_id]
        lows.append(int(low))
        highs.append(int(high))
    return {
        account_id: Timeline(tuple(times), tuple(lows), tuple(highs))
        for account_id, (lows, highs) in spans.items()
    }


async def unsummed_accounts(
    work: UnitOfWork, after: tuple[str, str], limit: int
) -> tuple[Mapping[str, Sequence[str]], tuple[str, str] | None]:
    """Look at so many accounts of any tenant behind a place: which have entries that are in no sum, by tenant.

    Returns too the place of the last one that was looked at; None when there was none.
    """
    tenant_id, account_id = after
    parameters = {"tenant_id": tenant_id, "account_id": account_id, "accounts": limit}
    behind: dict[str, list[str]] = {}
    place = None
    for tenant_id, account_id, is_behind in (
        await work.execute(_SQL["unsummed_accounts"], parameters)
    ).tuples():
        place = (tenant_id, account_id)
        if is_behind:
            behind.setdefault(tenant_id, []).append(account_id)
    return behind, place


async def sum_entries(work: UnitOfWork, account_ids: Sequence[str], limit: int) -> list[str]:
    """Add the next entries of accounts, up to `limit` of each, to their sums; returns those that may have more.

    Accounts that another process is just working on are passed over.
    """
    more: list[str] = []
    work.later(_SQL["by_key"])
    for ids in parts(account_ids):
        more += await _sum_entries(work, ids, limit)
    return more


async def _sum_entries(work: UnitOfWork, account_ids: Sequence[str], limit: int) -> list[str]:
    keys = {"tenant_id": work.tenant_id, "account_ids": list(account_ids)}
    work.later(_SQL["make_marks"], keys)
    marks = (await work.execute(_SQL["lock_marks"], keys)).tuples()
    parameters = {
        "tenant_id": work.tenant_id,
        "account_ids": [account_id for account_id, _ in marks],
        "summed_seqs": [summed_seq for _, summed_seq in marks],
        "limit": limit,
    }
    more = []
    for account_id, last_seq, entries, expected in (
        await work.execute(_SQL["sum_entries"], parameters)
    ).tuples():
        # Committed, it would stay: a sum that lacks an entry is never looked at again.
        assert entries == expected, f"entries of {account_id} have a gap before {last_seq}"
        if entries == limit:
            more.append(account_id)
    return more
