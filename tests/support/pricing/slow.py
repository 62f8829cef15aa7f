"""Prices the slow way: in fractions, grain by grain and event by event, as a person would with a pencil.

Nothing here is taken from the product but the fields of a price. Quantities are multiples of GRAIN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor

from services.pricing.domain.models.conversion import Operation, UnitConversion
from services.pricing.domain.models.parts import Rounding
from services.pricing.domain.models.percentage import Percentage
from services.pricing.domain.models.tiers import Tier
from services.pricing.domain.prices import Price

GRAIN = Fraction(1, 4)


@dataclass
class Used:
    """All that a period used so far: units, amounts of events in their order, or units by value."""

    units: Fraction = Fraction(0)
    amounts: list[Fraction] = field(default_factory=list)
    by_value: dict[str, Fraction] = field(default_factory=dict)


def cost(price: Price, used: Used) -> Fraction:
    """Return what a period costs that used so much."""
    amount = modelled(price, used)
    amount -= amount * fraction(price.discount_percent) / 100
    if price.maximum_amount is not None and amount > price.maximum_amount:
        amount = fraction(price.maximum_amount)
    if price.minimum_amount is not None and amount < price.minimum_amount:
        amount = fraction(price.minimum_amount)
    return amount


def modelled(price: Price, used: Used) -> Fraction:
    """Return what the model alone makes of it."""
    if price.flat:
        return fraction(price.flat.amount)
    if price.percentage:
        events = used.amounts if used.amounts else [used.units]
        return percentage(price.percentage, events)
    if price.matrix:
        return matrix(price, used.by_value)
    if price.stairstep:
        stairs = price.stairstep
        totals = used.by_value if stairs.dimension else {"quantity": billable(price, used.units)}
        return next(
            fraction(stair.amount)
            for stair in stairs.steps
            if all(totals.get(unit, 0) <= limit for unit, limit in stair.limits.items())
        )
    return of_units(price, billable(price, used.units))


def of_units(price: Price, units: Fraction) -> Fraction:
    """Return what the models of plain units make of them."""
    if price.per_unit:
        return units * fraction(price.per_unit.unit_amount)
    if price.graduated:
        return graduated(price.graduated.tiers, units)
    if price.graduated_percentage:
        rates = [
            Tier(tier.up_to, tier.rate_percent / 100, tier.flat_amount)
            for tier in price.graduated_percentage.tiers
        ]
        return graduated(rates, units)
    if price.volume:
        tier = tier_of(price.volume.tiers, units)
        return units * fraction(tier.unit_amount) + fraction(tier.flat_amount)
    if price.package:
        count = rounded(units / fraction(price.package.package_size), price.package.rounding)
        return count * fraction(price.package.package_amount)
    assert price.dynamic
    return units


def billable(price: Price, units: Fraction) -> Fraction:
    """Return the units that are left to be priced."""
    if price.unit_conversion:
        units = converted(price.unit_conversion, units)
    return max(units - fraction(price.included_qty), Fraction(0))


def converted(conversion: UnitConversion, units: Fraction) -> Fraction:
    """Return what so many metered units are."""
    factor = fraction(conversion.factor)
    units = units * factor if conversion.operation is Operation.MULTIPLY else units / factor
    if conversion.rounding is Rounding.NONE:
        return rounded(units * 10**18, Rounding.HALF_UP) / 10**18
    scale = Fraction(10) ** conversion.precision
    return rounded(units * scale, conversion.rounding) / scale


def rounded(number: Fraction, rounding: Rounding) -> Fraction:
    """Make a number whole."""
    if rounding is Rounding.CEILING:
        return Fraction(ceil(number))
    if rounding is Rounding.FLOOR:
        return Fraction(floor(number))
    return Fraction(floor(number + Fraction(1, 2)))


def tier_of(tiers: Sequence[Tier], units: Fraction) -> Tier:
    """Return the tier that the last unit lies in."""
    for tier in tiers:
        if tier.up_to is None or units <= fraction(tier.up_to):
            return tier
    raise AssertionError("the last tier has no end")


def graduated(tiers: Sequence[Tier], units: Fraction) -> Fraction:
    """Count grain by grain; a tier's flat amount comes with its first grain, the first tier's with the period."""
    # Grains are counted as whole numbers: there may be many thousands of them.
    lasts = [None if t.up_to is None else floor(fraction(t.up_to) / GRAIN) for t in tiers]
    counts = [0] * len(tiers)
    whole = floor(units / GRAIN)
    for grain in range(1, whole + 1):
        for place, last in enumerate(lasts):
            if last is None or grain <= last:
                counts[place] += 1
                break
    used = [count * GRAIN for count in counts]
    if part := units - whole * GRAIN:
        used[tiers.index(tier_of(tiers, units))] += part
    entered = [place == 0 or used[place] > 0 for place in range(len(tiers))]
    # A tier that no grain ends in was entered all the same, where there is a grain beyond it.
    reached = max(place for place, here in enumerate(entered) if here)
    assert all(entered[: reached + 1])
    return sum(
        (
            fraction(tier.flat_amount) + amount * fraction(tier.unit_amount)
            for tier, amount, here in zip(tiers, used, entered, strict=True)
            if here
        ),
        Fraction(0),
    )


def percentage(price: Percentage, amounts: Sequence[Fraction]) -> Fraction:
    """Add up event by event; the allowance lasts until one of its two ends is reached."""
    total = Fraction(0)
    events, amount_so_far = 0, Fraction(0)
    lasts = bool(price.free_events or price.free_amount)
    for amount in amounts:
        if amount == 0:
            continue
        charged = amount
        if lasts:
            charged = Fraction(0)
            if price.free_amount and amount_so_far + amount > fraction(price.free_amount):
                charged = amount_so_far + amount - fraction(price.free_amount)
        if charged:
            fee = charged * fraction(price.rate_percent) / 100 + fraction(price.fixed_per_event)
            fee = max(fee, fraction(price.minimum_per_event))
            if price.maximum_per_event is not None:
                fee = min(fee, fraction(price.maximum_per_event))
            total += fee
        events += 1
        amount_so_far += amount
        if price.free_events and events >= price.free_events:
            lasts = False
        if price.free_amount and amount_so_far >= fraction(price.free_amount):
            lasts = False
    return total


def matrix(price: Price, by_value: Mapping[str, Fraction]) -> Fraction:
    """Add up value by value."""
    assert price.matrix
    total = Fraction(0)
    for value, units in by_value.items():
        amount = price.matrix.cells.get(value, price.matrix.default_unit_amount)
        total += units * fraction(amount)
    return total


def fraction(number: Decimal | None) -> Fraction:
    """Read a decimal; nothing is 0."""
    return Fraction(number or 0)
