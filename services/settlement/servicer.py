"""PayoutService and SettlementService: proto to domain and back. Protobuf types stop here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import grpc
from payments.settlement.v1 import (
    payout_service_pb2,
    payout_service_pb2_grpc,
    settlement_service_pb2,
    settlement_service_pb2_grpc,
)

from services.runtime.commands import Commands, SteppedUseCase, UseCase
from services.runtime.edge import values as edge
from services.runtime.edge.paging import Int32, Page
from services.settlement.app.checks import Checks
from services.settlement.app.commissions import Commissions
from services.settlement.app.payouts import Order, Payment, Payouts, Return
from services.settlement.app.policies import Policies
from services.settlement.app.sweeps import Order as SweepOrder
from services.settlement.app.sweeps import Sweeps
from services.settlement.domain.listing import EarningFilter, EarningPlace, PayoutFilter, Place
from services.settlement.domain.payouts import PayoutStatus
from services.settlement.messages import payouts as messages
from services.settlement.messages import policies as policy_messages

COMPARISONS_DEFAULT = 20
COMPARISONS_MAX = 100

_Context = grpc.aio.ServicerContext[Any, Any]


class SettlementServicer(settlement_service_pb2_grpc.SettlementServiceServicer):
    """Answers the RPCs of SettlementService."""

    def __init__(self, policies: Policies, commands: Commands) -> None:
        self._policies = policies
        self._commands = commands
        self._put = UseCase(
            "settlement.put_policy",
            policies.put,
            policy_messages.put,
            settlement_service_pb2.PutSettlementPolicyResponse,
        )

    async def PutSettlementPolicy(
        self, request: settlement_service_pb2.PutSettlementPolicyRequest, context: _Context
    ) -> settlement_service_pb2.PutSettlementPolicyResponse:
        """Store a policy."""
        policy = policy_messages.policy_of(request.policy)
        return await self._commands.run(self._put, policy, request)

    async def GetSettlementPolicy(
        self, request: settlement_service_pb2.GetSettlementPolicyRequest, context: _Context
    ) -> settlement_service_pb2.GetSettlementPolicyResponse:
        """Return what holds for a seller."""
        policy = await self._policies.get(request.seller)
        message = policy_messages.policy_message(policy)
        return settlement_service_pb2.GetSettlementPolicyResponse(policy=message)


class PayoutServicer(payout_service_pb2_grpc.PayoutServiceServicer):
    """Answers the RPCs of PayoutService."""

    def __init__(
        self,
        payouts: Payouts,
        sweeps: Sweeps,
        commissions: Commissions,
        checks: Checks,
        commands: Commands,
    ) -> None:
        self._payouts = payouts
        self._sweeps = sweeps
        self._commissions = commissions
        self._checks = checks
        self._commands = commands
        self._create = UseCase(
            "settlement.create_payout",
            payouts.create,
            messages.created,
            payout_service_pb2.CreatePayoutResponse,
        )
        self._pay = UseCase(
            "settlement.record_payment",
            payouts.pay,
            messages.paid,
            payout_service_pb2.RecordPayoutPaymentResponse,
        )
        self._return = UseCase(
            "settlement.record_return",
            payouts.take_back,
            messages.returned,
            payout_service_pb2.RecordPayoutReturnResponse,
        )
        self._sweep = SteppedUseCase(
            "settlement.sweep",
            sweeps.sweep,
            messages.swept,
            payout_service_pb2.SweepCommissionsResponse,
        )

    async def CreatePayout(
        self, request: payout_service_pb2.CreatePayoutRequest, context: _Context
    ) -> payout_service_pb2.CreatePayoutResponse:
        """Pay out part of what a party is owed."""
        amount = edge.money_of(request.amount)
        order = Order(request.request_id, request.party, amount, request.destination)
        return await self._commands.run(self._create, order, request)

    async def GetPayout(
        self, request: payout_service_pb2.GetPayoutRequest, context: _Context
    ) -> payout_service_pb2.GetPayoutResponse:
        """Return one payout."""
        payout = await self._payouts.get(request.payout_id)
        return payout_service_pb2.GetPayoutResponse(payout=messages.payout_message(payout))

    async def ListPayouts(
        self, request: payout_service_pb2.ListPayoutsRequest, context: _Context
    ) -> payout_service_pb2.ListPayoutsResponse:
        """List payouts, the latest first."""
        status = PayoutStatus(request.status) if request.status else None
        wanted = PayoutFilter(request.party, status, request.sweep_id, request.charge_id)
        kinds = {"created_at": datetime, "item_id": str}
        page = Page.of(request, f"settlement.payouts|{wanted!r}", kinds)
        after = Place(**page.after) if page.after else None
        found = await self._payouts.list(wanted, after, page.limit)
        payouts, token = await page.cut(
            found,
            messages.payout_message,
            lambda last: {"created_at": last.created_at.isoformat(), "item_id": last.payout_id},
        )
        return payout_service_pb2.ListPayoutsResponse(payouts=payouts, next_page_token=token)

    async def RecordPayoutPayment(
        self, request: payout_service_pb2.RecordPayoutPaymentRequest, context: _Context
    ) -> payout_service_pb2.RecordPayoutPaymentResponse:
        """Mark a payout as paid."""
        paid_at = edge.moment_or_none(request, "paid_at")
        payment = Payment(request.payout_id, request.payment_reference, paid_at)
        return await self._commands.run(self._pay, payment, request)

    async def RecordPayoutReturn(
        self, request: payout_service_pb2.RecordPayoutReturnRequest, context: _Context
    ) -> payout_service_pb2.RecordPayoutReturnResponse:
        """Mark a payout as returned."""
        returned_at = edge.moment_or_none(request, "returned_at")
        given = Return(request.payout_id, request.return_code, returned_at)
        return await self._commands.run(self._return, given, request)

    async def SweepCommissions(
        self, request: payout_service_pb2.SweepCommissionsRequest, context: _Context
    ) -> payout_service_pb2.SweepCommissionsResponse:
        """Pay out what parties are owed."""
        order = SweepOrder(request.request_id, edge.moment_or_none(request, "through"))
        return await self._commands.run_steps(self._sweep, order, request)

    async def GetCommissionSweep(
        self, request: payout_service_pb2.GetCommissionSweepRequest, context: _Context
    ) -> payout_service_pb2.GetCommissionSweepResponse:
        """Return one sweep."""
        sweep = await self._sweeps.get(request.sweep_id)
        return payout_service_pb2.GetCommissionSweepResponse(sweep=messages.sweep_message(sweep))

    async def ListCommissionSweeps(
        self, request: payout_service_pb2.ListCommissionSweepsRequest, context: _Context
    ) -> payout_service_pb2.ListCommissionSweepsResponse:
        """List sweeps, the latest made first."""
        kinds = {"created_at": datetime, "item_id": str}
        page = Page.of(request, "settlement.sweeps", kinds)
        after = Place(**page.after) if page.after else None
        found = await self._sweeps.list(after, page.limit)
        sweeps, token = await page.cut(
            found,
            messages.sweep_message,
            lambda last: {"created_at": last.created_at.isoformat(), "item_id": last.sweep_id},
        )
        return payout_service_pb2.ListCommissionSweepsResponse(sweeps=sweeps, next_page_token=token)

    async def ListCommissions(
        self, request: payout_service_pb2.ListCommissionsRequest, context: _Context
    ) -> payout_service_pb2.ListCommissionsResponse:
        """List what is earned line by line, the latest first."""
        has_period = request.HasField("period")
        wanted = EarningFilter(
            party=request.party,
            charge_id=request.charge_id,
            dispute_id=request.dispute_id,
            start_at=edge.moment_of(request.period.start_at) if has_period else None,
            end_at=edge.moment_of(request.period.end_at) if has_period else None,
        )
        kinds = {"earned_at": datetime, "charge_id": str, "line_no": Int32}
        page = Page.of(request, f"settlement.commissions|{wanted!r}", kinds)
        after = EarningPlace(**page.after) if page.after else None
        found = await self._commissions.list_lines(wanted, after, page.limit)
        commissions, token = await page.cut(
            found,
            messages.commission_message,
            lambda last: {
                "earned_at": last.earned_at.isoformat(),
                "charge_id": last.charge_id,
                "line_no": last.line_no,
            },
        )
        return payout_service_pb2.ListCommissionsResponse(
            commissions=commissions, next_page_token=token
        )

    async def ListCommissionBalances(
        self, request: payout_service_pb2.ListCommissionBalancesRequest, context: _Context
    ) -> payout_service_pb2.ListCommissionBalancesResponse:
        """List how parties stand."""
        kinds = {"party": str, "currency_code": str}
        page = Page.of(request, f"settlement.balances|{request.party}", kinds)
        after = (page.after["party"], page.after["currency_code"]) if page.after else ("", "")
        found = await self._commissions.balances(request.party, after, page.limit)
        balances, token = await page.cut(
            found,
            messages.balance_message,
            lambda last: {"party": last.party, "currency_code": last.currency_code},
        )
        return payout_service_pb2.ListCommissionBalancesResponse(
            balances=balances, next_page_token=token
        )

    async def VerifyCommissions(
        self, request: payout_service_pb2.VerifyCommissionsRequest, context: _Context
    ) -> payout_service_pb2.VerifyCommissionsResponse:
        """Compare how parties stand with the books."""
        kinds = {"party": str, "currency_code": str, "dispute_id": str}
        page = Page.of(
            request,
            "settlement.comparisons",
            kinds,
            default=COMPARISONS_DEFAULT,
            maximum=COMPARISONS_MAX,
        )
        after = tuple(page.after[name] for name in kinds) if page.after else ("", "", "")
        found = await self._checks.compare((after[0], after[1], after[2]), page.limit)
        comparisons, token = await page.cut(
            found,
            messages.comparison_message,
            lambda last: {
                "party": last.expected.party,
                "currency_code": last.expected.currency_code,
                "dispute_id": last.expected.dispute_id,
            },
        )
        return payout_service_pb2.VerifyCommissionsResponse(
            comparisons=comparisons, next_page_token=token
        )
