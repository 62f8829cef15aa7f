"""Transfers that a charge makes in the ledger, and their accounts: what is frozen with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from services.runtime.money import Money


class AccountType(StrEnum):
    """Types of the accounts that charges use."""

    ASSET = "ASSET"
    LIABILITY = "LIABILITY"
    INCOME = "INCOME"
    EXPENSE = "EXPENSE"


@dataclass(frozen=True, slots=True, order=True)
class LedgerAccount:
    """An account that a charge needs."""

    account_id: str
    currency_code: str
    type: AccountType
    owner: str


@dataclass(frozen=True, slots=True)
class LedgerTransfer:
    """A transfer that a charge makes for one of its lines. The amount is positive.

    Attributes:
        leg: which of its line's transfers it is, e.g. `gross`.
    """

    transfer_id: UUID
    charge_id: str
    line_id: str
    leg: str
    debit: LedgerAccount
    credit: LedgerAccount
    amount: Money
    code: int
    effective_at: datetime
