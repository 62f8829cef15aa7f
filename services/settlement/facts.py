"""What settlement publishes."""

from __future__ import annotations

from payments.events.v1.settlement_events_pb2 import (
    CommissionsSwept,
    PayoutClaimed,
    PayoutPaid,
    PayoutReturned,
)

from services.runtime.edge import values as edge
from services.runtime.money import Money
from services.settlement.domain.payouts import Payout
from services.settlement.domain.sweeps import Sweep


def payout_claimed(payout: Payout) -> PayoutClaimed:
    """Tell that the claim of a payout is in the books."""
    return PayoutClaimed(
        payout_id=payout.payout_id,
        party=payout.party,
        amount=edge.money(payout.amount),
        kind=payout.kind.name,
        charge_id=payout.charge_id,
        line_id=str(payout.line_no) if payout.line_no else "",
        sweep_id=payout.sweep_id,
        destination=payout.destination,
        claimed_at=edge.stamp_or_none(payout.claimed_at),
    )


def payout_paid(payout: Payout) -> PayoutPaid:
    """Tell that a party has the money of a payout."""
    return PayoutPaid(
        payout_id=payout.payout_id,
        party=payout.party,
        amount=edge.money(payout.amount),
        payment_reference=payout.payment_reference,
        paid_at=edge.stamp_or_none(payout.paid_at),
    )


def payout_returned(payout: Payout) -> PayoutReturned:
    """Tell that the money of a payout came back."""
    return PayoutReturned(
        payout_id=payout.payout_id,
        party=payout.party,
        amount=edge.money(payout.amount),
        return_code=payout.return_code,
        returned_at=edge.stamp_or_none(payout.returned_at),
    )


def commissions_swept(sweep: Sweep) -> CommissionsSwept:
    """Tell what a sweep has paid out."""
    return CommissionsSwept(
        sweep_id=sweep.sweep_id,
        scheduled=sweep.scheduled,
        through_at=edge.stamp_or_none(sweep.through_at),
        payout_count=sweep.payout_count,
        totals=[
            edge.money(Money(currency, minor))
            for currency, minor in sorted((sweep.totals or {}).items())
        ],
        ended_at=edge.stamp_or_none(sweep.ended_at),
    )
