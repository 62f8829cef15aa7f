"""Types of events, and publishing them from outside."""

from __future__ import annotations

import codecs
from typing import Any

from payments.events.v1 import events_service_pb2, events_service_pb2_grpc

from services.events.adapters.checks import Checks
from services.events.app.publisher import Publisher
from services.events.app.types import TypeRegistry
from services.events.domain.types import Registered
from services.events.messages import types as messages
from services.events.servicer import incoming
from services.runtime.edge import validation
from services.runtime.edge.paging import Page
from services.runtime.errors import InvalidField
from services.runtime.outbox.subjects import split_version
from services.runtime.turns import in_slices

TYPES_PER_CALL_MAX = 100


class TypeRpcs(events_service_pb2_grpc.EventServiceServicer):
    """RegisterEventTypes, ListEventTypes, GetEventType, PublishEvents and PublishCloudEvents."""

    def __init__(self, types: TypeRegistry, publisher: Publisher, checks: Checks) -> None:
        self._types = types
        self._publisher = publisher
        self._checks = checks

    async def RegisterEventTypes(
        self, request: events_service_pb2.RegisterEventTypesRequest, context: Any
    ) -> events_service_pb2.RegisterEventTypesResponse:
        """Register types, each judged by itself."""
        asked = request.event_types
        validation.check_batch(asked, TYPES_PER_CALL_MAX, field="event_types")
        faults = [
            validation.unreadable(request, index) or messages.type_faults(item)
            async for index, item in in_slices(enumerate(asked), 1)
        ]
        sound = [
            messages.type_of(item) for item, fault in zip(asked, faults, strict=True) if not fault
        ]
        done = iter(await self._types.register(sound) if sound else ())
        verdicts = [
            Registered(None, 0, InvalidField.of(fault)) if fault else next(done) for fault in faults
        ]
        numbered = enumerate(zip(asked, verdicts, strict=True))
        return events_service_pb2.RegisterEventTypesResponse(
            results=[
                messages.registration(index, item.subject, verdict)
                for index, (item, verdict) in numbered
            ]
        )

    async def ListEventTypes(
        self, request: events_service_pb2.ListEventTypesRequest, context: Any
    ) -> events_service_pb2.ListEventTypesResponse:
        """List types by subject."""
        page = Page.of(request, "events.types", {"subject": str})
        found = await self._types.page(page.after.get("subject", ""), page.limit)
        types, token = await page.cut(
            found, messages.message_of, lambda last: {"subject": last.subject}
        )
        return events_service_pb2.ListEventTypesResponse(event_types=types, next_page_token=token)

    async def GetEventType(
        self, request: events_service_pb2.GetEventTypeRequest, context: Any
    ) -> events_service_pb2.GetEventTypeResponse:
        """Read a type."""
        try:
            subject, _ = split_version(request.subject)
        except ValueError as error:
            raise InvalidField.one("subject", str(error)) from error
        found = await self._types.get(subject)
        return events_service_pb2.GetEventTypeResponse(event_type=messages.message_of(found))

    async def PublishEvents(
        self, request: events_service_pb2.PublishEventsRequest, context: Any
    ) -> events_service_pb2.PublishEventsResponse:
        """Publish events of outside producers, each judged by itself."""
        _drop_mark(request)
        verdicts = await self._publisher.publish(await incoming.read(self._checks, request))
        return events_service_pb2.PublishEventsResponse(
            results=[messages.result(index, verdict) for index, verdict in enumerate(verdicts)]
        )

    async def PublishCloudEvents(
        self, request: events_service_pb2.PublishCloudEventsRequest, context: Any
    ) -> events_service_pb2.PublishCloudEventsResponse:
        """Publish CloudEvents of outside producers, each judged by itself."""
        _drop_mark(request)
        read = await incoming.read_cloud_events(self._checks, request)
        verdicts = enumerate(await self._publisher.publish(read))
        return events_service_pb2.PublishCloudEventsResponse(
            results=[messages.cloud_event_result(index, verdict) for index, verdict in verdicts]
        )


def _drop_mark(
    request: events_service_pb2.PublishEventsRequest | events_service_pb2.PublishCloudEventsRequest,
) -> None:
    """Take the byte order mark off a body: it says how the text was stored, and is read at every door of JSON."""
    if request.raw_request.startswith(codecs.BOM_UTF8):
        request.raw_request = request.raw_request.removeprefix(codecs.BOM_UTF8)
