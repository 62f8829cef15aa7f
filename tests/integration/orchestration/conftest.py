"""Fixtures of the payment tests: a mesh with a manual clock, and a tenant whose merchants are configured."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from payments.config.v1 import config_pb2
from payments.events.v1 import orchestration_events_pb2 as events
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb
from payments.orchestration.v1.orchestration_service_pb2_grpc import (
    MerchantConfigServiceStub,
    PaymentServiceStub,
)
from psycopg.rows import dict_row

from services.orchestration import bootstrap, manifest
from services.orchestration.domain.findings import Heard, Told
from services.orchestration.ports import Books
from services.orchestration.work.payments import Runs
from services.runtime.clock import ManualClock
from services.runtime.manifests import Manifest
from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.service import Runtime, Service
from services.runtime.work import Claim, Worker
from tests.support.mesh.serving import Mesh, running

# Later than any real clock: another suite's mesh on the same database sweeps what is due by the machine's time, and
# must find nothing of ours.
START = datetime(2126, 11, 1, tzinfo=UTC)
Apply = Callable[[Heard], Awaitable[Told]]
Served = tuple[Mesh, Runs, Worker[Claim], ManualClock, Apply]
EVENTS: dict[str, type[Message]] = {
    "payment.step.succeeded": events.StepSucceeded,
    "payment.step.failed": events.StepFailed,
    "payment.step.refunded": events.StepRefunded,
    "payment.completed": events.PaymentCompleted,
    "payment.received": events.PaymentReceived,
    "payment.failed": events.PaymentFailed,
}
# Each step is charged before the next begins.
IN_TURN: dict[str, Any] = {"split": config_pb2.SPLIT_CHARGE_IN_TURN}
CARD = {"method": "card", "processor_id": "sandbox-card"}
WALLET = {
    "method": "wallet",
    "processor_id": "sandbox-wallet",
    "max_amount": {"currency_code": "USD", "minor_units": 5000},
}
ACH = {"method": "ach", "processor_id": "sandbox-ach"}
CARD_WITH_FALLBACK = {
    "method": "card",
    "processor_id": "sandbox-card-down",
    "fallback_processor_ids": ["sandbox-card"],
}


@dataclass
class Bench:
    """A tenant of a running mesh, with the tools to look behind it.

    Attributes:
        runs: the service's background work; its own sweeper sleeps, tests sweep by hand.
        booker: what books payments; it sleeps too.
        apply: takes what processors tell by themselves.
        tenant_id: fresh for each test.
    """

    mesh: Mesh
    runs: Runs
    booker: Worker[Claim]
    clock: ManualClock
    urls: DatabaseUrls
    tenant_id: str
    apply: Apply | None = None

    def __post_init__(self) -> None:
        channel = self.mesh.channel(self.tenant_id)
        self.payments = PaymentServiceStub(channel)
        self.configs = MerchantConfigServiceStub(channel)

    async def configure(
        self, *methods: Mapping[str, Any], merchant: str = "acme", **more: Any
    ) -> int:
        """Store a configuration; returns its version."""
        config = config_pb2.MerchantConfig(merchant_id=merchant, **more)
        for method in methods:
            config.methods.add(**method)
        request = service_pb.PutMerchantConfigRequest(request_id=str(uuid.uuid4()), config=config)
        return int((await self.configs.PutMerchantConfig(request)).version)

    async def pay(self, key: str | None = None, **fields: Any) -> pb.Payment:
        """Create a payment by its raw JSON."""
        request = self.request(key, **fields)
        answer: pb.Payment = (await self.payments.CreatePayment(request)).payment
        return answer

    @staticmethod
    def request(key: str | None = None, **fields: Any) -> service_pb.CreatePaymentRequest:
        """Make a request that is clean but for `fields`; a field that is None is left out."""
        body = {
            "merchant_id": "acme",
            "order_id": "order-1",
            "person_id": "person-1",
            "org_id": "org-1",
            "currency": "USD",
            "amount": "56.84",
        } | fields
        body = {name: value for name, value in body.items() if value is not None}
        return service_pb.CreatePaymentRequest(
            raw_request=json.dumps(body).encode(),
            request_id=str(uuid.uuid4()) if key is None else key,
        )

    async def get(self, payment_id: str) -> pb.Payment:
        """Read a payment."""
        request = service_pb.GetPaymentRequest(payment_id=payment_id)
        answer: pb.Payment = (await self.payments.GetPayment(request)).payment
        return answer

    async def later(self, seconds: float) -> int:
        """Let business time pass and sweep once."""
        self.clock.advance(timedelta(seconds=seconds))
        return await self.runs.worker.sweep()

    def rows(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        """Query as the owner, who sees every tenant."""
        with psycopg.connect(self.urls.owner_admin, row_factory=dict_row) as connection:
            return connection.execute(
                statement.encode(), {"tenant": self.tenant_id, **parameters}
            ).fetchall()

    def execute(self, statement: str, **parameters: Any) -> None:
        """Change rows as the owner, e.g. to set the stage of a recovery."""
        with psycopg.connect(self.urls.owner_admin, autocommit=True) as connection:
            connection.execute(statement.encode(), {"tenant": self.tenant_id, **parameters})

    def net_at_processors(self) -> int:
        """What the processors' own books say was charged and not given back: the oracle."""
        (row,) = self.rows(
            "SELECT coalesce(sum(CASE WHEN operation IN ('CHARGE', 'CAPTURE') THEN amount_minor"
            " WHEN operation = 'REFUND' THEN -amount_minor END), 0)"
            "::bigint AS net FROM orchestration.sandbox_order WHERE tenant_id = %(tenant)s AND done"
        )
        return int(row["net"])

    def events(self) -> list[tuple[str, Message]]:
        """Payment events of the tenant, in the order in which they were published."""
        rows = self.rows(
            "SELECT subject, payload FROM mesh.event WHERE tenant_id = %(tenant)s ORDER BY seq"
        )
        return [
            (row["subject"], EVENTS[row["subject"]].FromString(bytes(row["payload"])))
            for row in rows
            if row["subject"] in EVENTS
        ]

    def subjects(self) -> list[str]:
        """Subjects of `events`."""
        return [subject for subject, _ in self.events()]


def reason(error: grpc.aio.AioRpcError) -> str:
    """ErrorInfo's reason of a refusal."""
    rich = rpc_status.from_call(error)  # type: ignore[arg-type] # an error is a call, too
    assert rich is not None
    info = error_details_pb2.ErrorInfo()
    assert rich.details[0].Unpack(info)
    return str(info.reason)


def step_statuses(payment: pb.Payment) -> list[str]:
    """Statuses of a payment's attempts, short."""
    return [
        pb.AttemptStatus.Name(attempt.status).removeprefix("ATTEMPT_STATUS_")
        for attempt in payment.attempts
    ]


def status(payment: pb.Payment) -> str:
    """Status of a payment, short."""
    return pb.PaymentStatus.Name(payment.status).removeprefix("PAYMENT_STATUS_")


@pytest.fixture(scope="module")
async def served(database_url: DatabaseUrls) -> AsyncIterator[Served]:
    """A mesh of this service alone, whose sweepers are worked by hand."""
    async with serving(database_url, []) as served:
        yield served


@pytest.fixture
def bench(served: Served, database_url: DatabaseUrls) -> Bench:
    """A fresh tenant."""
    mesh, runs, booker, clock, apply = served
    tenant_id = f"t-{uuid.uuid4().hex[:12]}"
    return Bench(mesh, runs, booker, clock, database_url, tenant_id, apply)


@asynccontextmanager
async def serving(
    urls: DatabaseUrls, others: Sequence[Manifest], books: Books | None = None, **settings: Any
) -> AsyncIterator[Served]:
    """Serve payments, whose sweepers are worked by hand, beside other services."""
    built: list[tuple[bootstrap.Parts, Apply]] = []

    def build(runtime: Runtime) -> Service:
        parts = bootstrap.assemble(runtime, books)

        async def apply(heard: Heard) -> Told:
            async with runtime.database.unit_of_work("test.finding") as work:
                return await parts.findings(heard, work)

        built.append((parts, apply))
        return Service(parts.service.servicers, stop=parts.service.stop)

    clock = ManualClock(START)
    payments = Manifest("orchestration", needs=manifest.SERVICE.needs, builder=build)
    async with running(urls, [payments, *others], clock=clock, **settings) as mesh:
        ((parts, apply),) = built
        yield mesh, parts.runs, parts.booker, clock, apply
