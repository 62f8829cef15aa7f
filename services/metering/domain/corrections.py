"""Corrections: an event is a key with versions, of which the newest counts. What was sent stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from services.metering.domain.events import (
    EVENT_CANCELLED,
    EVENT_DUPLICATE,
    EVENT_NOT_FOUND,
    PERIOD_CLOSED,
    EventContent,
    Place,
    Row,
    place_of,
)
from services.metering.domain.receipts import Problem, Verdict
from services.runtime.errors import InvalidField

CORRECTIONS_MAX = 1_000
"""Corrections in one batch."""
VERSIONS_SHOWN_MAX = 100


@dataclass(frozen=True, slots=True)
class Correction:
    """An event that is to have another version.

    Attributes:
        index: position in its batch.
        key: of the event.
        row: the content that it is to have; None where it is cancelled.
    """

    index: int
    request_id: str
    key: str
    row: Row | None
    reason: str

    @property
    def place(self) -> Place | None:
        """Where the new content counts."""
        return None if self.row is None else place_of(self.row)


@dataclass(frozen=True, slots=True)
class CorrectionBatch:
    """Corrections after the rules that need nothing stored.

    Attributes:
        size: corrections asked for.
        items: one for each event.
        problems: what breaks a rule.
    """

    size: int
    items: Sequence[Correction]
    problems: Sequence[Problem]


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest version of an event.

    Attributes:
        version: 0 while it was not corrected.
    """

    key: str
    version: int
    fingerprint: str
    cancelled: bool
    content: EventContent


@dataclass(frozen=True, slots=True)
class Change:
    """A correction that is carried out, and the version that it is behind."""

    correction: Correction
    before: Newest

    @property
    def version(self) -> int:
        """The version that it makes."""
        return self.before.version + 1

    @property
    def places(self) -> list[Place]:
        """Where what it takes away counted, and where what it brings does."""
        said = self.before.content
        before = Place(said.org_id, said.project_id, said.sku, said.event_time)
        after = self.correction.place
        return [before] if after is None else [before, after]


@dataclass(slots=True)
class Corrected:
    """What becomes of a batch of corrections."""

    changes: list[Change] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EventVersion:
    """One content of an event.

    Attributes:
        version: 0 as it was sent.
        cancelled: it counts nowhere from this version on.
        ordinal: of its receipt; None until it is given.
    """

    version: int
    content: EventContent
    cancelled: bool
    reason: str
    receipt_id: str
    ordinal: int | None
    recorded_at: datetime
    recorded_by: str


def correct(batch: CorrectionBatch, held: Mapping[str, Newest]) -> Corrected:
    """Judge corrections against what is stored; `held` is by key."""
    done = Corrected(problems=list(batch.problems))
    for item in batch.items:
        newest = held.get(item.key)
        problem = _problem(item, newest)
        if problem is not None:
            done.problems.append(problem)
        else:
            assert newest is not None
            done.changes.append(Change(item, newest))
    return done


def _problem(item: Correction, newest: Newest | None) -> Problem | None:
    if newest is None:
        told = "no event with this id was stored; send it as a new one"
        return _rejected(item, EVENT_NOT_FOUND, told)
    if newest.cancelled:
        if item.row is None:
            return Problem(item.index, item.request_id, Verdict.DUPLICATE, EVENT_DUPLICATE, "")
        told = "the event was cancelled, which is final; send usage that is to count under a new id"
        return _rejected(item, EVENT_CANCELLED, told)
    if item.row is not None and item.row[4] == newest.fingerprint:
        return Problem(item.index, item.request_id, Verdict.DUPLICATE, EVENT_DUPLICATE, "")
    return None


def refuse_closed(corrected: Corrected, charges: Mapping[Place, str]) -> Corrected:
    """Refuse the changes of closed periods; `charges` are by where usage counts."""
    refused = {}
    for change in corrected.changes:
        closed = [charges[place] for place in change.places if place in charges]
        if closed:
            refused[change.correction.index] = (PERIOD_CLOSED, closed_message(closed[0]))
    return without(corrected, refused)


def without(corrected: Corrected, refused: Mapping[int, tuple[str, str]]) -> Corrected:
    """Refuse changes that break no rule of their own; reason and message are by the index of the correction."""
    left = Corrected(problems=list(corrected.problems))
    for change in corrected.changes:
        item = change.correction
        if item.index in refused:
            left.problems.append(_rejected(item, *refused[item.index]))
        else:
            left.changes.append(change)
    return left


def closed_message(charge_id: str) -> str:
    """Say that usage of a period is refused because a charge has closed it."""
    return (
        f"charge {charge_id} has closed the period of this usage, and the ingest setting late rejects it; set it to"
        " adjust to take it as late usage"
    )


def named_twice(index: int, request_id: str) -> Problem:
    """Refuse a second correction of one event in a batch."""
    told = "the batch names this event twice; send one correction of it"
    return Problem(index, request_id, Verdict.REJECTED, InvalidField.reason, told)


def _rejected(item: Correction, reason: str, message: str) -> Problem:
    return Problem(item.index, item.request_id, Verdict.REJECTED, reason, message)
