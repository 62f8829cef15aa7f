"""Builds the contract monitor from the runtime."""

from __future__ import annotations

from payments.contracts.v1 import contracts_service_pb2_grpc

from services.monitoring.app import Monitor
from services.monitoring.reactions import REACTIONS
from services.monitoring.servicer import ContractMonitorServicer
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build the service."""
    return Service(
        name="monitoring",
        servicers=[
            Servicer(
                contracts_service_pb2_grpc.add_ContractMonitorServiceServicer_to_server,
                ContractMonitorServicer(Monitor(runtime.database, runtime.commands), runtime.clock),
                "payments.contracts.v1.ContractMonitorService",
            )
        ],
        reactions=REACTIONS,
        migrations="services.monitoring.migrations",
    )
