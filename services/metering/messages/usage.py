"""Usage, receipts and settings, as messages and back."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from payments.metering.v1 import metering_pb2, metering_service_pb2
from payments.type.v1 import type_pb2

from services.metering import domain
from services.metering.domain import (
    Aggregation,
    ChangeSettings,
    IngestSettings,
    LateEvent,
    LateFilter,
    Receipt,
    UsageQuery,
    Verdict,
    Window,
)
from services.runtime.edge.values import moment_of
from services.runtime.money import format_decimal

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


def to_change_settings(
    request: metering_service_pb2.UpdateIngestSettingsRequest,
) -> ChangeSettings:
    """Read how far from now events may lie."""
    return ChangeSettings(
        _delta(request.accept_past) if request.HasField("accept_past") else None,
        _delta(request.accept_future) if request.HasField("accept_future") else None,
    )


def settings_changed(held: IngestSettings) -> metering_service_pb2.UpdateIngestSettingsResponse:
    """Write settings that were changed."""
    return metering_service_pb2.UpdateIngestSettingsResponse(ingest_settings=settings(held))


def receipt(stored: Receipt) -> metering_service_pb2.IngestEventsResponse:
    """Write the receipt of a batch."""
    response = metering_service_pb2.IngestEventsResponse(
        accepted=stored.accepted,
        duplicate=stored.duplicate,
        conflict=stored.conflict,
        rejected=stored.rejected,
        receipt_id=stored.receipt_id,
    )
    for problem in stored.problems:
        response.problems.add(
            index=problem.index,
            request_id=problem.request_id,
            outcome=_OUTCOMES[problem.verdict],
            reason=problem.reason,
            message=problem.message,
        )
    return response


def query(request: metering_service_pb2.QueryUsageRequest) -> UsageQuery:
    """Read a query of usage. Raises AggregationUnsupported."""
    aggregation = _AGGREGATIONS.get(request.aggregation)
    if aggregation is None:
        name = type_pb2.Aggregation.Name(request.aggregation).removeprefix("AGGREGATION_")
        supported = ",".join(Aggregation)
        raise domain.AggregationUnsupported(
            f"usage cannot be aggregated by {name} yet; use one of {supported}",
            aggregation=name,
            supported=supported,
        )
    return UsageQuery(
        org_id=request.org_id,
        project_id=request.project_id,
        skus=sorted(set(request.skus)),
        start_at=moment_of(request.period.start_at),
        end_at=moment_of(request.period.end_at),
        window=_WINDOWS[request.window],
        time_zone=request.time_zone,
        group_by=list(request.group_by),
        aggregation=aggregation,
    )


def late_filter(request: metering_service_pb2.ListLateEventsRequest) -> LateFilter:
    """Read which late events are asked for."""
    if not request.HasField("period"):
        return LateFilter(request.org_id)
    return LateFilter(
        request.org_id,
        moment_of(request.period.start_at),
        moment_of(request.period.end_at),
    )


def late_event(late: LateEvent) -> metering_pb2.LateEvent:
    """Write a late event."""
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


def usage_row(row: domain.UsageRow) -> metering_pb2.UsageRow:
    """Write a row of usage."""
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


def settings(held: IngestSettings) -> metering_pb2.IngestSettings:
    """Write ingest held."""
    message = metering_pb2.IngestSettings()
    message.accept_past.FromTimedelta(held.accept_past)
    message.accept_future.FromTimedelta(held.accept_future)
    if held.updated_at is not None:
        message.updated_at.FromDatetime(held.updated_at)
    return message


def _delta(duration: Duration) -> timedelta:
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)
