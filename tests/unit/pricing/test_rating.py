"""Rating a period and estimating one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.pricing.domain.catalog import Aggregation, Entitlement, PlanPrice
from services.pricing.domain.commissions import Earner, Stretch
from services.pricing.domain.errors import PlanChangesInPeriod, SkuNotPriced, UsageNotRateable
from services.pricing.domain.models.flat import Flat
from services.pricing.domain.models.graduated import Graduated
from services.pricing.domain.models.package import Package
from services.pricing.domain.models.per_unit import PerUnit
from services.pricing.domain.models.tiers import Tier
from services.pricing.domain.prices import Price
from services.pricing.domain.proration import Proration, spread
from services.pricing.domain.rating import (
    PartTerms,
    PlanSource,
    Span,
    Term,
    Terms,
    Usage,
    changes_of_terms,
    estimate,
    parts_of,
    rate,
)
from services.runtime.errors import AmountOverflow, InvalidField

D = Decimal

TOKENS = Price(graduated=Graduated((Tier(D(10), D("0.333"), D(1)), Tier(None, D("0.111"), D(2)))))
TERMS = Terms(
    plan_id="p",
    plan_version=2,
    currency_code="USD",
    source=PlanSource.ENTITLEMENT,
    entitlement_at=None,
    by_sku={
        "calls": Term(Price(package=Package(D(10), D("0.50"))), aggregation=Aggregation.COUNT),
        "fee": Term(Price(flat=Flat(D(5)))),
        "rare": Term(Price(per_unit=PerUnit(D(1)))),
        "tokens": Term(TOKENS),
    },
)


def usage(sku: str, project_id: str, total: str, count: int = 1) -> Usage:
    return Usage(sku, project_id, D(total), count)


def test_projects_are_rated_in_order_and_sum_to_the_whole() -> None:
    lines = rate(TERMS, [usage("tokens", "b", "7.5"), usage("tokens", "a", "4.25")])
    assert [(line.usage.sku, line.usage.project_id) for line in lines] == [
        ("fee", ""),
        ("tokens", "a"),
        ("tokens", "b"),
    ]
    assert [line.prior for line in lines[1:]] == [D(0), D("4.25")]
    whole = TOKENS.evaluate(D("11.75")).exact
    assert sum(line.evaluation.exact for line in lines[1:]) == whole


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.decimals(0, 99, places=4)))
def test_any_split_over_projects_costs_the_same(parts: dict[str, Decimal]) -> None:
    usages = [Usage("tokens", project_id, total, 1) for project_id, total in parts.items()]
    lines = [line for line in rate(TERMS, usages) if line.usage.sku == "tokens"]
    whole = TOKENS.evaluate(sum(parts.values(), D(0))).exact
    assert sum(line.evaluation.exact for line in lines) == whole


def test_what_is_due_without_usage_gets_a_line_and_the_rest_none() -> None:
    lines = rate(TERMS, [])
    assert [(line.usage.sku, line.amount.minor_units) for line in lines] == [
        ("fee", 500),
        ("tokens", 100),
    ]
    assert all(line.usage.event_count == 0 and line.quantity == 0 for line in lines)


def test_a_first_project_without_units_bears_the_opening_amount() -> None:
    lines = rate(TERMS, [usage("tokens", "a", "0"), usage("tokens", "b", "1")])
    assert [line.evaluation.exact for line in lines if line.usage.sku == "tokens"] == [
        D(1),
        D("0.333"),
    ]


def test_a_counted_sku_is_priced_by_its_events() -> None:
    lines = rate(TERMS, [usage("calls", "a", "1000000", 11)])
    assert (lines[0].quantity, lines[0].amount.minor_units) == (D(11), 100)


def test_unpriced_skus_are_all_named() -> None:
    with pytest.raises(SkuNotPriced) as caught:
        rate(TERMS, [usage("zeta", "", "1"), usage("alpha", "", "0"), usage("tokens", "", "1")])
    assert caught.value.metadata == {"skus": "alpha,zeta", "plan_id": "p", "plan_version": "2"}


def test_a_negative_sum_has_no_price() -> None:
    with pytest.raises(UsageNotRateable) as caught:
        rate(TERMS, [usage("rare", "a", "-0.5")])
    assert caught.value.metadata == {"sku": "rare", "project_id": "a", "quantity": "-0.5"}


def test_an_amount_beyond_64_bits_is_refused() -> None:
    with pytest.raises(AmountOverflow):
        rate(TERMS, [usage("rare", "a", "99999999999999999999")])


def earning(rates: dict[str, Decimal]) -> tuple[Stretch, ...]:
    return (Stretch(at(1), at(2), Earner("north", "gold", at(1), rates)),)


def test_a_partner_earns_by_the_rate_of_the_sku_or_of_all() -> None:
    terms = replace(TERMS, earning=earning({"": Decimal(10), "tokens": Decimal(20)}))
    lines = {line.usage.sku: line for line in rate(terms, [usage("rare", "a", "1")])}
    assert lines["rare"].partner_pct == 10
    assert lines["tokens"].partner_pct == 20
    terms = replace(TERMS, earning=earning({"tokens": Decimal(20)}))
    lines = {line.usage.sku: line for line in rate(terms, [])}
    assert (lines["fee"].partner_id, lines["fee"].partner_pct) == ("", None)


def at(day: int) -> datetime:
    return datetime(2026, 11, day, tzinfo=UTC)


def test_the_latest_entitlement_at_the_start_is_in_force() -> None:
    old, new = Entitlement("acme", "p", (), at(1)), Entitlement("acme", "q", (), at(5))
    assert changes_of_terms([old, new], at(5)) == [(at(5), new)]
    assert changes_of_terms([old], at(5)) == [(at(5), old)]
    assert changes_of_terms([], at(5)) == [(at(5), None)]


def test_a_period_is_cut_where_terms_change_and_nowhere_else() -> None:
    old = Entitlement("acme", "p", (), at(1))
    same = replace(old, effective_at=at(6))
    assert changes_of_terms([old, same], at(5)) == [(at(5), old)]
    dearer = (PlanPrice("fee", Price(flat=Flat(D(9)))),)
    for other in (
        replace(same, plan_id="q"),
        replace(same, overrides=dearer),
        replace(same, plan_version=2),
    ):
        back = replace(old, effective_at=at(8))
        found = changes_of_terms([old, same, replace(other, effective_at=at(7)), back], at(5))
        assert [moment.day for moment, _ in found] == [5, 7, 8]
        assert [held and held.plan_id for _, held in found] == ["p", other.plan_id, "p"]
    # Before the first entitlement the business model decides.
    assert changes_of_terms([same], at(5)) == [(at(5), None), (at(6), same)]


def test_plans_have_to_say_how_a_period_of_parts_is_rated() -> None:
    period = Span(at(1), at(21))
    daily = replace(TERMS, proration=Proration.DAY)
    for other in (TERMS, replace(daily, currency_code="EUR")):
        with pytest.raises(PlanChangesInPeriod) as caught:
            parts_of("acme", period, [(at(1), daily), (at(6), other)])
        assert caught.value.metadata["change_at"] == "2026-11-06T00:00:00Z"
    (whole,) = parts_of("acme", period, [(at(1), TERMS)])
    assert whole == PartTerms(period, TERMS)
    untouched = replace(TERMS, proration=Proration.NONE)
    first, second = parts_of("acme", period, [(at(1), untouched), (at(6), daily)])
    assert first == PartTerms(Span(at(1), at(6)), untouched)
    assert second.span == Span(at(6), at(21))
    fee = second.terms.by_sku["fee"]
    assert (fee.price, fee.whole) == (Price(flat=Flat(D("3.75"))), TERMS.by_sku["fee"].price)
    assert second.terms.by_sku["rare"] == TERMS.by_sku["rare"]


WHOLE = [PartTerms(Span(at(1), at(21)), TERMS)]


@given(
    st.decimals(0, 50, places=3),
    st.integers(0, 40),
    st.lists(st.integers(1, 20 * 86_400 - 1), max_size=4, unique=True),
    st.sampled_from((Proration.DAY, Proration.SECOND)),
)
def test_an_estimate_of_parts_is_what_the_same_usage_would_cost(
    tokens: Decimal, leads: int, cuts: list[int], unit: Proration
) -> None:
    period = Span(at(1), at(21))
    starts = [at(1), *(at(1) + timedelta(seconds=cut) for cut in sorted(cuts))]
    own = {**TERMS.by_sku, "fee": Term(Price(flat=Flat(D("9.99"))), overridden=True)}
    terms = [
        replace(TERMS, proration=unit, by_sku=own if number % 2 else TERMS.by_sku)
        for number in range(len(starts))
    ]
    parts = parts_of("acme", period, list(zip(starts, terms, strict=True)))
    base, lines = estimate(parts, {"tokens": tokens}, D(leads))
    quantities = spread(tokens * leads, period, [part.span for part in parts])
    charged = [
        line
        for part, units in zip(parts, quantities, strict=True)
        for line in rate(part.terms, [Usage("tokens", "", units, 1)])
    ]
    assert base.minor_units + sum(line.total.minor_units for line in lines) == sum(
        line.amount.minor_units for line in charged
    )
    assert sum(quantities) == tokens * leads


@given(st.decimals(0, 50, places=3), st.decimals(0, 50, places=3), st.integers(0, 40))
def test_an_estimate_is_what_the_same_usage_would_cost(
    tokens: Decimal, rare: Decimal, leads: int
) -> None:
    base, lines = estimate(WHOLE, {"tokens": tokens, "rare": rare}, D(leads))
    grand_total = base.minor_units + sum(line.total.minor_units for line in lines)
    usages = [Usage("tokens", "", tokens * leads, 1), Usage("rare", "", rare * leads, 1)]
    assert grand_total == sum(line.amount.minor_units for line in rate(TERMS, usages))


def test_an_estimate_tells_included_units_from_overage() -> None:
    price = Price(per_unit=PerUnit(D("0.1")), included_qty=D(100))
    terms = replace(TERMS, by_sku={"fee": TERMS.by_sku["fee"], "sms": Term(price)})
    base, (line,) = estimate([PartTerms(Span(at(1), at(2)), terms)], {"sms": Decimal(3)}, D(50))
    assert (base.minor_units, line.included, line.overage) == (500, D(100), D(50))
    assert line.total.minor_units == 500


def test_an_estimate_refuses_what_it_cannot_price() -> None:
    with pytest.raises(SkuNotPriced):
        estimate(WHOLE, {"zeta": Decimal(1)}, D(1))
    with pytest.raises(InvalidField):
        estimate(WHOLE, {"rare": Decimal("0.0000000001")}, D("0.0000000001"))
