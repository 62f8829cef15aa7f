"""One amount for all that is used, up to the limits of a stair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

from pydantic import Field
from pydantic.dataclasses import dataclass

from services.pricing.domain.models.parts import (
    EXACT,
    Model,
    Part,
    Problems,
    Source,
    Step,
    StepKind,
)
from services.pricing.domain.proration import Share
from services.pricing.domain.values import ZERO, Dec

# The one unit of a price without a dimension.
QUANTITY = "quantity"


@dataclass(frozen=True)
class Stair:
    """What a period costs that stays within limits; a unit without a limit is unlimited."""

    amount: Dec
    limits: dict[str, Dec] = Field(default_factory=dict)

    def holds(self, used: Mapping[str, Decimal]) -> bool:
        """True when nothing is above its limit; a limit is inclusive."""
        return all(used.get(unit, ZERO) <= limit for unit, limit in self.limits.items())


@dataclass(frozen=True)
class Stairstep(Model):
    """A period costs the amount of the first stair that it stays within.

    Attributes:
        dimension: metadata key whose values are the units that stairs limit; "": the quantity alone.
    """

    steps: tuple[Stair, ...]
    dimension: str = ""

    @property
    def source(self) -> Source:
        """The quantity, or the quantities of several units."""
        return Source.QUANTITIES if self.dimension else Source.QUANTITY

    @property
    def takes_units(self) -> bool:
        """True for one unit; several are not of one kind."""
        return not self.dimension

    def prorated(self, share: Share) -> Stairstep:
        """Return the model of a part of a period: a stair is paid by the period, its limits hold in the part."""
        steps = tuple(replace(step, amount=share.of(step.amount)) for step in self.steps)
        return replace(self, steps=steps)

    def _place(self, used: Mapping[str, Decimal]) -> int:
        return next(place for place, stair in enumerate(self.steps) if stair.holds(used))

    def _places(self, part: Part) -> tuple[int, int]:
        if self.dimension:
            return self._place(part.earlier), self._place(part.later())
        return self._place({QUANTITY: part.start}), self._place({QUANTITY: part.end})

    def arithmetic(self, part: Part) -> list[Step]:
        """Return the arithmetic of a part: what its stair costs above the one that was reached before."""
        before, now = self._places(part)
        reached = ZERO if part.opens else self.steps[before].amount
        amount = EXACT.subtract(self.steps[now].amount, reached)
        if amount == ZERO:
            return []
        return [Step(StepKind.STAIR, part.start, part.end, ZERO, ZERO, amount, str(now + 1))]

    def unpriced(self, quantities: Mapping[str, Decimal]) -> list[str]:
        """Return the units that no stair limits."""
        known = {unit for stair in self.steps for unit in stair.limits}
        return sorted(unit for unit in quantities if unit not in known)

    def problems(self) -> Problems:
        """Return what is wrong with the price: (path, description)."""
        found: Problems = []
        last = len(self.steps) - 1
        for index, stair in enumerate(self.steps):
            path = f"steps[{index}].limits"
            if index == last and stair.limits:
                found.append((path, "the last step must have no limits, so that any use has one"))
            if index != last and not stair.limits:
                found.append((path, "only the last step may have no limits"))
            if not self.dimension and set(stair.limits) - {QUANTITY}:
                found.append((path, f"without a dimension the only unit is {QUANTITY!r}"))
        return found + self._out_of_order()

    def _out_of_order(self) -> Problems:
        found: Problems = []
        for index, (lower, upper) in enumerate(pairwise(self.steps), start=1):
            if upper.amount < lower.amount:
                text = f"must not be below {lower.amount:f}, the amount of the previous step"
                found.append((f"steps[{index}].amount", text))
            for unit, limit in upper.limits.items():
                if unit not in lower.limits or limit < lower.limits[unit]:
                    text = f"the previous step must limit {unit!r} too, and not higher"
                    found.append((f"steps[{index}].limits", text))
        return found

    @property
    def tier_count(self) -> int:
        """Number of limits, one a step at least."""
        return sum(max(len(stair.limits), 1) for stair in self.steps)
