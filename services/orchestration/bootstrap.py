"""Builds the service."""

from __future__ import annotations

import secrets

from payments.orchestration.v1 import orchestration_service_pb2_grpc as service_grpc

from services.orchestration.adapters.sandbox import sandbox
from services.orchestration.app.configs import MerchantConfigs
from services.orchestration.app.engine import Engine
from services.orchestration.app.payments import Payments
from services.orchestration.servicer import MerchantConfigServicer, PaymentServicer
from services.orchestration.work import Runs
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build both gRPC services, and the sweeper that continues what nobody works on."""
    return assemble(runtime)[0]


def assemble(runtime: Runtime) -> tuple[Service, Runs]:
    """Build the service and its background work; who injects the clock also wants to say when it sweeps."""
    processors = sandbox(runtime.database)
    engine = Engine(runtime.database, processors, runtime.clock, secrets.token_bytes(32))
    runs = Runs(runtime.database, engine, runtime.violations, runtime.telemetry)
    payments = PaymentServicer(Payments(runtime.database, runtime.commands, runs))
    configs = MerchantConfigServicer(
        MerchantConfigs(runtime.database, frozenset(processors)), runtime.commands
    )
    service = Service(
        [
            Servicer(
                service_grpc.add_PaymentServiceServicer_to_server,
                payments,
                "payments.orchestration.v1.PaymentService",
            ),
            Servicer(
                service_grpc.add_MerchantConfigServiceServicer_to_server,
                configs,
                "payments.orchestration.v1.MerchantConfigService",
            ),
        ],
        start=runs.worker.start,
        stop=runs.worker.stop,
    )
    return service, runs
