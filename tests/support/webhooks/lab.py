"""A receiver of webhooks on a port of its own, and a mesh whose sender works when it is told to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from aiohttp import web
from payments.events.v1 import events_service_pb2 as service_pb2
from payments.events.v1 import events_service_pb2_grpc, webhooks_pb2
from payments.events.v1.pricing_events_pb2 import PlanCreated

from services.events import bootstrap
from services.events.adapters.webhooks_sender import Sender
from services.events.work import WebhookWorker
from services.runtime.clock import ManualClock
from services.runtime.context import acting
from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.secrets import new_key
from services.runtime.service import Runtime, Service
from tests.support.events.lab import call, new_tenant
from tests.support.mesh.serving import Mesh, running

ALLOW = "127.0.0.1/32"
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)

RECEIVED_SECONDS = 20.0

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Received:
    """A request that came in."""

    path: str
    headers: dict[str, str]
    body: bytes


def answering(status: int, text: str = "", **headers: str) -> Behaviour:
    """Answer every request alike; `Retry_After` stands for Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def behave(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=named)

    return behave


@dataclass(slots=True)
class Receiver:
    """Takes requests down, and answers as it is told to."""

    behaviour: Behaviour = field(default_factory=lambda: answering(204))
    received: list[Received] = field(default_factory=list)
    port: int = 0
    scheme: str = "http"
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Take a request down, then answer."""
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received(request.path_qs, headers, body))
        self._moved.set()
        return await self.behaviour(request)

    async def has_received(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(RECEIVED_SECONDS):
            while len(self.received) < count:
                self._moved.clear()
                await self._moved.wait()


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver on a free port until the block ends."""
    receiver = Receiver(scheme="https" if tls else "http")
    application = web.Application(client_max_size=4 * 1024 * 1024)
    application.router.add_route("*", "/{tail:.*}", receiver.take)
    # Handlers that hang are ended with the receiver.
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        receiver.port = runner.addresses[0][1]
        yield receiver
    finally:
        await runner.cleanup()


class WebhookLab:
    """One tenant's webhooks on a mesh whose time and whose sender stand still between calls."""

    def __init__(
        self, mesh: Mesh, worker: WebhookWorker, clock: ManualClock, tenant: str = ""
    ) -> None:
        self.mesh = mesh
        self.worker = worker
        self.clock = clock
        self.tenant = tenant or new_tenant()
        self.stub = events_service_pb2_grpc.EventServiceStub(mesh.channel(self.tenant))

    async def create(
        self, url: str, *subjects: str, **fields: Any
    ) -> service_pb2.CreateWebhookEndpointResponse:
        """Make an endpoint."""
        request = service_pb2.CreateWebhookEndpointRequest(
            request_id=str(uuid4()), url=url, subjects=subjects or ("*",), **fields
        )
        answer: service_pb2.CreateWebhookEndpointResponse = await self.stub.CreateWebhookEndpoint(
            request
        )
        return answer

    async def update(self, endpoint_id: str, **fields: Any) -> webhooks_pb2.WebhookEndpoint:
        """Change an endpoint."""
        request = service_pb2.UpdateWebhookEndpointRequest(
            request_id=str(uuid4()), endpoint_id=endpoint_id, **fields
        )
        return (await self.stub.UpdateWebhookEndpoint(request)).endpoint

    async def get(self, endpoint_id: str) -> webhooks_pb2.WebhookEndpoint:
        """Read an endpoint."""
        request = service_pb2.GetWebhookEndpointRequest(endpoint_id=endpoint_id)
        return (await self.stub.GetWebhookEndpoint(request)).endpoint

    async def rotate(
        self, endpoint_id: str, overlap: timedelta | None = None, **fields: Any
    ) -> service_pb2.RotateWebhookSecretResponse:
        """Make a new secret."""
        request = service_pb2.RotateWebhookSecretRequest(
            request_id=str(uuid4()), endpoint_id=endpoint_id, **fields
        )
        if overlap is not None:
            request.overlap.FromTimedelta(overlap)
        answer: service_pb2.RotateWebhookSecretResponse = await self.stub.RotateWebhookSecret(
            request
        )
        return answer

    async def redeliver(
        self, endpoint_id: str, **fields: Any
    ) -> service_pb2.RedeliverWebhookResponse:
        """Send again."""
        request = service_pb2.RedeliverWebhookRequest(
            request_id=str(uuid4()), endpoint_id=endpoint_id, **fields
        )
        answer: service_pb2.RedeliverWebhookResponse = await self.stub.RedeliverWebhook(request)
        return answer

    async def attempts(self, **fields: Any) -> list[webhooks_pb2.WebhookAttempt]:
        """Return attempts, the newest first."""
        request = service_pb2.ListWebhookAttemptsRequest(page_size=200, **fields)
        return list((await self.stub.ListWebhookAttempts(request)).attempts)

    async def deliveries(
        self, endpoint_id: str, **fields: Any
    ) -> list[webhooks_pb2.WebhookDelivery]:
        """Return deliveries, the newest first."""
        request = service_pb2.ListWebhookDeliveriesRequest(endpoint_id=endpoint_id, **fields)
        return list((await self.stub.ListWebhookDeliveries(request)).deliveries)

    async def publish(self, *plans: str) -> list[str]:
        """Publish `plan.created` of plans, and wait until the deliveries of it are there."""
        with acting(call(self.tenant)):
            async with self.mesh.node.database.unit_of_work("lab.publish") as work:
                ids = [work.publish(PlanCreated(plan_id=plan, plan_version=1)) for plan in plans]
        await self.mesh.drain_events()
        return ids

    async def after(self, wait: timedelta) -> int:
        """Let time pass, then send what is due; returns how many requests that were."""
        self.clock.advance(wait)
        return await self.worker.sweep()


@asynccontextmanager
async def webhook_mesh(
    urls: DatabaseUrls,
    clock: ManualClock,
    *,
    sender: Sender | None = None,
    draw: Callable[[], float] = lambda: 0.5,
    **settings: Any,
) -> AsyncIterator[tuple[Mesh, WebhookWorker]]:
    """Serve the event service; nothing is sent but by the worker's `sweep`."""
    workers: list[WebhookWorker] = []

    def build(runtime: Runtime) -> Service:
        service, worker = bootstrap.assemble(runtime, sender=sender, draw=draw)
        workers.append(worker)
        return replace(service, start=None)

    settings = {"secrets_keys": new_key(), "webhook_allow": ALLOW, **settings}
    async with running(urls, [build], clock=clock, **settings) as mesh:
        yield mesh, workers[0]
