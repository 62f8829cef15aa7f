"""Bodies of deliveries. Pure."""

from __future__ import annotations

import base64
import json

from services.events.domain import cloudevents
from services.events.domain.cloudevents import Outgoing
from services.events.domain.webhooks import Format
from services.runtime.cloudevents import JSON, STRUCTURED, is_json


def render(format_: Format, event: Outgoing) -> tuple[dict[str, str], bytes]:
    """Return body, and the headers that say what it is. JSON of an outside producer stands in it byte for byte."""
    if format_ is Format.CLOUDEVENTS_BINARY:
        return cloudevents.render_binary(event)
    if format_ is Format.CLOUDEVENTS:
        return {"Content-Type": STRUCTURED}, cloudevents.render(event)
    return {"Content-Type": JSON}, _standard(event)


def _standard(event: Outgoing) -> bytes:
    # Deliveries are unordered; key and position let a receiver put the events of one thing in order.
    head = {
        "type": event.subject,
        "timestamp": cloudevents.written(event.created_at),
        "id": event.event_id,
        "key": event.key,
        "position": event.position,
    }
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    if is_json(event.media_type):
        return text[:-1] + b',"data":' + event.data + b"}"
    # A message that this release cannot read, from a later one: its bytes, so that nothing is lost.
    return text[:-1] + b',"data_base64":"' + base64.b64encode(event.data) + b'"}'
