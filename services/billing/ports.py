"""What billing needs of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.billing.domain.charges import Rating, Span
from services.billing.domain.postings import PostingVerdict
from services.billing.domain.transfers import LedgerAccount, LedgerTransfer


class Rater(Protocol):
    """Rates usage: pricing, by its stub."""

    async def rate(self, org_id: str, period: Span) -> Rating:
        """Rate the usage of an organisation in a period. Raises what pricing refuses with."""


class Books(Protocol):
    """Posts transfers: the ledger, by its stub."""

    async def create_accounts(self, accounts: Sequence[LedgerAccount]) -> list[tuple[str, str]]:
        """Create accounts; returns those that cannot serve, each with the name of the verdict."""

    async def post(self, transfers: Sequence[LedgerTransfer]) -> list[PostingVerdict]:
        """Post transfers as one chain, all or none; returns a verdict for each."""
