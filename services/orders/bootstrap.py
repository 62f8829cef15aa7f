"""Builds orders from the runtime."""

from __future__ import annotations

from payments.orders.v1 import order_service_pb2_grpc

from services.orders.app.orders import Orders
from services.orders.servicer import OrderServicer
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build the service."""
    return Service(
        servicers=[
            Servicer(
                order_service_pb2_grpc.add_OrderServiceServicer_to_server,
                OrderServicer(Orders(runtime.database), runtime.commands),
                "payments.orders.v1.OrderService",
            )
        ]
    )
