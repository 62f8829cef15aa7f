"""What metering publishes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from payments.events.v1 import guardrail_events_pb2, metering_events_pb2

from services.metering.domain.budgets import BudgetPeriod, Crossing
from services.metering.domain.events import Batch, rejections_by_reason
from services.metering.domain.late import Closing
from services.metering.domain.receipts import TOTALS_MAX, Receipt, Total
from services.runtime.edge import values as edge
from services.runtime.money import format_decimal


def reported(receipt: Receipt, totals: Sequence[Total]) -> metering_events_pb2.UsageReported:
    """Tell what a batch added."""
    event = metering_events_pb2.UsageReported(
        receipt_id=receipt.receipt_id,
        accepted=receipt.accepted,
        totals_omitted=len(totals) > TOTALS_MAX,
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
    for reason, count in sorted(rejections_by_reason(batch).items()):
        event.reasons.add(reason=reason, event_count=count)
    event.changed_at.FromDatetime(now)
    return event


def period_closed(closing: Closing) -> metering_events_pb2.UsagePeriodClosed:
    """Tell that a charge closed a period."""
    return metering_events_pb2.UsagePeriodClosed(
        org_id=closing.org_id,
        charge_id=closing.charge_id,
        usage_snapshot=closing.usage_snapshot,
        usage_ordinal=closing.usage_ordinal,
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
        totals_omitted=len(totals) > TOTALS_MAX,
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


def threshold_reached(
    crossing: Crossing, now: datetime
) -> guardrail_events_pb2.BudgetThresholdReached:
    """Tell that what is used of a budget has come to a threshold."""
    budget = crossing.budget
    event = guardrail_events_pb2.BudgetThresholdReached(
        budget_id=budget.budget_id,
        org_id=budget.org_id,
        sku=budget.sku,
        mode=budget.mode.value.lower(),
        threshold_pct=crossing.threshold_pct,
        limit=format_decimal(budget.limit),
        used=format_decimal(crossing.used),
        currency_code=budget.currency_code,
        reached_at=edge.stamp(now),
    )
    if budget.period is not BudgetPeriod.TOTAL:
        start_at, end_at = budget.bounds(crossing.start_at)
        event.start_at.CopyFrom(edge.stamp(start_at))
        event.end_at.CopyFrom(edge.stamp(end_at))
    return event
