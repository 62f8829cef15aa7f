"""Publishing events of outside producers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.events.app.types import find
from services.events.domain import payloads
from services.events.domain.outside import (
    EventOutcome,
    Incoming,
    Sound,
    Verdict,
    check,
    fingerprint,
    judge,
    verdict_of_known,
)
from services.events.domain.types import VersionRetired
from services.events.store import cloudevents as attributes
from services.events.store import outside as store
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import DomainError
from services.runtime.events.bus import EventBus


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An event of a call that could not be read at all; `error` says why."""

    event_id: str
    error: DomainError


class Publisher:
    """Takes events of outside producers into the log."""

    def __init__(self, database: Database, bus: EventBus) -> None:
        self._database = database
        self._bus = bus

    async def publish(self, events: Sequence[Incoming | Unreadable]) -> list[Verdict]:
        """Publish events, each judged by itself; all that are accepted commit together, in their order."""
        async with self._database.unit_of_work("events.publish") as work:
            checked = await _checked(work, events)
            sound = [item for item in checked if isinstance(item, Sound)]
            verdicts = await _publish(work, sound) if sound else []
        if any(item.outcome is EventOutcome.ACCEPTED for item in verdicts):
            self._bus.wake()
        rest = iter(verdicts)
        return [next(rest) if isinstance(item, Sound) else item for item in checked]


async def _checked(
    work: UnitOfWork, events: Sequence[Incoming | Unreadable]
) -> list[Sound | Verdict]:
    """Check each event by its type; what fails has its verdict."""
    subjects = {event.subject for event in events if isinstance(event, Incoming)}
    types = await find(work, subjects) if subjects else {}
    checked: list[Sound | Verdict] = []
    for event in events:
        try:
            if isinstance(event, Unreadable):
                raise event.error
            checked.append(check(event, types.get(event.subject), work.now))
        except DomainError as error:
            came_before = isinstance(event, Incoming) and await _came_before(work, event, error)
            outcome = EventOutcome.DUPLICATE if came_before else EventOutcome.REJECTED
            checked.append(Verdict(event.event_id, outcome, None if came_before else error))
    return checked


async def _came_before(work: UnitOfWork, event: Incoming, error: DomainError) -> bool:
    """True for an event that was published before its version ended: the answer to it got lost."""
    if not isinstance(error, VersionRetired):
        return False
    try:
        wanted = fingerprint(event, payloads.read(event.payload))
    except payloads.PayloadInvalid:
        return False
    return await store.fingerprint_of(work, event.event_id) == wanted


async def _publish(work: UnitOfWork, events: Sequence[Sound]) -> list[Verdict]:
    unique, verdicts = judge(events)
    free, known = await store.claim(work, unique)
    if free:
        await attributes.keep(work, free)
        await store.append(work, free)
    return [
        verdict_of_known(event, known[event.incoming.event_id])
        if event.incoming.event_id in known
        else verdict
        for event, verdict in zip(events, verdicts, strict=True)
    ]
