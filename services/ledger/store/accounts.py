"""Accounts with their balances."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Select, select

from services.ledger.domain.accounts import (
    Account,
    AccountFilter,
    AccountType,
    AccountView,
    Flags,
)
from services.ledger.domain.reads import LOOKED_AT_MAX, Looked, behind_prefix
from services.ledger.store.rows import limits_of, parts
from services.ledger.tables import account as account_table
from services.ledger.tables import balance as balance_table
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.ledger", "queries/accounts.sql")


async def insert_accounts(work: UnitOfWork, accounts: Sequence[Account]) -> set[str]:
    """Create the accounts that do not exist, with empty balances; return the ids of those created."""
    created: set[str] = set()
    # Sorted, as locks are taken by the statement: two batches cannot wait for each other.
    for part in parts(sorted(accounts, key=lambda account: account.account_id)):
        created |= await _insert_accounts(work, part)
    return created


async def _insert_accounts(work: UnitOfWork, accounts: Sequence[Account]) -> set[str]:
    parameters = {
        "tenant_id": work.tenant_id,
        "now": work.now,
        "account_ids": [a.account_id for a in accounts],
        "currency_codes": [a.currency_code for a in accounts],
        "types": [int(a.type) for a in accounts],
        "no_overdrafts": [a.flags.debits_must_not_exceed_credits for a in accounts],
        "no_overpays": [a.flags.credits_must_not_exceed_debits for a in accounts],
        "closed": [a.flags.closed for a in accounts],
        "owners": [a.owner for a in accounts],
        "metadata": [json.dumps(dict(a.metadata)) for a in accounts],
        "floors": [a.limits.floor_minor for a in accounts],
        "ceilings": [a.limits.ceiling_minor for a in accounts],
    }
    rows = await work.execute(_SQL["insert_accounts"], parameters)
    created = {row.account_id for row in rows}
    if created:
        keys = {"tenant_id": work.tenant_id, "account_ids": sorted(created)}
        await work.execute(_SQL["insert_balances"], keys)
    return created


async def read_accounts(work: UnitOfWork, account_ids: Collection[str]) -> dict[str, Account]:
    """Read what is fixed about accounts, by id."""
    found: dict[str, Account] = {}
    for ids in parts(list(account_ids)):
        keys = {"tenant_id": work.tenant_id, "account_ids": ids}
        for row in await work.execute(_SQL["read_accounts"], keys):
            found[row.account_id] = _account(row)
    return found


async def list_accounts(
    work: UnitOfWork, wanted: AccountFilter, after: str, size: int
) -> Looked[AccountView, str]:
    """List accounts with balances behind `after`, by id."""
    is_filtered = bool(wanted.currency_code or wanted.type is not None)
    most = LOOKED_AT_MAX if is_filtered else size + 1
    looked_at = accounts_looked_at(work.tenant_id, wanted, after, most)
    near, sums = looked_at.subquery("a"), balance_table
    query = (
        select(
            near,
            sums.c.debits_posted,
            sums.c.credits_posted,
            sums.c.debits_pending,
            sums.c.credits_pending,
            sums.c.closed.label("closed_now"),
        )
        .join(
            sums,
            (sums.c.tenant_id == near.c.tenant_id) & (sums.c.account_id == near.c.account_id),
        )
        .order_by(near.c.account_id)
        .limit(size + 1)
    )
    if wanted.currency_code:
        query = query.where(near.c.currency_code == wanted.currency_code)
    if wanted.type is not None:
        query = query.where(near.c.type == int(wanted.type))
    found = [_view(row) for row in await work.execute(query)]
    if len(found) > size:
        return Looked(found[:size], found[size - 1].account.account_id)
    if not is_filtered:
        return Looked(found, None)
    ids = looked_at.with_only_columns(account_table.c.account_id)
    row = (await work.execute(ids.limit(1).offset(most - 1))).one_or_none()
    return Looked(found, None if row is None else row.account_id)


def accounts_looked_at(
    tenant_id: str, wanted: AccountFilter, after: str, limit: int
) -> Select[Any]:
    """Compose the statement of the accounts that a page looks at: those that an index finds, by id."""
    table = account_table
    query = (
        select(table)
        .where(table.c.tenant_id == tenant_id, table.c.account_id > after)
        .order_by(table.c.account_id)
        .limit(limit)
    )
    if wanted.prefix:
        query = query.where(
            table.c.account_id >= wanted.prefix, table.c.account_id < behind_prefix(wanted.prefix)
        )
    return query.where(table.c.owner == wanted.owner) if wanted.owner else query


async def accounts_from(
    work: UnitOfWork, prefix: str, start: str, limit: int
) -> dict[str, AccountType]:
    """Read the types of the accounts of a prefix by id, beginning with account `start`."""
    keys = {
        "tenant_id": work.tenant_id,
        "start": max(prefix, start),
        "behind": behind_prefix(prefix),
        "limit": limit,
    }
    rows = await work.execute(_SQL["accounts_from"], keys)
    return {row.account_id: AccountType(row.type) for row in rows}


async def find_account(database: Database, account_id: str) -> AccountView | None:
    """Read one account of the current tenant with its balances."""
    keys = {"tenant_id": current().tenant_id, "account_id": account_id}
    row = (await database.ask(_SQL["read_account"], keys)).one_or_none()
    return None if row is None else _view(row)


async def read_account(work: UnitOfWork, account_id: str) -> AccountView | None:
    """Read one account with its balances."""
    keys = {"tenant_id": work.tenant_id, "account_id": account_id}
    row = (await work.execute(_SQL["read_account"], keys)).one_or_none()
    return None if row is None else _view(row)


def _account(row: Any) -> Account:
    return Account(
        account_id=row.account_id,
        currency_code=row.currency_code,
        type=AccountType(row.type),
        flags=Flags(
            row.debits_must_not_exceed_credits, row.credits_must_not_exceed_debits, row.closed
        ),
        owner=row.owner,
        metadata=row.metadata,
        limits=limits_of(row.floor_minor, row.ceiling_minor),
    )


def _view(row: Any) -> AccountView:
    return AccountView(
        _account(row),
        row.debits_posted,
        row.credits_posted,
        row.debits_pending,
        row.credits_pending,
        row.closed_now,
        row.created_at,
    )
