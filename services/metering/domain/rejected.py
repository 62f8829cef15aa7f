"""Rejected events: kept whole, listed, and taken in after all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.metering.domain.receipts import Receipt, Verdict

REPLAYED_MAX = 1_000
"""Events in one replay."""


@dataclass(frozen=True, slots=True)
class RejectedId:
    """Names a rejected event: the receipt that tells of it, and its position in that batch."""

    receipt_id: str
    index: int


@dataclass(frozen=True, slots=True)
class RejectedFilter:
    """Which rejected events; empty texts and no bounds mean any. The bounds are of when they were rejected."""

    org_id: str = ""
    sku: str = ""
    reason: str = ""
    start_at: datetime | None = None
    end_at: datetime | None = None
    include_replayed: bool = False


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that broke a rule.

    Attributes:
        place: its id; the receipt without its prefix.
        content: the bytes it came as.
        replayed_receipt_id: of the batch that took it in; None while none did.
    """

    place: RejectedId
    content: bytes
    reason: str
    message: str
    rejected_at: datetime
    replayed_receipt_id: str | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of rejected events; no receipt where there were none."""

    places: Sequence[RejectedId]
    receipt: Receipt | None

    @property
    def taken_in(self) -> list[RejectedId]:
        """Those that are stored now: by this replay, or with the same content before."""
        assert self.receipt is not None
        not_stored = {
            problem.index
            for problem in self.receipt.problems
            if problem.verdict is not Verdict.DUPLICATE
        }
        return [place for index, place in enumerate(self.places) if index not in not_stored]
