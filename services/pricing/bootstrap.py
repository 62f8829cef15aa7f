"""Builds the service."""

from __future__ import annotations

from payments.pricing.v1 import catalog_service_pb2_grpc, pricing_service_pb2_grpc

from services.pricing.app import Pricing
from services.pricing.clients import MeteringClient
from services.pricing.servicer import CatalogServicer, PricingServicer
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build CatalogService and PricingService."""
    pricing = Pricing(runtime.database, MeteringClient(runtime.channels))
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
