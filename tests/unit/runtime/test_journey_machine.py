"""How a journey moves, without a database; and that the guide's definition does what the guide says."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from payments.events.v1.orchestration_events_pb2 import (
    PaymentCompleted,
    PaymentReceived,
    StepFailed,
)

from services.runtime.journeys import machine
from services.runtime.journeys.definition import (
    CancelTimer,
    JourneyType,
    Outcome,
    SetTimer,
    State,
    Trigger,
)
from services.runtime.journeys.machine import Arm, Disarm, Journey, Move, Status
from services.runtime.journeys.runner import JourneyRunner, PostgresJourneys
from tests.support.timers.seasoning import seasoning

GUIDE = Path(__file__).parents[3] / "docs/guides/timers-and-journeys.md"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def begun(type_: JourneyType, data: dict[str, Any] | None = None) -> Move:
    journey = Journey(type_.name, "j", type_.version, NOW, NOW, "chain", data=data or {})
    return machine.start(type_, journey, Trigger("start", NOW, "call"))


def told(type_: JourneyType, journey: Journey, name: str, timer_id: str = "") -> Move:
    trigger = Trigger(name, NOW + timedelta(days=14), "event", timer_id=timer_id)
    return machine.advance(type_, journey, trigger)


def test_the_guides_definition_does_what_the_guide_says() -> None:
    (code,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
        if "SEASONING" in block
    )
    space: dict[str, Any] = {}
    exec(compile(code, str(GUIDE), "exec"), space)
    type_: JourneyType = space["SEASONING"]
    received = Trigger("payment.received", NOW, "e", PaymentReceived(payment_id="p"))
    assert type_.locate["payment.received"](received) == "p"
    move = begun(type_, dict(type_.starts["payment.received"](received) or {}))
    assert move.effects[1:] == [Arm("deadline", NOW + timedelta(days=14))]
    held = replace(move.journey, timers={"deadline": "t"})
    released = told(type_, held, "deadline", "t")
    assert (released.journey.status, released.effects) == (
        Status.COMPLETED,
        [PaymentCompleted(payment_id="p")],
    )
    disputed = told(type_, held, "payment.failed")
    assert disputed.journey.status is Status.FAILED
    assert disputed.effects == [
        Disarm(("deadline",)),
        StepFailed(payment_id="p", processor_id="hold"),
    ]


def test_the_runner_is_one() -> None:
    runner: JourneyRunner = PostgresJourneys([seasoning()])
    (reaction,) = runner.reactions()
    assert reaction.consumer == "journeys.seasoning"
    assert reaction.subjects == ("journey.timer.fired", "payment.failed", "payment.received")
    assert (reaction.on_dead, reaction.replayable) == ("park_key", False)


def _type(**states: State) -> JourneyType:
    return JourneyType(
        "trip", 1, lambda data, trigger: Outcome("a"), states, {"x.y": lambda trigger: "j"}
    )


def test_a_state_without_a_deadline_takes_the_one_before_away() -> None:
    type_ = _type(
        a=State(on={"x.y": lambda data, trigger: Outcome("b")}, deadline=timedelta(days=1)),
        b=State(on={"x.y": lambda data, trigger: Outcome("a")}),
    )
    first = begun(type_)
    assert first.journey.deadline_at == NOW + timedelta(days=1)
    second = told(type_, first.journey, "x.y")
    assert (second.effects, second.journey.timers) == ([Disarm(("deadline",))], {})
    assert second.journey.deadline_at is None
    third = told(type_, second.journey, "x.y")
    assert third.journey.deadline_at == NOW + timedelta(days=15)


def test_who_stays_keeps_the_deadline_that_runs() -> None:
    type_ = _type(
        a=State(
            on={"x.y": lambda data, trigger: Outcome(data={"seen": 1})}, deadline=timedelta(days=1)
        )
    )
    first = begun(type_)
    second = told(type_, first.journey, "x.y")
    assert (second.effects, second.journey.data) == ([], {"seen": 1})
    assert second.journey.deadline_at == first.journey.deadline_at


def test_timers_are_set_and_taken_back_in_order() -> None:
    both = (SetTimer("t", timedelta(1)), CancelTimer("t"), SetTimer("t", timedelta(2)))
    type_ = _type(a=State(on={"x.y": lambda data, trigger: Outcome(commands=both)}))
    move = told(type_, begun(type_).journey, "x.y")
    days = NOW + timedelta(days=14)
    assert move.effects == [
        Arm("t", days + timedelta(1)),
        Disarm(("t",)),
        Arm("t", days + timedelta(2)),
    ]
    # Nothing to take back: nothing is done.
    assert (
        told(
            _type(a=State(on={"x.y": lambda data, trigger: Outcome(commands=(CancelTimer("u"),))})),
            begun(type_).journey,
            "x.y",
        ).effects
        == []
    )


@pytest.mark.parametrize(
    ("outcome", "match"),
    [
        (Outcome("nowhere"), "no state 'nowhere'"),
        (Outcome(done="nothing"), "how to undo 'nothing'"),
        (Outcome(commands=(SetTimer("", timedelta(1)),)), "timer's name"),
    ],
)
def test_an_outcome_that_the_definition_does_not_know_is_an_error(
    outcome: Outcome, match: str
) -> None:
    type_ = _type(a=State(on={"x.y": lambda data, trigger: outcome}))
    with pytest.raises(ValueError, match=match):
        told(type_, begun(type_).journey, "x.y")


def test_a_journey_begins_in_a_state() -> None:
    with pytest.raises(ValueError, match="has no initial state"):
        begun(seasoning(begin=lambda data, trigger: Outcome()))
