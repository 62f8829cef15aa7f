"""What orders needs of others."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from services.orders.domain.actions import ExternalAction
from services.orders.domain.credits import Entry


class Books(Protocol):
    """Posts what was received: the ledger, by its stub."""

    async def post(self, action: ExternalAction) -> UUID:
        """Post a payment, or find the posting of it that is in the books; returns its id.

        Raises:
            OrderPaymentNotBookable: the ledger refuses it.
            DomainError: the ledger cannot be reached.
        """


class CreditBooks(Protocol):
    """Posts what happened to credits: the ledger, by its stub."""

    async def post(self, entry: Entry) -> UUID:
        """Post an entry, or find the posting of it that is in the books; returns its id.

        Raises:
            CreditsNotBookable: the ledger refuses it.
            DomainError: the ledger cannot be reached.
        """
