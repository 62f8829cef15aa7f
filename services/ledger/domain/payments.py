"""What a received payment means in the books."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.ledger.domain.accounts import Account, AccountType
from services.ledger.domain.transfers import Transfer
from services.runtime.errors import Code, DomainError
from services.runtime.ids import derived_uuid
from services.runtime.money import EXPONENTS

# Code of the transfers of payments; the ledger itself gives codes no meaning.
CODE_PAYMENT = 2001

_NAME = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class PaymentNotBookable(DomainError):
    """A received payment that the books do not take as it stands."""

    code = Code.FAILED_PRECONDITION
    reason = "PAYMENT_NOT_BOOKABLE"


@dataclass(frozen=True, slots=True)
class ReceivedStep:
    """One successful step of a payment: an attempt that a processor approved. Amount in minor units."""

    attempt_id: str
    processor_id: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class ReceivedPayment:
    """A payment that came in, by its steps."""

    payment_id: str
    order_id: str
    person_id: str
    currency_code: str
    received_at: datetime | None
    steps: Sequence[ReceivedStep]


@dataclass(frozen=True, slots=True)
class Booking:
    """Accounts that must exist, and the chain of transfers to post between them."""

    accounts: list[Account]
    transfers: list[Transfer]


def book(payment: ReceivedPayment) -> Booking:
    """Book a payment: per step, debit what the processor owes us and credit what the payer owed us.

    Ids derive from payment and attempt, so that the same fact books the same transfers.

    Raises:
        PaymentNotBookable: the currency is none of ISO 4217.
    """
    currency = payment.currency_code
    if currency not in EXPONENTS:
        raise not_bookable(payment, currency, "UNKNOWN_CURRENCY")
    person = _name(payment.person_id)
    receivable = f"receivable:{person}:{currency}"
    steps = [step for step in payment.steps if step.amount_minor != 0]
    transfers = [
        Transfer(
            transfer_id=derived_uuid("payment.received", payment.payment_id, step.attempt_id),
            debit_account_id=_clearing(step.processor_id, currency),
            credit_account_id=receivable,
            currency_code=currency,
            amount_minor=step.amount_minor,
            code=CODE_PAYMENT,
            linked=index < len(steps) - 1,
            effective_at=payment.received_at,
            metadata={
                "payment_id": payment.payment_id,
                "attempt_id": step.attempt_id,
                "order_id": payment.order_id[:512],
                "person_id": payment.person_id[:512],
            },
        )
        for index, step in enumerate(steps)
    ]
    processors = sorted({_name(step.processor_id) for step in steps})
    accounts = [
        Account(_clearing(name, currency), currency, AccountType.ASSET, owner=name)
        for name in processors
    ]
    if steps:
        accounts.append(Account(receivable, currency, AccountType.ASSET, owner=person))
    return Booking(accounts, transfers)


def not_bookable(payment: ReceivedPayment, what: str, result: str) -> PaymentNotBookable:
    """Say why a payment cannot be booked; `what` is the account or transfer that was refused."""
    return PaymentNotBookable(
        f"payment {payment.payment_id} cannot be booked: {what} is refused with {result}; remove the cause, then"
        " replay the event",
        payment_id=payment.payment_id,
        refused=what,
        result=result,
    )


def _clearing(processor_id: str, currency_code: str) -> str:
    return f"clearing:{_name(processor_id)}:{currency_code}"


def _name(outside: str) -> str:
    """Name an account's party: its id, or one derived from it when the id holds what account ids may not.

    Payments take in what merchants send; money that came in must be booked whatever it is called.
    """
    return outside if _NAME.fullmatch(outside) else f"other-{derived_uuid('party', outside)}"
