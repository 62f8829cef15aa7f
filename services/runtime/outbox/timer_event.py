"""The event that a timer or a schedule becomes, as its row holds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from google.protobuf.message import Message

from services.runtime.outbox import publish
from services.runtime.outbox.subjects import with_version
from services.runtime.postgres.session import Session

_SHARED = ("tenant_id", "traceparent", "created_at")


def columns_of(payload: Message, bytes_max: int) -> dict[str, object]:
    """Return what a row keeps of an event of ours: all that writing it will need.

    Raises:
        TypeError: the message is no event payload.
        ValueError: its key is empty or too long.
        EventTooLarge: it weighs more than `bytes_max`.
    """
    event = publish.Pending("", payload, "")
    if len(event.data) > bytes_max:
        raise publish.EventTooLarge(
            f"{event.kind.subject} has {len(event.data)} bytes, which is too large; schedule a reference instead",
            subject=event.kind.subject,
            bytes=len(event.data),
            bytes_max=bytes_max,
        )
    return {
        "subject": with_version(event.kind.subject, event.kind.version),
        "schema_version": event.kind.version,
        "event_key": event.key,
        "message_name": event.kind.message_name,
        "payload": event.data,
    }


def of_row(row: Mapping[str, Any], event_id: str, **trail: object) -> dict[str, object]:
    """Return the event of a timer's or schedule's row, as the log takes it."""
    data = bytes(row["payload"])
    return {
        "event_id": event_id,
        "id_hash": publish.identity_hash(event_id.encode()),
        "content_hash": publish.identity_hash(data),
        "subject": row["subject"],
        "schema_version": row["schema_version"],
        "key": row["event_key"],
        "message_name": row["message_name"],
        "payload": data,
        **trail,
    }


async def write(session: Session, events: Iterable[Mapping[str, object]]) -> None:
    """Write events into the log, in their order, as the services' role: the last thing before the commit."""
    for shared, group in groupby(events, key=lambda event: [event[name] for name in _SHARED]):
        await session.run(publish.many(dict(zip(_SHARED, shared, strict=True)), list(group)))
