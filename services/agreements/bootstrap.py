"""Builds agreements from the runtime."""

from __future__ import annotations

from payments.agreements.v1 import agreement_service_pb2_grpc

from services.agreements.app.agreements import Agreements
from services.agreements.servicer import AgreementServicer
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build the service."""
    agreements = Agreements(runtime.database)
    return Service(
        servicers=[
            Servicer(
                agreement_service_pb2_grpc.add_AgreementServiceServicer_to_server,
                AgreementServicer(agreements, runtime.commands, runtime.clock),
                "payments.agreements.v1.AgreementService",
            )
        ],
    )
