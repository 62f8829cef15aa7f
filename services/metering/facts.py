"""What metering publishes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from payments.events.v1 import metering_events_pb2

from services.metering import domain
from services.metering.domain import Batch, Closing, Receipt, Total
from services.runtime.edge import values as edge
from services.runtime.money import format_decimal


def reported(receipt: Receipt, totals: Sequence[Total]) -> metering_events_pb2.UsageReported:
    """Tell what a batch added."""
    event = metering_events_pb2.UsageReported(
        receipt_id=receipt.receipt_id,
        accepted=receipt.accepted,
        totals_omitted=len(totals) > domain.TOTALS_MAX,
    )
    event.first_event_at.FromDatetime(min(total.first_event_at for total in totals))
    event.last_event_at.FromDatetime(max(total.last_event_at for total in totals))
    if not event.totals_omitted:
        event.totals.extend(_total(total) for total in totals)
    return event


def rejected(
    receipt_id: str, batch: Batch, now: datetime
) -> metering_events_pb2.UsageStatusChanged:
    """Tell how many events of a batch were rejected, and why."""
    event = metering_events_pb2.UsageStatusChanged(
        receipt_id=receipt_id,
        status_from="received",
        status_to="rejected",
        event_count=len(batch.rejections),
    )
    for reason, count in sorted(domain.rejections_by_reason(batch).items()):
        event.reasons.add(reason=reason, event_count=count)
    event.changed_at.FromDatetime(now)
    return event


def period_closed(closing: Closing) -> metering_events_pb2.UsagePeriodClosed:
    """Tell that a charge closed a period."""
    return metering_events_pb2.UsagePeriodClosed(
        org_id=closing.org_id,
        charge_id=closing.charge_id,
        usage_snapshot=closing.usage_snapshot,
        period=edge.period(closing.start_at, closing.end_at),
    )


def usage_late(
    closing: Closing, totals: Sequence[Total], receipt_id: str
) -> metering_events_pb2.UsageLate:
    """Tell what was stored for a charge's period after it had closed."""
    event = metering_events_pb2.UsageLate(
        org_id=closing.org_id,
        charge_id=closing.charge_id,
        receipt_id=receipt_id,
        event_count=sum(total.event_count for total in totals),
        totals_omitted=len(totals) > domain.TOTALS_MAX,
    )
    event.period.CopyFrom(edge.period(closing.start_at, closing.end_at))
    event.first_event_at.FromDatetime(min(total.first_event_at for total in totals))
    event.last_event_at.FromDatetime(max(total.last_event_at for total in totals))
    if not event.totals_omitted:
        event.totals.extend(_total(total) for total in totals)
    return event


def _total(total: Total) -> metering_events_pb2.UsageTotal:
    message = metering_events_pb2.UsageTotal(
        org_id=total.org_id,
        sku=total.sku,
        quantity=format_decimal(total.quantity),
        event_count=total.event_count,
    )
    message.first_event_at.FromDatetime(total.first_event_at)
    message.last_event_at.FromDatetime(total.last_event_at)
    return message
