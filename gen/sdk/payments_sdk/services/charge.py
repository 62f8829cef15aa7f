"""ChargeService turns metered usage into what an organisation owes.

Written by `make generate` from payments/billing/v1/charge_service.proto. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..payments.billing import v1 as billing_v1
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("AsyncChargeService", "ChargeService")

_CREATE_CHARGE = Method(
    "/payments.billing.v1.ChargeService/CreateCharge",
    billing_v1.CreateChargeRequest,
    billing_v1.CreateChargeResponse,
    repeatable=True,
    has_request_id=True,
)
_PREVIEW_CHARGE = Method(
    "/payments.billing.v1.ChargeService/PreviewCharge",
    billing_v1.PreviewChargeRequest,
    billing_v1.PreviewChargeResponse,
    repeatable=True,
    has_request_id=False,
)
_ADJUST_CHARGE = Method(
    "/payments.billing.v1.ChargeService/AdjustCharge",
    billing_v1.AdjustChargeRequest,
    billing_v1.AdjustChargeResponse,
    repeatable=True,
    has_request_id=True,
)
_REVERSE_CHARGE = Method(
    "/payments.billing.v1.ChargeService/ReverseCharge",
    billing_v1.ReverseChargeRequest,
    billing_v1.ReverseChargeResponse,
    repeatable=True,
    has_request_id=True,
)
_GET_CHARGE = Method(
    "/payments.billing.v1.ChargeService/GetCharge",
    billing_v1.GetChargeRequest,
    billing_v1.GetChargeResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_CHARGES = Method(
    "/payments.billing.v1.ChargeService/ListCharges",
    billing_v1.ListChargesRequest,
    billing_v1.ListChargesResponse,
    repeatable=True,
    has_request_id=False,
)
_EXPLAIN_CHARGE = Method(
    "/payments.billing.v1.ChargeService/ExplainCharge",
    billing_v1.ExplainChargeRequest,
    billing_v1.ExplainChargeResponse,
    repeatable=True,
    has_request_id=False,
)


class ChargeService:
    """ChargeService turns metered usage into what an organisation owes."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def create_charge(
        self, request: billing_v1.CreateChargeRequest, *, timeout: float | None = None
    ) -> billing_v1.CreateChargeResponse:
        """CreateCharge rates the usage of an organisation in a period, stores the lines permanently,
        has the ledger post them by the recipe `charge` and answers once they are there. The same
        request_id gives the same charge, whatever was metered meanwhile, and finishes one that an
        earlier call left half-way.

        Usage that is stored later for the charge's period is not billed by it:
        MeteringService.ListLateEvents lists it, and AdjustCharge bills it.

        Errors: PERIOD_NOT_ENDED when the period has not ended and allow_open does not say
        otherwise, CHARGE_OVERLAPS when a charge of the organisation covers part of the period
        already, CHARGE_TOO_LARGE, POSTING_REFUSED when an account does not take a leg of the
        recipe, and those of PricingService.RateUsage, such as NO_PLAN and TAX_RATE_MISSING.
        """
        return self._caller.unary(_CREATE_CHARGE, request, timeout)

    def preview_charge(
        self, request: billing_v1.PreviewChargeRequest, *, timeout: float | None = None
    ) -> billing_v1.PreviewChargeResponse:
        """PreviewCharge returns the charge that CreateCharge would make now, without an id and a
        status. Nothing is stored. Its errors are those of CreateCharge.
        """
        return self._caller.unary(_PREVIEW_CHARGE, request, timeout)

    def adjust_charge(
        self, request: billing_v1.AdjustChargeRequest, *, timeout: float | None = None
    ) -> billing_v1.AdjustChargeResponse:
        """AdjustCharge brings what was billed for a charge's period to what the usage of the period
        comes to now: usage that was stored late, amended or cancelled, and prices and commissions
        as they are now. It makes a charge of the difference, with postings of its own that take
        effect when it is made; what was billed before stays as it is. The same request_id gives the
        same charge.

        Errors: NOT_FOUND, NOTHING_TO_ADJUST when there is no difference, CHARGE_NOT_CORRECTABLE for
        a reversed charge and for one that is a correction itself, CHARGE_TOO_LARGE,
        POSTING_REFUSED, and those of PricingService.RateUsage.
        """
        return self._caller.unary(_ADJUST_CHARGE, request, timeout)

    def reverse_charge(
        self, request: billing_v1.ReverseChargeRequest, *, timeout: float | None = None
    ) -> billing_v1.ReverseChargeResponse:
        """ReverseCharge takes back all that was billed for a charge's period, by the charge and by its
        corrections: a charge of the opposite, to the minor unit, also of what partners earned. The
        charge is REVERSED then, and its period may be charged again. The same request_id gives the
        same reversal.

        Errors: NOT_FOUND, CHARGE_NOT_CORRECTABLE, POSTING_REFUSED.
        """
        return self._caller.unary(_REVERSE_CHARGE, request, timeout)

    def get_charge(
        self, request: billing_v1.GetChargeRequest, *, timeout: float | None = None
    ) -> billing_v1.GetChargeResponse:
        """GetCharge returns a charge with its lines; NOT_FOUND when there is none of that id."""
        return self._caller.unary(_GET_CHARGE, request, timeout)

    def list_charges(
        self, request: billing_v1.ListChargesRequest, *, timeout: float | None = None
    ) -> billing_v1.ListChargesResponse:
        """ListCharges lists charges, the latest period first; NOT_FOUND when adjusts_charge_id names
        no charge.
        """
        return self._caller.unary(_LIST_CHARGES, request, timeout)

    def all_charges(
        self, request: billing_v1.ListChargesRequest, *, timeout: float | None = None
    ) -> Iterator[billing_v1.Charge]:
        """Yield the charges of all pages of list_charges, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: billing_v1.ListChargesRequest) -> billing_v1.ListChargesResponse:
            return self.list_charges(asked, timeout=timeout)

        return items(page, request, "charges", BY_TOKEN)

    def explain_charge(
        self, request: billing_v1.ExplainChargeRequest, *, timeout: float | None = None
    ) -> billing_v1.ExplainChargeResponse:
        """ExplainCharge shows for each line the events, meter, price version, tiers and rounding
        behind it, and the transfers that it made; NOT_FOUND when there is no charge of that id.
        """
        return self._caller.unary(_EXPLAIN_CHARGE, request, timeout)


class AsyncChargeService:
    """ChargeService turns metered usage into what an organisation owes."""

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def create_charge(
        self, request: billing_v1.CreateChargeRequest, *, timeout: float | None = None
    ) -> billing_v1.CreateChargeResponse:
        """CreateCharge rates the usage of an organisation in a period, stores the lines permanently,
        has the ledger post them by the recipe `charge` and answers once they are there. The same
        request_id gives the same charge, whatever was metered meanwhile, and finishes one that an
        earlier call left half-way.

        Usage that is stored later for the charge's period is not billed by it:
        MeteringService.ListLateEvents lists it, and AdjustCharge bills it.

        Errors: PERIOD_NOT_ENDED when the period has not ended and allow_open does not say
        otherwise, CHARGE_OVERLAPS when a charge of the organisation covers part of the period
        already, CHARGE_TOO_LARGE, POSTING_REFUSED when an account does not take a leg of the
        recipe, and those of PricingService.RateUsage, such as NO_PLAN and TAX_RATE_MISSING.
        """
        return await self._caller.unary(_CREATE_CHARGE, request, timeout)

    async def preview_charge(
        self, request: billing_v1.PreviewChargeRequest, *, timeout: float | None = None
    ) -> billing_v1.PreviewChargeResponse:
        """PreviewCharge returns the charge that CreateCharge would make now, without an id and a
        status. Nothing is stored. Its errors are those of CreateCharge.
        """
        return await self._caller.unary(_PREVIEW_CHARGE, request, timeout)

    async def adjust_charge(
        self, request: billing_v1.AdjustChargeRequest, *, timeout: float | None = None
    ) -> billing_v1.AdjustChargeResponse:
        """AdjustCharge brings what was billed for a charge's period to what the usage of the period
        comes to now: usage that was stored late, amended or cancelled, and prices and commissions
        as they are now. It makes a charge of the difference, with postings of its own that take
        effect when it is made; what was billed before stays as it is. The same request_id gives the
        same charge.

        Errors: NOT_FOUND, NOTHING_TO_ADJUST when there is no difference, CHARGE_NOT_CORRECTABLE for
        a reversed charge and for one that is a correction itself, CHARGE_TOO_LARGE,
        POSTING_REFUSED, and those of PricingService.RateUsage.
        """
        return await self._caller.unary(_ADJUST_CHARGE, request, timeout)

    async def reverse_charge(
        self, request: billing_v1.ReverseChargeRequest, *, timeout: float | None = None
    ) -> billing_v1.ReverseChargeResponse:
        """ReverseCharge takes back all that was billed for a charge's period, by the charge and by its
        corrections: a charge of the opposite, to the minor unit, also of what partners earned. The
        charge is REVERSED then, and its period may be charged again. The same request_id gives the
        same reversal.

        Errors: NOT_FOUND, CHARGE_NOT_CORRECTABLE, POSTING_REFUSED.
        """
        return await self._caller.unary(_REVERSE_CHARGE, request, timeout)

    async def get_charge(
        self, request: billing_v1.GetChargeRequest, *, timeout: float | None = None
    ) -> billing_v1.GetChargeResponse:
        """GetCharge returns a charge with its lines; NOT_FOUND when there is none of that id."""
        return await self._caller.unary(_GET_CHARGE, request, timeout)

    async def list_charges(
        self, request: billing_v1.ListChargesRequest, *, timeout: float | None = None
    ) -> billing_v1.ListChargesResponse:
        """ListCharges lists charges, the latest period first; NOT_FOUND when adjusts_charge_id names
        no charge.
        """
        return await self._caller.unary(_LIST_CHARGES, request, timeout)

    def all_charges(
        self, request: billing_v1.ListChargesRequest, *, timeout: float | None = None
    ) -> AsyncIterator[billing_v1.Charge]:
        """Yield the charges of all pages of list_charges, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: billing_v1.ListChargesRequest) -> billing_v1.ListChargesResponse:
            return await self.list_charges(asked, timeout=timeout)

        return items_async(page, request, "charges", BY_TOKEN)

    async def explain_charge(
        self, request: billing_v1.ExplainChargeRequest, *, timeout: float | None = None
    ) -> billing_v1.ExplainChargeResponse:
        """ExplainCharge shows for each line the events, meter, price version, tiers and rounding
        behind it, and the transfers that it made; NOT_FOUND when there is no charge of that id.
        """
        return await self._caller.unary(_EXPLAIN_CHARGE, request, timeout)
