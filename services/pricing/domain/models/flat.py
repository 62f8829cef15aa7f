"""One amount a period."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from services.pricing.domain.models.parts import Model, Part, Step, StepKind
from services.pricing.domain.proration import Share
from services.pricing.domain.values import ZERO, Dec


@dataclass(frozen=True)
class Flat(Model):
    """One amount a period, used or not."""

    amount: Dec

    def prorated(self, share: Share) -> Flat:
        """Return the model of a part of a period."""
        return Flat(share.of(self.amount))

    def arithmetic(self, part: Part) -> list[Step]:
        """Return the arithmetic of a part."""
        if not part.opens:
            return []
        return [Step(StepKind.FLAT, part.start, part.end, ZERO, ZERO, self.amount)]
