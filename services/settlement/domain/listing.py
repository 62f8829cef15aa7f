"""What is asked for in lists, and where a page of one ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.settlement.domain.payouts import PayoutStatus


@dataclass(frozen=True, slots=True)
class PayoutFilter:
    """Which payouts to list; what is empty means any."""

    party: str = ""
    status: PayoutStatus | None = None
    sweep_id: str = ""
    charge_id: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of payouts or sweeps ended."""

    created_at: datetime
    item_id: str


@dataclass(frozen=True, slots=True)
class EarningFilter:
    """Which commissions to list; what is empty means any."""

    party: str = ""
    charge_id: str = ""
    dispute_id: str = ""
    start_at: datetime | None = None
    end_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EarningPlace:
    """Where a page of commissions ended."""

    earned_at: datetime
    charge_id: str
    line_no: int


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """How a party stands in a currency, with what is held of it; all in minor units."""

    party: str
    currency_code: str
    earned_minor: int
    paid_minor: int
    claimed_minor: int
    held_minor: int

    @property
    def carried_minor(self) -> int:
        """What is still owed; below zero when more was given back."""
        return self.earned_minor - self.paid_minor - self.claimed_minor - self.held_minor
