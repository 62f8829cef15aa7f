"""OrderService on a real server with real Postgres and the real ledger, and the events that it writes.

What falls due runs when a test asks for it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
from payments.events.v1.orchestration_events_pb2 import PaymentReceived
from payments.ledger.v1 import ledger_service_pb2
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.orders.v1 import order_service_pb2 as service_pb
from payments.orders.v1 import orders_pb2 as pb
from payments.orders.v1.order_service_pb2_grpc import OrderServiceStub
from payments.type.v1.type_pb2 import Money

from services.ledger import manifest as ledger
from services.orders import bootstrap
from services.orders.app.credits import Credits
from services.orders.app.payments import Payments
from services.orders.clients import CreditLedgerClient, LedgerClient
from services.orders.manifest import SERVICE
from services.orders.work.credits import credit_work
from services.orders.work.payments import posting
from services.runtime.clock import ManualClock
from services.runtime.ids import new_id
from services.runtime.manifests import Manifest
from services.runtime.service import Runtime, Service
from services.runtime.work import Claim, Worker
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

if TYPE_CHECKING:
    from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub
    from payments.orders.v1.order_service_pb2_grpc import OrderServiceAsyncStub

_EVENTS = (
    "SELECT subject, key, message_name, payload, event_id FROM mesh.event"
    " WHERE tenant_id = %s AND key = %s ORDER BY seq"
)
_RECEIVED = (
    "SELECT payload FROM mesh.event WHERE tenant_id = %s AND subject = 'payment.received'"
    " ORDER BY seq"
)


@dataclass
class Shop:
    """A mesh with orders and the ledger, on a database."""

    mesh: Mesh
    clock: ManualClock
    database: DatabaseUrls
    runtime: Runtime
    posting: Worker[Claim]
    credits: Worker[Claim]


@asynccontextmanager
async def shop_world(database: DatabaseUrls) -> AsyncIterator[Shop]:
    """Serve orders until the block ends."""
    runtimes: list[Runtime] = []

    def build(runtime: Runtime) -> Service:
        runtimes.append(runtime)
        return replace(bootstrap.build(runtime), start=None, stop=None)

    served = Manifest("orders", needs=SERVICE.needs, builder=build)
    clock = ManualClock(datetime(2026, 11, 20, 9, 30, tzinfo=UTC))
    async with running(database, [ledger.SERVICE, served], clock=clock) as mesh:
        (runtime,) = runtimes
        payments = Payments(runtime.database, LedgerClient(runtime.channels))
        worker = posting(runtime.database, payments, runtime.telemetry)
        credits = Credits(runtime.database, CreditLedgerClient(runtime.channels))
        credit_worker = credit_work(runtime.database, credits, runtime.telemetry)
        yield Shop(mesh, clock, database, runtime, worker, credit_worker)
    with psycopg.connect(database.owner_admin) as owner:
        # What was left half-way would be picked up by any mesh on this database.
        for table in ("posting", "credit_due"):
            owner.execute(f"UPDATE orders.{table} SET due_at = 'infinity' WHERE due_at IS NOT NULL")


def usd(minor_units: int) -> Money:
    return Money(currency_code="USD", minor_units=minor_units)


@dataclass
class Customer:
    """One tenant's view of orders, in few words; all orders are of one person."""

    shop: Shop
    tenant_id: str
    stub: OrderServiceAsyncStub
    ledger: LedgerServiceAsyncStub
    person_id: str
    organization_id: str

    def order(self, minor_units: int = 12000, **fields: Any) -> pb.Order:
        """Write an order as a caller does."""
        values = {
            "person_id": self.person_id,
            "organization_id": self.organization_id,
            "amount_total": usd(minor_units),
            "created_via": "portal",
        }
        return pb.Order(**{**values, **fields})

    async def create(
        self, minor_units: int = 12000, request_id: str = "", **fields: Any
    ) -> pb.Order:
        request = service_pb.CreateOrderRequest(
            request_id=request_id or str(uuid4()), order=self.order(minor_units, **fields)
        )
        return (await self.stub.CreateOrder(request)).order

    async def open(self, order_id: str, **fields: Any) -> pb.Order:
        request = service_pb.OpenOrderRequest(request_id=str(uuid4()), order_id=order_id, **fields)
        return (await self.stub.OpenOrder(request)).order

    async def adjust(
        self, order_id: str, total: Money, request_id: str = "", **fields: Any
    ) -> pb.Order:
        request = service_pb.AdjustOrderTotalRequest(
            request_id=request_id or str(uuid4()), order_id=order_id, amount_total=total, **fields
        )
        return (await self.stub.AdjustOrderTotal(request)).order

    async def note(self, order_id: str, **fields: Any) -> pb.Order:
        request = service_pb.UpdateOrderNotesRequest(
            request_id=str(uuid4()), order_id=order_id, **fields
        )
        return (await self.stub.UpdateOrderNotes(request)).order

    async def cancel(self, order_id: str, request_id: str = "", **fields: Any) -> pb.Order:
        values = {"reason": "ordered twice", **fields}
        request = service_pb.CancelOrderRequest(
            request_id=request_id or str(uuid4()), order_id=order_id, **values
        )
        return (await self.stub.CancelOrder(request)).order

    async def record(
        self, order_id: str, minor_units: int, request_id: str = "", **fields: Any
    ) -> service_pb.RecordPaymentResponse:
        """Record cash, unless the fields say otherwise."""
        values = {"method": "cash", "amount": usd(minor_units), "operator": "Ada", **fields}
        request = service_pb.RecordPaymentRequest(
            request_id=request_id or str(uuid4()), order_id=order_id, **values
        )
        return await self.stub.RecordPayment(request)

    async def refund(
        self, order_id: str, minor_units: int = 0, request_id: str = "", **fields: Any
    ) -> pb.Refund:
        """Give back an amount; 0 for all that is left."""
        values = {"reason": "too cold", "initiated_by": "Grace", **fields}
        request = service_pb.InitiateRefundRequest(
            request_id=request_id or str(uuid4()), order_id=order_id, **values
        )
        if minor_units:
            request.amount.CopyFrom(usd(minor_units))
        return (await self.stub.InitiateRefund(request)).refund

    async def refunds(self, page_size: int = 0, **filters: str) -> list[pb.Refund]:
        found: list[pb.Refund] = []
        token = ""
        while True:
            request = service_pb.ListRefundsRequest(
                page_size=page_size, page_token=token, **filters
            )
            page = await self.stub.ListRefunds(request)
            found += page.refunds
            if not (token := page.next_page_token):
                return found

    async def actions(self, order_id: str, page_size: int = 0) -> list[pb.ExternalAction]:
        found: list[pb.ExternalAction] = []
        token = ""
        while True:
            request = service_pb.ListExternalActionsRequest(
                order_id=order_id, page_size=page_size, page_token=token
            )
            page = await self.stub.ListExternalActions(request)
            found += page.external_actions
            if not (token := page.next_page_token):
                return found

    async def balance(self, account_id: str) -> int:
        """Debits less credits of an account."""
        request = ledger_service_pb2.GetAccountRequest(account_id=account_id)
        sums = (await self.ledger.GetAccount(request)).account.balances
        return sums.debits_posted - sums.credits_posted

    async def difference(self) -> int:
        """Of the trial balance."""
        request = ledger_service_pb2.GetTrialBalanceRequest()
        found = (await self.ledger.GetTrialBalance(request)).trial_balance
        return sum(abs(item.difference.minor_units) for item in found.currencies)

    async def received(self, order_id: str) -> list[PaymentReceived]:
        """What `payment.received` said of an order, in its order."""
        rows = await asyncio.to_thread(self._received)
        found = [PaymentReceived.FromString(bytes(row[0])) for row in rows]
        return [each for each in found if each.order_id == order_id]

    def _received(self) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.shop.database.owner_admin) as connection:
            return connection.execute(_RECEIVED, [self.tenant_id]).fetchall()

    async def get(self, order_id: str) -> pb.Order:
        return (await self.stub.GetOrder(service_pb.GetOrderRequest(order_id=order_id))).order

    async def events(self, order_id: str) -> list[tuple[str, dict[str, Any]]]:
        """Subject and payload of what was published of an order, in its order; all of it JSON, keyed by the order."""
        rows = await asyncio.to_thread(self._rows, order_id)
        found = []
        for subject, key, message_name, payload, _ in rows:
            assert (key, message_name) == (order_id, "")
            found.append((subject, json.loads(bytes(payload))))
        return found

    def _rows(self, order_id: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.shop.database.owner_admin) as connection:
            return connection.execute(_EVENTS, [self.tenant_id, order_id]).fetchall()


def new_customer(shop: Shop) -> Customer:
    """Make a tenant."""
    tenant_id = f"t-{uuid4().hex[:12]}"
    channel = shop.mesh.channel(tenant_id)
    stub, books = OrderServiceStub(channel), LedgerServiceStub(channel)
    return Customer(shop, tenant_id, stub, books, new_id("per"), new_id("org"))
