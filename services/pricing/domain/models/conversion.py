"""Usage in one unit, priced in another."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from pydantic.dataclasses import dataclass

from services.pricing.domain.models.parts import EXACT, Problems, Rounding, whole
from services.pricing.domain.values import ONE, ZERO, Dec

# Places of every quantity.
PLACES = 18


class Operation(StrEnum):
    """What is done with the factor."""

    MULTIPLY = "OPERATION_MULTIPLY"
    DIVIDE = "OPERATION_DIVIDE"


@dataclass(frozen=True)
class UnitConversion:
    """Turns metered units into priced ones, and rounds them.

    The units of the whole period so far are converted, so that a part bears what its units add to them.

    Attributes:
        rounding: NONE keeps 18 places, half up.
        precision: places that a rounding leaves.
    """

    operation: Operation
    factor: Dec
    rounding: Rounding = Rounding.NONE
    precision: int = 0

    def convert(self, units: Decimal) -> Decimal:
        """Return what so many metered units are."""
        places, rounding = self.precision, self.rounding
        if rounding is Rounding.NONE:
            places, rounding = PLACES, Rounding.HALF_UP
        scaled = units.scaleb(places, EXACT)
        if self.operation is Operation.MULTIPLY:
            count = whole(EXACT.multiply(scaled, self.factor), ONE, rounding)
        else:
            count = whole(scaled, self.factor, rounding)
        return count.scaleb(-places, EXACT)

    def problems(self) -> Problems:
        """Return what is wrong with the conversion: (path, description)."""
        found = []
        if self.factor == ZERO:
            found.append(("factor", "must be above zero"))
        if self.precision and self.rounding is Rounding.NONE:
            found.append(("precision", "says nothing without a rounding"))
        return found
