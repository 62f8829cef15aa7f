"""Charges as the ledger posts them, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, posting_pb2

from services.billing.domain import postings
from services.billing.domain.charges import Charge, Line
from services.billing.domain.taxes import Tax
from services.billing.domain.transfers import LedgerTransfer, Posting
from services.runtime.edge import values as edge
from services.runtime.ids import new_uuid
from services.runtime.money import Money

# The leg that is made for each tax, not for each line.
TAX_LEG = "tax"


def request(charge: Charge) -> ledger_service_pb2.PostRecipeRequest:
    """Write a charge as the fact that the ledger posts by the newest version of its recipe.

    The ledger knows it again by the reference. The request_id is new each time: a refusal that was kept under it would
    hold for ever, as would the words in which another release sent the same charge.
    """
    groups = [posting_pb2.ParameterGroup(values=_line(line)) for line in charge.lines]
    lines = posting_pb2.Parameter(list=posting_pb2.ParameterList(groups=groups))
    parameters = {"org": _text(charge.org_id), "lines": lines}
    if taxes := [posting_pb2.ParameterGroup(values=_tax(*each)) for each in _taxes(charge)]:
        # A charge without taxes is the fact that it was before there were any.
        parameters["taxes"] = posting_pb2.Parameter(list=posting_pb2.ParameterList(groups=taxes))
    return ledger_service_pb2.PostRecipeRequest(
        request_id=str(new_uuid()),
        recipe=postings.RECIPE,
        parameters=parameters,
        reference=ledger_pb2.Reference(kind=postings.RECIPE, id=charge.charge_id),
        effective_at=edge.stamp(postings.effective_at(charge)),
    )


def posted(
    charge: Charge, response: ledger_service_pb2.PostRecipeResponse
) -> tuple[Posting, list[LedgerTransfer]]:
    """Read what the ledger made of a charge."""
    found = response.posting
    posting = Posting(UUID(found.posting_id), found.recipe, found.version)
    taxed = [line.line_id for line, _ in _taxes(charge)]
    lines = [line.line_id for line in charge.lines]
    return posting, [_transfer(taxed if leg.leg == TAX_LEG else lines, leg) for leg in found.legs]


def _line(line: Line) -> dict[str, posting_pb2.Parameter]:
    rated = line.rated
    values = {
        "line": _text(line.line_id),
        "sku": _text(rated.sku),
        "gross": _amount(rated.without_tax),
    }
    if rated.dispute_id:
        values |= {"dispute": _text(rated.dispute_id), "held": _amount(line.partner_amount)}
    elif rated.partner_id:
        values |= {"partner": _text(rated.partner_id), "share": _amount(line.partner_amount)}
    return values


def _taxes(charge: Charge) -> list[tuple[Line, Tax]]:
    """Return what is posted of taxes, line by line, in their order."""
    return [
        (line, tax) for line in charge.lines for tax in line.rated.taxes if tax.amount.minor_units
    ]


def _tax(line: Line, tax: Tax) -> dict[str, posting_pb2.Parameter]:
    return {
        "line": _text(line.line_id),
        "tax": _text(tax.key.tax),
        "authority": _text(tax.key.authority),
        "amount": _amount(tax.amount),
    }


def _text(value: str) -> posting_pb2.Parameter:
    return posting_pb2.Parameter(text=value)


def _amount(value: Money) -> posting_pb2.Parameter:
    return posting_pb2.Parameter(amount=edge.money(value))


def _transfer(line_ids: Sequence[str], leg: posting_pb2.PostingLeg) -> LedgerTransfer:
    transfer = leg.transfer.transfer
    return LedgerTransfer(
        transfer_id=UUID(transfer.transfer_id),
        # The groups of the lists are the lines and the taxes, in their order.
        line_id=line_ids[leg.group],
        leg=leg.leg,
        debit_account_id=transfer.debit_account_id,
        credit_account_id=transfer.credit_account_id,
        amount=edge.money_of(transfer.amount),
        code=transfer.code,
        effective_at=edge.moment_of(transfer.effective_at),
    )
