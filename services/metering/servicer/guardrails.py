"""GuardrailService: proto to domain and back, one method an RPC."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from payments.metering.v1 import guardrail_service_pb2 as service_pb
from payments.metering.v1 import guardrail_service_pb2_grpc

from services.metering.app.budgets import Budgets
from services.metering.app.holds import Holds
from services.metering.domain.holds import HOLD_FOR_DEFAULT
from services.metering.messages import guardrails as messages
from services.runtime.commands import Commands, UseCase
from services.runtime.edge.paging import Page
from services.runtime.edge.values import moment_or_none
from services.runtime.errors import InvalidField
from services.runtime.grouped import Kind
from services.runtime.money import parse_decimal

_RESERVE = Kind("metering.reserve", messages.reserved, service_pb.ReserveResponse)
_COMMIT = Kind("metering.commit", messages.committed, service_pb.CommitResponse)
_RELEASE = Kind("metering.release", messages.released, service_pb.ReleaseResponse)


class GuardrailServicer(guardrail_service_pb2_grpc.GuardrailServiceServicer):
    """Answers GuardrailService."""

    def __init__(self, budgets: Budgets, holds: Holds, commands: Commands) -> None:
        self._budgets = budgets
        self._holds = holds
        self._commands = commands
        self._put = UseCase(
            "metering.put_budget", budgets.put, messages.put, service_pb.PutBudgetResponse
        )
        self._delete = UseCase(
            "metering.delete_budget",
            budgets.delete,
            messages.deleted,
            service_pb.DeleteBudgetResponse,
        )

    async def PutBudget(
        self, request: service_pb.PutBudgetRequest, context: Any
    ) -> service_pb.PutBudgetResponse:
        """Put a budget."""
        asked = await self._budgets.asked(messages.budget_of(request.budget))
        return await self._commands.run(self._put, asked, request)

    async def ListBudgets(
        self, request: service_pb.ListBudgetsRequest, context: Any
    ) -> service_pb.ListBudgetsResponse:
        """List budgets by id."""
        page = Page.of(request, f"budgets|{request.org_id}", {"budget_id": str})
        after = page.after.get("budget_id", "")
        found = await self._budgets.list(request.org_id, after, page.limit)
        budgets, token = await page.cut(
            found, messages.budget, lambda view: {"budget_id": view.budget.budget_id}
        )
        return service_pb.ListBudgetsResponse(budgets=budgets, next_page_token=token)

    async def GetBudgetStatus(
        self, request: service_pb.GetBudgetStatusRequest, context: Any
    ) -> service_pb.GetBudgetStatusResponse:
        """Tell how a budget stands."""
        found = await self._budgets.status(request.budget_id, moment_or_none(request, "at"))
        return service_pb.GetBudgetStatusResponse(status=messages.status(found))

    async def DeleteBudget(
        self, request: service_pb.DeleteBudgetRequest, context: Any
    ) -> service_pb.DeleteBudgetResponse:
        """End a budget."""
        return await self._commands.run(self._delete, request.budget_id, request)

    async def Reserve(
        self, request: service_pb.ReserveRequest, context: Any
    ) -> service_pb.ReserveResponse:
        """Hold a quantity."""
        quantity = parse_decimal(request.quantity, "quantity")
        if not quantity:
            raise InvalidField.one("quantity", "must be above 0")
        hold_for = HOLD_FOR_DEFAULT
        if request.HasField("hold_for"):
            lasts = request.hold_for
            hold_for = timedelta(seconds=lasts.seconds, microseconds=lasts.nanos // 1000)
        return await self._holds.reserve(
            _RESERVE, request, request.org_id, request.sku, quantity, hold_for
        )

    async def Commit(
        self, request: service_pb.CommitRequest, context: Any
    ) -> service_pb.CommitResponse:
        """Count what was used of a hold."""
        quantity = parse_decimal(request.quantity, "quantity") if request.quantity else None
        hold_id = messages.hold_id(request.hold_id)
        return await self._holds.commit(_COMMIT, request, hold_id, quantity)

    async def Release(
        self, request: service_pb.ReleaseRequest, context: Any
    ) -> service_pb.ReleaseResponse:
        """Give a hold up."""
        return await self._holds.release(_RELEASE, request, messages.hold_id(request.hold_id))

    async def ListHolds(
        self, request: service_pb.ListHoldsRequest, context: Any
    ) -> service_pb.ListHoldsResponse:
        """List open holds by when they were made."""
        page = Page.of(request, f"holds|{request.org_id}", {"hold_id": UUID})
        after = page.after.get("hold_id", UUID(int=0))
        found = await self._holds.list(request.org_id, after, page.limit)
        holds, token = await page.cut(
            found, messages.hold, lambda hold: {"hold_id": str(hold.hold_id)}
        )
        return service_pb.ListHoldsResponse(holds=holds, next_page_token=token)
