"""The one place that builds metering."""

from __future__ import annotations

from collections.abc import Collection

from payments.metering.v1 import metering_service_pb2_grpc
from payments.pricing.v1 import catalog_service_pb2, catalog_service_pb2_grpc

from services.metering.app import Metering
from services.metering.catalogue import Lookup, SkuMemory
from services.metering.reactions import REACTIONS
from services.metering.servicer import MeteringServicer
from services.runtime.edge.channels import Channels
from services.runtime.service import Runtime, Service, Servicer

SKUS_PER_LOOKUP = 1000
"""As many as one ListSkus takes and answers."""


def build(runtime: Runtime) -> Service:
    """Build the service."""
    metering = Metering(
        runtime.database, SkuMemory(_catalogue_lookup(runtime.channels)), runtime.clock
    )
    return Service(
        servicers=[
            Servicer(
                metering_service_pb2_grpc.add_MeteringServiceServicer_to_server,
                MeteringServicer(metering, runtime.idempotency),
                "payments.metering.v1.MeteringService",
            )
        ],
        reactions=REACTIONS,
    )


def _catalogue_lookup(channels: Channels) -> Lookup:
    async def lookup(skus: Collection[str]) -> set[str]:
        stub = catalog_service_pb2_grpc.CatalogServiceStub(channels.channel("pricing"))
        asked = list(skus)
        found: set[str] = set()
        for start in range(0, len(asked), SKUS_PER_LOOKUP):
            request = catalog_service_pb2.ListSkusRequest(
                skus=asked[start : start + SKUS_PER_LOOKUP], page_size=SKUS_PER_LOOKUP
            )
            answer = await stub.ListSkus(request)
            found.update(sku.sku for sku in answer.skus)
        return found

    return lookup
