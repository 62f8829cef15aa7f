"""Publishing events of outside producers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.events.app.types import find
from services.events.domain.outside import (
    EventOutcome,
    Incoming,
    Passed,
    Rule,
    Sound,
    Unreadable,
    Verdict,
    admitted,
    judge,
    verdict_of_known,
)
from services.events.domain.types import EventType, VersionRetired
from services.events.ports import Checks
from services.events.store import cloudevents as attributes
from services.events.store import outside as store
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import DomainError
from services.runtime.events.bus import EventBus


class Publisher:
    """Takes events of outside producers into the log."""

    def __init__(self, database: Database, bus: EventBus, checks: Checks) -> None:
        self._database = database
        self._bus = bus
        self._checks = checks

    async def publish(self, events: Sequence[Incoming | Unreadable]) -> list[Verdict]:
        """Publish events, each judged by itself; all that are accepted commit together, in their order.

        They are checked before the transaction begins, by the types that stand then: a check may take long, and no
        transaction waits for it.
        """
        judged = await self.check(events)
        sound = [item for item in judged if isinstance(item, Sound)]
        late = [item for item in judged if isinstance(item, Late)]
        verdicts: list[Verdict] = []
        came_before: list[bool] = []
        if sound or late:
            async with self._database.unit_of_work("events.publish") as work:
                came_before = [await _came_before(work, item) for item in late]
                verdicts = await _publish(work, sound) if sound else []
        if any(item.outcome is EventOutcome.ACCEPTED for item in verdicts):
            self._bus.wake()
        verdicts_left, answers_left = iter(verdicts), iter(came_before)
        found: list[Verdict] = []
        for item in judged:
            if isinstance(item, Sound):
                found.append(next(verdicts_left))
            elif isinstance(item, Late):
                found.append(item.verdict(next(answers_left)))
            else:
                found.append(item)
        return found

    async def check(self, events: Sequence[Incoming | Unreadable]) -> list[Sound | Late | Verdict]:
        """Check each event by its type; what fails has its verdict."""
        subjects = {event.subject for event in events if isinstance(event, Incoming)}
        types: Mapping[str, EventType] = {}
        now = None
        if subjects:
            async with self._database.read() as work:
                types, now = await find(work, subjects), work.now
        rules: dict[tuple[str, int], Rule] = {}
        refused: dict[int, DomainError] = {}
        for at, event in enumerate(events):
            try:
                if isinstance(event, Unreadable):
                    raise event.error
                assert now is not None
                type_ = types.get(event.subject)
                schema = admitted(event, type_, now)
                assert type_ is not None
                rules[event.subject, event.version] = Rule(schema, type_.key_field)
            except DomainError as error:
                refused[at] = error
        # An event of a version that ended may have been published before: the answer to it got lost.
        wanted = {
            at: event
            for at, event in enumerate(events)
            if isinstance(event, Incoming)
            and (at not in refused or isinstance(refused[at], VersionRetired))
        }
        found = await self._checks.payloads(rules, list(wanted.values()))
        passed = dict(zip(wanted, found, strict=True))
        return [_judged(event, refused.get(at), passed.get(at)) for at, event in enumerate(events)]


@dataclass(frozen=True, slots=True)
class Late:
    """An event of a version that has ended; it is a duplicate if its content was published before.

    Attributes:
        incoming: as it came.
        fingerprint: of its content.
        error: why it is refused otherwise.
    """

    incoming: Incoming
    fingerprint: bytes
    error: DomainError

    def verdict(self, came_before: bool) -> Verdict:
        """Return the verdict on it."""
        if came_before:
            return Verdict(self.incoming.event_id, EventOutcome.DUPLICATE)
        return Verdict(self.incoming.event_id, EventOutcome.REJECTED, self.error)


def _judged(
    event: Incoming | Unreadable, refused: DomainError | None, found: Passed | DomainError | None
) -> Sound | Late | Verdict:
    error = refused or (found if isinstance(found, DomainError) else None)
    if isinstance(event, Incoming) and isinstance(found, Passed):
        if error is None:
            return Sound(event, found.key, found.fingerprint)
        return Late(event, found.fingerprint, error)
    assert error is not None
    return Verdict(event.event_id, EventOutcome.REJECTED, error)


async def _came_before(work: UnitOfWork, event: Late) -> bool:
    return await store.fingerprint_of(work, event.incoming.event_id) == event.fingerprint


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
