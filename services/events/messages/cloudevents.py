"""From events of the feed to CloudEvents: what needs protobuf, beside the rules in `domain/cloudevents.py`."""

from __future__ import annotations

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from services.events.domain.cloudevents import PROTOBUF, Outgoing
from services.events.domain.feed import FeedEvent
from services.runtime.cloudevents import JSON
from services.runtime.outbox import registry


def of_feed(event: FeedEvent) -> Outgoing:
    """Return what an event of the feed goes out as."""
    media_type, data = _of_bytes(event.message_name, event.payload)
    return Outgoing(
        event_id=event.event_id,
        subject=event.subject,
        tenant_id=event.tenant_id,
        key=event.key,
        created_at=event.created_at,
        data=data,
        position=event.position,
        message_name=event.message_name,
        media_type=media_type,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        traceparent=event.traceparent,
        kept=event.kept,
    )


def written(message: Message) -> bytes:
    """Write a message as proto3 JSON, by the facade's choices: names as in the schema, zeros written out."""
    return json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=None,
        ensure_ascii=False,
    ).encode()


def _of_bytes(message_name: str, payload: bytes) -> tuple[str, bytes]:
    """Return media type and bytes of a stored payload.

    What this release cannot read, or JSON cannot say (a moment beyond the year 9999), goes out as it is: one event
    must not keep a page from its reader for ever.
    """
    if not message_name:
        return JSON, payload
    try:
        return JSON, written(registry.unpack(message_name, payload))
    except (LookupError, DecodeError, json_format.Error, ValueError):
        return PROTOBUF, payload
