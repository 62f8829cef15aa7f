"""What a journey is, in code: states, what takes it from one to the next, and how what it did is undone. Pure.

Every function of a definition is pure: from what the journey knows (`data`, plain JSON) and what happened
(`Trigger`) to what it does next (`Outcome`). A version of a definition never changes once journeys run by it: add
the next version beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from google.protobuf.message import Message

from services.runtime.outbox.subjects import split_version

NAME_CHARS_MAX = 64
ID_CHARS_MAX = 128
DEADLINE = "deadline"

Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Trigger:
    """What happened.

    Attributes:
        name: subject of an event, name of a timer, or `start`.
        at: business time.
        cause_id: id of the event or call.
        payload: the event's message; None for JSON of an outside producer, and without an event.
        json: the event's JSON of an outside producer; else empty.
        timer_id: id of the timer that came due; empty when it was none.
    """

    name: str
    at: datetime
    cause_id: str
    payload: Message | None = None
    json: bytes = b""
    timer_id: str = ""

    def document(self) -> Any:
        """Read the JSON of an outside producer."""
        return json.loads(self.json)


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish a fact."""

    payload: Message


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Let a timer of the journey come due after a while; the same name again replaces it."""

    name: str
    after: timedelta


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Take a timer back."""

    name: str


Command = Publish | SetTimer | CancelTimer


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a journey does next.

    Attributes:
        to: state to enter, with a deadline of its own; empty to stay with the deadline that runs.
        data: what it knows from now on; None for what it knew.
        commands: what is done, in this order, in the same transaction.
        done: name of what was done and would have to be undone; empty for nothing.
        fail: why it failed; empty when it did not.
    """

    to: str = ""
    data: Data | None = None
    commands: Sequence[Command] = ()
    done: str = ""
    fail: str = ""


Handler = Callable[[Data, Trigger], Outcome]


@dataclass(frozen=True, slots=True)
class State:
    """A state of a journey.

    Attributes:
        on: what events do, by subject.
        timers: what timers do, by name.
        deadline: how long it may last; None for ever.
        on_deadline: what its passing does; without it the journey fails.
        is_end: entering it completes the journey.
    """

    on: Mapping[str, Handler] = field(default_factory=dict)
    timers: Mapping[str, Handler] = field(default_factory=dict)
    deadline: timedelta | None = None
    on_deadline: Handler | None = None
    is_end: bool = False


@dataclass(frozen=True, slots=True)
class Compensation:
    """How something that was done is undone.

    Attributes:
        run: what is commanded.
        confirmed_by: subject of the event that says that it is undone, before the next thing is; empty when the
            command is enough.
    """

    run: Callable[[Data], Sequence[Command]]
    confirmed_by: str = ""


@dataclass(frozen=True, slots=True)
class JourneyType:
    """A version of a kind of journey.

    Attributes:
        name: e.g. `seasoning`. Never rename it: journeys, and the position in the feed, are kept under it.
        version: from 1; a journey keeps the one that it was started with.
        begin: from the data that it is started with to its first state.
        states: by name.
        locate: for each subject, whose journey an event concerns; None for none of this kind.
        starts: for each subject that starts a journey, the data it starts with; None for an event that does not.
        compensations: by the names that outcomes give in `done`.
        unknown: what becomes of an event for a journey that there is not.
        unexpected: what becomes of one that its state does not expect. `ignore` leaves a step that says so; `refuse`
            lets the event wait, tried again and then as a dead letter.

    Raises:
        ValueError: it contradicts itself.
    """

    name: str
    version: int
    begin: Handler
    states: Mapping[str, State]
    locate: Mapping[str, Callable[[Trigger], str | None]]
    starts: Mapping[str, Callable[[Trigger], Data | None]] = field(default_factory=dict)
    compensations: Mapping[str, Compensation] = field(default_factory=dict)
    unknown: Literal["ignore", "refuse"] = "ignore"
    unexpected: Literal["ignore", "refuse"] = "ignore"

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= NAME_CHARS_MAX or self.version < 1:
            raise ValueError(
                f"journey {self.name!r} needs a name of 1 to 64 characters and a version"
            )
        for subject in self.subjects:
            split_version(subject)
        if lost := self.subjects - self.locate.keys():
            raise ValueError(f"journey {self.name}: whose are {sorted(lost)}? locate does not tell")
        for name, state in self.states.items():
            self._check(name, state)

    @property
    def subjects(self) -> frozenset[str]:
        """The subjects that it knows what to do with."""
        named = {subject for state in self.states.values() for subject in state.on}
        undone = {item.confirmed_by for item in self.compensations.values()} - {""}
        return frozenset(named | undone | self.starts.keys() | self.locate.keys())

    def _check(self, name: str, state: State) -> None:
        if not 0 < len(name) <= NAME_CHARS_MAX:
            raise ValueError(f"journey {self.name}: a state needs a name of 1 to 64 characters")
        if state.is_end and (state.on or state.timers or state.deadline):
            raise ValueError(
                f"journey {self.name}: {name} is an end state, but waits for something"
            )
        if DEADLINE in state.timers:
            raise ValueError(
                f"journey {self.name}: {name} has a timer with the name of its deadline"
            )
