"""Balances while a batch is judged."""

from __future__ import annotations

from dataclasses import dataclass

from services.ledger.domain.accounts import NO_ACCOUNT_FLAGS, NO_LIMITS, AccountType, Flags, Limits
from services.ledger.domain.timelines import Timeline


@dataclass(slots=True)
class Balance:
    """A locked account while its batch is judged. Sums in minor units; `last_seq` counts its entries.

    `closed` says whether it is closed now; its flags, whether it was created so. `monitored`: a monitor names it.
    `timeline` is of an account that keeps its limits at every instant, and begins with the first one that its batch is
    about.
    """

    account_id: str
    currency_code: str
    type: AccountType
    flags: Flags
    debits_posted: int = 0
    credits_posted: int = 0
    last_seq: int = 0
    debits_pending: int = 0
    credits_pending: int = 0
    closed: bool = False
    limits: Limits = NO_LIMITS
    timeline: Timeline | None = None
    monitored: bool = False

    @property
    def is_unbounded(self) -> bool:
        """True when nothing but the range of its sums bounds it."""
        return not self.closed and self.limits is NO_LIMITS and self.flags is NO_ACCOUNT_FLAGS
