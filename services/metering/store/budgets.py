"""Budgets, and what counts against them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from services.metering.domain.budgets import (
    ZERO,
    Book,
    Budget,
    BudgetMode,
    BudgetPeriod,
    BudgetView,
    Counter,
    Key,
)
from services.metering.store import usage
from services.metering.store.rows import rows_of
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql
from services.runtime.postgres.session import Rows

_SQL = sql.load("services.metering", "queries/budgets.sql")


def share(work: UnitOfWork) -> None:
    """Keep the tenant's budgets as they are until the commit; ahead of all that the transaction locks."""
    work.later(_SQL["share_budgets"], {"tenant_id": work.tenant_id})


def check_version(work: UnitOfWork, version: int) -> None:
    """Make the transaction a victim, which is run again, unless this is the version of its budgets."""
    work.later(_SQL["same_budgets"], {"version": version})


async def hold_alone(work: UnitOfWork) -> None:
    """Wait for whoever counts by the tenant's budgets, and keep others from it until the commit."""
    await work.execute(_SQL["hold_budgets"], {"tenant_id": work.tenant_id})


def asking_version(work: UnitOfWork) -> tuple[str, Mapping[str, object]]:
    """Return the statement that asks for the version of the budgets."""
    return _SQL["read_version"], {"tenant_id": work.tenant_id}


def version_of(rows: Rows) -> int:
    """Read the version of the budgets; 0 where there never was one."""
    return next((int(row.version) for row in rows), 0)


def next_version(work: UnitOfWork) -> None:
    """Say that the budgets have changed."""
    work.later(_SQL["next_version"], {"tenant_id": work.tenant_id})


async def read_book(work: UnitOfWork) -> Book:
    """Read the budgets and their version; exact where they are shared."""
    version = version_of(await work.execute(*asking_version(work)))
    if not version:
        return Book(0)
    rows = await work.execute(_SQL["all_budgets"], {"tenant_id": work.tenant_id})
    return Book(version, [_budget(row) for row in rows])


async def find(work: UnitOfWork, budget_id: str) -> BudgetView | None:
    """Read one budget."""
    rows = await rows_of(work, _SQL, "find_budget", budget_id=budget_id)
    return _view(rows[0]) if rows else None


async def page(work: UnitOfWork, org_id: str, after: str, limit: int) -> list[BudgetView]:
    """List budgets behind an id, those of one organisation where one is given."""
    rows = await rows_of(work, _SQL, "list_budgets", org_id=org_id, after=after, limit=limit)
    return [_view(row) for row in rows]


async def count(work: UnitOfWork) -> int:
    """Count the tenant's budgets."""
    return int((await rows_of(work, _SQL, "count_budgets"))[0].count)


def put(work: UnitOfWork, budget: Budget) -> None:
    """Write a budget, in place of one of the same id."""
    parameters = {
        "tenant_id": work.tenant_id,
        "now": work.now,
        "budget_id": budget.budget_id,
        "series": budget.series,
        "org_id": budget.org_id,
        "sku": budget.sku,
        "period": budget.period.value,
        "time_zone": budget.time_zone,
        "limit_value": budget.limit,
        "currency_code": budget.currency_code,
        "mode": budget.mode.value,
        "thresholds_pct": list(budget.thresholds_pct),
        "enforce_in_ingest": budget.enforce_in_ingest,
        "description": budget.description,
    }
    work.later(_SQL["put_budget"], parameters)


def delete(work: UnitOfWork, budget: Budget) -> None:
    """Delete a budget and what was counted for it."""
    keys = {"tenant_id": work.tenant_id, "budget_id": budget.budget_id, "series": budget.series}
    work.later(_SQL["delete_budget"], keys)
    work.later(_SQL["delete_use"], keys)


async def lock_counters(work: UnitOfWork, budgets: Mapping[Key, Budget]) -> dict[Key, Counter]:
    """Lock what uses are counted by, sorted, and open the periods that nothing was counted in yet."""
    if not budgets:
        return {}
    found = await _counters(work, "lock_use", budgets)
    missing = budgets.keys() - found.keys()
    if missing:
        for key in sorted(missing):
            await open_counter(work, await opening(work, budgets[key], key[1]))
        # Sorted as a whole, in case that another waits for one of them.
        found = await _counters(work, "lock_use", budgets)
    return found


async def read_counters(work: UnitOfWork, budgets: Mapping[Key, Budget]) -> dict[Key, Counter]:
    """Read what uses are counted by; periods are missing that nothing was counted in."""
    return await _counters(work, "read_use", budgets) if budgets else {}


async def opening(work: UnitOfWork, budget: Budget, start_at: datetime) -> Counter:
    """Return the counter that a period begins with: the usage that is stored of it.

    That of a budget in money begins with the units and no amount: nobody rates what was stored before it.
    """
    start_at, end_at = budget.bounds(start_at)
    skus = [budget.sku] if budget.sku else await usage.skus_of_org(work, budget.org_id)
    rows = await rows_of(
        work,
        _SQL,
        "usage_so_far",
        org_id=budget.org_id,
        skus=skus,
        start_at=start_at,
        end_at=end_at,
    )
    stored = {row.sku: row.quantity for row in rows}
    if budget.currency_code:
        return Counter(budget, start_at, quantities=stored)
    return Counter(budget, start_at, used=sum(stored.values(), ZERO))


async def open_counter(work: UnitOfWork, counter: Counter) -> None:
    """Begin a period, unless it has begun."""
    await rows_of(
        work,
        _SQL,
        "open_use",
        series=counter.budget.series,
        start_at=counter.start_at,
        used=counter.used,
        quantities=_written(counter.quantities),
    )


def write_counters(work: UnitOfWork, counters: Iterable[Counter]) -> None:
    """Write counters that are locked and have changed."""
    rows = [
        {
            "series": str(each.budget.series),
            "start_at": each.start_at.isoformat(),
            "used": str(each.used),
            "held": str(each.held),
            "told": sorted(each.told),
            "quantities": {sku: str(value) for sku, value in each.quantities.items()},
        }
        for each in counters
        if each.changed
    ]
    if rows:
        work.later(_SQL["write_use"], {"tenant_id": work.tenant_id, "rows": json.dumps(rows)})


async def _counters(
    work: UnitOfWork, name: str, budgets: Mapping[Key, Budget]
) -> dict[Key, Counter]:
    keys = sorted(budgets)
    parameters = {
        "tenant_id": work.tenant_id,
        "series": [series for series, _ in keys],
        "starts": [start_at for _, start_at in keys],
    }
    found = {}
    for row in await work.execute(_SQL[name], parameters):
        key = (row.series, row.start_at.astimezone(UTC))
        quantities = {sku: Decimal(text) for sku, text in row.quantities.items()}
        found[key] = Counter(
            budgets[key], key[1], row.used, row.held, frozenset(row.told), quantities
        )
    return found


def _written(quantities: Mapping[str, Decimal]) -> str:
    return json.dumps({sku: str(value) for sku, value in quantities.items()})


def _budget(row: Any) -> Budget:
    return Budget(
        budget_id=row.budget_id,
        series=UUID(str(row.series)),
        org_id=row.org_id,
        sku=row.sku,
        period=BudgetPeriod(row.period),
        time_zone=row.time_zone,
        limit=row.limit_value,
        currency_code=row.currency_code,
        mode=BudgetMode(row.mode),
        thresholds_pct=tuple(row.thresholds_pct),
        enforce_in_ingest=row.enforce_in_ingest,
        description=row.description,
    )


def _view(row: Any) -> BudgetView:
    return BudgetView(_budget(row), row.created_at, row.updated_at)
