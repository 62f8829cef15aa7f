"""Builds billing from the runtime."""

from __future__ import annotations

from payments.billing.v1 import charge_service_pb2_grpc

from services.billing.app import Charges
from services.billing.clients import LedgerClient, PricingClient
from services.billing.servicer import ChargeServicer
from services.billing.sweep import Sweep
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build the service."""
    charges = Charges(
        runtime.database,
        runtime.idempotency,
        PricingClient(runtime.channels),
        LedgerClient(runtime.channels),
    )
    sweep = Sweep(runtime.database, charges)
    return Service(
        servicers=[
            Servicer(
                charge_service_pb2_grpc.add_ChargeServiceServicer_to_server,
                ChargeServicer(charges),
                "payments.billing.v1.ChargeService",
            )
        ],
        start=sweep.start,
        stop=sweep.stop,
    )
