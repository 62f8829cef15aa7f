"""Each unit costs what its own tier says."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import cached_property

from pydantic.dataclasses import dataclass

from services.pricing.domain.models.parts import EXACT, Model, Part, Problems, Step
from services.pricing.domain.models.tiers import (
    Ladder,
    Tier,
    ends_problems,
    graduated_steps,
)
from services.pricing.domain.proration import Share


@dataclass(frozen=True)
class Graduated(Model):
    """Each unit costs what its own tier says."""

    tiers: tuple[Tier, ...]

    @cached_property
    def _ladder(self) -> Ladder:
        return Ladder.of(self.tiers)

    def cost(self, part: Part) -> Decimal:
        """Return the exact amount of a part."""
        cost = self._ladder.graduated(part.end)
        return cost if part.opens else EXACT.subtract(cost, self._ladder.graduated(part.start))

    def arithmetic(self, part: Part) -> list[Step]:
        """Return the arithmetic of a part, one step for each tier that it touches."""
        return graduated_steps(self.tiers, part)

    def prorated(self, share: Share) -> Graduated:
        """Return the model of a part of a period: the first tier's flat amount is due by the period."""
        first, *others = self.tiers
        return Graduated((replace(first, flat_amount=share.of(first.flat_amount)), *others))

    def problems(self) -> Problems:
        """Return what is wrong with the price: (path, description)."""
        return ends_problems([tier.up_to for tier in self.tiers])

    @property
    def tier_count(self) -> int:
        """Number of tiers."""
        return len(self.tiers)
