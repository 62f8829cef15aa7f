"""Charges as billing tells them, and payouts as the ledger posts them."""

from __future__ import annotations

from payments.billing.v1 import billing_pb2
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, posting_pb2

from services.runtime.edge import values as edge
from services.runtime.ids import new_uuid
from services.settlement.domain.checks import Expected
from services.settlement.domain.earnings import Earning
from services.settlement.domain.payouts import Leg, Payout, Posting

_KIND = "payout"


def earnings(charge: billing_pb2.Charge) -> list[Earning]:
    """Read what parties earn on a charge. Lines of nothing say nothing."""
    earned_at = edge.moment_of(charge.created_at)
    return [
        Earning(
            charge_id=charge.charge_id,
            line_no=int(line.line_id),
            org_id=charge.org_id,
            sku=line.sku,
            party=line.partner_id,
            amount=edge.money_of(line.partner_amount),
            dispute_id=line.dispute_id,
            earned_at=earned_at,
        )
        for line in charge.lines
        if line.partner_id and line.partner_amount.minor_units
    ]


def request(payout: Payout, posting: Posting) -> ledger_service_pb2.PostRecipeRequest:
    """Write a step of a payout as the fact that the ledger posts.

    The ledger knows it again by recipe and reference. The request_id is new each time: a refusal that was kept under it
    would stand after its cause is gone.
    """
    parameters = {
        "party": posting_pb2.Parameter(text=payout.party),
        "amount": posting_pb2.Parameter(amount=edge.money(payout.amount)),
    }
    if posting.leg is Leg.RETURNED and posting.was_paid:
        parameters["paid"] = posting_pb2.Parameter(flag=True)
    note = {Leg.PAID: payout.payment_reference, Leg.RETURNED: payout.return_code}.get(posting.leg)
    if note:
        parameters["note"] = posting_pb2.Parameter(text=note)
    return ledger_service_pb2.PostRecipeRequest(
        request_id=str(new_uuid()),
        recipe=posting.leg.recipe,
        parameters=parameters,
        reference=ledger_pb2.Reference(kind=_KIND, id=payout.payout_id),
        # A claim is no fact of somebody else's: with a time in a closed period it would be refused for good.
        effective_at=None if posting.leg is Leg.CLAIM else edge.stamp(posting.effective_at),
    )


def account_of(expected: Expected) -> str:
    """Name the account that holds what a party is owed, or what is held under a dispute."""
    if expected.dispute_id:
        return f"held:commission:{expected.dispute_id}:{expected.currency_code}"
    return f"payable:partner:{expected.party}:{expected.currency_code}"
