"""What billing needs of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.billing.domain.charges import Charge, Rating, Span
from services.billing.domain.frozen import FrozenTransfer, LedgerAccount, PostingVerdict
from services.billing.domain.transfers import LedgerTransfer, Posting


class Rater(Protocol):
    """Rates usage: pricing, by its stub."""

    async def rate(self, org_id: str, period: Span) -> Rating:
        """Rate the usage of an organisation in a period. Raises what pricing refuses with."""


class Books(Protocol):
    """Posts charges: the ledger, by its stub."""

    async def post_recipe(self, charge: Charge) -> tuple[Posting, list[LedgerTransfer]]:
        """Post a charge by its recipe, or return what was posted of it before.

        Raises:
            PostingRefused: an account does not take a leg; nothing was posted.
            DomainError: whatever else the ledger refuses with.
        """

    async def create_accounts(self, accounts: Sequence[LedgerAccount]) -> list[tuple[str, str]]:
        """Create accounts of frozen transfers; returns those that cannot serve, each with the name of the verdict."""

    async def post(self, transfers: Sequence[FrozenTransfer]) -> list[PostingVerdict]:
        """Post frozen transfers as one chain, all or none; returns a verdict for each."""
