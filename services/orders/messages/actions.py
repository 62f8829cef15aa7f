"""External actions, as messages."""

from __future__ import annotations

from payments.orders.v1 import order_service_pb2 as service_pb
from payments.orders.v1 import orders_pb2 as pb

from services.orders.domain.actions import ExternalAction
from services.orders.domain.orders import Order
from services.orders.messages.orders import order_message
from services.runtime.edge import values as edge


def recorded(answer: tuple[Order, ExternalAction]) -> service_pb.RecordPaymentResponse:
    """Write a payment that was recorded."""
    order, action = answer
    return service_pb.RecordPaymentResponse(
        order=order_message(order), external_action=action_message(action)
    )


def action_message(action: ExternalAction) -> pb.ExternalAction:
    """Write an external action."""
    return pb.ExternalAction(
        external_action_id=action.external_action_id,
        order_id=action.order_id,
        action=action.action,
        payment_method=action.payment_method,
        payment_path=action.payment_path,
        provider_ref=action.provider_ref,
        amount=edge.money(action.amount),
        operator=action.operator,
        principal_id=action.principal_id,
        check_number=action.check_number,
        request_sha256=action.request_sha256,
        occurred_at=edge.stamp(action.occurred_at),
        recorded_at=edge.stamp(action.recorded_at),
        posting_id="" if action.posting_id is None else str(action.posting_id),
        refund_id=action.refund_id,
        refunded_action_id=action.refunded_action_id,
    )
