"""Payments of several steps: what can be held is authorised first, and captured once every step has its amount."""

from __future__ import annotations

from typing import Any

import pytest
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from .conftest import ACH, CARD, WALLET, Bench, status, step_statuses

TOTAL = 5684


def operations(payment: pb.Payment) -> list[str]:
    """What was asked for, in its order, with the step."""
    return [
        f"{pb.Operation.Name(a.operation).removeprefix('OPERATION_').lower()} {a.step_index}"
        for a in payment.attempts
    ]


async def test_all_is_authorised_before_any_is_captured(bench: Bench) -> None:
    await bench.configure(WALLET, CARD)
    payment = await bench.pay()
    assert (status(payment), step_statuses(payment)) == ("SUCCEEDED", ["SUCCEEDED"] * 4)
    assert operations(payment) == ["authorize 0", "authorize 1", "capture 0", "capture 1"]
    assert [step.authorize_first for step in payment.plan.steps] == [True, True]
    assert payment.capture == 1, "it is captured by itself"
    assert bench.net_at_processors() == payment.amounts.captured.minor_units == TOTAL
    assert payment.amounts.authorized.minor_units == 0
    assert bench.subjects() == [
        "payment.step.succeeded",
        "payment.step.succeeded",
        "payment.completed",
        "payment.received",
    ]
    request = service_pb.RefundPaymentRequest(
        payment_id=payment.payment_id, request_id="8f0e9d1c-1111-4222-8333-944455566677"
    )
    refunded = (await bench.payments.RefundPayment(request)).payment
    assert refunded.amounts.refunded.minor_units == TOTAL
    assert bench.net_at_processors() == 0


async def test_a_refusal_costs_no_refund(bench: Bench) -> None:
    await bench.configure(WALLET, CARD)
    payment = await bench.pay(
        payment_methods=[{"method": "wallet"}, {"method": "card", "token": "tok_decline"}]
    )
    assert status(payment) == "FAILED"
    assert operations(payment) == ["authorize 0", "authorize 1", "void 0"]
    assert bench.subjects() == ["payment.step.failed", "payment.failed"]
    assert not bench.rows(
        "SELECT 1 FROM orchestration.sandbox_order"
        " WHERE tenant_id = %(tenant)s AND operation IN ('CHARGE', 'CAPTURE', 'REFUND')"
    )


async def test_what_cannot_be_held_is_charged_last(bench: Bench) -> None:
    """A bank debit that is listed first comes behind the wallet, and its refusal lets the wallet go."""
    await bench.configure({**ACH, "max_amount": WALLET["max_amount"]}, CARD)
    payment = await bench.pay(payment_methods=[{"method": "ach"}, {"method": "card"}])
    assert status(payment) == "SUCCEEDED"
    assert [step.method for step in payment.plan.steps] == ["card", "ach"]
    assert operations(payment) == ["authorize 0", "charge 1", "capture 0"]
    refused = await bench.pay(
        order_id="order-2",
        payment_methods=[{"method": "ach", "token": "tok_decline"}, {"method": "card"}],
    )
    assert status(refused) == "FAILED"
    assert operations(refused) == ["authorize 0", "charge 1", "void 0"]
    assert bench.net_at_processors() == TOTAL


async def test_one_step_is_charged_at_once(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay()
    assert operations(payment) == ["charge 0"]
    assert not payment.plan.steps[0].authorize_first


@pytest.mark.parametrize(
    ("token", "asked"),
    [
        ("tok_capture_declined", ["capture 1"]),
        ("tok_capture_connection_refused", ["capture 1"] * 3),
    ],
)
async def test_a_capture_that_fails_undoes_the_payment(
    bench: Bench, token: str, asked: list[str]
) -> None:
    await bench.configure(WALLET, CARD)
    methods = [{"method": "wallet"}, {"method": "card", "token": token}]
    payment = await bench.pay(payment_methods=methods)
    for seconds in (2, 6):
        await bench.later(seconds)
    payment = await bench.get(payment.payment_id)
    assert status(payment) == "FAILED"
    expected = ["authorize 0", "authorize 1", "capture 0", *asked, "void 1", "refund 0"]
    assert operations(payment) == expected
    assert bench.net_at_processors() == 0
    failed = bench.events()[-1][1]
    assert failed.failure_code == ("card_declined" if len(asked) == 1 else "network_error")  # type: ignore[attr-defined] # the last event is payment.failed


@pytest.mark.parametrize("token", ["tok_capture_timeout", "tok_capture_pending"])
async def test_a_capture_without_an_answer_is_asked_after(bench: Bench, token: str) -> None:
    await bench.configure(WALLET, CARD)
    methods = [{"method": "wallet", "token": token}, {"method": "card"}]
    payment = await bench.pay(payment_methods=methods)
    for _ in range(3):
        await bench.later(6)
    payment = await bench.get(payment.payment_id)
    assert (status(payment), step_statuses(payment)) == ("SUCCEEDED", ["SUCCEEDED"] * 4)
    assert bench.net_at_processors() == TOTAL


async def test_a_capture_in_doubt_keeps_the_payment_from_its_end(bench: Bench) -> None:
    """Books that stay silent prove that it was not captured; until then nothing is given back or let go."""
    await bench.configure(WALLET, CARD)
    methods = [
        {"method": "wallet", "token": "tok_capture_timeout_not_captured"},
        {"method": "card"},
    ]
    payment = await bench.pay(payment_methods=methods)
    assert (status(payment), step_statuses(payment)[-1]) == ("RESOLVING", "UNKNOWN")
    assert operations(payment) == ["authorize 0", "authorize 1", "capture 0"]
    for _ in range(12):
        await bench.later(60)
    payment = await bench.get(payment.payment_id)
    assert status(payment) == "FAILED"
    assert operations(payment)[-2:] == ["void 1", "void 0"]
    assert bench.net_at_processors() == 0


@pytest.mark.parametrize(
    ("first", "second", "kept", "undone"),
    [
        ({}, {"token": "tok_decline"}, 5000, []),
        ({}, {"token": "tok_capture_declined"}, 5000, ["void 1"]),
        ({"token": "tok_capture_declined"}, {}, 684, ["void 0"]),
    ],
)
async def test_a_part_is_kept_where_the_policy_allows_it(
    bench: Bench, first: dict[str, Any], second: dict[str, Any], kept: int, undone: list[str]
) -> None:
    await bench.configure(WALLET, CARD, partial_allowed=True)
    methods = [{"method": "wallet", **first}, {"method": "card", **second}]
    payment = await bench.pay(payment_methods=methods)
    assert status(payment) == "PARTIALLY_PAID"
    assert [each for each in operations(payment) if "void" in each] == undone
    assert bench.net_at_processors() == payment.result.total_processed.minor_units == kept
    assert payment.amounts.authorized.minor_units == 0
    assert bench.subjects()[-1] == "payment.received"


async def test_nothing_is_kept_where_no_part_could_be_captured(bench: Bench) -> None:
    await bench.configure(WALLET, CARD, partial_allowed=True)
    refused = {"token": "tok_capture_declined"}
    payment = await bench.pay(
        payment_methods=[{"method": "wallet", **refused}, {"method": "card", **refused}]
    )
    assert status(payment) == "FAILED"
    assert bench.net_at_processors() == payment.amounts.authorized.minor_units == 0
