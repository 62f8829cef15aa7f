"""Shares of a period: exact, and together the whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.pricing.domain.models.dynamic import Dynamic
from services.pricing.domain.models.flat import Flat
from services.pricing.domain.models.graduated import Graduated
from services.pricing.domain.models.graduated_percentage import (
    GraduatedPercentage,
    PercentageTier,
)
from services.pricing.domain.models.matrix import Matrix
from services.pricing.domain.models.package import Package
from services.pricing.domain.models.parts import EXACT
from services.pricing.domain.models.per_unit import PerUnit
from services.pricing.domain.models.percentage import Percentage
from services.pricing.domain.models.stairstep import Stair, Stairstep
from services.pricing.domain.models.table import MODELS
from services.pricing.domain.models.tiers import Tier
from services.pricing.domain.models.volume import Volume
from services.pricing.domain.prices import Price
from services.pricing.domain.proration import Proration, Share, share_of, spread
from services.pricing.domain.values import ZERO

D = Decimal
DAY, SECOND = Proration.DAY, Proration.SECOND
THIRD = Share(DAY, 10, 20, 30)


def summed(parts: list[Decimal]) -> Decimal:
    """Add up exactly."""
    return reduce(EXACT.add, parts, ZERO)


def at(day: int, hour: int = 0, **more: int) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=UTC) + timedelta(**more)


MARCH = (at(1), datetime(2026, 4, 1, tzinfo=UTC))


def share(unit: Proration | None, start: datetime, end: datetime) -> Share | None:
    return share_of(unit, MARCH, (start, end))


def test_days_are_counted_from_the_start_and_the_day_of_a_change_is_the_newer_plans() -> None:
    assert share(DAY, at(1), at(11)) == Share(DAY, 0, 10, 31)
    assert share(DAY, at(1), at(11, 15)) == Share(DAY, 0, 10, 31)
    assert share(DAY, at(11, 15), MARCH[1]) == Share(DAY, 10, 31, 31)
    # Twice on one day: nothing of it belongs to what is between.
    assert share(DAY, at(11, 3), at(11, 15)) == Share(DAY, 10, 10, 31)


def test_seconds_are_whole_ones() -> None:
    assert share(SECOND, at(1), at(1, 1, microseconds=999_999)) == Share(
        SECOND, 0, 3_600, 2_678_400
    )
    assert share(SECOND, at(31, 23), MARCH[1]) == Share(SECOND, 2_674_800, 2_678_400, 2_678_400)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_month_in_which_clocks_change_has_its_days(hours: int) -> None:
    period = (at(1), MARCH[1] + timedelta(hours=hours))
    assert share_of(DAY, period, (at(16), period[1])) == Share(DAY, 15, 31, 31)


def test_a_period_shorter_than_a_unit_is_one() -> None:
    period = (at(1), at(1, 5))
    assert share_of(DAY, period, (at(1), at(1, 2))) == Share(DAY, 0, 0, 1)
    assert share_of(DAY, period, (at(1, 2), at(1, 5))) == Share(DAY, 0, 1, 1)


def test_what_is_not_prorated_has_no_share() -> None:
    assert share(None, at(1), at(2)) is None
    assert share(Proration.NONE, at(1), at(2)) is None


def test_quotients_are_exact_to_18_places_and_round_half_up() -> None:
    assert Share(DAY, 0, 10, 31).of(D(10)) == D("3.225806451612903226")
    assert Share(DAY, 10, 31, 31).of(D(10)) == D("6.774193548387096774")
    assert Share(DAY, 0, 1, 2).of(D("0.000000000000000001")) == D("0.000000000000000001")
    assert Share(DAY, 1, 2, 2).of(D("0.000000000000000001")) == ZERO
    largest = D("9" * 20 + "." + "9" * 18)
    assert Share(DAY, 0, 31, 31).of(largest) == largest


amounts = st.decimals(0, D(10) ** 19, places=18)
cuts = st.lists(st.integers(1, 30 * 86_400), max_size=5, unique=True).map(sorted)


@given(amounts, cuts, st.sampled_from((DAY, SECOND)))
def test_parts_sum_exactly_to_the_whole(
    amount: Decimal, seconds: list[int], unit: Proration
) -> None:
    bounds = [at(1), *(at(1, seconds=second) for second in seconds), MARCH[1]]
    shares = [share(unit, *span) for span in pairwise(bounds)]
    parts = [found.of(amount) for found in shares if found]
    assert summed(parts) == amount
    assert all(part >= 0 for part in parts)
    count = int(amount)
    assert sum(found.of_count(count) for found in shares if found) == count


@given(amounts, cuts)
def test_a_quantity_is_spread_without_loss(quantity: Decimal, seconds: list[int]) -> None:
    bounds = [at(1), *(at(1, seconds=second) for second in seconds), MARCH[1]]
    spans = list(pairwise(bounds))
    found = spread(quantity, MARCH, spans)
    assert summed(found) == quantity
    length = (MARCH[1] - MARCH[0]) / timedelta(seconds=1)
    for part, (start, end) in zip(found, spans, strict=True):
        even = float(quantity) * ((end - start) / timedelta(seconds=1)) / length
        assert float(part) == pytest.approx(even)


TIERS = (Tier(D(10), D(2), D(30)), Tier(None, D(1), D(60)))
PRORATED = {
    "flat": (Flat(D(30)), Flat(D(10))),
    "per_unit": (PerUnit(D(30)), PerUnit(D(30))),
    "graduated": (Graduated(TIERS), Graduated((Tier(D(10), D(2), D(10)), TIERS[1]))),
    "volume": (Volume(TIERS), Volume((Tier(D(10), D(2), D(10)), TIERS[1]))),
    "package": (Package(D(10), D(30)), Package(D(10), D(30))),
    "percentage": (
        Percentage(D(3), free_events=9, free_amount=D(30)),
        Percentage(D(3), free_events=3, free_amount=D(10)),
    ),
    "graduated_percentage": (
        GraduatedPercentage((PercentageTier(D(9), D(3), D(30)), PercentageTier(None, D(1), D(60)))),
        GraduatedPercentage((PercentageTier(D(9), D(3), D(10)), PercentageTier(None, D(1), D(60)))),
    ),
    "stairstep": (
        Stairstep((Stair(D(30), {"quantity": D(6)}), Stair(D(60)))),
        Stairstep((Stair(D(10), {"quantity": D(6)}), Stair(D(20)))),
    ),
    "matrix": (Matrix("region", {"eu": D(30)}), Matrix("region", {"eu": D(30)})),
    "dynamic": (Dynamic(), Dynamic()),
}


def test_every_model_says_what_is_due_by_the_period() -> None:
    assert list(PRORATED) == list(MODELS)


@pytest.mark.parametrize("name", PRORATED)
def test_of_what_is_due_by_the_period_a_part_has_its_share(name: str) -> None:
    whole, part = PRORATED[name]
    around: dict[str, Any] = {"minimum_amount": D(3), "maximum_amount": D(90)}
    found = Price(**around | {name: whole}).prorated(THIRD)
    around = {"minimum_amount": D(1), "maximum_amount": D(30), name: part}
    assert found == Price(**around)


def test_included_units_are_given_by_the_period() -> None:
    price = Price(per_unit=PerUnit(D(1)), included_qty=D(90), discount_percent=D(10))
    assert price.prorated(THIRD).included_qty == D(30)
    assert price.prorated(THIRD).discount_percent == D(10)


def test_an_allowance_of_which_nothing_is_left_is_none() -> None:
    # One that ends with its events or its amount: without events it would end with the amount alone.
    both = Percentage(D(3), free_events=2, free_amount=D(30))
    assert both.prorated(Share(DAY, 0, 10, 30)) == Percentage(D(3))
    assert both.prorated(Share(DAY, 0, 15, 30)) == Percentage(
        D(3), free_events=1, free_amount=D(15)
    )
