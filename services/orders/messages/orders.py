"""Orders, as messages and back."""

from __future__ import annotations

from datetime import UTC, datetime

from payments.orders.v1 import order_service_pb2 as service_pb
from payments.orders.v1 import orders_pb2 as pb

from services.orders.domain.orders import Order
from services.runtime.edge import values as edge
from services.runtime.errors import InvalidField
from services.runtime.money import Money

_GIVEN = frozenset(
    {
        *("order_id", "amount_paid", "amount_refunded", "updated_via", "cancelled_at"),
        *("created_at", "updated_at", "cancel_reason"),
    }
)
# Of an order that is not stored yet; the use case knows the time.
_NEVER = datetime(1, 1, 1, tzinfo=UTC)


def order_of(message: pb.Order) -> Order:
    """Read an order that is to be stored.

    Raises:
        InvalidField: it fills in what the service does.
        UnknownCurrency: its currency is not in ISO 4217.
    """
    for field, _ in message.ListFields():
        if field.name in _GIVEN:
            raise InvalidField.one(f"order.{field.name}", "is given by the service: leave it out")
    return Order(
        order_id="",
        person_id=message.person_id,
        organization_id=message.organization_id,
        status=message.status,
        total=edge.money_of(message.amount_total),
        created_via=message.created_via,
        created_at=_NEVER,
        notes=message.notes,
        operator_flags=tuple(message.operator_flags),
    )


def order_message(order: Order) -> pb.Order:
    """Write an order."""
    currency = order.total.currency_code
    return pb.Order(
        order_id=order.order_id,
        person_id=order.person_id,
        organization_id=order.organization_id,
        status=order.status,
        amount_total=edge.money(order.total),
        amount_paid=edge.money(Money(currency, order.paid_minor)),
        amount_refunded=edge.money(Money(currency, order.refunded_minor)),
        created_via=order.created_via,
        updated_via=order.updated_via,
        notes=order.notes,
        operator_flags=order.operator_flags,
        cancelled_at=edge.stamp_or_none(order.cancelled_at),
        created_at=edge.stamp(order.created_at),
        updated_at=edge.stamp_or_none(order.updated_at),
        cancel_reason=order.cancel_reason,
    )


def created(order: Order) -> service_pb.CreateOrderResponse:
    """Write an order that was stored."""
    return service_pb.CreateOrderResponse(order=order_message(order))


def opened(order: Order) -> service_pb.OpenOrderResponse:
    """Write an order that was opened."""
    return service_pb.OpenOrderResponse(order=order_message(order))


def noted(order: Order) -> service_pb.UpdateOrderNotesResponse:
    """Write an order with its notes."""
    return service_pb.UpdateOrderNotesResponse(order=order_message(order))


def adjusted(order: Order) -> service_pb.AdjustOrderTotalResponse:
    """Write an order with its total."""
    return service_pb.AdjustOrderTotalResponse(order=order_message(order))


def cancelled(order: Order) -> service_pb.CancelOrderResponse:
    """Write an order that was cancelled."""
    return service_pb.CancelOrderResponse(order=order_message(order))
