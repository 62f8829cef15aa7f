"""Budgets and holds of a test's own, and prices that a test sets."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import uuid4

from payments.metering.v1 import guardrail_service_pb2, guardrails_pb2
from payments.pricing.v1 import pricing_service_pb2, pricing_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.runtime.errors import Code, DomainError
from services.runtime.service import Runtime, Service, Servicer

HARD = guardrails_pb2.BUDGET_MODE_HARD
SOFT = guardrails_pb2.BUDGET_MODE_SOFT


def budget(budget_id: str, **changes: Any) -> guardrails_pb2.Budget:
    """Make a hard budget of 100 tokens of the organisation `chat`, for ever, with the fields that `changes` names."""
    fields: dict[str, Any] = {
        "org_id": "chat",
        "sku": "llm.tokens",
        "period": guardrails_pb2.BUDGET_PERIOD_TOTAL,
        "mode": HARD,
    }
    if "limit_amount" not in changes:
        fields["limit_quantity"] = "100"
    return guardrails_pb2.Budget(budget_id=budget_id, **{**fields, **changes})


def put(
    item: guardrails_pb2.Budget, request_id: str = ""
) -> guardrail_service_pb2.PutBudgetRequest:
    """Ask to put a budget."""
    return guardrail_service_pb2.PutBudgetRequest(
        request_id=request_id or str(uuid4()), budget=item
    )


def reserve(
    quantity: str, request_id: str = "", **changes: Any
) -> guardrail_service_pb2.ReserveRequest:
    """Ask to hold tokens for the organisation `chat`; `seconds` says for how long."""
    seconds = changes.pop("seconds", 0)
    fields = {"org_id": "chat", "sku": "llm.tokens", **changes}
    request = guardrail_service_pb2.ReserveRequest(
        request_id=request_id or str(uuid4()), quantity=quantity, **fields
    )
    if seconds:
        request.hold_for.FromSeconds(seconds)
    return request


def commit(
    hold_id: str, quantity: str = "", request_id: str = ""
) -> guardrail_service_pb2.CommitRequest:
    """Ask to commit a hold."""
    return guardrail_service_pb2.CommitRequest(
        request_id=request_id or str(uuid4()), hold_id=hold_id, quantity=quantity
    )


def release(hold_id: str, request_id: str = "") -> guardrail_service_pb2.ReleaseRequest:
    """Ask to give a hold up."""
    return guardrail_service_pb2.ReleaseRequest(
        request_id=request_id or str(uuid4()), hold_id=hold_id
    )


async def stands(stub: Any, budget_id: str) -> tuple[str, str, str]:
    """Return what is used, held and free of a budget now."""
    request = guardrail_service_pb2.GetBudgetStatusRequest(budget_id=budget_id)
    status = (await stub.GetBudgetStatus(request)).status
    return status.used, status.held, status.free


class _Refused(DomainError):
    code = Code.FAILED_PRECONDITION
    state_dependent = True

    def __init__(self, reason: str) -> None:
        super().__init__(f"pricing says {reason}")
        self.reason = reason


class PriceList(pricing_service_pb2_grpc.PricingServiceServicer):
    """Has a price of each SKU: units that are free, then so much a unit, in one currency.

    Attributes:
        prices: free units and unit price by SKU.
        planless: organisations without a plan.
        currency_code: of all plans.
    """

    def __init__(self, prices: Mapping[str, tuple[str, str]]) -> None:
        self.prices = dict(prices)
        self.planless: set[str] = set()
        self.currency_code = "USD"

    async def Estimate(  # noqa: N802 - the name of the RPC
        self, request: pricing_service_pb2.EstimateRequest, context: Any
    ) -> pricing_service_pb2.EstimateResponse:
        """Answer the exact price of a quantity."""
        if request.org_id in self.planless:
            raise _Refused("NO_PLAN")
        response = pricing_service_pb2.EstimateResponse(
            grand_total=type_pb2.Money(currency_code=self.currency_code)
        )
        for sku, quantity in request.skus.items():
            if sku not in self.prices:
                raise _Refused("SKU_NOT_PRICED")
            free, unit = map(Decimal, self.prices[sku])
            exact = max(Decimal(quantity) - free, Decimal(0)) * unit
            response.lines.add(sku=sku, exact_total=f"{exact:f}")
        return response

    def build(self, runtime: Runtime) -> Service:
        """Build it as a service of the mesh."""
        add = pricing_service_pb2_grpc.add_PricingServiceServicer_to_server
        return Service([Servicer(add, self, "payments.pricing.v1.PricingService")])


def price_list_of(prices: Mapping[str, tuple[str, str]]) -> PriceList:
    """Make a price list."""
    # The generated base answers UNIMPLEMENTED for the rest; only its stub file calls it abstract.
    return PriceList(prices)  # type: ignore[abstract] # in its stub file alone
