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
_CALCULATE_TAX = Method(
    "/payments.pricing.v1.PricingService/CalculateTax",
    pricing_v1.CalculateTaxRequest,
    pricing_v1.CalculateTaxResponse,
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
        """EvaluatePrice applies a price to usage; no catalogue is involved.

        Errors: INVALID_FIELD (tiers out of order, a last tier with an end, an empty package, input
        that the price does not read), PRICE_NOT_SPLITTABLE, PRICE_INPUT_MISSING,
        DIMENSION_NOT_PRICED, UNKNOWN_CURRENCY, AMOUNT_OVERFLOW.
        """
        return self._caller.unary(_EVALUATE_PRICE, request, timeout)

    def estimate(
        self, request: pricing_v1.EstimateRequest, *, timeout: float | None = None
    ) -> pricing_v1.EstimateResponse:
        """Estimate previews a period of an organisation on the plan that it is on now, by the rules
        that charges follow; or, with `period`, on the plans that it is on then, its usage spread
        evenly over the period.

        Errors: NO_PLAN, PLAN_CHANGES_IN_PERIOD, SKU_NOT_PRICED, PRICE_INPUT_MISSING (a price by
        events or values), INVALID_FIELD (a product of uses and leads beyond 18 places),
        AMOUNT_OVERFLOW, TAX_PROFILE_MISSING, TAX_RATE_MISSING.
        """
        return self._caller.unary(_ESTIMATE, request, timeout)

    def rate_usage(
        self, request: pricing_v1.RateUsageRequest, *, timeout: float | None = None
    ) -> pricing_v1.RateUsageResponse:
        """RateUsage says what a charge for the period would be, line by line, with proofs. Projects
        are rated in the order of their ids, each from where the one before it left the tiers, so
        that the lines of a SKU sum to the price of the whole.

        The plan and its version are those in force at the period's start. Each line is shared out
        over the stretches of the period in which different partners earn, whatever the plan: the
        lines of all stretches sum exactly to what the organisation pays without partners. Where the
        organisation moves to other terms inside the period, each part is rated by those at its own
        start, as the plans' `proration` says; its lines and proofs name the part. Errors: NO_PLAN,
        SKU_NOT_PRICED, PLAN_CHANGES_IN_PERIOD (a plan does not say how it is prorated, or the parts
        are in different currencies: rate them apart), USAGE_NOT_RATEABLE, DIMENSION_NOT_PRICED,
        USAGE_MOVED, AMOUNT_OVERFLOW, TAX_PROFILE_MISSING, TAX_RATE_MISSING.
        """
        return self._caller.unary(_RATE_USAGE, request, timeout)

    def calculate_tax(
        self, request: pricing_v1.CalculateTaxRequest, *, timeout: float | None = None
    ) -> pricing_v1.CalculateTaxResponse:
        """CalculateTax says which taxes an organisation bears on amounts at an instant, by the rules
        that charges follow; all items are one document.

        Errors: TAX_PROFILE_MISSING, TAX_RATE_MISSING, CURRENCY_MISMATCH, UNKNOWN_CURRENCY,
        AMOUNT_OVERFLOW.
        """
        return self._caller.unary(_CALCULATE_TAX, request, timeout)


class AsyncPricingService:
    """PricingService computes amounts. It stores nothing, so every call may be repeated."""

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def evaluate_price(
        self, request: pricing_v1.EvaluatePriceRequest, *, timeout: float | None = None
    ) -> pricing_v1.EvaluatePriceResponse:
        """EvaluatePrice applies a price to usage; no catalogue is involved.

        Errors: INVALID_FIELD (tiers out of order, a last tier with an end, an empty package, input
        that the price does not read), PRICE_NOT_SPLITTABLE, PRICE_INPUT_MISSING,
        DIMENSION_NOT_PRICED, UNKNOWN_CURRENCY, AMOUNT_OVERFLOW.
        """
        return await self._caller.unary(_EVALUATE_PRICE, request, timeout)

    async def estimate(
        self, request: pricing_v1.EstimateRequest, *, timeout: float | None = None
    ) -> pricing_v1.EstimateResponse:
        """Estimate previews a period of an organisation on the plan that it is on now, by the rules
        that charges follow; or, with `period`, on the plans that it is on then, its usage spread
        evenly over the period.

        Errors: NO_PLAN, PLAN_CHANGES_IN_PERIOD, SKU_NOT_PRICED, PRICE_INPUT_MISSING (a price by
        events or values), INVALID_FIELD (a product of uses and leads beyond 18 places),
        AMOUNT_OVERFLOW, TAX_PROFILE_MISSING, TAX_RATE_MISSING.
        """
        return await self._caller.unary(_ESTIMATE, request, timeout)

    async def rate_usage(
        self, request: pricing_v1.RateUsageRequest, *, timeout: float | None = None
    ) -> pricing_v1.RateUsageResponse:
        """RateUsage says what a charge for the period would be, line by line, with proofs. Projects
        are rated in the order of their ids, each from where the one before it left the tiers, so
        that the lines of a SKU sum to the price of the whole.

        The plan and its version are those in force at the period's start. Each line is shared out
        over the stretches of the period in which different partners earn, whatever the plan: the
        lines of all stretches sum exactly to what the organisation pays without partners. Where the
        organisation moves to other terms inside the period, each part is rated by those at its own
        start, as the plans' `proration` says; its lines and proofs name the part. Errors: NO_PLAN,
        SKU_NOT_PRICED, PLAN_CHANGES_IN_PERIOD (a plan does not say how it is prorated, or the parts
        are in different currencies: rate them apart), USAGE_NOT_RATEABLE, DIMENSION_NOT_PRICED,
        USAGE_MOVED, AMOUNT_OVERFLOW, TAX_PROFILE_MISSING, TAX_RATE_MISSING.
        """
        return await self._caller.unary(_RATE_USAGE, request, timeout)

    async def calculate_tax(
        self, request: pricing_v1.CalculateTaxRequest, *, timeout: float | None = None
    ) -> pricing_v1.CalculateTaxResponse:
        """CalculateTax says which taxes an organisation bears on amounts at an instant, by the rules
        that charges follow; all items are one document.

        Errors: TAX_PROFILE_MISSING, TAX_RATE_MISSING, CURRENCY_MISMATCH, UNKNOWN_CURRENCY,
        AMOUNT_OVERFLOW.
        """
        return await self._caller.unary(_CALCULATE_TAX, request, timeout)
