"""Balances at any time, and the sums by day and month that they are read from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from services.ledger.domain.accounts import AccountType
from services.ledger.domain.balance import Balance
from services.ledger.domain.balances import AccountRange, AsOf, BalanceLine, bounds, day_start
from services.ledger.domain.timelines import Timeline
from services.ledger.domain.trial_balance import TypeSums
from services.ledger.store.rows import parts
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.ledger", "queries/balances.sql")
_NO_BOUND = "infinity"


class EntriesBroken(Exception):
    """Entries of an account are missing: somebody has changed the books past the ledger. A verification says more.

    Attributes:
        account_id: the account.
        before_seq: the place before which some are missing.
    """

    def __init__(self, account_id: str, before_seq: int) -> None:
        super().__init__(f"entries of {account_id} have a gap before {before_seq}")
        self.account_id = account_id
        self.before_seq = before_seq


async def count_accounts(work: UnitOfWork, accounts: AccountRange, most: int) -> int:
    """Count the accounts of a range, up to `most`."""
    parameters = {**_range(work, accounts), "most": most}
    return int((await work.execute(_SQL["count_accounts"], parameters)).scalar_one())


async def sum_balances(work: UnitOfWork, accounts: AccountRange) -> list[BalanceLine]:
    """Add accounts up by currency and type, as they stand now."""
    return [
        BalanceLine(_sums(row), int(row.debits_pending), int(row.credits_pending))
        for row in await work.execute(_SQL["sum_balances"], _range(work, accounts))
    ]


async def sum_balances_at(
    work: UnitOfWork, accounts: AccountRange, as_of: AsOf
) -> list[BalanceLine]:
    """Add accounts up by currency and type, as of a time; in the snapshot of the transaction, which must be one."""
    parameters = {**_range(work, accounts), **_times(as_of)}
    names = ["sum_days"] if as_of.effective_at else []
    names += ["sum_recorded_days", "sum_entries_of_recorded_day"] if as_of.recorded_at else []
    work.later(_SQL["by_value"])
    # The months are read in one scan of all accounts, what follows account by account.
    months, _, *rest = await work.execute_all(
        (_SQL["sum_months"], parameters),
        (_SQL["by_key"], {}),
        *((_SQL[name], parameters) for name in names),
    )
    sums = list(months)
    answers = dict(zip(names, map(list, rest), strict=True))
    names = []
    if any(row.unsummed for row in sums):
        names.append("sum_unsummed_entries")
    recorded = [
        day
        for row in answers.get("sum_days", ())
        for day in (row.first_recorded, row.last_recorded)
        if day is not None
    ]
    if recorded:
        names.append("sum_entries_of_day")
        parameters |= {
            "some_from": day_start(min(recorded)),
            "some_before": day_start(max(recorded)) + timedelta(days=1),
        }
    if names:
        more = await work.execute_all(*((_SQL[name], parameters) for name in names))
        answers |= zip(names, map(list, more), strict=True)
    return _added_up(sums, answers.values())


def _added_up(months: Sequence[Any], others: Iterable[Sequence[Any]]) -> list[BalanceLine]:
    sums = {(row.currency_code, row.type): _sums(row) for row in months}
    for rows in others:
        for row in rows:
            before = sums[row.currency_code, row.type]
            sums[row.currency_code, row.type] = replace(
                before,
                debits_minor=before.debits_minor + int(row.debits),
                credits_minor=before.credits_minor + int(row.credits),
            )
    return [BalanceLine(each) for each in sums.values()]


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
        f"{name}_from": day_start(cut.day),
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
    work.later(_SQL["by_key"])
    work.later(_SQL["by_value"])
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
        if entries != expected:
            raise EntriesBroken(account_id, last_seq)
        if entries == limit:
            more.append(account_id)
    return more
