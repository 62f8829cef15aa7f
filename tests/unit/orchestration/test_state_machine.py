"""Payments driven by anything that can happen, beside a processor that keeps its own log: the log is the oracle.

The driver does what the engine does, in its order: store as sent, send, settle. It may die between any two of them, and
goes on from what is stored. Each guard can be taken away by a switch, and then the same machine must fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.orchestration.domain import outcome
from services.orchestration.domain import payment as domain
from services.orchestration.domain.findings import Heard, Verdict, Word, resolved, told
from services.orchestration.domain.operations import RULES, Operation
from services.orchestration.domain.payment import (
    AT_REST,
    OPEN_TO_INSTRUCTIONS,
    Attempt,
    AttemptStatus,
    Discard,
    Doubt,
    Finish,
    Follow,
    Instruction,
    PaymentStatus,
    Policy,
    Progress,
    Rest,
    Take,
    Verify,
    decide,
    due_at,
)
from services.orchestration.domain.plan import Step
from services.orchestration.domain.record import Payment
from services.orchestration.domain.request import Context

NOW = datetime(2026, 11, 1, tzinfo=UTC)
STEPS = (Step("wallet", 500, ("w", "v")), Step("card", 200, ("c", "d")))
TOTAL = 700
WINDOW = timedelta(seconds=2)
KEY_TTL = timedelta(hours=3)
LOOKED_UP_FOR = timedelta(hours=6)
LIVE = frozenset({"CREATED", "SENT", "UNKNOWN", "PENDING", "MANUAL", "SUCCEEDED"})
ANSWERS = (
    *["done"] * 8,
    "refused",
    "soft",
    "reply lost",
    "order lost",
    "order late",
    "connection",
    "500",
)
DEATHS = ("", "", "", "before the commit", "before sending", "after sending")


class Died(Exception):
    """Stands for kill -9."""


@dataclass
class Entry:
    """What a processor did, or refused, under a key."""

    key: str
    ref: str
    operation: Operation
    amount: int
    parent: str
    step: int
    done: bool
    retryable: bool = False


@dataclass
class Model:
    """All processors: total, faithful to keys for as long as they know them, with no sense of what is too much.

    Attributes:
        log: what was acted on, in order; what was only refused stands in it too, and moves nothing.
        late: orders that arrive after all.
        sick: every question is answered with an error.
        lies: what was acted on after its absence had been proof that it was not.
    """

    log: list[Entry] = field(default_factory=list)
    known: dict[str, tuple[datetime, Entry]] = field(default_factory=dict)
    late: list[Entry] = field(default_factory=list)
    sick: bool = False
    lies: set[str] = field(default_factory=set)

    def ask(self, entry: Entry, answer: str, now: datetime) -> str:
        """Take an order; returns `done`, `refused`, `soft`, `connection` or `unknown`."""
        since, first = self.known.get(entry.key, (now, None))
        if first is not None and now - since < KEY_TTL:
            assert (first.ref, first.amount) == (entry.ref, entry.amount), "I6: one key, one body"
            return word_of(first)
        if answer == "connection":
            return "connection"
        if answer in ("order lost", "500"):
            return "unknown"
        entry.done = answer not in ("refused", "soft")
        entry.retryable = answer == "soft"
        if answer == "order late":
            self.late.append(entry)
            return "unknown"
        self.act(entry, now)
        return "unknown" if answer == "reply lost" else word_of(entry)

    def act(self, entry: Entry, now: datetime) -> None:
        """Write an order down."""
        self.known[entry.key] = (now, entry)
        self.log.append(entry)

    def find(self, ref: str) -> Entry | None:
        """Return what became of an order."""
        return next((each for each in self.log if each.ref == ref), None)

    def net(self, step: int) -> int:
        """What was taken of a step and not given back, but for what came after it was proved not to."""
        return sum(
            RULES[each.operation].moves * each.amount
            for each in self.log
            if each.done and each.step == step and not {each.ref, each.parent} & self.lies
        )


def word_of(entry: Entry) -> str:
    if entry.done:
        return "done"
    return "soft" if entry.retryable else "refused"


@dataclass
class Guards:
    """What keeps a payment from being charged twice; each can be taken away."""

    unknown_is_live: bool = True
    stored_before_sent: bool = True
    same_key: bool = True
    refund_sum: bool = True


GUARDS = Guards()


class Payments(RuleBasedStateMachine):
    """One payment, its processors, and what can happen to both."""

    @initialize(
        holds=st.booleans(), partial=st.booleans(), first=st.sets(st.integers(0, len(STEPS) - 1))
    )
    def begin(self, holds: bool, partial: bool, first: set[int]) -> None:
        """The steps in `first` are authorised first and captured by themselves, unless all wait for instructions."""
        self.now = NOW
        self.model = Model()
        self.serial = 0
        self.ends: list[PaymentStatus] = []
        steps = tuple(replace(step, holds=index in first) for index, step in enumerate(STEPS))
        progress = Progress(PaymentStatus.PENDING, steps, (), Policy(2, 1000, partial), holds)
        self.payment = Payment(
            "pay",
            "key",
            "acme",
            "o",
            "p",
            "",
            "USD",
            TOTAL,
            Context.__new__(Context),
            PaymentStatus.PENDING,
            1,
            NOW,
            NOW,
            None,
            progress,
        )

    # ---- the driver: what the engine does

    @rule(
        answers=st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=4),
        death=st.sampled_from(DEATHS),
    )
    def work(self, answers: list[str], death: str) -> None:
        """A worker takes the payment, and works until nothing is due, or until it dies."""
        script = iter(answers)
        try:
            for _ in range(len(answers)):
                if not self.step(next(script), death):
                    return
        except Died:
            return

    def step(self, answer: str, death: str) -> bool:
        action = decide(self.payment.work)
        due = due_at(action)
        if isinstance(action, Rest) or (due is not None and due > self.now):
            return False
        match action:
            case Finish():
                self.end(action)
            case Take() | Follow():
                self.send(self.made(action), answer, death)
            case Discard(attempt):
                self.settle(outcome.voided(attempt, self.now))
            case Doubt(attempt):
                self.settle(
                    outcome.in_doubt(attempt, AttemptStatus.UNKNOWN, "interrupted", self.now)
                )
            case Verify(attempt):
                self.verify(attempt, answer, death)
        return True

    def made(self, action: Take | Follow) -> Attempt:
        self.serial += 1
        work = self.payment.work
        attempt = Attempt(
            attempt_id=f"att-{self.serial}",
            step_index=0,
            number=self.serial,
            operation=work.begins_with(action.step_index if isinstance(action, Take) else 0),
            processor_id="",
            amount_minor=0,
            idempotency_key=f"key-{self.serial}",
            status=AttemptStatus.SENT,
            created_at=self.now,
            sent_at=self.now,
        )
        if isinstance(action, Take):
            index = action.step_index
            amount = work.steps[index].amount_minor
            return replace(
                attempt, step_index=index, processor_id=action.processor_id, amount_minor=amount
            )
        return replace(
            attempt,
            step_index=action.parent.step_index,
            operation=action.operation,
            processor_id=action.parent.processor_id,
            amount_minor=action.amount_minor,
            parent_id=action.parent.attempt_id,
            instruction_id=action.instruction_id,
            closes=action.closes,
        )

    def send(self, attempt: Attempt, answer: str, death: str) -> None:
        if GUARDS.stored_before_sent:
            if death == "before the commit":
                raise Died
            self.payment = self.payment.with_attempt(attempt)
        if death == "before sending":
            raise Died
        said = self.model.ask(entry_of(attempt), answer, self.now)
        if death in ("after sending", "before the commit"):
            raise Died
        self.settle(self.after(attempt, said))

    def after(self, attempt: Attempt, said: str) -> Attempt:
        if said == "connection":
            return outcome.not_sent(attempt, "refused", self.now)
        if said == "unknown":
            return outcome.in_doubt(attempt, AttemptStatus.UNKNOWN, "timeout", self.now)
        found = told(self.payment, attempt, heard(attempt, said), self.now).attempt
        assert found is not None
        return found

    def verify(self, attempt: Attempt, answer: str, death: str) -> None:
        entry = self.model.find(attempt.attempt_id)
        if self.model.sick:
            assert attempt.sent_at is not None
            if answer == "done" and self.now < attempt.sent_at + KEY_TTL - timedelta(minutes=10):
                return self.replay(attempt, death)
        elif entry is not None:
            return self.settle(self.after(attempt, word_of(entry)))
        provable = outcome.Provable(WINDOW, (attempt.sent_at or self.now) + LOOKED_UP_FOR)
        self.settle(
            outcome.after_inquiry(attempt, self.now, found=self.model.sick, provable=provable)
        )
        return None

    def replay(self, attempt: Attempt, death: str) -> None:
        attempt = replace(attempt, replayed_at=self.now)
        self.payment = self.payment.with_attempt(attempt)
        if death == "before sending":
            raise Died
        order = entry_of(attempt)
        if not GUARDS.same_key:
            order.key += "-again"
        said = self.model.ask(order, "done", self.now)
        if death == "after sending":
            raise Died
        self.settle(self.after(attempt, said))

    def settle(self, attempt: Attempt) -> None:
        self.payment = self.payment.with_attempt(attempt)
        undone = outcome.reversed_by(self.payment.work, attempt)
        if undone is not None:
            self.payment = self.payment.with_attempt(undone)
        action = decide(self.payment.work)
        if isinstance(action, Finish):
            self.end(action)

    def end(self, action: Finish) -> None:
        self.payment = self.payment.with_status(action.status)
        if action.status not in (PaymentStatus.AUTHORIZED, PaymentStatus.VOIDED):
            self.ends.append(action.status)

    # ---- what callers, processors and operators do

    @rule(
        operation=st.sampled_from([Operation.CAPTURE, Operation.VOID, Operation.REFUND]),
        share=st.integers(1, 3),
        keep_open=st.booleans(),
    )
    def instruct(self, operation: Operation, share: int, keep_open: bool) -> None:
        """A caller gives an instruction to a payment at rest."""
        work = self.payment.work
        at_rest = isinstance(decide(work), Rest) and not work.manual()
        if work.status not in OPEN_TO_INSTRUCTIONS or not at_rest:
            return
        held = work.held_minor if work.status is PaymentStatus.AUTHORIZED else 0
        left = work.refundable_minor if operation is Operation.REFUND else held
        if left:
            amount = left if operation is Operation.VOID else max(1, left // share)
            given = Instruction(
                f"ins-{len(work.instructions)}", operation, amount, self.now, "t", keep_open
            )
            progress = replace(work, instructions=(*work.instructions, given))
            self.payment = replace(self.payment, progress=progress)

    @rule(wait=st.sampled_from([1, 3, 60, 4000, 30_000]))
    def pass_time(self, wait: int) -> None:
        self.now += timedelta(seconds=wait)

    @rule()
    def sicken(self) -> None:
        self.model.sick = not self.model.sick

    @precondition(lambda self: self.model.late)
    @rule()
    def arrive(self) -> None:
        """An order arrives after all, whatever is believed of it by now."""
        entry = self.model.late.pop(0)
        if self.model.find(entry.ref) is None:
            if self.attempt(entry.ref).status is AttemptStatus.NOT_CHARGED:
                self.model.lies.add(entry.ref)
            self.model.act(entry, self.now)

    @precondition(lambda self: self.model.log)
    @rule(data=st.data(), times=st.integers(1, 2), stale=st.booleans())
    def tell(self, data: st.DataObject, times: int, stale: bool) -> None:
        """The processor tells of anything that it ever did, again, late, and in any order."""
        entry = data.draw(st.sampled_from(self.model.log))
        for _ in range(times):
            attempt = self.attempt(entry.ref)
            word = "pending" if stale else word_of(entry)
            found = told(self.payment, attempt, heard(attempt, word), self.now)
            if found.attempt is not None:
                self.settle(found.attempt)

    @precondition(lambda self: self.payment.work.manual())
    @rule()
    def resolve(self) -> None:
        """An operator looks into the processor's books."""
        attempt = self.payment.work.manual()[0]
        entry = self.model.find(attempt.attempt_id)
        found = entry is not None and entry.done
        verdict = Verdict.SUCCEEDED if found else Verdict.NOT_CHARGED
        self.settle(resolved(self.payment, attempt, verdict, "op", "books", self.now))

    # ---- what must hold, on the processor's own log

    def attempt(self, ref: str) -> Attempt:
        found = [a for a in self.payment.work.attempts if a.attempt_id == ref]
        assert found, "I3: sent before it was stored"
        return found[0]

    @invariant()
    def every_order_was_stored(self) -> None:
        known = {a.attempt_id for a in self.payment.work.attempts}
        assert {each.ref for each in self.model.log} <= known, "I3: sent before it was stored"

    @invariant()
    def no_step_is_taken_twice(self) -> None:
        refs = [each.ref for each in self.model.log]
        assert len(refs) == len(set(refs)), "I6: one attempt, one order"
        work = self.payment.work
        for index, step in enumerate(STEPS):
            live = [a for a in work.taking(index) if a.status.value in LIVE]
            assert len(live) <= 1, "I6: the guard index"
            assert self.model.net(index) <= step.amount_minor, "I1: taken twice"

    @invariant()
    def no_more_is_given_back_than_was_taken(self) -> None:
        for parent in self.model.log:
            back = sum(
                each.amount
                for each in self.model.log
                if each.parent == parent.ref
                and each.done
                and each.operation is Operation.REFUND
                and each.ref not in self.model.lies
            )
            assert back <= parent.amount, "I10: more given back than was taken"

    @invariant()
    def sums_hold(self) -> None:
        work = self.payment.work
        assert 0 <= work.processed_minor <= TOTAL, "I5"
        assert 0 <= work.refunded_minor <= work.captured_minor <= TOTAL
        assert work.held_minor >= 0
        assert len(self.ends) <= 1, "I8: one of received and failed"

    def teardown(self) -> None:
        """All are well again: everything is told, and the payment comes to rest with the processors' own sums."""
        if not hasattr(self, "model"):
            return
        self.model.sick = False
        while self.model.late:
            self.arrive()
        for _ in range(400):
            for entry in list(self.model.log):
                attempt = self.attempt(entry.ref)
                found = told(self.payment, attempt, heard(attempt, word_of(entry)), self.now)
                if found.attempt is not None:
                    self.settle(found.attempt)
            while self.payment.work.manual():
                self.resolve()
            action = decide(self.payment.work)
            if isinstance(action, Rest):
                break
            self.now = max(self.now, due_at(action) or self.now)
            self.step("done", "")
            self.every_order_was_stored()
            self.no_step_is_taken_twice()
        else:
            pytest.fail("I16: it must come to rest")
        self.check_the_end()

    def check_the_end(self) -> None:
        status, work = self.payment.status, self.payment.work
        assert status in AT_REST, "I16"
        nets = [self.model.net(index) for index in range(len(STEPS))]
        over = bool(self.model.lies)
        assert over or sum(nets) == work.processed_minor, "I15: as the processors have it"
        if status in (PaymentStatus.FAILED, PaymentStatus.VOIDED):
            assert over or nets == [0, 0], "I2: nothing is kept"
        if status is PaymentStatus.SUCCEEDED:
            assert work.captured_minor == TOTAL, "I2"
        if status is not PaymentStatus.AUTHORIZED:
            assert work.held_minor == 0, "nothing stays held that nobody will capture"
        for entry in self.model.log:
            if entry.done and entry.operation in (Operation.CHARGE, Operation.CAPTURE):
                found = self.attempt(entry.ref)
                assert found.done or found.status is AttemptStatus.REVERSED, "I4: a lost charge"


def entry_of(attempt: Attempt) -> Entry:
    return Entry(
        attempt.idempotency_key,
        attempt.attempt_id,
        attempt.operation,
        attempt.amount_minor,
        attempt.parent_id,
        attempt.step_index,
        done=True,
    )


def heard(attempt: Attempt, said: str) -> Heard:
    word = {"done": Word.DONE, "pending": Word.PENDING}.get(said, Word.REFUSED)
    return Heard(
        word,
        attempt.attempt_id,
        attempt.amount_minor,
        "USD",
        "ref",
        error_code="declined" if word is Word.REFUSED else "",
        failure_code="declined" if word is Word.REFUSED else "",
        retryable=said == "soft",
    )


QUICK = (Phase.generate,)
LONG = settings(
    max_examples=100,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def test_whatever_happens_no_charge_is_doubled_and_none_is_lost() -> None:
    run_state_machine_as_test(Payments, settings=LONG)


@contextmanager
def without(monkeypatch: pytest.MonkeyPatch, guard: str) -> Iterator[None]:
    """Take one guard away."""
    with monkeypatch.context() as patched:
        patched.setattr(GUARDS, guard, False)
        if guard == "unknown_is_live":
            # As where a time-out counts as a failure, and the next processor is asked.
            patched.setattr(domain, "OPEN", frozenset({AttemptStatus.SENT}))
        if guard == "refund_sum":
            # As where nothing that has followed a charge counts against what is left of it.
            patched.setattr(domain, "LIVE", frozenset())
        yield


@pytest.mark.parametrize(
    "guard", ["unknown_is_live", "stored_before_sent", "same_key", "refund_sum"]
)
def test_without_any_of_its_guards_the_same_machine_fails(
    monkeypatch: pytest.MonkeyPatch, guard: str
) -> None:
    quick = settings(LONG, max_examples=1000, report_multiple_bugs=False, phases=QUICK)
    with without(monkeypatch, guard), pytest.raises(AssertionError):
        run_state_machine_as_test(Payments, settings=quick)
