"""Reads events of outside producers: proto to domain, each judged by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from google.protobuf import struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from payments.events.v1 import events_pb2, events_service_pb2

from services.events import body
from services.events.app.publisher import Unreadable
from services.events.domain import cloudevents
from services.events.domain.outside import Incoming
from services.events.domain.payloads import PayloadInvalid
from services.runtime import validation
from services.runtime.context import current
from services.runtime.errors import DomainError, InvalidField, TenantMismatch
from services.runtime.events.publish import EventTooLarge
from services.runtime.events.subjects import split_version
from services.runtime.ids import new_ulid

PAYLOAD_BYTES_MAX = 1024 * 1024
# More of them have two readings as a double.
DIGITS_MAX = 15


def read(request: events_service_pb2.PublishEventsRequest) -> list[Incoming | Unreadable]:
    """Read a call's events.

    Raises:
        InvalidField: there is none, or the body is not what it should be.
        BatchTooLarge: there are more than 1,000.
    """
    if request.events and request.raw_request:
        raise InvalidField.one("raw_request", "give either events or raw_request")
    found: list[events_pb2.Event | body.Fault] = list(request.events)
    if request.raw_request:
        found = body.read(request.raw_request)
    validation.check_batch(found, body.EVENTS_MAX, field="events")
    return [_judged(item) for item in found]


def read_cloud_events(
    request: events_service_pb2.PublishCloudEventsRequest,
) -> list[Incoming | Unreadable]:
    """Read a call's CloudEvents, by the mode that its content type tells.

    Raises:
        ContentTypeUnknown: it is none of the modes.
        InvalidField: there is none, or the body is not what it should be.
        BatchTooLarge: there are more than 1,000.
    """
    media_type = request.content_type.partition(";")[0].strip().lower()
    if media_type in (cloudevents.STRUCTURED, cloudevents.BATCH):
        is_batch = media_type == cloudevents.BATCH
        cuts = body.read_cloud_events(request.raw_request, batch=is_batch)
    elif request.headers and not media_type.startswith("application/cloudevents"):
        cuts = [body.Cut(_attributes(request), request.raw_request or None)]
    else:
        raise cloudevents.ContentTypeUnknown(
            f"send {cloudevents.STRUCTURED}, {cloudevents.BATCH}, or JSON with ce- headers",
            content_type=request.content_type,
        )
    validation.check_batch(cuts, body.EVENTS_MAX, field="raw_request")
    return [_cloud_event(cut) for cut in cuts]


def _attributes(request: events_service_pb2.PublishCloudEventsRequest) -> Mapping[str, str]:
    """Return the attributes that headers hold; the content type is the data's."""
    prefix = cloudevents.HEADER_PREFIX
    found = {name.lower(): value for name, value in request.headers.items()}
    named = {name: value for name, value in found.items() if name.startswith(prefix)}
    if len(named) < len(request.headers):
        raise InvalidField.one(
            "headers", f"a name that does not start with {prefix}, or comes twice"
        )
    try:
        attributes = {
            name.removeprefix(prefix): cloudevents.header_value(value)
            for name, value in named.items()
        }
    except ValueError as error:
        raise InvalidField.one("headers", "a value is not percent-encoded UTF-8") from error
    # As the HTTP binding has it, the content type of the data is no header of its own.
    attributes.pop("datacontenttype", None)
    content_type = request.content_type.strip()
    return attributes | ({"datacontenttype": content_type} if content_type else {})


def _cloud_event(cut: body.Cut | body.Fault) -> Incoming | Unreadable:
    if isinstance(cut, body.Fault):
        return Unreadable(cut.event_id, cut.error)
    try:
        found = cloudevents.read(cut.attributes)
        if cut.data is None:
            raise cloudevents.CloudEventInvalid("an event needs data", pointer="/data")
        return replace(_incoming(_message(found, cut.data)), kept=found.kept)
    except DomainError as error:
        event_id = cut.attributes.get("id")
        return Unreadable(event_id[:128] if isinstance(event_id, str) else "", error)


def _message(found: cloudevents.Read, data: bytes) -> events_pb2.Event:
    event = events_pb2.Event(
        id=found.event_id,
        subject=found.type,
        key=found.key,
        json=data,
        metadata=events_pb2.EventMetadata(
            correlation_id=found.correlation_id,
            causation_id=found.causation_id,
            traceparent=found.traceparent,
        ),
    )
    if found.created_at is not None:
        event.created_at.FromDatetime(found.created_at)
    return event


def _judged(item: events_pb2.Event | body.Fault) -> Incoming | Unreadable:
    if isinstance(item, body.Fault):
        return Unreadable(item.event_id, item.error)
    try:
        return _incoming(item)
    except DomainError as error:
        return Unreadable(item.id[:128], error)


def _incoming(event: events_pb2.Event) -> Incoming:
    payload = _payload(event)
    faults = validation.violations(event)
    if faults:
        raise InvalidField.of(faults)
    _refuse_foreign(event)
    subject, version = _name(event)
    metadata = event.metadata
    texts = (event.id, event.key, metadata.correlation_id, metadata.causation_id)
    if any("\0" in text for text in (*texts, metadata.traceparent)):
        raise InvalidField.one("event", "a text holds the character NUL (U+0000)")
    return Incoming(
        event_id=event.id or new_ulid(),
        subject=subject,
        version=version,
        key=event.key,
        payload=payload,
        correlation_id=metadata.correlation_id,
        causation_id=metadata.causation_id,
        traceparent=metadata.traceparent,
        created_at=_moment(event.created_at) if event.HasField("created_at") else None,
    )


def _name(event: events_pb2.Event) -> tuple[str, int]:
    """Return subject and version; schema_version may tell the version instead of the subject's suffix."""
    try:
        subject, version = split_version(event.subject)
    except ValueError as error:
        raise InvalidField.one("subject", str(error)) from error
    if event.schema_version in (0, version):
        return subject, version
    if subject == event.subject:
        return subject, event.schema_version
    raise InvalidField.one("schema_version", f"the subject says version {version}")


def _refuse_foreign(event: events_pb2.Event) -> None:
    tenant_id = current().tenant_id
    for named in (event.tenant_id, event.metadata.tenant_id):
        if named not in ("", tenant_id):
            raise TenantMismatch(
                "the event names another tenant than the key's", pointer="/tenant_id"
            )


def _moment(timestamp: Timestamp) -> datetime:
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidField.one("created_at", "a moment of the years 1 to 9999") from error


def _payload(event: events_pb2.Event) -> bytes:
    kind = event.WhichOneof("payload")
    if kind == "message":
        raise InvalidField.one("message", "only services of the mesh publish messages; send json")
    if kind is None:
        raise InvalidField.one("data", "an event needs a payload")
    payload = _text(event.data) if kind == "data" else event.json
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise EventTooLarge(
            f"the payload weighs {len(payload)} bytes; publish a reference instead",
            subject=event.subject[:200],
            bytes=len(payload),
            bytes_max=PAYLOAD_BYTES_MAX,
            pointer=f"/{kind}",
        )
    return payload


def _text(data: struct_pb2.Struct) -> bytes:
    """Write a Struct as JSON, always the same way. Raises PayloadInvalid for a number with two readings."""
    value = struct_pb2.Value(struct_value=data)
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()


def _plain(value: struct_pb2.Value) -> object:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {name: _plain(item) for name, item in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    if kind == "number_value":
        return _exact(value.number_value)
    return None if kind in (None, "null_value") else getattr(value, kind)


def _exact(number: float) -> int | float:
    text = Decimal(repr(number))
    if not text.is_finite() or len(text.normalize().as_tuple().digits) > DIGITS_MAX:
        raise PayloadInvalid(
            f"{number!r} has more than {DIGITS_MAX} significant digits, which a Struct does not carry "
            "exactly; send the payload as json",
            pointer="",
        )
    # 1.0 and 1 are one number to a Struct.
    return int(text) if text == text.to_integral_value() else number
