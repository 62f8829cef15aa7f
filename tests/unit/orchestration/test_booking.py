"""What of a payment is posted, in which order, and what the release before has posted of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestration.domain.booking import (
    Booked,
    Booking,
    Comparison,
    LedgerTransfer,
    attempt_of,
    earlier_transfer_id,
    fact_of,
    in_order,
    is_booked_by,
)
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.payment import (
    AT_REST,
    Attempt,
    AttemptStatus,
    PaymentStatus,
    Policy,
    Progress,
)
from services.orchestration.domain.plan import Plan, Step
from services.orchestration.domain.record import Payment
from services.orchestration.domain.request import Context
from services.runtime.ids import derived_uuid
from services.runtime.money import Money

AT = datetime(2026, 11, 20, tzinfo=UTC)
STEP = Step("card", 700, ("card-one",), "")


def attempt(attempt_id: str, operation: Operation, parent_id: str = "") -> Attempt:
    return Attempt(
        attempt_id=attempt_id,
        step_index=0,
        number=1,
        operation=operation,
        processor_id="card-one",
        amount_minor=700,
        idempotency_key="k" * 16,
        status=AttemptStatus.SUCCEEDED,
        created_at=AT,
        parent_id=parent_id,
        settled_at=AT,
    )


CHARGE = attempt("att_1", Operation.CHARGE)
REFUND = attempt("att_2", Operation.REFUND, "att_1")


def payment(org_id: str = "acme") -> Payment:
    plan = Plan("plan_1", "USD", 700, (STEP,))
    progress = Progress(PaymentStatus.FAILED, plan.steps, (CHARGE, REFUND), Policy(2, 5000, False))
    return Payment(
        payment_id="pay_1",
        request_key="r",
        merchant_id="m",
        order_id="chg_1",
        person_id="meier",
        org_id=org_id,
        currency="USD",
        total_minor=700,
        context=Context(),
        status=PaymentStatus.FAILED,
        config_version=1,
        created_at=AT,
        updated_at=AT,
        plan=plan,
        progress=progress,
    )


@pytest.mark.parametrize(("org_id", "debtor"), [("acme", "acme"), ("", "meier")])
def test_a_charge_is_posted_against_the_organisation_else_the_person(
    org_id: str, debtor: str
) -> None:
    fact = fact_of(payment(org_id), CHARGE, None)
    assert (fact.recipe, fact.payment_id, fact.attempt_id) == ("payment-received", "pay_1", "att_1")
    assert (fact.amount, fact.effective_at) == (Money("USD", 700), AT)
    named = {"org": org_id} if org_id else {}
    assert fact.parameters == {
        "processor": "card-one",
        "debtor": debtor,
        "payment": "pay_1",
        "attempt": "att_1",
        "order": "chg_1",
        "person": "meier",
        **named,
    }


def test_a_refund_names_its_charge_and_by_what_the_release_before_booked_it() -> None:
    posted = fact_of(payment(), REFUND, Booked(700, posting_id=uuid4()))
    assert (posted.recipe, posted.attempt_id) == ("payment-refunded", "att_2")
    assert posted.parameters["refund_of"] == "att_1"
    assert "charged_by" not in posted.parameters
    transfer_id = uuid4()
    earlier = fact_of(payment(), REFUND, Booked(700, transfer_id=transfer_id))
    assert earlier.parameters == {**posted.parameters, "charged_by": str(transfer_id)}


@given(st.permutations(["att_1", "att_2"]))
def test_the_charge_comes_before_its_refund_in_whatever_order_they_wait(waiting: list[str]) -> None:
    bookings = [Booking(attempt_id, earlier=False) for attempt_id in waiting]
    names = [each.attempt_id for each in in_order(payment(), bookings, "att_2")]
    assert names == ["att_1", "att_2"]
    assert [each.attempt_id for each in in_order(payment(), bookings, "att_1")] == ["att_1"]


def test_the_release_before_is_looked_for_under_its_own_ids() -> None:
    paid = payment()
    assert earlier_transfer_id(paid, CHARGE, 0) == derived_uuid(
        "payment.received", "pay_1", "att_1"
    )
    assert earlier_transfer_id(paid, CHARGE, 2) == derived_uuid(
        "payment.received", "pay_1", "att_1", "2"
    )
    assert earlier_transfer_id(paid, REFUND, 0) == derived_uuid(
        "payment.refunded", "pay_1", "att_2"
    )


@pytest.mark.parametrize(
    ("other", "counts"),
    [
        ({}, True),
        ({"amount": Money("USD", 701)}, False),
        ({"amount": Money("EUR", 700)}, False),
        ({"code": 2002}, False),
        ({"posted": False}, False),
        ({"attempt_id": "att_9"}, False),
    ],
)
def test_only_a_transfer_of_just_this_charge_counts_as_its_booking(
    other: dict[str, object], counts: bool
) -> None:
    found = LedgerTransfer(uuid4(), Money("USD", 700), 2001, posted=True, attempt_id="att_1")
    assert is_booked_by(payment(), CHARGE, replace(found, **other)) is counts  # type: ignore[arg-type] # of several types


@given(st.sampled_from(PaymentStatus), st.integers(0, 3), st.integers(0, 3), st.integers(0, 2))
def test_books_differ_only_once_a_payment_has_ended_and_all_of_it_is_booked(
    status: PaymentStatus, kept: int, booked: int, waiting: int
) -> None:
    differs = Comparison(status, kept, booked, waiting).differs
    assert differs == (status in AT_REST and waiting == 0 and kept != booked)


def test_an_attempt_is_found_by_its_id() -> None:
    assert attempt_of(payment(), "att_2") is REFUND
