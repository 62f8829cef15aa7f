"""What orders publishes. Of orders it is JSON, by schemas that were there before us; the tenant is on the envelope."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from payments.events.v1.orchestration_events_pb2 import PaymentReceived

from services.orders.domain.actions import ExternalAction
from services.orders.domain.credits import Grant, Reversal, is_money
from services.orders.domain.orders import Change, Order
from services.orders.domain.refunds import Refund
from services.orders.domain.statuses import CREATED, UPDATED
from services.runtime.edge import values as edge
from services.runtime.outbox.publish import JsonFact

REFUND_COMPLETED = "refund.completed"
CREDIT_PURCHASED = "credit.purchased"
CREDIT_REVERSED = "credit.reversed"


def order_created(order: Order) -> JsonFact:
    """Tell of a new order."""
    return _fact(
        CREATED,
        order.order_id,
        {
            "order_id": order.order_id,
            "person_id": order.person_id,
            "organization_id": order.organization_id,
            "status": order.status,
            "currency": order.total.currency_code,
            "amount_total_cents": order.total.minor_units,
            "created_via": order.created_via,
            "created_at": _written(order.created_at),
        },
    )


def order_updated(change: Change) -> JsonFact:
    """Tell of a change."""
    before, after = change.before, change.after
    assert after.updated_at is not None, "what changed says when"
    return _fact(
        UPDATED,
        after.order_id,
        {
            "order_id": after.order_id,
            "person_id": after.person_id,
            "status_from": before.status,
            "status_to": after.status,
            "amount_paid_cents_from": before.paid_minor,
            "amount_paid_cents_to": after.paid_minor,
            "amount_total_cents": after.total.minor_units,
            "updated_via": after.updated_via,
            "updated_at": _written(after.updated_at),
        },
    )


def payment_received(action: ExternalAction) -> PaymentReceived:
    """Tell that money came in for an order, by no payment of orchestration: the action takes the place of one."""
    return PaymentReceived(
        order_id=action.order_id,
        person_id=action.person_id,
        payment_method=action.payment_method,
        payment_path=action.payment_path,
        amount_cents=action.amount.minor_units,
        currency=action.amount.currency_code,
        provider_ref=action.provider_ref,
        received_at=edge.stamp(action.occurred_at),
        payment_id=action.external_action_id,
    )


def refund_completed(refund: Refund) -> JsonFact:
    """Tell that money of an order went back to its payer."""
    return _fact(
        REFUND_COMPLETED,
        refund.order_id,
        {
            "refund_id": refund.refund_id,
            "order_id": refund.order_id,
            "person_id": refund.person_id,
            "currency": refund.amount.currency_code,
            "amount_cents": refund.amount.minor_units,
            "provider_ref": refund.provider_ref,
            "completed_at": _written(refund.completed_at),
        },
    )


def credit_purchased(grant: Grant) -> JsonFact:
    """Tell that credits were bought."""
    return _fact(
        CREDIT_PURCHASED,
        grant.owner_id,
        {
            "purchase_id": grant.grant_id,
            "order_id": grant.order_id,
            "person_id": grant.owner_id,
            "credit_count": grant.amount,
            "unit": grant.unit,
            "purchased_at": _written(grant.granted_at),
        },
    )


def credit_reversed(grant: Grant, reversal: Reversal, reason: str) -> JsonFact:
    """Tell that a grant was taken back, and what of it was not."""
    assert grant.reversed_at is not None, "what was reversed says when"
    return _fact(
        CREDIT_REVERSED,
        grant.grant_id,
        {
            "credit_id": grant.grant_id,
            "org_id": grant.owner_id,
            **_amount(grant.unit, reversal.taken_back),
            "used_count": reversal.used,
            "held_count": reversal.held,
            "reversal_reason": reason,
            "reversed_at": _written(grant.reversed_at),
        },
    )


def _amount(unit: str, amount: int) -> dict[str, str | int]:
    """Write an amount: as credits of a unit, and as money where it is."""
    counted: dict[str, str | int] = {"unit": unit, "credit_count": amount}
    return counted | ({"currency": unit, "amount_cents": amount} if is_money(unit) else {})


def _fact(subject: str, key: str, payload: dict[str, str | int]) -> JsonFact:
    return JsonFact(subject, key, json.dumps(payload, separators=(",", ":")).encode())


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
