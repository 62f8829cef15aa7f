"""Use cases of budgets: put, deleted, and how they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from services.metering.app.books import tell_crossings
from services.metering.app.skus import SkuMemory
from services.metering.domain.budgets import (
    BUDGETS_MAX,
    ZERO,
    Budget,
    BudgetsFull,
    BudgetStatus,
    BudgetView,
    check_fixed,
)
from services.metering.domain.usage import UnknownSkuAsked
from services.metering.ports import Prices
from services.metering.store import budgets as store
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import CurrencyMismatch, DomainError, NotFound
from services.runtime.ids import new_uuid
from services.runtime.money import CONTEXT, format_decimal

SKU_NOT_PRICED = "SKU_NOT_PRICED"


@dataclass(frozen=True, slots=True)
class PutBudget:
    """A budget as it is to be.

    Attributes:
        spent: of a new one in money, what was used of its period so far, in major units; or why it cannot be rated, or
            limits nothing.
    """

    budget: Budget
    spent: Decimal | DomainError = field(default=ZERO)


class Budgets:
    """The budgets of the tenant that the running call acts for."""

    def __init__(self, database: Database, prices: Prices, skus: SkuMemory) -> None:
        self._database = database
        self._prices = prices
        self._skus = skus

    async def asked(self, budget: Budget) -> PutBudget:
        """Look its SKU up, and rate what a budget in money begins with, outside of the transaction that puts it."""
        try:
            await self._check_sku(budget.sku)
            if not budget.currency_code:
                return PutBudget(budget)
            return PutBudget(budget, await self._spent(budget))
        except DomainError as error:
            # Refused in the transaction, where a put that was answered before gets its answer again.
            return PutBudget(budget, error)

    async def put(self, command: PutBudget, work: UnitOfWork) -> BudgetView:
        """Put a budget; what is used and held of it stays.

        Raises:
            BudgetFixed: one of this name differs in what it cannot change.
            BudgetsFull: the tenant has as many as it may.
            DomainError: a new one is of an unknown SKU, or one in money cannot be rated.
        """
        await store.hold_alone(work)
        before = await store.find(work, command.budget.budget_id)
        budget = await self._as_it_stands(command, work, before)
        key = budget.key(work.now)
        counter = (await store.read_counters(work, {key: budget})).get(key)
        if counter is None:
            opened = await store.opening(work, budget, key[1])
            if budget.currency_code:
                assert isinstance(command.spent, Decimal), "refused before"
                opened.used = command.spent
            await store.open_counter(work, opened)
            counter = opened
        counter.follow(budget)
        store.put(work, budget)
        store.next_version(work)
        tell_crossings(work, [counter])
        store.write_counters(work, [counter])
        said = None if before is None else _said(before.budget)
        work.audit("budget", budget.budget_id, said, _said(budget))
        created_at = work.now if before is None else before.created_at
        return BudgetView(budget, created_at, work.now)

    async def delete(self, budget_id: str, work: UnitOfWork) -> BudgetView:
        """End a budget. Raises NotFound."""
        await store.hold_alone(work)
        view = await store.find(work, budget_id)
        if view is None:
            raise NotFound("budget", budget_id)
        store.delete(work, view.budget)
        store.next_version(work)
        work.audit("budget", budget_id, _said(view.budget), None)
        return view

    async def list(self, org_id: str, after: str, limit: int) -> list[BudgetView]:
        """List budgets behind an id, those of one organisation where one is given."""
        async with self._database.read() as work:
            return await store.page(work, org_id, after, limit)

    async def status(self, budget_id: str, at: datetime | None) -> BudgetStatus:
        """Tell how a budget stands in the period of an instant; None: of now. Raises NotFound."""
        async with self._database.read() as work:
            view = await store.find(work, budget_id)
            if view is None:
                raise NotFound("budget", budget_id)
            key = view.budget.key(at or work.now)
            counters = await store.read_counters(work, {key: view.budget})
            counter = counters.get(key) or await store.opening(work, view.budget, key[1])
        return BudgetStatus(view, counter)

    async def _as_it_stands(
        self, command: PutBudget, work: UnitOfWork, before: BudgetView | None
    ) -> Budget:
        budget = command.budget
        if before is not None:
            check_fixed(before.budget, budget)
            return replace(budget, series=before.budget.series)
        if isinstance(command.spent, DomainError):
            raise command.spent
        if await store.count(work) >= BUDGETS_MAX:
            raise BudgetsFull(
                f"the tenant has {BUDGETS_MAX} budgets, which is the most; delete one first",
                budgets_max=BUDGETS_MAX,
            )
        return replace(budget, series=new_uuid())

    async def _check_sku(self, sku: str) -> None:
        """Raises UnknownSkuAsked: the catalogue does not have it, so that no use of it can ever be counted."""
        if sku and sku not in await self._skus.known(current().tenant_id, {sku}):
            raise UnknownSkuAsked(
                f"the catalogue has no SKU {sku}; ListSkus lists the SKUs", sku=sku
            )

    async def _spent(self, budget: Budget) -> Decimal:
        """Return what the usage of the present period costs. Raises DomainError."""
        async with self._database.read() as work:
            if await store.find(work, budget.budget_id) is not None:
                # It goes on with what it has counted.
                return ZERO
            stored = (await store.opening(work, budget, work.now)).quantities
        if budget.sku:
            stored = {budget.sku: stored.get(budget.sku, ZERO)}
        return await self._price(budget, stored)

    async def _price(self, budget: Budget, units: Mapping[str, Decimal]) -> Decimal:
        spent = ZERO
        for sku, quantity in units.items():
            try:
                price = await self._prices.price_of(budget.org_id, sku, ZERO, quantity)
            except DomainError as error:
                # Of all SKUs, those without a price cost nothing.
                if budget.sku or error.reason != SKU_NOT_PRICED:
                    raise
                continue
            check_currency(budget, price.currency_code)
            spent = CONTEXT.add(spent, price.amount)
        return spent


def check_currency(budget: Budget, currency_code: str) -> None:
    """Check that a plan has the currency of a budget. Raises CurrencyMismatch."""
    if budget.currency_code != currency_code:
        raise CurrencyMismatch(
            f"budget {budget.budget_id} is in {budget.currency_code} and the plan of {budget.org_id} in "
            f"{currency_code}: a budget in money has the plan's currency",
            left=budget.currency_code,
            right=currency_code,
        )


def _said(budget: Budget) -> dict[str, object]:
    return {
        "org_id": budget.org_id,
        "sku": budget.sku,
        "period": budget.period.value,
        "time_zone": budget.time_zone,
        "limit": format_decimal(budget.limit),
        "currency_code": budget.currency_code,
        "mode": budget.mode.value,
        "thresholds_pct": list(budget.thresholds_pct),
        "enforce_in_ingest": budget.enforce_in_ingest,
        "description": budget.description,
    }
