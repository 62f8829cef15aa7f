"""Transfers in the ledger that a charge led to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.runtime.money import Money


@dataclass(frozen=True, slots=True)
class LedgerTransfer:
    """A transfer for one line of a charge. The amount is positive.

    Attributes:
        leg: which of its line's transfers it is, e.g. `gross`.
    """

    transfer_id: UUID
    line_id: str
    leg: str
    debit_account_id: str
    credit_account_id: str
    amount: Money
    code: int
    effective_at: datetime


@dataclass(frozen=True, slots=True)
class Posting:
    """What the ledger made of a charge by a recipe.

    Attributes:
        recipe: its name.
        version: of the recipe.
    """

    posting_id: UUID
    recipe: str
    version: int
