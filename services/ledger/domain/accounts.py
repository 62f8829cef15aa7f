"""Accounts: what is fixed about them, and the balance that grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from uuid import UUID

from services.ledger.domain.transfers import Reference


class AccountType(IntEnum):
    """Side of the books; numbers as in payments.ledger.v1.AccountType."""

    ASSET = 1
    LIABILITY = 2
    EQUITY = 3
    INCOME = 4
    EXPENSE = 5

    @property
    def grows_by_debit(self) -> bool:
        """True for the types whose balance is debits minus credits."""
        return self in {AccountType.ASSET, AccountType.EXPENSE}

    def balance(self, debits_less_credits: int) -> int:
        """Turn debits minus credits into the balance on the side that the type grows on."""
        return debits_less_credits if self.grows_by_debit else -debits_less_credits


class AccountResult(IntEnum):
    """Verdict on one account; numbers as in payments.ledger.v1.AccountResult."""

    OK = 1
    INVALID_ACCOUNT = 2
    UNKNOWN_CURRENCY = 3
    EXISTS_WITH_DIFFERENT_CURRENCY = 10
    EXISTS_WITH_DIFFERENT_TYPE = 11
    EXISTS_WITH_DIFFERENT_FLAGS = 12
    EXISTS_WITH_DIFFERENT_OWNER = 13
    EXISTS_WITH_DIFFERENT_METADATA = 14
    EXISTS = 15
    EXISTS_WITH_DIFFERENT_LIMITS = 16


@dataclass(frozen=True, slots=True)
class Flags:
    """What an account accepts.

    Attributes:
        debits_must_not_exceed_credits: a debit beyond the credits is refused.
        credits_must_not_exceed_debits: a credit beyond the debits is refused.
        closed: every transfer is refused.
    """

    debits_must_not_exceed_credits: bool = False
    credits_must_not_exceed_debits: bool = False
    closed: bool = False


NO_ACCOUNT_FLAGS = Flags()


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a balance on the side that the account's type grows on, in minor units; None for none."""

    floor_minor: int | None = None
    ceiling_minor: int | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Account:
    """What is fixed about an account when it is created."""

    account_id: str
    currency_code: str
    type: AccountType
    flags: Flags = NO_ACCOUNT_FLAGS
    owner: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account as it stands: sums in minor units, `closed` whether it is closed now, by itself or by a hold."""

    account: Account
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int
    closed: bool
    created_at: datetime


def compare(existing: Account, asked: Account) -> AccountResult:
    """Judge an account that was asked for again: the first difference in order of precedence, or EXISTS."""
    differences = (
        (existing.currency_code != asked.currency_code, "CURRENCY"),
        (existing.type != asked.type, "TYPE"),
        (existing.flags != asked.flags, "FLAGS"),
        (existing.owner != asked.owner, "OWNER"),
        (dict(existing.metadata) != dict(asked.metadata), "METADATA"),
        (existing.limits != asked.limits, "LIMITS"),
    )
    for differs, name in differences:
        if differs:
            return AccountResult[f"EXISTS_WITH_DIFFERENT_{name}"]
    return AccountResult.EXISTS


@dataclass(frozen=True, slots=True)
class EntryView:
    """An entry with what its transfer says. `amount_minor` is positive for a debit, negative for a credit."""

    account_id: str
    seq: int
    transfer_id: UUID
    amount_minor: int
    balance_after_minor: int
    currency_code: str
    counter_account_id: str
    code: int
    recorded_at: datetime
    effective_at: datetime
    metadata: Mapping[str, str]
    reference: Reference | None


@dataclass(frozen=True, slots=True)
class AccountFilter:
    """Which accounts to list; None and empty mean any. `prefix` is what their names begin with."""

    owner: str = ""
    currency_code: str = ""
    type: AccountType | None = None
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries to export; empty and None mean any.

    Attributes:
        account_ids: only of these accounts.
        owner: only of this owner's accounts.
        recorded_from: only what was recorded at this instant or later.
        recorded_before: only what was recorded before this instant.
    """

    account_ids: Sequence[str] = ()
    owner: str = ""
    recorded_from: datetime | None = None
    recorded_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class EntryPlace:
    """A place among all entries, in the order of account and number; the empty one is before the first."""

    account_id: str = ""
    seq: int = 0


@dataclass(frozen=True, slots=True)
class EntryColumns:
    """Entries by column: the values of one entry stand at the same place of each.

    Attributes:
        amounts_minor: positive for a debit, negative for a credit.
        balances_after_minor: on the side that the account's type grows on.
        recorded_at_us: microseconds since 1970 in UTC; `effective_at_us` too.
        metadata: JSON objects; empty texts where there is none.
    """

    account_ids: Sequence[str]
    seqs: Sequence[int]
    transfer_ids: Sequence[str]
    amounts_minor: Sequence[int]
    balances_after_minor: Sequence[int]
    currency_codes: Sequence[str]
    counter_account_ids: Sequence[str]
    codes: Sequence[int]
    recorded_at_us: Sequence[int]
    effective_at_us: Sequence[int]
    metadata: Sequence[str]
