"""OrderService keeps orders. `order.created` is published in the transaction that stores an order,
`order.updated` in each that changes its status, its total, what is paid of it, or cancels it: once
a change, and never for notes and flags.


Written by `make generate` from payments/orders/v1/order_service.proto. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..payments.orders import v1 as orders_v1
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("AsyncOrderService", "OrderService")

_CREATE_ORDER = Method(
    "/payments.orders.v1.OrderService/CreateOrder",
    orders_v1.CreateOrderRequest,
    orders_v1.CreateOrderResponse,
    repeatable=True,
    has_request_id=True,
)
_GET_ORDER = Method(
    "/payments.orders.v1.OrderService/GetOrder",
    orders_v1.GetOrderRequest,
    orders_v1.GetOrderResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_ORDERS = Method(
    "/payments.orders.v1.OrderService/ListOrders",
    orders_v1.ListOrdersRequest,
    orders_v1.ListOrdersResponse,
    repeatable=True,
    has_request_id=False,
)
_OPEN_ORDER = Method(
    "/payments.orders.v1.OrderService/OpenOrder",
    orders_v1.OpenOrderRequest,
    orders_v1.OpenOrderResponse,
    repeatable=True,
    has_request_id=True,
)
_UPDATE_ORDER_NOTES = Method(
    "/payments.orders.v1.OrderService/UpdateOrderNotes",
    orders_v1.UpdateOrderNotesRequest,
    orders_v1.UpdateOrderNotesResponse,
    repeatable=True,
    has_request_id=True,
)
_ADJUST_ORDER_TOTAL = Method(
    "/payments.orders.v1.OrderService/AdjustOrderTotal",
    orders_v1.AdjustOrderTotalRequest,
    orders_v1.AdjustOrderTotalResponse,
    repeatable=True,
    has_request_id=True,
)
_CANCEL_ORDER = Method(
    "/payments.orders.v1.OrderService/CancelOrder",
    orders_v1.CancelOrderRequest,
    orders_v1.CancelOrderResponse,
    repeatable=True,
    has_request_id=True,
)
_RECORD_PAYMENT = Method(
    "/payments.orders.v1.OrderService/RecordPayment",
    orders_v1.RecordPaymentRequest,
    orders_v1.RecordPaymentResponse,
    repeatable=True,
    has_request_id=True,
)
_LIST_EXTERNAL_ACTIONS = Method(
    "/payments.orders.v1.OrderService/ListExternalActions",
    orders_v1.ListExternalActionsRequest,
    orders_v1.ListExternalActionsResponse,
    repeatable=True,
    has_request_id=False,
)
_INITIATE_REFUND = Method(
    "/payments.orders.v1.OrderService/InitiateRefund",
    orders_v1.InitiateRefundRequest,
    orders_v1.InitiateRefundResponse,
    repeatable=True,
    has_request_id=True,
)
_GET_REFUND = Method(
    "/payments.orders.v1.OrderService/GetRefund",
    orders_v1.GetRefundRequest,
    orders_v1.GetRefundResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_REFUNDS = Method(
    "/payments.orders.v1.OrderService/ListRefunds",
    orders_v1.ListRefundsRequest,
    orders_v1.ListRefundsResponse,
    repeatable=True,
    has_request_id=False,
)


class OrderService:
    """OrderService keeps orders. `order.created` is published in the transaction that stores an order,
    `order.updated` in each that changes its status, its total, what is paid of it, or cancels it:
    once a change, and never for notes and flags.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def create_order(
        self, request: orders_v1.CreateOrderRequest, *, timeout: float | None = None
    ) -> orders_v1.CreateOrderResponse:
        """CreateOrder stores an order. The same request_id gives the same order.

        Errors: INVALID_FIELD for a status that no order begins with, a total out of range, or a
        field that only the service fills in; UNKNOWN_CURRENCY.
        """
        return self._caller.unary(_CREATE_ORDER, request, timeout)

    def get_order(
        self, request: orders_v1.GetOrderRequest, *, timeout: float | None = None
    ) -> orders_v1.GetOrderResponse:
        """GetOrder returns an order; NOT_FOUND when there is none of that id."""
        return self._caller.unary(_GET_ORDER, request, timeout)

    def list_orders(
        self, request: orders_v1.ListOrdersRequest, *, timeout: float | None = None
    ) -> orders_v1.ListOrdersResponse:
        """ListOrders lists orders, the latest made first."""
        return self._caller.unary(_LIST_ORDERS, request, timeout)

    def all_orders(
        self, request: orders_v1.ListOrdersRequest, *, timeout: float | None = None
    ) -> Iterator[orders_v1.Order]:
        """Yield the orders of all pages of list_orders, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: orders_v1.ListOrdersRequest) -> orders_v1.ListOrdersResponse:
            return self.list_orders(asked, timeout=timeout)

        return items(page, request, "orders", BY_TOKEN)

    def open_order(
        self, request: orders_v1.OpenOrderRequest, *, timeout: float | None = None
    ) -> orders_v1.OpenOrderResponse:
        """OpenOrder makes a draft an order that can be paid.

        Errors: NOT_FOUND, ORDER_STATUS_CONFLICT unless it is DRAFT.
        """
        return self._caller.unary(_OPEN_ORDER, request, timeout)

    def update_order_notes(
        self, request: orders_v1.UpdateOrderNotesRequest, *, timeout: float | None = None
    ) -> orders_v1.UpdateOrderNotesResponse:
        """UpdateOrderNotes replaces the notes and the flags of an order, whatever its status. No event
        tells of it.

        Errors: NOT_FOUND, INVALID_FIELD for notes with the number of a card.
        """
        return self._caller.unary(_UPDATE_ORDER_NOTES, request, timeout)

    def adjust_order_total(
        self, request: orders_v1.AdjustOrderTotalRequest, *, timeout: float | None = None
    ) -> orders_v1.AdjustOrderTotalResponse:
        """AdjustOrderTotal changes what an order comes to. The status follows: PAID when what is paid
        covers the new total, OPEN or PARTIALLY_PAID when it does not. The total that it has already
        changes nothing and publishes nothing.

        Errors: NOT_FOUND; ORDER_STATUS_CONFLICT for an order that is cancelled or refunded;
        ORDER_TOTAL_TOO_LOW below what is paid; CURRENCY_MISMATCH; INVALID_FIELD for a total out of
        range.
        """
        return self._caller.unary(_ADJUST_ORDER_TOTAL, request, timeout)

    def cancel_order(
        self, request: orders_v1.CancelOrderRequest, *, timeout: float | None = None
    ) -> orders_v1.CancelOrderResponse:
        """CancelOrder ends an order for which nothing was received.

        Errors: NOT_FOUND, ORDER_STATUS_CONFLICT unless it is DRAFT or OPEN, or PAID with a total of
        zero: what was received is given back by InitiateRefund, which ends an order too.
        """
        return self._caller.unary(_CANCEL_ORDER, request, timeout)

    def record_payment(
        self, request: orders_v1.RecordPaymentRequest, *, timeout: float | None = None
    ) -> orders_v1.RecordPaymentResponse:
        """RecordPayment writes down what an operator took for an order, in cash or as a check. Order,
        external action and the event `payment.received` are stored together: who sees the event
        finds the order PAID, or PARTIALLY_PAID. The ledger has it soon after, by the recipe `cash-
        received` or `check-received`.

        Errors: NOT_FOUND; ORDER_STATUS_CONFLICT unless it is OPEN or PARTIALLY_PAID;
        ORDER_AMOUNT_EXCEEDED for more than is due; ORDER_CHECK_RECORDED for a check that was
        recorded for the order before; CURRENCY_MISMATCH; INVALID_FIELD for a check without a
        number, cash with one, an amount that is not above zero, and a time more than a day in the
        future.
        """
        return self._caller.unary(_RECORD_PAYMENT, request, timeout)

    def list_external_actions(
        self, request: orders_v1.ListExternalActionsRequest, *, timeout: float | None = None
    ) -> orders_v1.ListExternalActionsResponse:
        """ListExternalActions lists what happened outside for an order, the earliest first; NOT_FOUND
        when there is no such order.
        """
        return self._caller.unary(_LIST_EXTERNAL_ACTIONS, request, timeout)

    def all_external_actions(
        self, request: orders_v1.ListExternalActionsRequest, *, timeout: float | None = None
    ) -> Iterator[orders_v1.ExternalAction]:
        """Yield the external_actions of all pages of list_external_actions, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: orders_v1.ListExternalActionsRequest) -> orders_v1.ListExternalActionsResponse:
            return self.list_external_actions(asked, timeout=timeout)

        return items(page, request, "external_actions", BY_TOKEN)

    def initiate_refund(
        self, request: orders_v1.InitiateRefundRequest, *, timeout: float | None = None
    ) -> orders_v1.InitiateRefundResponse:
        """InitiateRefund writes down what an operator gave back of an order, in the way in which it
        was taken: of the latest payment first, and then of those before it. Refund, external
        actions and the event `refund.completed` are stored together. An order of which all is given
        back becomes REFUNDED, which `order.updated` tells; one of which less is given back keeps
        its status. The ledger has it soon after, by the recipe `cash-refunded` or `check-refunded`.

        Errors: NOT_FOUND; ORDER_STATUS_CONFLICT unless it is PAID or PARTIALLY_PAID;
        ORDER_REFUND_EXCEEDED for more than was received and not given back; CURRENCY_MISMATCH;
        INVALID_FIELD for an amount that is not above zero.
        """
        return self._caller.unary(_INITIATE_REFUND, request, timeout)

    def get_refund(
        self, request: orders_v1.GetRefundRequest, *, timeout: float | None = None
    ) -> orders_v1.GetRefundResponse:
        """GetRefund returns a refund; NOT_FOUND when there is none of that id."""
        return self._caller.unary(_GET_REFUND, request, timeout)

    def list_refunds(
        self, request: orders_v1.ListRefundsRequest, *, timeout: float | None = None
    ) -> orders_v1.ListRefundsResponse:
        """ListRefunds lists refunds, the latest first."""
        return self._caller.unary(_LIST_REFUNDS, request, timeout)

    def all_refunds(
        self, request: orders_v1.ListRefundsRequest, *, timeout: float | None = None
    ) -> Iterator[orders_v1.Refund]:
        """Yield the refunds of all pages of list_refunds, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: orders_v1.ListRefundsRequest) -> orders_v1.ListRefundsResponse:
            return self.list_refunds(asked, timeout=timeout)

        return items(page, request, "refunds", BY_TOKEN)


class AsyncOrderService:
    """OrderService keeps orders. `order.created` is published in the transaction that stores an order,
    `order.updated` in each that changes its status, its total, what is paid of it, or cancels it:
    once a change, and never for notes and flags.
    """

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def create_order(
        self, request: orders_v1.CreateOrderRequest, *, timeout: float | None = None
    ) -> orders_v1.CreateOrderResponse:
        """CreateOrder stores an order. The same request_id gives the same order.

        Errors: INVALID_FIELD for a status that no order begins with, a total out of range, or a
        field that only the service fills in; UNKNOWN_CURRENCY.
        """
        return await self._caller.unary(_CREATE_ORDER, request, timeout)

    async def get_order(
        self, request: orders_v1.GetOrderRequest, *, timeout: float | None = None
    ) -> orders_v1.GetOrderResponse:
        """GetOrder returns an order; NOT_FOUND when there is none of that id."""
        return await self._caller.unary(_GET_ORDER, request, timeout)

    async def list_orders(
        self, request: orders_v1.ListOrdersRequest, *, timeout: float | None = None
    ) -> orders_v1.ListOrdersResponse:
        """ListOrders lists orders, the latest made first."""
        return await self._caller.unary(_LIST_ORDERS, request, timeout)

    def all_orders(
        self, request: orders_v1.ListOrdersRequest, *, timeout: float | None = None
    ) -> AsyncIterator[orders_v1.Order]:
        """Yield the orders of all pages of list_orders, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: orders_v1.ListOrdersRequest) -> orders_v1.ListOrdersResponse:
            return await self.list_orders(asked, timeout=timeout)

        return items_async(page, request, "orders", BY_TOKEN)

    async def open_order(
        self, request: orders_v1.OpenOrderRequest, *, timeout: float | None = None
    ) -> orders_v1.OpenOrderResponse:
        """OpenOrder makes a draft an order that can be paid.

        Errors: NOT_FOUND, ORDER_STATUS_CONFLICT unless it is DRAFT.
        """
        return await self._caller.unary(_OPEN_ORDER, request, timeout)

    async def update_order_notes(
        self, request: orders_v1.UpdateOrderNotesRequest, *, timeout: float | None = None
    ) -> orders_v1.UpdateOrderNotesResponse:
        """UpdateOrderNotes replaces the notes and the flags of an order, whatever its status. No event
        tells of it.

        Errors: NOT_FOUND, INVALID_FIELD for notes with the number of a card.
        """
        return await self._caller.unary(_UPDATE_ORDER_NOTES, request, timeout)

    async def adjust_order_total(
        self, request: orders_v1.AdjustOrderTotalRequest, *, timeout: float | None = None
    ) -> orders_v1.AdjustOrderTotalResponse:
        """AdjustOrderTotal changes what an order comes to. The status follows: PAID when what is paid
        covers the new total, OPEN or PARTIALLY_PAID when it does not. The total that it has already
        changes nothing and publishes nothing.

        Errors: NOT_FOUND; ORDER_STATUS_CONFLICT for an order that is cancelled or refunded;
        ORDER_TOTAL_TOO_LOW below what is paid; CURRENCY_MISMATCH; INVALID_FIELD for a total out of
        range.
        """
        return await self._caller.unary(_ADJUST_ORDER_TOTAL, request, timeout)

    async def cancel_order(
        self, request: orders_v1.CancelOrderRequest, *, timeout: float | None = None
    ) -> orders_v1.CancelOrderResponse:
        """CancelOrder ends an order for which nothing was received.

        Errors: NOT_FOUND, ORDER_STATUS_CONFLICT unless it is DRAFT or OPEN, or PAID with a total of
        zero: what was received is given back by InitiateRefund, which ends an order too.
        """
        return await self._caller.unary(_CANCEL_ORDER, request, timeout)

    async def record_payment(
        self, request: orders_v1.RecordPaymentRequest, *, timeout: float | None = None
    ) -> orders_v1.RecordPaymentResponse:
        """RecordPayment writes down what an operator took for an order, in cash or as a check. Order,
        external action and the event `payment.received` are stored together: who sees the event
        finds the order PAID, or PARTIALLY_PAID. The ledger has it soon after, by the recipe `cash-
        received` or `check-received`.

        Errors: NOT_FOUND; ORDER_STATUS_CONFLICT unless it is OPEN or PARTIALLY_PAID;
        ORDER_AMOUNT_EXCEEDED for more than is due; ORDER_CHECK_RECORDED for a check that was
        recorded for the order before; CURRENCY_MISMATCH; INVALID_FIELD for a check without a
        number, cash with one, an amount that is not above zero, and a time more than a day in the
        future.
        """
        return await self._caller.unary(_RECORD_PAYMENT, request, timeout)

    async def list_external_actions(
        self, request: orders_v1.ListExternalActionsRequest, *, timeout: float | None = None
    ) -> orders_v1.ListExternalActionsResponse:
        """ListExternalActions lists what happened outside for an order, the earliest first; NOT_FOUND
        when there is no such order.
        """
        return await self._caller.unary(_LIST_EXTERNAL_ACTIONS, request, timeout)

    def all_external_actions(
        self, request: orders_v1.ListExternalActionsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[orders_v1.ExternalAction]:
        """Yield the external_actions of all pages of list_external_actions, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: orders_v1.ListExternalActionsRequest) -> orders_v1.ListExternalActionsResponse:
            return await self.list_external_actions(asked, timeout=timeout)

        return items_async(page, request, "external_actions", BY_TOKEN)

    async def initiate_refund(
        self, request: orders_v1.InitiateRefundRequest, *, timeout: float | None = None
    ) -> orders_v1.InitiateRefundResponse:
        """InitiateRefund writes down what an operator gave back of an order, in the way in which it
        was taken: of the latest payment first, and then of those before it. Refund, external
        actions and the event `refund.completed` are stored together. An order of which all is given
        back becomes REFUNDED, which `order.updated` tells; one of which less is given back keeps
        its status. The ledger has it soon after, by the recipe `cash-refunded` or `check-refunded`.

        Errors: NOT_FOUND; ORDER_STATUS_CONFLICT unless it is PAID or PARTIALLY_PAID;
        ORDER_REFUND_EXCEEDED for more than was received and not given back; CURRENCY_MISMATCH;
        INVALID_FIELD for an amount that is not above zero.
        """
        return await self._caller.unary(_INITIATE_REFUND, request, timeout)

    async def get_refund(
        self, request: orders_v1.GetRefundRequest, *, timeout: float | None = None
    ) -> orders_v1.GetRefundResponse:
        """GetRefund returns a refund; NOT_FOUND when there is none of that id."""
        return await self._caller.unary(_GET_REFUND, request, timeout)

    async def list_refunds(
        self, request: orders_v1.ListRefundsRequest, *, timeout: float | None = None
    ) -> orders_v1.ListRefundsResponse:
        """ListRefunds lists refunds, the latest first."""
        return await self._caller.unary(_LIST_REFUNDS, request, timeout)

    def all_refunds(
        self, request: orders_v1.ListRefundsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[orders_v1.Refund]:
        """Yield the refunds of all pages of list_refunds, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: orders_v1.ListRefundsRequest) -> orders_v1.ListRefundsResponse:
            return await self.list_refunds(asked, timeout=timeout)

        return items_async(page, request, "refunds", BY_TOKEN)
