"""Postings as they are in the books."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.ledger.domain.holds import TransferView
from services.ledger.domain.recipes.evaluation import EarlierPosting, Fact, Posted
from services.ledger.domain.recipes.judging import Judged
from services.ledger.domain.recipes.parameters import Values
from services.ledger.domain.transfers import Reference, Transfer


@dataclass(frozen=True, slots=True)
class LegView:
    """A transfer of a posting, and the leg and the group that it was made for."""

    leg: str
    group: int
    view: TransferView


@dataclass(frozen=True, slots=True)
class PostingView:
    """A posting in the books.

    Attributes:
        parameters: that it was posted with.
        effective_at: as it was given; None for none.
    """

    posting_id: UUID
    recipe: str
    version: int
    reference: Reference
    parameters: Values
    effective_at: datetime | None
    recorded_at: datetime
    legs: tuple[LegView, ...]

    def is_of(self, fact: Fact, values: Values) -> bool:
        """True when a fact, its parameters bound, is the one that was posted."""
        return (dict(self.parameters), self.effective_at) == (dict(values), fact.effective_at)


def posted(judged: Judged, now: datetime) -> PostingView:
    """Return a posting that is being recorded now."""
    fact = judged.plan.fact
    return PostingView(
        posting_id=judged.posting_id,
        recipe=judged.plan.recipe.name,
        version=judged.plan.recipe.version,
        reference=fact.reference,
        parameters=judged.plan.values,
        effective_at=fact.effective_at,
        recorded_at=now,
        legs=tuple(
            LegView(
                made.leg,
                made.group,
                TransferView(
                    made.resolved, made.resolved.effective_at or now, now, made.hold, None
                ),
            )
            for made in judged.made
        ),
    )


def transfers_of(posting: PostingView) -> Posted:
    """Return the transfers that later postings may refer to, by leg and group; None for a leg that made several."""
    earlier = EarlierPosting(posting.recipe, posting.reference)
    return by_leg(earlier, ((leg.leg, leg.group, leg.view.transfer) for leg in posting.legs))


def by_leg(earlier: EarlierPosting, made: Iterable[tuple[str, int, Transfer]]) -> Posted:
    """Return the transfers of a posting, each with its leg and group, as `transfers_of` does."""
    found: dict[tuple[EarlierPosting, str, int], list[Transfer]] = {}
    for leg, group, transfer in made:
        found.setdefault((earlier, leg, group), []).append(transfer)
    return {key: several[0] if len(several) == 1 else None for key, several in found.items()}
