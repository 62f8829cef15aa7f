"""Builds the service."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from payments.orchestration.v1 import orchestration_service_pb2_grpc as service_grpc

from services.orchestration.adapters.credentials import Credentials
from services.orchestration.adapters.http_json.adapter import HttpJsonAdapter
from services.orchestration.adapters.registry import Adapter, Registry
from services.orchestration.adapters.sandbox import sandbox
from services.orchestration.adapters.stripe.adapter import StripeAdapter
from services.orchestration.adapters.wire import Wire
from services.orchestration.app.bookings import Bookings
from services.orchestration.app.configs import MerchantConfigs
from services.orchestration.app.engine import Engine
from services.orchestration.app.findings import ApplyFinding, ResolveAttempt, Seizing
from services.orchestration.app.instructions import Instructions
from services.orchestration.app.payments import Payments
from services.orchestration.app.processors import MerchantProcessors, ProcessorList
from services.orchestration.app.settling import Settling
from services.orchestration.app.watching import Watching
from services.orchestration.app.webhooks import ReceiveWebhook
from services.orchestration.clients import LedgerClient
from services.orchestration.ports import Books
from services.orchestration.servicer import MerchantConfigServicer, PaymentServicer
from services.orchestration.work.bookings import booking
from services.orchestration.work.payments import Runs
from services.runtime.addresses import AllowList
from services.runtime.background import Background
from services.runtime.service import Runtime, Service, Servicer
from services.runtime.work import Claim, Worker


def build(runtime: Runtime) -> Service:
    """Build both gRPC services, the sweeper that continues what nobody works on, and what books payments."""
    return assemble(runtime).service


def adapters() -> list[Adapter]:
    """Return what speaks to processors of merchants' own."""
    return [HttpJsonAdapter(), StripeAdapter()]


class Parts(NamedTuple):
    """The service and what works in it.

    Attributes:
        runs: works on payments.
        booker: books them.
        findings: takes what processors tell by themselves.
    """

    service: Service
    runs: Runs
    booker: Worker[Claim]
    findings: ApplyFinding


def assemble(runtime: Runtime, books: Books | None = None) -> Parts:
    """Build the service and its background work; who injects the clock also wants to say when it sweeps.

    Args:
        runtime: what it runs on.
        books: where payments are booked; the ledger when it is not given.
    """
    settings = runtime.settings
    allow = AllowList.parse(settings.processor_allow)
    wire = Wire(allow)
    registry = Registry(
        runtime.database,
        sandbox(runtime.database),
        adapters(),
        Credentials(settings.processor_credentials, settings.processor_credentials_dir),
        wire,
        allow,
        runtime.clock,
    )
    processors = MerchantProcessors(runtime.database, registry)
    bookings = Bookings(runtime.database, books or LedgerClient(runtime.channels))
    booker = booking(runtime.database, bookings, runtime.telemetry)
    settling = Settling(bookings, booker.wake)
    engine = Engine(
        runtime.database,
        processors,
        runtime.clock,
        secrets.token_bytes(32),
        settling,
    )
    runs = Runs(runtime.database, engine, runtime.violations, runtime.telemetry)
    payments = Payments(runtime.database, runtime.commands, runs, processors)
    instructions = Instructions(payments, runtime.commands, runs, processors)
    seizing = Seizing(settling, payments, runs)
    resolve = ResolveAttempt(seizing, payments, runtime.commands)
    findings = ApplyFinding(seizing)
    receive = ReceiveWebhook(
        runtime.database, runtime.commands, registry, processors, runs, findings
    )
    configs = MerchantConfigServicer(
        MerchantConfigs(runtime.database, registry, processors), runtime.commands
    )
    background = Background([runs.worker, booker])

    async def stop() -> None:
        await background.stop()
        await wire.close()

    service = Service(
        [
            Servicer(
                service_grpc.add_PaymentServiceServicer_to_server,
                PaymentServicer(
                    payments,
                    instructions,
                    resolve,
                    ProcessorList(runtime.database, registry),
                    Watching(payments, runs),
                    receive,
                ),
                "payments.orchestration.v1.PaymentService",
            ),
            Servicer(
                service_grpc.add_MerchantConfigServiceServicer_to_server,
                configs,
                "payments.orchestration.v1.MerchantConfigService",
            ),
        ],
        start=background.start,
        stop=stop,
    )
    return Parts(service, runs, booker, findings)
