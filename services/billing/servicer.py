"""ChargeService: proto to domain and back. Protobuf types stop here."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import grpc
from payments.billing.v1 import billing_pb2 as pb
from payments.billing.v1 import charge_service_pb2 as service_pb
from payments.billing.v1 import charge_service_pb2_grpc
from payments.pricing.v1 import pricing_pb2
from payments.type.v1 import type_pb2

from services.billing import explanations
from services.billing.app import Charges, Order
from services.billing.domain import postings
from services.billing.domain.charges import Charge, Line, Span
from services.billing.domain.postings import LedgerTransfer
from services.billing.store import ChargeFilter, Place
from services.runtime.edge.paging import clamp_page_size, decode_token, encode_token
from services.runtime.errors import InvalidField
from services.runtime.money import Money, format_decimal, format_exact

PAGE_SIZE_DEFAULT = 20
PAGE_SIZE_MAX = 100

_Context = grpc.aio.ServicerContext[Any, Any]


class ChargeServicer(charge_service_pb2_grpc.ChargeServiceServicer):
    """Answers the RPCs of ChargeService."""

    def __init__(self, charges: Charges) -> None:
        self._charges = charges

    async def CreateCharge(
        self, request: service_pb.CreateChargeRequest, context: _Context
    ) -> service_pb.CreateChargeResponse:
        """Charge an organisation for a period."""
        period = _span(request.period)
        order = Order(request.request_id, request.org_id, period, request.allow_open)
        return await self._charges.create(
            order,
            request,
            service_pb.CreateChargeResponse,
            lambda charge: service_pb.CreateChargeResponse(charge=_charge_message(charge)),
        )

    async def GetCharge(
        self, request: service_pb.GetChargeRequest, context: _Context
    ) -> service_pb.GetChargeResponse:
        """Return one charge."""
        charge = await self._charges.get(request.charge_id)
        return service_pb.GetChargeResponse(charge=_charge_message(charge))

    async def ListCharges(
        self, request: service_pb.ListChargesRequest, context: _Context
    ) -> service_pb.ListChargesResponse:
        """List charges, the latest period first."""
        period = _span(request.period) if request.HasField("period") else None
        scope = f"charges|{request.org_id}|{period}"
        limit = clamp_page_size(request.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        after = _place(request.page_token, scope)
        wanted = ChargeFilter(request.org_id, period)
        charges, more = await self._charges.list(wanted, after, limit)
        response = service_pb.ListChargesResponse(
            charges=[_charge_message(charge, with_proof=False) for charge in charges]
        )
        if more:
            last = charges[-1]
            position = {"start_at": last.period.start_at.isoformat(), "id": last.charge_id}
            response.next_page_token = encode_token(position, scope)
        return response

    async def ExplainCharge(
        self, request: service_pb.ExplainChargeRequest, context: _Context
    ) -> service_pb.ExplainChargeResponse:
        """Show where each line of a charge comes from and where it went."""
        charge = await self._charges.get(request.charge_id)
        return service_pb.ExplainChargeResponse(explanation=_explanation(charge))


# ---- In


def _span(period: type_pb2.Period) -> Span:
    """Read a period, to the microsecond. Raises InvalidField when nothing of it is left."""
    span = Span(period.start_at.ToDatetime(UTC), period.end_at.ToDatetime(UTC))
    if span.start_at >= span.end_at:
        raise InvalidField.one("period", "end_at must lie a microsecond or more after start_at")
    return span


def _place(page_token: str, scope: str) -> Place | None:
    position = decode_token(page_token, scope, {"start_at": datetime, "id": str})
    return Place(position["start_at"], position["id"]) if position else None


# ---- Out


def _charge_message(charge: Charge, *, with_proof: bool = True) -> pb.Charge:
    message = pb.Charge(
        charge_id=charge.charge_id,
        org_id=charge.org_id,
        period=_period_message(charge.period),
        lines=[_line_message(charge, line, with_proof=with_proof) for line in charge.lines],
        total=_money(charge.total),
        status=int(charge.status),  # type: ignore[arg-type] # numbers agree, see the tests
        transfer_ids=[str(item.transfer_id) for item in postings.transfers(charge)],
        usage_snapshot=charge.usage_snapshot,
        plan_id=charge.plan_id,
        plan_version=charge.plan_version,
        partner_total=_money(charge.partner_total),
    )
    message.created_at.FromDatetime(charge.created_at)
    if charge.settled_at is not None:
        message.settled_at.FromDatetime(charge.settled_at)
    return message


def _line_message(charge: Charge, line: Line, *, with_proof: bool = True) -> pb.ChargeLine:
    rated = line.rated
    return pb.ChargeLine(
        line_id=line.line_id,
        sku=rated.sku,
        project_id=rated.project_id,
        quantity=format_decimal(rated.quantity),
        exact_amount=format_exact(rated.exact_amount),
        amount_gross=_money(rated.amount),
        partner_id=rated.partner_id,
        partner_pct="" if rated.partner_pct is None else format_decimal(rated.partner_pct),
        partner_amount=_money(line.partner_amount),
        net=_money(line.net),
        status=int(charge.status),  # type: ignore[arg-type] # numbers agree, see the tests
        proof=pricing_pb2.LineProof.FromString(rated.proof) if with_proof else None,
    )


def _explanation(charge: Charge) -> pb.ChargeExplanation:
    by_line: dict[str, list[LedgerTransfer]] = defaultdict(list)
    for transfer in postings.transfers(charge):
        by_line[transfer.line_id].append(transfer)
    lines = []
    for line in charge.lines:
        message = _line_message(charge, line)
        lines.append(
            pb.LineExplanation(
                line=message,
                steps=explanations.steps(message),
                postings=[_posting_message(item) for item in by_line[line.line_id]],
            )
        )
    return pb.ChargeExplanation(
        charge_id=charge.charge_id,
        org_id=charge.org_id,
        period=_period_message(charge.period),
        total=_money(charge.total),
        status=int(charge.status),  # type: ignore[arg-type] # numbers agree, see the tests
        lines=lines,
    )


def _posting_message(transfer: LedgerTransfer) -> pb.LinePosting:
    return pb.LinePosting(
        transfer_id=str(transfer.transfer_id),
        debit_account_id=transfer.debit.account_id,
        credit_account_id=transfer.credit.account_id,
        amount=_money(transfer.amount),
    )


def _period_message(span: Span) -> type_pb2.Period:
    period = type_pb2.Period()
    period.start_at.FromDatetime(span.start_at)
    period.end_at.FromDatetime(span.end_at)
    return period


def _money(amount: Money) -> type_pb2.Money:
    return type_pb2.Money(currency_code=amount.currency_code, minor_units=amount.minor_units)
