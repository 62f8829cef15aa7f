"""What a price makes of usage, from the statement of its rules; in fractions, which lose nothing.

The order of a price: units are converted and rounded, included ones are taken off, the model prices what is left; then
the discount, the maximum, the minimum. A part of a period costs what the whole costs with it, less what it costs
without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor
from typing import Any

from tollmesh_verify.shape import MODELS, decimal, decimals, optional, whole

ZERO = Fraction(0)
ONE = Fraction(1)
# What the oneof of the contract calls amounts of money and parts by value: they are taken as they are.
_TAKEN_AS_THEY_ARE = frozenset({"percentage", "graduated_percentage", "matrix", "dynamic"})
_PLACES_OF_QUANTITIES = 18


class NotAPrice(Exception):
    """A price, or what it is applied to, is not as the rules ask for.

    Attributes:
        field: where, below the proof.
        must: what would be right.
    """

    def __init__(self, field: str, must: str) -> None:
        super().__init__(f"{field} {must}")
        self.field = field
        self.must = must


@dataclass(frozen=True)
class Sorted:
    """What the rate, the fixed amount and the limits of an event are applied to."""

    free_amount: Fraction = ZERO
    charged_amount: Fraction = ZERO
    charged_events: int = 0
    raised_events: int = 0
    lowered_events: int = 0


@dataclass(frozen=True)
class Part:
    """What a part of a period used, and what came before it.

    Attributes:
        opens: it bears what is due without usage.
        spent: what the model made of the parts before.
        events: as the price sorts them; None where it asks for none.
    """

    quantity: Fraction
    opens: bool
    prior: Fraction = ZERO
    spent: Fraction = ZERO
    quantities: Mapping[str, Fraction] = field(default_factory=dict)
    prior_quantities: Mapping[str, Fraction] = field(default_factory=dict)
    events: Sorted | None = None


@dataclass(frozen=True)
class Step:
    """One piece of the arithmetic."""

    kind: str
    start: Fraction = ZERO
    end: Fraction = ZERO
    units: Fraction = ZERO
    each: Fraction = ZERO
    flat: Fraction = ZERO
    label: str = ""

    @property
    def amount(self) -> Fraction:
        """What it comes to."""
        return self.units * self.each + self.flat


@dataclass(frozen=True)
class Priced:
    """What a price makes of a part.

    Attributes:
        modelled: what the model alone makes of it.
    """

    steps: Sequence[Step]
    included: Fraction
    billable: Fraction
    modelled: Fraction
    unrounded: Fraction


def model_of(price: Mapping[str, Any]) -> str:
    """Return the name of a price's model. Raises NotAPrice unless there is exactly one."""
    names = [name for name in MODELS if name in price]
    if len(names) != 1:
        raise NotAPrice("price", "must have exactly one model")
    return names[0]


def looks_at_events(price: Mapping[str, Any]) -> bool:
    """True when the amount of each event matters by itself."""
    found = price.get("percentage")
    return found is not None and bool(
        whole(found, "free_events")
        or decimal(found, "fixed_per_event")
        or decimal(found, "minimum_per_event")
        or optional(found, "maximum_per_event") is not None
    )


def dimension_of(price: Mapping[str, Any]) -> str:
    """Return the key by whose values a price is applied; "" for none."""
    for name in ("matrix", "stairstep"):
        if name in price:
            return str(price[name].get("dimension", ""))
    return ""


def apply(price: Mapping[str, Any], part: Part) -> Priced:
    """Compute what a price makes of a part of a period.

    Raises:
        NotAPrice: the rules have no amount for it.
    """
    name = model_of(price)
    _check_around(price, name)
    if part.opens and part.prior:
        raise NotAPrice("prior_quantity", "must be 0 where the period opens")
    start, end = _converted(price, part.prior), _converted(price, part.prior + part.quantity)
    steps = []
    if "unit_conversion" in price:
        steps.append(Step("KIND_CONVERSION", start, end, part.quantity))
    free = decimal(price, "included_qty")
    low, high = max(start - free, ZERO), max(end - free, ZERO)
    included = (end - start) - (high - low)
    if included:
        steps.append(Step("KIND_INCLUDED", start, start + included, included))
    of_model = [*_MODELS[name](price[name], part, low, high)]
    modelled = sum((step.amount for step in of_model), ZERO)
    adjusting = [*_adjusted(price, part, modelled)]
    unrounded = modelled + sum((step.amount for step in adjusting), ZERO)
    return Priced([*steps, *of_model, *adjusting], included, high - low, modelled, unrounded)


# ---- Around the model


def _check_around(price: Mapping[str, Any], name: str) -> None:
    takes_none = name in _TAKEN_AS_THEY_ARE or bool(dimension_of(price))
    for around in ("included_qty", "unit_conversion"):
        stands = (
            "unit_conversion" in price if around == "unit_conversion" else decimal(price, around)
        )
        if takes_none and stands:
            raise NotAPrice(f"price.{around}", f"must not stand around a {name} price")
    for around in ("included_qty", "minimum_amount", "maximum_amount", "discount_percent"):
        if decimal(price, around) < 0:
            raise NotAPrice(f"price.{around}", "must not be below zero")
    if decimal(price, "discount_percent") > 100:
        raise NotAPrice("price.discount_percent", "must be 100 at most")
    most = optional(price, "maximum_amount")
    if most is not None and most < decimal(price, "minimum_amount"):
        raise NotAPrice("price.maximum_amount", "must not be below minimum_amount")


def _converted(price: Mapping[str, Any], units: Fraction) -> Fraction:
    conversion = price.get("unit_conversion")
    if conversion is None:
        return units
    factor = decimal(conversion, "factor")
    if factor <= 0:
        raise NotAPrice("price.unit_conversion.factor", "must be above zero")
    if conversion["operation"] == "OPERATION_MULTIPLY":
        units *= factor
    elif conversion["operation"] == "OPERATION_DIVIDE":
        units /= factor
    else:
        raise NotAPrice("price.unit_conversion.operation", "must be known")
    places, rounding = whole(conversion, "precision"), conversion.get("rounding", "")
    if rounding in ("", "ROUNDING_UNSPECIFIED", "ROUNDING_NONE"):
        places, rounding = _PLACES_OF_QUANTITIES, "ROUNDING_HALF_UP"
    if places > _PLACES_OF_QUANTITIES:
        raise NotAPrice("price.unit_conversion.precision", "must be 18 at most")
    scale = 10**places
    return Fraction(_made_whole(units * scale, rounding, "price.unit_conversion"), scale)


def _made_whole(number: Fraction, rounding: str, where: str) -> int:
    if rounding == "ROUNDING_CEILING":
        return ceil(number)
    if rounding == "ROUNDING_FLOOR":
        return floor(number)
    if rounding == "ROUNDING_HALF_UP":
        return floor(number + Fraction(1, 2))
    raise NotAPrice(f"{where}.rounding", "must be up, down, or to the nearest")


def _adjusted(price: Mapping[str, Any], part: Part, modelled: Fraction) -> Iterator[Step]:
    share = decimal(price, "discount_percent") / 100
    before = ZERO if part.opens else part.spent
    discounted_before, discounted = before * (1 - share), (before + modelled) * (1 - share)
    if share * modelled:
        yield Step("KIND_DISCOUNT", units=modelled, each=-share)
    for kind, missing in (
        ("KIND_MAXIMUM", _above(optional(price, "maximum_amount"))),
        ("KIND_MINIMUM", _below(optional(price, "minimum_amount"))),
    ):
        due = missing(discounted) - (ZERO if part.opens else missing(discounted_before))
        if due:
            yield Step(kind, flat=due)


def _above(most: Fraction | None) -> Callable[[Fraction], Fraction]:
    return lambda amount: ZERO if most is None else min(most - amount, ZERO)


def _below(least: Fraction | None) -> Callable[[Fraction], Fraction]:
    return lambda amount: ZERO if least is None else max(least - amount, ZERO)


# ---- The models: each takes its own message, the part, and the units it begins behind and ends with


_Steps = Iterator[Step]
_Message = Mapping[str, Any]


def _flat(model: _Message, part: Part, low: Fraction, high: Fraction) -> _Steps:
    if part.opens:
        yield Step("KIND_FLAT", low, high, flat=decimal(model, "amount"))


def _per_unit(model: _Message, part: Part, low: Fraction, high: Fraction) -> _Steps:
    if high > low:
        yield Step("KIND_PER_UNIT", low, high, high - low, decimal(model, "unit_amount"))


def _graduated(model: _Message, part: Part, low: Fraction, high: Fraction) -> _Steps:
    return _through(_tiers(model, "graduated"), "unit_amount", ONE, part, (low, high))


def _graduated_percentage(model: _Message, part: Part, low: Fraction, high: Fraction) -> _Steps:
    tiers = _tiers(model, "graduated_percentage")
    return _through(tiers, "rate_percent", Fraction(1, 100), part, (low, high))


def _through(
    tiers: Sequence[tuple[Fraction, Fraction | None, _Message]],
    name: str,
    scale: Fraction,
    part: Part,
    stretch: tuple[Fraction, Fraction],
) -> _Steps:
    """Go through the tiers that a stretch touches; one is entered by the first unit beyond the one before."""
    low, high = stretch
    for number, (floor_, end, tier) in enumerate(tiers):
        first = max(low, floor_)
        last = high if end is None else min(high, end)
        units = max(last - first, ZERO)
        is_entered = part.opens if number == 0 else low <= floor_ < high
        flat = decimal(tier, "flat_amount") if is_entered else ZERO
        if units or flat:
            yield Step("KIND_TIER", first, first + units, units, decimal(tier, name) * scale, flat)


def _tiers(model: _Message, name: str) -> list[tuple[Fraction, Fraction | None, _Message]]:
    found: list[tuple[Fraction, Fraction | None, _Message]] = []
    low = ZERO
    tiers = model["tiers"]
    for number, tier in enumerate(tiers):
        end = optional(tier, "up_to")
        is_last = number == len(tiers) - 1
        where = f"price.{name}.tiers[{number}].up_to"
        if (end is None) != is_last:
            raise NotAPrice(where, "must be there for all tiers but the last")
        if end is not None and end <= low:
            raise NotAPrice(where, "must be above the tier before")
        found.append((low, end, tier))
        low = end or low
    if not found:
        raise NotAPrice(f"price.{name}.tiers", "must not be empty")
    return found


def _volume(model: _Message, part: Part, low: Fraction, high: Fraction) -> _Steps:
    if not part.opens:
        raise NotAPrice("part_no", "must be 1: a volume price has no price of a part")
    for _, end, tier in _tiers(model, "volume"):
        if end is None or high <= end:
            flat = decimal(tier, "flat_amount")
            if high or flat:
                yield Step("KIND_TIER", low, high, high, decimal(tier, "unit_amount"), flat)
            return


def _package(model: _Message, part: Part, low: Fraction, high: Fraction) -> _Steps:
    size = decimal(model, "package_size")
    if size <= 0:
        raise NotAPrice("price.package.package_size", "must be above zero")
    rounding = model.get("rounding", "")
    if rounding in ("", "ROUNDING_UNSPECIFIED"):
        rounding = "ROUNDING_CEILING"
    before, after = (_made_whole(units / size, rounding, "price.package") for units in (low, high))
    if after != before:
        due = Fraction(after - before)
        yield Step("KIND_PACKAGE", low, high, due, decimal(model, "package_amount"))


def _percentage(model: _Message, part: Part, low: Fraction, high: Fraction) -> _Steps:
    events = part.events
    if events is None:
        if not high > low:
            return
        free = min(max(decimal(model, "free_amount") - low, ZERO), high - low)
        events = Sorted(free, high - low - free)
    turn = low + events.free_amount
    if events.free_amount:
        yield Step("KIND_FREE", low, turn, events.free_amount)
    if events.charged_amount:
        rate = decimal(model, "rate_percent") / 100
        yield Step("KIND_PERCENTAGE", turn, high, events.charged_amount, rate)
    for kind, count, name in (
        ("KIND_PER_EVENT", events.charged_events, "fixed_per_event"),
        ("KIND_EVENT_MINIMUM", events.raised_events, "minimum_per_event"),
        ("KIND_EVENT_MAXIMUM", events.lowered_events, "maximum_per_event"),
    ):
        each = decimal(model, name)
        if count and (each or kind != "KIND_PER_EVENT"):
            yield Step(kind, low, high, Fraction(count), each)


def _stairstep(model: _Message, part: Part, low: Fraction, high: Fraction) -> _Steps:
    if model.get("dimension"):
        before, after = part.prior_quantities, _together(part.prior_quantities, part.quantities)
    else:
        before, after = {"quantity": low}, {"quantity": high}
    number, amount = _stair(model, after)
    reached = ZERO if part.opens else _stair(model, before)[1]
    if amount != reached:
        yield Step("KIND_STAIR", low, high, flat=amount - reached, label=str(number))


def _stair(model: _Message, used: Mapping[str, Fraction]) -> tuple[int, Fraction]:
    for number, step in enumerate(model["steps"], start=1):
        limits = decimals(step, "limits")
        if all(used.get(unit, ZERO) <= limit for unit, limit in limits.items()):
            return number, decimal(step, "amount")
    raise NotAPrice("price.stairstep.steps", "must end with a step without limits")


def _matrix(model: _Message, part: Part, low: Fraction, high: Fraction) -> _Steps:
    cells, other = decimals(model, "cells"), optional(model, "default_unit_amount")
    for value, units in sorted(part.quantities.items()):
        each = cells.get(value, other)
        if each is None:
            raise NotAPrice("price.matrix.cells", f"must have an amount for {value!r}")
        if units:
            start = part.prior_quantities.get(value, ZERO)
            yield Step("KIND_CELL", start, start + units, units, each, label=value)


def _dynamic(model: _Message, part: Part, low: Fraction, high: Fraction) -> _Steps:
    if high > low:
        yield Step("KIND_AMOUNTS", low, high, high - low, ONE)


def _together(left: Mapping[str, Fraction], right: Mapping[str, Fraction]) -> dict[str, Fraction]:
    return {key: left.get(key, ZERO) + right.get(key, ZERO) for key in {*left, *right}}


_MODELS: Mapping[str, Callable[[_Message, Part, Fraction, Fraction], _Steps]] = {
    "flat": _flat,
    "per_unit": _per_unit,
    "graduated": _graduated,
    "volume": _volume,
    "package": _package,
    "percentage": _percentage,
    "graduated_percentage": _graduated_percentage,
    "stairstep": _stairstep,
    "matrix": _matrix,
    "dynamic": _dynamic,
}
