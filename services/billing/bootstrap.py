"""Builds billing from the runtime."""

from __future__ import annotations

from payments.billing.v1 import charge_service_pb2_grpc

from services.billing.app.charges import Charges
from services.billing.app.corrections import Corrections
from services.billing.clients import LedgerClient, PricingClient
from services.billing.servicer import ChargeServicer
from services.billing.work import resuming
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build the service."""
    pricing = PricingClient(runtime.channels)
    charges = Charges(runtime.database, pricing, LedgerClient(runtime.channels))
    corrections = Corrections(runtime.database, charges, pricing)
    worker = resuming(runtime.database, charges, runtime.telemetry)
    return Service(
        servicers=[
            Servicer(
                charge_service_pb2_grpc.add_ChargeServiceServicer_to_server,
                ChargeServicer(charges, corrections, runtime.commands),
                "payments.billing.v1.ChargeService",
            )
        ],
        start=worker.start,
        stop=worker.stop,
    )
