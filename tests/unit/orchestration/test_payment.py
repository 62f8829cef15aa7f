"""The state machine: whatever the processors do, no step is charged twice and every payment ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestration.domain import outcome
from services.orchestration.domain.operations import RULES, Operation
from services.orchestration.domain.payment import (
    AT_REST,
    LIVE,
    OPEN,
    OPEN_TO_INSTRUCTIONS,
    REFUND_SCHEDULE,
    VERIFY_SCHEDULE,
    Attempt,
    AttemptStatus,
    Discard,
    Doubt,
    Finish,
    Follow,
    Instruction,
    InstructionStatus,
    PaymentStatus,
    Policy,
    Progress,
    Rest,
    Take,
    Verify,
    decide,
    done_minor,
    due_at,
    next_processor,
    next_question,
    status_of,
    status_of_instruction,
)
from services.orchestration.domain.plan import Step

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PROVABLE = outcome.Provable(SECOND, NOW + timedelta(days=9))
STEPS = (Step("wallet", 5000, ("w",)), Step("card", 684, ("down", "c")))
POLICY = Policy(2, 5000, partial_allowed=False)
SETTLED = sorted(set(AttemptStatus) - OPEN - {AttemptStatus.MANUAL})


def progress(
    *attempts: Attempt, steps: tuple[Step, ...] = STEPS, policy: Policy = POLICY
) -> Progress:
    return Progress(PaymentStatus.PENDING, steps, attempts, policy)


def charge(step: int, number: int, processor: str, status: AttemptStatus, **more: Any) -> Attempt:
    attempt = Attempt(
        attempt_id=f"att-{step}-{number}",
        step_index=step,
        number=number,
        operation=Operation.CHARGE,
        processor_id=processor,
        amount_minor=STEPS[step].amount_minor,
        idempotency_key=f"key-{step}-{number}",
        status=status,
        created_at=NOW,
        sent_at=NOW,
        verify_after=NOW if status in (AttemptStatus.UNKNOWN, AttemptStatus.PENDING) else None,
    )
    return replace(attempt, **more)


# ---- the whole life of a payment, driven by arbitrary answers


ANSWERS = st.lists(
    st.sampled_from(
        ["done", "hard", "soft", "not_sent", "unknown", "found_done", "not_found", "crash"]
    ),
    max_size=60,
)


def answered(state: Progress, attempt: Attempt, answer: str, now: datetime) -> Attempt:
    """What an attempt in any open state becomes by an answer."""
    if attempt.status in (AttemptStatus.UNKNOWN, AttemptStatus.PENDING):
        if answer in ("done", "found_done"):
            return outcome.done(state, attempt, "ref", now)
        return outcome.after_inquiry(attempt, now, found=answer != "not_found", provable=PROVABLE)
    if answer == "done":
        return outcome.done(state, attempt, "ref", now)
    if answer in ("hard", "soft"):
        return outcome.declined(
            attempt,
            "card",
            now,
            provider_ref="ref",
            error_code="declined",
            failure_code="declined",
            retryable=answer == "soft",
            message="no",
        )
    if answer == "not_sent":
        return outcome.not_sent(attempt, "refused", now)
    return outcome.in_doubt(attempt, AttemptStatus.UNKNOWN, "timeout", now)


@given(ANSWERS, st.booleans(), st.booleans())
def test_every_story_keeps_the_invariants_and_ends(
    answers: list[str], partial: bool, holds: bool
) -> None:
    """Arbitrary answers first, then processors that are well: the payment rests, and money is exact throughout."""
    state = replace(progress(policy=replace(POLICY, partial_allowed=partial)), holds=holds)
    state, _ = carried_on(state, iter(answers), NOW)
    total = sum(step.amount_minor for step in state.steps)
    expected = {
        PaymentStatus.SUCCEEDED: ({total}, {0}),
        PaymentStatus.FAILED: ({0}, {0}),
        PaymentStatus.PARTIALLY_PAID: (set(range(1, total)), {0}),
        PaymentStatus.AUTHORIZED: ({0}, {total} if not partial else set(range(1, total + 1))),
    }
    processed, held = expected[state.status]
    assert state.processed_minor in processed
    assert state.held_minor in held
    assert (state.status is PaymentStatus.AUTHORIZED) <= holds
    assert isinstance(decide(state), Rest), "what rests is left alone"


class Asked(NamedTuple):
    """An instruction to come, with how the processors answer it."""

    operation: Operation
    share: int
    keep_open: bool
    answers: list[str]


INSTRUCTIONS = st.lists(
    st.builds(
        Asked,
        st.sampled_from([Operation.CAPTURE, Operation.VOID, Operation.REFUND]),
        st.integers(1, 100),
        st.booleans(),
        ANSWERS,
    ),
    max_size=6,
)


@given(st.booleans(), INSTRUCTIONS)
def test_instructions_move_what_they_say_and_never_more_than_is_left(
    holds: bool, asked: list[Asked]
) -> None:
    state, now = carried_on(replace(progress(), holds=holds), iter(()), NOW)
    for number, each in enumerate(asked):
        left = state.refundable_minor if each.operation is Operation.REFUND else state.held_minor
        if not left or state.status not in OPEN_TO_INSTRUCTIONS:
            continue
        amount = left if each.operation is Operation.VOID else max(1, left * each.share // 100)
        given = Instruction(f"ins-{number}", each.operation, amount, now, "test", each.keep_open)
        before = (state.held_minor, state.captured_minor, state.refunded_minor)
        state = replace(state, instructions=(*state.instructions, given))
        assert status_of_instruction(state, given) is InstructionStatus.PENDING
        state, now = carried_on(state, iter(each.answers), now)
        check_instruction(state, given, before)
    for given in state.instructions:
        assert status_of_instruction(state, given) is not InstructionStatus.PENDING


def check_instruction(state: Progress, given: Instruction, before: tuple[int, int, int]) -> None:
    """What an instruction did, by sums of what there was before it."""
    held, captured, refunded = before
    done = done_minor(state, given)
    assert 0 <= done <= given.amount_minor
    status = status_of_instruction(state, given)
    assert status is (
        InstructionStatus.SUCCEEDED if done == given.amount_minor else InstructionStatus.FAILED
    )
    moved = {operation: 0 for operation in Operation} | {given.operation: done}
    assert state.captured_minor == captured + moved[Operation.CAPTURE]
    assert state.refunded_minor == refunded + moved[Operation.REFUND]
    freed = held - moved[Operation.CAPTURE] - state.held_minor
    match given.operation:
        case Operation.VOID:
            assert freed == done
        case Operation.CAPTURE if not given.keep_open:
            assert 0 <= freed <= held - moved[Operation.CAPTURE]
        case _:
            assert freed == 0, "nothing is let go that nobody asked to"
    if state.held_minor:
        assert state.status is PaymentStatus.AUTHORIZED
    elif not state.captured_minor:
        assert state.status is PaymentStatus.VOIDED
    elif state.captured_minor == sum(step.amount_minor for step in state.steps):
        assert state.status is PaymentStatus.SUCCEEDED
    else:
        assert state.status is PaymentStatus.PARTIALLY_PAID


def carried_on(state: Progress, script: Iterator[str], now: datetime) -> tuple[Progress, datetime]:
    """Work on a payment until it rests; when the script of answers ends, processors are well."""
    for _ in range(500):
        action = decide(state)
        if isinstance(action, Rest):
            return state, now
        if isinstance(action, Finish):
            assert action.status in AT_REST
            state = replace(state, status=action.status)
            continue
        due = due_at(action)
        now = max(now, due or now) + timedelta(milliseconds=10)
        turn = len(state.attempts)
        state = replace(state, attempts=step_on(state, action, next(script, "done"), now, turn))
        check_invariants(state)
    pytest.fail("a payment must come to rest")


def step_on(
    state: Progress, action: object, answer: str, now: datetime, turn: int
) -> tuple[Attempt, ...]:
    """Take one action; a crash leaves the attempt where it was."""
    if isinstance(action, Take | Follow):
        fresh = begun(state, action, now, turn)
        if answer == "crash":
            return (*state.attempts, fresh)
        sent = replace(fresh, status=AttemptStatus.SENT, sent_at=now)
        if answer == "not_found":
            return (*state.attempts, sent)
        return (*state.attempts, answered(state, sent, answer, now))
    assert isinstance(action, Discard | Doubt | Verify)
    old = action.attempt
    if isinstance(action, Discard):
        new = outcome.voided(old, now)
    elif isinstance(action, Doubt):
        new = outcome.in_doubt(old, AttemptStatus.UNKNOWN, "interrupted", now)
    else:
        new = answered(state, old, answer, now)
    return tuple(new if a.attempt_id == old.attempt_id else a for a in state.attempts)


def begun(state: Progress, action: Take | Follow, now: datetime, turn: int) -> Attempt:
    """The attempt that an action starts, stored and not sent."""
    taking = Operation.AUTHORIZE if state.holds else Operation.CHARGE
    fresh = Attempt(
        attempt_id=f"att-{turn}",
        step_index=0,
        number=turn + 1,
        operation=taking,
        processor_id="",
        amount_minor=0,
        idempotency_key=f"key-{turn}",
        status=AttemptStatus.CREATED,
        created_at=now,
    )
    if isinstance(action, Take):
        index = action.step_index
        amount = state.steps[index].amount_minor
        return replace(
            fresh, step_index=index, processor_id=action.processor_id, amount_minor=amount
        )
    parent = action.parent
    assert parent.operation in RULES[action.operation].follows
    return replace(
        fresh,
        step_index=parent.step_index,
        processor_id=parent.processor_id,
        operation=action.operation,
        amount_minor=action.amount_minor,
        parent_id=parent.attempt_id,
        instruction_id=action.instruction_id,
        closes=action.closes,
    )


def check_invariants(state: Progress) -> None:
    for index, step in enumerate(state.steps):
        taking = [a for a in state.taking(index) if a.status in LIVE]
        assert len(taking) <= 1, "the guard: one live taking a step"
        assert {a.processor_id for a in state.taking(index)} <= set(step.processors)
    for parent in state.attempts:
        following = [a for a in state.attempts if a.parent_id == parent.attempt_id]
        live = [a for a in following if a.status in LIVE]
        assert sum(a.amount_minor for a in live) <= parent.amount_minor, "never more than is left"
        closed = [place for place, a in enumerate(live) if a.closes]
        assert closed in ([], [len(live) - 1]), "nothing follows what closes"
    total = sum(step.amount_minor for step in state.steps)
    assert 0 <= state.processed_minor <= state.captured_minor <= total
    assert state.held_minor >= 0
    assert state.captured_minor + state.held_minor <= total
    assert state.processed_minor <= state.reachable_minor <= total
    assert sum(a.status in OPEN for a in state.attempts) <= 1


# ---- single decisions


def back(parent: Attempt, number: int, not_before: datetime | None) -> Follow:
    return Follow(Operation.REFUND, parent, parent.amount_minor, number, not_before)


def test_the_first_step_comes_first() -> None:
    assert decide(progress()) == Take(0, "w")
    done = charge(0, 1, "w", AttemptStatus.SUCCEEDED)
    assert decide(progress(done)) == Take(1, "down")
    refused = charge(1, 1, "down", AttemptStatus.NOT_SENT)
    assert decide(progress(done, refused)) == Take(1, "c")
    paid = charge(1, 2, "c", AttemptStatus.SUCCEEDED)
    assert decide(progress(done, refused, paid)) == Finish(PaymentStatus.SUCCEEDED)


@pytest.mark.parametrize(
    ("status", "action", "shown"),
    [
        (AttemptStatus.CREATED, Discard, PaymentStatus.PENDING),
        (AttemptStatus.SENT, Doubt, PaymentStatus.PENDING),
        (AttemptStatus.UNKNOWN, Verify, PaymentStatus.RESOLVING),
        (AttemptStatus.PENDING, Verify, PaymentStatus.RESOLVING),
    ],
)
def test_an_open_attempt_is_settled_before_anything_else(
    status: AttemptStatus, action: type, shown: PaymentStatus
) -> None:
    state = progress(charge(0, 1, "w", status))
    assert isinstance(decide(state), action)
    assert status_of(state) is shown


@pytest.mark.parametrize("status", SETTLED)
def test_no_state_asks_for_a_second_charge_where_one_may_live(status: AttemptStatus) -> None:
    state = progress(charge(0, 1, "w", status))
    action = decide(state)
    if status is AttemptStatus.SUCCEEDED:
        assert action == Take(1, "down")
    elif status is AttemptStatus.LATE_CHARGE:
        assert isinstance(action, Follow)
        assert action.operation is Operation.REFUND
    elif status in (AttemptStatus.REVERSED, AttemptStatus.DECLINED):
        assert action == Finish(PaymentStatus.FAILED)
    else:
        assert action == Take(0, "w")


def test_processors_in_order_and_bounded() -> None:
    step = Step("card", 1, ("a", "b"))
    refused = AttemptStatus.NOT_SENT

    def attempts(*asked: str) -> list[Attempt]:
        return [charge(1, n + 1, name, refused) for n, name in enumerate(asked)]

    assert next_processor(step, attempts("a"), 2) == "b"
    assert next_processor(step, attempts("a", "b"), 2) == "a"
    assert next_processor(step, attempts("a", "b", "a", "b"), 2) is None
    assert next_processor(step, attempts("a", "b"), 1) is None
    voided = [charge(1, 1, "a", AttemptStatus.VOIDED_UNSENT)]
    assert next_processor(step, voided, 1) == "a", "what was never sent does not count"
    soft = [charge(1, 1, "a", AttemptStatus.DECLINED, retryable=True, error_code="declined")]
    assert next_processor(step, soft, 2) == "b"
    softer = [
        *soft,
        charge(1, 2, "b", AttemptStatus.DECLINED, retryable=True, error_code="declined"),
    ]
    assert next_processor(step, softer, 2) is None


def test_refunds_wait_on_schedule_and_rest_after_a_day() -> None:
    paid = charge(0, 1, "w", AttemptStatus.SUCCEEDED)
    lost = charge(1, 1, "c", AttemptStatus.DECLINED, error_code="declined")
    first = decide(progress(paid, lost))
    assert first == back(paid, 1, None)
    refused = replace(
        paid,
        operation=Operation.REFUND,
        parent_id=paid.attempt_id,
        status=AttemptStatus.DECLINED,
        settled_at=NOW,
    )
    tries = tuple(replace(refused, attempt_id=f"r{n}") for n in range(len(REFUND_SCHEDULE) + 1))
    second = decide(progress(paid, lost, tries[0]))
    assert second == back(paid, 2, NOW + SECOND)
    assert status_of(progress(paid, lost, tries[0])) is PaymentStatus.COMPENSATION_STUCK
    assert isinstance(decide(progress(paid, lost, *tries[:-1])), Follow)
    assert isinstance(decide(progress(paid, lost, *tries)), Rest)
    assert status_of(progress(paid, lost, *tries)) is PaymentStatus.COMPENSATION_STUCK


def test_a_refused_refund_does_not_keep_the_other_steps() -> None:
    first = charge(0, 1, "w", AttemptStatus.SUCCEEDED)
    second = charge(1, 1, "c", AttemptStatus.SUCCEEDED)
    lost = charge(1, 1, "c", AttemptStatus.DECLINED, error_code="declined")
    lost = replace(lost, attempt_id="lost", step_index=2)
    steps = (*STEPS, STEPS[-1])

    def refund(parent: Attempt, status: AttemptStatus, number: int = 1) -> Attempt:
        attempt_id = f"{parent.attempt_id}-r{number}"
        found = replace(parent, operation=Operation.REFUND, parent_id=parent.attempt_id)
        return replace(found, attempt_id=attempt_id, status=status, settled_at=NOW)

    def after(*refunds: Attempt) -> Progress:
        return progress(first, second, lost, *refunds, steps=steps)

    assert decide(after()) == back(second, 1, None)
    refused = refund(second, AttemptStatus.DECLINED)
    assert decide(after(refused)) == back(first, 1, None)
    assert status_of(after(refused)) is PaymentStatus.COMPENSATING
    given_back = refund(first, AttemptStatus.SUCCEEDED)
    assert decide(after(refused, given_back)) == back(second, 2, NOW + SECOND)
    assert status_of(after(refused, given_back)) is PaymentStatus.COMPENSATION_STUCK
    # Both refused: whose turn comes first is asked first.
    later = replace(refund(first, AttemptStatus.DECLINED), settled_at=NOW + SECOND / 2)
    assert decide(after(refused, later)) == back(second, 2, NOW + SECOND)
    again = replace(refund(second, AttemptStatus.DECLINED, 2), settled_at=NOW + SECOND)
    assert decide(after(refused, later, again)) == back(first, 2, NOW + SECOND * 3 / 2)
    # One that is given up after a day leaves the other.
    tries = [refund(second, AttemptStatus.DECLINED, n) for n in range(len(REFUND_SCHEDULE) + 1)]
    assert decide(after(*tries)) == back(first, 1, None)
    assert isinstance(decide(after(*tries, given_back)), Rest)


def test_questions_follow_the_schedule_while_there_can_be_proof() -> None:
    waits = [next_question(n, NOW) - NOW for n in range(8)]
    assert waits == [*VERIFY_SCHEDULE, *[timedelta(hours=1)] * 3]
    attempt = charge(0, 1, "w", AttemptStatus.UNKNOWN)
    now = NOW
    for _ in range(20):
        attempt = outcome.after_inquiry(attempt, now, found=True, provable=PROVABLE)
        assert attempt.status is AttemptStatus.UNKNOWN
        assert attempt.verify_after is not None
        wait = attempt.verify_after - now
        assert SECOND <= wait <= timedelta(hours=1, minutes=6)
        now = attempt.verify_after
    attempt = outcome.after_inquiry(attempt, PROVABLE.until, found=True, provable=PROVABLE)
    assert (attempt.status, attempt.verify_after) == (AttemptStatus.MANUAL, None)


def test_a_processor_that_cannot_be_asked_is_left_to_an_operator_at_once() -> None:
    attempt = charge(0, 1, "w", AttemptStatus.UNKNOWN)
    mute = outcome.Provable(SECOND, NOW + SECOND, asks=False)
    early = outcome.after_inquiry(attempt, NOW + SECOND / 2, found=True, provable=mute)
    assert early.status is AttemptStatus.UNKNOWN
    over = outcome.after_inquiry(early, NOW + SECOND, found=True, provable=mute)
    assert over.status is AttemptStatus.MANUAL
    state = progress(over)
    assert (decide(state), status_of(state)) == (Rest(), PaymentStatus.RESOLVING)


def test_a_schedule_that_was_not_asked_is_not_over() -> None:
    attempt = charge(0, 1, "w", AttemptStatus.UNKNOWN)
    late = outcome.after_inquiry(attempt, PROVABLE.until, found=True, provable=PROVABLE)
    assert late.status is AttemptStatus.UNKNOWN


def test_a_replay_counts_as_sending() -> None:
    attempt = charge(0, 1, "w", AttemptStatus.UNKNOWN, replayed_at=NOW + SECOND * 9)
    asked = NOW + SECOND * 9.5
    for _ in range(2):
        attempt = outcome.after_inquiry(attempt, asked, found=False, provable=PROVABLE)
    assert attempt.status is AttemptStatus.UNKNOWN, "the repeat may still be on its way"
    attempt = outcome.after_inquiry(attempt, NOW + SECOND * 10, found=False, provable=PROVABLE)
    assert attempt.status is AttemptStatus.NOT_CHARGED


def test_absence_is_proof_only_twice_and_late() -> None:
    attempt = charge(0, 1, "w", AttemptStatus.UNKNOWN)
    early = outcome.after_inquiry(attempt, NOW, found=False, provable=PROVABLE)
    early = outcome.after_inquiry(early, NOW + SECOND / 2, found=False, provable=PROVABLE)
    assert early.status is AttemptStatus.UNKNOWN, "twice, but too early"
    late = outcome.after_inquiry(attempt, NOW + SECOND * 9, found=False, provable=PROVABLE)
    assert late.status is AttemptStatus.UNKNOWN, "late, but once"
    proven = outcome.after_inquiry(early, NOW + SECOND, found=False, provable=PROVABLE)
    assert proven.status is AttemptStatus.NOT_CHARGED
    assert (proven.error_code, proven.retryable, proven.latency_ms) == ("timeout", True, 1000)


def test_a_declined_card_has_its_own_word() -> None:
    sent = charge(0, 1, "w", AttemptStatus.SENT)
    words = {
        method: outcome.declined(
            sent,
            method,
            NOW,
            provider_ref="",
            error_code="declined",
            failure_code="declined",
            retryable=False,
            message="",
        ).failure_code
        for method in ("card", "wallet")
    }
    assert words == {"card": "card_declined", "wallet": "declined"}
