"""Late usage, as messages and back."""

from __future__ import annotations

from payments.metering.v1 import metering_pb2, metering_service_pb2

from services.metering.domain.late import LateEvent, LateFilter
from services.metering.messages.corrections import content
from services.runtime.edge.values import moment_of
from services.runtime.money import format_decimal


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
    said = late.content
    message = metering_pb2.LateEvent(
        request_id=said.request_id,
        org_id=said.org_id,
        project_id=said.project_id,
        sku=said.sku,
        quantity=format_decimal(said.quantity),
        source=said.source,  # type: ignore[arg-type] # stored as the number that came
        metadata=said.metadata,
        charge_id=late.charge_id,
        receipt_id=late.receipt_id,
        change=_change(late),
        version=late.place.version,
        before=None if late.before is None else content(late.before),
        ordinal=late.ordinal,
    )
    message.event_time.FromDatetime(said.event_time)
    message.recorded_at.FromDatetime(late.recorded_at)
    return message


def _change(late: LateEvent) -> metering_pb2.UsageChange.ValueType:
    if late.before is None:
        return metering_pb2.USAGE_CHANGE_STORED
    return (
        metering_pb2.USAGE_CHANGE_CANCELLED if late.cancelled else metering_pb2.USAGE_CHANGE_AMENDED
    )
