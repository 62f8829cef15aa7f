"""Builds the event service from the runtime."""

from __future__ import annotations

import random

from payments.events.v1 import events_service_pb2_grpc

from services.events import reactions
from services.events.adapters.checks import Checks
from services.events.adapters.webhooks_sender import Sender
from services.events.app.feed import EventReader
from services.events.app.journeys import Journeys
from services.events.app.operations import Operations
from services.events.app.publisher import Publisher
from services.events.app.timers import Timers
from services.events.app.types import TypeRegistry
from services.events.app.webhooks import Webhooks
from services.events.domain.webhooks_policy import Draw
from services.events.servicer import EventServicer
from services.events.store import catalogue
from services.events.work import WebhookWorker
from services.runtime.addresses import AllowList
from services.runtime.secrets import SecretBox, parse_keys
from services.runtime.service import Runtime, Service, Servicer
from services.runtime.workers import CPU_SECONDS, Workers


def build(runtime: Runtime) -> Service:
    """Build the service. A catalogue that breaks a rule fails the start.

    Raises:
        CatalogueUnfit: an entry of the release's catalogue breaks a rule.
    """
    return assemble(runtime)[0]


def assemble(
    runtime: Runtime,
    *,
    sender: Sender | None = None,
    draw: Draw = random.random,
    cpu_seconds: float = CPU_SECONDS,
) -> tuple[Service, WebhookWorker]:
    """Build the service and the sender of its webhooks; who injects the clock also wants to say when it
    sends, and `cpu_seconds` is what an event may take to be checked.
    """
    catalogue.entries()
    allow = AllowList.parse(runtime.settings.webhook_allow)
    box = SecretBox(parse_keys(runtime.settings.secrets_keys.get_secret_value()))
    worker = WebhookWorker(
        runtime.database,
        sender or Sender(allow),
        box,
        runtime.clock,
        telemetry=runtime.telemetry,
        draw=draw,
    )
    workers = Workers(cpu_seconds=cpu_seconds)
    checks = Checks(workers, cpu_seconds)
    publisher = Publisher(runtime.database, runtime.bus, checks)

    async def stop() -> None:
        await worker.stop()
        await workers.close()

    service = Service(
        servicers=[
            Servicer(
                events_service_pb2_grpc.add_EventServiceServicer_to_server,
                EventServicer(
                    EventReader(runtime.database, runtime.bus),
                    TypeRegistry(runtime.database, checks),
                    publisher,
                    checks,
                    Webhooks(runtime.database, box, allow),
                    Operations(runtime.database, runtime.bus),
                    Timers(runtime.database, publisher),
                    Journeys(runtime.database),
                    runtime.commands,
                ),
                "payments.events.v1.EventService",
            )
        ],
        follows_feed=True,
        reactions=[reactions.webhooks(worker.wake)],
        start=worker.start,
        stop=stop,
    )
    return service, worker
