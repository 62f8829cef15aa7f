"""What processors did, as it is posted: each charge by itself, each refund as the opposite of its charge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.orchestration.domain.operations import RULES, Operation
from services.orchestration.domain.payment import AT_REST, Attempt, PaymentStatus
from services.orchestration.domain.record import Payment
from services.runtime.errors import Code, DomainError
from services.runtime.ids import derived_uuid
from services.runtime.money import Money

RECEIVED = "payment-received"
REFUNDED = "payment-refunded"

# How the release before named what it booked, and the codes under which it did.
_EARLIER_NAMES = {
    Operation.CHARGE: ("payment.received", 2001),
    Operation.CAPTURE: ("payment.received", 2001),
    Operation.REFUND: ("payment.refunded", 2002),
}


class PaymentNotBookable(DomainError):
    """The ledger refuses what a processor did."""

    code = Code.FAILED_PRECONDITION
    reason = "PAYMENT_NOT_BOOKABLE"
    state_dependent = True
    payment_id: str
    refused: str
    result: str


@dataclass(frozen=True, slots=True)
class Booked:
    """What the books hold of an attempt.

    Attributes:
        amount_minor: minor units of the payment's currency.
        posting_id: of its recipe; None for what the release before has booked.
        transfer_id: by which that booked it; None for a posting.
    """

    amount_minor: int
    posting_id: UUID | None = None
    transfer_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Booking:
    """A charge or a refund that is to be in the books.

    Attributes:
        earlier: a ledger of the release before may have booked it.
        booked: None until it is known to be in the books.
    """

    attempt_id: str
    earlier: bool
    booked: Booked | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """What the ledger is asked to post.

    Attributes:
        parameters: texts of the recipe, by name; the amount stands beside them.
        attempt_id: the part of the payment that it is posted for.
        effective_at: when the processor did it.
    """

    recipe: str
    payment_id: str
    attempt_id: str
    amount: Money
    parameters: Mapping[str, str]
    effective_at: datetime | None


@dataclass(frozen=True, slots=True)
class LedgerTransfer:
    """A transfer that the ledger knows.

    Attributes:
        posted: it moved what it says; false for a hold, and for what ends one.
        attempt_id: that it names; empty for none.
    """

    transfer_id: UUID
    amount: Money
    code: int
    posted: bool
    attempt_id: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """A payment beside what the ledger answered of it, in minor units of its currency.

    Attributes:
        kept_minor: charged and not given back.
        booked_minor: the same by the books.
        waiting: attempts that are not in the books yet.
    """

    status: PaymentStatus
    kept_minor: int
    booked_minor: int
    waiting: int

    @property
    def differs(self) -> bool:
        """True for a payment that has ended, all of it booked, with other amounts than it kept."""
        ended = self.status in AT_REST and not self.waiting
        return ended and self.kept_minor != self.booked_minor


def is_booked(attempt: Attempt) -> bool:
    """Say whether an attempt has moved money, and so comes into the books.

    What was taken too late does; what was given back beyond what there was does not, for the books refuse it.
    """
    if attempt.is_late:
        return RULES[attempt.operation].moves > 0
    return attempt.done and RULES[attempt.operation].moves != 0


def in_order(payment: Payment, bookings: Sequence[Booking], attempt_id: str) -> Iterator[Booking]:
    """Name what has to be in the books for an attempt to be: the charge that a refund gives back comes first."""
    by_attempt = {booking.attempt_id: booking for booking in bookings}
    for needed in (attempt_of(payment, attempt_id).parent_id, attempt_id):
        if needed in by_attempt:
            yield by_attempt[needed]


def attempt_of(payment: Payment, attempt_id: str) -> Attempt:
    """Return an attempt of a payment."""
    (found,) = (each for each in payment.work.attempts if each.attempt_id == attempt_id)
    return found


def fact_of(payment: Payment, attempt: Attempt, charge: Booked | None) -> Fact:
    """Say what is to be posted for an attempt.

    The debt is that of the organisation that the payment names, else of the person.

    Args:
        payment: whose attempt it is.
        attempt: what a processor did.
        charge: how the charge that a refund gives back is booked; None for a charge.
    """
    parameters = {
        "processor": attempt.processor_id,
        "debtor": payment.org_id or payment.person_id,
        "payment": payment.payment_id,
        "attempt": attempt.attempt_id,
        "order": payment.order_id,
        "person": payment.person_id,
    }
    if payment.org_id:
        parameters["org"] = payment.org_id
    if attempt.operation is Operation.REFUND:
        parameters["refund_of"] = attempt.parent_id
    if charge is not None and charge.transfer_id is not None:
        parameters["charged_by"] = str(charge.transfer_id)
    return Fact(
        recipe=REFUNDED if attempt.operation is Operation.REFUND else RECEIVED,
        payment_id=payment.payment_id,
        attempt_id=attempt.attempt_id,
        amount=Money(payment.currency, attempt.amount_minor),
        parameters=parameters,
        effective_at=attempt.settled_at,
    )


def earlier_transfer_id(payment: Payment, attempt: Attempt, round_no: int) -> UUID:
    """Return the id under which the release before booked an attempt; it passed over those that others had taken."""
    name, _ = _EARLIER_NAMES[attempt.operation]
    rounds = [str(round_no)] if round_no else []
    return derived_uuid(name, payment.payment_id, attempt.attempt_id, *rounds)


def is_booked_by(payment: Payment, attempt: Attempt, transfer: LedgerTransfer) -> bool:
    """True when a transfer is how the release before booked an attempt, whichever accounts it is between."""
    _, code = _EARLIER_NAMES[attempt.operation]
    return (transfer.posted, transfer.code, transfer.attempt_id, transfer.amount) == (
        True,
        code,
        attempt.attempt_id,
        Money(payment.currency, attempt.amount_minor),
    )


def not_bookable(payment_id: str, refused: str, result: str) -> PaymentNotBookable:
    """Say what the ledger refuses, and why."""
    return PaymentNotBookable(
        f"payment {payment_id}: the ledger refuses {refused} with {result}; remove the cause, and it is posted again"
        " by itself",
        payment_id=payment_id,
        refused=refused,
        result=result,
    )
