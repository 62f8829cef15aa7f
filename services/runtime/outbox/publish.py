"""Publishing: events are written by the transaction whose facts they are, or not at all.

A unit of work collects what is published as `Pending` and has all of it written by the last
statement before its commit, so that an event's place in the log is taken while the locks of its
aggregate are held. After the commit the unit of work wakes the bus (`EventBus.wake`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Protocol

from google.protobuf.message import Message

from services.runtime.context import CallContext
from services.runtime.errors import Code, DomainError
from services.runtime.outbox import registry
from services.runtime.outbox.subjects import with_version
from services.runtime.postgres import sql
from services.runtime.postgres.session import Call
from services.runtime.postgres.statements import statement
from services.runtime.turns import in_slices

PAYLOAD_BYTES_MAX = 1024 * 1024
# Of the hashes in `mesh.event_identity`.
IDENTITY_BYTES = 16
# What one transaction may publish. A use case that reaches it should publish one event for its batch.
EVENTS_MAX = 10_000
# Events that are prepared before other calls have their turns.
_SLICE = 100

_QUERIES = sql.load("services.runtime.events", "queries.sql")
_ONE = statement(_QUERIES["publish_one"])
_MANY = statement(_QUERIES["publish_many"])


class Cause(Protocol):
    """An event that others follow from."""

    @property
    def event_id(self) -> str:
        """Its id."""

    @property
    def correlation_id(self) -> str:
        """Id of the chain that it belongs to."""


class EventTooLarge(DomainError):
    """A payload is larger than an event may be."""

    code = Code.INVALID_ARGUMENT
    reason = "EVENT_TOO_LARGE"
    state_dependent = False
    subject: str
    bytes: int
    bytes_max: int
    pointer: str | None = None


@dataclass(frozen=True, slots=True)
class JsonFact:
    """A fact whose payload is JSON, by a schema that others gave and that a message cannot follow to the letter.

    Attributes:
        subject: what happened, in the first version of its schema.
        key: what orders its events.
        data: the payload, in UTF-8. The catalogue has its schema; tests hold each kind of payload against it.
    """

    subject: str
    key: str
    data: bytes

    # What an event of a message of ours has from its options; an empty name says that the payload is JSON.
    version: ClassVar[int] = 1
    message_name: ClassVar[str] = ""


class Kind(Protocol):
    """What the log says of a kind of events."""

    @property
    def subject(self) -> str:
        """What its events are called, without a version."""

    @property
    def version(self) -> int:
        """Version of the payload's schema."""

    @property
    def message_name(self) -> str:
        """Full name of the payload's message; empty for JSON."""


class Pending:
    """An event that waits for the commit of its transaction.

    Attributes:
        event_id: ULID.
        kind: its type, from the payload's descriptor unless it is JSON.
        key: what it is ordered by.
        data: the payload's bytes, taken now: later changes of the message do not count.
        causation_id: event or call that caused it.
        correlation_id: the chain that it belongs to; empty for that of the call.

    Raises:
        TypeError: the message is no event payload.
        ValueError: its key is empty or too long.
        EventTooLarge: it weighs more than 1 MiB.
    """

    kind: Kind
    __slots__ = ("causation_id", "correlation_id", "data", "event_id", "key", "kind")

    def __init__(
        self,
        event_id: str,
        payload: Message | JsonFact,
        causation_id: str,
        correlation_id: str = "",
    ) -> None:
        self.event_id = event_id
        if isinstance(payload, JsonFact):
            if not 0 < len(payload.key) <= registry.KEY_CHARS_MAX:
                raise ValueError(f"an event {payload.subject} needs a key to be ordered by")
            self.kind, self.key, self.data = payload, payload.key, payload.data
        else:
            kind = registry.of(type(payload))
            self.kind, self.key, self.data = kind, kind.key(payload), payload.SerializeToString()
        self.causation_id = causation_id
        self.correlation_id = correlation_id
        if len(self.data) > PAYLOAD_BYTES_MAX:
            raise EventTooLarge(
                f"{self.kind.subject} has {len(self.data)} bytes, which is too large; publish a reference instead",
                subject=self.kind.subject,
                bytes=len(self.data),
                bytes_max=PAYLOAD_BYTES_MAX,
            )


async def calls(context: CallContext, now: datetime, events: Sequence[Pending]) -> list[Call]:
    """Return what writes events into the log, in the order of publishing.

    To be run in the transaction whose facts they are, under the services' role and with the tenant of `context` set.
    Nothing may be written after it in that transaction.

    Raises:
        ValueError: more than 10,000 events in one transaction.
    """
    if not events:
        return []
    if len(events) > EVENTS_MAX:
        raise ValueError(f"{len(events)} events in one transaction; publish at most {EVENTS_MAX}")
    shared = {
        "tenant_id": context.tenant_id,
        "traceparent": context.traceparent,
        "created_at": now,
    }
    if len(events) == 1:
        return [Call(_ONE, shared | _row(events[0], context))]
    rows = [_row(event, context) async for event in in_slices(events, _SLICE)]
    return [many(shared, rows)]


def many(shared: Mapping[str, object], rows: Sequence[Mapping[str, object]]) -> Call:
    """Return what writes rows of the log in their order; they share tenant, trace and time."""
    columns = {name: [row[name] for row in rows] for name in rows[0] if name not in shared}
    return Call(_MANY, {**shared, **columns})


def _row(event: Pending, context: CallContext) -> dict[str, object]:
    return {
        "event_id": event.event_id,
        "id_hash": identity_hash(event.event_id.encode()),
        "content_hash": identity_hash(event.data),
        "subject": with_version(event.kind.subject, event.kind.version),
        "schema_version": event.kind.version,
        "key": event.key,
        "message_name": event.kind.message_name,
        "payload": event.data,
        "correlation_id": event.correlation_id or context.correlation_id,
        "causation_id": event.causation_id,
    }


def identity_hash(data: bytes) -> bytes:
    """Return what ids and contents are known by in `mesh.event_identity`, whoever writes them.

    16 bytes: ids of outside producers are long and random, and full texts cost a quarter of the insert rate at ten
    million rows.
    """
    return hashlib.sha256(data).digest()[:IDENTITY_BYTES]
