"""Transfers that releases before recipes stored with a charge as they made it, of those that are still PENDING.

They may be in the books already, their answer lost, so they are posted under the ids that they have: what is there is
not posted again. Once the ledger has burnt an id of theirs, none of them can ever be posted, and the charge goes by
the recipe like any other.

All of this can go, with `Charge.frozen` and what uses it, once no such charge is left in any mesh: with the first
release that no longer upgrades from 0.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.billing.domain.transfers import LedgerTransfer

# Verdicts after which no transfer of the same chain and ids can ever be posted. Source: TransferResult, "burns the id".
_FINAL = frozenset(
    {
        "DEBIT_ACCOUNT_NOT_FOUND",
        "CREDIT_ACCOUNT_NOT_FOUND",
        "DEBIT_ACCOUNT_CLOSED",
        "CREDIT_ACCOUNT_CLOSED",
        "EXCEEDS_CREDITS",
        "EXCEEDS_DEBITS",
        "DEBIT_ACCOUNT_BELOW_FLOOR",
        "DEBIT_ACCOUNT_ABOVE_CEILING",
        "CREDIT_ACCOUNT_BELOW_FLOOR",
        "CREDIT_ACCOUNT_ABOVE_CEILING",
        "EFFECTIVE_AT_IN_CLOSED_PERIOD",
        "ID_ALREADY_FAILED",
    }
)


class AccountType(StrEnum):
    """Types of the accounts that charges used."""

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
class FrozenTransfer(LedgerTransfer):
    """A transfer that was stored before it was posted, with what its accounts are to be."""

    charge_id: str
    debit: LedgerAccount
    credit: LedgerAccount


@dataclass(frozen=True, slots=True)
class PostingVerdict:
    """What the ledger said to a transfer, by the name of its result."""

    transfer: FrozenTransfer
    result: str


def accounts(transfers: Sequence[FrozenTransfer]) -> list[LedgerAccount]:
    """List the accounts that transfers need, each once, by id."""
    return sorted({account for item in transfers for account in (item.debit, item.credit)})


def refusal(verdicts: Sequence[PostingVerdict]) -> PostingVerdict | None:
    """Return the verdict that kept the chain out of the ledger; None when all of it is in."""
    refused = [item for item in verdicts if item.result not in {"OK", "EXISTS"}]
    causes = [item for item in refused if item.result != "LINKED_EVENT_FAILED"]
    return next(iter(causes or refused), None)


def is_final(verdict: PostingVerdict) -> bool:
    """True when the chain can never be posted any more."""
    return verdict.result in _FINAL


def account_at_fault(verdict: PostingVerdict) -> str:
    """Name the account that a refusal is about which is not final."""
    transfer = verdict.transfer
    is_credit = "CREDIT" in verdict.result
    return transfer.credit_account_id if is_credit else transfer.debit_account_id
