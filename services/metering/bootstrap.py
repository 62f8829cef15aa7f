"""The one place that builds metering."""

from __future__ import annotations

from collections.abc import Callable

from payments.metering.v1 import guardrail_service_pb2_grpc, metering_service_pb2_grpc

from services.metering.adapters.cloudevents import CloudEvents
from services.metering.adapters.held import Requests
from services.metering.adapters.spool import JetStreamSpool
from services.metering.app.books import BookMemory
from services.metering.app.budgets import Budgets
from services.metering.app.corrections import Corrections
from services.metering.app.guarding import Guarding
from services.metering.app.holds import Holds
from services.metering.app.listing import Listing
from services.metering.app.log import ReceiptLog
from services.metering.app.metering import Metering
from services.metering.app.rejected import Rejected
from services.metering.app.rollups import Rollups
from services.metering.app.skus import SkuMemory
from services.metering.app.spooling import Spooling
from services.metering.app.usage import Usages
from services.metering.clients import CatalogClient, PricesClient
from services.metering.ports import Spool
from services.metering.reactions import REACTIONS
from services.metering.servicer.guardrails import GuardrailServicer
from services.metering.servicer.metering import MeteringServicer
from services.metering.work.holds import expiring
from services.metering.work.log import Closing
from services.metering.work.ordinals import Sequencing
from services.metering.work.partitions import Partitions
from services.metering.work.rollups import RollingUp
from services.metering.work.spool import Draining
from services.runtime.background import Background, Task
from services.runtime.config import Settings
from services.runtime.events.jetstream import Options
from services.runtime.service import Runtime, Service, Servicer
from services.runtime.workers import Workers


def build(runtime: Runtime) -> Service:
    """Build the service."""
    skus = SkuMemory(CatalogClient(runtime.channels).known)
    prices, memory = PricesClient(runtime.channels), BookMemory()
    guarding = Guarding(runtime.database, prices, memory)
    metering = Metering(runtime.database, runtime.commands, skus, runtime.clock, guarding, memory)
    log = ReceiptLog(runtime.database, runtime.violations)
    usages = Usages(runtime.database, skus, log)
    workers = Workers()
    requests = Requests(CloudEvents(workers))
    spool = _spool(runtime.settings)
    spooling = Spooling(
        spool,
        runtime.database,
        metering,
        guarding,
        runtime.commands,
        runtime.clock,
        runtime.keys,
        requests,
        runtime.telemetry,
    )
    corrections = Corrections(
        runtime.database,
        runtime.commands,
        skus,
        runtime.clock,
        guarding,
        None if spool is None else spooling.may_hold,
    )
    rejected = Rejected(runtime.database, runtime.commands, metering, guarding)
    budgets = Budgets(runtime.database, prices, skus)
    holds = Holds(runtime.database, runtime.commands, prices, memory)
    tasks: list[Task] = [
        Sequencing(runtime.database),
        Closing(runtime.database),
        RollingUp(runtime.database),
        Partitions(runtime.database, runtime.telemetry),
        expiring(runtime.database, holds, runtime.telemetry),
    ]
    outlasting: dict[str, Callable[[], bool]] = {}
    if spool is not None:
        draining = Draining(
            spool, spooling, runtime.database, runtime.violations, runtime.telemetry
        )
        tasks.append(draining)
        outlasting["payments.metering.v1.MeteringService"] = draining.takes
    background = Background(tasks)

    async def stop() -> None:
        await background.stop()
        await workers.close()

    return Service(
        servicers=[
            Servicer(
                metering_service_pb2_grpc.add_MeteringServiceServicer_to_server,
                MeteringServicer(
                    metering,
                    usages,
                    corrections,
                    rejected,
                    Listing(runtime.database),
                    requests,
                    spooling,
                    log,
                    Rollups(runtime.database, runtime.violations),
                    runtime.commands,
                ),
                "payments.metering.v1.MeteringService",
            ),
            Servicer(
                guardrail_service_pb2_grpc.add_GuardrailServiceServicer_to_server,
                GuardrailServicer(budgets, holds, runtime.commands),
                "payments.metering.v1.GuardrailService",
            ),
        ],
        reactions=REACTIONS,
        start=background.start,
        stop=stop,
        outlasting=outlasting,
    )


def _spool(settings: Settings) -> Spool | None:
    options = Options.of_spool(settings)
    if options is None:
        return None
    return JetStreamSpool(options, settings.mesh_secret.get_secret_value())
