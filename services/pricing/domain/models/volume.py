"""All units cost what the tier of the last one says."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import ClassVar

from pydantic.dataclasses import dataclass

from services.pricing.domain.models.parts import EXACT, Model, Part, Problems, Step, StepKind
from services.pricing.domain.models.tiers import Tier, ends_problems, place
from services.pricing.domain.proration import Share
from services.pricing.domain.values import ZERO


@dataclass(frozen=True)
class Volume(Model):
    """All units of the period cost what the tier that the total falls into says.

    The next unit may make all units before it cheaper, so that a part of a period has no price of its own.
    """

    splits: ClassVar[bool] = False

    tiers: tuple[Tier, ...]

    def cost(self, part: Part) -> Decimal:
        """Return the exact amount of a whole period."""
        tier = place(self.tiers, part.end)
        return EXACT.fma(part.end, tier.unit_amount, tier.flat_amount)

    def arithmetic(self, part: Part) -> list[Step]:
        """Return the arithmetic of a whole period: one tier."""
        tier = place(self.tiers, part.end)
        if part.end == ZERO and tier.flat_amount == ZERO:
            return []
        amounts = (tier.unit_amount, tier.flat_amount)
        return [Step(StepKind.TIER, part.start, part.end, part.end, *amounts)]

    def prorated(self, share: Share) -> Volume:
        """Return the model of a part of a period: the first tier's flat amount is due by the period."""
        first, *others = self.tiers
        return Volume((replace(first, flat_amount=share.of(first.flat_amount)), *others))

    def problems(self) -> Problems:
        """Return what is wrong with the price: (path, description)."""
        return ends_problems([tier.up_to for tier in self.tiers])

    @property
    def tier_count(self) -> int:
        """Number of tiers."""
        return len(self.tiers)
