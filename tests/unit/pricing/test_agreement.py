"""Whether an estimate comes to what is charged: it does for every price, and a plant is found."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from services.pricing.domain import agreement
from services.pricing.domain.agreement import SKUS_COMPARED_MAX, differs, disagreements
from services.pricing.domain.models.flat import Flat
from services.pricing.domain.models.parts import Source
from services.pricing.domain.models.per_unit import PerUnit
from services.pricing.domain.models.percentage import Percentage
from services.pricing.domain.prices import Price
from services.pricing.domain.rating import (
    EstimatedPeriod,
    EstimateLine,
    PlanSource,
    RatedPart,
    Span,
    Term,
    Terms,
    Usage,
    rate_whole,
)
from services.runtime.money import Money
from tests.support.pricing import generated

D = Decimal
START = datetime(2026, 11, 1, tzinfo=UTC)
SPAN = Span(START, START + timedelta(days=30))


def terms(**prices: Price) -> Terms:
    by_sku = {sku: Term(price) for sku, price in prices.items()}
    return Terms("p", 1, "USD", PlanSource.ENTITLEMENT, None, by_sku)


def rated(given: Terms, *usages: Usage) -> RatedPart:
    return RatedPart(SPAN, given, rate_whole(given, usages))


@given(
    generated.prices().filter(lambda price: price.source is Source.QUANTITY),
    st.lists(generated.units, max_size=4),
)
def test_an_estimate_is_what_is_charged_by_every_price_of_a_quantity(
    price: Price, used: list[Decimal]
) -> None:
    usages = [Usage("s", f"project-{place}", units, 1) for place, units in enumerate(used)]
    assert disagreements([rated(terms(s=price), *usages)]) == []


def test_a_charge_of_a_cent_more_is_found_whichever_way_it_is_wrong() -> None:
    given = terms(calls=Price(per_unit=PerUnit(D("0.5"))), fee=Price(flat=Flat(D(5))))
    part = rated(given, Usage("calls", "web", D(3), 1))
    assert disagreements([part]) == []
    calls, fee = part.lines
    wrong = calls._replace(amount=calls.amount + Money("USD", 1))
    (found,) = disagreements([part._replace(lines=[wrong, fee])])
    assert (found.sku, found.charged, found.estimated) == ("calls", D("1.51"), D("1.50"))
    assert found.told("acme") == (
        "an estimate of 3 units of calls comes to 1.50 USD, and 1.51 is charged to acme from"
        " 2026-11-01T00:00:00+00:00 on"
    )
    (found,) = disagreements([part._replace(lines=[calls, fee._replace(amount=Money("USD", 499))])])
    assert (found.sku, found.charged, found.estimated) == ("fee", D("4.99"), D("5.00"))


def test_several_lines_are_compared_before_they_round() -> None:
    given = terms(calls=Price(per_unit=PerUnit(D("0.003"))))
    # Each rounds to nothing; together they are a cent.
    part = rated(given, *(Usage("calls", name, D(1), 1) for name in "abcd"))
    assert sum(line.amount.minor_units for line in part.lines) == 0
    assert disagreements([part]) == []
    first, *others = part.lines
    wrong = first._replace(exact=first.exact + D("0.000000000000000001"))
    (found,) = disagreements([part._replace(lines=[wrong, *others])])
    assert found.charged - found.estimated == D("0.000000000000000001")


def test_what_an_estimate_cannot_price_is_left_out() -> None:
    by_event = Price(percentage=Percentage(D(2)))
    given = terms(fees=by_event, calls=Price(per_unit=PerUnit(D(1))))
    part = rated(given, Usage("calls", "", D(2), 1))
    assert set(agreement.estimable(part)) == {"calls"}
    # Together they have more digits than a quantity may.
    many = [Usage("calls", name, D("9" * 20), 1) for name in "ab"]
    tiny = terms(calls=Price(per_unit=PerUnit(D("0.000000000001"))))
    assert disagreements([rated(tiny, *many)]) == []


def test_no_more_skus_are_compared_than_are_allowed() -> None:
    prices = {f"s{number:04}": Price(flat=Flat(D(1))) for number in range(SKUS_COMPARED_MAX + 5)}
    part = rated(terms(**prices))
    wrong = [line._replace(amount=Money("USD", 7)) for line in part.lines]
    assert len(disagreements([part._replace(lines=wrong)])) == SKUS_COMPARED_MAX


def test_an_answer_by_other_terms_is_told_apart() -> None:
    line = EstimateLine("calls", D(1), D(2), Money("USD", 300), D(3))
    answer = EstimatedPeriod(Money("USD", 100), [line], Money("USD", 400))
    assert differs(answer, answer) == ""
    other = replace(answer, base=Money("USD", 101))
    assert differs(other, answer) == "the base is 1.01 USD, and by the terms of a charge 1.00 USD"
    for changed in (replace(line, total=Money("USD", 301)), replace(line, included=D(7))):
        assert differs(replace(answer, lines=[changed]), answer).startswith("calls comes to ")
