"""Pricing as metering sees it, by its stub."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from decimal import Decimal

from payments.pricing.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    pricing_service_pb2,
    pricing_service_pb2_grpc,
)

from services.metering.ports import Price
from services.runtime.edge.channels import Channels
from services.runtime.money import CONTEXT, format_decimal

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


class PricesClient:
    """PricingService, for what budgets in money need of it."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def price_of(self, org_id: str, sku: str, prior: Decimal, quantity: Decimal) -> Price:
        """Return what a quantity costs behind what was used before; never less than nothing.

        Raises:
            DomainError: pricing's refusal (NO_PLAN, SKU_NOT_PRICED), or DEPENDENCY_UNAVAILABLE.
        """
        whole = self._total(org_id, sku, CONTEXT.add(prior, quantity))
        if not prior:
            return await whole
        all_, before = await asyncio.gather(whole, self._total(org_id, sku, prior))
        more = CONTEXT.subtract(all_.amount, before.amount)
        # Whoever reaches a cheaper tier of a volume price pays less for all.
        return Price(all_.currency_code, max(more, Decimal(0)))

    async def _total(self, org_id: str, sku: str, quantity: Decimal) -> Price:
        stub = pricing_service_pb2_grpc.PricingServiceStub(self._channels.channel("pricing"))
        request = pricing_service_pb2.EstimateRequest(
            org_id=org_id, skus={sku: format_decimal(quantity)}, leads="1"
        )
        (line,) = (answer := await stub.Estimate(request)).lines
        return Price(answer.grand_total.currency_code, CONTEXT.create_decimal(line.exact_total))
