"""Refunds: what is given back of which payments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.orders.domain.actions import ExternalAction
from services.runtime.money import Money


@dataclass(frozen=True, slots=True)
class Tender:
    """A payment of an order, and how much of it is not given back yet, in minor units."""

    action: ExternalAction
    rest_minor: int


@dataclass(frozen=True, slots=True)
class Refund:
    """What was given back of an order at once.

    Attributes:
        initiated_by: who gave it back, in the words of who told of it.
        principal_id: who told of it.
        parts: the latest payment first.
    """

    refund_id: str
    order_id: str
    person_id: str
    amount: Money
    reason: str
    initiated_by: str
    principal_id: str
    completed_at: datetime
    parts: tuple[ExternalAction, ...] = ()

    @property
    def provider_ref(self) -> str:
        """That of the largest part."""
        return max(self.parts, key=lambda part: part.amount.minor_units).provider_ref


def shared_out(tenders: Sequence[Tender], amount_minor: int) -> list[tuple[Tender, int]]:
    """Take an amount off payments, the latest first; returns what is taken of each.

    Args:
        tenders: the latest first; together they hold as much.
        amount_minor: in minor units.
    """
    taken = []
    for tender in tenders:
        minor = min(tender.rest_minor, amount_minor)
        if minor:
            taken.append((tender, minor))
        amount_minor -= minor
    assert not amount_minor, "no more is given back than was received"
    return taken
