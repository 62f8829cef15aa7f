"""What every price model is given and gives: a part of a period, and the steps of its arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import (
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from services.pricing.domain.proration import Share
from services.pricing.domain.values import ONE, ZERO

# Every product of a quantity, a factor, a price and a discount fits; what did not would raise, not round.
EXACT = Context(
    prec=400,
    rounding=ROUND_HALF_UP,
    traps=[InvalidOperation, DivisionByZero, Overflow, Inexact],
)
NOTHING: Mapping[str, Decimal] = MappingProxyType({})


class Rounding(StrEnum):
    """How a number becomes whole, or gets the places that it may have."""

    NONE = "ROUNDING_NONE"
    CEILING = "ROUNDING_CEILING"
    FLOOR = "ROUNDING_FLOOR"
    HALF_UP = "ROUNDING_HALF_UP"


class StepKind(StrEnum):
    """The kind of a step in the arithmetic."""

    INCLUDED = "INCLUDED"
    FLAT = "FLAT"
    PER_UNIT = "PER_UNIT"
    TIER = "TIER"
    PACKAGE = "PACKAGE"
    CONVERSION = "CONVERSION"
    FREE = "FREE"
    PERCENTAGE = "PERCENTAGE"
    PER_EVENT = "PER_EVENT"
    EVENT_MINIMUM = "EVENT_MINIMUM"
    EVENT_MAXIMUM = "EVENT_MAXIMUM"
    STAIR = "STAIR"
    CELL = "CELL"
    AMOUNTS = "AMOUNTS"
    DISCOUNT = "DISCOUNT"
    MINIMUM = "MINIMUM"
    MAXIMUM = "MAXIMUM"


class Source(StrEnum):
    """What of the usage a model is applied to."""

    QUANTITY = "quantity"
    AMOUNTS = "amounts"
    QUANTITIES = "quantities"


class Step(NamedTuple):
    """One piece of the arithmetic: amount = units * unit_amount + flat_amount.

    Attributes:
        start: units of the period before it.
        end: units of the period up to and including it.
        label: what the step is of, where several are of one kind: a value of the dimension, the number of a stair.
    """

    kind: StepKind
    start: Decimal
    end: Decimal
    units: Decimal
    unit_amount: Decimal = ZERO
    flat_amount: Decimal = ZERO
    label: str = ""

    @property
    def amount(self) -> Decimal:
        """The exact amount of the step."""
        return EXACT.fma(self.units, self.unit_amount, self.flat_amount)


@dataclass(frozen=True, slots=True)
class EventGroup:
    """Some events above zero.

    Attributes:
        count: how many there are.
        amount: what they sum to.
        smallest: the smallest of them; None where nothing depends on it, and without events.
        largest: likewise.
    """

    count: int = 0
    amount: Decimal = ZERO
    smallest: Decimal | None = None
    largest: Decimal | None = None


NO_EVENTS = EventGroup()


@dataclass(frozen=True, slots=True)
class Tally:
    """The events of a part, as a price per event sorts them. Events of zero are in none of the counts.

    Attributes:
        events: how many there are.
        amount: what they sum to.
        free_amount: how much of that the allowance covers.
        charged_events: events that cost the rate and the fixed amount.
        charged_amount: what the rate is applied to in them.
        minimum_events: events raised to the minimum.
        maximum_events: events lowered to the maximum.
        free: events that the allowance covers whole.
        crossing: amount of the one that goes beyond the allowance's amount; 0: there is none.
        charged: events that are paid whole, at the rate and the fixed amount.
        raised: those that are raised to the minimum.
        lowered: those that are lowered to the maximum.
    """

    events: int = 0
    amount: Decimal = ZERO
    free_amount: Decimal = ZERO
    charged_events: int = 0
    charged_amount: Decimal = ZERO
    minimum_events: int = 0
    maximum_events: int = 0
    free: EventGroup = NO_EVENTS
    crossing: Decimal = ZERO
    charged: EventGroup = NO_EVENTS
    raised: EventGroup = NO_EVENTS
    lowered: EventGroup = NO_EVENTS


class Part(NamedTuple):
    """The stretch of a period that is priced: units `start` (exclusive) to `end` (inclusive).

    Attributes:
        start: units of the period before it.
        end: units of the period up to and including it.
        opens: True for the part that opens the period; it starts at zero.
        quantities: units of the part by value of the dimension.
        earlier: units of the period before it, likewise.
        tally: its events; None where the price does not look at them.
    """

    start: Decimal
    end: Decimal
    opens: bool
    quantities: Mapping[str, Decimal] = NOTHING
    earlier: Mapping[str, Decimal] = NOTHING
    tally: Tally | None = None

    @property
    def units(self) -> Decimal:
        """Units of the part."""
        return EXACT.subtract(self.end, self.start)

    def later(self) -> dict[str, Decimal]:
        """Return the units of the period up to its end, by value of the dimension."""
        return added(self.earlier, self.quantities)


Problems = list[tuple[str, str]]


class Model:
    """What every model can say of itself; a model overrides what is different with it.

    A model is an increasing function F of what was used since the period's start, so that a part costs
    F(end) - F(start) and parts sum exactly to the whole.
    """

    # False: what a part costs depends on what comes later, so that only the whole has a price.
    splits: ClassVar[bool] = True

    def arithmetic(self, part: Part) -> list[Step]:
        """Return the arithmetic of a part."""
        raise NotImplementedError

    def cost(self, part: Part) -> Decimal:
        """Return the exact amount of a part: the sum of its steps."""
        total = ZERO
        for step in self.arithmetic(part):
            total = EXACT.add(total, step.amount)
        return total

    def problems(self) -> Problems:
        """Return what is wrong with the price: (path, description)."""
        return []

    def prorated(self, share: Share) -> Model:
        """Return the model of a part of a period: of what is due by the period, the part's share."""
        return self

    @property
    def source(self) -> Source:
        """What of the usage it is applied to."""
        return Source.QUANTITY

    @property
    def tier_count(self) -> int:
        """Number of tiers, steps or cells; 0 for a model without."""
        return 0

    @property
    def takes_units(self) -> bool:
        """True when units can be included or converted before the model sees them."""
        return True

    def unpriced(self, quantities: Mapping[str, Decimal]) -> list[str]:
        """Return the values of its dimension that it has no price for."""
        return []


def added(left: Mapping[str, Decimal], right: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Add quantities value by value."""
    total = dict(left)
    for value, units in right.items():
        total[value] = EXACT.add(total.get(value, ZERO), units)
    return total


def summed(numbers: Mapping[str, Decimal]) -> Decimal:
    """Return the sum of quantities over all values."""
    total = ZERO
    for units in numbers.values():
        total = EXACT.add(total, units)
    return total


def whole(numerator: Decimal, denominator: Decimal, rounding: Rounding) -> Decimal:
    """Divide and make the quotient whole, from its exact value. Both are not negative."""
    count, rest = EXACT.divmod(numerator, denominator)
    if rounding is Rounding.FLOOR or rest == ZERO:
        return count
    if rounding is Rounding.HALF_UP and EXACT.add(rest, rest) < denominator:
        return count
    return EXACT.add(count, ONE)


def per_cent(rate: Decimal) -> Decimal:
    """Return a rate in per cent as a factor."""
    return rate.scaleb(-2, EXACT)
