"""CloudEvents 1.0 as they go out: events in the envelope that other systems agree on. Pure.

The library writes HTTP headers. The JSON around a payload is written here, because the library reads a payload into
Python's floats and would change its numbers.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cloudevents.core.bindings.http import to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from services.runtime import moments
from services.runtime.cloudevents import JSON, SPEC_VERSION, Value, canonical, is_json

PROTOBUF = "application/protobuf"
# As wide as the largest position, so that texts sort as the positions do.
_SEQUENCE_DIGITS = 19


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event that is about to be written as a CloudEvent.

    Attributes:
        event_id: its id.
        subject: what happened, with the suffix of its version.
        tenant_id: whose fact it is.
        key: what it is ordered by.
        created_at: when it came to be, UTC.
        data: the payload, as it goes out.
        position: its place in the feed; 0 when it is not known, then there is no `sequence`.
        message_name: full name of the payload's message; empty for JSON of an outside producer.
        media_type: of `data`. What is no JSON goes out in Base64.
        correlation_id: id of the whole chain.
        causation_id: what caused it.
        traceparent: W3C trace context.
        kept: attributes that its producer gave and that an event has no other place for; they win.
    """

    event_id: str
    subject: str
    tenant_id: str
    key: str
    created_at: datetime
    data: bytes
    position: int = 0
    message_name: str = ""
    media_type: str = JSON
    correlation_id: str = ""
    causation_id: str = ""
    traceparent: str = ""
    kept: Mapping[str, Value] = field(default_factory=dict)


def attributes(event: Outgoing) -> dict[str, Value]:
    """Return the context attributes of an event; `time` is a text."""
    ours: dict[str, Value] = {
        "specversion": SPEC_VERSION,
        "id": event.event_id,
        "source": source_of(event.tenant_id),
        "type": event.subject,
        "subject": event.key,
        "time": written(event.created_at),
        "datacontenttype": event.media_type,
        "dataschema": schema_of(event.message_name) if event.message_name else "",
        "sequence": f"{event.position:0{_SEQUENCE_DIGITS}}" if event.position else "",
        "correlationid": event.correlation_id,
        "causationid": event.causation_id,
        "traceparent": event.traceparent,
    }
    return {name: value for name, value in ours.items() if value != ""} | dict(event.kept)


def render(event: Outgoing) -> bytes:
    """Write an event as JSON, in structured mode; a JSON payload stands in it byte for byte."""
    text = json.dumps(attributes(event), ensure_ascii=False, separators=(",", ":")).encode()
    if is_json(event.media_type):
        return text[:-1] + b',"data":' + event.data + b"}"
    return text[:-1] + b',"data_base64":"' + base64.b64encode(event.data) + b'"}'


def render_batch(events: Iterable[Outgoing]) -> bytes:
    """Write events as a JSON batch."""
    return b"[" + b",".join(map(render, events)) + b"]"


def render_binary(event: Outgoing) -> tuple[dict[str, str], bytes]:
    """Write an event in HTTP's binary mode: its headers, and its payload as the body."""
    found: dict[str, Any] = {
        name: canonical(value) for name, value in attributes(event).items()
    } | {"time": event.created_at}
    message = to_binary(CloudEvent(found, event.data), JSONFormat())
    return dict(message.headers), message.body


def source_of(tenant_id: str) -> str:
    """Return the source of what came to be in the mesh, or was published without one."""
    return f"/tollmesh/{tenant_id}"


def schema_of(message_name: str) -> str:
    """Return the name of a message of ours as a URI; nothing is found under it."""
    return f"https://tollmesh.dev/schemas/{message_name}"


def written(moment: datetime) -> str:
    """Write a moment as RFC 3339 asks for."""
    return moments.written(moment)
