"""CreditService for one tenant, in few words; all credits are of one person."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
from google.protobuf.timestamp_pb2 import Timestamp
from payments.orders.v1 import credit_service_pb2 as service_pb
from payments.orders.v1 import credits_pb2 as pb
from payments.orders.v1.credit_service_pb2_grpc import CreditServiceStub

from tests.support.orders.desk import Customer

if TYPE_CHECKING:
    from payments.orders.v1.credit_service_pb2_grpc import CreditServiceAsyncStub

_EVENTS = (
    "SELECT subject, payload FROM mesh.event WHERE tenant_id = %s"
    " AND (subject LIKE 'credit.%%' OR subject = 'customer.handoff') ORDER BY seq"
)


@dataclass
class Wallet:
    """Credits of the customer's person."""

    customer: Customer
    stub: CreditServiceAsyncStub

    async def grant(self, amount: str = "100.00", request_id: str = "", **fields: Any) -> pb.Grant:
        """Give dollars of a promotion, unless the fields say otherwise; times are datetimes."""
        values = {
            "owner_id": self.customer.person_id,
            "unit": "USD",
            "amount": amount,
            "source": "PROMOTION",
            **{name: stamped(value) for name, value in fields.items()},
        }
        request = service_pb.GrantCreditsRequest(
            request_id=request_id or str(uuid4()), grant=pb.Grant(**values)
        )
        return (await self.stub.GrantCredits(request)).grant

    async def reverse(
        self, grant_id: str, request_id: str = "", reason: str = "a mistake"
    ) -> service_pb.ReverseGrantResponse:
        request = service_pb.ReverseGrantRequest(
            request_id=request_id or str(uuid4()), grant_id=grant_id, reason=reason
        )
        return await self.stub.ReverseGrant(request)

    async def grants(self, page_size: int = 0, **filters: str) -> list[pb.Grant]:
        found: list[pb.Grant] = []
        token = ""
        while True:
            request = service_pb.ListGrantsRequest(page_size=page_size, page_token=token, **filters)
            page = await self.stub.ListGrants(request)
            found += page.grants
            if not (token := page.next_page_token):
                return found

    async def balance(self, unit: str = "USD", at: datetime | None = None) -> tuple[str, str]:
        """What is available, and what is held."""
        request = service_pb.GetCreditBalanceRequest(
            owner_id=self.customer.person_id, unit=unit, effective_at=stamped(at)
        )
        found = await self.stub.GetCreditBalance(request)
        return found.available, found.held

    async def told(self) -> list[tuple[str, dict[str, Any]]]:
        """Subject and payload of what was published of credits, in its order."""
        rows = await asyncio.to_thread(self._rows)
        return [(subject, json.loads(bytes(payload))) for subject, payload in rows]

    def _rows(self) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.customer.shop.database.owner_admin) as connection:
            return connection.execute(_EVENTS, [self.customer.tenant_id]).fetchall()


def new_wallet(customer: Customer) -> Wallet:
    """Open the credits of a tenant."""
    channel = customer.shop.mesh.channel(customer.tenant_id)
    return Wallet(customer, CreditServiceStub(channel))


def stamped(value: Any) -> Any:
    """Write a time as callers do; anything else stays."""
    if not isinstance(value, datetime):
        return value
    stamp = Timestamp()
    stamp.FromDatetime(value)
    return stamp
