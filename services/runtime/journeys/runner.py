"""Runs journeys: as reactions of the backbone, on rows of the caller's database.

The backbone brings each event once, in the order of its key; the journey's row is locked while it moves; row, steps,
timers and published facts commit together. A timer of a journey is a timer like any other, whose event comes back
through the log: who waits for it is told by its id, so one that was cancelled on the way changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from services.runtime.context import current
from services.runtime.database import UnitOfWork
from services.runtime.errors import Code, DomainError, NotFound
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.journeys import machine, store
from services.runtime.journeys.definition import ID_CHARS_MAX, Data, JourneyType, Trigger
from services.runtime.journeys.machine import (
    Arm,
    Disarm,
    Journey,
    JourneyEventRefused,
    Move,
    Status,
    Step,
    StepKind,
)
from services.runtime.outbox.facts import JOURNEY_TIMER_FIRED, fact, tells


class JourneyVersionUnknown(DomainError):
    """A journey runs by a version of its definition that this release does not have."""

    code = Code.FAILED_PRECONDITION
    reason = "JOURNEY_VERSION_UNKNOWN"
    state_dependent = True
    journey_type: str
    journey_id: str
    version: int


class JourneyRunner(Protocol):
    """Runs journeys. Another engine can stand behind it."""

    async def start(self, work: UnitOfWork, journey_type: str, journey_id: str, data: Data) -> bool:
        """Start a journey by the newest version of its definition; False when there is one of this id."""

    async def cancel(
        self, work: UnitOfWork, journey_type: str, journey_id: str, reason: str
    ) -> bool:
        """Cancel a running journey and undo what it did; False when it is ending or has ended.

        Raises:
            NotFound: there is none of this id.
            JourneyVersionUnknown: this release does not have its definition.
        """

    def reactions(self) -> Sequence[Reaction]:
        """What takes the journeys on: for the service's `reactions`."""


class PostgresJourneys:
    """Runs journeys on schema `mesh` of the caller's database.

    Args:
        types: every version of every kind that this service runs.

    Raises:
        ValueError: a version stands twice.
    """

    def __init__(self, types: Sequence[JourneyType]) -> None:
        self._types = {(type_.name, type_.version): type_ for type_ in types}
        if len(self._types) < len(types):
            raise ValueError("a version of a journey is defined twice")
        ordered = sorted(types, key=lambda type_: type_.version)
        self._newest = {type_.name: type_ for type_ in ordered}

    def reactions(self) -> tuple[Reaction, ...]:
        """Return one reaction a kind: they fail and wait apart."""
        return tuple(self._reaction(name) for name in sorted(self._newest))

    async def start(self, work: UnitOfWork, journey_type: str, journey_id: str, data: Data) -> bool:
        """Start a journey by the newest version of its definition; False when there is one of this id."""
        call = current()
        trigger = Trigger("start", work.now, call.causation_id or call.request_id)
        return await self._start(work, self._newest[journey_type], journey_id, data, trigger)

    async def cancel(
        self, work: UnitOfWork, journey_type: str, journey_id: str, reason: str
    ) -> bool:
        """Cancel a running journey and undo what it did; False when it is ending or has ended.

        Raises:
            NotFound: there is none of this id.
            JourneyVersionUnknown: this release does not have its definition.
        """
        journey = await store.lock(work, journey_type, journey_id)
        if journey is None:
            raise NotFound("journey", f"{journey_type}/{journey_id}")
        if journey.status is not Status.RUNNING:
            return False
        call = current()
        trigger = Trigger("cancel", work.now, call.causation_id or call.request_id)
        await _apply(work, machine.cancel(self._type_of(journey), journey, trigger, reason))
        return True

    def _reaction(self, name: str) -> Reaction:
        subjects = {JOURNEY_TIMER_FIRED}
        for (kind, _), type_ in self._types.items():
            subjects |= type_.subjects if kind == name else set()

        async def handle(work: UnitOfWork, envelope: Envelope) -> None:
            await self._react(work, self._newest[name], envelope)

        # What a journey went through cannot be gone through again: its row remembers.
        return Reaction(
            f"journeys.{name}", tuple(sorted(subjects)), handle, takes_json=True, replayable=False
        )

    async def _react(self, work: UnitOfWork, newest: JourneyType, envelope: Envelope) -> None:
        found = self._located(newest, work, envelope)
        if found is None:
            return
        journey_id, trigger = found
        journey = await store.lock(work, newest.name, journey_id)
        if journey is None and await self._begun(work, newest, journey_id, trigger):
            return
        # Somebody may have started it in between.
        journey = journey or await store.lock(work, newest.name, journey_id)
        if journey is not None:
            await _apply(work, machine.advance(self._type_of(journey), journey, trigger))
            return
        if newest.unknown == "refuse" and not trigger.timer_id:
            raise JourneyEventRefused(
                f"{trigger.name} is for journey {newest.name} {journey_id}, which was never started",
                journey_type=newest.name,
                journey_id=journey_id,
                state="",
                subject=trigger.name,
            )
        step = Step(StepKind.IGNORED, "", "", trigger.name, trigger.cause_id, trigger.at)
        await store.add_step(work, newest.name, journey_id, step)

    def _located(
        self, newest: JourneyType, work: UnitOfWork, envelope: Envelope
    ) -> tuple[str, Trigger] | None:
        """Return whose journey an event concerns, and the event as journeys see it; None for none."""
        payload: Any = envelope.payload
        if tells(payload, JOURNEY_TIMER_FIRED):
            if payload.journey_type != newest.name:
                return None
            event_id = envelope.event_id
            trigger = Trigger(payload.timer, work.now, event_id, timer_id=event_id)
            return payload.journey_id, trigger
        trigger = Trigger(
            envelope.subject,
            work.now,
            envelope.event_id,
            payload=None if envelope.json else payload,
            json=envelope.json,
        )
        journey_id = self._locate(newest.name, trigger.name)(trigger)
        if journey_id is None:
            return None
        if not 0 < len(journey_id) <= ID_CHARS_MAX:
            raise ValueError(f"a journey's id has 1 to {ID_CHARS_MAX} characters")
        return journey_id, trigger

    def _locate(self, name: str, subject: str) -> Callable[[Trigger], str | None]:
        """Return how the newest version that knows a subject finds the journey."""
        versions = sorted((v for kind, v in self._types if kind == name), reverse=True)
        return next(
            self._types[name, version].locate[subject]
            for version in versions
            if subject in self._types[name, version].locate
        )

    async def _begun(
        self, work: UnitOfWork, newest: JourneyType, journey_id: str, trigger: Trigger
    ) -> bool:
        """Start a journey by an event that starts one."""
        starts = newest.starts.get(trigger.name)
        data = starts(trigger) if starts and not trigger.timer_id else None
        return data is not None and await self._start(work, newest, journey_id, data, trigger)

    async def _start(
        self,
        work: UnitOfWork,
        type_: JourneyType,
        journey_id: str,
        data: Data,
        trigger: Trigger,
    ) -> bool:
        journey = Journey(
            type_.name,
            journey_id,
            type_.version,
            work.now,
            work.now,
            current().correlation_id,
            data=data,
        )
        move = machine.start(type_, journey, trigger)
        if not await store.claim(work, journey):
            return False
        await _apply(work, move)
        return True

    def _type_of(self, journey: Journey) -> JourneyType:
        type_ = self._types.get((journey.journey_type, journey.version))
        if type_ is None:
            raise JourneyVersionUnknown(
                f"journey {journey.journey_type} {journey.journey_id} runs version {journey.version}, which "
                "this release does not have: install one that has it, then replay its events",
                journey_type=journey.journey_type,
                journey_id=journey.journey_id,
                version=journey.version,
            )
        return type_


async def _apply(work: UnitOfWork, move: Move) -> None:
    """Store what became of a journey and do what it commanded: part of the caller's transaction."""
    journey = move.journey
    for effect in move.effects:
        if isinstance(effect, Disarm):
            await work.cancel_timers(*(_timer_key(journey, name) for name in effect.names))
        elif isinstance(effect, Arm):
            timer_id = await _arm(work, journey, effect)
            if effect.name in journey.timers:
                journey = replace(journey, timers={**journey.timers, effect.name: timer_id})
        else:
            work.publish(effect)
    await store.save(work, journey)
    for step in move.steps:
        await store.add_step(work, journey.journey_type, journey.journey_id, step)


async def _arm(work: UnitOfWork, journey: Journey, arm: Arm) -> str:
    due_at = Timestamp()
    due_at.FromDatetime(arm.due_at)
    fired = fact(
        JOURNEY_TIMER_FIRED,
        journey_type=journey.journey_type,
        journey_id=journey.journey_id,
        timer=arm.name,
        due_at=due_at,
    )
    return await work.schedule(fired, arm.due_at, key=_timer_key(journey, arm.name))


def _timer_key(journey: Journey, name: str) -> str:
    return f"journey/{journey.journey_type}/{journey.journey_id}/{name}"
