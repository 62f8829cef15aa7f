"""From events to CloudEvents and back: what needs protobuf, beside the rules in `domain/cloudevents.py`."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from services.events.domain.cloudevents import JSON, PROTOBUF, Outgoing, Value
from services.events.domain.feed import FeedEvent
from services.runtime.events import registry
from services.runtime.events.envelope import Envelope


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


def of_envelope(
    envelope: Envelope, *, position: int = 0, traceparent: str = "", kept: Mapping[str, Value]
) -> Outgoing:
    """Return what an event goes out as that a reaction was given.

    Args:
        envelope: the event.
        position: its place in the feed, when it is known.
        traceparent: W3C trace context of the work that published it.
        kept: of `store.cloudevents.kept`.
    """
    is_json = bool(envelope.json)
    return Outgoing(
        event_id=envelope.event_id,
        subject=envelope.subject,
        tenant_id=envelope.tenant_id,
        key=envelope.key,
        created_at=envelope.created_at,
        data=envelope.json if is_json else written(envelope.payload),
        position=position,
        message_name="" if is_json else envelope.payload.DESCRIPTOR.full_name,
        correlation_id=envelope.correlation_id,
        causation_id=envelope.causation_id,
        traceparent=traceparent,
        kept=kept,
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
    """Return media type and bytes of a stored payload; what this release cannot read goes out as it is."""
    if not message_name:
        return JSON, payload
    try:
        return JSON, written(registry.unpack(message_name, payload))
    except (LookupError, DecodeError):
        return PROTOBUF, payload
