"""What a charge means in the ledger: accounts by name, transfers by id, and what a refusal of them means.

The rule is asked once, when a charge is frozen. From then on the charge's own transfers count, whatever the rule says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from services.billing.domain.charges import Charge, Line
from services.billing.domain.transfers import AccountType, LedgerAccount, LedgerTransfer
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
    charge_id: str
    account_id: str
    result: str


@dataclass(frozen=True, slots=True)
class PostingVerdict:
    """What the ledger said to a transfer: the name of its result, and the refusal that burnt its id."""

    transfer: LedgerTransfer
    result: str
    original: str = ""


def planned(charge: Charge) -> Charge:
    """Return a charge that is being frozen with its transfers, in the order of posting.

    Per line: what the organisation owes becomes revenue, and the partner's share an expense that we owe the
    partner. They take effect in the last microsecond of the period. An amount of zero moves nothing, so it makes no
    transfer.
    """
    transfers = (transfer for line in charge.lines for transfer in _line_transfers(charge, line))
    return replace(charge, transfers=tuple(transfers))


def next_round(charge: Charge) -> Charge:
    """Return the charge with new ids for its transfers, because the ledger's refusal used up the old ones."""
    round_no = charge.posting_round + 1
    transfers = (
        replace(item, transfer_id=_transfer_id(item.charge_id, round_no, item.line_id, item.leg))
        for item in charge.transfers
    )
    return replace(charge, posting_round=round_no, transfers=tuple(transfers))


def accounts(transfers: Sequence[LedgerTransfer]) -> list[LedgerAccount]:
    """List the accounts that transfers need, each once, by id."""
    return sorted({account for item in transfers for account in (item.debit, item.credit)})


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
        f"the ledger refused charge {charge.charge_id} with {result} at account {account_id}; correct the account,"
        " then repeat the same call",
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
        _transfer(charge, line, leg, code, debit, credit, amount)
        for leg, code, debit, credit, amount in legs
        if amount.minor_units != 0
    ]


def _transfer(
    charge: Charge,
    line: Line,
    leg: str,
    code: int,
    debit: LedgerAccount,
    credit: LedgerAccount,
    amount: Money,
) -> LedgerTransfer:
    if amount.minor_units < 0:
        debit, credit, amount = credit, debit, -amount
    return LedgerTransfer(
        transfer_id=_transfer_id(charge.charge_id, charge.posting_round, line.line_id, leg),
        charge_id=charge.charge_id,
        line_id=line.line_id,
        leg=leg,
        debit=debit,
        credit=credit,
        amount=amount,
        code=code,
        effective_at=charge.period.end_at - _MICROSECOND,
    )


def _transfer_id(charge_id: str, round_no: int, line_id: str, leg: str) -> UUID:
    return derived_uuid("charge", charge_id, str(round_no), line_id, leg)
