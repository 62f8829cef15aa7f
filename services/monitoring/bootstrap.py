"""Builds the contract monitor from the runtime."""

from __future__ import annotations

from payments.contracts.v1 import contracts_service_pb2_grpc

from services.monitoring import reactions
from services.monitoring.app import Monitor
from services.monitoring.domain import Contract, ContractKind
from services.monitoring.servicer import ContractMonitorServicer
from services.runtime import contracts
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build the service. What the services of the release declare, every tenant has from the start."""
    monitor = Monitor(
        runtime.database, runtime.commands, [built_in(item) for item in runtime.contracts]
    )
    return Service(
        servicers=[
            Servicer(
                contracts_service_pb2_grpc.add_ContractMonitorServiceServicer_to_server,
                ContractMonitorServicer(monitor, runtime.clock),
                "payments.contracts.v1.ContractMonitorService",
            )
        ],
        reactions=[reactions.violations(monitor)],
    )


def built_in(declared: contracts.Contract) -> Contract:
    """Return a declared contract as the monitor keeps it."""
    return Contract(
        contract_id=declared.contract_id,
        title=declared.title,
        description=declared.description,
        owner=declared.contract_id.partition("/")[0],
        severity=declared.severity,
        kind=ContractKind(declared.kind.value),
        version=1,
        built_in=True,
    )
