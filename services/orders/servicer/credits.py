"""CreditService: proto to domain and back. Protobuf types stop here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import grpc
from payments.orders.v1 import credit_service_pb2 as pb
from payments.orders.v1 import credit_service_pb2_grpc

from services.orders.app.credits import Credits, Undoing
from services.orders.domain.credits import places, written
from services.orders.domain.listing import GrantFilter, GrantPlace
from services.orders.messages import credits as messages
from services.runtime.commands import Commands, UseCase
from services.runtime.edge import values as edge
from services.runtime.edge.paging import Page

_Context = grpc.aio.ServicerContext[Any, Any]


class CreditServicer(credit_service_pb2_grpc.CreditServiceServicer):
    """Answers the RPCs of CreditService."""

    def __init__(self, credits: Credits, commands: Commands) -> None:
        self._credits = credits
        self._commands = commands
        self._grant = UseCase(
            "orders.credits.grant", credits.grant, messages.granted, pb.GrantCreditsResponse
        )
        self._reverse = UseCase(
            "orders.credits.reverse", credits.reverse, messages.reversed_, pb.ReverseGrantResponse
        )

    async def GrantCredits(
        self, request: pb.GrantCreditsRequest, context: _Context
    ) -> pb.GrantCreditsResponse:
        """Give an owner credits."""
        return await self._commands.run(self._grant, messages.grant_of(request.grant), request)

    async def ReverseGrant(
        self, request: pb.ReverseGrantRequest, context: _Context
    ) -> pb.ReverseGrantResponse:
        """Take back what is available of a grant."""
        asked = Undoing(request.grant_id, request.reason)
        return await self._commands.run(self._reverse, asked, request)

    async def ListGrants(
        self, request: pb.ListGrantsRequest, context: _Context
    ) -> pb.ListGrantsResponse:
        """List grants, the latest given first."""
        wanted = GrantFilter(request.owner_id, request.unit, request.order_id)
        kinds = {"granted_at": datetime, "grant_id": str}
        page = Page.of(request, f"orders.grants|{wanted!r}", kinds)
        after = GrantPlace(**page.after) if page.after else None
        found = await self._credits.list(wanted, after, page.limit)
        grants, token = await page.cut(
            found,
            messages.grant_message,
            lambda last: {"granted_at": last.granted_at.isoformat(), "grant_id": last.grant_id},
        )
        return pb.ListGrantsResponse(grants=grants, next_page_token=token)

    async def GetCreditBalance(
        self, request: pb.GetCreditBalanceRequest, context: _Context
    ) -> pb.GetCreditBalanceResponse:
        """Tell what an owner has in a unit at a time."""
        places(request.unit)
        at = edge.moment_or_none(request, "effective_at")
        found = await self._credits.balance(request.owner_id, request.unit, at)
        return pb.GetCreditBalanceResponse(
            available=written(request.unit, found.available), held=written(request.unit, found.held)
        )
