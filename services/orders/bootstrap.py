"""Builds orders from the runtime."""

from __future__ import annotations

from payments.orders.v1 import order_service_pb2_grpc

from services.orders.app.orders import Orders
from services.orders.app.payments import Payments
from services.orders.app.refunds import Refunds
from services.orders.clients import LedgerClient
from services.orders.servicer import OrderServicer
from services.orders.work import posting
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build the service."""
    database = runtime.database
    payments = Payments(database, LedgerClient(runtime.channels))
    worker = posting(database, payments, runtime.telemetry)
    return Service(
        servicers=[
            Servicer(
                order_service_pb2_grpc.add_OrderServiceServicer_to_server,
                OrderServicer(Orders(database), payments, Refunds(database), runtime.commands),
                "payments.orders.v1.OrderService",
            )
        ],
        start=worker.start,
        stop=worker.stop,
    )
