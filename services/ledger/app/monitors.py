"""Monitors of balances: put, deleted, and told of what crosses them."""

from __future__ import annotations

from collections.abc import Sequence

from services.ledger import facts
from services.ledger.domain import measures
from services.ledger.domain.monitors import (
    MONITORS_MAX,
    PREFIX_MONITORS_MAX,
    BalanceMonitorsFull,
    Monitor,
    MonitorView,
    Trail,
    crossings,
)
from services.ledger.store import monitors as store
from services.ledger.store.posting import lock_balances
from services.runtime.database import UnitOfWork
from services.runtime.errors import InvalidField, NotFound
from services.runtime.turns import aside


async def tell_crossings(
    work: UnitOfWork, trail: Trail, of_prefixes: Sequence[Monitor], batch_no: int
) -> None:
    """Tell which monitors a batch has triggered, within its transaction and under the locks of its balances."""
    if not trail.changed:
        return
    named = trail.named
    monitors = [*(await store.of_accounts(work, named) if named else ()), *of_prefixes]
    comparisons = len(monitors) * len(trail.changed)
    for crossing in await aside(comparisons, crossings, monitors, trail):
        work.publish(facts.balance_crossed(crossing, batch_no, work.now))
        work.count(measures.CROSSINGS, 1, comparison=crossing.monitor.comparison.name.lower())


async def put_monitor(monitor: Monitor, work: UnitOfWork) -> MonitorView:
    """Put a monitor. Nothing is told of what satisfies it already.

    Raises:
        NotFound: there is no such account.
        InvalidField: the threshold is in another currency than the account.
        BalanceMonitorsFull: the tenant has as many as it may.
    """
    await store.one_at_a_time(work)
    before = await store.find(work, monitor.monitor_id)
    await _make_room(work, monitor, before)
    if not monitor.account_id:
        # What is under way did not look at it, so it would not tell what it makes of a balance.
        await store.await_batches(work)
    account_ids = {monitor.account_id, before.monitor.account_id if before else ""} - {""}
    balances = await lock_balances(work, account_ids)
    if monitor.account_id:
        balance = balances.get(monitor.account_id)
        if balance is None:
            raise NotFound("account", monitor.account_id)
        if balance.currency_code != monitor.threshold.currency_code:
            raise InvalidField.one(
                "monitor.threshold.currency_code",
                f"must be {balance.currency_code}, the account's currency",
            )
    await store.put(work, monitor)
    await store.mark_accounts(work, account_ids)
    stands = await store.find(work, monitor.monitor_id)
    assert stands is not None, "it was just put"
    said = None if before is None else _said(before.monitor)
    work.audit("balance_monitor", monitor.monitor_id, said, _said(monitor))
    return stands


async def delete_monitor(monitor_id: str, work: UnitOfWork) -> MonitorView:
    """End a monitor. Raises NotFound."""
    await store.one_at_a_time(work)
    stood = await store.find(work, monitor_id)
    if stood is None:
        raise NotFound("balance monitor", monitor_id)
    account_ids = {stood.monitor.account_id} - {""}
    await lock_balances(work, account_ids)
    await store.delete(work, monitor_id)
    await store.mark_accounts(work, account_ids)
    work.audit("balance_monitor", monitor_id, _said(stood.monitor), None)
    return stood


async def _make_room(work: UnitOfWork, monitor: Monitor, before: MonitorView | None) -> None:
    all_, of_prefix = await store.count(work)
    if before is not None:
        all_ -= 1
        of_prefix -= not before.monitor.account_id
    if all_ >= MONITORS_MAX:
        raise _full(f"the tenant has {MONITORS_MAX} balance monitors", MONITORS_MAX)
    if not monitor.account_id and of_prefix >= PREFIX_MONITORS_MAX:
        message = f"the tenant has {PREFIX_MONITORS_MAX} balance monitors of prefixes"
        raise _full(message, PREFIX_MONITORS_MAX)


def _full(message: str, monitors_max: int) -> BalanceMonitorsFull:
    return BalanceMonitorsFull(
        f"{message}, which is the most; delete one first", monitors_max=monitors_max
    )


def _said(monitor: Monitor) -> dict[str, object]:
    return {
        "account_id": monitor.account_id,
        "account_prefix": monitor.account_prefix,
        "side": monitor.side.name,
        "comparison": monitor.comparison.name,
        "threshold": str(monitor.threshold),
        "description": monitor.description,
    }
