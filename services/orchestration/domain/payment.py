"""What comes next for a payment: a pure function of what is stored, so that recovery and the first run are one path.

The rule behind all of it: a charge that may have happened is never repeated elsewhere. Unknown is a state of its
own, ended by proof.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from services.orchestration.domain.operations import RULES, UNDONE_BY, Operation
from services.orchestration.domain.plan import Step
from services.runtime.ids import derived_uuid


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
    AUTHORIZED = "AUTHORIZED"
    VOIDED = "VOIDED"


# Where a payment rests that may be given instructions.
OPEN_TO_INSTRUCTIONS = frozenset(
    {PaymentStatus.AUTHORIZED, PaymentStatus.SUCCEEDED, PaymentStatus.PARTIALLY_PAID}
)
# Where one rests by itself.
AT_REST = OPEN_TO_INSTRUCTIONS | {
    PaymentStatus.FAILED,
    PaymentStatus.REFUSED,
    PaymentStatus.VOIDED,
}


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
    MANUAL = "MANUAL"
    LATE_CHARGE = "LATE_CHARGE"
    REVERSED = "REVERSED"


OPEN = frozenset(
    {AttemptStatus.CREATED, AttemptStatus.SENT, AttemptStatus.UNKNOWN, AttemptStatus.PENDING}
)
# What counts against what is left: it was done, or may have been.
LIVE = OPEN | {AttemptStatus.SUCCEEDED, AttemptStatus.MANUAL}
# Done after it had counted as not done: nothing is built on it any more.
LATE = frozenset({AttemptStatus.LATE_CHARGE, AttemptStatus.REVERSED})
# Outcomes that prove that nothing was charged and that a processor may be asked again.
RETRYABLE = frozenset({AttemptStatus.NOT_CHARGED, AttemptStatus.NOT_SENT})

# Waits between questions about an unknown outcome; the last one repeats while there can be proof.
VERIFY_SCHEDULE = tuple(timedelta(seconds=s) for s in (1, 5, 30, 300, 3600))
# Waits between refunds that did not go through; after the last one the payment rests for its owner.
REFUND_SCHEDULE = (*VERIFY_SCHEDULE, *[timedelta(hours=1)] * 23)
# How often what an instruction asks for is tried of one processor while it certainly did not act.
INSTRUCTED_TRIES_MAX = 3


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call to a processor.

    Attributes:
        attempt_id: also the reference that the processor gets.
        step_index: step of the plan, from 0.
        number: count within the step and operation, from 1.
        parent_id: success that it follows: what is captured, voided or refunded; empty for what a step begins with.
        error_code: seed's word (`timeout`, `declined`, …); empty unless it failed.
        failure_code: word of `payment.failed`; empty unless it failed.
        verify_count: questions asked about an unknown outcome.
        not_found_count: how many of them the processor answered with "never seen".
        verify_after: when the next question is due.
        instruction_id: that asked for it; empty for what the payment does by itself.
        closes: true for a capture after which nothing of its authorisation is left.
        replayed_at: when it was last sent again under its key; None when it was sent once.
        resolved_by: who told the outcome that no processor proved; empty when nobody had to.
        evidence: what that person saw.
        processor_of: the merchant whose own the processor is; empty for one of every merchant.
        instrument: stands for merchant and token; empty without a token, and for what follows a success.
        never_again: the issuer forbids to try the instrument again.
        withheld_by: rule by which it was not sent at all; empty for what was.
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
    instruction_id: str = ""
    closes: bool = False
    replayed_at: datetime | None = None
    resolved_by: str = ""
    evidence: str = ""
    processor_of: str = ""
    instrument: str = ""
    never_again: bool = False
    withheld_by: str = ""

    @property
    def takes(self) -> bool:
        """True for what a step begins with."""
        return RULES[self.operation].takes

    @property
    def collects(self) -> bool:
        """True for what brings or holds money, and false for what gives it back or lets it go."""
        return self.operation in UNDONE_BY

    @property
    def done(self) -> bool:
        """True when the processor did what it was asked for."""
        return self.status is AttemptStatus.SUCCEEDED

    @property
    def is_late(self) -> bool:
        """True when it was done after it had counted as not done."""
        return self.status in LATE

    @property
    def is_manual(self) -> bool:
        """True while somebody has to find out what became of it."""
        return self.status is AttemptStatus.MANUAL


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a caller asked of a payment that was at rest.

    Attributes:
        amount_minor: to be captured or refunded; what was held when a void was asked for.
        keep_open: of a capture, whether what it leaves stays authorised.
    """

    instruction_id: str
    operation: Operation
    amount_minor: int
    created_at: datetime
    created_by: str
    keep_open: bool = False
    reason: str = ""


class InstructionStatus(StrEnum):
    """What came of an instruction; the names of the proto."""

    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the merchant's configuration says about carrying a plan out.

    Attributes:
        backoff_ms: wait before a processor that certainly did not act is asked again, doubled each time.
    """

    attempts_per_processor_max: int
    call_timeout_ms: int
    partial_allowed: bool
    backoff_ms: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """What decides the next action.

    Attributes:
        status: as stored.
        steps: of the plan.
        attempts: all of them, in the order in which they were created.
        holds: true when the steps are authorised, to be captured on instruction. Without it each step says itself
            whether it is authorised first, and captured once all of them are taken.
        instructions: in the order in which they came.
    """

    status: PaymentStatus
    steps: tuple[Step, ...]
    attempts: tuple[Attempt, ...]
    policy: Policy
    holds: bool = False
    instructions: tuple[Instruction, ...] = ()

    @property
    def processed_minor(self) -> int:
        """What was taken and not given back; what was taken too late, and goes back, is left out."""
        return self.captured_minor - self.refunded_minor

    @property
    def captured_minor(self) -> int:
        """What was taken, whether or not it was given back."""
        return sum(a.amount_minor for a in self.taken())

    @property
    def refunded_minor(self) -> int:
        """What was given back."""
        return sum(a.amount_minor for a in self.done(Operation.REFUND))

    @property
    def held_minor(self) -> int:
        """What is authorised and neither captured nor given free, nor may be."""
        return sum(map(self.left_of, self.done(Operation.AUTHORIZE)))

    @property
    def reachable_minor(self) -> int:
        """What was taken and not given back, with what may still be of an authorisation."""
        freed = sum(a.amount_minor for a in self.done(Operation.VOID))
        held = sum(a.amount_minor for a in self.done(Operation.AUTHORIZE)) - freed
        if self.status in OPEN_TO_INSTRUCTIONS and self.status is not PaymentStatus.AUTHORIZED:
            held = 0
        return max(self.processed_minor, held - self.refunded_minor)

    @property
    def refundable_minor(self) -> int:
        """What was taken and neither given back, nor may be."""
        return sum(map(self.left_of, self.taken()))

    def done(self, operation: Operation) -> list[Attempt]:
        """Return the successes of an operation, save those that undo what was done too late."""
        return [
            a for a in self.attempts if a.operation is operation and a.done and not self.undoes(a)
        ]

    def undoes(self, attempt: Attempt) -> bool:
        """Say whether an attempt gives back what was done too late."""
        return any(a.is_late for a in self.attempts if a.attempt_id == attempt.parent_id)

    def back(self) -> list[Attempt]:
        """Return what was asked to give back or let go a success, whatever became of it."""
        return [a for a in self.attempts if not a.collects and not self.undoes(a)]

    def manual(self) -> list[Attempt]:
        """Return the attempts whose outcome somebody has to find out."""
        return [a for a in self.attempts if a.is_manual]

    def left_of(self, attempt: Attempt) -> int:
        """Return how much may still follow a success: what is in flight counts as if it had come about."""
        followed = [
            a
            for a in self.attempts
            if a.parent_id == attempt.attempt_id and a.status in LIVE | LATE
        ]
        acted = attempt.done or attempt.status is AttemptStatus.LATE_CHARGE
        if not acted or any(a.closes for a in followed):
            return 0
        return max(0, attempt.amount_minor - sum(a.amount_minor for a in followed))

    def taken(self) -> list[Attempt]:
        """Return the charges and captures, in the order of the steps."""
        taken = [a for a in self.attempts if a.done and _brings(a)]
        return sorted(taken, key=lambda attempt: attempt.step_index)

    def kept_of(self, attempt: Attempt) -> int:
        """Return what was taken by a success and not given back."""
        back = [a for a in self.done(Operation.REFUND) if a.parent_id == attempt.attempt_id]
        return attempt.amount_minor - sum(a.amount_minor for a in back)

    def kept(self) -> list[Attempt]:
        """Return those of which not all was given back."""
        return [a for a in self.taken() if self.kept_of(a) > 0]

    def begins_with(self, step_index: int) -> Operation:
        """Return what a step's processor is asked for first."""
        held = self.holds or self.steps[step_index].holds
        return Operation.AUTHORIZE if held else Operation.CHARGE

    def taking(self, step_index: int) -> list[Attempt]:
        """Return the attempts to charge or authorise a step."""
        return [a for a in self.attempts if a.step_index == step_index and a.takes]


# ---- actions


@dataclass(frozen=True, slots=True)
class Take:
    """Start an attempt to charge or authorise a step; not before `not_before`."""

    step_index: int
    processor_id: str
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Follow:
    """Ask for what follows a success: its capture, void or refund; not before `not_before`."""

    operation: Operation
    parent: Attempt
    amount_minor: int
    number: int
    not_before: datetime | None = None
    instruction_id: str = ""
    closes: bool = False


@dataclass(frozen=True, slots=True)
class Discard:
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
    """Come to rest."""

    status: PaymentStatus


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing is left to do without its owner."""


Action = Take | Follow | Discard | Doubt | Verify | Finish | Rest


def decide(progress: Progress) -> Action:
    """Return the next action of a payment. Total over every state that can be stored."""
    for attempt in progress.attempts:
        if attempt.status in OPEN:
            return _settle(attempt)
    own, late = _own(progress), _reversal(progress)
    if late is None:
        return own
    if late.not_before is None or isinstance(own, Rest):
        return late
    due = due_at(own)
    return late if due is not None and due > late.not_before else own


def _own(progress: Progress) -> Action:
    """Return what comes next but for what was done too late."""
    if progress.status in OPEN_TO_INSTRUCTIONS:
        return Rest() if progress.manual() else _instructed(progress)
    # Never another processor while the first may have taken it.
    if progress.status in AT_REST or any(a.collects for a in progress.manual()):
        return Rest()
    action = _carry_on(progress)
    return Rest() if isinstance(action, Finish) and progress.manual() else action


def _carry_on(progress: Progress) -> Action:
    for index, step in enumerate(progress.steps):
        taking = progress.taking(index)
        if any(attempt.done for attempt in taking):
            continue
        processor_id = next_processor(step, taking, progress.policy.attempts_per_processor_max)
        if processor_id is not None:
            not_before = _backed_off(taking, processor_id, progress.policy.backoff_ms)
            return Take(index, processor_id, not_before)
        return _give_up(progress)
    if progress.holds:
        return Finish(PaymentStatus.AUTHORIZED)
    held = _held(progress)
    if any(_not_captured(progress, each) for each in held):
        return _give_up(progress)
    return _collect(progress, held) or Finish(PaymentStatus.SUCCEEDED)


def next_processor(step: Step, taking: list[Attempt], attempts_max: int) -> str | None:
    """Return the processor to be asked next, or None when the step has failed for good.

    Only called when every earlier attempt is settled as not charged. A processor that declined is not asked
    again; a refusal that another processor would repeat ends the step.
    """
    # What an operator had to find out ends the step as well: its payer has long gone, and is not charged by surprise.
    refused = [a for a in taking if a.status is AttemptStatus.DECLINED or a.is_late]
    if any(not a.retryable for a in refused):
        return None
    if any(a.resolved_by or a.withheld_by for a in taking):
        return None
    declined = {a.processor_id for a in refused}
    asked = Counter(a.processor_id for a in taking if a.status is not AttemptStatus.VOIDED_UNSENT)
    candidates = [
        (asked[processor_id], position, processor_id)
        for position, processor_id in enumerate(step.processors)
        if processor_id not in declined and asked[processor_id] < attempts_max
    ]
    return min(candidates)[2] if candidates else None


def _backed_off(taking: list[Attempt], processor_id: str, backoff_ms: int) -> datetime | None:
    """Return when a processor may be asked again: the wait doubles each time, and half of it is drawn."""
    asked = [a for a in taking if a.processor_id == processor_id and a.status in RETRYABLE]
    if not asked or not backoff_ms or asked[-1].settled_at is None:
        return None
    wait_ms = backoff_ms * 2 ** (len(asked) - 1)
    drawn = derived_uuid(asked[-1].attempt_id, "backoff").int % 1001
    return asked[-1].settled_at + timedelta(milliseconds=wait_ms) * (500 + drawn / 2) / 1000


def status_of(progress: Progress) -> PaymentStatus:
    """Return the status to be shown while a payment is under way; instructions leave it where it rested."""
    if progress.status in AT_REST:
        return progress.status
    action = decide(progress)
    asked_after = [action.attempt] if isinstance(action, Verify) else []
    if any(a.collects for a in (*asked_after, *progress.manual())):
        return PaymentStatus.RESOLVING
    if _is_about_late(progress, action):
        action = _own(progress)
    back = progress.back()
    captures = isinstance(action, Follow) and action.operation is Operation.CAPTURE
    waits = isinstance(action, Rest) or (isinstance(action, Follow) and action.not_before)
    if waits and any(a.status is AttemptStatus.DECLINED or a.is_manual for a in back):
        return PaymentStatus.COMPENSATION_STUCK
    if not captures and (back or isinstance(action, Follow | Rest)):
        return PaymentStatus.COMPENSATING
    return PaymentStatus.PENDING


def status_of_instruction(progress: Progress, instruction: Instruction) -> InstructionStatus:
    """Return what came of an instruction."""
    mine = [a for a in progress.attempts if a.instruction_id == instruction.instruction_id]
    under_way = any(a.status in OPEN or a.is_manual for a in mine)
    if under_way or (
        instruction is progress.instructions[-1] and _next_of(progress, instruction) is not None
    ):
        return InstructionStatus.PENDING
    if done_minor(progress, instruction) == instruction.amount_minor:
        return InstructionStatus.SUCCEEDED
    return InstructionStatus.FAILED


def done_minor(progress: Progress, instruction: Instruction) -> int:
    """Return how much of an instruction was carried out."""
    return sum(
        a.amount_minor
        for a in progress.done(instruction.operation)
        if a.instruction_id == instruction.instruction_id
    )


def due_at(action: Action) -> datetime | None:
    """Return when an action may be taken; None for at once."""
    if isinstance(action, Verify):
        return action.attempt.verify_after
    if isinstance(action, Follow | Take):
        return action.not_before
    return None


def next_question(verify_count: int, now: datetime) -> datetime:
    """Return when to ask next about an unknown outcome; `verify_count` questions were asked on schedule."""
    return now + VERIFY_SCHEDULE[min(verify_count, len(VERIFY_SCHEDULE) - 1)]


def last_failure(progress: Progress) -> Attempt | None:
    """Return the attempt to collect a step's amount that failed last: the reason why a payment failed."""
    failed = [a for a in progress.attempts if a.collects and not a.instruction_id and a.error_code]
    return failed[-1] if failed else None


def _brings(attempt: Attempt) -> bool:
    return RULES[attempt.operation].moves > 0


def _settle(attempt: Attempt) -> Action:
    if attempt.status is AttemptStatus.CREATED:
        # Of an earlier release, which stored an attempt before it marked it as sent.
        return Discard(attempt)
    if attempt.status is AttemptStatus.SENT:
        return Doubt(attempt)
    return Verify(attempt)


def _give_up(progress: Progress) -> Action:
    """A step failed for good: keep the part that the policy allows, or give it back, the last step first."""
    taken = [a for a in progress.attempts if a.collects and a.done and progress.left_of(a) > 0]
    if not taken:
        return Finish(PaymentStatus.FAILED)
    back = progress.back()
    if progress.policy.partial_allowed and not any(a.operation is Operation.REFUND for a in back):
        return Finish(PaymentStatus.AUTHORIZED) if progress.holds else _keep_part(progress, back)
    # One that a processor refuses to give back does not keep the other steps from it.
    in_order = sorted(taken, key=lambda attempt: attempt.step_index, reverse=True)
    return _soonest([_back(progress, a, back) for a in in_order]) or Rest()


def _keep_part(progress: Progress, back: list[Attempt]) -> Action:
    """Capture what is held of the steps that went well, and let go what could not be captured."""
    held = _held(progress)
    lost = [each for each in held if _not_captured(progress, each)]
    action = _collect(progress, [each for each in held if each not in lost])
    if action is not None:
        return action
    if lost := [each for each in lost if progress.left_of(each) > 0]:
        return _soonest([_back(progress, each, back) for each in lost]) or Rest()
    return Finish(PaymentStatus.PARTIALLY_PAID)


# ---- what was authorised by itself is captured by itself


def _held(progress: Progress) -> list[Attempt]:
    """Return the steps' authorisations, in the order of the steps."""
    return sorted(progress.done(Operation.AUTHORIZE), key=lambda attempt: attempt.step_index)


def _collect(progress: Progress, held: list[Attempt]) -> Follow | None:
    """Return the next capture; None when all is captured, or may be."""
    for parent in held:
        if (left := progress.left_of(parent)) > 0:
            tries = _captures(progress, parent)
            failed = [a for a in tries if a.status is not AttemptStatus.VOIDED_UNSENT]
            not_before = None
            if failed and failed[-1].settled_at is not None:
                not_before = failed[-1].settled_at + VERIFY_SCHEDULE[len(failed) - 1]
            number = len(tries) + 1
            return Follow(Operation.CAPTURE, parent, left, number, not_before, closes=True)
    return None


def _not_captured(progress: Progress, parent: Attempt) -> bool:
    """Say whether an authorisation is given up: its capture was refused, came too late, or was tried too often."""
    tries = _captures(progress, parent)
    if any(a.status in LIVE for a in tries):
        return False
    ended = [a for a in tries if a.status is not AttemptStatus.VOIDED_UNSENT]
    refused = any(a.status is AttemptStatus.DECLINED or a.is_late or a.resolved_by for a in ended)
    return refused or len(ended) >= INSTRUCTED_TRIES_MAX


def _captures(progress: Progress, parent: Attempt) -> list[Attempt]:
    return [
        a
        for a in progress.attempts
        if a.operation is Operation.CAPTURE and a.parent_id == parent.attempt_id
    ]


def _reversal(progress: Progress) -> Follow | None:
    """Return the next try to give back what was taken too late; None when nothing was, or it was tried for a day."""
    late = [
        a
        for a in progress.attempts
        if a.status is AttemptStatus.LATE_CHARGE
        and a.operation in UNDONE_BY
        and progress.left_of(a) > 0
    ]
    undoing = [a for a in progress.attempts if progress.undoes(a)]
    return _soonest([_back(progress, a, undoing) for a in late])


def _is_about_late(progress: Progress, action: Action) -> bool:
    if isinstance(action, Follow):
        return action.parent.is_late
    return isinstance(action, Doubt | Verify | Discard) and progress.undoes(action.attempt)


def _soonest(follows: list[Follow | None]) -> Follow | None:
    """Return the first that is due, else the one that is due next."""
    due = [each for each in follows if each is not None]
    for each in due:
        if each.not_before is None:
            return each
    waiting = {each.not_before: each for each in reversed(due) if each.not_before is not None}
    return waiting[min(waiting)] if waiting else None


def _back(progress: Progress, parent: Attempt, back: list[Attempt]) -> Follow | None:
    """Return the next try to give a step back; None when it was tried for a day."""
    tries = [a for a in back if a.parent_id == parent.attempt_id]
    failed = [a for a in tries if a.status is not AttemptStatus.VOIDED_UNSENT]
    if len(failed) > len(REFUND_SCHEDULE):
        return None
    not_before = None
    if failed and failed[-1].settled_at is not None:
        not_before = failed[-1].settled_at + REFUND_SCHEDULE[len(failed) - 1]
    left = progress.left_of(parent)
    return Follow(UNDONE_BY[parent.operation], parent, left, len(tries) + 1, not_before)


# ---- instructions


def _instructed(progress: Progress) -> Action:
    # An instruction is only taken once the one before it has ended.
    if progress.instructions:
        action = _next_of(progress, progress.instructions[-1])
        if action is not None:
            return action
    if progress.status is PaymentStatus.AUTHORIZED and not progress.held_minor:
        captured = progress.captured_minor
        if not captured:
            return Finish(PaymentStatus.VOIDED)
        whole = captured == sum(step.amount_minor for step in progress.steps)
        return Finish(PaymentStatus.SUCCEEDED if whole else PaymentStatus.PARTIALLY_PAID)
    return Rest()


def _next_of(progress: Progress, instruction: Instruction) -> Follow | None:
    """Return what is to be asked for next on an instruction; None when it is carried out, or failed."""
    match instruction.operation:
        case Operation.CAPTURE:
            return _capture(progress, instruction)
        case Operation.VOID:
            return _free(progress, instruction)
        case _:
            return _refund(progress, instruction)


def _capture(progress: Progress, instruction: Instruction) -> Follow | None:
    wanted = instruction.amount_minor - done_minor(progress, instruction)
    if not wanted:
        return None if instruction.keep_open else _free(progress, instruction)
    held = sorted(progress.done(Operation.AUTHORIZE), key=lambda attempt: attempt.step_index)
    for parent in held:
        if (left := progress.left_of(parent)) > 0:
            amount = min(left, wanted)
            closes = not instruction.keep_open and amount == wanted
            return _asked(progress, instruction, Operation.CAPTURE, parent, amount, closes=closes)
    return None


def _refund(progress: Progress, instruction: Instruction) -> Follow | None:
    """The last step first, as when a payment fails."""
    wanted = instruction.amount_minor - done_minor(progress, instruction)
    for parent in reversed(progress.taken()):
        if wanted and (left := progress.left_of(parent)) > 0:
            amount = min(left, wanted)
            return _asked(progress, instruction, Operation.REFUND, parent, amount)
    return None


def _free(progress: Progress, instruction: Instruction) -> Follow | None:
    """What a processor does not give free does not keep the others from it."""
    for parent in progress.done(Operation.AUTHORIZE):
        if (left := progress.left_of(parent)) > 0:
            found = _asked(progress, instruction, Operation.VOID, parent, left)
            if found is not None:
                return found
    return None


def _asked(
    progress: Progress,
    instruction: Instruction,
    operation: Operation,
    parent: Attempt,
    amount_minor: int,
    *,
    closes: bool = False,
) -> Follow | None:
    """Return the next try; None once the processor refused, or certainly did not act too often.

    Who gave the instruction decides what comes then, so it is not tried for a day.
    """
    tries = [
        a
        for a in progress.attempts
        if a.parent_id == parent.attempt_id and a.operation is operation
    ]
    mine = [
        a
        for a in tries
        if a.instruction_id == instruction.instruction_id
        and a.status is not AttemptStatus.VOIDED_UNSENT
        and not a.done
    ]
    refused = any(a.status is AttemptStatus.DECLINED or a.resolved_by for a in mine)
    if refused or len(mine) >= INSTRUCTED_TRIES_MAX:
        return None
    not_before = None
    if mine and mine[-1].settled_at is not None:
        not_before = mine[-1].settled_at + VERIFY_SCHEDULE[len(mine) - 1]
    return Follow(
        operation,
        parent,
        amount_minor,
        len(tries) + 1,
        not_before,
        instruction.instruction_id,
        closes,
    )
