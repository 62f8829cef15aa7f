"""The same amount for every unit."""

from __future__ import annotations

from decimal import Decimal

from pydantic.dataclasses import dataclass

from services.pricing.domain.models.parts import EXACT, Model, Part, Step, StepKind
from services.pricing.domain.values import ZERO, Dec


@dataclass(frozen=True)
class PerUnit(Model):
    """The same amount for every unit, fractions of units included."""

    unit_amount: Dec

    def cost(self, part: Part) -> Decimal:
        """Return the exact amount of a part."""
        return EXACT.multiply(part.units, self.unit_amount)

    def arithmetic(self, part: Part) -> list[Step]:
        """Return the arithmetic of a part."""
        if part.units == ZERO:
            return []
        return [Step(StepKind.PER_UNIT, part.start, part.end, part.units, self.unit_amount)]
