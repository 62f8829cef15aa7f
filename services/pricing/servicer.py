"""CatalogService and PricingService: proto to use case and back. Protobuf types stop here."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, TypeVar

from google.protobuf.message import Message
from payments.pricing.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    pricing_pb2,
    pricing_service_pb2,
    pricing_service_pb2_grpc,
)

from services.pricing import messages
from services.pricing.app.catalogue import (
    Publish,
    apply_catalog,
    archive_plan,
    assign_business_model,
    migrate_plan,
    publish_plan,
)
from services.pricing.app.pricing import Pricing, evaluate
from services.pricing.domain.catalog import (
    BillingAccountOrg,
    BillingAccountPartner,
    BusinessModel,
    CommissionRate,
    OrgBusinessModel,
    Partner,
    PartnerOfRecord,
)
from services.pricing.domain.tax_table import TaxPolicy, TaxProfile, TaxRate
from services.pricing.domain.values import BEGINNING
from services.runtime.commands import Commands, UseCase
from services.runtime.edge.paging import Page, fitting
from services.runtime.edge.values import moment_or_none
from services.runtime.money import parse_decimal
from services.runtime.turns import aside

ItemT = TypeVar("ItemT")
MessageT = TypeVar("MessageT", bound=Message)

# One page of plans and entitlements carries their price lists.
_WITH_PRICES_MAX = 200
_APPLY = UseCase(
    "pricing.apply_catalog",
    apply_catalog,
    messages.applied,
    catalog_service_pb2.ApplyCatalogResponse,
)
_PUBLISH = UseCase(
    "pricing.publish_plan",
    publish_plan,
    messages.published,
    catalog_service_pb2.PublishPlanResponse,
)
_ARCHIVE = UseCase(
    "pricing.archive_plan",
    archive_plan,
    messages.archived,
    catalog_service_pb2.ArchivePlanResponse,
)
_MIGRATE = UseCase(
    "pricing.migrate_plan",
    migrate_plan,
    messages.migrated,
    catalog_service_pb2.MigratePlanResponse,
)
_ASSIGN = UseCase(
    "pricing.assign_business_model",
    assign_business_model,
    messages.assigned,
    catalog_service_pb2.AssignBusinessModelResponse,
)


class CatalogServicer(catalog_service_pb2_grpc.CatalogServiceServicer):
    """Answers CatalogService."""

    def __init__(self, commands: Commands, pricing: Pricing) -> None:
        self._commands = commands
        self._pricing = pricing

    async def ApplyCatalog(
        self, request: catalog_service_pb2.ApplyCatalogRequest, context: Any
    ) -> catalog_service_pb2.ApplyCatalogResponse:
        """Make the catalogue contain the declaration, or say what that would change."""
        catalog = await asyncio.to_thread(messages.catalog, request.catalog)
        return await self._commands.run(_APPLY, catalog, request)

    async def PublishPlan(
        self, request: catalog_service_pb2.PublishPlanRequest, context: Any
    ) -> catalog_service_pb2.PublishPlanResponse:
        """Publish a draft."""
        command = Publish(request.plan_id, moment_or_none(request, "effective_at"))
        return await self._commands.run(_PUBLISH, command, request)

    async def ArchivePlan(
        self, request: catalog_service_pb2.ArchivePlanRequest, context: Any
    ) -> catalog_service_pb2.ArchivePlanResponse:
        """End a plan that nobody is on."""
        return await self._commands.run(_ARCHIVE, request.plan_id, request)

    async def MigratePlan(
        self, request: catalog_service_pb2.MigratePlanRequest, context: Any
    ) -> catalog_service_pb2.MigratePlanResponse:
        """Move some of those who are on a plan to another."""
        return await self._commands.run(_MIGRATE, messages.migration(request), request)

    async def AssignBusinessModel(
        self, request: catalog_service_pb2.AssignBusinessModelRequest, context: Any
    ) -> catalog_service_pb2.AssignBusinessModelResponse:
        """Put an organisation on a business model."""
        return await self._commands.run(_ASSIGN, messages.org_business_model(request), request)

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
        shown = fitting(await asyncio.to_thread(messages.documents, plans, pricing_pb2.Plan))
        more = more or len(shown) < len(plans)
        return catalog_service_pb2.ListPlansResponse(
            plans=shown,
            next_page_token=page.token(shown, lambda last: {"plan_id": last.plan_id}, more=more),
        )

    async def ListSkus(
        self, request: catalog_service_pb2.ListSkusRequest, context: Any
    ) -> catalog_service_pb2.ListSkusResponse:
        """Give a page of SKUs."""
        scope = f"pricing.list_skus:{','.join(sorted(request.skus))}"
        page = Page.of(request, scope, {"sku": str})
        skus, more = await self._pricing.skus(request.skus, page.after.get("sku", ""), page.size)
        shown = fitting(messages.documents(skus, pricing_pb2.Sku))
        more = more or len(shown) < len(skus)
        return catalog_service_pb2.ListSkusResponse(
            skus=shown,
            next_page_token=page.token(shown, lambda last: {"sku": last.sku}, more=more),
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
        written = await asyncio.to_thread(messages.documents, found, pricing_pb2.Entitlement)
        shown = fitting(written)
        token = page.token(
            found[: len(shown)],
            lambda last: {"org_id": last.org_id, "at": last.effective_at.isoformat()},
            more=more or len(shown) < len(found),
        )
        return catalog_service_pb2.ListEntitlementsResponse(
            entitlements=shown, next_page_token=token
        )

    async def ListBusinessModels(
        self, request: catalog_service_pb2.ListBusinessModelsRequest, context: Any
    ) -> catalog_service_pb2.ListBusinessModelsResponse:
        """Give a page of business models."""
        page = Page.of(request, "pricing.list_business_models", {"model_id": str})
        after = [*page.after.values()]
        found, more = await self._pricing.entities(BusinessModel, after, page.size)
        shown, found, more = _fitted(found, pricing_pb2.BusinessModel, more=more)
        return catalog_service_pb2.ListBusinessModelsResponse(
            business_models=shown,
            next_page_token=page.token(found, lambda last: {"model_id": last.model_id}, more=more),
        )

    async def ListOrgBusinessModels(
        self, request: catalog_service_pb2.ListOrgBusinessModelsRequest, context: Any
    ) -> catalog_service_pb2.ListOrgBusinessModelsResponse:
        """Give a page of organisations on business models."""
        scope = f"pricing.list_org_business_models:{request.model_id}"
        page = Page.of(request, scope, {"org_id": str})
        only = ("model_id", request.model_id) if request.model_id else None
        after = [*page.after.values()]
        found, more = await self._pricing.entities(OrgBusinessModel, after, page.size, only)
        shown, found, more = _fitted(found, pricing_pb2.OrgBusinessModel, more=more)
        if only and not found and not after:
            await self._pricing.check_model(request.model_id)
        return catalog_service_pb2.ListOrgBusinessModelsResponse(
            org_business_models=shown,
            next_page_token=page.token(found, lambda last: {"org_id": last.org_id}, more=more),
        )

    async def ListPartners(
        self, request: catalog_service_pb2.ListPartnersRequest, context: Any
    ) -> catalog_service_pb2.ListPartnersResponse:
        """Give a page of partners."""
        page = Page.of(request, "pricing.list_partners", {"partner_id": str})
        after = [*page.after.values()]
        found, more = await self._pricing.entities(Partner, after, page.size)
        shown, found, more = _fitted(found, pricing_pb2.Partner, more=more)
        return catalog_service_pb2.ListPartnersResponse(
            partners=shown,
            next_page_token=page.token(
                found, lambda last: {"partner_id": last.partner_id}, more=more
            ),
        )

    async def ListPartnersOfRecord(
        self, request: catalog_service_pb2.ListPartnersOfRecordRequest, context: Any
    ) -> catalog_service_pb2.ListPartnersOfRecordResponse:
        """Give a page of partners of record."""
        scope = f"pricing.list_partners_of_record:{request.org_id}"
        page = Page.of(request, scope, {"org_id": str, "partner_id": str, "start_at": datetime})
        only = ("org_id", request.org_id) if request.org_id else None
        after = [page.after[name] for name in ("org_id", "partner_id", "start_at") if page.after]
        found, more = await self._pricing.entities(PartnerOfRecord, after, page.size, only)
        shown, found, more = _fitted(found, pricing_pb2.PartnerOfRecord, more=more)
        token = page.token(
            found,
            lambda last: {
                "org_id": last.org_id,
                "partner_id": last.partner_id,
                "start_at": last.start_at.isoformat(),
            },
            more=more,
        )
        return catalog_service_pb2.ListPartnersOfRecordResponse(
            partners_of_record=shown,
            next_page_token=token,
        )

    async def ListCommissionRates(
        self, request: catalog_service_pb2.ListCommissionRatesRequest, context: Any
    ) -> catalog_service_pb2.ListCommissionRatesResponse:
        """Give a page of commission rates."""
        kinds = {"partner_tier": str, "sku": str}
        page = Page.of(request, "pricing.list_commission_rates", kinds)
        after = [page.after[name] for name in ("partner_tier", "sku") if page.after]
        found, more = await self._pricing.entities(CommissionRate, after, page.size)
        shown, found, more = _fitted(found, pricing_pb2.CommissionRate, more=more)
        token = page.token(
            found, lambda last: {"partner_tier": last.partner_tier, "sku": last.sku}, more=more
        )
        return catalog_service_pb2.ListCommissionRatesResponse(
            commission_rates=shown,
            next_page_token=token,
        )

    async def ListTaxRates(
        self, request: catalog_service_pb2.ListTaxRatesRequest, context: Any
    ) -> catalog_service_pb2.ListTaxRatesResponse:
        """Give a page of tax rates."""
        kinds = {"jurisdiction": str, "tax": str, "tax_code": str, "at": datetime}
        page = Page.of(request, f"pricing.list_tax_rates:{request.jurisdiction}", kinds)
        only = ("jurisdiction", request.jurisdiction) if request.jurisdiction else None
        after = [page.after[name] for name in kinds if page.after]
        found, more = await self._pricing.entities(TaxRate, after, page.size, only)
        shown, found, more = _fitted(found, pricing_pb2.TaxRate, more=more)
        token = page.token(
            found,
            lambda last: {
                "jurisdiction": last.jurisdiction,
                "tax": last.tax,
                "tax_code": last.tax_code,
                "at": last.effective_at.isoformat(),
            },
            more=more,
        )
        return catalog_service_pb2.ListTaxRatesResponse(tax_rates=shown, next_page_token=token)

    async def ListTaxProfiles(
        self, request: catalog_service_pb2.ListTaxProfilesRequest, context: Any
    ) -> catalog_service_pb2.ListTaxProfilesResponse:
        """Give a page of tax profiles."""
        kinds = {"org_id": str, "at": datetime}
        page = Page.of(request, f"pricing.list_tax_profiles:{request.org_id}", kinds)
        only = ("org_id", request.org_id) if request.org_id else None
        after = [page.after[name] for name in kinds if page.after]
        found, more = await self._pricing.entities(TaxProfile, after, page.size, only)
        shown, found, more = _fitted(found, pricing_pb2.TaxProfile, more=more)
        token = page.token(
            found,
            lambda last: {"org_id": last.org_id, "at": last.effective_at.isoformat()},
            more=more,
        )
        return catalog_service_pb2.ListTaxProfilesResponse(
            tax_profiles=shown, next_page_token=token
        )

    async def ListTaxPolicies(
        self, request: catalog_service_pb2.ListTaxPoliciesRequest, context: Any
    ) -> catalog_service_pb2.ListTaxPoliciesResponse:
        """Give a page of tax policies."""
        page = Page.of(request, "pricing.list_tax_policies", {"country": str})
        after = [*page.after.values()]
        found, more = await self._pricing.entities(TaxPolicy, after, page.size)
        shown, found, more = _fitted(found, pricing_pb2.TaxPolicy, more=more)
        return catalog_service_pb2.ListTaxPoliciesResponse(
            tax_policies=shown,
            next_page_token=page.token(found, lambda last: {"country": last.country}, more=more),
        )

    async def ListBillingAccountOrgs(
        self, request: catalog_service_pb2.ListBillingAccountOrgsRequest, context: Any
    ) -> catalog_service_pb2.ListBillingAccountOrgsResponse:
        """Give a page of organisations of billing accounts."""
        kinds = {"org_id": str, "billing_account_id": str, "start_at": datetime}
        page = Page.of(request, "pricing.list_billing_account_orgs", kinds)
        after = [page.after[name] for name in kinds if page.after]
        found, more = await self._pricing.entities(BillingAccountOrg, after, page.size)
        shown, found, more = _fitted(found, pricing_pb2.BillingAccountOrg, more=more)
        token = page.token(
            found,
            lambda last: {
                "org_id": last.org_id,
                "billing_account_id": last.billing_account_id,
                "start_at": last.start_at.isoformat(),
            },
            more=more,
        )
        return catalog_service_pb2.ListBillingAccountOrgsResponse(
            billing_account_orgs=shown, next_page_token=token
        )

    async def ListBillingAccountPartners(
        self, request: catalog_service_pb2.ListBillingAccountPartnersRequest, context: Any
    ) -> catalog_service_pb2.ListBillingAccountPartnersResponse:
        """Give a page of partners of billing accounts."""
        kinds = {"billing_account_id": str, "partner_id": str, "start_at": datetime}
        page = Page.of(request, "pricing.list_billing_account_partners", kinds)
        after = [page.after[name] for name in kinds if page.after]
        found, more = await self._pricing.entities(BillingAccountPartner, after, page.size)
        shown, found, more = _fitted(found, pricing_pb2.BillingAccountPartner, more=more)
        token = page.token(
            found,
            lambda last: {
                "billing_account_id": last.billing_account_id,
                "partner_id": last.partner_id,
                "start_at": last.start_at.isoformat(),
            },
            more=more,
        )
        return catalog_service_pb2.ListBillingAccountPartnersResponse(
            billing_account_partners=shown, next_page_token=token
        )


class PricingServicer(pricing_service_pb2_grpc.PricingServiceServicer):
    """Answers PricingService."""

    def __init__(self, pricing: Pricing) -> None:
        self._pricing = pricing

    async def EvaluatePrice(
        self, request: pricing_service_pb2.EvaluatePriceRequest, context: Any
    ) -> pricing_service_pb2.EvaluatePriceResponse:
        """Apply a price to a quantity."""
        given = request.input
        items = len(given.amounts) + len(given.quantities)
        return await aside(items, _evaluated, request)

    async def Estimate(
        self, request: pricing_service_pb2.EstimateRequest, context: Any
    ) -> pricing_service_pb2.EstimateResponse:
        """Preview a period."""
        uses = {sku: parse_decimal(text) for sku, text in request.skus.items()}
        leads = parse_decimal(request.leads)
        period = messages.span(request.period) if request.HasField("period") else None
        found = await self._pricing.estimate(request.org_id, uses, leads, period)
        return messages.estimated(found)

    async def RateUsage(
        self, request: pricing_service_pb2.RateUsageRequest, context: Any
    ) -> pricing_service_pb2.RateUsageResponse:
        """Say what a charge for the period would be."""
        rated = await self._pricing.rate_usage(request.org_id, messages.span(request.period))
        count = sum(len(part.lines) for part in rated.parts)
        return await aside(count, messages.rated, rated)

    async def CalculateTax(
        self, request: pricing_service_pb2.CalculateTaxRequest, context: Any
    ) -> pricing_service_pb2.CalculateTaxResponse:
        """Say which taxes amounts bear."""
        items = messages.taxable_items(request)
        at = moment_or_none(request, "taxed_at")
        found = await self._pricing.calculate_tax(request.org_id, at, items)
        return await aside(len(items), messages.tax_calculated, items, found)


def _evaluated(
    request: pricing_service_pb2.EvaluatePriceRequest,
) -> pricing_service_pb2.EvaluatePriceResponse:
    price = messages.price(request.price)
    given = messages.price_input(request.input)
    return messages.evaluated(evaluate(price, request.currency_code, given))


def _fitted(
    found: list[ItemT], message_type: type[MessageT], *, more: bool
) -> tuple[list[MessageT], list[ItemT], bool]:
    """Return the messages of a page that is light enough, what they are of, and whether there is more."""
    shown = fitting(messages.documents(found, message_type))
    return shown, found[: len(shown)], more or len(shown) < len(found)
