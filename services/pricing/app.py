"""Use cases of pricing: load, decide (domain), store, tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from services.pricing import facts, store
from services.pricing.domain import changes as deciding
from services.pricing.domain.catalog import Catalog, Entitlement, Plan, Sku, entity_id
from services.pricing.domain.changes import Change
from services.pricing.domain.errors import NoPlan
from services.pricing.domain.prices import Price
from services.pricing.domain.rating import (
    EstimatedPeriod,
    Evaluated,
    PlanSource,
    Rated,
    Term,
    Terms,
    entitlement_in_force,
    estimate,
    rate,
)
from services.pricing.ports import UsageReader, UsageSnapshot
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound
from services.runtime.money import Money, round_to_minor
from services.runtime.turns import aside, in_slices

# Price lists of a page hold this many prices and tiers at most, unless a single plan has more: an answer stays
# well below the largest message.
PRICES_IN_PAGE = 5_000

ItemT = TypeVar("ItemT")


def evaluate(price: Price, currency_code: str, quantity: Decimal, prior: Decimal) -> Evaluated:
    """Apply a price to a quantity that comes behind a prior one. Raises UnknownCurrency, AmountOverflow."""
    evaluation = price.evaluate(quantity, prior)
    return Evaluated(evaluation, round_to_minor(evaluation.exact, currency_code))


async def apply_catalog(catalog: Catalog, work: UnitOfWork) -> list[Change]:
    """Make the catalogue contain a declaration; audit entries and events commit with it.

    Raises:
        DomainError: the declaration cannot be applied; nothing of it is (see `domain.changes`).
    """
    # A large catalogue takes so long that others should have their turns.
    await asyncio.to_thread(deciding.check, catalog)
    await store.lock_catalog(work)
    stored = await store.load_stored(work, catalog)
    decided = await asyncio.to_thread(deciding.decide, catalog, stored, work.now)
    await store.save(work, decided)
    async for change in in_slices(decided, 20):
        if change.before != change.after:
            await _tell(work, change)
    return decided


async def _tell(work: UnitOfWork, change: Change) -> None:
    before, after, events = await asyncio.to_thread(facts.of_change, change)
    work.audit(change.after.entity, entity_id(change.after), before, after)
    for event in events:
        work.publish(event)


class Pricing:
    """Reads the catalogue of the tenant that the running call acts for, and computes amounts by it."""

    def __init__(self, database: Database, usage: UsageReader) -> None:
        self._database = database
        self._usage = usage

    async def plan(self, plan_id: str, version: int) -> Plan:
        """Read a plan with a version of its price list; 0 means the newest.

        Raises:
            NotFound: no such plan, or no such version of it.
        """
        async with self._database.read() as work:
            found = await store.plan(work, plan_id, version)
        if found is None:
            raise NotFound("plan", f"{plan_id} version {version}" if version else plan_id)
        return found

    async def plans(self, model_id: str, after: str, limit: int) -> tuple[list[Plan], bool]:
        """Read a page of plans behind `after`, and whether there are more.

        Raises:
            NotFound: no such business model.
        """
        async with self._database.read() as work:
            page = store.page_of_plans(work, model_id, after, limit + 1)
            found, more = await _cut(page, limit, lambda item: _weight(item.prices))
            if model_id and not found and not after and not await store.has_model(work, model_id):
                raise NotFound("business model", model_id)
        return found, more

    async def skus(self, skus: Sequence[str], after: str, limit: int) -> tuple[list[Sku], bool]:
        """Read a page of SKUs behind `after`, and whether there are more; only `skus` unless empty."""
        async with self._database.read() as work:
            found = await store.page_of_skus(work, skus, after, limit + 1)
        return found[:limit], len(found) > limit

    async def entitlements(
        self, org_id: str, after: tuple[str, datetime], limit: int
    ) -> tuple[list[Entitlement], bool]:
        """Read a page of entitlements behind `after`, and whether there are more."""
        async with self._database.read() as work:
            page = store.page_of_entitlements(work, org_id, after, limit + 1)
            return await _cut(page, limit, lambda item: _weight(item.overrides))

    async def estimate(
        self, org_id: str, uses_per_lead: Mapping[str, Decimal], leads: Decimal
    ) -> EstimatedPeriod:
        """Preview a period of an organisation on its present plan.

        Raises:
            NoPlan, SkuNotPriced, InvalidField, AmountOverflow
        """
        async with self._database.read() as work:
            terms = await terms_at(work, org_id, work.now, work.now)
        base, lines = estimate(terms, uses_per_lead, leads)
        grand_total = base
        for line in lines:
            grand_total += line.total
        return EstimatedPeriod(base, lines, grand_total)

    async def rate_usage(self, org_id: str, start_at: datetime, end_at: datetime) -> Rated:
        """Say what a charge for the period would be.

        Raises:
            NoPlan, SkuNotPriced, PlanChangesInPeriod, UsageNotRateable, AmountOverflow
            DomainError: metering's own refusal.
        """
        async with self._database.read() as work:
            terms = await terms_at(work, org_id, start_at, end_at)
        # The transaction has ended: none is held open across the network.
        seen = await self._usage.read(org_id, start_at, end_at)
        return await aside(len(seen.usages), _rated, terms, seen)


def _rated(terms: Terms, seen: UsageSnapshot) -> Rated:
    lines = rate(terms, seen.usages)
    total = Money(terms.currency_code, 0)
    for line in lines:
        total += line.amount
    return Rated(terms, lines, total, seen.snapshot)


async def terms_at(work: UnitOfWork, org_id: str, start_at: datetime, end_at: datetime) -> Terms:
    """Find what an organisation pays at start_at, and who earns on it.

    Raises:
        NoPlan: nothing says which plan rates it.
        PlanChangesInPeriod: it moves to other terms before end_at.
    """
    entitlements = await store.entitlements_of_period(work, org_id, start_at, end_at)
    entitlement = entitlement_in_force(org_id, entitlements, start_at)
    if entitlement is not None:
        plan_id, source = entitlement.plan_id, PlanSource.ENTITLEMENT
    else:
        plan_id, source = await _plan_by_model(work, org_id, start_at)
    plan = await _plan_in_force(work, org_id, plan_id, start_at)
    prices = {item.sku: Term(item.price) for item in plan.prices}
    for item in entitlement.overrides if entitlement else ():
        prices[item.sku] = Term(item.price, overridden=True)
    aggregations = await store.aggregations(work, prices)
    partner_id, partner_pcts = await store.commissions(work, org_id, start_at, prices)
    return Terms(
        plan_id=plan_id,
        plan_version=plan.version,
        currency_code=plan.currency_code,
        source=source,
        entitlement_at=entitlement.effective_at if entitlement else None,
        by_sku={sku: replace(term, aggregation=aggregations[sku]) for sku, term in prices.items()},
        partner_id=partner_id,
        partner_pcts=partner_pcts,
    )


async def _plan_by_model(work: UnitOfWork, org_id: str, at: datetime) -> tuple[str, PlanSource]:
    own_plan_id, default_plan_id = await store.plan_of_model(work, org_id) or ("", "")
    if own_plan_id:
        return own_plan_id, PlanSource.ORG_BUSINESS_MODEL
    if default_plan_id:
        return default_plan_id, PlanSource.MODEL_DEFAULT
    raise NoPlan(
        f"{org_id} has no plan at {at.isoformat()}: give it an entitlement, or a business model with a plan",
        org_id=org_id,
        at=at.isoformat(),
    )


async def _plan_in_force(work: UnitOfWork, org_id: str, plan_id: str, at: datetime) -> Plan:
    version = await store.version_in_force(work, plan_id, at)
    found = None if version is None else await store.plan(work, plan_id, version)
    if found is None:
        raise NoPlan(
            f"plan {plan_id} of {org_id} has no price list in effect at {at.isoformat()}: "
            "publish a version whose effective_at is not later",
            org_id=org_id,
            at=at.isoformat(),
            plan_id=plan_id,
        )
    return found


def _weight(prices: Iterable[object]) -> int:
    return 1 + sum(1 for _ in prices)


async def _cut(
    found: AsyncIterator[ItemT], limit: int, weight: Callable[[ItemT], int]
) -> tuple[list[ItemT], bool]:
    """Keep as many items as fit into a page, one at least; say whether any were left."""
    kept: list[ItemT] = []
    total = 0
    async for item in found:
        total += weight(item)
        if len(kept) == limit or (kept and total > PRICES_IN_PAGE):
            return kept, True
        kept.append(item)
    return kept, False
