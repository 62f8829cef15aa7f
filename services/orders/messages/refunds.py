"""Refunds, as messages."""

from __future__ import annotations

from payments.orders.v1 import order_service_pb2 as service_pb
from payments.orders.v1 import orders_pb2 as pb

from services.orders.domain.refunds import Refund
from services.orders.messages.actions import action_message
from services.runtime.edge import values as edge


def initiated(refund: Refund) -> service_pb.InitiateRefundResponse:
    """Write a refund that was written down."""
    return service_pb.InitiateRefundResponse(refund=refund_message(refund))


def refund_message(refund: Refund) -> pb.Refund:
    """Write a refund."""
    return pb.Refund(
        refund_id=refund.refund_id,
        order_id=refund.order_id,
        person_id=refund.person_id,
        amount=edge.money(refund.amount),
        reason=refund.reason,
        initiated_by=refund.initiated_by,
        principal_id=refund.principal_id,
        external_actions=[action_message(part) for part in refund.parts],
        completed_at=edge.stamp(refund.completed_at),
    )
