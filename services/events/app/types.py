"""Registering types of events, and reading them."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence

from services.events import facts
from services.events.domain.types import (
    TYPES_MAX,
    EventType,
    Registered,
    Registration,
    TypesFull,
    merged,
    unknown_subject,
)
from services.events.ports import Checks
from services.events.store import catalogue
from services.events.store import types as store
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import DomainError, NotFound
from services.runtime.outbox.subjects import Pattern


class TypeRegistry:
    """The types that a tenant may see: those of the release, and its own."""

    def __init__(self, database: Database, checks: Checks) -> None:
        self._database = database
        self._checks = checks

    async def register(self, declared: Sequence[EventType]) -> list[Registered]:
        """Register types, each judged by itself; those that stand already are left alone.

        Their schemas are read before the transaction begins: what takes too long never gets into it.
        """
        faults = await self._checks.schemas(declared)
        async with self._database.unit_of_work("events.register_types") as work:
            await store.lock(work)
            standing = dict(await find(work, {item.subject for item in declared}))
            room = TYPES_MAX - await store.count(work)
            verdicts = []
            for item, fault in zip(declared, faults, strict=True):
                verdict = await self._judged(
                    work, standing.get(item.subject), item, fault, room=room
                )
                verdicts.append(verdict)
                found = verdict.registration
                if found is None or found.is_same:
                    continue
                room -= item.subject not in standing or standing[item.subject].built_in
                await store.save(work, found)
                await _schedule_cutovers(work, standing.get(item.subject), found)
                _audit(work, standing.get(item.subject), found)
                standing[item.subject] = found.type
            return verdicts

    async def _judged(
        self,
        work: UnitOfWork,
        standing: EventType | None,
        declared: EventType,
        fault: DomainError | None,
        *,
        room: int,
    ) -> Registered:
        version = standing.versions[-1].version if standing else 0
        try:
            if standing is not None:
                standing.refuse_if_ours()
            if fault is not None:
                raise fault
            found = await self._checks.registration(standing, declared, work.now)
            is_new = standing is None or standing.built_in
            if is_new and not found.is_same and room <= 0:
                raise TypesFull(
                    f"the limit of {TYPES_MAX} registered event types is reached; you can still add versions to them",
                    types_max=TYPES_MAX,
                )
        except DomainError as error:
            return Registered(None, version, error)
        return Registered(found, found.type.versions[-1].version)

    async def get(self, subject: str) -> EventType:
        """Return a type. Raises NotFound."""
        async with self._database.read() as work:
            found = (await find(work, {subject})).get(subject)
        if found is None:
            raise NotFound("event type", subject)
        return found

    async def page(self, after: str, limit: int) -> list[EventType]:
        """Return the first types behind a subject."""
        async with self._database.read() as work:
            own = await store.subjects_after(work, after, limit)
            built_in = [subject for subject in catalogue.entries() if subject > after]
            subjects = list(dict.fromkeys(heapq.merge(own, built_in)))[:limit]
            found = await find(work, subjects)
        return [found[subject] for subject in subjects]


async def find(work: UnitOfWork, subjects: Collection[str]) -> Mapping[str, EventType]:
    """Return the types of some subjects; what is not registered is left out."""
    own = await store.find(work, subjects)
    both = {subject: merged(catalogue.get(subject), own.get(subject)) for subject in subjects}
    return {subject: type_ for subject, type_ in both.items() if type_ is not None}


async def check_subjects(work: UnitOfWork, patterns: Sequence[Pattern]) -> None:
    """Refuse patterns that no type of the release or of the tenant matches, in any version.

    Raises:
        TypeUnknown: names the first, and what may have been meant.
    """
    unmatched = [item for item in patterns if not any(map(item.matches_type, catalogue.entries()))]
    if not unmatched:
        return
    own = await store.subjects_after(work, "", TYPES_MAX)
    for pattern in unmatched:
        if not any(map(pattern.matches_type, own)):
            raise unknown_subject(pattern.written, [*catalogue.entries(), *own])


async def _schedule_cutovers(
    work: UnitOfWork, before: EventType | None, after: Registration
) -> None:
    """Let each cutover that is new, or was moved, become an event when it has come."""
    subject = after.type.subject
    stood = {item.version: item.cutover_at for item in (before.versions if before else ())}
    for item in after.changed:
        if item.cutover_at is None or stood.get(item.version) == item.cutover_at:
            continue
        payload = facts.cut_over(subject, item.version, item.cutover_at)
        await work.schedule(payload, item.cutover_at, key=f"event-type/{subject}/{item.version}")


def _audit(work: UnitOfWork, before: EventType | None, after: Registration) -> None:
    def said(type_: EventType) -> dict[str, object]:
        return {"owner": type_.owner, "versions": [item.version for item in type_.versions]}

    work.audit(
        "event_type",
        after.type.subject,
        said(before) if before else None,
        {**said(after.type), "changed": [item.version for item in after.changed]},
    )
