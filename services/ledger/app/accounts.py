"""Creating accounts."""

from __future__ import annotations

from collections.abc import Sequence

from services.ledger.domain.accounts import Account, AccountResult, compare
from services.ledger.store import accounts as store
from services.runtime.database import UnitOfWork
from services.runtime.turns import in_slices

# Between two looks at what else is to be done.
SLICE_ITEMS = 100


async def create_accounts(accounts: Sequence[Account], work: UnitOfWork) -> list[AccountResult]:
    """Create accounts within a transaction; of two of the same id in a call the first is created."""
    first: dict[str, Account] = {}
    for account in accounts:
        first.setdefault(account.account_id, account)
    created = await store.insert_accounts(work, list(first.values()))
    existing = await store.read_accounts(work, first.keys() - created)
    results = []
    async for account in in_slices(accounts, SLICE_ITEMS):
        if account.account_id in created and first[account.account_id] is account:
            results.append(AccountResult.OK)
        else:
            before = existing.get(account.account_id) or first[account.account_id]
            results.append(compare(before, account))
    return results
