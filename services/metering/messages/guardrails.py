"""Budgets and holds, as messages and back."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from payments.metering.v1 import guardrail_service_pb2, guardrails_pb2
from payments.type.v1 import type_pb2

from services.metering.domain.budgets import (
    Budget,
    BudgetMode,
    BudgetPeriod,
    BudgetStatus,
    BudgetView,
)
from services.metering.domain.enforcing import hold_id_of
from services.metering.domain.holds import HOLD_PREFIX, Hold, HoldStatus, Share
from services.metering.domain.usage import zone
from services.runtime.edge import values as edge
from services.runtime.errors import InvalidField, NotFound
from services.runtime.money import (
    Money,
    exponent,
    format_decimal,
    parse_decimal,
    round_to_minor,
    to_decimal,
)

_PERIODS = edge.Names(BudgetPeriod, guardrails_pb2.BudgetPeriod, "BUDGET_PERIOD_")
_MODES = edge.Names(BudgetMode, guardrails_pb2.BudgetMode, "BUDGET_MODE_")
_STATUSES = edge.Names(HoldStatus, guardrails_pb2.HoldStatus, "HOLD_STATUS_")
# Of a budget that is not stored yet.
_NO_SERIES = UUID(int=0)


def budget_of(item: guardrails_pb2.Budget) -> Budget:
    """Read a budget. Raises UnknownCurrency, UnknownTimeZone, InvalidField."""
    zone(item.time_zone)
    period, mode = _PERIODS.read(item.period), _MODES.read(item.mode)
    assert period is not None and mode is not None, "the rules of the message"
    limit, currency_code = _limit_of(item)
    return Budget(
        budget_id=item.budget_id,
        series=_NO_SERIES,
        org_id=item.org_id,
        sku=item.sku,
        period=period,
        time_zone=item.time_zone or "UTC",
        limit=limit,
        currency_code=currency_code,
        mode=mode,
        thresholds_pct=tuple(sorted(item.thresholds_pct)),
        enforce_in_ingest=item.enforce_in_ingest,
        description=item.description,
    )


def _limit_of(item: guardrails_pb2.Budget) -> tuple[Decimal, str]:
    if not item.HasField("limit_amount"):
        return parse_decimal(item.limit_quantity, "budget.limit_quantity"), ""
    exponent(item.limit_amount.currency_code)
    amount = edge.money_of(item.limit_amount)
    if amount.minor_units < 0:
        raise InvalidField.one("budget.limit_amount.minor_units", "must not be negative")
    return to_decimal(amount), amount.currency_code


def budget(view: BudgetView) -> guardrails_pb2.Budget:
    """Write a budget as it stands."""
    shown = view.budget
    message = guardrails_pb2.Budget(
        budget_id=shown.budget_id,
        org_id=shown.org_id,
        sku=shown.sku,
        period=_PERIODS.write(shown.period),
        time_zone=shown.time_zone,
        mode=_MODES.write(shown.mode),
        thresholds_pct=shown.thresholds_pct,
        enforce_in_ingest=shown.enforce_in_ingest,
        description=shown.description,
        created_at=edge.stamp(view.created_at),
        updated_at=edge.stamp(view.updated_at),
    )
    if shown.currency_code:
        message.limit_amount.CopyFrom(_money(shown))
    else:
        message.limit_quantity = format_decimal(shown.limit)
    return message


def put(view: BudgetView) -> guardrail_service_pb2.PutBudgetResponse:
    """Write a budget that was put."""
    return guardrail_service_pb2.PutBudgetResponse(budget=budget(view))


def deleted(view: BudgetView) -> guardrail_service_pb2.DeleteBudgetResponse:
    """Write a budget that was ended."""
    return guardrail_service_pb2.DeleteBudgetResponse(budget=budget(view))


def status(found: BudgetStatus) -> guardrails_pb2.BudgetStatus:
    """Write how a budget stands."""
    counter = found.counter
    message = guardrails_pb2.BudgetStatus(
        budget=budget(found.view),
        limit=format_decimal(found.view.budget.limit),
        used=format_decimal(counter.used),
        held=format_decimal(counter.held),
        free=format_decimal(counter.free),
    )
    if found.bounds is not None:
        start_at, end_at = found.bounds
        message.start_at.CopyFrom(edge.stamp(start_at))
        message.end_at.CopyFrom(edge.stamp(end_at))
    for pct in found.view.budget.thresholds_pct:
        value = found.view.budget.threshold(pct)
        message.thresholds.add(pct=pct, value=format_decimal(value), reached=counter.reached(pct))
    return message


def hold_id(text: str) -> UUID:
    """Read the id of a hold. Raises NotFound for what is none."""
    found = hold_id_of(text)
    if found is None:
        raise NotFound("hold", text)
    return found


def hold(found: Hold) -> guardrails_pb2.Hold:
    """Write a hold as it stands."""
    message = guardrails_pb2.Hold(
        hold_id=f"{HOLD_PREFIX}_{found.hold_id}",
        org_id=found.org_id,
        sku=found.sku,
        quantity=format_decimal(found.quantity),
        status=_STATUSES.write(found.status),
        shares=map(_share, found.shares),
        reserved_at=edge.stamp(found.reserved_at),
        expires_at=edge.stamp(found.expires_at),
        ended_at=edge.stamp_or_none(found.ended_at),
    )
    if found.status is HoldStatus.COMMITTED:
        message.committed_quantity = format_decimal(found.accounted)
    if found.remaining is not None:
        message.remaining = format_decimal(found.remaining)
    return message


def reserved(found: Hold) -> guardrail_service_pb2.ReserveResponse:
    """Write a hold that was made."""
    return guardrail_service_pb2.ReserveResponse(hold=hold(found))


def committed(found: Hold) -> guardrail_service_pb2.CommitResponse:
    """Write a hold that was committed."""
    return guardrail_service_pb2.CommitResponse(hold=hold(found))


def released(found: Hold) -> guardrail_service_pb2.ReleaseResponse:
    """Write a hold that was given up."""
    return guardrail_service_pb2.ReleaseResponse(hold=hold(found))


def _share(found: Share) -> guardrails_pb2.HoldShare:
    return guardrails_pb2.HoldShare(
        budget_id=found.budget_id,
        value=format_decimal(found.value),
        currency_code=found.currency_code,
    )


def _money(shown: Budget) -> type_pb2.Money:
    amount: Money = round_to_minor(shown.limit, shown.currency_code)
    return edge.money(amount)
