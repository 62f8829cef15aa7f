"""Builds the service."""

from __future__ import annotations

from payments.pricing.v1 import catalog_service_pb2_grpc, pricing_service_pb2_grpc

from services.pricing.app.pricing import Pricing
from services.pricing.app.taxes import TaxTable
from services.pricing.app.usage import PeriodUsage
from services.pricing.clients import MeteringClient
from services.pricing.servicer import CatalogServicer, PricingServicer
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build CatalogService and PricingService."""
    usage = PeriodUsage(MeteringClient(runtime.channels))
    pricing = Pricing(runtime.database, usage, TaxTable(runtime.database), runtime.violations)
    catalog = CatalogServicer(runtime.commands, pricing)
    return Service(
        [
            Servicer(
                catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server,
                catalog,
                "payments.pricing.v1.CatalogService",
            ),
            Servicer(
                pricing_service_pb2_grpc.add_PricingServiceServicer_to_server,
                PricingServicer(pricing),
                "payments.pricing.v1.PricingService",
            ),
        ],
    )
