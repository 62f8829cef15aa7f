"""Each part of an amount of money bears the rate of its own tier."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import cached_property

from pydantic.dataclasses import dataclass

from services.pricing.domain.models.parts import EXACT, Model, Part, Problems, Step, per_cent
from services.pricing.domain.models.tiers import (
    Ladder,
    Tier,
    ends_problems,
    graduated_steps,
)
from services.pricing.domain.proration import Share
from services.pricing.domain.values import ZERO, Dec


@dataclass(frozen=True)
class PercentageTier:
    """Amounts above the tier before, up to and including `up_to`; None: no end."""

    up_to: Dec | None = None
    rate_percent: Dec = ZERO
    flat_amount: Dec = ZERO


@dataclass(frozen=True)
class GraduatedPercentage(Model):
    """A share of an amount, by tiers of the amount: a graduated price whose units are money."""

    tiers: tuple[PercentageTier, ...]

    @cached_property
    def _as_units(self) -> tuple[Tier, ...]:
        return tuple(
            Tier(tier.up_to, per_cent(tier.rate_percent), tier.flat_amount) for tier in self.tiers
        )

    @cached_property
    def _ladder(self) -> Ladder:
        return Ladder.of(self._as_units)

    @property
    def takes_units(self) -> bool:
        """False: amounts of money are no units; a first tier without a rate includes."""
        return False

    def cost(self, part: Part) -> Decimal:
        """Return the exact amount of a part."""
        cost = self._ladder.graduated(part.end)
        return cost if part.opens else EXACT.subtract(cost, self._ladder.graduated(part.start))

    def arithmetic(self, part: Part) -> list[Step]:
        """Return the arithmetic of a part, one step for each tier that it touches."""
        return graduated_steps(self._as_units, part)

    def prorated(self, share: Share) -> GraduatedPercentage:
        """Return the model of a part of a period: the first tier's flat amount is due by the period."""
        first, *others = self.tiers
        return GraduatedPercentage(
            (replace(first, flat_amount=share.of(first.flat_amount)), *others)
        )

    def problems(self) -> Problems:
        """Return what is wrong with the price: (path, description)."""
        return ends_problems([tier.up_to for tier in self.tiers])

    @property
    def tier_count(self) -> int:
        """Number of tiers."""
        return len(self.tiers)
