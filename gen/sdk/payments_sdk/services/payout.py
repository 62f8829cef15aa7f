"""PayoutService pays out what parties have earned. It learns by itself, within moments, what the lines
of each settled charge earn for partners. A commission above the threshold of its currency is
claimed at once; the rest is swept, as the policy says or when it is asked for. Nobody is ever paid
more than is owed.


Written by `make generate` from payments/settlement/v1/payout_service.proto. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..payments.settlement import v1 as settlement_v1
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("AsyncPayoutService", "PayoutService")

_CREATE_PAYOUT = Method(
    "/payments.settlement.v1.PayoutService/CreatePayout",
    settlement_v1.CreatePayoutRequest,
    settlement_v1.CreatePayoutResponse,
    repeatable=True,
    has_request_id=True,
)
_GET_PAYOUT = Method(
    "/payments.settlement.v1.PayoutService/GetPayout",
    settlement_v1.GetPayoutRequest,
    settlement_v1.GetPayoutResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_PAYOUTS = Method(
    "/payments.settlement.v1.PayoutService/ListPayouts",
    settlement_v1.ListPayoutsRequest,
    settlement_v1.ListPayoutsResponse,
    repeatable=True,
    has_request_id=False,
)
_RECORD_PAYOUT_PAYMENT = Method(
    "/payments.settlement.v1.PayoutService/RecordPayoutPayment",
    settlement_v1.RecordPayoutPaymentRequest,
    settlement_v1.RecordPayoutPaymentResponse,
    repeatable=True,
    has_request_id=True,
)
_RECORD_PAYOUT_RETURN = Method(
    "/payments.settlement.v1.PayoutService/RecordPayoutReturn",
    settlement_v1.RecordPayoutReturnRequest,
    settlement_v1.RecordPayoutReturnResponse,
    repeatable=True,
    has_request_id=True,
)
_SWEEP_COMMISSIONS = Method(
    "/payments.settlement.v1.PayoutService/SweepCommissions",
    settlement_v1.SweepCommissionsRequest,
    settlement_v1.SweepCommissionsResponse,
    repeatable=True,
    has_request_id=True,
)
_GET_COMMISSION_SWEEP = Method(
    "/payments.settlement.v1.PayoutService/GetCommissionSweep",
    settlement_v1.GetCommissionSweepRequest,
    settlement_v1.GetCommissionSweepResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_COMMISSION_SWEEPS = Method(
    "/payments.settlement.v1.PayoutService/ListCommissionSweeps",
    settlement_v1.ListCommissionSweepsRequest,
    settlement_v1.ListCommissionSweepsResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_COMMISSIONS = Method(
    "/payments.settlement.v1.PayoutService/ListCommissions",
    settlement_v1.ListCommissionsRequest,
    settlement_v1.ListCommissionsResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_COMMISSION_BALANCES = Method(
    "/payments.settlement.v1.PayoutService/ListCommissionBalances",
    settlement_v1.ListCommissionBalancesRequest,
    settlement_v1.ListCommissionBalancesResponse,
    repeatable=True,
    has_request_id=False,
)
_VERIFY_COMMISSIONS = Method(
    "/payments.settlement.v1.PayoutService/VerifyCommissions",
    settlement_v1.VerifyCommissionsRequest,
    settlement_v1.VerifyCommissionsResponse,
    repeatable=True,
    has_request_id=False,
)


class PayoutService:
    """PayoutService pays out what parties have earned. It learns by itself, within moments, what the
    lines of each settled charge earn for partners. A commission above the threshold of its currency
    is claimed at once; the rest is swept, as the policy says or when it is asked for. Nobody is
    ever paid more than is owed.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def create_payout(
        self, request: settlement_v1.CreatePayoutRequest, *, timeout: float | None = None
    ) -> settlement_v1.CreatePayoutResponse:
        """CreatePayout pays out part of what a party is owed, now. The same request_id gives the same
        payout.

        Errors: PAYOUT_EXCEEDS_BALANCE when less is owed, INVALID_FIELD for an amount that is not
        above zero, and for a destination with the number of a card.
        """
        return self._caller.unary(_CREATE_PAYOUT, request, timeout)

    def get_payout(
        self, request: settlement_v1.GetPayoutRequest, *, timeout: float | None = None
    ) -> settlement_v1.GetPayoutResponse:
        """GetPayout returns a payout; NOT_FOUND when there is none of that id."""
        return self._caller.unary(_GET_PAYOUT, request, timeout)

    def list_payouts(
        self, request: settlement_v1.ListPayoutsRequest, *, timeout: float | None = None
    ) -> settlement_v1.ListPayoutsResponse:
        """ListPayouts lists payouts, the latest first."""
        return self._caller.unary(_LIST_PAYOUTS, request, timeout)

    def all_payouts(
        self, request: settlement_v1.ListPayoutsRequest, *, timeout: float | None = None
    ) -> Iterator[settlement_v1.Payout]:
        """Yield the payouts of all pages of list_payouts, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: settlement_v1.ListPayoutsRequest) -> settlement_v1.ListPayoutsResponse:
            return self.list_payouts(asked, timeout=timeout)

        return items(page, request, "payouts", BY_TOKEN)

    def record_payout_payment(
        self, request: settlement_v1.RecordPayoutPaymentRequest, *, timeout: float | None = None
    ) -> settlement_v1.RecordPayoutPaymentResponse:
        """RecordPayoutPayment says that a party has the money of a payout, and has it booked.

        Errors: NOT_FOUND, PAYOUT_STATUS_CONFLICT unless it is CLAIMED, INVALID_FIELD for a time
        more than a day in the future.
        """
        return self._caller.unary(_RECORD_PAYOUT_PAYMENT, request, timeout)

    def record_payout_return(
        self, request: settlement_v1.RecordPayoutReturnRequest, *, timeout: float | None = None
    ) -> settlement_v1.RecordPayoutReturnResponse:
        """RecordPayoutReturn says that the money of a payout came back, and has it booked: it is owed
        to the party again, and the next sweep pays it.

        Errors: NOT_FOUND, PAYOUT_STATUS_CONFLICT unless it is CLAIMED or PAID, INVALID_FIELD for a
        time more than a day in the future.
        """
        return self._caller.unary(_RECORD_PAYOUT_RETURN, request, timeout)

    def sweep_commissions(
        self, request: settlement_v1.SweepCommissionsRequest, *, timeout: float | None = None
    ) -> settlement_v1.SweepCommissionsResponse:
        """SweepCommissions pays out what parties are owed, one payout a party and currency, and
        answers when it has looked at all of them. What came half-way goes on by itself. The same
        request_id gives the same sweep. Two sweeps at once pay nothing twice.
        """
        return self._caller.unary(_SWEEP_COMMISSIONS, request, timeout)

    def get_commission_sweep(
        self, request: settlement_v1.GetCommissionSweepRequest, *, timeout: float | None = None
    ) -> settlement_v1.GetCommissionSweepResponse:
        """GetCommissionSweep returns a sweep; NOT_FOUND when there is none of that id."""
        return self._caller.unary(_GET_COMMISSION_SWEEP, request, timeout)

    def list_commission_sweeps(
        self, request: settlement_v1.ListCommissionSweepsRequest, *, timeout: float | None = None
    ) -> settlement_v1.ListCommissionSweepsResponse:
        """ListCommissionSweeps lists sweeps, the latest made first; the next one by schedule is among
        them.
        """
        return self._caller.unary(_LIST_COMMISSION_SWEEPS, request, timeout)

    def all_commission_sweeps(
        self, request: settlement_v1.ListCommissionSweepsRequest, *, timeout: float | None = None
    ) -> Iterator[settlement_v1.CommissionSweep]:
        """Yield the sweeps of all pages of list_commission_sweeps, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: settlement_v1.ListCommissionSweepsRequest) -> settlement_v1.ListCommissionSweepsResponse:
            return self.list_commission_sweeps(asked, timeout=timeout)

        return items(page, request, "sweeps", BY_TOKEN)

    def list_commissions(
        self, request: settlement_v1.ListCommissionsRequest, *, timeout: float | None = None
    ) -> settlement_v1.ListCommissionsResponse:
        """ListCommissions lists what was earned line by line, the latest first."""
        return self._caller.unary(_LIST_COMMISSIONS, request, timeout)

    def all_commissions(
        self, request: settlement_v1.ListCommissionsRequest, *, timeout: float | None = None
    ) -> Iterator[settlement_v1.Commission]:
        """Yield the commissions of all pages of list_commissions, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: settlement_v1.ListCommissionsRequest) -> settlement_v1.ListCommissionsResponse:
            return self.list_commissions(asked, timeout=timeout)

        return items(page, request, "commissions", BY_TOKEN)

    def list_commission_balances(
        self, request: settlement_v1.ListCommissionBalancesRequest, *, timeout: float | None = None
    ) -> settlement_v1.ListCommissionBalancesResponse:
        """ListCommissionBalances lists how parties stand, by party and currency."""
        return self._caller.unary(_LIST_COMMISSION_BALANCES, request, timeout)

    def all_commission_balances(
        self, request: settlement_v1.ListCommissionBalancesRequest, *, timeout: float | None = None
    ) -> Iterator[settlement_v1.CommissionBalance]:
        """Yield the balances of all pages of list_commission_balances, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: settlement_v1.ListCommissionBalancesRequest) -> settlement_v1.ListCommissionBalancesResponse:
            return self.list_commission_balances(asked, timeout=timeout)

        return items(page, request, "balances", BY_TOKEN)

    def verify_commissions(
        self, request: settlement_v1.VerifyCommissionsRequest, *, timeout: float | None = None
    ) -> settlement_v1.VerifyCommissionsResponse:
        """VerifyCommissions compares how parties stand with the accounts of the ledger, a page at a
        time, by party, currency and dispute. A difference while nothing is on its way breaks the
        contract `settlement/commissions-in-books`.
        """
        return self._caller.unary(_VERIFY_COMMISSIONS, request, timeout)

    def all_verify_commissions(
        self, request: settlement_v1.VerifyCommissionsRequest, *, timeout: float | None = None
    ) -> Iterator[settlement_v1.CommissionCheck]:
        """Yield the comparisons of all pages of verify_commissions, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: settlement_v1.VerifyCommissionsRequest) -> settlement_v1.VerifyCommissionsResponse:
            return self.verify_commissions(asked, timeout=timeout)

        return items(page, request, "comparisons", BY_TOKEN)


class AsyncPayoutService:
    """PayoutService pays out what parties have earned. It learns by itself, within moments, what the
    lines of each settled charge earn for partners. A commission above the threshold of its currency
    is claimed at once; the rest is swept, as the policy says or when it is asked for. Nobody is
    ever paid more than is owed.
    """

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def create_payout(
        self, request: settlement_v1.CreatePayoutRequest, *, timeout: float | None = None
    ) -> settlement_v1.CreatePayoutResponse:
        """CreatePayout pays out part of what a party is owed, now. The same request_id gives the same
        payout.

        Errors: PAYOUT_EXCEEDS_BALANCE when less is owed, INVALID_FIELD for an amount that is not
        above zero, and for a destination with the number of a card.
        """
        return await self._caller.unary(_CREATE_PAYOUT, request, timeout)

    async def get_payout(
        self, request: settlement_v1.GetPayoutRequest, *, timeout: float | None = None
    ) -> settlement_v1.GetPayoutResponse:
        """GetPayout returns a payout; NOT_FOUND when there is none of that id."""
        return await self._caller.unary(_GET_PAYOUT, request, timeout)

    async def list_payouts(
        self, request: settlement_v1.ListPayoutsRequest, *, timeout: float | None = None
    ) -> settlement_v1.ListPayoutsResponse:
        """ListPayouts lists payouts, the latest first."""
        return await self._caller.unary(_LIST_PAYOUTS, request, timeout)

    def all_payouts(
        self, request: settlement_v1.ListPayoutsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[settlement_v1.Payout]:
        """Yield the payouts of all pages of list_payouts, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: settlement_v1.ListPayoutsRequest) -> settlement_v1.ListPayoutsResponse:
            return await self.list_payouts(asked, timeout=timeout)

        return items_async(page, request, "payouts", BY_TOKEN)

    async def record_payout_payment(
        self, request: settlement_v1.RecordPayoutPaymentRequest, *, timeout: float | None = None
    ) -> settlement_v1.RecordPayoutPaymentResponse:
        """RecordPayoutPayment says that a party has the money of a payout, and has it booked.

        Errors: NOT_FOUND, PAYOUT_STATUS_CONFLICT unless it is CLAIMED, INVALID_FIELD for a time
        more than a day in the future.
        """
        return await self._caller.unary(_RECORD_PAYOUT_PAYMENT, request, timeout)

    async def record_payout_return(
        self, request: settlement_v1.RecordPayoutReturnRequest, *, timeout: float | None = None
    ) -> settlement_v1.RecordPayoutReturnResponse:
        """RecordPayoutReturn says that the money of a payout came back, and has it booked: it is owed
        to the party again, and the next sweep pays it.

        Errors: NOT_FOUND, PAYOUT_STATUS_CONFLICT unless it is CLAIMED or PAID, INVALID_FIELD for a
        time more than a day in the future.
        """
        return await self._caller.unary(_RECORD_PAYOUT_RETURN, request, timeout)

    async def sweep_commissions(
        self, request: settlement_v1.SweepCommissionsRequest, *, timeout: float | None = None
    ) -> settlement_v1.SweepCommissionsResponse:
        """SweepCommissions pays out what parties are owed, one payout a party and currency, and
        answers when it has looked at all of them. What came half-way goes on by itself. The same
        request_id gives the same sweep. Two sweeps at once pay nothing twice.
        """
        return await self._caller.unary(_SWEEP_COMMISSIONS, request, timeout)

    async def get_commission_sweep(
        self, request: settlement_v1.GetCommissionSweepRequest, *, timeout: float | None = None
    ) -> settlement_v1.GetCommissionSweepResponse:
        """GetCommissionSweep returns a sweep; NOT_FOUND when there is none of that id."""
        return await self._caller.unary(_GET_COMMISSION_SWEEP, request, timeout)

    async def list_commission_sweeps(
        self, request: settlement_v1.ListCommissionSweepsRequest, *, timeout: float | None = None
    ) -> settlement_v1.ListCommissionSweepsResponse:
        """ListCommissionSweeps lists sweeps, the latest made first; the next one by schedule is among
        them.
        """
        return await self._caller.unary(_LIST_COMMISSION_SWEEPS, request, timeout)

    def all_commission_sweeps(
        self, request: settlement_v1.ListCommissionSweepsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[settlement_v1.CommissionSweep]:
        """Yield the sweeps of all pages of list_commission_sweeps, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: settlement_v1.ListCommissionSweepsRequest) -> settlement_v1.ListCommissionSweepsResponse:
            return await self.list_commission_sweeps(asked, timeout=timeout)

        return items_async(page, request, "sweeps", BY_TOKEN)

    async def list_commissions(
        self, request: settlement_v1.ListCommissionsRequest, *, timeout: float | None = None
    ) -> settlement_v1.ListCommissionsResponse:
        """ListCommissions lists what was earned line by line, the latest first."""
        return await self._caller.unary(_LIST_COMMISSIONS, request, timeout)

    def all_commissions(
        self, request: settlement_v1.ListCommissionsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[settlement_v1.Commission]:
        """Yield the commissions of all pages of list_commissions, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: settlement_v1.ListCommissionsRequest) -> settlement_v1.ListCommissionsResponse:
            return await self.list_commissions(asked, timeout=timeout)

        return items_async(page, request, "commissions", BY_TOKEN)

    async def list_commission_balances(
        self, request: settlement_v1.ListCommissionBalancesRequest, *, timeout: float | None = None
    ) -> settlement_v1.ListCommissionBalancesResponse:
        """ListCommissionBalances lists how parties stand, by party and currency."""
        return await self._caller.unary(_LIST_COMMISSION_BALANCES, request, timeout)

    def all_commission_balances(
        self, request: settlement_v1.ListCommissionBalancesRequest, *, timeout: float | None = None
    ) -> AsyncIterator[settlement_v1.CommissionBalance]:
        """Yield the balances of all pages of list_commission_balances, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: settlement_v1.ListCommissionBalancesRequest) -> settlement_v1.ListCommissionBalancesResponse:
            return await self.list_commission_balances(asked, timeout=timeout)

        return items_async(page, request, "balances", BY_TOKEN)

    async def verify_commissions(
        self, request: settlement_v1.VerifyCommissionsRequest, *, timeout: float | None = None
    ) -> settlement_v1.VerifyCommissionsResponse:
        """VerifyCommissions compares how parties stand with the accounts of the ledger, a page at a
        time, by party, currency and dispute. A difference while nothing is on its way breaks the
        contract `settlement/commissions-in-books`.
        """
        return await self._caller.unary(_VERIFY_COMMISSIONS, request, timeout)

    def all_verify_commissions(
        self, request: settlement_v1.VerifyCommissionsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[settlement_v1.CommissionCheck]:
        """Yield the comparisons of all pages of verify_commissions, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: settlement_v1.VerifyCommissionsRequest) -> settlement_v1.VerifyCommissionsResponse:
            return await self.verify_commissions(asked, timeout=timeout)

        return items_async(page, request, "comparisons", BY_TOKEN)
