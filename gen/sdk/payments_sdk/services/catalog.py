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

        Errors: INVALID_FIELD, CATALOG_REFERENCE_MISSING, PLAN_VERSION_FROZEN, PLAN_NOT_ACTIVE,
        PARTNERS_OVERLAP, CURRENCY_MISMATCH, UNKNOWN_CURRENCY, MODEL_CODE_TAKEN.
        """
        return self._caller.unary(_APPLY_CATALOG, request, timeout)

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

        Errors: INVALID_FIELD, CATALOG_REFERENCE_MISSING, PLAN_VERSION_FROZEN, PLAN_NOT_ACTIVE,
        PARTNERS_OVERLAP, CURRENCY_MISMATCH, UNKNOWN_CURRENCY, MODEL_CODE_TAKEN.
        """
        return await self._caller.unary(_APPLY_CATALOG, request, timeout)

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
