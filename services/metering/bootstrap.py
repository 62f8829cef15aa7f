"""The one place that builds metering."""

from __future__ import annotations

from payments.metering.v1 import metering_service_pb2_grpc

from services.metering.app.metering import Metering
from services.metering.app.skus import SkuMemory
from services.metering.clients import CatalogClient
from services.metering.reactions import REACTIONS
from services.metering.servicer import MeteringServicer
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build the service."""
    skus = SkuMemory(CatalogClient(runtime.channels).known)
    metering = Metering(runtime.database, runtime.commands, skus, runtime.clock)
    return Service(
        servicers=[
            Servicer(
                metering_service_pb2_grpc.add_MeteringServiceServicer_to_server,
                MeteringServicer(metering, runtime.commands),
                "payments.metering.v1.MeteringService",
            )
        ],
        reactions=REACTIONS,
    )
