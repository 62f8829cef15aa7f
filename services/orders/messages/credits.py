"""Grants of credits, as messages and back."""

from __future__ import annotations

from payments.orders.v1 import credit_service_pb2 as service_pb
from payments.orders.v1 import credits_pb2 as pb

from services.orders.domain.credits import NOW, Grant, Reversal, smallest, written
from services.runtime.edge import values as edge
from services.runtime.errors import InvalidField

_GIVEN = frozenset(
    {
        *("grant_id", "available", "held", "used", "lapsed", "taken_back"),
        *("granted_at", "reversed_at"),
    }
)


def grant_of(message: pb.Grant) -> Grant:
    """Read a grant that is to be stored.

    Raises:
        InvalidField: it fills in what the service does, or an amount is none of its unit.
        UnknownCurrency: its unit is three capital letters, but no currency.
    """
    for field, _ in message.ListFields():
        if field.name in _GIVEN:
            raise InvalidField.one(f"grant.{field.name}", "is given by the service: leave it out")
    rollover_max = 0
    if message.HasField("rollover"):
        rollover_max = smallest(
            "grant.rollover.amount_max", message.unit, message.rollover.amount_max
        )
    return Grant(
        grant_id="",
        owner_id=message.owner_id,
        unit=message.unit,
        amount=smallest("grant.amount", message.unit, message.amount),
        source=message.source,
        granted_at=NOW,
        effective_at=edge.moment_or_none(message, "effective_at") or NOW,
        priority=message.priority,
        expires_at=edge.moment_or_none(message, "expires_at"),
        rollover_max=rollover_max,
        order_id=message.order_id,
        rollovers_left=message.rollover.periods,
        period_days=message.rollover.period_days,
    )


def grant_message(grant: Grant) -> pb.Grant:
    """Write a grant."""
    unit = grant.unit
    rollover = None
    if grant.rollovers_left:
        rollover = pb.Rollover(
            amount_max=written(unit, grant.rollover_max),
            periods=grant.rollovers_left,
            period_days=grant.period_days,
        )
    return pb.Grant(
        grant_id=grant.grant_id,
        owner_id=grant.owner_id,
        unit=unit,
        amount=written(unit, grant.amount),
        priority=grant.priority,
        effective_at=edge.stamp(grant.effective_at),
        expires_at=edge.stamp_or_none(grant.expires_at),
        rollover=rollover,
        order_id=grant.order_id,
        source=grant.source,
        available=written(unit, grant.available),
        held=written(unit, grant.held),
        used=written(unit, grant.used),
        lapsed=written(unit, grant.lapsed),
        taken_back=written(unit, grant.taken_back),
        granted_at=edge.stamp(grant.granted_at),
        reversed_at=edge.stamp_or_none(grant.reversed_at),
    )


def granted(grant: Grant) -> service_pb.GrantCreditsResponse:
    """Write a grant that was stored."""
    return service_pb.GrantCreditsResponse(grant=grant_message(grant))


def reversed_(answer: tuple[Grant, Reversal]) -> service_pb.ReverseGrantResponse:
    """Write what became of a grant that was reversed."""
    grant, reversal = answer
    return service_pb.ReverseGrantResponse(
        grant=grant_message(grant),
        taken_back=written(grant.unit, reversal.taken_back),
        used=written(grant.unit, reversal.used),
        held=written(grant.unit, reversal.held),
    )
