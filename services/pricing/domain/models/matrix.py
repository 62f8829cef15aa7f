"""Units cost what the value of a dimension says."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from pydantic import Field
from pydantic.dataclasses import dataclass

from services.pricing.domain.models.parts import EXACT, Model, Part, Source, Step, StepKind
from services.pricing.domain.values import ZERO, Dec


@dataclass(frozen=True)
class Matrix(Model):
    """Units cost what the value of a dimension says.

    Attributes:
        dimension: metadata key by whose values units are priced.
        cells: amount of one unit, by value; the value of events without the key is "".
        default_unit_amount: amount of one unit of any other value; None: other values have no price.
    """

    dimension: str
    cells: dict[str, Dec] = Field(default_factory=dict)
    default_unit_amount: Dec | None = None

    @property
    def source(self) -> Source:
        """The quantities by value."""
        return Source.QUANTITIES

    @property
    def takes_units(self) -> bool:
        """False: which value's units would be included?"""
        return False

    def _unit_amount(self, value: str) -> Decimal:
        amount = self.cells.get(value, self.default_unit_amount)
        assert amount is not None, "who prices asks for what is unpriced first"
        return amount

    def cost(self, part: Part) -> Decimal:
        """Return the exact amount of a part."""
        total = ZERO
        for value, units in part.quantities.items():
            total = EXACT.fma(units, self._unit_amount(value), total)
        return total

    def arithmetic(self, part: Part) -> list[Step]:
        """Return the arithmetic of a part, one step for each value."""
        steps = []
        for value, units in sorted(part.quantities.items()):
            start = part.earlier.get(value, ZERO)
            end = EXACT.add(start, units)
            amount = self._unit_amount(value)
            if units > ZERO:
                steps.append(Step(StepKind.CELL, start, end, units, amount, label=value))
        return steps

    def unpriced(self, quantities: Mapping[str, Decimal]) -> list[str]:
        """Return the values that have neither a cell nor a default."""
        if self.default_unit_amount is not None:
            return []
        return sorted(value for value in quantities if value not in self.cells)

    @property
    def tier_count(self) -> int:
        """Number of cells."""
        return len(self.cells)
