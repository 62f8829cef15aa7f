"""Monitors of balances."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from services.ledger.domain.accounts import AccountType
from services.ledger.domain.monitors import (
    Balances,
    BalanceSide,
    Comparison,
    Monitor,
    MonitorView,
)
from services.ledger.store.rows import names, parts
from services.runtime.database import UnitOfWork
from services.runtime.money import Money
from services.runtime.postgres import sql
from services.runtime.postgres.session import Rows

_SQL = sql.load("services.ledger", "queries/monitors.sql")
PREFIXES = _SQL["monitors_of_prefixes"]


@dataclass(slots=True)
class _Sums:
    account_id: str
    currency_code: str
    type: AccountType
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int
    monitored: bool = True


def share(work: UnitOfWork) -> None:
    """Keep monitors of prefixes from being put until the transaction ends; ahead of all that it locks."""
    work.later(_SQL["share_monitors"], {"tenant_id": work.tenant_id})


async def of_prefixes(work: UnitOfWork) -> list[Monitor]:
    """Read the monitors of prefixes."""
    return read_monitors(await work.execute(PREFIXES, {"tenant_id": work.tenant_id}))


def read_monitors(rows: Rows) -> list[Monitor]:
    """Read monitors off rows."""
    return [_monitor(row) for row in rows]


async def of_accounts(work: UnitOfWork, account_ids: Collection[str]) -> list[Monitor]:
    """Read the monitors that name accounts, whose balances are locked."""
    found: list[Monitor] = []
    for part in parts(sorted(account_ids)):
        keys = {"tenant_id": work.tenant_id, "account_ids": names(part)}
        found += read_monitors(await work.execute(_SQL["monitors_of_accounts"], keys))
    return found


async def one_at_a_time(work: UnitOfWork) -> None:
    """Be the only one who puts or deletes a monitor of the tenant, until the transaction ends."""
    await work.execute(_SQL["one_at_a_time"], {"tenant_id": work.tenant_id})


async def await_batches(work: UnitOfWork) -> None:
    """Wait for the tenant's batches that are under way, and hold up those to come until the transaction ends."""
    await work.execute(_SQL["await_batches"], {"tenant_id": work.tenant_id})


async def count(work: UnitOfWork) -> tuple[int, int]:
    """Count all monitors, and those of prefixes."""
    ((monitors, of_prefix),) = (
        await work.execute(_SQL["count_monitors"], {"tenant_id": work.tenant_id})
    ).tuples()
    return int(monitors), int(of_prefix)


async def put(work: UnitOfWork, monitor: Monitor) -> None:
    """Write a monitor, in place of one of the same id."""
    parameters = {
        "tenant_id": work.tenant_id,
        "now": work.now,
        "monitor_id": monitor.monitor_id,
        "account_id": monitor.account_id or None,
        "account_prefix": None if monitor.account_id else monitor.account_prefix,
        "side": int(monitor.side),
        "comparison": int(monitor.comparison),
        "currency_code": monitor.threshold.currency_code,
        "threshold_minor": monitor.threshold.minor_units,
        "description": monitor.description,
    }
    work.later(_SQL["put_monitor"], parameters)


async def delete(work: UnitOfWork, monitor_id: str) -> None:
    """Delete a monitor."""
    keys = {"tenant_id": work.tenant_id, "monitor_id": monitor_id}
    work.later(_SQL["delete_monitor"], keys)


async def mark_accounts(work: UnitOfWork, account_ids: Collection[str]) -> None:
    """Note at accounts, whose balances are locked, whether a monitor names them."""
    if account_ids:
        keys = {"tenant_id": work.tenant_id, "account_ids": names(sorted(account_ids))}
        work.later(_SQL["mark_accounts"], keys)


async def find(work: UnitOfWork, monitor_id: str) -> MonitorView | None:
    """Read one monitor as it stands."""
    keys = {"tenant_id": work.tenant_id, "monitor_id": monitor_id}
    row = (await work.execute(_SQL["read_monitor"], keys)).one_or_none()
    return None if row is None else _view(row)


async def page(work: UnitOfWork, account_id: str, after: str, limit: int) -> list[MonitorView]:
    """List monitors behind an id; of an account, if one is given, by its id or by a prefix of it."""
    parameters = {
        "tenant_id": work.tenant_id,
        "account_id": account_id,
        "after": after,
        "limit": limit,
    }
    return [_view(row) for row in await work.execute(_SQL["list_monitors"], parameters)]


def _monitor(row: Any) -> Monitor:
    return Monitor(
        monitor_id=row.monitor_id,
        account_id=row.account_id or "",
        account_prefix=row.account_prefix or "",
        side=BalanceSide(row.side),
        comparison=Comparison(row.comparison),
        threshold=Money(row.currency_code, row.threshold_minor),
        description=row.description,
    )


def _view(row: Any) -> MonitorView:
    balances = None
    if row.type is not None:
        sums = _Sums(
            row.account_id,
            row.currency_code,
            AccountType(row.type),
            row.debits_posted,
            row.credits_posted,
            row.debits_pending,
            row.credits_pending,
        )
        balances = Balances.of(sums)
    return MonitorView(_monitor(row), balances, row.created_at, row.updated_at)
