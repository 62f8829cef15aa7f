"""Tiers: what graduated and volume prices and graduated percentages have in common."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from decimal import Decimal

from pydantic.dataclasses import dataclass

from services.pricing.domain.models.parts import EXACT, Part, Problems, Step, StepKind
from services.pricing.domain.values import ZERO, Dec


@dataclass(frozen=True)
class Tier:
    """Units above the tier before, up to and including `up_to`; None: no end."""

    up_to: Dec | None = None
    unit_amount: Dec = ZERO
    flat_amount: Dec = ZERO


@plain_dataclass(frozen=True, slots=True)
class Ladder:
    """Tiers, made ready for many quantities.

    Attributes:
        ends: `up_to` of all tiers but the last, which has none.
        lines: what a period costs that ends in a tier, as (unit_amount, offset): units * unit_amount + offset.
    """

    ends: Sequence[Decimal]
    lines: Sequence[tuple[Decimal, Decimal]]

    @classmethod
    def of(cls, tiers: Sequence[Tier]) -> Ladder:
        """Sum up tiers that are in order."""
        ends = [tier.up_to for tier in tiers if tier.up_to is not None]
        offset = tiers[0].flat_amount
        lines = [(tiers[0].unit_amount, offset)]
        for end, tier, following in zip(ends, tiers[:-1], tiers[1:], strict=True):
            # Beyond its end the next tier's line goes on, from where this one's stands, one flat amount higher.
            step = EXACT.subtract(tier.unit_amount, following.unit_amount)
            offset = EXACT.add(EXACT.fma(end, step, offset), following.flat_amount)
            lines.append((following.unit_amount, offset))
        return cls(ends, lines)

    def graduated(self, units: Decimal) -> Decimal:
        """Return what a period of so many units costs if each costs what its own tier says."""
        unit_amount, offset = self.lines[bisect_left(self.ends, units)]
        return EXACT.fma(units, unit_amount, offset)


def place(tiers: Sequence[Tier], units: Decimal) -> Tier:
    """Return the tier that the last of so many units lies in; `up_to` is inclusive."""
    return next(tier for tier in tiers if tier.up_to is None or units <= tier.up_to)


def graduated_steps(tiers: Sequence[Tier], part: Part) -> list[Step]:
    """Return the arithmetic of a part, one step for each tier that it touches."""
    steps = []
    low = ZERO
    for index, tier in enumerate(tiers):
        start = max(part.start, low)
        end = part.end if tier.up_to is None else min(part.end, tier.up_to)
        units = max(EXACT.subtract(end, start), ZERO)
        # A tier above the first is entered by the first unit beyond the one below it.
        entered = part.opens if index == 0 else part.start <= low < part.end
        flat = tier.flat_amount if entered else ZERO
        if units > ZERO or flat > ZERO:
            high = EXACT.add(start, units)
            steps.append(Step(StepKind.TIER, start, high, units, tier.unit_amount, flat))
        if tier.up_to is not None:
            low = tier.up_to
    return steps


def ends_problems(ends: Sequence[Decimal | None]) -> Problems:
    """Return what is wrong with the ends of tiers."""
    found: Problems = []
    low = ZERO
    for index, end in enumerate(ends):
        path = f"tiers[{index}].up_to"
        is_last = index == len(ends) - 1
        if is_last and end is not None:
            found.append((path, "the last tier must have no end, so that every unit has a price"))
        elif not is_last and end is None:
            found.append((path, "only the last tier may have no end"))
        elif end is not None and end <= low:
            found.append((path, f"must be above {low:f}, where the previous tier ends"))
        low = end or low
    return found
