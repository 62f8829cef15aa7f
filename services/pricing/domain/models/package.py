"""Units are sold in packages."""

from __future__ import annotations

from decimal import Decimal

from pydantic.dataclasses import dataclass

from services.pricing.domain.models.parts import (
    EXACT,
    Model,
    Part,
    Problems,
    Rounding,
    Step,
    StepKind,
    whole,
)
from services.pricing.domain.values import ZERO, Dec


@dataclass(frozen=True)
class Package(Model):
    """Units are sold in packages."""

    package_size: Dec
    package_amount: Dec
    rounding: Rounding = Rounding.CEILING

    def packages(self, units: Decimal) -> Decimal:
        """Return how many packages are due after so many units of the period."""
        return whole(units, self.package_size, self.rounding)

    def arithmetic(self, part: Part) -> list[Step]:
        """Return the arithmetic of a part: the packages that it begins."""
        count = EXACT.subtract(self.packages(part.end), self.packages(part.start))
        if count == ZERO:
            return []
        return [Step(StepKind.PACKAGE, part.start, part.end, count, self.package_amount)]

    def problems(self) -> Problems:
        """Return what is wrong with the price: (path, description)."""
        found = []
        if self.package_size == ZERO:
            found.append(("package_size", "must be above zero"))
        if self.rounding is Rounding.NONE:
            found.append(("rounding", "packages are whole: use ROUNDING_CEILING, FLOOR or HALF_UP"))
        return found
