"""OrderService on a real server with real Postgres, and the events that it writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
from payments.orders.v1 import order_service_pb2 as service_pb
from payments.orders.v1 import orders_pb2 as pb
from payments.orders.v1.order_service_pb2_grpc import OrderServiceStub
from payments.type.v1.type_pb2 import Money

from services.orders.manifest import SERVICE
from services.runtime.clock import ManualClock
from services.runtime.ids import new_id
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

if TYPE_CHECKING:
    from payments.orders.v1.order_service_pb2_grpc import OrderServiceAsyncStub

_EVENTS = (
    "SELECT subject, key, message_name, payload, event_id FROM mesh.event"
    " WHERE tenant_id = %s AND key = %s ORDER BY seq"
)


@dataclass
class Shop:
    """A mesh with orders, on a database."""

    mesh: Mesh
    clock: ManualClock
    database: DatabaseUrls


@asynccontextmanager
async def shop_world(database: DatabaseUrls) -> AsyncIterator[Shop]:
    """Serve orders until the block ends."""
    clock = ManualClock(datetime(2026, 11, 20, 9, 30, tzinfo=UTC))
    async with running(database, [SERVICE], clock=clock) as mesh:
        yield Shop(mesh, clock, database)


def usd(minor_units: int) -> Money:
    return Money(currency_code="USD", minor_units=minor_units)


@dataclass
class Customer:
    """One tenant's view of orders, in few words; all orders are of one person."""

    shop: Shop
    tenant_id: str
    stub: OrderServiceAsyncStub
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
    stub = OrderServiceStub(shop.mesh.channel(tenant_id))
    return Customer(shop, tenant_id, stub, new_id("per"), new_id("org"))
