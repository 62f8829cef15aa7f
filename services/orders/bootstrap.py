"""Builds orders from the runtime."""

from __future__ import annotations

from payments.orders.v1 import credit_service_pb2_grpc, order_service_pb2_grpc

from services.orders.app.credits import Credits
from services.orders.app.orders import Orders
from services.orders.app.payments import Payments
from services.orders.app.refunds import Refunds
from services.orders.clients import CreditLedgerClient, LedgerClient
from services.orders.servicer.credits import CreditServicer
from services.orders.servicer.orders import OrderServicer
from services.orders.work.credits import credit_work
from services.orders.work.payments import posting
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build the service."""
    database = runtime.database
    payments = Payments(database, LedgerClient(runtime.channels))
    credits = Credits(database, CreditLedgerClient(runtime.channels))
    workers = (
        posting(database, payments, runtime.telemetry),
        credit_work(database, credits, runtime.telemetry),
    )

    async def start() -> None:
        for worker in workers:
            await worker.start()

    async def stop() -> None:
        for worker in reversed(workers):
            await worker.stop()

    return Service(
        servicers=[
            Servicer(
                order_service_pb2_grpc.add_OrderServiceServicer_to_server,
                OrderServicer(Orders(database), payments, Refunds(database), runtime.commands),
                "payments.orders.v1.OrderService",
            ),
            Servicer(
                credit_service_pb2_grpc.add_CreditServiceServicer_to_server,
                CreditServicer(credits, runtime.commands),
                "payments.orders.v1.CreditService",
            ),
        ],
        start=start,
        stop=stop,
    )
