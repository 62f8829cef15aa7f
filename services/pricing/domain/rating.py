"""From metered usage to lines: which plan holds, what each line costs, who earns on it.

Rules (house, `docs/decisions/0062-rating-a-period.md`): plan, version and partner are those in force at the period's
start; a SKU's projects are rated in the order of their ids, each from where the one before it left off; a line rounds
once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, localcontext
from enum import StrEnum
from itertools import groupby, pairwise

from services.pricing.domain.catalog import Aggregation, Entitlement, commission_pct
from services.pricing.domain.errors import PlanChangesInPeriod, SkuNotPriced, UsageNotRateable
from services.pricing.domain.prices import Evaluation, Price
from services.pricing.domain.values import ZERO
from services.runtime.errors import InvalidField
from services.runtime.money import (
    CONTEXT,
    DECIMAL_PATTERN,
    Money,
    format_decimal,
    round_to_minor,
)


class PlanSource(StrEnum):
    """How the plan of an organisation was found."""

    ENTITLEMENT = "ENTITLEMENT"
    ORG_BUSINESS_MODEL = "ORG_BUSINESS_MODEL"
    MODEL_DEFAULT = "MODEL_DEFAULT"


@dataclass(frozen=True, slots=True)
class Term:
    """What one SKU costs an organisation.

    Attributes:
        price: the price.
        overridden: True when the entitlement replaces or adds it.
        aggregation: how its events become the quantity.
    """

    price: Price
    overridden: bool = False
    aggregation: Aggregation = Aggregation.SUM


@dataclass(frozen=True, slots=True)
class Terms:
    """What an organisation pays, and who earns on it, at one moment.

    Attributes:
        source: how the plan was found.
        entitlement_at: from when the entitlement held; None without one.
        by_sku: price of each SKU.
        partner_id: partner of record; "" for none.
        partner_pcts: its rates by SKU, "" for all others.
    """

    plan_id: str
    plan_version: int
    currency_code: str
    source: PlanSource
    entitlement_at: datetime | None
    by_sku: Mapping[str, Term]
    partner_id: str = ""
    partner_pcts: dict[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """Metered usage of one SKU in one project over the period."""

    sku: str
    project_id: str
    total: Decimal
    event_count: int
    first_event_at: datetime | None = None
    last_event_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """What the usage of one SKU in one project costs, with all that led to it."""

    usage: Usage
    term: Term
    quantity: Decimal
    prior: Decimal
    evaluation: Evaluation
    amount: Money
    partner_id: str
    partner_pct: Decimal | None


@dataclass(frozen=True, slots=True)
class EstimateLine:
    """What the expected usage of one SKU adds to the base."""

    sku: str
    included: Decimal
    overage: Decimal
    total: Money


def entitlement_in_force(
    org_id: str, entitlements: Sequence[Entitlement], start_at: datetime
) -> Entitlement | None:
    """Return the entitlement in force at the period's start, None for none.

    `entitlements` are that one and those that begin inside the period, oldest first.

    Raises:
        PlanChangesInPeriod: the organisation moves to other terms inside the period.
    """
    held: list[Entitlement | None] = [
        item for item in entitlements if item.effective_at <= start_at
    ]
    begun = [item for item in entitlements if item.effective_at > start_at]
    first = held[-1] if held else None
    for before, after in pairwise([first, *begun]):
        assert after is not None
        if before is None or not _same_terms(before, after):
            change_at = after.effective_at.isoformat().replace("+00:00", "Z")
            raise PlanChangesInPeriod(
                f"the terms of {org_id} change at {change_at}, inside the period; "
                "rate the parts before and after separately",
                org_id=org_id,
                change_at=change_at,
            )
    return first


def _same_terms(left: Entitlement, right: Entitlement) -> bool:
    return left.plan_id == right.plan_id and left.overrides == right.overrides


def rate(terms: Terms, usages: Iterable[Usage]) -> list[Line]:
    """Rate the usage of a period, and what is due without any, by SKU and project.

    Raises:
        SkuNotPriced: names every SKU with usage that the terms do not price.
        UsageNotRateable: a sum below zero.
        AmountOverflow: a line leaves 64-bit minor units.
    """
    ordered = sorted(usages, key=lambda usage: (usage.sku, usage.project_id))
    _refuse_unpriced(terms, (usage.sku for usage in ordered))
    lines = []
    for sku, group in groupby(ordered, key=lambda usage: usage.sku):
        lines += _rate_sku(terms, terms.by_sku[sku], list(group))
    lines += _rate_unused(terms, {usage.sku for usage in ordered})
    lines.sort(key=lambda line: (line.usage.sku, line.usage.project_id))
    return lines


def _rate_sku(terms: Terms, term: Term, usages: Sequence[Usage]) -> list[Line]:
    lines = []
    prior = ZERO
    for index, usage in enumerate(usages):
        quantity = _quantity(term, usage)
        lines.append(_line(terms, term, usage, quantity, prior, opens=index == 0))
        prior = CONTEXT.add(prior, quantity)
    return lines


def _rate_unused(terms: Terms, used: set[str]) -> list[Line]:
    """Rate what is due without usage: flat prices and the flat amounts of first tiers."""
    lines = []
    for sku, term in terms.by_sku.items():
        if sku not in used and term.price.evaluate(ZERO).exact > ZERO:
            usage = Usage(sku, "", ZERO, 0)
            lines.append(_line(terms, term, usage, ZERO, ZERO, opens=True))
    return lines


def _line(
    terms: Terms, term: Term, usage: Usage, quantity: Decimal, prior: Decimal, *, opens: bool
) -> Line:
    evaluation = term.price.evaluate(quantity, prior, opens=opens)
    amount = round_to_minor(evaluation.exact, terms.currency_code)
    pct = commission_pct(terms.partner_pcts, usage.sku) if terms.partner_id else None
    partner_id = terms.partner_id if pct is not None else ""
    return Line(usage, term, quantity, prior, evaluation, amount, partner_id, pct)


def _quantity(term: Term, usage: Usage) -> Decimal:
    if term.aggregation is Aggregation.COUNT:
        return Decimal(usage.event_count)
    if usage.total < ZERO:
        quantity = format_decimal(usage.total)
        raise UsageNotRateable(
            f"usage of {usage.sku} in project {usage.project_id!r} adds up to {quantity}; a negative sum has no price",
            sku=usage.sku,
            project_id=usage.project_id,
            quantity=quantity,
        )
    return usage.total


def _refuse_unpriced(terms: Terms, skus: Iterable[str]) -> None:
    unpriced = sorted(set(skus) - set(terms.by_sku))
    if unpriced:
        names = ",".join(unpriced[:50])
        raise SkuNotPriced(
            f"plan {terms.plan_id} version {terms.plan_version} does not price {names}; "
            "price them in the plan or in an override of the entitlement",
            skus=names,
            plan_id=terms.plan_id,
            plan_version=terms.plan_version,
        )


def estimate(
    terms: Terms, uses_per_lead: Mapping[str, Decimal], leads: Decimal
) -> tuple[Money, list[EstimateLine]]:
    """Preview a period: the base, due without usage, and what each SKU's usage adds to it.

    Base and lines sum to what rating the same usage gives.

    Raises:
        SkuNotPriced: names every SKU that the terms do not price.
        InvalidField: uses times leads has more digits than a quantity may have.
        AmountOverflow: an amount leaves 64-bit minor units.
    """
    _refuse_unpriced(terms, uses_per_lead)
    base = Money(terms.currency_code, 0)
    for term in terms.by_sku.values():
        base += round_to_minor(term.price.evaluate(ZERO).exact, terms.currency_code)
    lines = [
        _estimate_line(terms, sku, expected(sku, uses, leads))
        for sku, uses in sorted(uses_per_lead.items())
    ]
    return base, lines


def _estimate_line(terms: Terms, sku: str, quantity: Decimal) -> EstimateLine:
    price = terms.by_sku[sku].price
    whole, unused = price.evaluate(quantity), price.evaluate(ZERO)
    total = round_to_minor(whole.exact, terms.currency_code) - round_to_minor(
        unused.exact, terms.currency_code
    )
    return EstimateLine(sku, whole.included_used, whole.billable, total)


def expected(sku: str, uses: Decimal, leads: Decimal) -> Decimal:
    """Return uses times leads. Raises InvalidField when it has more digits than a quantity may have."""
    with localcontext(CONTEXT):
        quantity = uses * leads
    if not DECIMAL_PATTERN.fullmatch(format_decimal(quantity)):
        raise InvalidField.one(
            f"skus[{sku}]",
            "uses times leads has more than 20 digits before or 18 after the decimal point",
        )
    return quantity


@dataclass(frozen=True, slots=True)
class Rated:
    """A rated period.

    Attributes:
        usage_snapshot: which state of the usage was read.
    """

    terms: Terms
    lines: Sequence[Line]
    total: Money
    usage_snapshot: str


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What a price comes to, exactly and rounded."""

    evaluation: Evaluation
    amount: Money


@dataclass(frozen=True, slots=True)
class EstimatedPeriod:
    """What a period would cost: the base of the plan, what each SKU adds, and both together."""

    base: Money
    lines: Sequence[EstimateLine]
    grand_total: Money
