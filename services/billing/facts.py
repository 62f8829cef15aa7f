"""What billing publishes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from payments.events.v1.billing_events_pb2 import (
    ChargeCreated,
    ChargeReversed,
    RatingCompleted,
    RatingFailed,
    UsageAggregated,
    UsageRated,
)

from services.billing.domain.charges import Charge, Span, Total
from services.runtime.edge import values as edge
from services.runtime.errors import DomainError
from services.runtime.money import format_decimal

# In one `usage.aggregated` or `usage.rated`, so that the event stays small whatever the charge.
LINES_TOLD_MAX = 500


def usage_aggregated(
    charge: Charge, totals: Sequence[Total], carried_skus: Sequence[str]
) -> UsageAggregated:
    """Tell which usage a charge saw; one that adjusts another saw all of the period's.

    Args:
        carried_skus: what of it was read as levels, used or not.
    """
    event = UsageAggregated(
        org_id=charge.org_id,
        charge_id=charge.charge_id,
        usage_snapshot=charge.usage_snapshot,
        adjusts_charge_id=charge.adjusts_charge_id,
        totals_omitted=len(totals) > LINES_TOLD_MAX,
        usage_ordinal=charge.usage_ordinal,
        carried_skus=carried_skus,
    )
    event.period.CopyFrom(edge.period(charge.period.start_at, charge.period.end_at))
    for total in () if event.totals_omitted else totals:
        event.totals.add(
            sku=total.sku, project_id=total.project_id, quantity=format_decimal(total.quantity)
        )
    return event


def usage_rated(charge: Charge, totals: Sequence[Total]) -> UsageRated:
    """Tell what the usage that a charge saw came to."""
    event = UsageRated(
        org_id=charge.org_id,
        charge_id=charge.charge_id,
        plan_id=charge.plan_id,
        plan_version=charge.plan_version,
        usage_snapshot=charge.usage_snapshot,
        adjusts_charge_id=charge.adjusts_charge_id,
        lines_omitted=len(totals) > LINES_TOLD_MAX,
        usage_ordinal=charge.usage_ordinal,
    )
    event.period.CopyFrom(edge.period(charge.period.start_at, charge.period.end_at))
    for total in () if event.lines_omitted else totals:
        told = event.lines.add(
            sku=total.sku, project_id=total.project_id, quantity=format_decimal(total.quantity)
        )
        told.amount.CopyFrom(edge.money(total.amount))
    return event


def rating_failed(
    request_id: str, org_id: str, period: Span, error: DomainError, now: datetime
) -> RatingFailed:
    """Tell that usage could not be rated, and why."""
    event = RatingFailed(
        org_id=org_id,
        request_id=request_id,
        reason=error.reason,
        message=error.message[:1000],
    )
    event.period.CopyFrom(edge.period(period.start_at, period.end_at))
    event.failed_at.FromDatetime(now)
    return event


def rating_completed(charge: Charge) -> RatingCompleted:
    """Tell that a charge was rated and posted."""
    event = RatingCompleted(
        org_id=charge.org_id,
        charge_id=charge.charge_id,
        plan_id=charge.plan_id,
        plan_version=charge.plan_version,
        usage_snapshot=charge.usage_snapshot,
        usage_ordinal=charge.usage_ordinal,
        line_count=len(charge.lines),
    )
    event.period.CopyFrom(edge.period(charge.period.start_at, charge.period.end_at))
    event.total.CopyFrom(edge.money(charge.total))
    return event


def charge_created(charge: Charge) -> ChargeCreated:
    """Return the event of a charge."""
    event = ChargeCreated(
        charge_id=charge.charge_id,
        org_id=charge.org_id,
        line_count=len(charge.lines),
        adjusts_charge_id=charge.adjusts_charge_id,
        kind=charge.kind.name,
        partner_line_count=sum(1 for line in charge.lines if line.partner_amount.minor_units),
    )
    event.period.CopyFrom(edge.period(charge.period.start_at, charge.period.end_at))
    event.created_at.FromDatetime(charge.created_at)
    event.total.CopyFrom(edge.money(charge.total))
    event.partner_total.CopyFrom(edge.money(charge.partner_total))
    if charge.taxes:
        event.total_with_tax.CopyFrom(edge.money(charge.total_with_tax))
    return event


def charge_reversed(base: Charge, reversal: Charge) -> ChargeReversed:
    """Tell that a charge was taken back, with its corrections, and its period is free."""
    event = ChargeReversed(
        charge_id=base.charge_id,
        org_id=base.org_id,
        reversal_charge_id=reversal.charge_id,
        reason=reversal.cause,
    )
    event.period.CopyFrom(edge.period(base.period.start_at, base.period.end_at))
    event.total.CopyFrom(edge.money(reversal.total))
    event.reversed_at.FromDatetime(reversal.created_at)
    return event
