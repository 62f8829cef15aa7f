"""What comes next for a payment: a pure function of what is stored, so that recovery and the first run are one path.

The rule behind all of it: a charge that may have happened is never repeated elsewhere. Unknown is a state of its
own, ended by proof.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from services.orchestration.domain.plan import Step


class PaymentStatus(StrEnum):
    """Where a payment stands; the names of the proto."""

    PENDING = "PENDING"
    RESOLVING = "RESOLVING"
    COMPENSATING = "COMPENSATING"
    COMPENSATION_STUCK = "COMPENSATION_STUCK"
    SUCCEEDED = "SUCCEEDED"
    PARTIALLY_PAID = "PARTIALLY_PAID"
    FAILED = "FAILED"
    REFUSED = "REFUSED"


FINAL = frozenset(
    {
        PaymentStatus.SUCCEEDED,
        PaymentStatus.PARTIALLY_PAID,
        PaymentStatus.FAILED,
        PaymentStatus.REFUSED,
    }
)


class Operation(StrEnum):
    """What a processor is asked for."""

    CHARGE = "CHARGE"
    REFUND = "REFUND"


class AttemptStatus(StrEnum):
    """Where an attempt stands; the names of the proto."""

    CREATED = "CREATED"
    SENT = "SENT"
    SUCCEEDED = "SUCCEEDED"
    DECLINED = "DECLINED"
    PENDING = "PENDING"
    UNKNOWN = "UNKNOWN"
    NOT_CHARGED = "NOT_CHARGED"
    NOT_SENT = "NOT_SENT"
    VOIDED_UNSENT = "VOIDED_UNSENT"


OPEN = frozenset(
    {AttemptStatus.CREATED, AttemptStatus.SENT, AttemptStatus.UNKNOWN, AttemptStatus.PENDING}
)
# Outcomes that prove that nothing was charged and that a processor may be asked again.
RETRYABLE = frozenset({AttemptStatus.NOT_CHARGED, AttemptStatus.NOT_SENT})

# Waits between questions about an unknown outcome; the last one repeats until there is proof.
VERIFY_SCHEDULE = tuple(timedelta(seconds=s) for s in (1, 5, 30, 300, 3600))
# Waits between refunds that did not go through; after the last one the payment rests for its owner.
REFUND_SCHEDULE = (*VERIFY_SCHEDULE, *[timedelta(hours=1)] * 23)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call to a processor.

    Attributes:
        attempt_id: also the reference that the processor gets.
        step_index: step of the plan, from 0.
        number: count within the step and operation, from 1.
        parent_id: charge that a refund gives back; empty for charges.
        error_code: seed's word (`timeout`, `declined`, …); empty unless it failed.
        failure_code: word of `payment.failed`; empty unless it failed.
        verify_count: questions asked about an unknown outcome.
        not_found_count: how many of them the processor answered with "never seen".
        verify_after: when the next question is due.
    """

    attempt_id: str
    step_index: int
    number: int
    operation: Operation
    processor_id: str
    amount_minor: int
    idempotency_key: str
    status: AttemptStatus
    created_at: datetime
    parent_id: str = ""
    error_code: str = ""
    failure_code: str = ""
    retryable: bool = False
    provider_ref: str = ""
    message: str = ""
    latency_ms: int = 0
    sent_at: datetime | None = None
    settled_at: datetime | None = None
    verify_count: int = 0
    not_found_count: int = 0
    verify_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """What the merchant's configuration says about carrying a plan out."""

    attempts_per_processor_max: int
    call_timeout_ms: int
    partial_allowed: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """What decides the next action.

    Attributes:
        status: as stored.
        steps: of the plan.
        attempts: all of them, in the order in which they were created.
    """

    status: PaymentStatus
    steps: tuple[Step, ...]
    attempts: tuple[Attempt, ...]
    policy: Policy

    @property
    def processed_minor(self) -> int:
        """What was charged and not given back."""
        return sum(charge.amount_minor for charge in self.kept())

    def kept(self) -> list[Attempt]:
        """Return the charges that hold money, in the order of the steps."""
        returned = {a.parent_id for a in self.attempts if _is(a, Operation.REFUND, "SUCCEEDED")}
        charges = [a for a in self.attempts if _is(a, Operation.CHARGE, "SUCCEEDED")]
        kept = [charge for charge in charges if charge.attempt_id not in returned]
        return sorted(kept, key=lambda attempt: attempt.step_index)

    def charges(self, step_index: int) -> list[Attempt]:
        """Return the attempts to charge a step."""
        return [
            attempt
            for attempt in self.attempts
            if attempt.step_index == step_index and attempt.operation is Operation.CHARGE
        ]


# ---- actions


@dataclass(frozen=True, slots=True)
class Charge:
    """Start an attempt to charge a step."""

    step_index: int
    processor_id: str


@dataclass(frozen=True, slots=True)
class Refund:
    """Give a charge back, not before `not_before`."""

    parent: Attempt
    number: int
    not_before: datetime | None


@dataclass(frozen=True, slots=True)
class Void:
    """Close an attempt that was stored and never marked as sent."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Doubt:
    """Mark the outcome as unknown: the attempt was marked as sent, and its answer is lost."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Verify:
    """Ask the same processor for the outcome of an attempt."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Finish:
    """End the payment."""

    status: PaymentStatus


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing is left to do without its owner."""


Action = Charge | Refund | Void | Doubt | Verify | Finish | Rest


def decide(progress: Progress) -> Action:
    """Return the next action of a payment. Total over every state that can be stored."""
    if progress.status in FINAL:
        return Rest()
    for attempt in progress.attempts:
        if attempt.status in OPEN:
            return _settle(attempt)
    for index, step in enumerate(progress.steps):
        charges = progress.charges(index)
        if any(attempt.status is AttemptStatus.SUCCEEDED for attempt in charges):
            continue
        processor_id = next_processor(step, charges, progress.policy.attempts_per_processor_max)
        if processor_id is not None:
            return Charge(index, processor_id)
        return _give_up(progress)
    return Finish(PaymentStatus.SUCCEEDED)


def next_processor(step: Step, charges: list[Attempt], attempts_max: int) -> str | None:
    """Return the processor to be asked next, or None when the step has failed for good.

    Only called when every earlier attempt is settled as not charged. A processor that declined is not asked
    again; a refusal that another processor would repeat ends the step.
    """
    if any(a.status is AttemptStatus.DECLINED and not a.retryable for a in charges):
        return None
    declined = {a.processor_id for a in charges if a.status is AttemptStatus.DECLINED}
    asked = Counter(a.processor_id for a in charges if a.status is not AttemptStatus.VOIDED_UNSENT)
    candidates = [
        (asked[processor_id], position, processor_id)
        for position, processor_id in enumerate(step.processors)
        if processor_id not in declined and asked[processor_id] < attempts_max
    ]
    return min(candidates)[2] if candidates else None


def status_of(progress: Progress) -> PaymentStatus:
    """Return the status to be shown while a payment is under way."""
    if progress.status in FINAL:
        return progress.status
    action = decide(progress)
    if isinstance(action, Verify) and action.attempt.operation is Operation.CHARGE:
        return PaymentStatus.RESOLVING
    refunds = [a for a in progress.attempts if a.operation is Operation.REFUND]
    waits = isinstance(action, Rest) or (isinstance(action, Refund) and action.not_before)
    if waits and any(a.status is AttemptStatus.DECLINED for a in refunds):
        return PaymentStatus.COMPENSATION_STUCK
    if refunds or isinstance(action, Refund | Rest):
        return PaymentStatus.COMPENSATING
    return PaymentStatus.PENDING


def due_at(action: Action) -> datetime | None:
    """Return when an action may be taken; None for at once."""
    if isinstance(action, Verify):
        return action.attempt.verify_after
    if isinstance(action, Refund):
        return action.not_before
    return None


def next_question(verify_count: int, now: datetime) -> datetime:
    """Return when to ask next about an unknown outcome; `verify_count` questions were asked on schedule."""
    return now + VERIFY_SCHEDULE[min(verify_count, len(VERIFY_SCHEDULE) - 1)]


def last_failure(progress: Progress) -> Attempt | None:
    """Return the charge that failed last: the reason why a payment failed."""
    failed = [a for a in progress.attempts if a.operation is Operation.CHARGE and a.error_code]
    return failed[-1] if failed else None


def _is(attempt: Attempt, operation: Operation, status: str) -> bool:
    return attempt.operation is operation and attempt.status == status


def _settle(attempt: Attempt) -> Action:
    if attempt.status is AttemptStatus.CREATED:
        # Of an earlier release, which stored an attempt before it marked it as sent.
        return Void(attempt)
    if attempt.status is AttemptStatus.SENT:
        return Doubt(attempt)
    return Verify(attempt)


def _give_up(progress: Progress) -> Action:
    """A step failed for good: keep the part that the policy allows, or give it back, the last step first."""
    kept = progress.kept()
    if not kept:
        return Finish(PaymentStatus.FAILED)
    refunds = [a for a in progress.attempts if a.operation is Operation.REFUND]
    if progress.policy.partial_allowed and not refunds:
        return Finish(PaymentStatus.PARTIALLY_PAID)
    # A refund that a processor refuses does not keep the other steps from being given back.
    due = [refund for parent in reversed(kept) if (refund := _refund(parent, refunds)) is not None]
    waiting = {
        refund.not_before: refund for refund in reversed(due) if refund.not_before is not None
    }
    if len(waiting) < len(due):
        return next(refund for refund in due if refund.not_before is None)
    return waiting[min(waiting)] if waiting else Rest()


def _refund(parent: Attempt, refunds: list[Attempt]) -> Refund | None:
    """Return the next try to give a charge back; None when it was tried for a day."""
    tries = [a for a in refunds if a.parent_id == parent.attempt_id]
    failed = [a for a in tries if a.status is not AttemptStatus.VOIDED_UNSENT]
    if len(failed) > len(REFUND_SCHEDULE):
        return None
    not_before = None
    if failed and failed[-1].settled_at is not None:
        not_before = failed[-1].settled_at + REFUND_SCHEDULE[len(failed) - 1]
    return Refund(parent, len(tries) + 1, not_before)
