"""Laws of charges: shares sum to the whole, ids derive, postings balance."""

from __future__ import annotations

from collections.abc import Iterable
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

from services.billing.domain import frozen, postings
from services.billing.domain.charges import (
    LINES_MAX,
    Charge,
    ChargeKind,
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
    totals_of,
)
from services.billing.domain.frozen import (
    AccountType,
    FrozenTransfer,
    LedgerAccount,
    PostingVerdict,
)
from services.billing.domain.transfers import LedgerTransfer, Posting
from services.billing.messages import explanations
from services.billing.messages import postings as messages
from services.ledger.bootstrap import product_recipes
from services.ledger.domain.recipes.evaluation import Move, bound, evaluate
from services.ledger.domain.transfers import BURNING
from services.ledger.messages.postings import fact_of
from services.runtime.errors import AmountOverflow, CurrencyMismatch
from services.runtime.money import Money

NOW = datetime(2026, 11, 20, tzinfo=UTC)
PERIOD = Span(datetime(2023, 11, 16, tzinfo=UTC), datetime(2023, 11, 17, tzinfo=UTC))


def rated(
    sku: str,
    minor: int,
    partner: str = "",
    pct: str | None = None,
    dispute: str = "",
    currency: str = "USD",
) -> RatedLine:
    percent, amount = None if pct is None else Decimal(pct), Money(currency, minor)
    held = dispute if partner else ""
    exact = Decimal(minor) / 100
    return RatedLine(sku, "p", Decimal(1), exact, amount, partner, percent, b"", held)


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
    moves = moved(made)
    assert [
        (m.debits[0].account_id, m.credits[0].account_id, m.amount and m.amount.minor_units)
        for m in moves[:2]
    ] == [
        ("receivable:acme:USD", "revenue:llm.input_tokens:USD", 5015),
        ("commission:USD", "payable:partner:north:USD", 501),
    ]
    assert [(m.leg.name, m.group) for m in moves] == [
        (leg, group) for group in range(3) for leg in ("gross", "partner")
    ]
    assert postings.effective_at(made) == PERIOD.end_at - timedelta(microseconds=1)


def moved(made: Charge) -> tuple[Move, ...]:
    """Return what the ledger's recipe makes of a charge as it is sent."""
    fact = fact_of(messages.request(made))
    versions = [item for item in product_recipes() if item.name == fact.recipe]
    recipe = max(versions, key=lambda item: item.version)
    assert (fact.version, fact.effective_at) == (0, postings.effective_at(made))
    return evaluate(recipe, fact, bound(recipe, fact), {}).moves


def net(moves: Iterable[Move], account_id: str) -> int:
    """Debits less credits of an account."""
    return sum(
        move.amount.minor_units
        * ((move.debits[0].account_id == account_id) - (move.credits[0].account_id == account_id))
        for move in moves
        if move.amount is not None
    )


LINES = st.lists(
    st.builds(
        rated,
        st.sampled_from(["a", "b"]),
        st.integers(-(10**6), 10**12),
        st.sampled_from(["", "north", "south"]),
        st.none() | st.decimals(0, 100, places=4).map(str),
        st.sampled_from(["", "d-1"]),
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
    moves = moved(made)
    assert all(move.amount and move.amount.minor_units > 0 for move in moves), "zero moves nothing"
    assert postings.moves_money(made) is bool(moves)
    assert net(moves, "receivable:acme:USD") == made.total.minor_units
    assert net(moves, "commission:USD") == made.partner_total.minor_units
    for sku in ("a", "b"):
        earned = sum(line.amount.minor_units for line in lines if line.sku == sku)
        assert net(moves, f"revenue:{sku}:USD") == -earned
    for partner in ("north", "south"):
        earned = sum(
            line.partner_amount.minor_units
            for line in made.lines
            if line.rated.partner_id == partner and not line.rated.dispute_id
        )
        assert net(moves, f"payable:partner:{partner}:USD") == -earned
    held = sum(line.partner_amount.minor_units for line in made.lines if line.rated.dispute_id)
    assert net(moves, "held:commission:d-1:USD") == -held


def test_shares_of_one_line_are_told_as_one() -> None:
    made = charge(rated("a", 100, "north", "10"), rated("a", 200, "south", "5"), rated("b", 7))
    told = [(each.sku, each.quantity, each.amount.minor_units) for each in totals_of(made)]
    one = made.lines[0].rated.quantity
    assert told == [("a", 2 * one, 300), ("b", one, 7)]


def test_a_share_says_of_what_and_since_when() -> None:
    line = pb.ChargeLine(
        sku="a", quantity="4", partner_id="north", partner_pct="10", dispute_id="d-1"
    )
    for amount, minor_units in ((line.amount_gross, 400), (line.partner_amount, 40)):
        amount.currency_code, amount.minor_units = "USD", minor_units
    line.proof.quantity, line.proof.unrounded, line.proof.event_count = "12", "12", 3
    rule = line.proof.commission
    rule.partner_tier, rule.rate_sku = "gold", "a"
    stretch = rule.stretches.add()
    stretch.start_at.FromDatetime(NOW)
    stretch.end_at.FromDatetime(NOW + timedelta(days=1))
    told = " ".join(explanations.steps(line, ChargeKind.USAGE, "", ""))
    assert "SUM of 3 events" in told or "3 events of a is 12" in told
    assert "4 of 12 units and 4.00 USD are of 2026-11-20T00:00:00Z to 2026-11-21" in told
    assert "tier gold has a rate for a: 10 %" in told
    assert "0.40 USD (an exact half goes to us), held under dispute d-1; 3.60 USD remain" in told


def test_a_tie_is_ours_whatever_the_sign() -> None:
    [line] = charge(rated("a", 5, "north", "10")).lines
    assert (line.partner_amount.minor_units, line.net.minor_units) == (0, 5)
    [line] = charge(rated("a", -15, "north", "10")).lines
    assert (line.partner_amount.minor_units, line.net.minor_units) == (-1, -14)


def test_ids_derive_from_tenant_and_request() -> None:
    assert charge_id_of("t", "R") == charge_id_of("t", "r") != charge_id_of("u", "r")


def test_a_charge_is_sent_as_the_same_fact_each_time() -> None:
    made = charge(rated("a", 100, "north", "10"), rated("b", -7))
    first, second = messages.request(made), messages.request(made)
    assert fact_of(first) == fact_of(second)
    assert first.request_id != second.request_id, "a refusal must not be kept"
    assert (first.reference.kind, first.reference.id) == ("charge", made.charge_id)


def test_what_was_posted_is_read_with_its_line() -> None:
    made = charge(rated("a", 0), rated("b", 100))
    response = ledger_service_pb2.PostRecipeResponse()
    response.posting.posting_id, response.posting.recipe = str(UUID(int=7)), "charge"
    response.posting.version = 3
    leg = response.posting.legs.add(leg="gross", group=1)
    transfer = leg.transfer.transfer
    transfer.transfer_id, transfer.code = str(UUID(int=8)), 1001
    transfer.debit_account_id, transfer.credit_account_id = "d", "c"
    transfer.amount.currency_code, transfer.amount.minor_units = "USD", 100
    transfer.effective_at.FromDatetime(NOW)
    posting, transfers = messages.posted(made, response)
    assert posting == Posting(UUID(int=7), "charge", 3)
    usd = Money("USD", 100)
    assert transfers == [
        LedgerTransfer(UUID(int=8), "2", "gross", "d", "c", usd, 1001, NOW),
    ]
    done = postings.posted(made, posting, transfers)
    assert (done.transfers, done.posting, done.transfer_round) == (tuple(transfers), posting, 1)
    before = replace(made, frozen=(frozen_transfer(),))
    assert postings.posted(before, posting, transfers).transfer_round == 2


def test_refusals_are_typed() -> None:
    with pytest.raises(ChargeTooLarge) as too_large:
        charge(*[rated("a", 1)] * (LINES_MAX + 1))
    assert too_large.value.metadata["lines"] == "2001"
    assert too_large.value.metadata["lines_max"] == "2000"
    with pytest.raises(AmountOverflow):
        charge(rated("a", 2**63 - 1), rated("a", 1))
    with pytest.raises(AmountOverflow):
        charge(rated("a", -(2**63)))
    with pytest.raises(CurrencyMismatch):
        charge(rated("a", 1, currency="EUR"))
    assert overlaps("acme", "chg_1").metadata == {"charge_id": "chg_1", "org_id": "acme"}


def test_a_refusal_names_the_account_where_there_is_one() -> None:
    refused = postings.posting_refused("chg_1", "revenue:a:USD", "CREDIT_ACCOUNT_CLOSED")
    assert "CREDIT_ACCOUNT_CLOSED at account revenue:a:USD" in refused.message
    assert refused.metadata == {
        "charge_id": "chg_1",
        "account_id": "revenue:a:USD",
        "result": "CREDIT_ACCOUNT_CLOSED",
    }
    assert " at account" not in postings.posting_refused("chg_1", "", "IDS_TAKEN").message


def test_the_largest_charge_fits_into_one_posting_of_the_ledger() -> None:
    largest = charge(*[rated("a", 100, "north", "10")] * LINES_MAX)
    assert len(moved(largest)) == 2 * LINES_MAX <= 8190


def frozen_transfer() -> FrozenTransfer:
    debit = LedgerAccount("commission:USD", "USD", AccountType.EXPENSE, "")
    credit = LedgerAccount("payable:partner:north:USD", "USD", AccountType.LIABILITY, "north")
    return FrozenTransfer(
        transfer_id=UUID(int=1),
        line_id="1",
        leg="partner",
        debit_account_id=debit.account_id,
        credit_account_id=credit.account_id,
        amount=Money("USD", 1),
        code=1002,
        effective_at=NOW,
        charge_id="chg_1",
        debit=debit,
        credit=credit,
    )


def test_what_a_refused_chain_means() -> None:
    transfer = frozen_transfer()
    verdicts = [
        PostingVerdict(transfer, "LINKED_EVENT_FAILED"),
        PostingVerdict(transfer, "ID_ALREADY_FAILED"),
    ]
    refused = frozen.refusal(verdicts)
    assert refused is verdicts[1]
    assert frozen.is_final(refused)
    debits, credits = (
        PostingVerdict(transfer, f"OVERFLOWS_{side}") for side in ("DEBITS", "CREDITS")
    )
    assert frozen.refusal([debits]) is debits
    assert not frozen.is_final(debits)
    assert frozen.account_at_fault(debits) == "commission:USD"
    assert frozen.account_at_fault(credits) == "payable:partner:north:USD"
    assert frozen.refusal([PostingVerdict(transfer, known) for known in ("EXISTS", "OK")]) is None
    assert [account.account_id for account in frozen.accounts([transfer, transfer])] == [
        "commission:USD",
        "payable:partner:north:USD",
    ]


def test_final_verdicts_are_those_that_burn_the_id_of_a_plain_transfer() -> None:
    of_holds = {"PENDING_TRANSFER_NOT_FOUND"}
    burning = {result.name for result in BURNING} - of_holds
    assert burning | {"ID_ALREADY_FAILED"} == frozen._FINAL


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
    told = explanations.steps(line, ChargeKind.USAGE, "", "")
    assert "8819 events" in told[0]
    assert "s1" in told[0]
    assert "standard-usd, version 1" in told[1]
    assert "package price" in told[1]
    assert "9 x 0.50 + 0 = 4.5 USD" in told[2]
    assert "4.50 USD" in told[3]
    assert "0.45 USD" in told[4]
    assert "4.05 USD" in told[4]
