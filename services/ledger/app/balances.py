"""Reading balances at any time, and building the sums that they are read from."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from services.ledger.domain.balance import Balance
from services.ledger.domain.balances import (
    ACCOUNTS_MAX,
    ALL_ACCOUNTS,
    AccountRange,
    AsOf,
    BalanceLine,
    too_many_accounts,
)
from services.ledger.domain.trial_balance import CurrencySums, add_up
from services.ledger.store import balances as store
from services.runtime.database import UnitOfWork
from services.runtime.errors import NotFound


async def account_balance(work: UnitOfWork, account_id: str, as_of: AsOf) -> list[BalanceLine]:
    """Add one account up. Raises NotFound."""
    lines = await _sum(work, AccountRange.one(account_id), as_of)
    if not lines:
        raise NotFound("account", account_id)
    return lines


async def prefix_balance(work: UnitOfWork, prefix: str, as_of: AsOf) -> list[BalanceLine]:
    """Add the accounts up whose names begin alike, by currency and type.

    Raises:
        TooManyAccounts: there are more than 10,000.
    """
    accounts = AccountRange.beginning_with(prefix)
    if await store.count_accounts(work, accounts, ACCOUNTS_MAX + 1) > ACCOUNTS_MAX:
        raise too_many_accounts(prefix)
    lines = await _sum(work, accounts, as_of)
    return sorted(lines, key=lambda line: (line.sums.currency_code, line.sums.type))


async def trial_balance(work: UnitOfWork, as_of: AsOf) -> list[CurrencySums]:
    """Add all accounts up.

    Raises:
        AmountOverflow: a sum is beyond 64 bits.
    """
    lines = await _sum(work, ALL_ACCOUNTS, as_of)
    return add_up(line.sums for line in lines)


async def _sum(work: UnitOfWork, accounts: AccountRange, as_of: AsOf) -> list[BalanceLine]:
    if as_of.is_now:
        return await store.sum_balances(work, accounts)
    return await store.sum_balances_at(work, accounts, as_of)


async def load_timelines(
    work: UnitOfWork, balances: Iterable[Balance], effective_at: Iterable[datetime | None]
) -> None:
    """Give the locked accounts that keep their limits at every instant what transfers are judged by.

    The instants are those at which the transfers take effect, None for now, and now.
    """
    strict = [balance for balance in balances if balance.flags.limits_at_every_instant]
    if strict:
        times = sorted({work.now, *(each for each in effective_at if each is not None)})
        found = await store.read_timelines(work, strict, times)
        for balance in strict:
            balance.timeline = found[balance.account_id]
