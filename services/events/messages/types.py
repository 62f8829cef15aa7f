"""Messages of event types, and of the results of events published from outside."""

from __future__ import annotations

from datetime import UTC

from payments.events.v1 import events_pb2, events_service_pb2
from payments.type.v1 import type_pb2

from services.events.domain.outside import EventOutcome, Verdict
from services.events.domain.payloads import PayloadInvalid
from services.events.domain.types import EventType, Registered, Version
from services.runtime.cloudevents import CloudEventInvalid, CloudEventUnsupported
from services.runtime.edge import validation
from services.runtime.errors import DomainError, FieldViolation
from services.runtime.outbox.subjects import is_subject
from services.runtime.texts import encodable

_OUTCOMES = {
    EventOutcome.ACCEPTED: type_pb2.OUTCOME_ACCEPTED,
    EventOutcome.DUPLICATE: type_pb2.OUTCOME_DUPLICATE,
    EventOutcome.CONFLICT: type_pb2.OUTCOME_CONFLICT,
    EventOutcome.REJECTED: type_pb2.OUTCOME_REJECTED,
}

# What parts of an event are called in a CloudEvent, except in errors that know its names or lead into the payload.
_ATTRIBUTES = {
    "/subject": "/type",
    "/schema_version": "/type",
    "/key": "/subject",
    "/json": "/data",
}
_POINTED = (CloudEventInvalid, CloudEventUnsupported, PayloadInvalid)


def cloud_event_result(index: int, verdict: Verdict) -> events_service_pb2.PublishEventResult:
    """Write the verdict on a CloudEvent, in the names that its sender knows."""
    written = result(index, verdict)
    if not isinstance(verdict.error, _POINTED):
        written.pointer = _ATTRIBUTES.get(written.pointer, written.pointer)
    return written


def registration(
    index: int, subject: str, verdict: Registered
) -> events_service_pb2.RegisterEventTypeResult:
    """Return the result message of a declared type."""
    written = events_service_pb2.RegisterEventTypeResult(
        index=index, subject=subject[:200], version=verdict.version
    )
    _tell(written, verdict.error)
    if verdict.registration is None:
        written.outcome = type_pb2.OUTCOME_REJECTED
    elif verdict.registration.is_same:
        written.outcome = type_pb2.OUTCOME_DUPLICATE
    else:
        written.outcome = type_pb2.OUTCOME_ACCEPTED
    return written


def result(index: int, verdict: Verdict) -> events_service_pb2.PublishEventResult:
    """Write the verdict on an event."""
    written = events_service_pb2.PublishEventResult(
        index=index, id=encodable(verdict.event_id), outcome=_OUTCOMES[verdict.outcome]
    )
    _tell(written, verdict.error)
    return written


def _tell(
    result: events_service_pb2.PublishEventResult | events_service_pb2.RegisterEventTypeResult,
    error: DomainError | None,
) -> None:
    """Say why an item was not taken, and where its fault is."""
    if error is None:
        return
    result.reason, result.message = error.reason, error.message
    result.pointer = error.metadata.get("pointer", "")
    if not result.pointer and error.fields:
        path = error.fields[0].field.replace("[", ".").replace("]", "")
        result.pointer = "" if path == "event" else "/" + path.replace(".", "/")


def type_faults(message: events_pb2.EventType) -> list[FieldViolation]:
    """Return what is wrong with a declared type, short of its schemas."""
    found = validation.violations(message)
    if not found and not is_subject(message.subject):
        found.append(
            FieldViolation("subject", "leave the version out: the list of versions gives it")
        )
    return found


def type_of(message: events_pb2.EventType) -> EventType:
    """Return the type that a registration declares."""
    return EventType(
        subject=message.subject,
        owner=message.owner,
        consumers=tuple(message.consumers),
        description=message.description,
        key_field=message.key_field,
        versions=tuple(_version_of(item) for item in message.versions),
    )


def _version_of(message: events_pb2.EventTypeVersion) -> Version:
    cutover_at = message.cutover_at.ToDatetime(UTC) if message.HasField("cutover_at") else None
    return Version(message.version, message.json_schema, cutover_at=cutover_at)


def message_of(type_: EventType) -> events_pb2.EventType:
    """Return a type as its message."""
    message = events_pb2.EventType(
        subject=type_.subject,
        owner=type_.owner,
        consumers=type_.consumers,
        description=type_.description,
        key_field=type_.key_field,
        built_in=type_.built_in,
    )
    for version in type_.versions:
        item = message.versions.add(version=version.version)
        if version.protobuf_message:
            item.protobuf_message = version.protobuf_message
        else:
            item.json_schema = version.json_schema
        if version.published_at is not None:
            item.published_at.FromDatetime(version.published_at)
        if version.cutover_at is not None:
            item.cutover_at.FromDatetime(version.cutover_at)
    return message
