"""What comes of a processor's word about an attempt, whenever it comes: before its answer, twice, or long after.

Laws (tested): the same word twice changes nothing the second time; an older state never overwrites a newer one; what
was taken after it had counted as not taken is never kept, and never built upon.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from services.orchestration.domain import outcome
from services.orchestration.domain.payment import (
    OPEN,
    Attempt,
    AttemptStatus,
)
from services.orchestration.domain.record import Payment

LATE_CHARGE = "orchestration/late-charge"
MANUAL_OUTCOME = "orchestration/manual-outcome"
PROCESSOR_INTEGRITY = "orchestration/processor-integrity"
VERDICT_CONTRADICTED = "orchestration/verdict-contradicted"


class Word(StrEnum):
    """What a processor says of an attempt."""

    DONE = "DONE"
    REFUSED = "REFUSED"
    PENDING = "PENDING"


@dataclass(frozen=True, slots=True)
class Heard:
    """A processor's word about an attempt.

    Attributes:
        merchant_ref: the attempt's id, as the processor has it.
        amount_minor, currency: what it says it acted on; compared with what it was asked for, unless it is PENDING.
        provider_ref: the processor's id; may be empty.
        error_code, failure_code, retryable, message, never_again: of a refusal, as in `outcome.declined`.
    """

    word: Word
    merchant_ref: str
    amount_minor: int = 0
    currency: str = ""
    provider_ref: str = ""
    error_code: str = ""
    failure_code: str = ""
    retryable: bool = False
    message: str = ""
    never_again: bool = False


@dataclass(frozen=True, slots=True)
class Breach:
    """A contract that was broken, for the monitor."""

    contract_id: str
    severity: str
    message: str


@dataclass(frozen=True, slots=True)
class Told:
    """What comes of a word.

    Attributes:
        attempt: in its new state; None when nothing changes.
        breach: that it reveals.
    """

    attempt: Attempt | None = None
    breach: Breach | None = None


class Verdict(StrEnum):
    """What an operator found out; the names of the proto."""

    SUCCEEDED = "SUCCEEDED"
    NOT_CHARGED = "NOT_CHARGED"


NOTHING = Told()


def told(payment: Payment, attempt: Attempt, heard: Heard, now: datetime) -> Told:
    """Return what comes of a processor's word about one of a payment's attempts. Total over every stored state."""
    if heard.word is Word.PENDING:
        return _told_pending(attempt, heard, now)
    if not answers(payment, attempt, heard):
        return _mismatch(payment, attempt, heard)
    if heard.word is Word.REFUSED:
        return _told_refused(payment, attempt, heard, now)
    return _told_done(payment, attempt, heard, now)


def resolved(
    payment: Payment, attempt: Attempt, verdict: Verdict, by: str, evidence: str, now: datetime
) -> Attempt:
    """Return an attempt whose outcome an operator found out. What was not charged is not charged again by itself."""
    if verdict is Verdict.SUCCEEDED:
        after = outcome.done(payment.work, attempt, "", now)
    else:
        after = replace(outcome.not_charged(attempt, now), retryable=False)
    return replace(after, resolved_by=by, evidence=evidence)


def answers(payment: Payment, attempt: Attempt, heard: Heard) -> bool:
    """True when a word speaks about what was asked."""
    return (heard.merchant_ref, heard.amount_minor, heard.currency) == (
        attempt.attempt_id,
        attempt.amount_minor,
        payment.currency,
    )


def is_open(attempt: Attempt) -> bool:
    """True while no outcome is known, not even to an operator."""
    return attempt.status in OPEN or attempt.is_manual


def _told_pending(attempt: Attempt, heard: Heard, now: datetime) -> Told:
    if attempt.status not in (AttemptStatus.SENT, AttemptStatus.UNKNOWN):
        return NOTHING
    attempt = replace(attempt, provider_ref=heard.provider_ref or attempt.provider_ref)
    return Told(outcome.in_doubt(attempt, AttemptStatus.PENDING, "pending", now))


def _told_done(payment: Payment, attempt: Attempt, heard: Heard, now: datetime) -> Told:
    if is_open(attempt):
        done = outcome.done(payment.work, attempt, heard.provider_ref, now)
        return Told(done, too_much(done))
    if attempt.done or attempt.is_late:
        return NOTHING
    message = (
        f"{attempt.processor_id} did {attempt.operation.value.lower()} {attempt.attempt_id} after all: it had counted"
        f" as {attempt.status.value}" + (" by an operator's verdict" if attempt.resolved_by else "")
    )
    late = outcome.done_late(payment.work, attempt, heard.provider_ref, now)
    return Told(late, Breach(LATE_CHARGE, "CRITICAL", message))


def _told_refused(payment: Payment, attempt: Attempt, heard: Heard, now: datetime) -> Told:
    if is_open(attempt):
        return Told(refused(payment, attempt, heard, now))
    if attempt.done and attempt.resolved_by:
        message = (
            f"{attempt.processor_id} says that it refused {attempt.attempt_id}, which an operator had found to be done:"
            " compare its books"
        )
        return Told(breach=Breach(VERDICT_CONTRADICTED, "CRITICAL", message))
    # A success stays one: this word is older, or about an earlier try under the same reference.
    return NOTHING


def refused(payment: Payment, attempt: Attempt, heard: Heard, now: datetime) -> Attempt:
    """Return an attempt that its processor refused."""
    return outcome.declined(
        attempt,
        payment.work.steps[attempt.step_index].method,
        now,
        provider_ref=heard.provider_ref,
        error_code=heard.error_code or "unknown",
        failure_code=heard.failure_code or "other",
        retryable=heard.retryable,
        message=heard.message,
        never_again=heard.never_again,
    )


def too_much(attempt: Attempt) -> Breach | None:
    """Say so when a processor gave back, or let go, more than there was: an earlier try had done it, too."""
    if attempt.status is not AttemptStatus.LATE_CHARGE:
        return None
    message = (
        f"{attempt.processor_id} did {attempt.operation.value.lower()} {attempt.attempt_id} although an earlier try of"
        " the same had been done: compare its books"
    )
    return Breach(LATE_CHARGE, "CRITICAL", message)


def mismatch(payment: Payment, attempt: Attempt, heard: Heard) -> Breach:
    """Say that a word is about another amount or order than was asked for."""
    message = (
        f"{attempt.processor_id} answered with {heard.amount_minor} {heard.currency} for"
        f" {heard.merchant_ref}; requested were {attempt.amount_minor} {payment.currency}"
    )
    return Breach(PROCESSOR_INTEGRITY, "CRITICAL", message)


def _mismatch(payment: Payment, attempt: Attempt, heard: Heard) -> Told:
    return Told(breach=mismatch(payment, attempt, heard))
