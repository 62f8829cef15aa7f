"""OrderService: proto to domain and back. Protobuf types stop here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import grpc
from payments.orders.v1 import order_service_pb2 as pb
from payments.orders.v1 import order_service_pb2_grpc

from services.orders.app.orders import Adjustment, Cancellation, Notes, Opening, Orders
from services.orders.app.payments import Payment, Payments
from services.orders.app.refunds import Refunds, Wish
from services.orders.domain.actions import Method
from services.orders.domain.listing import ActionPlace, OrderFilter, Place, RefundPlace
from services.orders.messages import actions as action_messages
from services.orders.messages import orders as messages
from services.orders.messages import refunds as refund_messages
from services.runtime.commands import Commands, UseCase, fingerprint
from services.runtime.edge import values as edge
from services.runtime.edge.paging import Page

_Context = grpc.aio.ServicerContext[Any, Any]


class OrderServicer(order_service_pb2_grpc.OrderServiceServicer):
    """Answers the RPCs of OrderService."""

    def __init__(
        self, orders: Orders, payments: Payments, refunds: Refunds, commands: Commands
    ) -> None:
        self._orders = orders
        self._payments = payments
        self._refunds = refunds
        self._commands = commands
        self._create = UseCase(
            "orders.create", orders.create, messages.created, pb.CreateOrderResponse
        )
        self._open = UseCase("orders.open", orders.open, messages.opened, pb.OpenOrderResponse)
        self._note = UseCase(
            "orders.note", orders.note, messages.noted, pb.UpdateOrderNotesResponse
        )
        self._adjust = UseCase(
            "orders.adjust_total", orders.adjust, messages.adjusted, pb.AdjustOrderTotalResponse
        )
        self._cancel = UseCase(
            "orders.cancel", orders.cancel, messages.cancelled, pb.CancelOrderResponse
        )
        self._record = UseCase(
            "orders.record_payment",
            payments.record,
            action_messages.recorded,
            pb.RecordPaymentResponse,
        )
        self._refund = UseCase(
            "orders.refund",
            refunds.initiate,
            refund_messages.initiated,
            pb.InitiateRefundResponse,
        )

    async def CreateOrder(
        self, request: pb.CreateOrderRequest, context: _Context
    ) -> pb.CreateOrderResponse:
        """Store an order."""
        return await self._commands.run(self._create, messages.order_of(request.order), request)

    async def GetOrder(self, request: pb.GetOrderRequest, context: _Context) -> pb.GetOrderResponse:
        """Return one order."""
        order = await self._orders.get(request.order_id)
        return pb.GetOrderResponse(order=messages.order_message(order))

    async def ListOrders(
        self, request: pb.ListOrdersRequest, context: _Context
    ) -> pb.ListOrdersResponse:
        """List orders, the latest made first."""
        wanted = OrderFilter(request.person_id, request.organization_id, request.status)
        kinds = {"created_at": datetime, "order_id": str}
        page = Page.of(request, f"orders.orders|{wanted!r}", kinds)
        after = Place(**page.after) if page.after else None
        found = await self._orders.list(wanted, after, page.limit)
        orders, token = await page.cut(
            found,
            messages.order_message,
            lambda last: {"created_at": last.created_at.isoformat(), "order_id": last.order_id},
        )
        return pb.ListOrdersResponse(orders=orders, next_page_token=token)

    async def OpenOrder(
        self, request: pb.OpenOrderRequest, context: _Context
    ) -> pb.OpenOrderResponse:
        """Make a draft an order that can be paid."""
        asked = Opening(request.order_id, request.updated_via)
        return await self._commands.run(self._open, asked, request)

    async def UpdateOrderNotes(
        self, request: pb.UpdateOrderNotesRequest, context: _Context
    ) -> pb.UpdateOrderNotesResponse:
        """Replace notes and flags."""
        asked = Notes(request.order_id, request.notes, tuple(request.operator_flags))
        return await self._commands.run(self._note, asked, request)

    async def AdjustOrderTotal(
        self, request: pb.AdjustOrderTotalRequest, context: _Context
    ) -> pb.AdjustOrderTotalResponse:
        """Change what an order comes to."""
        total = edge.money_of(request.amount_total)
        asked = Adjustment(request.order_id, total, request.updated_via)
        return await self._commands.run(self._adjust, asked, request)

    async def CancelOrder(
        self, request: pb.CancelOrderRequest, context: _Context
    ) -> pb.CancelOrderResponse:
        """End an order for which nothing was received."""
        asked = Cancellation(request.order_id, request.reason, request.updated_via)
        return await self._commands.run(self._cancel, asked, request)

    async def RecordPayment(
        self, request: pb.RecordPaymentRequest, context: _Context
    ) -> pb.RecordPaymentResponse:
        """Write down what an operator took."""
        payment = Payment(
            order_id=request.order_id,
            method=Method(request.method),
            amount=edge.money_of(request.amount),
            operator=request.operator,
            check_number=request.check_number,
            received_at=edge.moment_or_none(request, "received_at"),
            via=request.updated_via,
            request_sha256=_told(request),
        )
        return await self._commands.run(self._record, payment, request)

    async def ListExternalActions(
        self, request: pb.ListExternalActionsRequest, context: _Context
    ) -> pb.ListExternalActionsResponse:
        """List what happened outside for an order, the earliest first."""
        kinds = {"recorded_at": datetime, "external_action_id": str}
        page = Page.of(request, f"orders.external_actions|{request.order_id}", kinds)
        after = ActionPlace(**page.after) if page.after else None
        found = await self._payments.list(request.order_id, after, page.limit)
        actions, token = await page.cut(
            found,
            action_messages.action_message,
            lambda last: {
                "recorded_at": last.recorded_at.isoformat(),
                "external_action_id": last.external_action_id,
            },
        )
        return pb.ListExternalActionsResponse(external_actions=actions, next_page_token=token)

    async def InitiateRefund(
        self, request: pb.InitiateRefundRequest, context: _Context
    ) -> pb.InitiateRefundResponse:
        """Write down what an operator gave back."""
        wish = Wish(
            order_id=request.order_id,
            amount=edge.money_of(request.amount) if request.HasField("amount") else None,
            reason=request.reason,
            initiated_by=request.initiated_by,
            via=request.updated_via,
            request_sha256=_told(request),
        )
        return await self._commands.run(self._refund, wish, request)

    async def GetRefund(
        self, request: pb.GetRefundRequest, context: _Context
    ) -> pb.GetRefundResponse:
        """Return one refund."""
        refund = await self._refunds.get(request.refund_id)
        return pb.GetRefundResponse(refund=refund_messages.refund_message(refund))

    async def ListRefunds(
        self, request: pb.ListRefundsRequest, context: _Context
    ) -> pb.ListRefundsResponse:
        """List refunds, the latest first."""
        kinds = {"completed_at": datetime, "refund_id": str}
        page = Page.of(request, f"orders.refunds|{request.order_id}", kinds)
        after = RefundPlace(**page.after) if page.after else None
        found = await self._refunds.list(request.order_id, after, page.limit)
        refunds, token = await page.cut(
            found,
            refund_messages.refund_message,
            lambda last: {
                "completed_at": last.completed_at.isoformat(),
                "refund_id": last.refund_id,
            },
        )
        return pb.ListRefundsResponse(refunds=refunds, next_page_token=token)


def _told(request: pb.RecordPaymentRequest | pb.InitiateRefundRequest) -> bytes:
    """Return the digest of what was told, without the id of the request."""
    told: Any = type(request)()
    told.MergeFrom(request)
    told.ClearField("request_id")
    return fingerprint(told)
