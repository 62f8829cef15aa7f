"""Laws of every price model, each beside a slow one that counts on its fingers."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from payments.pricing.v1 import pricing_pb2
from pydantic import TypeAdapter

from services.pricing.domain.errors import (
    DimensionNotPriced,
    PriceInputMissing,
    PriceNotSplittable,
)
from services.pricing.domain.models.graduated import Graduated
from services.pricing.domain.models.graduated_percentage import GraduatedPercentage, PercentageTier
from services.pricing.domain.models.matrix import Matrix
from services.pricing.domain.models.package import Package
from services.pricing.domain.models.parts import EXACT, Rounding, Source, Step, StepKind
from services.pricing.domain.models.percentage import Percentage, Tallying
from services.pricing.domain.models.stairstep import QUANTITY, Stair, Stairstep
from services.pricing.domain.models.table import MODELS
from services.pricing.domain.models.tiers import Tier
from services.pricing.domain.models.volume import Volume
from services.pricing.domain.prices import Before, Evaluation, Price, Use
from services.pricing.domain.values import document
from tests.support.pricing import slow
from tests.support.pricing.generated import VALUES, amounts, prices, tiers, units

D = Decimal
ZERO = D(0)
# The smallest difference between two quantities.
EPSILON = D("1e-18")
NAMES = sorted(MODELS)
MONOTONE = [name for name in NAMES if name != "volume"]


def used(price: Price, draw: Any) -> Any:
    """Draw what a part used, as the price wants to be told of it."""
    if price.source is Source.AMOUNTS:
        return draw(st.lists(units, max_size=6))
    if price.source is Source.QUANTITIES:
        return draw(st.dictionaries(st.sampled_from(VALUES), units))
    return draw(units)


class Period:
    """A period that is priced part by part, by the product and slowly."""

    def __init__(self, price: Price) -> None:
        self.price = price
        self.before = Before(amount=ZERO)
        self.tallying = Tallying(price.percentage) if price.percentage else None
        self.slow = slow.Used()

    def part(self, what: Any) -> Evaluation:
        """Price the next part."""
        use = self._use(what)
        found = self.price.apply(use, self.before)
        assert self.before.amount is not None
        totals = dict(self.before.quantities)
        for value, quantity in (use.quantities or {}).items():
            totals[value] = totals.get(value, ZERO) + quantity
        self.before = Before(
            quantity=self.before.quantity + use.quantity,
            quantities=totals,
            event_count=self.before.event_count + (use.tally.events if use.tally else 0),
            amount=EXACT.add(self.before.amount, found.modelled),
            opened=True,
        )
        return found

    def _use(self, what: Any) -> Use:
        if isinstance(what, list):
            assert self.tallying
            self.tallying.add(what)
            self.slow.amounts += map(Fraction, what)
            return Use(sum(what, ZERO), tally=self.tallying.close())
        if isinstance(what, dict):
            for value, quantity in what.items():
                self.slow.by_value[value] = self.slow.by_value.get(value, Fraction(0)) + Fraction(
                    quantity
                )
            return Use(sum(what.values(), ZERO), what)
        self.slow.units += Fraction(what)
        return Use(what)

    @property
    def expected(self) -> Fraction:
        """What the period costs so far, slowly."""
        return slow.cost(self.price, self.slow)


@pytest.mark.parametrize("name", NAMES)
@given(st.data())
def test_the_whole_costs_what_the_slow_model_says(name: str, data: st.DataObject) -> None:
    price = data.draw(prices(name))
    assert price.problems() == []
    period = Period(price)
    found = period.part(used(price, data.draw))
    assert Fraction(found.exact) == period.expected
    assert proven(found) == period.expected


@pytest.mark.parametrize("name", MONOTONE)
@given(st.data())
def test_parts_sum_to_what_the_slow_model_says_of_the_whole(name: str, data: st.DataObject) -> None:
    price = data.draw(prices(name))
    period = Period(price)
    total = billable = included = Fraction(0)
    for _ in range(data.draw(st.integers(1, 5))):
        found = period.part(used(price, data.draw))
        assert Fraction(found.exact) == proven(found) >= 0
        total += Fraction(found.exact)
        billable += Fraction(found.billable)
        included += Fraction(found.included_used)
        assert total == period.expected
    if price.source is Source.QUANTITY:
        units_ = Fraction(period.before.quantity)
        if price.unit_conversion:
            units_ = slow.converted(price.unit_conversion, units_)
        assert billable + included == units_


def proven(found: Evaluation) -> Fraction:
    """Add up the steps, each by its own three numbers."""
    total = Fraction(0)
    for step in found.steps:
        amount = Fraction(step.units) * Fraction(step.unit_amount) + Fraction(step.flat_amount)
        assert Fraction(step.amount) == amount
        total += amount
    return total


@pytest.mark.parametrize("name", MONOTONE)
@given(st.data())
def test_more_usage_never_costs_less(name: str, data: st.DataObject) -> None:
    price = data.draw(prices(name))
    period = Period(price)
    period.part(used(price, data.draw))
    assert period.part(used(price, data.draw)).exact >= ZERO


@pytest.mark.parametrize("name", NAMES)
@given(st.data())
def test_a_price_is_written_and_read_again(name: str, data: st.DataObject) -> None:
    price = data.draw(prices(name))
    assert TypeAdapter(Price).validate_python(document(price)) == price


def test_every_model_of_the_contract_is_in_the_table() -> None:
    oneof = pricing_pb2.Price.DESCRIPTOR.oneofs_by_name["model"]
    assert [field.name for field in oneof.fields] == list(MODELS)
    for name, model in MODELS.items():
        assert Price.__annotations__[name] == f"{model.__name__} | None"


@given(tiers(), st.integers(0, 3))
def test_a_graduated_end_belongs_to_its_own_tier(chosen: tuple[Tier, ...], place: int) -> None:
    if place >= len(chosen) - 1:
        return
    price = Price(graduated=Graduated(chosen))
    end, inside, beyond = chosen[place].up_to, chosen[place], chosen[place + 1]
    assert end is not None
    at, under, over = (price.evaluate(end + d).exact for d in (ZERO, -EPSILON, EPSILON))
    assert EXACT.subtract(at, under) == EXACT.multiply(EPSILON, inside.unit_amount)
    first = EXACT.fma(EPSILON, beyond.unit_amount, beyond.flat_amount)
    assert EXACT.subtract(over, at) == first
    as_part = price.evaluate(EPSILON, end).exact
    assert as_part == first


@given(tiers(), st.integers(0, 3))
def test_a_volume_end_belongs_to_its_own_tier(chosen: tuple[Tier, ...], place: int) -> None:
    if place >= len(chosen) - 1:
        return
    price = Price(volume=Volume(chosen))
    end, inside, beyond = chosen[place].up_to, chosen[place], chosen[place + 1]
    assert end is not None
    for quantity, tier in ((end - EPSILON, inside), (end, inside), (end + EPSILON, beyond)):
        expected = EXACT.fma(quantity, tier.unit_amount, tier.flat_amount)
        assert price.evaluate(quantity).exact == expected


@given(st.integers(1, 80), st.integers(1, 9), st.sampled_from([*Rounding][1:]))
def test_a_package_turns_at_the_smallest_unit(size: int, count: int, rounding: Rounding) -> None:
    price = Price(package=Package(D(size), D(1), rounding))
    turn = D(size * count) - (D(size) / 2 if rounding is Rounding.HALF_UP else 0)
    at, under, over = (price.evaluate(turn + d).exact for d in (ZERO, -EPSILON, EPSILON))
    if rounding is Rounding.CEILING:
        assert [under, at, over] == [count, count, count + 1]
    else:
        assert [under, at, over] == [count - 1, count, count]


@pytest.mark.parametrize(
    ("model", "turns"),
    [
        (
            GraduatedPercentage((PercentageTier(D(100), D(2), D(1)), PercentageTier(None, D(1)))),
            {"100": "3", "99.999999999999999999": "2.99999999999999999998"},
        ),
        (
            GraduatedPercentage((PercentageTier(D(100), D(2)), PercentageTier(None, D(1), D(5)))),
            {"100": "2", "100.000000000000000001": "7.00000000000000000001"},
        ),
        (
            Stairstep(
                (Stair(D(0), {QUANTITY: D(0)}), Stair(D(9), {QUANTITY: D(10)}), Stair(D(20)))
            ),
            {
                "0": "0",
                "0.000000000000000001": "9",
                "9.999999999999999999": "9",
                "10": "9",
                "10.000000000000000001": "20",
            },
        ),
        (
            Percentage(D(10), free_amount=D(50)),
            {"50": "0", "50.000000000000000001": "0.0000000000000000001"},
        ),
    ],
)
def test_ends_are_inclusive_to_the_smallest_unit(model: Any, turns: dict[str, str]) -> None:
    name = next(name for name, kind in MODELS.items() if isinstance(model, kind))
    price = Price(**{name: model})
    for quantity, expected in turns.items():
        assert price.evaluate(D(quantity)).exact == D(expected)


def tallied(price: Price, *parts: list[str]) -> list[Evaluation]:
    period = Period(price)
    return [period.part([*map(D, part)]) for part in parts]


CARD = Percentage(D("1.5"), D("0.30"), free_events=3, free_amount=D(100))


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        # Three free events end the allowance, however little they used of the amount.
        (["10", "10", "10", "10"], "0.45"),
        # The event that goes beyond the free amount is a paid one, for what goes beyond.
        (["60", "60"], "0.60"),
        (["60", "60", "10"], "1.05"),
        # Exactly the free amount is still free; the next event is not.
        (["60", "40"], "0"),
        (["60", "40", "10"], "0.45"),
        # An event of zero has no fixed amount and uses none of the allowance.
        (["0", "0", "0", "0", "100"], "0"),
        (["10", "10", "10", "0", "0"], "0"),
        ([], "0"),
    ],
)
def test_an_allowance_ends_when_either_of_its_ends_is_reached(
    events: list[str], expected: str
) -> None:
    price = Price(percentage=CARD)
    (whole,) = tallied(price, events)
    assert whole.exact == D(expected)
    for cut in range(len(events)):
        left, right = tallied(price, events[:cut], events[cut:])
        assert left.exact + right.exact == D(expected)


def test_each_paid_event_stays_within_its_limits() -> None:
    price = Price(percentage=Percentage(D(2), minimum_per_event=D("0.50"), maximum_per_event=D(10)))
    (found,) = tallied(price, ["1", "25", "100", "500", "501", "0"])
    assert found.exact == D("0.50") + D("0.50") + 2 + 10 + 10
    assert [(step.kind, step.units, step.amount) for step in found.steps] == [
        (StepKind.PERCENTAGE, D(625), D("12.5")),
        (StepKind.EVENT_MINIMUM, D(1), D("0.5")),
        (StepKind.EVENT_MAXIMUM, D(1), D(10)),
    ]


def test_a_volume_price_has_no_parts_and_says_so() -> None:
    price = Price(volume=Volume((Tier(D(10), D(2)), Tier(None, D(1)))))
    assert [price.evaluate(D(10)).exact, price.evaluate(D(11)).exact] == [20, 11]
    with pytest.raises(PriceNotSplittable) as caught:
        price.evaluate(D(1), D(10))
    assert caught.value.metadata == {"model": "volume"}


def test_limits_of_a_price_by_event_need_what_came_before() -> None:
    price = Price(percentage=CARD, minimum_amount=D(5))
    tally = Tallying(CARD, 1, D(10)).close()
    with pytest.raises(PriceNotSplittable):
        price.apply(Use(ZERO, tally=tally), Before(D(10), event_count=1, opened=True))


@pytest.mark.parametrize(
    ("price", "needs"),
    [(Price(percentage=CARD), "amounts"), (Price(matrix=Matrix("region", {})), "quantities")],
)
def test_a_quantity_alone_is_not_enough_for_every_price(price: Price, needs: str) -> None:
    assert price.evaluate(ZERO).exact == 0
    with pytest.raises(PriceInputMissing) as caught:
        price.evaluate(D(1))
    assert caught.value.metadata["needs"] == needs


def test_a_value_without_an_amount_is_refused() -> None:
    price = Price(matrix=Matrix("region", {"eu": D(1)}))
    assert price.apply(Use(D(2), {"eu": D(2)})).exact == 2
    with pytest.raises(DimensionNotPriced) as caught:
        price.apply(Use(D(3), {"eu": D(1), "us": D(1), "": D(1)}))
    assert caught.value.metadata == {"dimension": "region", "values": "'','us'"}
    by_unit = Stairstep((Stair(D(1), {"cpu": D(2)}), Stair(D(5))), "resource")
    with pytest.raises(DimensionNotPriced):
        Price(stairstep=by_unit).apply(Use(D(1), {"gpu": D(1)}))


def test_the_order_is_convert_round_include_price_discount_limit() -> None:
    price = TypeAdapter(Price).validate_python(
        {
            "per_unit": {"unit_amount": "2"},
            "unit_conversion": {
                "operation": "OPERATION_DIVIDE",
                "factor": "1000",
                "rounding": "ROUNDING_CEILING",
            },
            "included_qty": "1",
            "discount_percent": "25",
            "minimum_amount": "4",
            "maximum_amount": "7",
        }
    )
    # 3,001 bytes are 4 units, 3 of them billable: 6.00, less a quarter 4.50.
    found = price.evaluate(D(3001))
    assert [found.exact, found.included_used, found.billable] == [D("4.5"), 1, 3]
    assert found.steps == (
        Step(StepKind.CONVERSION, D(0), D(4), D(3001)),
        Step(StepKind.INCLUDED, D(0), D(1), D(1)),
        Step(StepKind.PER_UNIT, D(0), D(3), D(3), D(2)),
        Step(StepKind.DISCOUNT, D(0), D(0), D(6), D("-0.25")),
    )
    amounts_ = [price.evaluate(D(quantity)).exact for quantity in (0, 3000, 3001, 5001, 9000)]
    assert amounts_ == [4, 4, D("4.5"), 7, 7]
    # The second part fills up what the first paid for the minimum.
    parts = [
        price.evaluate(D(1000)),
        price.evaluate(D(1500), D(1000)),
        price.evaluate(D(501), D(2500)),
    ]
    assert [part.exact for part in parts] == [4, 0, D("0.5")]
    assert [step.amount for step in parts[1].steps if step.kind is StepKind.MINIMUM] == [-3]


@pytest.mark.parametrize(
    ("written", "paths"),
    [
        ({"volume": {"tiers": [{"up_to": "5"}]}}, ["volume.tiers[0].up_to"]),
        (
            {"graduated_percentage": {"tiers": [{}, {}]}},
            ["graduated_percentage.tiers[0].up_to"],
        ),
        (
            {"package": {"package_size": "1", "package_amount": "1", "rounding": "ROUNDING_NONE"}},
            ["package.rounding"],
        ),
        (
            {
                "percentage": {
                    "rate_percent": "1",
                    "minimum_per_event": "2",
                    "maximum_per_event": "1",
                }
            },
            ["percentage.maximum_per_event"],
        ),
        (
            {"percentage": {"rate_percent": "1"}, "included_qty": "5"},
            ["included_qty"],
        ),
        (
            {
                "dynamic": {},
                "unit_conversion": {"operation": "OPERATION_DIVIDE", "factor": "0"},
            },
            ["unit_conversion.factor", "unit_conversion"],
        ),
        (
            {
                "flat": {"amount": "1"},
                "unit_conversion": {
                    "operation": "OPERATION_DIVIDE",
                    "factor": "1",
                    "precision": "2",
                },
            },
            ["unit_conversion.precision"],
        ),
        (
            {"flat": {"amount": "1"}, "minimum_amount": "2", "maximum_amount": "1"},
            ["maximum_amount"],
        ),
        (
            {"stairstep": {"steps": [{"amount": "1", "limits": {"quantity": "1"}}]}},
            ["stairstep.steps[0].limits"],
        ),
        (
            {
                "stairstep": {
                    "steps": [
                        {"amount": "2", "limits": {"quantity": "5"}},
                        {"amount": "1", "limits": {"quantity": "4"}},
                        {"amount": "3"},
                    ]
                }
            },
            ["stairstep.steps[1].amount", "stairstep.steps[1].limits"],
        ),
        (
            {"stairstep": {"steps": [{"amount": "1", "limits": {"seat": "1"}}, {"amount": "3"}]}},
            ["stairstep.steps[0].limits"],
        ),
        (
            {
                "stairstep": {
                    "dimension": "resource",
                    "steps": [
                        {"amount": "1", "limits": {"cpu": "1"}},
                        {"amount": "2", "limits": {"gpu": "4"}},
                        {"amount": "3"},
                    ],
                }
            },
            ["stairstep.steps[1].limits"],
        ),
    ],
)
def test_a_price_that_breaks_a_rule_is_named(written: dict[str, Any], paths: list[str]) -> None:
    price = TypeAdapter(Price).validate_python(written)
    assert [path for path, _ in price.problems()] == paths


@given(amounts, units, st.lists(st.decimals(0, 100, places=18), min_size=1, max_size=3))
def test_the_digits_of_all_factors_are_kept(
    unit_amount: Decimal, quantity: Decimal, percents: list[Decimal]
) -> None:
    price = TypeAdapter(Price).validate_python(
        {
            "per_unit": {"unit_amount": "9" * 20 + "." + "9" * 18},
            "discount_percent": f"{percents[0]:f}",
            "unit_conversion": {"operation": "OPERATION_MULTIPLY", "factor": "9" * 20},
        }
    )
    wide = quantity + D("0.000000000000000001")
    found = price.evaluate(wide)
    assert Fraction(found.exact) == slow.cost(price, slow.Used(Fraction(wide)))
