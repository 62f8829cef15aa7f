"""AgreementService on a real server with real Postgres, and the events that it writes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
from google.protobuf.message import Message
from payments.agreements.v1 import agreement_service_pb2 as service_pb
from payments.agreements.v1 import agreements_pb2 as pb
from payments.agreements.v1.agreement_service_pb2_grpc import AgreementServiceStub
from payments.events.v1 import agreement_events_pb2

from services.runtime.clock import ManualClock
from services.runtime.edge import values as edge
from tests.support.mesh.serving import Mesh
from tests.support.postgres.server import DatabaseUrls

if TYPE_CHECKING:
    from payments.agreements.v1.agreement_service_pb2_grpc import AgreementServiceAsyncStub

_EVENTS = "SELECT subject, message_name, payload FROM mesh.event WHERE tenant_id = %s AND key = %s ORDER BY seq"


@dataclass
class World:
    """A mesh with agreements, on a database."""

    mesh: Mesh
    clock: ManualClock
    database: DatabaseUrls


def begun(
    start_at: datetime, end_at: datetime | None = None, buyer: str = "acme", seller: str = "north"
) -> pb.Edit:
    """Write `create`, in US dollars."""
    term = pb.Term(start_at=edge.stamp(start_at), end_at=edge.stamp_or_none(end_at))
    return pb.Edit(create=pb.Create(buyer=buyer, seller=seller, currency_code="USD", term=term))


def with_product(product_id: str = "rack", unit_price: str = "10.00", **fields: Any) -> pb.Edit:
    """Write `add_product`."""
    product = pb.Product(
        product_id=product_id, sku="colo", quantity="2", unit_price=unit_price, **fields
    )
    return pb.Edit(add_product=pb.AddProduct(product=product))


def priced(unit_price: str, product_id: str = "rack") -> pb.Edit:
    """Write `change_price`."""
    return pb.Edit(change_price=pb.ChangePrice(product_id=product_id, unit_price=unit_price))


ACTIVATE = pb.Edit(activate=pb.Activate())


@dataclass
class Contracts:
    """One tenant's view of agreements, in few words."""

    world: World
    tenant_id: str
    stub: AgreementServiceAsyncStub

    async def apply(
        self,
        agreement_id: str,
        *edits: pb.Edit,
        at: datetime | None = None,
        request_id: str = "",
        **fields: Any,
    ) -> service_pb.ApplyEditsResponse:
        """Apply edits; without an id a new agreement."""
        return await self.stub.ApplyEdits(
            service_pb.ApplyEditsRequest(
                request_id=request_id or str(uuid4()),
                agreement_id=agreement_id,
                edits=edits,
                effective_at=edge.stamp_or_none(at),
                **fields,
            )
        )

    async def draft(self, end_at: datetime | None = None) -> str:
        """Begin an agreement with one product, from now on."""
        edits = (begun(self.world.clock.now(), end_at), with_product())
        return (await self.apply("", *edits)).agreement.agreement_id

    async def get(
        self, agreement_id: str, at: datetime | None = None, known: datetime | None = None
    ) -> pb.Agreement:
        request = service_pb.GetAgreementRequest(
            agreement_id=agreement_id,
            effective_at=edge.stamp_or_none(at),
            recorded_at=edge.stamp_or_none(known),
        )
        return (await self.stub.GetAgreement(request)).agreement

    async def edits(self, agreement_id: str, page_size: int = 0) -> list[pb.AppliedEdit]:
        found: list[pb.AppliedEdit] = []
        token = ""
        while True:
            request = service_pb.ListEditsRequest(
                agreement_id=agreement_id, page_size=page_size, page_token=token
            )
            page = await self.stub.ListEdits(request)
            found += page.edits
            if not (token := page.next_page_token):
                return found

    async def events(self, agreement_id: str) -> list[tuple[str, Any]]:
        """Subject and payload of what was told of an agreement, in its order."""
        rows = await asyncio.to_thread(self._rows, agreement_id)
        return [(row[0], _payload(row[1], bytes(row[2]))) for row in rows]

    def _rows(self, agreement_id: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.world.database.owner_admin) as connection:
            return connection.execute(_EVENTS, [self.tenant_id, agreement_id]).fetchall()


def new_contracts(world: World) -> Contracts:
    """Make a tenant."""
    tenant_id = f"t-{uuid4().hex[:12]}"
    return Contracts(world, tenant_id, AgreementServiceStub(world.mesh.channel(tenant_id)))


def _payload(name: str, data: bytes) -> Message:
    kind: type[Message] = getattr(agreement_events_pb2, name.rpartition(".")[2])
    found = kind()
    found.ParseFromString(data)
    return found
