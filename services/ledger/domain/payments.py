"""What payments mean in the books: each charge is booked from its own fact, each refund as its opposite."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.ledger.domain.accounts import Account, AccountResult, AccountType
from services.ledger.domain.transfers import Kind, Transfer, TransferResult, moved
from services.runtime.errors import Code, DomainError
from services.runtime.ids import derived_uuid
from services.runtime.money import EXPONENTS

# Codes of the transfers of payments; the ledger itself gives codes no meaning.
CODE_CHARGE = 2001
CODE_REFUND = 2002

_NAME = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_SUSPENSE = "suspense:"

_DEBIT_AT_FAULT = frozenset(
    {
        TransferResult.DEBIT_ACCOUNT_NOT_FOUND,
        TransferResult.DEBIT_ACCOUNT_CLOSED,
        TransferResult.OVERFLOWS_DEBITS,
        TransferResult.EXCEEDS_CREDITS,
        TransferResult.DEBIT_ACCOUNT_BELOW_FLOOR,
        TransferResult.DEBIT_ACCOUNT_ABOVE_CEILING,
    }
)
_CREDIT_AT_FAULT = frozenset(
    {
        TransferResult.CREDIT_ACCOUNT_NOT_FOUND,
        TransferResult.CREDIT_ACCOUNT_CLOSED,
        TransferResult.OVERFLOWS_CREDITS,
        TransferResult.EXCEEDS_DEBITS,
        TransferResult.CREDIT_ACCOUNT_BELOW_FLOOR,
        TransferResult.CREDIT_ACCOUNT_ABOVE_CEILING,
    }
)


class PaymentNotBookable(DomainError):
    """A payment that no account can take: its currency is not in ISO 4217, or its amount is not positive."""

    code = Code.FAILED_PRECONDITION
    reason = "PAYMENT_NOT_BOOKABLE"
    state_dependent = False
    payment_id: str
    refused: str
    result: str


@dataclass(frozen=True, slots=True)
class Charge:
    """A successful attempt to charge a step of a payment. Amount in minor units of the currency.

    Attributes:
        org_id: whose debt is paid; empty when the payment named nobody but the person who pays.
    """

    payment_id: str
    attempt_id: str
    processor_id: str
    order_id: str
    person_id: str
    org_id: str
    currency_code: str
    amount_minor: int
    charged_at: datetime | None


@dataclass(frozen=True, slots=True)
class Booking:
    """A transfer that must be posted, wherever there is room for it.

    Attributes:
        name: what its ids derive from; the same fact has the same.
        debits, credits: accounts for either side, in the order in which they are tried.
    """

    name: tuple[str, ...]
    debits: tuple[Account, ...]
    credits: tuple[Account, ...]
    currency_code: str
    amount_minor: int
    code: int
    effective_at: datetime | None
    metadata: Mapping[str, str]

    def transfer_id(self, round_no: int) -> UUID:
        """Return the id of a round. The first is used unless it belongs to a different transfer."""
        return derived_uuid(*self.name, *([str(round_no)] if round_no else []))

    def transfer(self, transfer_id: UUID, debit: Account, credit: Account) -> Transfer:
        """Return the transfer between two of the accounts."""
        return Transfer(
            transfer_id=transfer_id,
            debit_account_id=debit.account_id,
            credit_account_id=credit.account_id,
            currency_code=self.currency_code,
            amount_minor=self.amount_minor,
            code=self.code,
            effective_at=self.effective_at,
            metadata=self.metadata,
        )

    def is_done_by(self, transfer: Transfer) -> bool:
        """True when a transfer is this booking, whichever accounts it is between; a hold, or its end, is none.

        `linked` and `effective_at` do not count: earlier releases booked the steps of a payment together, at its end.
        """
        return (
            (transfer.kind, transfer.currency_code, transfer.amount_minor, transfer.code)
            == (Kind.POSTED, self.currency_code, self.amount_minor, self.code)
        ) and transfer.metadata.get("attempt_id") == self.metadata["attempt_id"]


def book_charge(charge: Charge) -> Booking:
    """Book a charge: debit what the processor owes us, credit what was owed to us.

    It was owed by the organisation that the payment names, else by the person.

    Raises:
        PaymentNotBookable: the currency is none of ISO 4217, or the amount is not positive.
    """
    currency = charge.currency_code
    if currency not in EXPONENTS:
        raise not_bookable(charge.payment_id, currency, "UNKNOWN_CURRENCY")
    if charge.amount_minor <= 0:
        raise not_bookable(charge.payment_id, charge.attempt_id, "AMOUNT_MUST_BE_POSITIVE")
    processor, debtor = _name(charge.processor_id), _name(charge.org_id or charge.person_id)
    clearing = Account(
        f"clearing:{processor}:{currency}", currency, AccountType.ASSET, owner=processor
    )
    receivable = Account(
        f"receivable:{debtor}:{currency}", currency, AccountType.ASSET, owner=debtor
    )
    return Booking(
        # The name from when a payment was booked at its end: what is in the books is not booked again.
        name=("payment.received", charge.payment_id, charge.attempt_id),
        debits=_with_stand_ins(clearing, charge.attempt_id),
        credits=_with_stand_ins(receivable, charge.attempt_id),
        currency_code=currency,
        amount_minor=charge.amount_minor,
        code=CODE_CHARGE,
        effective_at=charge.charged_at,
        metadata=_metadata(charge, charge.attempt_id),
    )


def book_refund(
    charge: Charge, booked: Transfer, attempt_id: str, refunded_at: datetime | None
) -> Booking:
    """Book a refund: the opposite of the transfer that booked its charge, between the same accounts."""
    debit, credit = (
        Account(account_id, booked.currency_code, AccountType.ASSET)
        for account_id in (booked.credit_account_id, booked.debit_account_id)
    )
    return Booking(
        name=("payment.refunded", charge.payment_id, attempt_id),
        debits=_with_stand_ins(debit, attempt_id),
        credits=_with_stand_ins(credit, attempt_id),
        currency_code=booked.currency_code,
        amount_minor=moved(booked),
        code=CODE_REFUND,
        effective_at=refunded_at,
        metadata={**_metadata(charge, attempt_id), "refund_of": charge.attempt_id},
    )


def debit_is_at_fault(result: TransferResult) -> bool | None:
    """True when another account to debit would help, False when one to credit would; None when neither does."""
    if result in _DEBIT_AT_FAULT:
        return True
    return False if result in _CREDIT_AT_FAULT else None


def can_serve(result: AccountResult) -> bool:
    """True for an account that was asked for and can be booked on; one with an owner or limits of its own can."""
    return result is AccountResult.OK or result > AccountResult.EXISTS_WITH_DIFFERENT_TYPE


def in_suspense(transfer: Transfer) -> bool:
    """True when a suspense account replaces an account that refused the booking."""
    return any(
        account_id.startswith(_SUSPENSE)
        for account_id in (transfer.debit_account_id, transfer.credit_account_id)
    )


def not_bookable(payment_id: str, what: str, result: str) -> PaymentNotBookable:
    """Say why a payment cannot be booked; `what` is the currency, attempt or account that was refused."""
    return PaymentNotBookable(
        f"payment {payment_id} cannot be booked: {what} was refused with {result}; remove the cause, then"
        " replay the event",
        payment_id=payment_id,
        refused=what,
        result=result,
    )


def _with_stand_ins(account: Account, attempt_id: str) -> tuple[Account, ...]:
    """Return the account and who stands in for it when it is refused: closed, limited, full, of another type.

    The last has one transfer in all its life under a name that nobody knows before, so it cannot be refused.
    """
    last = f"{_SUSPENSE}{derived_uuid('suspense', account.account_id, attempt_id)}"
    names = [account.account_id, last]
    if not account.account_id.startswith(_SUSPENSE):
        names.insert(1, _SUSPENSE + account.account_id)
    return tuple(
        Account(name, account.currency_code, account.type, owner=account.owner) for name in names
    )


def _metadata(charge: Charge, attempt_id: str) -> dict[str, str]:
    named = {"org_id": charge.org_id[:512]} if charge.org_id else {}
    return {
        "payment_id": charge.payment_id,
        "attempt_id": attempt_id,
        "order_id": charge.order_id[:512],
        "person_id": charge.person_id[:512],
        **named,
    }


def _name(outside: str) -> str:
    """Name an account's party: its id, or one derived from it when the id holds what account ids may not.

    Payments take in what merchants send; money that came in must be booked whatever it is called.
    """
    return outside if _NAME.fullmatch(outside) else f"other-{derived_uuid('party', outside)}"
