"""Laws and tables of the price models."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.pricing.domain.models.flat import Flat
from services.pricing.domain.models.graduated import Graduated
from services.pricing.domain.models.package import Package
from services.pricing.domain.models.parts import Rounding, Step, StepKind
from services.pricing.domain.models.per_unit import PerUnit
from services.pricing.domain.models.tiers import Tier
from services.pricing.domain.prices import Price
from services.runtime.money import CONTEXT, Money, format_exact, round_to_minor

quantities = st.decimals(0, 10**9, places=6)
# All 38 digits that the contract allows.
wide = st.integers(10**36, 10**38 - 1).map(lambda units: Decimal(units).scaleb(-18, CONTEXT))
wide_quantities = st.one_of(quantities, wide)
amounts = st.one_of(st.decimals(0, 1000, places=9), wide)


@st.composite
def graduated(draw: st.DrawFn) -> Graduated:
    ends = sorted(draw(st.sets(st.decimals("0.5", 10**8, places=3), max_size=5).map(set)))
    return Graduated(
        tuple(
            Tier(end, draw(amounts), draw(st.one_of(st.just(D(0)), amounts)))
            for end in [*ends, None]
        )
    )


packages = st.builds(
    Package, st.decimals("0.001", 10**6, places=3), amounts, st.sampled_from([*Rounding][1:])
)

D = Decimal
models = st.one_of(st.builds(Flat, amounts), st.builds(PerUnit, amounts), graduated(), packages)
names = {Flat: "flat", PerUnit: "per_unit", Graduated: "graduated", Package: "package"}


def priced(model: Any, included: Decimal | None = None) -> Price:
    chosen: dict[str, Any] = {names[type(model)]: model}
    return Price(**chosen, included_qty=included)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    model = draw(models)
    included = draw(st.one_of(st.none(), quantities))
    return priced(model, included)


def total(steps: tuple[Step, ...]) -> Fraction:
    return sum(
        (
            Fraction(step.units) * Fraction(step.unit_amount) + Fraction(step.flat_amount)
            for step in steps
        ),
        Fraction(0),
    )


@given(prices())
def test_generated_prices_are_sound(price: Price) -> None:
    assert price.problems() == []


@given(prices(), quantities, quantities)
def test_more_units_never_cost_less(price: Price, few: Decimal, more: Decimal) -> None:
    assert price.evaluate(few + more).exact >= price.evaluate(few).exact >= 0


@given(prices(), st.lists(quantities, min_size=1, max_size=6))
def test_parts_of_a_period_sum_to_the_whole(price: Price, parts: list[Decimal]) -> None:
    prior, exact, billable, included = D(0), D(0), D(0), D(0)
    for index, part in enumerate(parts):
        piece = price.evaluate(part, prior, opens=index == 0)
        prior = CONTEXT.add(prior, part)
        exact = CONTEXT.add(exact, piece.exact)
        billable += piece.billable
        included += piece.included_used
    whole = price.evaluate(prior)
    assert (exact, billable, included) == (whole.exact, whole.billable, whole.included_used)


@given(prices(), wide_quantities, wide_quantities)
def test_every_digit_is_exact_and_the_steps_prove_it(
    price: Price, prior: Decimal, quantity: Decimal
) -> None:
    found = price.evaluate(quantity, prior)
    assert Fraction(found.exact) == total(found.steps)
    assert Fraction(found.billable) + Fraction(found.included_used) == Fraction(quantity)
    for step in found.steps:
        assert Fraction(step.amount) == total((step,))


@given(graduated(), quantities)
def test_graduated_is_the_integral_of_its_unit_price(model: Graduated, quantity: Decimal) -> None:
    expected, low = Fraction(0), Fraction(0)
    for index, tier in enumerate(model.tiers):
        high = Fraction(quantity if tier.up_to is None else min(quantity, tier.up_to))
        if index == 0 or quantity > low:
            expected += Fraction(tier.flat_amount)
        expected += max(high - low, Fraction(0)) * Fraction(tier.unit_amount)
        low = max(low, Fraction(tier.up_to or 0))
    assert Fraction(Price(graduated=model).evaluate(quantity).exact) == expected


@given(packages, quantities)
def test_packages_are_counted_as_their_rounding_says(model: Package, quantity: Decimal) -> None:
    ratio = Fraction(quantity) / Fraction(model.package_size)
    expected = {
        Rounding.CEILING: -(-ratio.numerator // ratio.denominator),
        Rounding.FLOOR: ratio.numerator // ratio.denominator,
        Rounding.HALF_UP: (2 * ratio.numerator + ratio.denominator) // (2 * ratio.denominator),
    }[model.rounding]
    assert model.packages(quantity) == expected
    exact = Price(package=model).evaluate(quantity).exact
    assert Fraction(exact) == expected * Fraction(model.package_amount)


@given(prices(), quantities, st.integers(1, 1000))
def test_amounts_scale_with_the_prices(price: Price, quantity: Decimal, factor: int) -> None:
    def times(amount: Decimal) -> Decimal:
        return CONTEXT.multiply(amount, D(factor))

    model = price.model
    if isinstance(model, Flat):
        scaled = Price(flat=Flat(times(model.amount)))
    elif isinstance(model, PerUnit):
        scaled = Price(per_unit=PerUnit(times(model.unit_amount)))
    elif isinstance(model, Package):
        scaled = Price(
            package=Package(model.package_size, times(model.package_amount), model.rounding)
        )
    else:
        assert isinstance(model, Graduated)
        tiers = [
            Tier(tier.up_to, times(tier.unit_amount), times(tier.flat_amount))
            for tier in model.tiers
        ]
        scaled = Price(graduated=Graduated(tuple(tiers)))
    plain = priced(model)
    assert scaled.evaluate(quantity).exact == times(plain.evaluate(quantity).exact)


@given(prices(), quantities)
def test_included_units_shift_the_quantity(price: Price, quantity: Decimal) -> None:
    bare = priced(price.model)
    left = max(quantity - (price.included_qty or D(0)), D(0))
    assert price.evaluate(quantity).exact == bare.evaluate(left).exact


TOKENS = Price(
    graduated=Graduated(
        (
            Tier(D(10_000_000), D("0.000003")),
            Tier(D(20_000_000), D("0.0000025")),
            Tier(None, D("0.000002")),
        )
    )
)
OUTPUT = Price(per_unit=PerUnit(D("0.000015")), included_qty=D(100_000))
REQUESTS = Price(package=Package(D(1000), D("0.50")))
STAIRS = Price(graduated=Graduated((Tier(D(10), D(1), D(5)), Tier(None, D(2), D(7)))))


@pytest.mark.parametrize(
    ("price", "quantity", "exact", "cents"),
    [
        (TOKENS, "18059974", "50.149935", 5015),
        (OUTPUT, "245896", "2.18844", 219),
        (REQUESTS, "8819", "4.5", 450),
        (TOKENS, "22361870", "59.72374", 5972),
        (OUTPUT, "4088665", "59.829975", 5983),
        (REQUESTS, "19366", "10", 1000),
        (TOKENS, "10000000", "30", 3000),
        (TOKENS, "10000001", "30.0000025", 3000),
        (OUTPUT, "100000", "0", 0),
        (REQUESTS, "0", "0", 0),
        (REQUESTS, "1000", "0.5", 50),
        (REQUESTS, "1000.000000000000000001", "1", 100),
        (STAIRS, "0", "5", 500),
        (STAIRS, "10", "15", 1500),
        (STAIRS, "10.000000000000000001", "22.000000000000000002", 2200),
        (STAIRS, "11", "24", 2400),
        (Price(flat=Flat(D("9.995"))), "0", "9.995", 1000),
        (Price(flat=Flat(D(3))), "1000000", "3", 300),
    ],
)
def test_amounts(price: Price, quantity: str, exact: str, cents: int) -> None:
    found = price.evaluate(D(quantity)).exact
    assert found == D(exact)
    assert round_to_minor(found, "USD") == Money("USD", cents)


def test_it_rounds_once_from_the_unrounded_value() -> None:
    exact = Price(per_unit=PerUnit(D("0.005"))).evaluate(D("0.999999999999999999")).exact
    assert round_to_minor(exact, "USD").minor_units == 0
    # By way of the 18 places that are printed it would be a cent.
    assert format_exact(exact) == "0.005000000000000000"


def test_a_flat_amount_is_due_once() -> None:
    assert STAIRS.evaluate(D(5)).exact == 10
    assert STAIRS.evaluate(D(5), D(5)).exact == 5
    assert STAIRS.evaluate(D(5), D(10)).exact == 17
    assert STAIRS.evaluate(D(5), D(11)).exact == 10
    assert Price(flat=Flat(D(3))).evaluate(D(5), D(1)).steps == ()


def test_steps_tell_the_arithmetic() -> None:
    price = Price(graduated=STAIRS.graduated, included_qty=D(2))
    assert price.evaluate(D(13), D(1)).steps == (
        Step(StepKind.INCLUDED, D(1), D(2), D(1)),
        Step(StepKind.TIER, D(0), D(10), D(10), D(1), D(0)),
        Step(StepKind.TIER, D(10), D(12), D(2), D(2), D(7)),
    )


@pytest.mark.parametrize(
    ("tiers", "paths"),
    [
        ([Tier(D(10)), Tier(D(20))], ["graduated.tiers[1].up_to"]),
        ([Tier(None), Tier(None)], ["graduated.tiers[0].up_to"]),
        ([Tier(D(10)), Tier(D(10)), Tier(None)], ["graduated.tiers[1].up_to"]),
        ([Tier(D(0)), Tier(None)], ["graduated.tiers[0].up_to"]),
        (
            [Tier(D(10)), Tier(D(5)), Tier(D(7))],
            ["graduated.tiers[1].up_to", "graduated.tiers[2].up_to"],
        ),
    ],
)
def test_tiers_out_of_order_are_named(tiers: list[Tier], paths: list[str]) -> None:
    price = Price(graduated=Graduated(tuple(tiers)))
    assert [path for path, _ in price.problems()] == paths


def test_an_empty_package_is_refused() -> None:
    price = Price(package=Package(D(0), D(1)))
    assert [path for path, _ in price.problems()] == ["package.package_size"]
