"""How a journey moves: from its row and what happened to its next row, steps and effects. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from google.protobuf.message import Message

from services.runtime.errors import Code, DomainError
from services.runtime.journeys.definition import (
    DEADLINE,
    ID_CHARS_MAX,
    NAME_CHARS_MAX,
    CancelTimer,
    Command,
    Data,
    JourneyType,
    Outcome,
    Publish,
    SetTimer,
    Trigger,
)


class JourneyEventRefused(DomainError):
    """A journey doesn't expect an event, and its definition doesn't allow ignoring it."""

    code = Code.FAILED_PRECONDITION
    reason = "JOURNEY_EVENT_REFUSED"
    state_dependent = True
    journey_type: str
    journey_id: str
    state: str
    subject: str


class Status(StrEnum):
    """Whether a journey is running, or how it ended."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepKind(StrEnum):
    """What happened in a step."""

    STARTED = "started"
    ADVANCED = "advanced"
    DEADLINE_PASSED = "deadline_passed"
    IGNORED = "ignored"
    COMPENSATED = "compensated"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Journey:
    """A journey as its row holds it.

    Attributes:
        timers: ids of the timers that it waits for, by name.
        done: what would have to be undone, in the order in which it was done.
        undoing: what is just being undone; empty when nothing is.
        ending: how it will have ended once all is undone; empty while it runs.
        reason: why it failed or was cancelled.
    """

    journey_type: str
    journey_id: str
    version: int
    started_at: datetime
    updated_at: datetime
    correlation_id: str
    state: str = ""
    status: Status = Status.RUNNING
    data: Data = field(default_factory=dict)
    timers: Mapping[str, str] = field(default_factory=dict)
    done: tuple[str, ...] = ()
    undoing: str = ""
    ending: str = ""
    reason: str = ""
    deadline_at: datetime | None = None
    step_count: int = 0
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What one event, timer or call did."""

    kind: StepKind
    from_state: str
    to_state: str
    cause: str
    cause_id: str
    at: datetime
    commands: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Arm:
    """Set a timer for a time."""

    name: str
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Disarm:
    """Cancel timers."""

    names: tuple[str, ...]


Effect = Message | Arm | Disarm


@dataclass(slots=True)
class Move:
    """A journey on the move: what it became, the steps it took, and what has to be done for it, in order."""

    type: JourneyType
    journey: Journey
    trigger: Trigger
    steps: list[Step] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)


def start(type_: JourneyType, journey: Journey, trigger: Trigger) -> Move:
    """Begin a journey, whose row has no state yet. Raises ValueError when the definition contradicts itself."""
    if not 0 < len(journey.journey_id) <= ID_CHARS_MAX:
        raise ValueError(f"a journey's id has 1 to {ID_CHARS_MAX} characters")
    move = Move(type_, journey, trigger)
    outcome = type_.begin(journey.data, trigger)
    if not outcome.to:
        raise ValueError(f"journey {type_.name} has no initial state")
    _follow(move, outcome, StepKind.STARTED)
    return move


def advance(type_: JourneyType, journey: Journey, trigger: Trigger) -> Move:
    """Take a journey on by an event or a timer.

    Raises:
        JourneyEventRefused: it does not expect the event, and its definition says to refuse it.
        ValueError: the definition contradicts itself.
    """
    move = Move(type_, journey, trigger)
    if trigger.timer_id:
        _on_timer(move)
    elif journey.undoing and type_.compensations[journey.undoing].confirmed_by == trigger.name:
        _step(move, StepKind.ADVANCED, journey.state)
        move.journey = replace(journey, done=journey.done[:-1], undoing="")
        _undo(move)
    elif journey.status is Status.RUNNING and trigger.name in type_.states[journey.state].on:
        outcome = type_.states[journey.state].on[trigger.name](journey.data, trigger)
        _follow(move, outcome, StepKind.ADVANCED)
    elif type_.unexpected == "refuse":
        raise JourneyEventRefused(
            f"journey {type_.name} {journey.journey_id} is {journey.status} in {journey.state} and does "
            f"not expect {trigger.name}; replay the event once it does",
            journey_type=type_.name,
            journey_id=journey.journey_id,
            state=journey.state,
            subject=trigger.name,
        )
    else:
        _step(move, StepKind.IGNORED, journey.state)
    return move


def cancel(type_: JourneyType, journey: Journey, trigger: Trigger, reason: str) -> Move:
    """Cancel a running journey: undo what it did, the last first."""
    move = Move(type_, journey, trigger)
    _end_early(move, Status.CANCELLED, reason)
    return move


def _on_timer(move: Move) -> None:
    journey, trigger = move.journey, move.trigger
    state = move.type.states[journey.state]
    if journey.timers.get(trigger.name) != trigger.timer_id:
        # It was cancelled or replaced when its event was in the log already.
        _step(move, StepKind.IGNORED, journey.state)
        return
    rest = {name: id_ for name, id_ in journey.timers.items() if name != trigger.name}
    move.journey = replace(journey, timers=rest)
    if trigger.name == DEADLINE:
        move.journey = replace(move.journey, deadline_at=None)
        late = Outcome(fail=f"the deadline of {journey.state} passed")
        outcome = state.on_deadline(journey.data, trigger) if state.on_deadline else late
        _follow(move, outcome, StepKind.DEADLINE_PASSED)
    elif trigger.name in state.timers:
        _follow(move, state.timers[trigger.name](journey.data, trigger), StepKind.ADVANCED)
    else:
        _step(move, StepKind.IGNORED, journey.state)


def _follow(move: Move, outcome: Outcome, kind: StepKind) -> None:
    """Do what a handler said."""
    before = move.journey
    if outcome.to and outcome.to not in move.type.states:
        raise ValueError(f"journey {move.type.name} has no state {outcome.to!r}")
    if outcome.done and outcome.done not in move.type.compensations:
        raise ValueError(f"journey {move.type.name} does not define how to undo {outcome.done!r}")
    move.journey = replace(
        before,
        state=outcome.to or before.state,
        data=before.data if outcome.data is None else outcome.data,
        done=(*before.done, outcome.done) if outcome.done else before.done,
    )
    _step(move, kind, before.state, outcome.commands)
    _command(move, outcome.commands)
    if outcome.fail:
        _end_early(move, Status.FAILED, outcome.fail)
    elif outcome.to:
        _enter(move)


def _enter(move: Move) -> None:
    """Begin the deadline of the state that was entered, or end."""
    state = move.type.states[move.journey.state]
    if state.is_end:
        _end(move, Status.COMPLETED)
        return
    if state.deadline is None:
        _command(move, (CancelTimer(DEADLINE),))
        move.journey = replace(move.journey, deadline_at=None)
        return
    # It replaces the one of the state before.
    _command(move, (SetTimer(DEADLINE, state.deadline),))
    move.journey = replace(move.journey, deadline_at=move.trigger.at + state.deadline)


def _end_early(move: Move, ending: Status, reason: str) -> None:
    _disarm_all(move)
    move.journey = replace(
        move.journey,
        status=Status.COMPENSATING,
        ending=ending,
        reason=reason[:1000],
        deadline_at=None,
    )
    _undo(move)


def _undo(move: Move) -> None:
    """Undo what was done, the last first, as far as nobody has to confirm it."""
    while move.journey.done:
        name = move.journey.done[-1]
        compensation = move.type.compensations[name]
        commands = compensation.run(move.journey.data)
        if not all(isinstance(command, Publish) for command in commands):
            raise ValueError(f"journey {move.type.name}: undoing {name!r} may only publish")
        _step(move, StepKind.COMPENSATED, move.journey.state, commands, cause=name)
        _command(move, commands)
        if compensation.confirmed_by:
            move.journey = replace(move.journey, undoing=name)
            return
        move.journey = replace(move.journey, done=move.journey.done[:-1])
    _end(move, Status(move.journey.ending))


def _end(move: Move, status: Status) -> None:
    _disarm_all(move)
    at = move.trigger.at
    move.journey = replace(move.journey, status=status, ended_at=at, deadline_at=None)
    _step(move, StepKind(status), move.journey.state)


def _disarm_all(move: Move) -> None:
    if move.journey.timers:
        move.effects.append(Disarm(tuple(sorted(move.journey.timers))))
        move.journey = replace(move.journey, timers={})


def _command(move: Move, commands: Sequence[Command]) -> None:
    for command in commands:
        timers = dict(move.journey.timers)
        if isinstance(command, Publish):
            move.effects.append(command.payload)
        elif isinstance(command, SetTimer):
            if not 0 < len(command.name) <= NAME_CHARS_MAX:
                raise ValueError(f"journey {move.type.name}: a timer's name has 1 to 64 characters")
            # Its id comes from whoever sets it.
            timers[command.name] = ""
            move.effects.append(Arm(command.name, move.trigger.at + command.after))
        elif timers.pop(command.name, None) is not None:
            move.effects.append(Disarm((command.name,)))
        move.journey = replace(move.journey, timers=timers)


def _step(
    move: Move,
    kind: StepKind,
    from_state: str,
    commands: Sequence[Command] = (),
    *,
    cause: str = "",
) -> None:
    trigger = move.trigger
    move.steps.append(
        Step(
            kind=kind,
            from_state=from_state,
            to_state=move.journey.state,
            cause=cause or trigger.name,
            cause_id=trigger.cause_id,
            at=trigger.at,
            commands=[_described(command) for command in commands],
        )
    )
    move.journey = replace(
        move.journey, updated_at=trigger.at, step_count=move.journey.step_count + 1
    )


def _described(command: Command) -> Mapping[str, str]:
    """Return what a step's record says of a command."""
    if isinstance(command, Publish):
        return {"publish": command.payload.DESCRIPTOR.full_name}
    if isinstance(command, SetTimer):
        return {"set_timer": command.name, "after": str(command.after)}
    return {"cancel_timer": command.name}
