"""What an answer of a processor makes of an attempt."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from services.orchestration.domain.payment import Attempt, AttemptStatus, next_question
from services.runtime.ids import derived_uuid

# One early "never seen" proves nothing: the order may still be on its way.
NOT_FOUND_PROOF = 2


def done(attempt: Attempt, provider_ref: str, now: datetime) -> Attempt:
    """The processor did what it was asked for."""
    return _settled(attempt, AttemptStatus.SUCCEEDED, now, provider_ref=provider_ref)


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
) -> Attempt:
    """The processor refused. A declined card has a word of its own in the seed's partition."""
    word = "card_declined" if failure_code == "declined" and method == "card" else failure_code
    return _settled(
        attempt,
        AttemptStatus.DECLINED,
        now,
        provider_ref=provider_ref,
        error_code=error_code,
        failure_code=word,
        retryable=retryable,
        message=message[:500],
    )


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


def after_inquiry(
    attempt: Attempt, now: datetime, *, found: bool, settle_window: timedelta
) -> Attempt:
    """A question left the outcome open, or proved by its absence that nothing was charged.

    Proof: the processor has not seen the reference, twice, later than its books need to be complete.
    """
    count = attempt.verify_count + 1
    missing = attempt.not_found_count + (0 if found else 1)
    attempt = replace(attempt, verify_count=count, not_found_count=missing)
    old_enough = attempt.sent_at is not None and now - attempt.sent_at >= settle_window
    if not found and missing >= NOT_FOUND_PROOF and old_enough:
        return _settled(
            attempt,
            AttemptStatus.NOT_CHARGED,
            now,
            error_code="timeout",
            failure_code="timeout",
            retryable=True,
        )
    due_at = next_question(max(0, count - 2), now)
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
