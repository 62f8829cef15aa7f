"""MeteringService: proto to domain and back, one method an RPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from payments.metering.v1 import metering_pb2, metering_service_pb2, metering_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.metering import domain, intake
from services.metering.app import Metering
from services.metering.domain import (
    Aggregation,
    IngestSettings,
    LateEvent,
    LateFilter,
    LatePlace,
    Receipt,
    UsageQuery,
    Verdict,
    Window,
)
from services.metering.pipelining import in_order
from services.runtime.context import acting, current
from services.runtime.database import UnitOfWork
from services.runtime.edge.paging import clamp_page_size, decode_token, encode_token
from services.runtime.edge.validation import check_batch
from services.runtime.idempotency import Idempotency
from services.runtime.money import format_decimal
from services.runtime.turns import in_slices

IN_FLIGHT_MAX = 4
"""Batches of one stream that are worked on at a time: enough to keep the database busy meanwhile."""
BATCH_SECONDS = 30.0
# Rows of an answer that are written before others have their turn.
SLICE_ROWS = 100
"""What one batch of a stream may take. A stream as a whole may last as long as it likes."""

_WINDOWS = {
    metering_pb2.WINDOW_UNSPECIFIED: Window.NONE,
    metering_pb2.WINDOW_NONE: Window.NONE,
    metering_pb2.WINDOW_HOUR: Window.HOUR,
    metering_pb2.WINDOW_DAY: Window.DAY,
    metering_pb2.WINDOW_MONTH: Window.MONTH,
}
_AGGREGATIONS = {
    type_pb2.AGGREGATION_UNSPECIFIED: Aggregation.SUM,
    type_pb2.AGGREGATION_SUM: Aggregation.SUM,
    type_pb2.AGGREGATION_COUNT: Aggregation.COUNT,
}


_OUTCOMES = {
    Verdict.DUPLICATE: type_pb2.OUTCOME_DUPLICATE,
    Verdict.CONFLICT: type_pb2.OUTCOME_CONFLICT,
    Verdict.REJECTED: type_pb2.OUTCOME_REJECTED,
}


class MeteringServicer(metering_service_pb2_grpc.MeteringServiceServicer):
    """Answers MeteringService."""

    def __init__(self, metering: Metering, idempotency: Idempotency) -> None:
        self._metering = metering
        self._idempotency = idempotency

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
        usage = await self._metering.query_usage(_query(request))
        response = metering_service_pb2.QueryUsageResponse(usage_snapshot=usage.snapshot)
        async for row in in_slices(usage.rows, SLICE_ROWS):
            response.rows.append(_row(row))
        return response

    async def ListLateEvents(
        self, request: metering_service_pb2.ListLateEventsRequest, context: Any
    ) -> metering_service_pb2.ListLateEventsResponse:
        """List usage that was stored for closed periods."""
        wanted = _late_filter(request)
        scope = f"late|{wanted}"
        after = _late_place(request.page_token, scope)
        found, more = await self._metering.list_late(
            wanted, after, clamp_page_size(request.page_size)
        )
        response = metering_service_pb2.ListLateEventsResponse(
            late_events=[_late_event(item) for item in found]
        )
        if more:
            place = found[-1].place
            position = {
                "org_id": place.org_id,
                "at": place.event_time.isoformat(),
                "key": place.event_key,
            }
            response.next_page_token = encode_token(position, scope)
        return response

    async def GetIngestSettings(
        self, request: metering_service_pb2.GetIngestSettingsRequest, context: Any
    ) -> metering_service_pb2.GetIngestSettingsResponse:
        """Tell how far from now events may lie."""
        settings = await self._metering.ingest_settings()
        return metering_service_pb2.GetIngestSettingsResponse(ingest_settings=_settings(settings))

    async def UpdateIngestSettings(
        self, request: metering_service_pb2.UpdateIngestSettingsRequest, context: Any
    ) -> metering_service_pb2.UpdateIngestSettingsResponse:
        """Set how far from now events may lie."""
        past = _delta(request.accept_past) if request.HasField("accept_past") else None
        future = _delta(request.accept_future) if request.HasField("accept_future") else None

        async def update(
            work: UnitOfWork,
        ) -> metering_service_pb2.UpdateIngestSettingsResponse:
            settings = await self._metering.update_ingest_settings(work, past, future)
            return metering_service_pb2.UpdateIngestSettingsResponse(
                ingest_settings=_settings(settings)
            )

        response = await self._idempotency.once(
            "metering.update_ingest_settings",
            request,
            metering_service_pb2.UpdateIngestSettingsResponse,
            update,
        )
        self._metering.settings_changed()
        return response

    async def _ingest(
        self, request: metering_service_pb2.IngestEventsRequest
    ) -> metering_service_pb2.IngestEventsResponse:
        check_batch(request.events, domain.EVENTS_MAX)
        judge = partial(intake.judge, request.events)
        return _receipt(await self._metering.ingest(intake.skus_of(request.events), judge))

    async def _ingest_of_stream(
        self, request: metering_service_pb2.StreamEventsRequest
    ) -> metering_service_pb2.IngestEventsResponse:
        call = replace(current(), deadline_at=time.monotonic() + BATCH_SECONDS)
        with acting(call):
            async with asyncio.timeout(BATCH_SECONDS):
                return await self._ingest(request.batch)


def _receipt(receipt: Receipt) -> metering_service_pb2.IngestEventsResponse:
    response = metering_service_pb2.IngestEventsResponse(
        accepted=receipt.accepted,
        duplicate=receipt.duplicate,
        conflict=receipt.conflict,
        rejected=receipt.rejected,
        receipt_id=receipt.receipt_id,
    )
    for problem in receipt.problems:
        response.problems.add(
            index=problem.index,
            request_id=problem.request_id,
            outcome=_OUTCOMES[problem.verdict],
            reason=problem.reason,
            message=problem.message,
        )
    return response


def _query(request: metering_service_pb2.QueryUsageRequest) -> UsageQuery:
    aggregation = _AGGREGATIONS.get(request.aggregation)
    if aggregation is None:
        name = type_pb2.Aggregation.Name(request.aggregation).removeprefix("AGGREGATION_")
        supported = ",".join(Aggregation)
        raise domain.AggregationUnsupported(
            f"usage cannot be aggregated by {name} yet; ask for one of {supported}",
            aggregation=name,
            supported=supported,
        )
    return UsageQuery(
        org_id=request.org_id,
        project_id=request.project_id,
        skus=sorted(set(request.skus)),
        start_at=request.period.start_at.ToDatetime(tzinfo=UTC),
        end_at=request.period.end_at.ToDatetime(tzinfo=UTC),
        window=_WINDOWS[request.window],
        time_zone=request.time_zone,
        group_by=list(request.group_by),
        aggregation=aggregation,
    )


def _late_filter(request: metering_service_pb2.ListLateEventsRequest) -> LateFilter:
    if not request.HasField("period"):
        return LateFilter(request.org_id)
    return LateFilter(
        request.org_id,
        request.period.start_at.ToDatetime(UTC),
        request.period.end_at.ToDatetime(UTC),
    )


def _late_place(page_token: str, scope: str) -> LatePlace | None:
    if not page_token:
        return None
    position = decode_token(page_token, scope, {"org_id": str, "at": datetime, "key": UUID})
    return LatePlace(position["org_id"], position["at"], str(position["key"]))


def _late_event(late: LateEvent) -> metering_pb2.LateEvent:
    message = metering_pb2.LateEvent(
        request_id=late.request_id,
        org_id=late.place.org_id,
        project_id=late.project_id,
        sku=late.sku,
        quantity=format_decimal(late.quantity),
        source=late.source,  # type: ignore[arg-type] # stored as the number that came
        metadata=late.metadata,
        charge_id=late.charge_id,
        receipt_id=late.receipt_id,
    )
    message.event_time.FromDatetime(late.place.event_time)
    message.recorded_at.FromDatetime(late.recorded_at)
    return message


def _row(row: domain.UsageRow) -> metering_pb2.UsageRow:
    message = metering_pb2.UsageRow(
        sku=row.sku,
        project_id=row.project_id,
        group=row.group,
        value=format_decimal(row.value),
        event_count=row.event_count,
    )
    message.window_start_at.FromDatetime(row.window_start_at)
    message.window_end_at.FromDatetime(row.window_end_at)
    message.first_event_at.FromDatetime(row.first_event_at)
    message.last_event_at.FromDatetime(row.last_event_at)
    return message


def _settings(settings: IngestSettings) -> metering_pb2.IngestSettings:
    message = metering_pb2.IngestSettings()
    message.accept_past.FromTimedelta(settings.accept_past)
    message.accept_future.FromTimedelta(settings.accept_future)
    if settings.updated_at is not None:
        message.updated_at.FromDatetime(settings.updated_at)
    return message


def _delta(duration: Duration) -> timedelta:
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)
