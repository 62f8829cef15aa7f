"""CatalogService keeps what is sold, at which prices, to whom, and which partners earn on it.

Written by `make generate` from payments/pricing/v1/catalog_service.proto. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..payments.pricing import v1 as pricing_v1
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("AsyncCatalogService", "CatalogService")

_APPLY_CATALOG = Method(
    "/payments.pricing.v1.CatalogService/ApplyCatalog",
    pricing_v1.ApplyCatalogRequest,
    pricing_v1.ApplyCatalogResponse,
    repeatable=True,
    has_request_id=True,
)
_PUBLISH_PLAN = Method(
    "/payments.pricing.v1.CatalogService/PublishPlan",
    pricing_v1.PublishPlanRequest,
    pricing_v1.PublishPlanResponse,
    repeatable=True,
    has_request_id=True,
)
_ARCHIVE_PLAN = Method(
    "/payments.pricing.v1.CatalogService/ArchivePlan",
    pricing_v1.ArchivePlanRequest,
    pricing_v1.ArchivePlanResponse,
    repeatable=True,
    has_request_id=True,
)
_MIGRATE_PLAN = Method(
    "/payments.pricing.v1.CatalogService/MigratePlan",
    pricing_v1.MigratePlanRequest,
    pricing_v1.MigratePlanResponse,
    repeatable=True,
    has_request_id=True,
)
_ASSIGN_BUSINESS_MODEL = Method(
    "/payments.pricing.v1.CatalogService/AssignBusinessModel",
    pricing_v1.AssignBusinessModelRequest,
    pricing_v1.AssignBusinessModelResponse,
    repeatable=True,
    has_request_id=True,
)
_GET_PLAN = Method(
    "/payments.pricing.v1.CatalogService/GetPlan",
    pricing_v1.GetPlanRequest,
    pricing_v1.GetPlanResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_PLANS = Method(
    "/payments.pricing.v1.CatalogService/ListPlans",
    pricing_v1.ListPlansRequest,
    pricing_v1.ListPlansResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_SKUS = Method(
    "/payments.pricing.v1.CatalogService/ListSkus",
    pricing_v1.ListSkusRequest,
    pricing_v1.ListSkusResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_ENTITLEMENTS = Method(
    "/payments.pricing.v1.CatalogService/ListEntitlements",
    pricing_v1.ListEntitlementsRequest,
    pricing_v1.ListEntitlementsResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_BUSINESS_MODELS = Method(
    "/payments.pricing.v1.CatalogService/ListBusinessModels",
    pricing_v1.ListBusinessModelsRequest,
    pricing_v1.ListBusinessModelsResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_ORG_BUSINESS_MODELS = Method(
    "/payments.pricing.v1.CatalogService/ListOrgBusinessModels",
    pricing_v1.ListOrgBusinessModelsRequest,
    pricing_v1.ListOrgBusinessModelsResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_PARTNERS = Method(
    "/payments.pricing.v1.CatalogService/ListPartners",
    pricing_v1.ListPartnersRequest,
    pricing_v1.ListPartnersResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_PARTNERS_OF_RECORD = Method(
    "/payments.pricing.v1.CatalogService/ListPartnersOfRecord",
    pricing_v1.ListPartnersOfRecordRequest,
    pricing_v1.ListPartnersOfRecordResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_COMMISSION_RATES = Method(
    "/payments.pricing.v1.CatalogService/ListCommissionRates",
    pricing_v1.ListCommissionRatesRequest,
    pricing_v1.ListCommissionRatesResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_TAX_RATES = Method(
    "/payments.pricing.v1.CatalogService/ListTaxRates",
    pricing_v1.ListTaxRatesRequest,
    pricing_v1.ListTaxRatesResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_TAX_PROFILES = Method(
    "/payments.pricing.v1.CatalogService/ListTaxProfiles",
    pricing_v1.ListTaxProfilesRequest,
    pricing_v1.ListTaxProfilesResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_TAX_POLICIES = Method(
    "/payments.pricing.v1.CatalogService/ListTaxPolicies",
    pricing_v1.ListTaxPoliciesRequest,
    pricing_v1.ListTaxPoliciesResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_BILLING_ACCOUNT_ORGS = Method(
    "/payments.pricing.v1.CatalogService/ListBillingAccountOrgs",
    pricing_v1.ListBillingAccountOrgsRequest,
    pricing_v1.ListBillingAccountOrgsResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_BILLING_ACCOUNT_PARTNERS = Method(
    "/payments.pricing.v1.CatalogService/ListBillingAccountPartners",
    pricing_v1.ListBillingAccountPartnersRequest,
    pricing_v1.ListBillingAccountPartnersResponse,
    repeatable=True,
    has_request_id=False,
)


class CatalogService:
    """CatalogService keeps what is sold, at which prices, to whom, and which partners earn on it."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def apply_catalog(
        self, request: pricing_v1.ApplyCatalogRequest, *, timeout: float | None = None
    ) -> pricing_v1.ApplyCatalogResponse:
        """ApplyCatalog makes the catalogue contain what the request declares. What it does not mention
        stays as it is; nothing is deleted, because charges refer to it. Every write leaves an audit
        entry, and plans publish plan.created, plan.updated or plan.deprecated, all in one
        transaction. Applying the same content again changes nothing.

        To put an organisation on a business model, or elsewhere in one, the caller needs scope
        `pricing:admin` too.

        Errors: INVALID_FIELD, CATALOG_REFERENCE_MISSING, PLAN_VERSION_FROZEN, PLAN_NOT_ACTIVE,
        PLAN_IN_USE, PARTNERS_OVERLAP, DISPUTE_CONFLICT, TAXES_TOO_MANY, CURRENCY_MISMATCH,
        UNKNOWN_CURRENCY, MODEL_CODE_TAKEN, AGGREGATION_NOT_PRICEABLE, SCOPE_MISSING.
        """
        return self._caller.unary(_APPLY_CATALOG, request, timeout)

    def publish_plan(
        self, request: pricing_v1.PublishPlanRequest, *, timeout: float | None = None
    ) -> pricing_v1.PublishPlanResponse:
        """PublishPlan makes the list of a draft version 1 of its plan, which never changes from then
        on. Publishing a published plan again changes nothing. Errors: NOT_FOUND, PLAN_NOT_ACTIVE
        (it is archived).
        """
        return self._caller.unary(_PUBLISH_PLAN, request, timeout)

    def archive_plan(
        self, request: pricing_v1.ArchivePlanRequest, *, timeout: float | None = None
    ) -> pricing_v1.ArchivePlanResponse:
        """ArchivePlan ends a plan that nobody is on, nor will be. Archiving it again changes nothing.
        Errors: NOT_FOUND, PLAN_IN_USE (MigratePlan moves those who are on it).
        """
        return self._caller.unary(_ARCHIVE_PLAN, request, timeout)

    def migrate_plan(
        self, request: pricing_v1.MigratePlanRequest, *, timeout: float | None = None
    ) -> pricing_v1.MigratePlanResponse:
        """MigratePlan moves organisations from a plan, or one version of it, to another from an
        instant on: those who are on it then, by an entitlement or by their business model, get an
        entitlement to the other plan that begins at the instant, and entitlements to the old plan
        that begin later name the new one. A call moves `limit` organisations at most, in the order
        of their ids, in one transaction, each with its audit entries; `remaining` tells how many
        are left. Make the call again, with a request_id of its own, until none is: whoever was
        moved is not found again, so a migration that broke off goes on by itself.

        Errors: INVALID_FIELD (the plan has no list in effect then), NOT_FOUND, PLAN_NOT_ACTIVE,
        CURRENCY_MISMATCH.
        """
        return self._caller.unary(_MIGRATE_PLAN, request, timeout)

    def assign_business_model(
        self, request: pricing_v1.AssignBusinessModelRequest, *, timeout: float | None = None
    ) -> pricing_v1.AssignBusinessModelResponse:
        """AssignBusinessModel puts an organisation on a business model, or elsewhere in one. Who did
        it and when are stored with it, and in an audit entry. Errors: CATALOG_REFERENCE_MISSING,
        PLAN_NOT_ACTIVE.
        """
        return self._caller.unary(_ASSIGN_BUSINESS_MODEL, request, timeout)

    def get_plan(
        self, request: pricing_v1.GetPlanRequest, *, timeout: float | None = None
    ) -> pricing_v1.GetPlanResponse:
        """GetPlan reads a plan with its newest price list, or with the version asked for. Errors:
        NOT_FOUND.
        """
        return self._caller.unary(_GET_PLAN, request, timeout)

    def list_plans(
        self, request: pricing_v1.ListPlansRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListPlansResponse:
        """ListPlans pages through the plans by id, each with its newest price list. NOT_FOUND for a
        business model that there is not.
        """
        return self._caller.unary(_LIST_PLANS, request, timeout)

    def all_plans(
        self, request: pricing_v1.ListPlansRequest, *, timeout: float | None = None
    ) -> Iterator[pricing_v1.Plan]:
        """Yield the plans of all pages of list_plans, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: pricing_v1.ListPlansRequest) -> pricing_v1.ListPlansResponse:
            return self.list_plans(asked, timeout=timeout)

        return items(page, request, "plans", BY_TOKEN)

    def list_skus(
        self, request: pricing_v1.ListSkusRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListSkusResponse:
        """ListSkus pages through the SKUs by id."""
        return self._caller.unary(_LIST_SKUS, request, timeout)

    def all_skus(
        self, request: pricing_v1.ListSkusRequest, *, timeout: float | None = None
    ) -> Iterator[pricing_v1.Sku]:
        """Yield the skus of all pages of list_skus, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: pricing_v1.ListSkusRequest) -> pricing_v1.ListSkusResponse:
            return self.list_skus(asked, timeout=timeout)

        return items(page, request, "skus", BY_TOKEN)

    def list_entitlements(
        self, request: pricing_v1.ListEntitlementsRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListEntitlementsResponse:
        """ListEntitlements pages through the entitlements by organisation and effective_at, superseded
        ones included.
        """
        return self._caller.unary(_LIST_ENTITLEMENTS, request, timeout)

    def all_entitlements(
        self, request: pricing_v1.ListEntitlementsRequest, *, timeout: float | None = None
    ) -> Iterator[pricing_v1.Entitlement]:
        """Yield the entitlements of all pages of list_entitlements, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: pricing_v1.ListEntitlementsRequest) -> pricing_v1.ListEntitlementsResponse:
            return self.list_entitlements(asked, timeout=timeout)

        return items(page, request, "entitlements", BY_TOKEN)

    def list_business_models(
        self, request: pricing_v1.ListBusinessModelsRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListBusinessModelsResponse:
        """ListBusinessModels pages through the business models by id."""
        return self._caller.unary(_LIST_BUSINESS_MODELS, request, timeout)

    def all_business_models(
        self, request: pricing_v1.ListBusinessModelsRequest, *, timeout: float | None = None
    ) -> Iterator[pricing_v1.BusinessModel]:
        """Yield the business_models of all pages of list_business_models, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: pricing_v1.ListBusinessModelsRequest) -> pricing_v1.ListBusinessModelsResponse:
            return self.list_business_models(asked, timeout=timeout)

        return items(page, request, "business_models", BY_TOKEN)

    def list_org_business_models(
        self, request: pricing_v1.ListOrgBusinessModelsRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListOrgBusinessModelsResponse:
        """ListOrgBusinessModels pages through the organisations that are on a business model, by their
        ids.
        """
        return self._caller.unary(_LIST_ORG_BUSINESS_MODELS, request, timeout)

    def all_org_business_models(
        self, request: pricing_v1.ListOrgBusinessModelsRequest, *, timeout: float | None = None
    ) -> Iterator[pricing_v1.OrgBusinessModel]:
        """Yield the org_business_models of all pages of list_org_business_models, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: pricing_v1.ListOrgBusinessModelsRequest) -> pricing_v1.ListOrgBusinessModelsResponse:
            return self.list_org_business_models(asked, timeout=timeout)

        return items(page, request, "org_business_models", BY_TOKEN)

    def list_partners(
        self, request: pricing_v1.ListPartnersRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListPartnersResponse:
        """ListPartners pages through the partners by id."""
        return self._caller.unary(_LIST_PARTNERS, request, timeout)

    def all_partners(
        self, request: pricing_v1.ListPartnersRequest, *, timeout: float | None = None
    ) -> Iterator[pricing_v1.Partner]:
        """Yield the partners of all pages of list_partners, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: pricing_v1.ListPartnersRequest) -> pricing_v1.ListPartnersResponse:
            return self.list_partners(asked, timeout=timeout)

        return items(page, request, "partners", BY_TOKEN)

    def list_partners_of_record(
        self, request: pricing_v1.ListPartnersOfRecordRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListPartnersOfRecordResponse:
        """ListPartnersOfRecord pages through the partners of record by organisation, partner and
        start_at, ended ones included.
        """
        return self._caller.unary(_LIST_PARTNERS_OF_RECORD, request, timeout)

    def all_partners_of_record(
        self, request: pricing_v1.ListPartnersOfRecordRequest, *, timeout: float | None = None
    ) -> Iterator[pricing_v1.PartnerOfRecord]:
        """Yield the partners_of_record of all pages of list_partners_of_record, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: pricing_v1.ListPartnersOfRecordRequest) -> pricing_v1.ListPartnersOfRecordResponse:
            return self.list_partners_of_record(asked, timeout=timeout)

        return items(page, request, "partners_of_record", BY_TOKEN)

    def list_commission_rates(
        self, request: pricing_v1.ListCommissionRatesRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListCommissionRatesResponse:
        """ListCommissionRates pages through the commission rates by tier and SKU."""
        return self._caller.unary(_LIST_COMMISSION_RATES, request, timeout)

    def all_commission_rates(
        self, request: pricing_v1.ListCommissionRatesRequest, *, timeout: float | None = None
    ) -> Iterator[pricing_v1.CommissionRate]:
        """Yield the commission_rates of all pages of list_commission_rates, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: pricing_v1.ListCommissionRatesRequest) -> pricing_v1.ListCommissionRatesResponse:
            return self.list_commission_rates(asked, timeout=timeout)

        return items(page, request, "commission_rates", BY_TOKEN)

    def list_tax_rates(
        self, request: pricing_v1.ListTaxRatesRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListTaxRatesResponse:
        """ListTaxRates pages through the tax rates by jurisdiction, tax, tax code and effective_at,
        superseded ones included.
        """
        return self._caller.unary(_LIST_TAX_RATES, request, timeout)

    def all_tax_rates(
        self, request: pricing_v1.ListTaxRatesRequest, *, timeout: float | None = None
    ) -> Iterator[pricing_v1.TaxRate]:
        """Yield the tax_rates of all pages of list_tax_rates, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: pricing_v1.ListTaxRatesRequest) -> pricing_v1.ListTaxRatesResponse:
            return self.list_tax_rates(asked, timeout=timeout)

        return items(page, request, "tax_rates", BY_TOKEN)

    def list_tax_profiles(
        self, request: pricing_v1.ListTaxProfilesRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListTaxProfilesResponse:
        """ListTaxProfiles pages through the tax profiles by organisation and effective_at, superseded
        ones included.
        """
        return self._caller.unary(_LIST_TAX_PROFILES, request, timeout)

    def all_tax_profiles(
        self, request: pricing_v1.ListTaxProfilesRequest, *, timeout: float | None = None
    ) -> Iterator[pricing_v1.TaxProfile]:
        """Yield the tax_profiles of all pages of list_tax_profiles, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: pricing_v1.ListTaxProfilesRequest) -> pricing_v1.ListTaxProfilesResponse:
            return self.list_tax_profiles(asked, timeout=timeout)

        return items(page, request, "tax_profiles", BY_TOKEN)

    def list_tax_policies(
        self, request: pricing_v1.ListTaxPoliciesRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListTaxPoliciesResponse:
        """ListTaxPolicies pages through the tax policies by country."""
        return self._caller.unary(_LIST_TAX_POLICIES, request, timeout)

    def all_tax_policies(
        self, request: pricing_v1.ListTaxPoliciesRequest, *, timeout: float | None = None
    ) -> Iterator[pricing_v1.TaxPolicy]:
        """Yield the tax_policies of all pages of list_tax_policies, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: pricing_v1.ListTaxPoliciesRequest) -> pricing_v1.ListTaxPoliciesResponse:
            return self.list_tax_policies(asked, timeout=timeout)

        return items(page, request, "tax_policies", BY_TOKEN)

    def list_billing_account_orgs(
        self, request: pricing_v1.ListBillingAccountOrgsRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListBillingAccountOrgsResponse:
        """ListBillingAccountOrgs pages through the organisations of billing accounts by organisation,
        billing account and start_at, ended ones included.
        """
        return self._caller.unary(_LIST_BILLING_ACCOUNT_ORGS, request, timeout)

    def all_billing_account_orgs(
        self, request: pricing_v1.ListBillingAccountOrgsRequest, *, timeout: float | None = None
    ) -> Iterator[pricing_v1.BillingAccountOrg]:
        """Yield the billing_account_orgs of all pages of list_billing_account_orgs, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: pricing_v1.ListBillingAccountOrgsRequest) -> pricing_v1.ListBillingAccountOrgsResponse:
            return self.list_billing_account_orgs(asked, timeout=timeout)

        return items(page, request, "billing_account_orgs", BY_TOKEN)

    def list_billing_account_partners(
        self, request: pricing_v1.ListBillingAccountPartnersRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListBillingAccountPartnersResponse:
        """ListBillingAccountPartners pages through the partners of billing accounts by billing
        account, partner and start_at, ended ones included.
        """
        return self._caller.unary(_LIST_BILLING_ACCOUNT_PARTNERS, request, timeout)

    def all_billing_account_partners(
        self, request: pricing_v1.ListBillingAccountPartnersRequest, *, timeout: float | None = None
    ) -> Iterator[pricing_v1.BillingAccountPartner]:
        """Yield the billing_account_partners of all pages of list_billing_account_partners, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: pricing_v1.ListBillingAccountPartnersRequest) -> pricing_v1.ListBillingAccountPartnersResponse:
            return self.list_billing_account_partners(asked, timeout=timeout)

        return items(page, request, "billing_account_partners", BY_TOKEN)


class AsyncCatalogService:
    """CatalogService keeps what is sold, at which prices, to whom, and which partners earn on it."""

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def apply_catalog(
        self, request: pricing_v1.ApplyCatalogRequest, *, timeout: float | None = None
    ) -> pricing_v1.ApplyCatalogResponse:
        """ApplyCatalog makes the catalogue contain what the request declares. What it does not mention
        stays as it is; nothing is deleted, because charges refer to it. Every write leaves an audit
        entry, and plans publish plan.created, plan.updated or plan.deprecated, all in one
        transaction. Applying the same content again changes nothing.

        To put an organisation on a business model, or elsewhere in one, the caller needs scope
        `pricing:admin` too.

        Errors: INVALID_FIELD, CATALOG_REFERENCE_MISSING, PLAN_VERSION_FROZEN, PLAN_NOT_ACTIVE,
        PLAN_IN_USE, PARTNERS_OVERLAP, DISPUTE_CONFLICT, TAXES_TOO_MANY, CURRENCY_MISMATCH,
        UNKNOWN_CURRENCY, MODEL_CODE_TAKEN, AGGREGATION_NOT_PRICEABLE, SCOPE_MISSING.
        """
        return await self._caller.unary(_APPLY_CATALOG, request, timeout)

    async def publish_plan(
        self, request: pricing_v1.PublishPlanRequest, *, timeout: float | None = None
    ) -> pricing_v1.PublishPlanResponse:
        """PublishPlan makes the list of a draft version 1 of its plan, which never changes from then
        on. Publishing a published plan again changes nothing. Errors: NOT_FOUND, PLAN_NOT_ACTIVE
        (it is archived).
        """
        return await self._caller.unary(_PUBLISH_PLAN, request, timeout)

    async def archive_plan(
        self, request: pricing_v1.ArchivePlanRequest, *, timeout: float | None = None
    ) -> pricing_v1.ArchivePlanResponse:
        """ArchivePlan ends a plan that nobody is on, nor will be. Archiving it again changes nothing.
        Errors: NOT_FOUND, PLAN_IN_USE (MigratePlan moves those who are on it).
        """
        return await self._caller.unary(_ARCHIVE_PLAN, request, timeout)

    async def migrate_plan(
        self, request: pricing_v1.MigratePlanRequest, *, timeout: float | None = None
    ) -> pricing_v1.MigratePlanResponse:
        """MigratePlan moves organisations from a plan, or one version of it, to another from an
        instant on: those who are on it then, by an entitlement or by their business model, get an
        entitlement to the other plan that begins at the instant, and entitlements to the old plan
        that begin later name the new one. A call moves `limit` organisations at most, in the order
        of their ids, in one transaction, each with its audit entries; `remaining` tells how many
        are left. Make the call again, with a request_id of its own, until none is: whoever was
        moved is not found again, so a migration that broke off goes on by itself.

        Errors: INVALID_FIELD (the plan has no list in effect then), NOT_FOUND, PLAN_NOT_ACTIVE,
        CURRENCY_MISMATCH.
        """
        return await self._caller.unary(_MIGRATE_PLAN, request, timeout)

    async def assign_business_model(
        self, request: pricing_v1.AssignBusinessModelRequest, *, timeout: float | None = None
    ) -> pricing_v1.AssignBusinessModelResponse:
        """AssignBusinessModel puts an organisation on a business model, or elsewhere in one. Who did
        it and when are stored with it, and in an audit entry. Errors: CATALOG_REFERENCE_MISSING,
        PLAN_NOT_ACTIVE.
        """
        return await self._caller.unary(_ASSIGN_BUSINESS_MODEL, request, timeout)

    async def get_plan(
        self, request: pricing_v1.GetPlanRequest, *, timeout: float | None = None
    ) -> pricing_v1.GetPlanResponse:
        """GetPlan reads a plan with its newest price list, or with the version asked for. Errors:
        NOT_FOUND.
        """
        return await self._caller.unary(_GET_PLAN, request, timeout)

    async def list_plans(
        self, request: pricing_v1.ListPlansRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListPlansResponse:
        """ListPlans pages through the plans by id, each with its newest price list. NOT_FOUND for a
        business model that there is not.
        """
        return await self._caller.unary(_LIST_PLANS, request, timeout)

    def all_plans(
        self, request: pricing_v1.ListPlansRequest, *, timeout: float | None = None
    ) -> AsyncIterator[pricing_v1.Plan]:
        """Yield the plans of all pages of list_plans, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: pricing_v1.ListPlansRequest) -> pricing_v1.ListPlansResponse:
            return await self.list_plans(asked, timeout=timeout)

        return items_async(page, request, "plans", BY_TOKEN)

    async def list_skus(
        self, request: pricing_v1.ListSkusRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListSkusResponse:
        """ListSkus pages through the SKUs by id."""
        return await self._caller.unary(_LIST_SKUS, request, timeout)

    def all_skus(
        self, request: pricing_v1.ListSkusRequest, *, timeout: float | None = None
    ) -> AsyncIterator[pricing_v1.Sku]:
        """Yield the skus of all pages of list_skus, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: pricing_v1.ListSkusRequest) -> pricing_v1.ListSkusResponse:
            return await self.list_skus(asked, timeout=timeout)

        return items_async(page, request, "skus", BY_TOKEN)

    async def list_entitlements(
        self, request: pricing_v1.ListEntitlementsRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListEntitlementsResponse:
        """ListEntitlements pages through the entitlements by organisation and effective_at, superseded
        ones included.
        """
        return await self._caller.unary(_LIST_ENTITLEMENTS, request, timeout)

    def all_entitlements(
        self, request: pricing_v1.ListEntitlementsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[pricing_v1.Entitlement]:
        """Yield the entitlements of all pages of list_entitlements, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: pricing_v1.ListEntitlementsRequest) -> pricing_v1.ListEntitlementsResponse:
            return await self.list_entitlements(asked, timeout=timeout)

        return items_async(page, request, "entitlements", BY_TOKEN)

    async def list_business_models(
        self, request: pricing_v1.ListBusinessModelsRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListBusinessModelsResponse:
        """ListBusinessModels pages through the business models by id."""
        return await self._caller.unary(_LIST_BUSINESS_MODELS, request, timeout)

    def all_business_models(
        self, request: pricing_v1.ListBusinessModelsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[pricing_v1.BusinessModel]:
        """Yield the business_models of all pages of list_business_models, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: pricing_v1.ListBusinessModelsRequest) -> pricing_v1.ListBusinessModelsResponse:
            return await self.list_business_models(asked, timeout=timeout)

        return items_async(page, request, "business_models", BY_TOKEN)

    async def list_org_business_models(
        self, request: pricing_v1.ListOrgBusinessModelsRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListOrgBusinessModelsResponse:
        """ListOrgBusinessModels pages through the organisations that are on a business model, by their
        ids.
        """
        return await self._caller.unary(_LIST_ORG_BUSINESS_MODELS, request, timeout)

    def all_org_business_models(
        self, request: pricing_v1.ListOrgBusinessModelsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[pricing_v1.OrgBusinessModel]:
        """Yield the org_business_models of all pages of list_org_business_models, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: pricing_v1.ListOrgBusinessModelsRequest) -> pricing_v1.ListOrgBusinessModelsResponse:
            return await self.list_org_business_models(asked, timeout=timeout)

        return items_async(page, request, "org_business_models", BY_TOKEN)

    async def list_partners(
        self, request: pricing_v1.ListPartnersRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListPartnersResponse:
        """ListPartners pages through the partners by id."""
        return await self._caller.unary(_LIST_PARTNERS, request, timeout)

    def all_partners(
        self, request: pricing_v1.ListPartnersRequest, *, timeout: float | None = None
    ) -> AsyncIterator[pricing_v1.Partner]:
        """Yield the partners of all pages of list_partners, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: pricing_v1.ListPartnersRequest) -> pricing_v1.ListPartnersResponse:
            return await self.list_partners(asked, timeout=timeout)

        return items_async(page, request, "partners", BY_TOKEN)

    async def list_partners_of_record(
        self, request: pricing_v1.ListPartnersOfRecordRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListPartnersOfRecordResponse:
        """ListPartnersOfRecord pages through the partners of record by organisation, partner and
        start_at, ended ones included.
        """
        return await self._caller.unary(_LIST_PARTNERS_OF_RECORD, request, timeout)

    def all_partners_of_record(
        self, request: pricing_v1.ListPartnersOfRecordRequest, *, timeout: float | None = None
    ) -> AsyncIterator[pricing_v1.PartnerOfRecord]:
        """Yield the partners_of_record of all pages of list_partners_of_record, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: pricing_v1.ListPartnersOfRecordRequest) -> pricing_v1.ListPartnersOfRecordResponse:
            return await self.list_partners_of_record(asked, timeout=timeout)

        return items_async(page, request, "partners_of_record", BY_TOKEN)

    async def list_commission_rates(
        self, request: pricing_v1.ListCommissionRatesRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListCommissionRatesResponse:
        """ListCommissionRates pages through the commission rates by tier and SKU."""
        return await self._caller.unary(_LIST_COMMISSION_RATES, request, timeout)

    def all_commission_rates(
        self, request: pricing_v1.ListCommissionRatesRequest, *, timeout: float | None = None
    ) -> AsyncIterator[pricing_v1.CommissionRate]:
        """Yield the commission_rates of all pages of list_commission_rates, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: pricing_v1.ListCommissionRatesRequest) -> pricing_v1.ListCommissionRatesResponse:
            return await self.list_commission_rates(asked, timeout=timeout)

        return items_async(page, request, "commission_rates", BY_TOKEN)

    async def list_tax_rates(
        self, request: pricing_v1.ListTaxRatesRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListTaxRatesResponse:
        """ListTaxRates pages through the tax rates by jurisdiction, tax, tax code and effective_at,
        superseded ones included.
        """
        return await self._caller.unary(_LIST_TAX_RATES, request, timeout)

    def all_tax_rates(
        self, request: pricing_v1.ListTaxRatesRequest, *, timeout: float | None = None
    ) -> AsyncIterator[pricing_v1.TaxRate]:
        """Yield the tax_rates of all pages of list_tax_rates, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: pricing_v1.ListTaxRatesRequest) -> pricing_v1.ListTaxRatesResponse:
            return await self.list_tax_rates(asked, timeout=timeout)

        return items_async(page, request, "tax_rates", BY_TOKEN)

    async def list_tax_profiles(
        self, request: pricing_v1.ListTaxProfilesRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListTaxProfilesResponse:
        """ListTaxProfiles pages through the tax profiles by organisation and effective_at, superseded
        ones included.
        """
        return await self._caller.unary(_LIST_TAX_PROFILES, request, timeout)

    def all_tax_profiles(
        self, request: pricing_v1.ListTaxProfilesRequest, *, timeout: float | None = None
    ) -> AsyncIterator[pricing_v1.TaxProfile]:
        """Yield the tax_profiles of all pages of list_tax_profiles, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: pricing_v1.ListTaxProfilesRequest) -> pricing_v1.ListTaxProfilesResponse:
            return await self.list_tax_profiles(asked, timeout=timeout)

        return items_async(page, request, "tax_profiles", BY_TOKEN)

    async def list_tax_policies(
        self, request: pricing_v1.ListTaxPoliciesRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListTaxPoliciesResponse:
        """ListTaxPolicies pages through the tax policies by country."""
        return await self._caller.unary(_LIST_TAX_POLICIES, request, timeout)

    def all_tax_policies(
        self, request: pricing_v1.ListTaxPoliciesRequest, *, timeout: float | None = None
    ) -> AsyncIterator[pricing_v1.TaxPolicy]:
        """Yield the tax_policies of all pages of list_tax_policies, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: pricing_v1.ListTaxPoliciesRequest) -> pricing_v1.ListTaxPoliciesResponse:
            return await self.list_tax_policies(asked, timeout=timeout)

        return items_async(page, request, "tax_policies", BY_TOKEN)

    async def list_billing_account_orgs(
        self, request: pricing_v1.ListBillingAccountOrgsRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListBillingAccountOrgsResponse:
        """ListBillingAccountOrgs pages through the organisations of billing accounts by organisation,
        billing account and start_at, ended ones included.
        """
        return await self._caller.unary(_LIST_BILLING_ACCOUNT_ORGS, request, timeout)

    def all_billing_account_orgs(
        self, request: pricing_v1.ListBillingAccountOrgsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[pricing_v1.BillingAccountOrg]:
        """Yield the billing_account_orgs of all pages of list_billing_account_orgs, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: pricing_v1.ListBillingAccountOrgsRequest) -> pricing_v1.ListBillingAccountOrgsResponse:
            return await self.list_billing_account_orgs(asked, timeout=timeout)

        return items_async(page, request, "billing_account_orgs", BY_TOKEN)

    async def list_billing_account_partners(
        self, request: pricing_v1.ListBillingAccountPartnersRequest, *, timeout: float | None = None
    ) -> pricing_v1.ListBillingAccountPartnersResponse:
        """ListBillingAccountPartners pages through the partners of billing accounts by billing
        account, partner and start_at, ended ones included.
        """
        return await self._caller.unary(_LIST_BILLING_ACCOUNT_PARTNERS, request, timeout)

    def all_billing_account_partners(
        self, request: pricing_v1.ListBillingAccountPartnersRequest, *, timeout: float | None = None
    ) -> AsyncIterator[pricing_v1.BillingAccountPartner]:
        """Yield the billing_account_partners of all pages of list_billing_account_partners, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: pricing_v1.ListBillingAccountPartnersRequest) -> pricing_v1.ListBillingAccountPartnersResponse:
            return await self.list_billing_account_partners(asked, timeout=timeout)

        return items_async(page, request, "billing_account_partners", BY_TOKEN)
