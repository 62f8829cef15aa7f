"""Events of outside producers: what is published, and what becomes of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any

from services.events.domain import payloads, schemas
from services.events.domain.types import EventType, unknown
from services.runtime.errors import Code, DomainError, InvalidField

KEY_CHARS_MAX = 200


class KeyInvalid(InvalidField):
    """The ordering key is invalid. The type names its property, and types can be changed."""

    state_dependent = True


class EventIdReused(DomainError):
    """An id came again with other content."""

    code = Code.ALREADY_EXISTS
    reason = "EVENT_ID_REUSED"
    state_dependent = True
    id: str
    pointer: str


class EventOutcome(Enum):
    """What became of an event."""

    ACCEPTED = auto()
    DUPLICATE = auto()
    CONFLICT = auto()
    REJECTED = auto()


@dataclass(frozen=True, slots=True)
class Incoming:
    """An event as its producer sent it.

    Attributes:
        event_id: the producer's, or one that was given to it.
        subject: what happened, without a version.
        version: version of the payload's schema.
        key: what orders it; empty when the producer named none.
        payload: JSON, byte for byte.
        correlation_id: id of its chain; empty when the producer named none.
        causation_id: what caused it; empty when the producer named none.
        traceparent: W3C trace context; empty for none.
        created_at: by the producer's clock; None when it told none.
        kept: attributes of a CloudEvent that an event has no other place for, its source first of all.
    """

    event_id: str
    subject: str
    version: int
    key: str
    payload: bytes
    correlation_id: str
    causation_id: str
    traceparent: str
    created_at: datetime | None
    kept: Mapping[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sound:
    """An event that passed every check.

    Attributes:
        incoming: as it came.
        key: what orders it.
        fingerprint: 16 bytes that tell one content from another, however the same JSON is written.
    """

    incoming: Incoming
    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an event.

    Attributes:
        event_id: its id; empty when none could be read.
        outcome: what became of it.
        error: why, unless it was accepted or a duplicate.
    """

    event_id: str
    outcome: EventOutcome
    error: DomainError | None = None


def admitted(event: Incoming, type_: EventType | None, now: datetime) -> str:
    """Return the schema that the payload of an event is held against.

    Raises:
        TypeUnknown: there is no such type or version.
        SubjectOwned: a service of the mesh publishes it.
        VersionRetired: a later version has taken its place.
    """
    if type_ is None:
        raise unknown(event.subject, event.version)
    return type_.publishable(event.version, now).json_schema


def checked(event: Incoming, json_schema: str, key_field: str) -> Sound:
    """Check the payload of an event; the schema decides how long that takes.

    Raises:
        PayloadInvalid: the payload is no JSON, or not what the schema asks for.
        KeyInvalid: what orders the event is too long, or no text.
    """
    payload = payloads.read(event.payload)
    schemas.check(json_schema, payload)
    return Sound(event, _key(event, key_field, payload), fingerprint(event, payload))


def judge(events: Sequence[Sound]) -> tuple[list[Sound], list[Verdict]]:
    """Settle ids that stand twice in one call: the first counts.

    Returns those that count, and a verdict for each event, in order.
    """
    first: dict[str, Sound] = {}
    verdicts = []
    for event in events:
        event_id = event.incoming.event_id
        if event_id in first:
            verdicts.append(verdict_of_known(event, first[event_id].fingerprint))
        else:
            first[event_id] = event
            verdicts.append(Verdict(event_id, EventOutcome.ACCEPTED))
    return list(first.values()), verdicts


def verdict_of_known(event: Sound, stored: bytes) -> Verdict:
    """Return the verdict on an event whose id was there before."""
    event_id = event.incoming.event_id
    if event.fingerprint == stored:
        return Verdict(event_id, EventOutcome.DUPLICATE)
    error = EventIdReused(
        f"id {event_id} belongs to an event with different content; use a new id",
        pointer="/id",
        id=event_id,
    )
    return Verdict(event_id, EventOutcome.CONFLICT, error)


def _key(event: Incoming, field: str, payload: Any) -> str:
    if event.key:
        return event.key
    value = payload.get(field) if field and isinstance(payload, Mapping) else None
    if value is None:
        return event.event_id
    # Lists and objects name nothing.
    key = "" if isinstance(value, list | Mapping) else _written(event.payload, field, value)
    if 0 < len(key) <= KEY_CHARS_MAX and "\0" not in key:
        return key
    raise KeyInvalid.one(
        "key",
        f"{field} is the ordering key: it must be a string of 1 to {KEY_CHARS_MAX} characters, a number, true or false",
        pointer="/key",
    )


def _written(payload: bytes, field: str, value: Any) -> str:
    """Return a text, or a number or boolean as its producer wrote it: 1.0 and 1e2 stay so."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(json.loads(payload, parse_int=str, parse_float=str)[field])


def fingerprint(event: Incoming, payload: Any) -> bytes:
    """Return 16 bytes that tell one content from another; `payload` is the event's, read."""
    said = [event.subject, event.version, event.key, payload]
    if event.created_at is not None:
        said.append(event.created_at.isoformat())
    if "source" in event.kept:
        # To CloudEvents an id means something only together with its source.
        said.append({"source": event.kept["source"]})
    return hashlib.sha256(payloads.canonical(said)).digest()[:16]


@dataclass(frozen=True, slots=True)
class Rule:
    """What an event is held against: the schema of its version, and the property that orders it."""

    json_schema: str
    key_field: str


@dataclass(frozen=True, slots=True)
class Passed:
    """What an event comes to that passed: what orders it, and 16 bytes that tell its content."""

    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An event of a call that could not be read at all; `error` says why."""

    event_id: str
    error: DomainError
