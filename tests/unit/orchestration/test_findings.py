"""A processor's word about an attempt, whenever it comes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from services.orchestration.domain.findings import (
    LATE_CHARGE,
    PROCESSOR_INTEGRITY,
    VERDICT_CONTRADICTED,
    Heard,
    Verdict,
    Word,
    resolved,
    told,
)
from services.orchestration.domain.operations import RULES, UNDONE_BY, Operation
from services.orchestration.domain.outcome import reversed_by
from services.orchestration.domain.payment import (
    LIVE,
    OPEN,
    Attempt,
    AttemptStatus,
    Finish,
    Follow,
    PaymentStatus,
    Policy,
    Progress,
    Rest,
    decide,
    status_of,
)
from services.orchestration.domain.plan import Step
from services.orchestration.domain.record import Payment
from services.orchestration.domain.request import Context

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=3)
STEP = Step("card", 700, ("a", "b"))
NEGATIVE = (
    AttemptStatus.DECLINED,
    AttemptStatus.NOT_CHARGED,
    AttemptStatus.NOT_SENT,
    AttemptStatus.VOIDED_UNSENT,
)


def attempt(status: AttemptStatus, operation: Operation = Operation.CHARGE) -> Attempt:
    known = status in NEGATIVE or status in (AttemptStatus.LATE_CHARGE, AttemptStatus.REVERSED)
    return Attempt(
        attempt_id="att",
        step_index=0,
        number=1,
        operation=operation,
        processor_id="a",
        amount_minor=700,
        idempotency_key="key",
        status=status,
        created_at=NOW,
        sent_at=NOW,
        parent_id="" if RULES[operation].takes else "parent",
        error_code="declined" if known else "",
        failure_code="declined" if known else "",
        verify_after=NOW if status in OPEN else None,
    )


def payment(*attempts: Attempt, status: PaymentStatus = PaymentStatus.PENDING) -> Payment:
    progress = Progress(status, (STEP,), attempts, Policy(2, 5000, partial_allowed=False))
    context = Context.__new__(Context)
    return Payment(
        "pay", "key", "acme", "o", "p", "", "USD", 700, context, status, 1, NOW, NOW, None, progress
    )


def heard(word: Word, attempt: Attempt, **more: object) -> Heard:
    said = Heard(word, attempt.attempt_id, attempt.amount_minor, "USD", "ref")
    return replace(said, **more)  # type: ignore[arg-type] # names of fields


def parent_of(each: Attempt) -> tuple[Attempt, ...]:
    if not each.parent_id:
        return ()
    operation = min(RULES[each.operation].follows)
    found = attempt(AttemptStatus.SUCCEEDED, operation)
    return (replace(found, attempt_id="parent", parent_id=""),)


EVERY = [
    (status, operation, word)
    for status in AttemptStatus
    for operation in Operation
    for word in Word
]


@pytest.mark.parametrize(("status", "operation", "word"), EVERY)
def test_the_same_word_again_changes_nothing(
    status: AttemptStatus, operation: Operation, word: Word
) -> None:
    one = attempt(status, operation)
    before = payment(*parent_of(one), one)
    first = told(before, one, heard(word, one), LATER)
    if first.attempt is None:
        return
    after = before.with_attempt(first.attempt)
    again = told(after, first.attempt, heard(word, one), LATER)
    assert (again.attempt, again.breach) == (None, None)
    stale = told(after, first.attempt, heard(Word.PENDING, one), LATER)
    assert stale.attempt is None, "an older state never overwrites a newer one"


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("status", sorted(OPEN | {AttemptStatus.MANUAL}))
def test_an_open_attempt_takes_the_word(status: AttemptStatus, operation: Operation) -> None:
    one = attempt(status, operation)
    of = payment(*parent_of(one), one)
    done = told(of, one, heard(Word.DONE, one), NOW)
    assert done.attempt is not None
    assert (done.attempt.status, done.attempt.provider_ref) == (AttemptStatus.SUCCEEDED, "ref")
    refused = told(of, one, heard(Word.REFUSED, one, failure_code="expired_card"), NOW).attempt
    assert refused is not None
    assert (refused.status, refused.failure_code) == (AttemptStatus.DECLINED, "expired_card")


@pytest.mark.parametrize("status", NEGATIVE)
@pytest.mark.parametrize("operation", sorted(UNDONE_BY))
def test_what_is_taken_too_late_goes_back_and_is_told(
    status: AttemptStatus, operation: Operation
) -> None:
    one = attempt(status, operation)
    parents = parent_of(one)
    rests = PaymentStatus.AUTHORIZED if parents else PaymentStatus.FAILED
    before = payment(*parents, one, status=rests)
    late = told(before, one, heard(Word.DONE, one), LATER)
    assert late.attempt is not None
    assert late.attempt.status is AttemptStatus.LATE_CHARGE
    assert late.attempt.status not in LIVE, "out of the guard"
    assert late.breach is not None
    assert (late.breach.contract_id, late.breach.severity) == (LATE_CHARGE, "CRITICAL")
    after = before.with_attempt(late.attempt)
    assert after.work.processed_minor == 0, "it is not kept"
    follow = decide(after.work)
    assert isinstance(follow, Follow)
    assert (follow.operation, follow.amount_minor) == (UNDONE_BY[operation], 700)
    assert status_of(after.work) is rests, "where it rested"
    undo = replace(
        attempt(AttemptStatus.SUCCEEDED, follow.operation), attempt_id="undo", parent_id="att"
    )
    undone = after.with_attempt(undo)
    reversed_ = reversed_by(undone.work, undo)
    assert reversed_ is not None
    assert reversed_.status is AttemptStatus.REVERSED
    rested = undone.with_attempt(reversed_)
    assert rested.work.processed_minor == 0
    assert rested.work.refunded_minor == 0, "what goes back was never counted"
    assert isinstance(decide(rested.work), Rest | Finish)


def test_a_late_success_while_another_processor_is_asked_is_not_built_upon() -> None:
    first = replace(attempt(AttemptStatus.NOT_CHARGED), retryable=True)
    second = replace(attempt(AttemptStatus.SUCCEEDED), attempt_id="second", processor_id="b")
    before = payment(first, second)
    late = told(before, first, heard(Word.DONE, first), LATER).attempt
    assert late is not None
    after = before.with_attempt(late)
    action = decide(after.work)
    assert isinstance(action, Follow)
    assert action.parent.attempt_id == "att", "what came too late goes back, not what stands"


def test_a_refused_step_stays_refused_when_its_refusal_turns_out_wrong() -> None:
    """Compensation is under way: no processor may be asked for the step again."""
    one = attempt(AttemptStatus.DECLINED)
    late = told(payment(one), one, heard(Word.DONE, one), LATER).attempt
    assert late is not None
    gone = payment(replace(late, status=AttemptStatus.REVERSED))
    assert decide(gone.work) == Finish(PaymentStatus.FAILED)


def test_a_refund_that_came_about_after_all_counts() -> None:
    one = attempt(AttemptStatus.NOT_CHARGED, Operation.REFUND)
    before = payment(*parent_of(one), one, status=PaymentStatus.SUCCEEDED)
    late = told(before, one, heard(Word.DONE, one), LATER)
    assert late.attempt is not None
    assert late.attempt.done
    assert late.breach is not None
    after = before.with_attempt(late.attempt)
    assert (after.work.refunded_minor, after.work.refundable_minor) == (700, 0)


def test_a_refund_beyond_what_was_taken_is_told_and_not_counted() -> None:
    one = attempt(AttemptStatus.NOT_CHARGED, Operation.REFUND)
    again = replace(attempt(AttemptStatus.SUCCEEDED, Operation.REFUND), attempt_id="again")
    before = payment(*parent_of(one), one, again, status=PaymentStatus.FAILED)
    late = told(before, one, heard(Word.DONE, one), LATER)
    assert late.attempt is not None
    assert late.attempt.status is AttemptStatus.LATE_CHARGE
    after = before.with_attempt(late.attempt)
    assert (after.work.refunded_minor, after.work.processed_minor) == (700, 0)
    assert decide(after.work) == Rest(), "nobody takes it from the payer again"


@pytest.mark.parametrize("wrong", [{"amount_minor": 1}, {"currency": "EUR"}])
@pytest.mark.parametrize("word", [Word.DONE, Word.REFUSED])
def test_a_word_about_something_else_changes_nothing(word: Word, wrong: dict[str, object]) -> None:
    one = attempt(AttemptStatus.UNKNOWN)
    found = told(payment(one), one, heard(word, one, **wrong), NOW)
    assert found.attempt is None
    assert found.breach is not None
    assert found.breach.contract_id == PROCESSOR_INTEGRITY


def test_words_in_any_order_end_alike() -> None:
    """A success wins over what is older; whoever hears of a refusal first gives the late success back."""
    words = (Word.PENDING, Word.DONE, Word.DONE, Word.PENDING)
    for order in permutations(words):
        state = payment(attempt(AttemptStatus.SENT))
        for word in order:
            (one,) = state.work.attempts
            after = told(state, one, heard(word, one), NOW).attempt
            state = state.with_attempt(after or one)
        assert [a.status for a in state.work.attempts] == [AttemptStatus.SUCCEEDED]


def test_an_operators_verdict_and_its_contradictions() -> None:
    one = attempt(AttemptStatus.MANUAL)
    of = payment(one)
    assert decide(of.work) == Rest()
    assert status_of(of.work) is PaymentStatus.RESOLVING
    yes = resolved(of, one, Verdict.SUCCEEDED, "op", "their books", NOW)
    assert (yes.status, yes.resolved_by, yes.evidence) == (
        AttemptStatus.SUCCEEDED,
        "op",
        "their books",
    )
    denied = told(of.with_attempt(yes), yes, heard(Word.REFUSED, one), LATER)
    assert denied.attempt is None
    assert denied.breach is not None
    assert denied.breach.contract_id == VERDICT_CONTRADICTED
    no = resolved(of, one, Verdict.NOT_CHARGED, "op", "their books", NOW)
    assert decide(of.with_attempt(no).work) == Finish(PaymentStatus.FAILED), (
        "nobody is charged days later by surprise"
    )
    late = told(of.with_attempt(no), no, heard(Word.DONE, one), LATER)
    assert late.attempt is not None
    assert late.attempt.status is AttemptStatus.LATE_CHARGE
    assert late.breach is not None
    assert "operator" in late.breach.message
