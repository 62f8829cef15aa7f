"""MeteringService: proto to domain and back, one method an RPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from payments.metering.v1 import metering_service_pb2, metering_service_pb2_grpc

from services.metering import domain
from services.metering.app.metering import Metering
from services.metering.domain import LatePlace
from services.metering.messages import intake
from services.metering.messages import usage as messages
from services.runtime.commands import Commands, UseCase
from services.runtime.context import acting, current
from services.runtime.edge.paging import Page
from services.runtime.edge.validation import check_batch
from services.runtime.pipelining import in_order
from services.runtime.turns import in_slices

IN_FLIGHT_MAX = 4
"""Batches of one stream that are worked on at a time: enough to keep the database busy meanwhile."""
BATCH_SECONDS = 30.0
"""What one batch of a stream may take. A stream as a whole may last as long as it likes."""
SLICE_ROWS = 100
"""Rows of an answer that are written before others have their turn."""


class MeteringServicer(metering_service_pb2_grpc.MeteringServiceServicer):
    """Answers MeteringService."""

    def __init__(self, metering: Metering, commands: Commands) -> None:
        self._metering = metering
        self._commands = commands
        self._change_settings = UseCase(
            "metering.update_ingest_settings",
            metering.change_settings,
            messages.settings_changed,
            metering_service_pb2.UpdateIngestSettingsResponse,
        )

    async def IngestEvents(
        self, request: metering_service_pb2.IngestEventsRequest, context: Any
    ) -> metering_service_pb2.IngestEventsResponse:
        """Store a batch; a verdict an event."""
        return await self._ingest(request)

    async def StreamEvents(
        self,
        request_iterator: AsyncIterator[metering_service_pb2.StreamEventsRequest],
        context: Any,
    ) -> AsyncIterator[metering_service_pb2.StreamEventsResponse]:
        """Store the batches of a stream, several at a time; answer in order."""
        answers = in_order(request_iterator, self._ingest_of_stream, IN_FLIGHT_MAX)
        async with aclosing(answers):
            async for answer in answers:
                yield metering_service_pb2.StreamEventsResponse(result=answer)

    async def QueryUsage(
        self, request: metering_service_pb2.QueryUsageRequest, context: Any
    ) -> metering_service_pb2.QueryUsageResponse:
        """Aggregate usage."""
        usage = await self._metering.query_usage(messages.query(request))
        response = metering_service_pb2.QueryUsageResponse(usage_snapshot=usage.snapshot)
        async for row in in_slices(usage.rows, SLICE_ROWS):
            response.rows.append(messages.usage_row(row))
        return response

    async def ListLateEvents(
        self, request: metering_service_pb2.ListLateEventsRequest, context: Any
    ) -> metering_service_pb2.ListLateEventsResponse:
        """List usage that was stored for closed periods."""
        wanted = messages.late_filter(request)
        page = Page.of(request, f"late|{wanted}", {"org_id": str, "at": datetime, "key": UUID})
        after = None
        if page.after:
            place = page.after
            after = LatePlace(place["org_id"], place["at"], str(place["key"]))
        found = await self._metering.list_late(wanted, after, page.limit)
        late, token = page.cut(
            found,
            lambda last: {
                "org_id": last.place.org_id,
                "at": last.place.event_time.isoformat(),
                "key": last.place.event_key,
            },
        )
        return metering_service_pb2.ListLateEventsResponse(
            late_events=map(messages.late_event, late), next_page_token=token
        )

    async def GetIngestSettings(
        self, request: metering_service_pb2.GetIngestSettingsRequest, context: Any
    ) -> metering_service_pb2.GetIngestSettingsResponse:
        """Tell how far from now events may lie."""
        settings = await self._metering.ingest_settings()
        return metering_service_pb2.GetIngestSettingsResponse(
            ingest_settings=messages.settings(settings)
        )

    async def UpdateIngestSettings(
        self, request: metering_service_pb2.UpdateIngestSettingsRequest, context: Any
    ) -> metering_service_pb2.UpdateIngestSettingsResponse:
        """Set how far from now events may lie."""
        command = messages.to_change_settings(request)
        return await self._commands.run(self._change_settings, command, request)

    async def _ingest(
        self, request: metering_service_pb2.IngestEventsRequest
    ) -> metering_service_pb2.IngestEventsResponse:
        check_batch(request.events, domain.EVENTS_MAX)
        judge = partial(intake.judge, request.events)
        return messages.receipt(await self._metering.ingest(intake.skus_of(request.events), judge))

    async def _ingest_of_stream(
        self, request: metering_service_pb2.StreamEventsRequest
    ) -> metering_service_pb2.IngestEventsResponse:
        call = replace(current(), deadline_at=time.monotonic() + BATCH_SECONDS)
        with acting(call):
            async with asyncio.timeout(BATCH_SECONDS):
                return await self._ingest(request.batch)
