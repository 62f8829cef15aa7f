"""Requests that were held, read as they were when they came."""

from __future__ import annotations

import codecs
from functools import partial

from google.protobuf.message import DecodeError
from payments.metering.v1 import metering_service_pb2

from services.metering.adapters.cloudevents import CloudEvents
from services.metering.domain.events import EVENTS_MAX
from services.metering.domain.spool import HeldCall
from services.metering.messages import cloudevents, intake
from services.metering.messages.cloudevents import ReadBatch
from services.metering.ports import ReadCall
from services.runtime.edge.validation import check_batch
from services.runtime.errors import UndecodableRequest


class Requests:
    """Reads requests of both kinds, those that come and those that were held.

    Args:
        cloud_events: reads bodies of CloudEvents.
    """

    def __init__(self, cloud_events: CloudEvents) -> None:
        self._cloud_events = cloud_events

    def events(self, request: metering_service_pb2.IngestEventsRequest) -> ReadCall:
        """Read a batch of events.

        Raises:
            InvalidField, BatchTooLarge: it is empty, or too long.
        """
        events = request.events
        check_batch(events, EVENTS_MAX, field="events")
        return ReadCall(
            len(events),
            partial(intake.request_ids_of, events),
            intake.skus_of(events),
            partial(intake.judge, events),
            partial(intake.refuse, events),
        )

    async def cloud_events(
        self, request: metering_service_pb2.IngestCloudEventsRequest
    ) -> ReadCall:
        """Read a batch of CloudEvents.

        Raises:
            DomainError: it is none, as the adapter says; InvalidField or BatchTooLarge: it is empty, or too long.
        """
        # The mark says how the text was stored, and is read at every door of JSON.
        body = request.raw_request.removeprefix(codecs.BOM_UTF8)
        read: ReadBatch = await self._cloud_events.read(request.content_type, request.headers, body)
        check_batch(read.events, EVENTS_MAX, field="events")
        return ReadCall(
            len(read.events),
            partial(intake.request_ids_of, read.events),
            read.skus,
            partial(cloudevents.judge, read),
            partial(intake.refuse, read.events),
        )

    async def read(self, call: HeldCall, content: bytes) -> ReadCall:
        """Read a request that was held. Raises DomainError."""
        try:
            if call is HeldCall.EVENTS:
                return self.events(metering_service_pb2.IngestEventsRequest.FromString(content))
            return await self.cloud_events(
                metering_service_pb2.IngestCloudEventsRequest.FromString(content)
            )
        except DecodeError as error:
            raise UndecodableRequest("the request that was held is cut off", method=call) from error
