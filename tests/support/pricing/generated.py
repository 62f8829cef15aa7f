"""Prices and usage of every kind, for laws."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from services.pricing.domain.models.conversion import Operation, UnitConversion
from services.pricing.domain.models.dynamic import Dynamic
from services.pricing.domain.models.flat import Flat
from services.pricing.domain.models.graduated import Graduated
from services.pricing.domain.models.graduated_percentage import GraduatedPercentage, PercentageTier
from services.pricing.domain.models.matrix import Matrix
from services.pricing.domain.models.package import Package
from services.pricing.domain.models.parts import Rounding
from services.pricing.domain.models.per_unit import PerUnit
from services.pricing.domain.models.percentage import Percentage
from services.pricing.domain.models.stairstep import QUANTITY, Stair, Stairstep
from services.pricing.domain.models.table import MODELS
from services.pricing.domain.models.tiers import Tier
from services.pricing.domain.models.volume import Volume
from services.pricing.domain.prices import Price

ZERO = Decimal(0)
VALUES = ("", "eu", "us")
# Quarters, so that the slow model can go through them one by one.
units = st.integers(0, 48).map(lambda grains: Decimal(grains) / 4)
amounts = st.decimals(0, 50, places=4)
ROUNDINGS = (Rounding.CEILING, Rounding.FLOOR, Rounding.HALF_UP)
# Made once: Hypothesis looks each strategy through before the first draw from it, which costs more than the draw.
perhaps_amounts = st.one_of(st.none(), amounts)
amounts_or_zero = st.one_of(st.just(ZERO), amounts)
units_or_zero = st.one_of(st.just(ZERO), units)
perhaps_units = st.one_of(st.none(), units)
_ENDS = st.sets(st.integers(1, 40), max_size=4)
_FREE_EVENTS = st.integers(0, 4)
_DISCOUNTS_PERCENT = st.one_of(st.none(), st.decimals(0, 100, places=2))
_ABOVE_THE_LEAST = st.one_of(st.none(), st.decimals(0, 400, places=2))
_NAMES = st.sampled_from(sorted(MODELS))


def ends(draw: st.DrawFn) -> list[Decimal | None]:
    chosen = draw(_ENDS)
    return [*(Decimal(grains) / 4 for grains in sorted(chosen)), None]


@st.composite
def tiers(draw: st.DrawFn) -> tuple[Tier, ...]:
    return tuple(Tier(end, draw(amounts), draw(amounts_or_zero)) for end in ends(draw))


@st.composite
def percentage_tiers(draw: st.DrawFn) -> tuple[PercentageTier, ...]:
    return tuple(PercentageTier(end, draw(amounts), draw(amounts_or_zero)) for end in ends(draw))


@st.composite
def percentages(draw: st.DrawFn) -> Percentage:
    least = draw(amounts_or_zero)
    more = draw(perhaps_amounts)
    return Percentage(
        rate_percent=draw(amounts),
        fixed_per_event=draw(amounts_or_zero),
        free_events=draw(_FREE_EVENTS),
        free_amount=draw(units_or_zero),
        minimum_per_event=least,
        maximum_per_event=None if more is None else least + more,
    )


@st.composite
def stairsteps(draw: st.DrawFn) -> Stairstep:
    names = draw(st.sampled_from(((QUANTITY,), VALUES)))
    # A dimension none of whose values is limited has no price.
    count = draw(st.integers(0 if names == (QUANTITY,) else 1, 4))
    rising = sorted(draw(st.lists(amounts, min_size=count + 1, max_size=count + 1)))
    limits = {name: sorted(draw(st.lists(units, min_size=count, max_size=count))) for name in names}
    stairs = [
        Stair(rising[place], {name: limits[name][place] for name in names})
        for place in range(count)
    ]
    dimension = "" if names == (QUANTITY,) else "resource"
    return Stairstep((*stairs, Stair(rising[count])), dimension)


MODEL_OF = {
    "flat": st.builds(Flat, amounts),
    "per_unit": st.builds(PerUnit, amounts),
    "graduated": st.builds(Graduated, tiers()),
    "volume": st.builds(Volume, tiers()),
    "package": st.builds(
        Package,
        st.integers(1, 80).map(lambda n: Decimal(n) / 4),
        amounts,
        st.sampled_from(ROUNDINGS),
    ),
    "percentage": percentages(),
    "graduated_percentage": st.builds(GraduatedPercentage, percentage_tiers()),
    "stairstep": stairsteps(),
    "matrix": st.builds(
        Matrix, st.just("region"), st.dictionaries(st.sampled_from(VALUES), amounts), amounts
    ),
    "dynamic": st.just(Dynamic()),
}
assert MODEL_OF.keys() == MODELS.keys()


@st.composite
def conversions(draw: st.DrawFn) -> UnitConversion:
    rounding = draw(st.sampled_from(Rounding))
    return UnitConversion(
        operation=draw(st.sampled_from(Operation)),
        factor=draw(st.sampled_from(("0.25", "1", "3", "7", "1024")).map(Decimal)),
        rounding=rounding,
        precision=0 if rounding is Rounding.NONE else draw(st.integers(0, 2)),
    )


_PERHAPS_CONVERSIONS = st.one_of(st.none(), conversions())


@st.composite
def prices(draw: st.DrawFn, name: str = "") -> Price:
    """Make a price of a model, or of any, with or without each of the things around it."""
    name = name or draw(_NAMES)
    model = draw(MODEL_OF[name])
    around: dict[str, Any] = {
        "discount_percent": draw(_DISCOUNTS_PERCENT),
        "minimum_amount": draw(perhaps_amounts),
    }
    least = around["minimum_amount"] or ZERO
    more = draw(_ABOVE_THE_LEAST)
    around["maximum_amount"] = None if more is None else least + more
    if model.takes_units:
        around["included_qty"] = draw(perhaps_units)
        around["unit_conversion"] = draw(_PERHAPS_CONVERSIONS)
    return Price(**{**around, name: model})
