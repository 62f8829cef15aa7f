"""Charges, as messages and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from payments.billing.v1 import billing_pb2 as pb
from payments.billing.v1 import charge_service_pb2 as service_pb
from payments.type.v1 import type_pb2

from services.billing.domain.charges import Charge, Line, Span
from services.billing.domain.transfers import LedgerTransfer
from services.billing.messages import explanations, proofs
from services.billing.messages import taxes as taxing
from services.runtime.edge import values as edge
from services.runtime.errors import InvalidField
from services.runtime.money import format_decimal, format_exact


def span_of(period: type_pb2.Period) -> Span:
    """Read a period, to the microsecond. Raises InvalidField when nothing of it is left."""
    span = Span(edge.moment_of(period.start_at), edge.moment_of(period.end_at))
    if span.start_at >= span.end_at:
        raise InvalidField.one("period", "end_at must be at least a microsecond after start_at")
    return span


def created(charge: Charge) -> service_pb.CreateChargeResponse:
    """Write a charge that was made."""
    return service_pb.CreateChargeResponse(charge=charge_message(charge))


def adjusted(charge: Charge) -> service_pb.AdjustChargeResponse:
    """Write a charge of the difference."""
    return service_pb.AdjustChargeResponse(charge=charge_message(charge))


def reversed_(charge: Charge) -> service_pb.ReverseChargeResponse:
    """Write a charge of the opposite."""
    return service_pb.ReverseChargeResponse(charge=charge_message(charge))


def preview_message(charge: Charge) -> pb.Charge:
    """Write a charge that nobody made: it has come nowhere."""
    message = charge_message(charge)
    message.ClearField("created_at")
    message.status = pb.CHARGE_STATUS_UNSPECIFIED
    for line in message.lines:
        line.status = pb.CHARGE_STATUS_UNSPECIFIED
    return message


def charge_message(charge: Charge, *, with_proof: bool = True) -> pb.Charge:
    """Write a charge; without the proof of its lines where a list is asked for."""
    message = pb.Charge(
        charge_id=charge.charge_id,
        org_id=charge.org_id,
        period=edge.period(charge.period.start_at, charge.period.end_at),
        lines=[_line_message(charge, line, with_proof=with_proof) for line in charge.lines],
        total=edge.money(charge.total),
        status=int(charge.status),  # type: ignore[arg-type] # numbers agree, see the tests
        transfer_ids=[str(item.transfer_id) for item in charge.transfers],
        usage_snapshot=charge.usage_snapshot,
        usage_ordinal=charge.usage_ordinal,
        plan_id=charge.plan_id,
        plan_version=charge.plan_version,
        partner_total=edge.money(charge.partner_total),
        kind=int(charge.kind),  # type: ignore[arg-type] # numbers agree, see the tests
        adjusts_charge_id=charge.adjusts_charge_id,
        correction_no=charge.correction_no,
        reason=charge.cause,
        reversed_by_charge_id=charge.reversed_by_charge_id,
    )
    if taxes := charge.taxes:
        message.taxes.extend(taxing.total_messages(taxes))
        with_tax, without = charge.total_with_tax, charge.total_without_tax
        message.tax_total.CopyFrom(edge.money(with_tax - without))
        message.total_with_tax.CopyFrom(edge.money(with_tax))
        message.total_without_tax.CopyFrom(edge.money(without))
    message.created_at.FromDatetime(charge.created_at)
    if charge.settled_at is not None:
        message.settled_at.FromDatetime(charge.settled_at)
    return message


def _line_message(charge: Charge, line: Line, *, with_proof: bool = True) -> pb.ChargeLine:
    rated = line.rated
    message = pb.ChargeLine(
        line_id=line.line_id,
        sku=rated.sku,
        project_id=rated.project_id,
        quantity=format_decimal(rated.quantity),
        exact_amount=format_exact(rated.exact_amount),
        amount_gross=edge.money(rated.amount),
        partner_id=rated.partner_id,
        partner_pct="" if rated.partner_pct is None else format_decimal(rated.partner_pct),
        partner_amount=edge.money(line.partner_amount),
        net=edge.money(line.net),
        status=int(charge.status),  # type: ignore[arg-type] # numbers agree, see the tests
        proof=proofs.proof_message(rated) if with_proof else None,
        correction=_correction(line),
        dispute_id=rated.dispute_id,
    )
    if rated.taxes:
        message.taxes.extend(map(taxing.tax_message, rated.taxes))
        message.amount_tax.CopyFrom(edge.money(rated.with_tax - rated.without_tax))
        message.amount_with_tax.CopyFrom(edge.money(rated.with_tax))
        message.amount_without_tax.CopyFrom(edge.money(rated.without_tax))
    return message


def _correction(line: Line) -> pb.Correction | None:
    quantity, amount, partner_amount = (
        line.quantity_before,
        line.amount_before,
        line.partner_amount_before,
    )
    if quantity is None or amount is None or partner_amount is None:
        return None
    return pb.Correction(
        quantity_before=format_decimal(quantity),
        quantity_after=format_decimal(quantity + line.rated.quantity),
        amount_before=edge.money(amount),
        amount_after=edge.money(amount + line.rated.amount),
        partner_amount_before=edge.money(partner_amount),
        partner_amount_after=edge.money(partner_amount + line.partner_amount),
    )


def explanation(charge: Charge) -> pb.ChargeExplanation:
    """Write where each line of a charge comes from and where it went."""
    by_line: dict[str, list[LedgerTransfer]] = defaultdict(list)
    for transfer in charge.transfers:
        by_line[transfer.line_id].append(transfer)
    explained = pb.ChargeExplanation(
        charge_id=charge.charge_id,
        org_id=charge.org_id,
        period=edge.period(charge.period.start_at, charge.period.end_at),
        total=edge.money(charge.total),
        status=int(charge.status),  # type: ignore[arg-type] # numbers agree, see the tests
        lines=[_explained(charge, line, by_line[line.line_id]) for line in charge.lines],
        kind=int(charge.kind),  # type: ignore[arg-type] # numbers agree, see the tests
        adjusts_charge_id=charge.adjusts_charge_id,
        reversed_by_charge_id=charge.reversed_by_charge_id,
        correction_no=charge.correction_no,
    )
    if taxes := charge.taxes:
        explained.taxes.extend(taxing.total_messages(taxes))
        explained.total_with_tax.CopyFrom(edge.money(charge.total_with_tax))
    if charge.posting is not None:
        explained.recipe, explained.recipe_version = charge.posting.recipe, charge.posting.version
        explained.posting_id = str(charge.posting.posting_id)
    return explained


def _explained(
    charge: Charge, line: Line, transfers: Sequence[LedgerTransfer]
) -> pb.LineExplanation:
    message = _line_message(charge, line)
    return pb.LineExplanation(
        line=message,
        steps=explanations.steps(message, charge.kind, charge.adjusts_charge_id, charge.cause),
        postings=[_posting_message(item) for item in transfers],
    )


def _posting_message(transfer: LedgerTransfer) -> pb.LinePosting:
    return pb.LinePosting(
        transfer_id=str(transfer.transfer_id),
        debit_account_id=transfer.debit_account_id,
        credit_account_id=transfer.credit_account_id,
        amount=edge.money(transfer.amount),
        leg=transfer.leg,
    )
