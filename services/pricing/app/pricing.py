"""Reads the catalogue, and computes amounts by it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from services.pricing import store
from services.pricing.app.estimates import Estimates, Remembered
from services.pricing.app.usage import PeriodUsage
from services.pricing.domain import agreement, inputs
from services.pricing.domain.catalog import Entitlement, Plan, Sku
from services.pricing.domain.commissions import overlaid, stretches
from services.pricing.domain.errors import NoPlan
from services.pricing.domain.inputs import PriceInput
from services.pricing.domain.prices import Price
from services.pricing.domain.rating import (
    EstimatedPeriod,
    Evaluated,
    PartTerms,
    PlanSource,
    Rated,
    RatedPart,
    Span,
    Term,
    Terms,
    Usage,
    changes_of_terms,
    check_parts,
    estimate,
    estimated_items,
    parts_of,
    rate_whole,
    shared_out,
    tax_items,
    terms_change,
    with_taxes,
)
from services.pricing.domain.taxes import TaxDocument, TaxItem, TaxLine, totals
from services.pricing.ports import TaxEngine, UsageSnapshot
from services.pricing.store import EntityT
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import DomainError, InvalidField, NotFound
from services.runtime.ids import derived_uuid
from services.runtime.money import Money, round_to_minor
from services.runtime.turns import aside
from services.runtime.violations import ViolationReporter

# Price lists of a page hold this many prices and tiers at most, unless a single plan has more: an answer stays
# well below the largest message.
PRICES_IN_PAGE = 5_000
# Parts of one period: each is read and rated by itself.
PARTS_MAX = 32
# Of so many ratings one also asks for the estimate itself, with what is remembered of it.
RATINGS_AN_ESTIMATE = 16

# What is taxed for a period goes by the rates of its last instant, when a charge takes effect in the books, too.
_MICROSECOND = timedelta(microseconds=1)

ItemT = TypeVar("ItemT")


def evaluate(price: Price, currency_code: str, given: PriceInput) -> Evaluated:
    """Apply a price to a part of a period.

    Raises:
        InvalidField, UnknownCurrency, AmountOverflow, PriceNotSplittable, PriceInputMissing, DimensionNotPriced
    """
    use, before = inputs.read(price, given)
    evaluation = price.apply(use, before)
    return Evaluated(evaluation, round_to_minor(evaluation.exact, currency_code))


class Pricing:
    """Reads the catalogue of the tenant that the running call acts for, and computes amounts by it."""

    def __init__(
        self,
        database: Database,
        usage: PeriodUsage,
        taxes: TaxEngine,
        violations: ViolationReporter,
        estimates: Estimates | None = None,
    ) -> None:
        self._violations = violations
        self._database = database
        self._usage = usage
        self._taxes = taxes
        self._estimates = estimates or Estimates()

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

    async def entities(
        self,
        kind: type[EntityT],
        after: Sequence[object],
        limit: int,
        only: tuple[str, str] | None = None,
    ) -> tuple[list[EntityT], bool]:
        """Read a page of things of a kind behind the key `after`, and whether there are more.

        `only` is a column, and the value that it is to have.
        """
        async with self._database.read() as work:
            found = await store.page_of_entities(work, kind, after, limit + 1, only)
        return found[:limit], len(found) > limit

    async def check_model(self, model_id: str) -> None:
        """Refuse a business model that there is not. Raises NotFound."""
        async with self._database.read() as work:
            if not await store.has_model(work, model_id):
                raise NotFound("business model", model_id)

    async def estimate(
        self,
        org_id: str,
        uses_per_lead: Mapping[str, Decimal],
        leads: Decimal,
        period: Span | None = None,
    ) -> EstimatedPeriod:
        """Preview a period of an organisation; without one, any period on its present plan.

        Raises:
            NoPlan, PlanChangesInPeriod, SkuNotPriced, PriceInputMissing, InvalidField, AmountOverflow
            DomainError: the tax engine's refusal, such as TaxRateMissing.
        """
        return (await self._estimate(org_id, uses_per_lead, leads, period))[0]

    async def _estimate(
        self,
        org_id: str,
        uses_per_lead: Mapping[str, Decimal],
        leads: Decimal,
        period: Span | None,
    ) -> tuple[EstimatedPeriod, int]:
        """Return an estimate, and the stamp of the catalogue that it is good for."""
        async with self._database.read() as work:
            key = (work.tenant_id, org_id, period, frozenset(uses_per_lead.items()), leads)
            stamp = await store.catalog_stamp(work)
            known = self._estimates.find(key, stamp, work.now)
            if known is not None:
                return known, stamp
            parts = await terms_of(work, org_id, period or Span(work.now, work.now))
            until = None
            if period is None:
                plan_id = parts[0].terms.plan_id
                until = await store.next_change(work, org_id, plan_id, work.now)
            taxed_at = period.end_at - _MICROSECOND if period else work.now
            place = await store.tax_place(work, org_id, taxed_at)
        used = [Usage(sku, "", uses, 0) for sku, uses in uses_per_lead.items() if uses]
        check_parts(org_id, parts, [used] * len(parts))
        count = len(parts) * len(uses_per_lead)
        answer = await aside(count, _estimated, parts, uses_per_lead, leads)
        if place[0]:
            items = await aside(count, estimated_items, parts, uses_per_lead, leads)
            taxes = await self._taxes.assess(TaxDocument(org_id, place[1], taxed_at, items))
            if taxes is not None:
                answer = replace(answer, taxes=totals(tax for found in taxes for tax in found))
        self._estimates.keep(key, Remembered(answer, stamp, work.now, until))
        return answer, stamp

    async def rate_usage(self, org_id: str, period: Span) -> Rated:
        """Say what a charge for the period would be.

        Raises:
            NoPlan, SkuNotPriced, PlanChangesInPeriod, UsageNotRateable, DimensionNotPriced, AmountOverflow
            UsageMoved: see `PeriodUsage`.
            DomainError: metering's own refusal, or that of the tax engine, such as TaxRateMissing.
        """
        taxed_at = period.end_at - _MICROSECOND
        async with self._database.read() as work:
            stamp = await store.catalog_stamp(work)
            parts = await terms_of(work, org_id, period)
            is_taxed, profile = await store.tax_place(work, org_id, taxed_at)
        # The transaction has ended: none is held open across the network.
        seen, whole = await self._usage.read_parts(parts, org_id)
        count = sum(len(each.usages) for each in seen)
        rated = await aside(count, _rated_whole, parts, seen)
        await self._compare(org_id, period, rated, stamp)
        if not is_taxed:
            return await aside(count, _closed, rated, whole)
        document = TaxDocument(org_id, profile, taxed_at, tax_items(rated))
        taxes = await self._taxes.assess(document)
        return await aside(count, _taxed, rated, whole, document, taxes)

    async def _compare(
        self, org_id: str, period: Span, rated: Sequence[RatedPart], stamp: int
    ) -> None:
        """Tell where an estimate of what was rated comes to something else; never stands in the way of a charge.

        Args:
            stamp: of the catalogue that the terms were read from.
        """
        count = sum(len(part.lines) for part in rated)
        for found in await aside(count, agreement.disagreements, rated):
            subject = f"{org_id}/{found.sku}"
            self._violations.tell(agreement.CONTRACT, "HIGH", found.told(org_id), subject)
        if len(rated) > 1 or not _is_asked(org_id, period):
            # Of several parts an estimate spreads the usage evenly, whatever it was.
            return
        used = agreement.quantities(rated[0])
        try:
            answered, asked_stamp = await self._estimate(org_id, used, agreement.ONCE, period)
        except InvalidField:
            # All projects together have more digits than the quantity of an estimate may.
            return
        except DomainError as error:
            if not error.transient:
                told = f"an estimate of what is charged to {org_id} is refused: {error.reason}"
                self._violations.tell(agreement.CONTRACT, "HIGH", told, org_id)
            return
        if asked_stamp != stamp:
            return
        terms = [PartTerms(rated[0].span, rated[0].terms)]
        computed = await aside(len(used), _estimated, terms, used, agreement.ONCE)
        difference = agreement.differs(answered, computed)
        if difference:
            told = f"an estimate for {org_id} goes by other terms than its charge: {difference}"
            self._violations.tell(agreement.CONTRACT, "HIGH", told, org_id)

    async def calculate_tax(
        self, org_id: str, taxed_at: datetime | None, items: Sequence[TaxItem]
    ) -> list[tuple[TaxLine, ...]]:
        """Say which taxes an organisation bears on amounts at an instant, now by default.

        Raises:
            CurrencyMismatch, AmountOverflow
            DomainError: the tax engine's refusal, such as TaxRateMissing.
        """
        async with self._database.read() as work:
            at = taxed_at or work.now
            _, profile = await store.tax_place(work, org_id, at)
        found = await self._taxes.assess(TaxDocument(org_id, profile, at, items))
        return [() for _ in items] if found is None else found


def _estimated(
    parts: Sequence[PartTerms], uses_per_lead: Mapping[str, Decimal], leads: Decimal
) -> EstimatedPeriod:
    base, lines = estimate(parts, uses_per_lead, leads)
    grand_total = base
    for line in lines:
        grand_total += line.total
    return EstimatedPeriod(base, lines, grand_total)


def _rated_whole(
    parts: Sequence[PartTerms], seen: Sequence[UsageSnapshot]
) -> tuple[RatedPart, ...]:
    return tuple(
        RatedPart(part.span, part.terms, rate_whole(part.terms, each.usages))
        for part, each in zip(parts, seen, strict=True)
    )


def _is_asked(org_id: str, period: Span) -> bool:
    """Whether a rating is one of those that ask for the estimate itself; the same ones always."""
    drawn = derived_uuid("estimate", org_id, *(at.isoformat() for at in period))
    return drawn.int % RATINGS_AN_ESTIMATE == 0


def _taxed(
    parts: Sequence[RatedPart],
    whole: UsageSnapshot,
    document: TaxDocument,
    taxes: Sequence[tuple[TaxLine, ...]] | None,
) -> Rated:
    if taxes is not None:
        parts = with_taxes(parts, document.taxed_at, document.profile, taxes)
    return _closed(parts, whole)


def _closed(parts: Sequence[RatedPart], whole: UsageSnapshot) -> Rated:
    rated = tuple(part._replace(lines=shared_out(part.terms, part.lines)) for part in parts)
    total = Money(parts[0].terms.currency_code, 0)
    for part in rated:
        for line in part.lines:
            total += line.amount
    return Rated(rated, total, whole.snapshot, whole.ordinal, whole.log_root)


async def terms_of(work: UnitOfWork, org_id: str, period: Span) -> tuple[PartTerms, ...]:
    """Find what an organisation pays in a period, part by part, and who earns on it.

    Raises:
        NoPlan: nothing says which plan rates a part of it.
        PlanChangesInPeriod: it moves to other terms inside the period, and the plans do not say how that is rated, or
            it does so too often.
    """
    entitlements = await store.entitlements_of_period(work, org_id, *period)
    changes = changes_of_terms(entitlements, period.start_at)
    if len(changes) > PARTS_MAX or len(entitlements) == store.ENTITLEMENTS_MAX:
        again_at = entitlements[-1].effective_at if len(changes) == 1 else changes[1][0]
        raise terms_change(org_id, again_at, f"they change more than {PARTS_MAX - 1} times")
    found = [(at, await _terms_at(work, org_id, entitlement, at)) for at, entitlement in changes]
    return await _with_earners(work, org_id, parts_of(org_id, period, found))


async def _with_earners(
    work: UnitOfWork, org_id: str, parts: tuple[PartTerms, ...]
) -> tuple[PartTerms, ...]:
    """Find who earns in each part of a period, stretch by stretch."""
    own, of_accounts = await store.earners_of_period(
        work, org_id, parts[0].span.start_at, parts[-1].span.end_at
    )
    # What a billing account pays for is its partner's, whoever brought the organisation.
    records = overlaid(of_accounts, own)
    if not records:
        return parts
    if len(records) > PARTS_MAX:
        at = records[1].start_at
        raise terms_change(org_id, at, f"its partner changes more than {PARTS_MAX - 1} times")
    skus = {sku for part in parts for sku in part.terms.by_sku}
    rates = await store.rates_of_tiers(work, {each.earner.tier for each in records}, skus)
    earning = [
        replace(each, earner=replace(each.earner, rates=rates[each.earner.tier]))
        for each in records
    ]
    return tuple(
        replace(part, terms=replace(part.terms, earning=tuple(stretches(*part.span, earning))))
        for part in parts
    )


async def _terms_at(
    work: UnitOfWork, org_id: str, entitlement: Entitlement | None, at: datetime
) -> Terms:
    if entitlement is not None:
        plan_id, source = entitlement.plan_id, PlanSource.ENTITLEMENT
    else:
        plan_id, source = await _plan_by_model(work, org_id, at)
    pinned = entitlement.plan_version if entitlement else 0
    plan = await _plan_in_force(work, org_id, plan_id, at, pinned)
    prices = {item.sku: Term(item.price, tax_code=item.tax_code) for item in plan.prices}
    for item in entitlement.overrides if entitlement else ():
        prices[item.sku] = Term(item.price, overridden=True, tax_code=item.tax_code)
    sold = await store.sold(work, prices)
    return Terms(
        plan_id=plan_id,
        plan_version=plan.version,
        currency_code=plan.currency_code,
        source=source,
        entitlement_at=entitlement.effective_at if entitlement else None,
        by_sku={
            sku: replace(term, aggregation=sold[sku][0], tax_code=term.tax_code or sold[sku][1])
            for sku, term in prices.items()
        },
        proration=plan.proration,
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


async def _plan_in_force(
    work: UnitOfWork, org_id: str, plan_id: str, at: datetime, pinned: int
) -> Plan:
    version = pinned or await store.version_in_force(work, plan_id, at)
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
