"""Types of events, and publishing them from outside."""

from __future__ import annotations

import codecs
from datetime import UTC
from typing import Any

from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.events import incoming
from services.events.app.publisher import Publisher
from services.events.app.types import Registered, TypeRegistry
from services.events.checks import Checks
from services.events.domain.cloudevents import CloudEventInvalid, CloudEventUnsupported
from services.events.domain.outside import EventOutcome, Verdict
from services.events.domain.payloads import PayloadInvalid
from services.events.domain.types import EventType, Version
from services.runtime.edge import validation
from services.runtime.edge.paging import clamp_page_size, decode_token, encode_token
from services.runtime.errors import DomainError, FieldViolation, InvalidField
from services.runtime.outbox.subjects import is_subject, split_version
from services.runtime.texts import encodable
from services.runtime.turns import in_slices

TYPES_PER_CALL_MAX = 100
# Of the schemas on one page of types: what is left of a message's size is ample for the rest.
TYPES_PAGE_BYTES_MAX = 4 * 1024 * 1024

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


class TypeRpcs(events_service_pb2_grpc.EventServiceServicer):
    """RegisterEventTypes, ListEventTypes, GetEventType, PublishEvents and PublishCloudEvents."""

    _types: TypeRegistry
    _publisher: Publisher
    _checks: Checks

    async def RegisterEventTypes(
        self, request: events_service_pb2.RegisterEventTypesRequest, context: Any
    ) -> events_service_pb2.RegisterEventTypesResponse:
        """Register types, each judged by itself."""
        validation.check_batch(request.event_types, TYPES_PER_CALL_MAX, field="event_types")
        faults = [_type_faults(item) async for item in in_slices(request.event_types, 1)]
        sound = [item for item, fault in zip(request.event_types, faults, strict=True) if not fault]
        done = iter(await self._types.register([type_of(item) for item in sound]) if sound else ())
        response = events_service_pb2.RegisterEventTypesResponse()
        for index, (item, fault) in enumerate(zip(request.event_types, faults, strict=True)):
            verdict = Registered(None, 0, InvalidField.of(fault)) if fault else next(done)
            result = response.results.add(
                index=index, subject=item.subject[:200], version=verdict.version
            )
            _tell(result, verdict.error)
            if verdict.registration is not None:
                same = verdict.registration.is_same
                result.outcome = type_pb2.OUTCOME_DUPLICATE if same else type_pb2.OUTCOME_ACCEPTED
            else:
                result.outcome = type_pb2.OUTCOME_REJECTED
        return response

    async def ListEventTypes(
        self, request: events_service_pb2.ListEventTypesRequest, context: Any
    ) -> events_service_pb2.ListEventTypesResponse:
        """List types by subject."""
        scope = "events.types"
        token = decode_token(request.page_token, scope, {"subject": str})
        limit = clamp_page_size(request.page_size)
        found = await self._types.page(token.get("subject", ""), limit + 1)
        response = events_service_pb2.ListEventTypesResponse()
        size = 0
        for type_ in found[:limit]:
            message = message_of(type_)
            size += message.ByteSize()
            if response.event_types and size > TYPES_PAGE_BYTES_MAX:
                break
            response.event_types.append(message)
        if len(response.event_types) < len(found):
            last = response.event_types[-1].subject
            response.next_page_token = encode_token({"subject": last}, scope)
        return response

    async def GetEventType(
        self, request: events_service_pb2.GetEventTypeRequest, context: Any
    ) -> events_service_pb2.GetEventTypeResponse:
        """Read a type."""
        try:
            subject, _ = split_version(request.subject)
        except ValueError as error:
            raise InvalidField.one("subject", str(error)) from error
        found = await self._types.get(subject)
        return events_service_pb2.GetEventTypeResponse(event_type=message_of(found))

    async def PublishEvents(
        self, request: events_service_pb2.PublishEventsRequest, context: Any
    ) -> events_service_pb2.PublishEventsResponse:
        """Publish events of outside producers, each judged by itself."""
        _drop_mark(request)
        verdicts = await self._publisher.publish(await incoming.read(self._checks, request))
        return events_service_pb2.PublishEventsResponse(
            results=[_result(index, verdict) for index, verdict in enumerate(verdicts)]
        )

    async def PublishCloudEvents(
        self, request: events_service_pb2.PublishCloudEventsRequest, context: Any
    ) -> events_service_pb2.PublishCloudEventsResponse:
        """Publish CloudEvents of outside producers, each judged by itself."""
        _drop_mark(request)
        verdicts = await self._publisher.publish(
            await incoming.read_cloud_events(self._checks, request)
        )
        response = events_service_pb2.PublishCloudEventsResponse()
        for index, verdict in enumerate(verdicts):
            result = _result(index, verdict)
            if not isinstance(verdict.error, _POINTED):
                result.pointer = _ATTRIBUTES.get(result.pointer, result.pointer)
            response.results.append(result)
        return response


def _drop_mark(
    request: events_service_pb2.PublishEventsRequest | events_service_pb2.PublishCloudEventsRequest,
) -> None:
    """Take the byte order mark off a body: it says how the text was stored, and is read at every door of JSON."""
    if request.raw_request.startswith(codecs.BOM_UTF8):
        request.raw_request = request.raw_request.removeprefix(codecs.BOM_UTF8)


def _result(index: int, verdict: Verdict) -> events_service_pb2.PublishEventResult:
    result = events_service_pb2.PublishEventResult(
        index=index, id=encodable(verdict.event_id), outcome=_OUTCOMES[verdict.outcome]
    )
    _tell(result, verdict.error)
    return result


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


def _type_faults(message: events_pb2.EventType) -> list[FieldViolation]:
    """Return what is wrong with a declared type, short of its schemas."""
    found = validation.violations(message)
    if not found and not is_subject(message.subject):
        found.append(
            FieldViolation("subject", "leave out the version: the list of versions tells it")
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
