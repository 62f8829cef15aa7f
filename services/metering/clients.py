"""Pricing as metering sees it, by its stub."""

from __future__ import annotations

from collections.abc import Collection

from payments.pricing.v1 import catalog_service_pb2, catalog_service_pb2_grpc

from services.runtime.edge.channels import Channels

SKUS_PER_LOOKUP = 1000
"""As many as one ListSkus takes and answers."""


class CatalogClient:
    """CatalogService, for what metering needs of it."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def known(self, skus: Collection[str]) -> set[str]:
        """Return those SKUs that the catalogue has. Raises DependencyUnavailable."""
        stub = catalog_service_pb2_grpc.CatalogServiceStub(self._channels.channel("pricing"))
        asked = list(skus)
        found: set[str] = set()
        for start in range(0, len(asked), SKUS_PER_LOOKUP):
            request = catalog_service_pb2.ListSkusRequest(
                skus=asked[start : start + SKUS_PER_LOOKUP], page_size=SKUS_PER_LOOKUP
            )
            answer = await stub.ListSkus(request)
            found.update(sku.sku for sku in answer.skus)
        return found
