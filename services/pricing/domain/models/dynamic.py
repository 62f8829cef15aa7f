"""Events carry what they cost."""

from __future__ import annotations

from decimal import Decimal

from pydantic.dataclasses import dataclass

from services.pricing.domain.models.parts import Model, Part, Step, StepKind
from services.pricing.domain.values import ONE, ZERO


@dataclass(frozen=True)
class Dynamic(Model):
    """Events carry what they cost: the quantity of an event is its amount."""

    @property
    def takes_units(self) -> bool:
        """False: amounts of money are no units."""
        return False

    def cost(self, part: Part) -> Decimal:
        """Return the exact amount of a part."""
        return part.units

    def arithmetic(self, part: Part) -> list[Step]:
        """Return the arithmetic of a part."""
        if part.units == ZERO:
            return []
        return [Step(StepKind.AMOUNTS, part.start, part.end, part.units, ONE)]
