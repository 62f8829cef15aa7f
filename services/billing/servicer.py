"""ChargeService: proto to domain and back. Protobuf types stop here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import grpc
from payments.billing.v1 import charge_service_pb2 as service_pb
from payments.billing.v1 import charge_service_pb2_grpc

from services.billing.app.charges import Charges
from services.billing.app.corrections import Corrections
from services.billing.domain.charges import ChargeFilter, Order, Place
from services.billing.domain.corrections import Adjustment, Reversal
from services.billing.messages import charges as messages
from services.runtime.cards import remark
from services.runtime.commands import Commands, SteppedUseCase
from services.runtime.edge.paging import Page, fitting
from services.runtime.turns import in_slices

PAGE_SIZE_DEFAULT = 20
PAGE_SIZE_MAX = 100

_Context = grpc.aio.ServicerContext[Any, Any]


class ChargeServicer(charge_service_pb2_grpc.ChargeServiceServicer):
    """Answers the RPCs of ChargeService."""

    def __init__(self, charges: Charges, corrections: Corrections, commands: Commands) -> None:
        self._charges = charges
        self._corrections = corrections
        self._commands = commands
        self._create = SteppedUseCase(
            "billing.create_charge",
            charges.create,
            messages.created,
            service_pb.CreateChargeResponse,
        )
        self._adjust = SteppedUseCase(
            "billing.adjust_charge",
            corrections.adjust,
            messages.adjusted,
            service_pb.AdjustChargeResponse,
        )
        self._reverse = SteppedUseCase(
            "billing.reverse_charge",
            corrections.reverse,
            messages.reversed_,
            service_pb.ReverseChargeResponse,
        )

    async def CreateCharge(
        self, request: service_pb.CreateChargeRequest, context: _Context
    ) -> service_pb.CreateChargeResponse:
        """Charge an organisation for a period."""
        period = messages.span_of(request.period)
        order = Order(request.request_id, request.org_id, period, request.allow_open)
        return await self._commands.run_steps(self._create, order, request)

    async def PreviewCharge(
        self, request: service_pb.PreviewChargeRequest, context: _Context
    ) -> service_pb.PreviewChargeResponse:
        """Say what would be charged."""
        period = messages.span_of(request.period)
        charge = await self._charges.preview(request.org_id, period, allow_open=request.allow_open)
        return service_pb.PreviewChargeResponse(charge=messages.preview_message(charge))

    async def AdjustCharge(
        self, request: service_pb.AdjustChargeRequest, context: _Context
    ) -> service_pb.AdjustChargeResponse:
        """Charge what a charge's period comes to now beyond what was billed."""
        if request.validate_only:
            charge = await self._corrections.preview(request.charge_id)
            return service_pb.AdjustChargeResponse(charge=messages.preview_message(charge))
        order = Adjustment(request.request_id, request.charge_id)
        return await self._commands.run_steps(self._adjust, order, request)

    async def ReverseCharge(
        self, request: service_pb.ReverseChargeRequest, context: _Context
    ) -> service_pb.ReverseChargeResponse:
        """Take a charge back."""
        order = Reversal(request.request_id, request.charge_id, remark(request.reason))
        return await self._commands.run_steps(self._reverse, order, request)

    async def GetCharge(
        self, request: service_pb.GetChargeRequest, context: _Context
    ) -> service_pb.GetChargeResponse:
        """Return one charge."""
        charge = await self._charges.get(request.charge_id)
        return service_pb.GetChargeResponse(charge=messages.charge_message(charge))

    async def ListCharges(
        self, request: service_pb.ListChargesRequest, context: _Context
    ) -> service_pb.ListChargesResponse:
        """List charges, the latest period first."""
        period = messages.span_of(request.period) if request.HasField("period") else None
        page = Page.of(
            request,
            f"charges|{request.org_id}|{period}|{request.adjusts_charge_id}",
            {"start_at": datetime, "id": str},
            default=PAGE_SIZE_DEFAULT,
            maximum=PAGE_SIZE_MAX,
        )
        after = Place(page.after["start_at"], page.after["id"]) if page.after else None
        wanted = ChargeFilter(request.org_id, period, request.adjusts_charge_id)
        charges, more = await self._charges.list(wanted, after, page.size)
        sliced = in_slices(charges, 1)
        shown = fitting([messages.charge_message(item, with_proof=False) async for item in sliced])
        token = page.token(
            charges[: len(shown)],
            lambda last: {"start_at": last.period.start_at.isoformat(), "id": last.charge_id},
            more=more or len(shown) < len(charges),
        )
        return service_pb.ListChargesResponse(charges=shown, next_page_token=token)

    async def ExplainCharge(
        self, request: service_pb.ExplainChargeRequest, context: _Context
    ) -> service_pb.ExplainChargeResponse:
        """Show where each line of a charge comes from and where it went."""
        charge = await self._charges.get(request.charge_id)
        return service_pb.ExplainChargeResponse(explanation=messages.explanation(charge))
