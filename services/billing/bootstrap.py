"""Builds billing from the runtime."""

from __future__ import annotations

from payments.billing.v1 import charge_service_pb2_grpc

from services.billing.app import Charges
from services.billing.clients import LedgerClient, PricingClient
from services.billing.servicer import ChargeServicer
from services.billing.work import resuming
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build the service."""
    charges = Charges(
        runtime.database,
        PricingClient(runtime.channels),
        LedgerClient(runtime.channels),
    )
    worker = resuming(runtime.database, charges, runtime.telemetry)
    return Service(
        servicers=[
            Servicer(
                charge_service_pb2_grpc.add_ChargeServiceServicer_to_server,
                ChargeServicer(charges, runtime.commands),
                "payments.billing.v1.ChargeService",
            )
        ],
        start=worker.start,
        stop=worker.stop,
    )
