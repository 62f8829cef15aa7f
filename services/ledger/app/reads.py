"""Lists of entries, of one account or of many."""

from __future__ import annotations

from collections.abc import Mapping

from services.ledger.domain.accounts import Account, AccountType, EntryPlace
from services.ledger.domain.reads import (
    ACCOUNTS_LOOKED_AT_MAX,
    EntriesWanted,
    Looked,
    TypedEntry,
)
from services.ledger.store import accounts, entries
from services.runtime.database import UnitOfWork
from services.runtime.errors import NotFound


async def list_entries(
    work: UnitOfWork, wanted: EntriesWanted, after: EntryPlace | None, size: int
) -> Looked[TypedEntry, EntryPlace]:
    """List entries behind a place; None begins before the first. Raises NotFound: there is no such account."""
    start = after.account_id if after else ""
    types = await _accounts(work, wanted, start)
    if not types:
        return Looked((), None)
    after = after or wanted.before_all(min(types))
    found, place = await entries.list_entries(work, wanted, list(types), after, size + 1)
    shown = [TypedEntry(entry, types[entry.account_id]) for entry in found[:size]]
    if len(found) > size:
        return Looked(shown, shown[-1].place)
    if place is None and len(types) == ACCOUNTS_LOOKED_AT_MAX:
        place = wanted.behind_all(max(types))
    return Looked(shown, place)


async def _accounts(
    work: UnitOfWork, wanted: EntriesWanted, start: str
) -> Mapping[str, AccountType]:
    """Read the types of the accounts that a page looks into, in order, by id."""
    if wanted.account_prefix:
        return await accounts.accounts_from(
            work, wanted.account_prefix, start, ACCOUNTS_LOOKED_AT_MAX
        )
    return {wanted.account_id: (await check_account(work, wanted.account_id)).type}


async def check_account(work: UnitOfWork, account_id: str) -> Account:
    """Return an account that a list is asked for. Raises NotFound."""
    known = await accounts.read_accounts(work, [account_id])
    if account_id not in known:
        raise NotFound("account", account_id)
    return known[account_id]
