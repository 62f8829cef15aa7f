"""What an answer of a processor makes of an attempt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.orchestration.domain.operations import UNDONE_BY
from services.orchestration.domain.payment import (
    VERIFY_SCHEDULE,
    Attempt,
    AttemptStatus,
    Progress,
    next_question,
)
from services.orchestration.domain.retries import Withheld
from services.runtime.ids import derived_uuid

# One early "never seen" proves nothing: the order may still be on its way.
NOT_FOUND_PROOF = 2


@dataclass(frozen=True, slots=True)
class Provable:
    """How an outcome can be proved at a processor.

    Attributes:
        settle_window: so long after an order was sent, its absence from the processor's books proves something.
        asks: the processor can be asked for an outcome.
        until: what is unknown then is left to an operator, once all of the schedule was asked.
    """

    settle_window: timedelta
    until: datetime
    asks: bool = True


def done(progress: Progress, attempt: Attempt, provider_ref: str, now: datetime) -> Attempt:
    """The processor did what it was asked for.

    What it did beyond what there was to give back or to let go (an earlier try had done it too, and told so
    late) stays apart, as done too late.
    """
    after = _settled(attempt, AttemptStatus.SUCCEEDED, now, provider_ref=provider_ref)
    return after if _fits(progress, attempt) else replace(after, status=AttemptStatus.LATE_CHARGE)


def done_late(progress: Progress, attempt: Attempt, provider_ref: str, now: datetime) -> Attempt:
    """The processor did what had counted as not done.

    What was taken is not built upon, and goes back; what was given back, or let go, has happened.
    """
    if attempt.operation not in UNDONE_BY:
        return done(progress, attempt, provider_ref, now)
    # Why it had counted as not done stays: what came next was decided by it.
    return replace(
        attempt,
        status=AttemptStatus.LATE_CHARGE,
        provider_ref=provider_ref or attempt.provider_ref,
        settled_at=now,
    )


def reversed_by(progress: Progress, attempt: Attempt) -> Attempt | None:
    """Return what was done too late and is undone now that an attempt is settled; None when nothing is."""
    if not attempt.done:
        return None
    for late in progress.attempts:
        if late.attempt_id == attempt.parent_id and late.status is AttemptStatus.LATE_CHARGE:
            back = [a for a in progress.attempts if a.parent_id == late.attempt_id and a.done]
            if sum(a.amount_minor for a in back) >= late.amount_minor:
                return replace(late, status=AttemptStatus.REVERSED)
    return None


def _fits(progress: Progress, attempt: Attempt) -> bool:
    for parent in progress.attempts:
        if parent.attempt_id == attempt.parent_id:
            followed = sum(
                a.amount_minor
                for a in progress.attempts
                if a.parent_id == parent.attempt_id
                and a.done
                and a.attempt_id != attempt.attempt_id
            )
            return followed + attempt.amount_minor <= parent.amount_minor
    return True


def declined(
    attempt: Attempt,
    method: str,
    now: datetime,
    *,
    provider_ref: str,
    error_code: str,
    failure_code: str,
    retryable: bool,
    message: str,
    never_again: bool = False,
) -> Attempt:
    """The processor refused."""
    after = _settled(
        attempt,
        AttemptStatus.DECLINED,
        now,
        provider_ref=provider_ref,
        error_code=error_code,
        failure_code=_word(failure_code, method),
        retryable=retryable,
        message=message[:500],
    )
    return replace(after, never_again=never_again)


def _word(failure_code: str, method: str) -> str:
    """Return a failure's word by its method: a declined card has one of its own in the contract."""
    if failure_code not in ("declined", "card_declined"):
        return failure_code
    return "card_declined" if method == "card" else "declined"


def withheld(attempt: Attempt, why: Withheld, method: str, now: datetime) -> Attempt:
    """It is not sent, since its instrument must not be tried again: the step has failed."""
    after = _settled(
        replace(attempt, sent_at=None),
        AttemptStatus.VOIDED_UNSENT,
        now,
        error_code="declined",
        failure_code=_word(why.failure_code, method),
        message=why.message,
    )
    return replace(after, withheld_by=why.rule.value)


def not_sent(attempt: Attempt, reason: str, now: datetime) -> Attempt:
    """The connection was refused before anything was sent."""
    return _settled(
        attempt,
        AttemptStatus.NOT_SENT,
        now,
        error_code="network_failure",
        failure_code="network_error",
        retryable=True,
        message=reason[:500],
    )


def voided(attempt: Attempt, now: datetime) -> Attempt:
    """Work was interrupted before the attempt was sent."""
    return _settled(attempt, AttemptStatus.VOIDED_UNSENT, now, message="interrupted before sending")


def in_doubt(attempt: Attempt, status: AttemptStatus, message: str, now: datetime) -> Attempt:
    """The outcome is UNKNOWN or PENDING; the first question is due at once."""
    return replace(attempt, status=status, message=message[:500], verify_after=now)


def not_charged(attempt: Attempt, now: datetime) -> Attempt:
    """It is proved that the processor did not act."""
    return _settled(
        attempt,
        AttemptStatus.NOT_CHARGED,
        now,
        error_code="timeout",
        failure_code="timeout",
        retryable=True,
    )


def pending(attempt: Attempt, provider_ref: str, now: datetime) -> Attempt:
    """A question found that the processor has the order and will tell later, however long that takes."""
    return _asked_again(
        replace(
            attempt,
            status=AttemptStatus.PENDING,
            provider_ref=provider_ref or attempt.provider_ref,
            verify_count=attempt.verify_count + 1,
        ),
        now,
    )


def after_inquiry(attempt: Attempt, now: datetime, *, found: bool, provable: Provable) -> Attempt:
    """A question left the outcome open, or proved by its absence that nothing was charged.

    Proof: the processor has not seen the reference, twice, later than its books need to be complete. When nothing can
    prove it any more, the outcome is for an operator to find out.
    """
    count = attempt.verify_count + 1
    missing = attempt.not_found_count + (0 if found else 1)
    attempt = replace(attempt, verify_count=count, not_found_count=missing)
    sent_at = attempt.replayed_at or attempt.sent_at
    old_enough = sent_at is not None and now - sent_at >= provable.settle_window
    if not found and missing >= NOT_FOUND_PROOF and old_enough:
        return not_charged(attempt, now)
    asked_enough = count > len(VERIFY_SCHEDULE) or not provable.asks
    if asked_enough and now >= provable.until:
        return replace(attempt, status=AttemptStatus.MANUAL, verify_after=None)
    return _asked_again(attempt, now)


def _asked_again(attempt: Attempt, now: datetime) -> Attempt:
    due_at = next_question(max(0, attempt.verify_count - 2), now)
    return replace(attempt, verify_after=due_at + _jitter(attempt, due_at - now))


def _jitter(attempt: Attempt, wait: timedelta) -> timedelta:
    """Up to a tenth of the wait, so that the payments of one outage do not all ask at once."""
    fraction = derived_uuid(attempt.attempt_id, str(attempt.verify_count)).int % 1000
    return wait * fraction / 10_000


def _settled(
    attempt: Attempt,
    status: AttemptStatus,
    now: datetime,
    *,
    provider_ref: str = "",
    error_code: str = "",
    failure_code: str = "",
    retryable: bool = False,
    message: str = "",
) -> Attempt:
    since = attempt.sent_at or attempt.created_at
    return replace(
        attempt,
        status=status,
        provider_ref=provider_ref or attempt.provider_ref,
        error_code=error_code,
        failure_code=failure_code,
        retryable=retryable,
        message=message or attempt.message,
        latency_ms=max(0, (now - since) // timedelta(milliseconds=1)),
        settled_at=now,
        verify_after=None,
    )
