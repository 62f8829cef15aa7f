"""Usage, receipts and settings, as messages and back."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from payments.metering.v1 import metering_pb2, metering_service_pb2
from payments.type.v1 import type_pb2

from services.metering.domain.aggregations import Aggregation
from services.metering.domain.receipts import Problem, Receipt, Verdict
from services.metering.domain.settings import (
    ChangeSettings,
    IngestSettings,
    LatePolicy,
    allowed_by,
    rolled_by,
)
from services.metering.domain.usage import (
    AggregationUnsupported,
    EventsQuery,
    Freshness,
    UsageQuery,
    UsageRow,
    Window,
)
from services.runtime.edge.values import moment_of
from services.runtime.errors import InvalidField
from services.runtime.money import format_decimal

_WINDOWS = {
    metering_pb2.WINDOW_UNSPECIFIED: Window.NONE,
    metering_pb2.WINDOW_NONE: Window.NONE,
    metering_pb2.WINDOW_HOUR: Window.HOUR,
    metering_pb2.WINDOW_DAY: Window.DAY,
    metering_pb2.WINDOW_MONTH: Window.MONTH,
}
_FRESHNESS = {
    metering_pb2.FRESHNESS_UNSPECIFIED: Freshness.EXACT,
    metering_pb2.FRESHNESS_EXACT: Freshness.EXACT,
    metering_pb2.FRESHNESS_ROLLED_UP: Freshness.ROLLED_UP,
}
_AGGREGATIONS = {
    type_pb2.AGGREGATION_UNSPECIFIED: Aggregation.SUM,
    **{type_pb2.Aggregation.Value(f"AGGREGATION_{item}"): item for item in Aggregation},
}

_LATE = {
    metering_pb2.LATE_POLICY_ADJUST: LatePolicy.ADJUST,
    metering_pb2.LATE_POLICY_REJECT: LatePolicy.REJECT,
}
_LATE_WRITTEN = {policy: number for number, policy in _LATE.items()}
_OUTCOMES = {
    Verdict.DUPLICATE: type_pb2.OUTCOME_DUPLICATE,
    Verdict.CONFLICT: type_pb2.OUTCOME_CONFLICT,
    Verdict.REJECTED: type_pb2.OUTCOME_REJECTED,
    Verdict.ENQUEUED: type_pb2.OUTCOME_ENQUEUED,
}


def to_change_settings(
    request: metering_service_pb2.UpdateIngestSettingsRequest,
) -> ChangeSettings:
    """Read which events are to be taken. Raises InvalidField."""
    return ChangeSettings(
        _delta(request.accept_past) if request.HasField("accept_past") else None,
        _delta(request.accept_future) if request.HasField("accept_future") else None,
        _LATE.get(request.late),
        allowed_by(tuple(request.metadata_allowed), takes_any=request.metadata_any),
        rolled_by(tuple(request.rollup_keys), by_none=request.rollup_keys_none),
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
        enqueued=stored.enqueued,
    )
    response.problems.extend(map(problem_of, stored.problems))
    return response


def problem_of(problem: Problem) -> metering_pb2.EventProblem:
    """Write the verdict on an event that was not accepted."""
    return metering_pb2.EventProblem(
        index=problem.index,
        request_id=problem.request_id,
        outcome=_OUTCOMES[problem.verdict],
        reason=problem.reason,
        message=problem.message,
    )


def query(request: metering_service_pb2.QueryUsageRequest) -> UsageQuery:
    """Read a query of usage. Raises AggregationUnsupported and InvalidField."""
    aggregation = _AGGREGATIONS.get(request.aggregation)
    if aggregation is None:
        name = type_pb2.Aggregation.Name(request.aggregation).removeprefix("AGGREGATION_")
        supported = ",".join(Aggregation)
        raise AggregationUnsupported(
            f"usage cannot be aggregated by {name}; use one of {supported}",
            aggregation=name,
            supported=supported,
        )
    freshness = _FRESHNESS[request.freshness]
    if freshness is Freshness.ROLLED_UP and request.HasField("at_ordinal"):
        raise InvalidField.one("freshness", "leave it out where at_ordinal is given")
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
        at_ordinal=request.at_ordinal if request.HasField("at_ordinal") else None,
        metadata=dict(request.metadata),
        with_log_root=request.with_log_root,
        freshness=freshness,
    )


def events_query(request: metering_service_pb2.ListEventsRequest) -> EventsQuery:
    """Read which events to list."""
    return EventsQuery(
        org_id=request.org_id,
        sku=request.sku,
        start_at=moment_of(request.period.start_at),
        end_at=moment_of(request.period.end_at),
        at_ordinal=request.at_ordinal if request.HasField("at_ordinal") else None,
    )


def usage_row(row: UsageRow) -> metering_pb2.UsageRow:
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
    if row.first_event_at is not None:
        message.first_event_at.FromDatetime(row.first_event_at)
    if row.last_event_at is not None:
        message.last_event_at.FromDatetime(row.last_event_at)
    return message


def settings(held: IngestSettings) -> metering_pb2.IngestSettings:
    """Write ingest held."""
    message = metering_pb2.IngestSettings(
        late=_LATE_WRITTEN[held.late],
        metadata_allowed=held.metadata_allowed,
        rollup_keys=held.rollup_keys,
    )
    message.accept_past.FromTimedelta(held.accept_past)
    message.accept_future.FromTimedelta(held.accept_future)
    if held.updated_at is not None:
        message.updated_at.FromDatetime(held.updated_at)
    return message


def _delta(duration: Duration) -> timedelta:
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)
