"""What settlement needs of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from services.settlement.domain.checks import Expected
from services.settlement.domain.earnings import Earning
from services.settlement.domain.payouts import Payout, Posting


class Charges(Protocol):
    """Tells what is earned on charges: billing, by its stub."""

    async def earnings(self, charge_id: str) -> Sequence[Earning]:
        """Return what parties earn on the lines of a charge, by line. Raises NotFound, or what billing refuses with."""


class Books(Protocol):
    """Posts payouts, and tells what accounts hold: the ledger, by its stub."""

    async def post(self, payout: Payout, posting: Posting) -> UUID:
        """Post a step of a payout, or find the posting of it that is in the books; returns its id.

        Raises:
            PayoutNotBookable: the ledger refuses it.
            DomainError: the ledger cannot be reached.
        """

    async def balance(self, expected: Expected) -> tuple[str, int]:
        """Return the account that should hold something, and what it holds: credits less debits, in minor units.

        Raises:
            DomainError: the ledger cannot be reached.
        """
