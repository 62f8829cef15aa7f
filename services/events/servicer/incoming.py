"""Reads events of outside producers: proto to domain, each judged by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeGuard

from google.protobuf.timestamp_pb2 import Timestamp
from payments.events.v1 import events_pb2, events_service_pb2

from services.events.adapters.checks import Checks
from services.events.domain.outside import Incoming, Unreadable
from services.events.messages import body
from services.runtime import cloudevents
from services.runtime.cloudevents import Mode, ReadCloudEvent
from services.runtime.context import current
from services.runtime.edge import validation
from services.runtime.errors import DomainError, InvalidField, TenantMismatch
from services.runtime.ids import new_ulid
from services.runtime.json_cuts import Fault
from services.runtime.outbox.publish import EventTooLarge
from services.runtime.outbox.subjects import split_version
from services.runtime.telemetry import read_traceparent
from services.runtime.turns import in_slices

PAYLOAD_BYTES_MAX = 1024 * 1024
# Events between two looks at other calls: about 5 ms.
SLICE = 100


async def read(
    checks: Checks, request: events_service_pb2.PublishEventsRequest
) -> list[Incoming | Unreadable]:
    """Read a call's events.

    Raises:
        InvalidField: there is none, or the body is not what it should be.
        BatchTooLarge: there are more than 1,000.
    """
    if request.events and request.raw_request:
        raise InvalidField.one("raw_request", "give either events or raw_request")
    found: Sequence[events_pb2.Event | Fault] = request.events
    if request.raw_request:
        found = await checks.events(request.raw_request)
    validation.check_batch(found, body.EVENTS_MAX, field="events")
    structs = {at: item.data for at, item in enumerate(found) if _holds_struct(item)}
    texts = dict(zip(structs, await checks.texts(list(structs.values())), strict=True))
    places = in_slices(enumerate(found), SLICE)
    return [_judged(item, texts.get(at)) async for at, item in places]


async def read_cloud_events(
    checks: Checks, request: events_service_pb2.PublishCloudEventsRequest
) -> list[Incoming | Unreadable]:
    """Read a call's CloudEvents, by the mode that its content type tells; a batch may be empty.

    Raises:
        ContentTypeUnknown: it is none of the modes.
        InvalidField: the body is not what it should be.
        BatchTooLarge: there are more than 1,000.
    """
    mode = cloudevents.mode_of(request.content_type, request.headers)
    if mode is Mode.BINARY:
        cut = cloudevents.binary(request.content_type, request.headers, request.raw_request)
        found = [cloudevents.read_attributes(cut)]
    else:
        found = await checks.cloud_events(request.raw_request, batch=mode is Mode.BATCH)
    return [_cloud_event(item) async for item in in_slices(found, SLICE)]


def _holds_struct(item: events_pb2.Event | Fault) -> TypeGuard[events_pb2.Event]:
    return isinstance(item, events_pb2.Event) and item.WhichOneof("payload") == "data"


def _cloud_event(item: ReadCloudEvent | Fault) -> Incoming | Unreadable:
    if isinstance(item, Fault):
        return Unreadable(item.event_id, item.error)
    try:
        if item.data is None:
            raise cloudevents.CloudEventInvalid("an event needs data", pointer="/data")
        return replace(_incoming(_message(item.read, item.data)), kept=item.read.kept)
    except DomainError as error:
        return Unreadable(item.read.event_id[:128], error)


def _message(found: cloudevents.Read, data: bytes) -> events_pb2.Event:
    event = events_pb2.Event(
        id=found.event_id,
        subject=found.type,
        key=found.key,
        json=data,
        metadata=events_pb2.EventMetadata(
            correlation_id=found.correlation_id,
            causation_id=found.causation_id,
            # One of a version to come may be longer than ours.
            traceparent=read_traceparent(found.traceparent),
        ),
    )
    if found.created_at is not None:
        event.created_at.FromDatetime(found.created_at)
    return event


def _judged(
    item: events_pb2.Event | Fault, text: bytes | DomainError | None
) -> Incoming | Unreadable:
    """Judge an event; `text` is its Struct as JSON, if it has one."""
    if isinstance(item, Fault):
        return Unreadable(item.event_id, item.error)
    try:
        if isinstance(text, DomainError):
            raise text
        return _incoming(item, text)
    except DomainError as error:
        return Unreadable(item.id[:128], error)


def _incoming(event: events_pb2.Event, text: bytes | None = None) -> Incoming:
    payload = _payload(event, text)
    # The payload has rules of its own, and the validator would walk through all of it.
    event.ClearField("payload")
    faults = validation.violations(event)
    if faults:
        raise InvalidField.of(faults)
    _refuse_foreign(event)
    subject, version = _name(event)
    metadata = event.metadata
    texts = (event.id, event.key, metadata.correlation_id, metadata.causation_id)
    if any("\0" in text for text in (*texts, metadata.traceparent)):
        raise InvalidField.one("event", "a string contains the character NUL (U+0000)")
    return Incoming(
        event_id=event.id or new_ulid(),
        subject=subject,
        version=version,
        key=event.key,
        payload=payload,
        correlation_id=metadata.correlation_id,
        causation_id=metadata.causation_id,
        traceparent=read_traceparent(metadata.traceparent),
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
                "the event's tenant is not the key's tenant",
                tenant_id=named,
                pointer="/tenant_id",
            )


def _moment(timestamp: Timestamp) -> datetime:
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidField.one("created_at", "it must be a time in the years 1 to 9999") from error


def _payload(event: events_pb2.Event, text: bytes | None) -> bytes:
    kind = event.WhichOneof("payload")
    if kind == "message":
        raise InvalidField.one("message", "only services of the mesh publish messages; send json")
    if kind is None:
        raise InvalidField.one("data", "an event needs a payload")
    payload = event.json if text is None else text
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise EventTooLarge(
            f"the payload has {len(payload)} bytes, which is too large; publish a reference instead",
            subject=event.subject[:200],
            bytes=len(payload),
            bytes_max=PAYLOAD_BYTES_MAX,
            pointer=f"/{kind}",
        )
    return payload
