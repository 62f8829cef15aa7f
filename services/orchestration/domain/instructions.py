"""What may be asked of a payment that rests, and why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from services.orchestration.domain.findings import Verdict
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.payment import (
    LATE,
    LIVE,
    OPEN_TO_INSTRUCTIONS,
    Attempt,
    PaymentStatus,
    Progress,
)
from services.orchestration.domain.processors import Capabilities
from services.orchestration.domain.record import Payment
from services.runtime.errors import Code, DomainError, InvalidField
from services.runtime.money import Money


class PaymentNotAuthorized(DomainError):
    """Nothing of the payment is authorised: there is nothing to capture, or to let go."""

    code = Code.FAILED_PRECONDITION
    reason = "PAYMENT_NOT_AUTHORIZED"
    state_dependent = True
    payment_id: str
    status: str


class NothingToRefund(DomainError):
    """The payment has taken nothing that was not given back."""

    code = Code.FAILED_PRECONDITION
    reason = "NOTHING_TO_REFUND"
    state_dependent = True
    payment_id: str
    status: str


class AmountExceedsLeft(DomainError):
    """More is asked for than is left."""

    code = Code.FAILED_PRECONDITION
    reason = "AMOUNT_EXCEEDS_LEFT"
    state_dependent = True
    payment_id: str
    left_minor: int
    currency_code: str


class PaymentUnderWay(DomainError):
    """The payment is being worked on."""

    code = Code.ABORTED
    reason = "PAYMENT_UNDER_WAY"
    state_dependent = True
    payment_id: str
    status: str


class PaymentAwaitsVerdict(DomainError):
    """Somebody has to find out first what became of one of its attempts."""

    code = Code.FAILED_PRECONDITION
    reason = "PAYMENT_AWAITS_VERDICT"
    state_dependent = True
    payment_id: str
    attempt_id: str


class RefundsUsedUp(DomainError):
    """The processor gives no more refunds of what would have to be given back."""

    code = Code.FAILED_PRECONDITION
    reason = "REFUNDS_USED_UP"
    state_dependent = True
    payment_id: str
    processor_id: str
    refunds_max: int


class CaptureNotPartial(DomainError):
    """The processor captures all that it holds, or lets go what a capture leaves."""

    code = Code.FAILED_PRECONDITION
    reason = "CAPTURE_NOT_PARTIAL"
    state_dependent = True
    payment_id: str
    processor_id: str
    held_minor: int
    currency_code: str


class AttemptNotManual(DomainError):
    """Its outcome is known, or is still being asked for."""

    code = Code.FAILED_PRECONDITION
    reason = "ATTEMPT_NOT_MANUAL"
    state_dependent = True
    attempt_id: str
    status: str


@dataclass(frozen=True, slots=True)
class Resolve:
    """What an operator found out about an attempt, and where."""

    attempt_id: str
    verdict: Verdict
    evidence: str


@dataclass(frozen=True, slots=True)
class Instruct:
    """A capture, a void or a refund, as it was asked for.

    Attributes:
        amount: None for all that is left.
        keep_open: of a capture, whether what it leaves stays authorised.
    """

    operation: Operation
    payment_id: str
    amount: Money | None = None
    keep_open: bool = False
    reason: str = ""


def amount_of(command: Instruct, payment: Payment) -> int:
    """Return how much is to be captured, let go or given back, in minor units.

    Raises:
        PaymentAwaitsVerdict: nobody knows what one of its attempts has done.
        PaymentNotAuthorized, NothingToRefund: none of it is left.
        AmountExceedsLeft: less of it is left.
        InvalidField: the amount is none, or in another currency.
    """
    amount = command.amount
    if amount is not None and amount.minor_units <= 0:
        raise InvalidField.one("amount", "must be more than zero, or absent for all that is left")
    if amount is not None and amount.currency_code != payment.currency:
        raise InvalidField.one(
            "amount", f"is in {amount.currency_code}, and the payment in {payment.currency}"
        )
    if payment.progress is not None and (manual := payment.progress.manual()):
        raise PaymentAwaitsVerdict(
            f"nobody knows what became of {manual[0].attempt_id}: find it out in the books of {manual[0].processor_id},"
            " tell it with ResolveAttempt, and ask again",
            payment_id=payment.payment_id,
            attempt_id=manual[0].attempt_id,
        )
    left = _left(command.operation, payment)
    if not left:
        raise _nothing(command.operation, payment)
    if amount is None:
        return left
    if amount.minor_units > left:
        asked = command.operation.value.lower()
        raise AmountExceedsLeft(
            f"payment {payment.payment_id} has {left} minor units of {payment.currency} left to {asked}, not"
            f" {amount.minor_units}: ask for that much, or leave the amount out",
            payment_id=payment.payment_id,
            left_minor=left,
            currency_code=payment.currency,
        )
    return amount.minor_units


def check_possible(
    command: Instruct,
    payment: Payment,
    amount_minor: int,
    capabilities: Mapping[str, Capabilities],
) -> None:
    """Refuse what a processor can be told beforehand not to do; those that are not known are asked.

    Raises:
        CaptureNotPartial: it captures all or nothing, or only once.
        RefundsUsedUp: it gave as many refunds of a charge as it gives.
    """
    if payment.progress is None:
        return
    if command.operation is Operation.CAPTURE:
        _check_captures(command, payment, payment.progress, amount_minor, capabilities)
    if command.operation is Operation.REFUND:
        _check_refunds(payment, payment.progress, amount_minor, capabilities)


def _check_captures(
    command: Instruct,
    payment: Payment,
    progress: Progress,
    amount_minor: int,
    capabilities: Mapping[str, Capabilities],
) -> None:
    held = sorted(progress.done(Operation.AUTHORIZE), key=lambda attempt: attempt.step_index)
    for attempt, amount in _spread(progress, held, amount_minor):
        left = progress.left_of(attempt)
        can = capabilities.get(attempt.processor_id)
        if can is None or amount == left:
            continue
        if can.partial_capture and (can.captures_many or not command.keep_open):
            continue
        said = (
            "what a capture leaves cannot stay authorised there: leave keep_open out"
            if can.partial_capture
            else "it captures all of it or nothing"
        )
        raise CaptureNotPartial(
            f"{attempt.processor_id} holds {left} minor units of {payment.currency}, and {amount} are to be captured:"
            f" {said}",
            payment_id=payment.payment_id,
            processor_id=attempt.processor_id,
            held_minor=left,
            currency_code=payment.currency,
        )


def _check_refunds(
    payment: Payment,
    progress: Progress,
    amount_minor: int,
    capabilities: Mapping[str, Capabilities],
) -> None:
    taken = list(reversed(progress.taken()))
    for attempt, _ in _spread(progress, taken, amount_minor):
        can = capabilities.get(attempt.processor_id)
        given = sum(
            a.parent_id == attempt.attempt_id and a.status in LIVE | LATE for a in progress.attempts
        )
        if can is not None and can.refunds_max is not None and given >= can.refunds_max:
            raise RefundsUsedUp(
                f"{attempt.processor_id} gives {can.refunds_max} refunds of one charge, and {attempt.attempt_id} had"
                f" {given}: give the rest back in another way",
                payment_id=payment.payment_id,
                processor_id=attempt.processor_id,
                refunds_max=can.refunds_max,
            )


def _spread(
    progress: Progress, parents: Sequence[Attempt], amount_minor: int
) -> Iterator[tuple[Attempt, int]]:
    """Name what is to follow which success, as the instruction is carried out when all goes well."""
    for parent in parents:
        amount = min(progress.left_of(parent), amount_minor)
        if amount > 0:
            amount_minor -= amount
            yield parent, amount


def under_way(payment: Payment) -> PaymentUnderWay:
    """Say that a payment is being worked on."""
    return PaymentUnderWay(
        f"payment {payment.payment_id} is being worked on; repeat the same call in a moment",
        payment_id=payment.payment_id,
        status=payment.status.value,
        retry_after_ms=500,
    )


def check_manual(attempt: Attempt) -> None:
    """Refuse a verdict that nobody waits for. Raises AttemptNotManual."""
    if not attempt.is_manual:
        raise AttemptNotManual(
            f"attempt {attempt.attempt_id} is {attempt.status.value}: only one that is MANUAL waits for a verdict",
            attempt_id=attempt.attempt_id,
            status=attempt.status.value,
        )


def is_under_way(payment: Payment) -> bool:
    """Say whether a payment that nobody could be given the lease of will rest by itself, or goes on with another's."""
    return payment.status in OPEN_TO_INSTRUCTIONS | {
        PaymentStatus.PENDING,
        PaymentStatus.RESOLVING,
        PaymentStatus.COMPENSATING,
    }


def _left(operation: Operation, payment: Payment) -> int:
    if payment.progress is None or payment.status not in OPEN_TO_INSTRUCTIONS:
        return 0
    if operation is Operation.REFUND:
        return payment.progress.refundable_minor
    is_held = payment.status is PaymentStatus.AUTHORIZED
    return payment.progress.held_minor if is_held else 0


def _nothing(operation: Operation, payment: Payment) -> DomainError:
    if operation is Operation.REFUND:
        return NothingToRefund(
            f"payment {payment.payment_id} is {payment.status.value}: it holds nothing that could be given back",
            payment_id=payment.payment_id,
            status=payment.status.value,
        )
    return PaymentNotAuthorized(
        f"payment {payment.payment_id} is {payment.status.value}: nothing of it is authorised",
        payment_id=payment.payment_id,
        status=payment.status.value,
    )
