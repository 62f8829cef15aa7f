"""What a charge means in the ledger: accounts by name, transfers by id, and what a refusal of them means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from services.billing.domain.charges import Charge, Line
from services.runtime.errors import Code, DomainError
from services.runtime.ids import derived_uuid
from services.runtime.money import Money

# Codes of the transfers of charges; the ledger itself gives codes no meaning.
CODE_CHARGE = 1001
CODE_COMMISSION = 1002

_MICROSECOND = timedelta(microseconds=1)

# Verdicts after which no transfer of the same chain and ids can ever be posted. Source: TransferResult, "burns the id".
_FINAL = frozenset(
    {
        "DEBIT_ACCOUNT_NOT_FOUND",
        "CREDIT_ACCOUNT_NOT_FOUND",
        "DEBIT_ACCOUNT_CLOSED",
        "CREDIT_ACCOUNT_CLOSED",
        "EXCEEDS_CREDITS",
        "EXCEEDS_DEBITS",
        "ID_ALREADY_FAILED",
    }
)


class PostingRefused(DomainError):
    """The ledger took none of a charge's transfers. Once the account is put right the same call succeeds."""

    code = Code.FAILED_PRECONDITION
    reason = "POSTING_REFUSED"
    state_dependent = True


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
    """A transfer that a charge makes for one of its lines. The amount is positive."""

    transfer_id: UUID
    charge_id: str
    line_id: str
    debit: LedgerAccount
    credit: LedgerAccount
    amount: Money
    code: int
    effective_at: datetime


@dataclass(frozen=True, slots=True)
class PostingVerdict:
    """What the ledger said to a transfer: the name of its result, and the refusal that burnt its id."""

    transfer: LedgerTransfer
    result: str
    original: str = ""


def transfers(charge: Charge) -> list[LedgerTransfer]:
    """List the transfers of a charge, in the order of posting.

    Per line: what the organisation owes becomes revenue, and the partner's share an expense that we owe the
    partner. They take effect in the last microsecond of the period. An amount of zero moves nothing, so it makes no
    transfer.
    """
    return [transfer for line in charge.lines for transfer in _line_transfers(charge, line)]


def accounts(planned: Sequence[LedgerTransfer]) -> list[LedgerAccount]:
    """List the accounts that transfers need, each once, by id."""
    return sorted({account for item in planned for account in (item.debit, item.credit)})


def refusal(verdicts: Sequence[PostingVerdict]) -> PostingVerdict | None:
    """Return the verdict that kept the chain out of the ledger; None when all of it is in."""
    refused = [item for item in verdicts if item.result not in {"OK", "EXISTS"}]
    causes = [item for item in refused if item.result != "LINKED_EVENT_FAILED"]
    return next(iter(causes or refused), None)


def is_final(verdict: PostingVerdict) -> bool:
    """True when the transfers of this round can never be posted any more, so that a new round must be made."""
    return verdict.result in _FINAL


def posting_refused(charge: Charge, account_id: str, result: str) -> PostingRefused:
    """Say which account kept the ledger from taking a charge."""
    return PostingRefused(
        f"the ledger refused charge {charge.charge_id} with {result} at account {account_id}; put the account right,"
        " then make the same call again",
        charge_id=charge.charge_id,
        account_id=account_id,
        result=result,
    )


def account_at_fault(verdict: PostingVerdict) -> str:
    """Name the account that a refusal is about."""
    reason = verdict.original or verdict.result
    at_credit = reason.startswith("CREDIT_") or reason in {"EXCEEDS_DEBITS", "OVERFLOWS_CREDITS"}
    side = verdict.transfer.credit if at_credit else verdict.transfer.debit
    return side.account_id


def _line_transfers(charge: Charge, line: Line) -> list[LedgerTransfer]:
    currency = charge.total.currency_code
    receivable = LedgerAccount(
        f"receivable:{charge.org_id}:{currency}", currency, AccountType.ASSET, charge.org_id
    )
    revenue = LedgerAccount(
        f"revenue:{line.rated.sku}:{currency}", currency, AccountType.INCOME, ""
    )
    legs = [("gross", CODE_CHARGE, receivable, revenue, line.rated.amount)]
    if line.rated.partner_id:
        partner = line.rated.partner_id
        commission = LedgerAccount(f"commission:{currency}", currency, AccountType.EXPENSE, "")
        payable = LedgerAccount(
            f"payable:partner:{partner}:{currency}", currency, AccountType.LIABILITY, partner
        )
        legs.append(("partner", CODE_COMMISSION, commission, payable, line.partner_amount))
    return [
        _transfer(charge, line, part, code, debit, credit, amount)
        for part, code, debit, credit, amount in legs
        if amount.minor_units != 0
    ]


def _transfer(
    charge: Charge,
    line: Line,
    part: str,
    code: int,
    debit: LedgerAccount,
    credit: LedgerAccount,
    amount: Money,
) -> LedgerTransfer:
    if amount.minor_units < 0:
        debit, credit, amount = credit, debit, -amount
    return LedgerTransfer(
        transfer_id=derived_uuid(
            "charge", charge.charge_id, str(charge.posting_round), line.line_id, part
        ),
        charge_id=charge.charge_id,
        line_id=line.line_id,
        debit=debit,
        credit=credit,
        amount=amount,
        code=code,
        effective_at=charge.period.end_at - _MICROSECOND,
    )
