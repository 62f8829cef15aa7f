"""Charges as the ledger posts them, and what it answers."""

from __future__ import annotations

from uuid import UUID

from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, posting_pb2

from services.billing.domain import postings
from services.billing.domain.charges import Charge, Line
from services.billing.domain.transfers import LedgerTransfer, Posting
from services.runtime.edge import values as edge
from services.runtime.ids import new_uuid
from services.runtime.money import Money


def request(charge: Charge) -> ledger_service_pb2.PostRecipeRequest:
    """Write a charge as the fact that the ledger posts by the newest version of its recipe.

    The ledger knows it again by the reference. The request_id is new each time: a refusal that was kept under it would
    hold for ever, as would the words in which another release sent the same charge.
    """
    groups = [posting_pb2.ParameterGroup(values=_line(line)) for line in charge.lines]
    lines = posting_pb2.Parameter(list=posting_pb2.ParameterList(groups=groups))
    return ledger_service_pb2.PostRecipeRequest(
        request_id=str(new_uuid()),
        recipe=postings.RECIPE,
        parameters={"org": _text(charge.org_id), "lines": lines},
        reference=ledger_pb2.Reference(kind=postings.RECIPE, id=charge.charge_id),
        effective_at=edge.stamp(postings.effective_at(charge)),
    )


def posted(
    charge: Charge, response: ledger_service_pb2.PostRecipeResponse
) -> tuple[Posting, list[LedgerTransfer]]:
    """Read what the ledger made of a charge."""
    found = response.posting
    posting = Posting(UUID(found.posting_id), found.recipe, found.version)
    return posting, [_transfer(charge, leg) for leg in found.legs]


def _line(line: Line) -> dict[str, posting_pb2.Parameter]:
    rated = line.rated
    values = {
        "line": _text(line.line_id),
        "sku": _text(rated.sku),
        "gross": _amount(rated.amount),
    }
    if rated.partner_id:
        values |= {"partner": _text(rated.partner_id), "share": _amount(line.partner_amount)}
    return values


def _text(value: str) -> posting_pb2.Parameter:
    return posting_pb2.Parameter(text=value)


def _amount(value: Money) -> posting_pb2.Parameter:
    return posting_pb2.Parameter(amount=edge.money(value))


def _transfer(charge: Charge, leg: posting_pb2.PostingLeg) -> LedgerTransfer:
    transfer = leg.transfer.transfer
    return LedgerTransfer(
        transfer_id=UUID(transfer.transfer_id),
        # The groups of the list are the lines, in their order.
        line_id=charge.lines[leg.group].line_id,
        leg=leg.leg,
        debit_account_id=transfer.debit_account_id,
        credit_account_id=transfer.credit_account_id,
        amount=edge.money_of(transfer.amount),
        code=transfer.code,
        effective_at=edge.moment_of(transfer.effective_at),
    )
