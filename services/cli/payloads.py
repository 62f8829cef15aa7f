"""Payloads of events as JSON, the same bytes that webhooks carry in `data`."""

from __future__ import annotations

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from payments.events.v1 import events_pb2

from services.runtime.outbox import registry


def json_of(event: events_pb2.Event) -> bytes | None:
    """Return the payload: JSON of an outside producer byte for byte, a message of ours with zeros written out.

    None for a message of a later release, and for one that JSON cannot say.
    """
    if event.WhichOneof("payload") == "json":
        return event.json
    try:
        message = registry.unpack(event.message.type_url.rpartition("/")[2], event.message.value)
        return json_format.MessageToJson(
            message,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
            indent=None,
            ensure_ascii=False,
        ).encode()
    except (LookupError, DecodeError, json_format.Error, ValueError):
        return None
