"""PricingService computes amounts. It stores nothing, so every call may be repeated.

Written by `make generate` from payments/pricing/v1/pricing_service.proto. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..payments.pricing import v1 as pricing_v1
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("AsyncPricingService", "PricingService")

_EVALUATE_PRICE = Method(
    "/payments.pricing.v1.PricingService/EvaluatePrice",
    pricing_v1.EvaluatePriceRequest,
    pricing_v1.EvaluatePriceResponse,
    repeatable=True,
    has_request_id=False,
)
_ESTIMATE = Method(
    "/payments.pricing.v1.PricingService/Estimate",
    pricing_v1.EstimateRequest,
    pricing_v1.EstimateResponse,
    repeatable=True,
    has_request_id=False,
)
_RATE_USAGE = Method(
    "/payments.pricing.v1.PricingService/RateUsage",
    pricing_v1.RateUsageRequest,
    pricing_v1.RateUsageResponse,
    repeatable=True,
    has_request_id=False,
)


class PricingService:
    """PricingService computes amounts. It stores nothing, so every call may be repeated."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def evaluate_price(
        self, request: pricing_v1.EvaluatePriceRequest, *, timeout: float | None = None
    ) -> pricing_v1.EvaluatePriceResponse:
        """EvaluatePrice applies a price to a quantity; no catalogue is involved.

        Errors: INVALID_FIELD (tiers out of order, a last tier with an end, an empty package),
        UNKNOWN_CURRENCY, AMOUNT_OVERFLOW.
        """
        return self._caller.unary(_EVALUATE_PRICE, request, timeout)

    def estimate(
        self, request: pricing_v1.EstimateRequest, *, timeout: float | None = None
    ) -> pricing_v1.EstimateResponse:
        """Estimate previews a period of an organisation on the plan that it is on now, by the rules
        that charges follow.

        Errors: NO_PLAN, SKU_NOT_PRICED, INVALID_FIELD (a product of uses and leads beyond 18
        places), AMOUNT_OVERFLOW.
        """
        return self._caller.unary(_ESTIMATE, request, timeout)

    def rate_usage(
        self, request: pricing_v1.RateUsageRequest, *, timeout: float | None = None
    ) -> pricing_v1.RateUsageResponse:
        """RateUsage says what a charge for the period would be, line by line, with proofs. Projects
        are rated in the order of their ids, each from where the one before it left the tiers, so
        that the lines of a SKU sum to the price of the whole.

        The plan, its version, and the partner of record are those in force at the period's start.
        Errors: NO_PLAN, SKU_NOT_PRICED, PLAN_CHANGES_IN_PERIOD (rate the two parts apart),
        USAGE_NOT_RATEABLE, AMOUNT_OVERFLOW.
        """
        return self._caller.unary(_RATE_USAGE, request, timeout)


class AsyncPricingService:
    """PricingService computes amounts. It stores nothing, so every call may be repeated."""

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def evaluate_price(
        self, request: pricing_v1.EvaluatePriceRequest, *, timeout: float | None = None
    ) -> pricing_v1.EvaluatePriceResponse:
        """EvaluatePrice applies a price to a quantity; no catalogue is involved.

        Errors: INVALID_FIELD (tiers out of order, a last tier with an end, an empty package),
        UNKNOWN_CURRENCY, AMOUNT_OVERFLOW.
        """
        return await self._caller.unary(_EVALUATE_PRICE, request, timeout)

    async def estimate(
        self, request: pricing_v1.EstimateRequest, *, timeout: float | None = None
    ) -> pricing_v1.EstimateResponse:
        """Estimate previews a period of an organisation on the plan that it is on now, by the rules
        that charges follow.

        Errors: NO_PLAN, SKU_NOT_PRICED, INVALID_FIELD (a product of uses and leads beyond 18
        places), AMOUNT_OVERFLOW.
        """
        return await self._caller.unary(_ESTIMATE, request, timeout)

    async def rate_usage(
        self, request: pricing_v1.RateUsageRequest, *, timeout: float | None = None
    ) -> pricing_v1.RateUsageResponse:
        """RateUsage says what a charge for the period would be, line by line, with proofs. Projects
        are rated in the order of their ids, each from where the one before it left the tiers, so
        that the lines of a SKU sum to the price of the whole.

        The plan, its version, and the partner of record are those in force at the period's start.
        Errors: NO_PLAN, SKU_NOT_PRICED, PLAN_CHANGES_IN_PERIOD (rate the two parts apart),
        USAGE_NOT_RATEABLE, AMOUNT_OVERFLOW.
        """
        return await self._caller.unary(_RATE_USAGE, request, timeout)
