"""CatalogService and PricingService: proto to use case and back. Protobuf types stop here."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from payments.pricing.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    pricing_pb2,
    pricing_service_pb2,
    pricing_service_pb2_grpc,
)

from services.pricing import app, messages
from services.pricing.domain.values import BEGINNING
from services.runtime.commands import Commands, UseCase
from services.runtime.edge.paging import Page
from services.runtime.edge.values import moment_of
from services.runtime.money import parse_decimal
from services.runtime.turns import aside

# One page of plans and entitlements carries their price lists.
_WITH_PRICES_MAX = 200
_APPLY = UseCase(
    "pricing.apply_catalog",
    app.apply_catalog,
    messages.applied,
    catalog_service_pb2.ApplyCatalogResponse,
)


class CatalogServicer(catalog_service_pb2_grpc.CatalogServiceServicer):
    """Answers CatalogService."""

    def __init__(self, commands: Commands, pricing: app.Pricing) -> None:
        self._commands = commands
        self._pricing = pricing

    async def ApplyCatalog(
        self, request: catalog_service_pb2.ApplyCatalogRequest, context: Any
    ) -> catalog_service_pb2.ApplyCatalogResponse:
        """Make the catalogue contain the declaration, or say what that would change."""
        catalog = await asyncio.to_thread(messages.catalog, request.catalog)
        return await self._commands.run(_APPLY, catalog, request)

    async def GetPlan(
        self, request: catalog_service_pb2.GetPlanRequest, context: Any
    ) -> catalog_service_pb2.GetPlanResponse:
        """Read a plan."""
        plan = await self._pricing.plan(request.plan_id, request.version)
        written = await asyncio.to_thread(messages.written, plan, pricing_pb2.Plan)
        return catalog_service_pb2.GetPlanResponse(plan=written)

    async def ListPlans(
        self, request: catalog_service_pb2.ListPlansRequest, context: Any
    ) -> catalog_service_pb2.ListPlansResponse:
        """Give a page of plans."""
        scope = f"pricing.list_plans:{request.model_id}"
        page = Page.of(request, scope, {"plan_id": str}, maximum=_WITH_PRICES_MAX)
        after = page.after.get("plan_id", "")
        plans, more = await self._pricing.plans(request.model_id, after, page.size)
        return catalog_service_pb2.ListPlansResponse(
            plans=await asyncio.to_thread(messages.documents, plans, pricing_pb2.Plan),
            next_page_token=page.token(plans, lambda last: {"plan_id": last.plan_id}, more=more),
        )

    async def ListSkus(
        self, request: catalog_service_pb2.ListSkusRequest, context: Any
    ) -> catalog_service_pb2.ListSkusResponse:
        """Give a page of SKUs."""
        scope = f"pricing.list_skus:{','.join(sorted(request.skus))}"
        page = Page.of(request, scope, {"sku": str})
        skus, more = await self._pricing.skus(request.skus, page.after.get("sku", ""), page.size)
        return catalog_service_pb2.ListSkusResponse(
            skus=messages.documents(skus, pricing_pb2.Sku),
            next_page_token=page.token(skus, lambda last: {"sku": last.sku}, more=more),
        )

    async def ListEntitlements(
        self, request: catalog_service_pb2.ListEntitlementsRequest, context: Any
    ) -> catalog_service_pb2.ListEntitlementsResponse:
        """Give a page of entitlements."""
        scope = f"pricing.list_entitlements:{request.org_id}"
        kinds = {"org_id": str, "at": datetime}
        page = Page.of(request, scope, kinds, maximum=_WITH_PRICES_MAX)
        after = (page.after.get("org_id", ""), page.after.get("at", BEGINNING))
        found, more = await self._pricing.entitlements(request.org_id, after, page.size)
        token = page.token(
            found,
            lambda last: {"org_id": last.org_id, "at": last.effective_at.isoformat()},
            more=more,
        )
        return catalog_service_pb2.ListEntitlementsResponse(
            entitlements=await asyncio.to_thread(
                messages.documents, found, pricing_pb2.Entitlement
            ),
            next_page_token=token,
        )


class PricingServicer(pricing_service_pb2_grpc.PricingServiceServicer):
    """Answers PricingService."""

    def __init__(self, pricing: app.Pricing) -> None:
        self._pricing = pricing

    async def EvaluatePrice(
        self, request: pricing_service_pb2.EvaluatePriceRequest, context: Any
    ) -> pricing_service_pb2.EvaluatePriceResponse:
        """Apply a price to a quantity."""
        answer = app.evaluate(
            messages.price(request.price),
            request.currency_code,
            parse_decimal(request.input.quantity),
            parse_decimal(request.input.prior_quantity or "0"),
        )
        return messages.evaluated(answer)

    async def Estimate(
        self, request: pricing_service_pb2.EstimateRequest, context: Any
    ) -> pricing_service_pb2.EstimateResponse:
        """Preview a period."""
        uses = {sku: parse_decimal(text) for sku, text in request.skus.items()}
        leads = parse_decimal(request.leads)
        return messages.estimated(await self._pricing.estimate(request.org_id, uses, leads))

    async def RateUsage(
        self, request: pricing_service_pb2.RateUsageRequest, context: Any
    ) -> pricing_service_pb2.RateUsageResponse:
        """Say what a charge for the period would be."""
        period = request.period
        start_at, end_at = moment_of(period.start_at), moment_of(period.end_at)
        rated = await self._pricing.rate_usage(request.org_id, start_at, end_at)
        return await aside(len(rated.lines), messages.rated, rated, period)
