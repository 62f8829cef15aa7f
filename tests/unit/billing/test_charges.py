"""Laws of charges: shares sum to the whole, ids derive, postings balance."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from payments.billing.v1 import billing_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2
from payments.pricing.v1 import pricing_pb2

from services.billing.domain import postings
from services.billing.domain.charges import (
    LINES_MAX,
    Charge,
    ChargeStatus,
    ChargeTooLarge,
    PeriodNotEnded,
    RatedLine,
    Rating,
    Span,
    charge_id_of,
    chargeable,
    freeze,
    overlaps,
)
from services.billing.domain.postings import PostingVerdict, next_round, planned
from services.billing.messages import explanations
from services.runtime.errors import AmountOverflow, CurrencyMismatch
from services.runtime.money import Money

NOW = datetime(2026, 11, 20, tzinfo=UTC)
PERIOD = Span(datetime(2023, 11, 16, tzinfo=UTC), datetime(2023, 11, 17, tzinfo=UTC))


def rated(
    sku: str, minor: int, partner: str = "", pct: str | None = None, currency: str = "USD"
) -> RatedLine:
    percent = None if pct is None else Decimal(pct)
    return RatedLine(
        sku, "p", Decimal(1), Decimal(minor) / 100, Money(currency, minor), partner, percent, b""
    )


def charge(*lines: RatedLine, currency: str = "USD") -> Charge:
    rating = Rating(lines, currency, "standard-usd", 1, "snapshot")
    return freeze(charge_id_of("t", "r"), "acme", PERIOD, rating, NOW)


TICK = timedelta(microseconds=1)


@pytest.mark.parametrize("allow_open", [False, True])
@pytest.mark.parametrize("end_at", [NOW - timedelta(days=9), NOW - TICK, NOW])
def test_a_period_that_has_ended_is_charged_whole(end_at: datetime, allow_open: bool) -> None:
    period = Span(end_at - timedelta(days=1), end_at)
    assert chargeable("acme", period, NOW, allow_open=allow_open) == period


@pytest.mark.parametrize("ahead", [TICK, timedelta(hours=1), timedelta(days=3000)])
@pytest.mark.parametrize("past", [TICK, timedelta(days=20)])
def test_an_open_period_is_charged_on_request_and_up_to_now(
    past: timedelta, ahead: timedelta
) -> None:
    period = Span(NOW - past, NOW + ahead)
    with pytest.raises(PeriodNotEnded, match="allow_open") as refused:
        chargeable("acme", period, NOW, allow_open=False)
    assert refused.value.metadata["now"] == "2026-11-20T00:00:00Z"
    assert chargeable("acme", period, NOW, allow_open=True) == Span(NOW - past, NOW)


@pytest.mark.parametrize("allow_open", [False, True])
@pytest.mark.parametrize("start_at", [NOW, NOW + TICK, datetime(9999, 1, 1, tzinfo=UTC)])
def test_a_period_that_has_not_begun_is_never_charged(start_at: datetime, allow_open: bool) -> None:
    period = Span(start_at, start_at + timedelta(days=1))
    with pytest.raises(PeriodNotEnded, match="in the future"):
        chargeable("acme", period, NOW, allow_open=allow_open)


def test_the_bill_of_the_demo_with_its_commission() -> None:
    made = charge(
        rated("llm.input_tokens", 5015, "north", "10"),
        rated("llm.output_tokens", 219, "north", "10"),
        rated("llm.requests", 450, "north", "10"),
    )
    assert made.total == Money("USD", 5684)
    assert [line.partner_amount.minor_units for line in made.lines] == [501, 22, 45]
    assert made.partner_total == Money("USD", 568), "5.015 is a tie and stays with us"
    transfers = planned(made).transfers
    assert [
        (t.debit.account_id, t.credit.account_id, t.amount.minor_units) for t in transfers[:2]
    ] == [
        ("receivable:acme:USD", "revenue:llm.input_tokens:USD", 5015),
        ("commission:USD", "payable:partner:north:USD", 501),
    ]
    assert {t.effective_at for t in transfers} == {PERIOD.end_at - timedelta(microseconds=1)}
    assert [a.account_id for a in postings.accounts(transfers)] == sorted(
        {t.debit.account_id for t in transfers} | {t.credit.account_id for t in transfers}
    )


LINES = st.lists(
    st.builds(
        rated,
        st.sampled_from(["a", "b"]),
        st.integers(-(10**6), 10**12),
        st.sampled_from(["", "north", "south"]),
        st.none() | st.decimals(0, 100, places=4).map(str),
    ),
    max_size=8,
)


@given(LINES)
def test_parts_sum_to_the_whole_and_every_cent_is_posted(lines: list[RatedLine]) -> None:
    made = charge(*lines)
    assert made.total.minor_units == sum(line.amount.minor_units for line in lines)
    for line in made.lines:
        assert line.partner_amount + line.net == line.rated.amount
        assert line.rated.partner_id or line.partner_amount.minor_units == 0
    transfers = planned(made).transfers
    assert all(transfer.amount.minor_units > 0 for transfer in transfers), "zero moves nothing"
    receivable = sum(
        transfer.amount.minor_units
        * (1 if transfer.debit.account_id == "receivable:acme:USD" else -1)
        for transfer in transfers
        if transfer.code == postings.CODE_CHARGE
    )
    assert receivable == made.total.minor_units
    ids = [transfer.transfer_id for transfer in transfers]
    assert len(set(ids)) == len(ids)
    assert transfers == planned(charge(*lines)).transfers


def test_a_tie_is_ours_whatever_the_sign() -> None:
    [line] = charge(rated("a", 5, "north", "10")).lines
    assert (line.partner_amount.minor_units, line.net.minor_units) == (0, 5)
    [line] = charge(rated("a", -15, "north", "10")).lines
    assert (line.partner_amount.minor_units, line.net.minor_units) == (-1, -14)


def test_ids_derive_from_tenant_request_and_round() -> None:
    assert charge_id_of("t", "R") == charge_id_of("t", "r") != charge_id_of("u", "r")
    first = planned(charge(rated("a", 1, "north", "100")))
    second = next_round(first)
    assert second.posting_round == 2
    assert not ids(first) & ids(second)
    assert ids(next_round(second)) != ids(second)
    assert ids(second) == ids(planned(replace(first, posting_round=2))), "as ever, by the round"


def test_a_next_round_has_other_ids_and_nothing_else() -> None:
    first = planned(charge(rated("a", 100, "north", "10"), rated("b", -7)))
    moved = [replace(item, transfer_id=UUID(int=0)) for item in next_round(first).transfers]
    assert moved == [replace(item, transfer_id=UUID(int=0)) for item in first.transfers]


def ids(made: Charge) -> set[UUID]:
    return {transfer.transfer_id for transfer in made.transfers}


def test_refusals_are_typed() -> None:
    with pytest.raises(ChargeTooLarge) as too_large:
        charge(*[rated("a", 1)] * (LINES_MAX + 1))
    assert too_large.value.metadata["lines"] == "2001"
    assert too_large.value.metadata["lines_max"] == "2000"
    with pytest.raises(AmountOverflow):
        charge(rated("a", 2**63 - 1), rated("a", 1))
    with pytest.raises(CurrencyMismatch):
        charge(rated("a", 1, currency="EUR"))
    assert overlaps("acme", "chg_1").metadata == {"charge_id": "chg_1", "org_id": "acme"}


def test_the_largest_charge_fits_into_one_chain_of_the_ledger() -> None:
    largest = charge(*[rated("a", 100, "north", "10")] * LINES_MAX)
    assert len(planned(largest).transfers) == 2 * LINES_MAX <= 8190


def test_what_a_refused_chain_means() -> None:
    transfers = planned(charge(rated("a", 1, "north", "100"))).transfers
    verdicts = [
        PostingVerdict(transfers[0], "LINKED_EVENT_FAILED"),
        PostingVerdict(transfers[1], "ID_ALREADY_FAILED", "CREDIT_ACCOUNT_CLOSED"),
    ]
    refused = postings.refusal(verdicts)
    assert refused is verdicts[1]
    assert postings.is_final(refused)
    assert postings.account_at_fault(refused) == "payable:partner:north:USD"
    overflow = PostingVerdict(transfers[0], "OVERFLOWS_DEBITS")
    assert postings.refusal([overflow]) is overflow
    assert not postings.is_final(overflow)
    assert postings.account_at_fault(overflow) == "receivable:acme:USD"
    assert postings.refusal([PostingVerdict(t, "EXISTS") for t in transfers]) is None


def test_final_verdicts_are_those_that_burn_an_id() -> None:
    """The contract marks them in its comments; the names must at least exist there."""
    stated = {
        name.removeprefix("TRANSFER_RESULT_")
        for name, _ in ledger_service_pb2.TransferResult.items()
    }
    assert stated >= postings._FINAL


def test_statuses_agree_with_the_contract() -> None:
    assert {f"CHARGE_STATUS_{s.name}": int(s) for s in ChargeStatus} == {
        name: number for name, number in pb.ChargeStatus.items() if number
    }


def test_a_proof_reads_as_sentences() -> None:
    line = pb.ChargeLine(sku="llm.requests", quantity="8819", partner_id="north", partner_pct="10")
    line.amount_gross.currency_code = line.partner_amount.currency_code = line.net.currency_code = (
        "USD"
    )
    line.amount_gross.minor_units, line.partner_amount.minor_units, line.net.minor_units = (
        450,
        45,
        405,
    )
    proof = line.proof
    proof.event_count, proof.plan_id, proof.plan_version = 8819, "standard-usd", 1
    proof.unrounded, proof.rounding_places, proof.usage_snapshot = "4.5", 2, "s1"
    proof.price.package.package_size = "1000"
    proof.steps.add(
        kind=pricing_pb2.PriceStep.KIND_PACKAGE,
        to_quantity="8819",
        units="9",
        unit_amount="0.50",
        amount="4.5",
    )
    told = explanations.steps(line)
    assert "8819 events" in told[0]
    assert "s1" in told[0]
    assert "standard-usd, version 1" in told[1]
    assert "package price" in told[1]
    assert "9 x 0.50 + 0 = 4.5 USD" in told[2]
    assert "4.50 USD" in told[3]
    assert "0.45 USD" in told[4]
    assert "4.05 USD" in told[4]
