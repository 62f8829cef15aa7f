"""What cannot be booked at all, by the pure rules."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.domain.payments import Charge, PaymentNotBookable, book_charge, book_refund
from services.ledger.domain.transfers import Kind
from services.runtime.money import MINOR_UNITS_MAX


def charge(
    currency: str = "USD", amount: int = 100, person: str = "p", processor: str = "x", org: str = ""
) -> Charge:
    return Charge("pay_1", "att_1", processor, "chg_1", person, org, currency, amount, None)


@pytest.mark.parametrize(
    ("bad", "result"),
    [
        (charge(currency="XXQ"), "UNKNOWN_CURRENCY"),
        (charge(currency=""), "UNKNOWN_CURRENCY"),
        (charge(amount=0), "AMOUNT_MUST_BE_POSITIVE"),
        (charge(amount=-1), "AMOUNT_MUST_BE_POSITIVE"),
    ],
)
def test_no_account_can_take_it(bad: Charge, result: str) -> None:
    with pytest.raises(PaymentNotBookable) as refused:
        book_charge(bad)
    assert refused.value.metadata["result"] == result


@pytest.mark.parametrize(
    ("person", "org", "debtor"), [("p", "acme", "acme"), ("p", "", "p"), ("acme", "acme", "acme")]
)
def test_the_debt_is_that_of_the_organisation_else_of_the_person(
    person: str, org: str, debtor: str
) -> None:
    booking = book_charge(charge(person=person, org=org))
    own = booking.credits[0]
    assert (own.account_id, own.owner) == (f"receivable:{debtor}:USD", debtor)
    without = book_charge(charge(person=person))
    assert booking.transfer_id(0) == without.transfer_id(0), (
        "a payment is booked once, whoever owed"
    )


@given(st.text(max_size=80), st.text(max_size=80), st.integers(1, MINOR_UNITS_MAX))
def test_a_refund_is_the_opposite_of_its_charge(person: str, processor: str, amount: int) -> None:
    made = charge(amount=amount, person=person, processor=processor)
    booking = book_charge(made)
    for debit, credit in zip(booking.debits, booking.credits, strict=True):
        booked = booking.transfer(booking.transfer_id(0), debit, credit)
        assert booking.is_done_by(booked)
        back = book_refund(made, booked, "att_2", None)
        opposite = back.transfer(back.transfer_id(0), back.debits[0], back.credits[0])
        assert (opposite.debit_account_id, opposite.credit_account_id, opposite.amount_minor) == (
            booked.credit_account_id,
            booked.debit_account_id,
            amount,
        )
        assert not booking.is_done_by(opposite)
        # A hold books nothing, under whichever id, nor does what ends one.
        for kind in set(Kind) - {Kind.POSTED}:
            assert not booking.is_done_by(replace(booked, kind=kind))
