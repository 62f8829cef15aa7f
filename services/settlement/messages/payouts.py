"""Payouts, sweeps and commissions, as messages."""

from __future__ import annotations

from payments.settlement.v1 import payout_service_pb2 as service_pb
from payments.settlement.v1 import settlement_pb2 as pb

from services.runtime.edge import values as edge
from services.runtime.money import Money
from services.settlement.domain.checks import Compared
from services.settlement.domain.earnings import Earning
from services.settlement.domain.listing import BalanceRow
from services.settlement.domain.payouts import Payout, Posting
from services.settlement.domain.sweeps import Sweep


def created(payout: Payout) -> service_pb.CreatePayoutResponse:
    """Write a payout that was asked for."""
    return service_pb.CreatePayoutResponse(payout=payout_message(payout))


def paid(payout: Payout) -> service_pb.RecordPayoutPaymentResponse:
    """Write a payout that was paid."""
    return service_pb.RecordPayoutPaymentResponse(payout=payout_message(payout))


def returned(payout: Payout) -> service_pb.RecordPayoutReturnResponse:
    """Write a payout that came back."""
    return service_pb.RecordPayoutReturnResponse(payout=payout_message(payout))


def swept(sweep: Sweep) -> service_pb.SweepCommissionsResponse:
    """Write a sweep that was asked for."""
    return service_pb.SweepCommissionsResponse(sweep=sweep_message(sweep))


def payout_message(payout: Payout) -> pb.Payout:
    """Write a payout."""
    return pb.Payout(
        payout_id=payout.payout_id,
        party=payout.party,
        amount=edge.money(payout.amount),
        kind=int(payout.kind),  # type: ignore[arg-type] # numbers agree, see the tests
        status=int(payout.status),  # type: ignore[arg-type] # numbers agree, see the tests
        destination=payout.destination,
        charge_id=payout.charge_id,
        line_id=str(payout.line_no) if payout.line_no else "",
        sweep_id=payout.sweep_id,
        created_at=edge.stamp(payout.created_at),
        claimed_at=edge.stamp_or_none(payout.claimed_at),
        paid_at=edge.stamp_or_none(payout.paid_at),
        returned_at=edge.stamp_or_none(payout.returned_at),
        payment_reference=payout.payment_reference,
        return_code=payout.return_code,
        postings=[_posting_message(each) for each in payout.postings],
    )


def sweep_message(sweep: Sweep) -> pb.CommissionSweep:
    """Write a sweep."""
    return pb.CommissionSweep(
        sweep_id=sweep.sweep_id,
        status=int(sweep.status),  # type: ignore[arg-type] # numbers agree, see the tests
        scheduled=sweep.scheduled,
        due_at=edge.stamp_or_none(sweep.due_at),
        through_at=edge.stamp_or_none(sweep.through_at),
        started_at=edge.stamp_or_none(sweep.started_at),
        ended_at=edge.stamp_or_none(sweep.ended_at),
        payout_count=sweep.payout_count,
        totals=[
            edge.money(Money(currency, minor))
            for currency, minor in sorted((sweep.totals or {}).items())
        ],
    )


def commission_message(earning: Earning) -> pb.Commission:
    """Write what is earned on a line."""
    return pb.Commission(
        charge_id=earning.charge_id,
        line_id=str(earning.line_no),
        org_id=earning.org_id,
        sku=earning.sku,
        party=earning.party,
        amount=edge.money(earning.amount),
        dispute_id=earning.dispute_id,
        earned_at=edge.stamp(earning.earned_at),
        payout_id=earning.payout_id,
    )


def balance_message(row: BalanceRow) -> pb.CommissionBalance:
    """Write how a party stands."""

    def money(minor_units: int) -> Money:
        return Money(row.currency_code, minor_units)

    return pb.CommissionBalance(
        party=row.party,
        earned=edge.money(money(row.earned_minor)),
        paid=edge.money(money(row.paid_minor)),
        claimed=edge.money(money(row.claimed_minor)),
        held=edge.money(money(row.held_minor)),
        carried=edge.money(money(row.carried_minor)),
    )


def comparison_message(compared: Compared) -> pb.CommissionCheck:
    """Write what an account should hold beside what it holds."""
    expected = compared.expected
    return pb.CommissionCheck(
        party=expected.party,
        dispute_id=expected.dispute_id,
        account_id=compared.account_id,
        expected=edge.money(Money(expected.currency_code, expected.expected_minor)),
        booked=edge.money(Money(expected.currency_code, compared.booked_minor)),
        differs=compared.differs,
        settling=compared.settling,
    )


def _posting_message(posting: Posting) -> pb.PayoutPosting:
    return pb.PayoutPosting(
        recipe=posting.leg.recipe,
        posting_id="" if posting.posting_id is None else str(posting.posting_id),
        posted_at=edge.stamp_or_none(posting.posted_at),
    )
