"""Authorise, capture, void and refund: what processors did, what the books say, and what is refused."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
import psycopg
import pytest
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from .conftest import ACH, CARD, CARD_WITH_FALLBACK, WALLET, Bench, reason, status, step_statuses

TOTAL = 5684


def instructed(instruction: pb.Instruction) -> tuple[str, int, int]:
    name = pb.InstructionStatus.Name(instruction.status).removeprefix("INSTRUCTION_STATUS_")
    return name, instruction.amount.minor_units, instruction.amount_done.minor_units


def amounts(payment: pb.Payment) -> tuple[int, int, int, int]:
    """Authorised, captured, refunded and refundable."""
    found = payment.amounts
    return (
        found.authorized.minor_units,
        found.captured.minor_units,
        found.refunded.minor_units,
        found.refundable.minor_units,
    )


def operations(payment: pb.Payment) -> list[str]:
    return [
        f"{pb.Operation.Name(each.operation).removeprefix('OPERATION_')} {each.amount.minor_units}"
        for each in payment.attempts
    ]


def asked(kind: Any, payment: pb.Payment, minor_units: int = 0, **fields: Any) -> Any:
    request = kind(payment_id=payment.payment_id, request_id=str(uuid.uuid4()), **fields)
    if minor_units:
        request.amount.currency_code, request.amount.minor_units = "USD", minor_units
    return request


async def capture(bench: Bench, payment: pb.Payment, minor_units: int = 0, **fields: Any) -> Any:
    request = asked(service_pb.CapturePaymentRequest, payment, minor_units, **fields)
    return await bench.payments.CapturePayment(request)


async def void(bench: Bench, payment: pb.Payment, **fields: Any) -> Any:
    return await bench.payments.VoidPayment(asked(service_pb.VoidPaymentRequest, payment, **fields))


async def refund(bench: Bench, payment: pb.Payment, minor_units: int = 0, **fields: Any) -> Any:
    request = asked(service_pb.RefundPaymentRequest, payment, minor_units, **fields)
    return await bench.payments.RefundPayment(request)


async def refused(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return reason(caught.value)


# ---- refunds


async def test_a_payment_is_given_back_in_parts_and_never_more_than_it_took(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay()
    assert amounts(payment) == (0, TOTAL, 0, TOTAL)
    first = await refund(bench, payment, 684, reason="broken")
    assert instructed(first.instruction) == ("SUCCEEDED", 684, 684)
    assert first.instruction.reason == "broken"
    assert amounts(first.payment) == (0, TOTAL, 684, 5000)
    assert status(first.payment) == "SUCCEEDED"
    assert first.payment.result.total_processed.minor_units == 5000
    assert await refused(refund(bench, payment, 5001)) == "AMOUNT_EXCEEDS_LEFT"
    rest = await refund(bench, payment)
    assert instructed(rest.instruction) == ("SUCCEEDED", 5000, 5000)
    assert operations(rest.payment) == ["CHARGE 5684", "REFUND 684", "REFUND 5000"]
    assert await refused(refund(bench, payment, 1)) == "NOTHING_TO_REFUND"
    assert bench.net_at_processors() == 0
    assert bench.subjects().count("payment.step.refunded") == 2
    assert bench.subjects().count("payment.received") == 1


async def test_a_reason_is_kept_without_card_numbers(
    bench: Bench,
) -> None:
    await bench.configure(CARD)
    payment = await bench.pay()
    done = await refund(bench, payment, 1, reason="to 4242 4242 4242 4242 again")
    assert "4242" not in done.instruction.reason
    assert done.instruction.reason.startswith("to ")
    rows = bench.rows("SELECT reason FROM orchestration.instruction WHERE tenant_id = %(tenant)s")
    assert [row["reason"] for row in rows] == [done.instruction.reason]


async def test_a_refund_of_several_steps_begins_with_the_last(bench: Bench) -> None:
    await bench.configure(WALLET, CARD)
    payment = await bench.pay()
    done = await refund(bench, payment, 1000)
    last = payment.attempts[-1].amount.minor_units
    assert operations(done.payment)[-2:] == [f"REFUND {last}", f"REFUND {1000 - last}"]
    assert instructed(done.instruction) == ("SUCCEEDED", 1000, 1000)
    assert bench.net_at_processors() == TOTAL - 1000


async def test_the_same_refund_twice_gives_back_once(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay()
    request = asked(service_pb.RefundPaymentRequest, payment, 100)
    answers = [await bench.payments.RefundPayment(request) for _ in range(3)]
    assert len({answer.instruction.instruction_id for answer in answers}) == 1
    request.amount.minor_units = 101
    assert await refused(bench.payments.RefundPayment(request)) == "REQUEST_ID_REUSED"
    assert bench.net_at_processors() == TOTAL - 100


async def test_refunds_at_once_never_give_back_more_than_was_taken(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay()
    calls = [refund(bench, payment, 2000) for _ in range(8)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    done = [each for each in answers if not isinstance(each, BaseException)]
    assert 1 <= len(done) <= 2
    told = {reason(each) for each in answers if isinstance(each, grpc.aio.AioRpcError)}
    assert told <= {"PAYMENT_UNDER_WAY", "AMOUNT_EXCEEDS_LEFT"}
    assert bench.net_at_processors() == TOTAL - 2000 * len(done)


async def test_a_refund_that_is_refused_is_an_answer_and_may_be_asked_for_anew(
    bench: Bench,
) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(method="card", token="tok_refund_declined")
    done = await refund(bench, payment, 500)
    assert instructed(done.instruction) == ("FAILED", 500, 0)
    assert (status(done.payment), step_statuses(done.payment)) == (
        "SUCCEEDED",
        ["SUCCEEDED", "DECLINED"],
    )
    assert amounts(done.payment) == (0, TOTAL, 0, TOTAL)
    again = await refund(bench, payment, 500)
    assert again.instruction.instruction_id != done.instruction.instruction_id
    assert bench.net_at_processors() == TOTAL


async def test_a_refund_whose_answer_is_lost_counts_until_it_is_known(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(method="card", token="tok_refund_timeout_not_refunded")
    begun = await refund(bench, payment, TOTAL)
    assert instructed(begun.instruction) == ("PENDING", TOTAL, 0)
    assert amounts(begun.payment) == (0, TOTAL, 0, 0), "what may have been given back is not left"
    assert await refused(refund(bench, payment, 1)) == "PAYMENT_UNDER_WAY"
    for _ in range(8):
        await bench.later(400)
    payment = await bench.get(payment.payment_id)
    statuses = step_statuses(payment)
    assert set(statuses[1:]) == {"NOT_CHARGED"}, "asked again, while it certainly did not act"
    assert instructed(payment.instructions[0])[0] == "FAILED"
    assert amounts(payment) == (0, TOTAL, 0, TOTAL)
    assert bench.net_at_processors() == TOTAL


# ---- authorise and capture


async def test_what_is_authorised_is_captured_in_parts(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(capture="manual")
    assert (status(payment), operations(payment)) == ("AUTHORIZED", ["AUTHORIZE 5684"])
    assert amounts(payment) == (TOTAL, 0, 0, 0)
    assert bench.net_at_processors() == 0
    assert "payment.received" not in bench.subjects()
    assert await refused(refund(bench, payment, 1)) == "NOTHING_TO_REFUND"
    first = await capture(bench, payment, 684, keep_open=True)
    assert status(first.payment) == "AUTHORIZED"
    assert amounts(first.payment) == (5000, 684, 0, 684)
    back = await refund(bench, payment, 84)
    assert amounts(back.payment) == (5000, 684, 84, 600)
    last = await capture(bench, payment, 3000)
    assert (status(last.payment), amounts(last.payment)) == ("PARTIALLY_PAID", (0, 3684, 84, 3600))
    assert await refused(capture(bench, payment)) == "PAYMENT_NOT_AUTHORIZED"
    assert bench.net_at_processors() == 3600
    received: list[Any] = [
        event for subject, event in bench.events() if subject == "payment.received"
    ]
    assert [event.amount_cents for event in received] == [3684], "once, when no more can come"


async def test_all_that_is_authorised_is_captured_step_by_step(bench: Bench) -> None:
    await bench.configure(WALLET, CARD, capture=2)
    payment = await bench.pay()
    wallet, card = (each.amount.minor_units for each in payment.attempts)
    done = await capture(bench, payment)
    assert operations(done.payment)[2:] == [f"CAPTURE {wallet}", f"CAPTURE {card}"]
    assert (status(done.payment), amounts(done.payment)) == ("SUCCEEDED", (0, TOTAL, 0, TOTAL))
    assert done.payment.result.success
    assert [each.amount_processed.minor_units for each in done.payment.result.step_results] == [
        wallet,
        card,
    ]
    assert bench.subjects().count("payment.completed") == 1
    assert bench.net_at_processors() == TOTAL


async def test_what_a_capture_leaves_is_let_go(bench: Bench) -> None:
    await bench.configure(WALLET, CARD)
    payment = await bench.pay(capture="manual")
    wallet, card = (each.amount.minor_units for each in payment.attempts)
    done = await capture(bench, payment, 100)
    assert operations(done.payment)[2:] == ["CAPTURE 100", f"VOID {card}"]
    assert (status(done.payment), amounts(done.payment)) == ("PARTIALLY_PAID", (0, 100, 0, 100))
    assert wallet > 100
    assert bench.net_at_processors() == 100


async def test_what_is_authorised_is_let_go(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(capture="manual")
    done = await void(bench, payment, reason="cancelled")
    assert (status(done.payment), operations(done.payment)) == (
        "VOIDED",
        ["AUTHORIZE 5684", "VOID 5684"],
    )
    assert instructed(done.instruction) == ("SUCCEEDED", TOTAL, TOTAL)
    assert await refused(capture(bench, payment)) == "PAYMENT_NOT_AUTHORIZED"
    assert await refused(void(bench, payment)) == "PAYMENT_NOT_AUTHORIZED"
    assert bench.net_at_processors() == 0
    assert not {"payment.received", "payment.failed"} & set(bench.subjects())


async def test_a_step_that_fails_lets_go_what_was_authorised_before_it(bench: Bench) -> None:
    await bench.configure(WALLET, CARD)
    methods = [{"method": "wallet"}, {"method": "card", "token": "tok_decline"}]
    payment = await bench.pay(capture="manual", payment_methods=methods)
    assert status(payment) == "FAILED"
    assert [each.split()[0] for each in operations(payment)] == ["AUTHORIZE", "AUTHORIZE", "VOID"]
    assert bench.net_at_processors() == 0
    assert bench.subjects().count("payment.failed") == 1


async def test_a_capture_that_is_refused_leaves_the_authorisation(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(capture="manual", method="card", token="tok_capture_declined")
    done = await capture(bench, payment)
    assert instructed(done.instruction) == ("FAILED", TOTAL, 0)
    assert (status(done.payment), amounts(done.payment)) == ("AUTHORIZED", (TOTAL, 0, 0, 0))
    assert status((await void(bench, payment)).payment) == "VOIDED"


async def test_a_capture_whose_answer_is_lost_is_asked_after(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(capture="manual", method="card", token="tok_capture_timeout")
    done = await capture(bench, payment)
    assert instructed(done.instruction) == ("SUCCEEDED", TOTAL, TOTAL), "its books tell at once"
    assert status(done.payment) == "SUCCEEDED"
    assert bench.net_at_processors() == TOTAL


async def test_what_is_authorised_counts_for_its_order(bench: Bench) -> None:
    await bench.configure(CARD)
    request = Bench.request(order_id="o-held", capture="manual")
    request.order_limit.currency_code, request.order_limit.minor_units = "USD", TOTAL
    payment = (await bench.payments.CreatePayment(request)).payment
    another = Bench.request(order_id="o-held")
    another.order_limit.CopyFrom(request.order_limit)
    assert await refused(bench.payments.CreatePayment(another)) == "ORDER_LIMIT_EXCEEDED"
    await void(bench, payment)
    assert status((await bench.payments.CreatePayment(another)).payment) == "SUCCEEDED"


async def test_only_processors_that_can_authorise_are_asked_to(bench: Bench) -> None:
    await bench.configure(ACH, CARD)
    methods = [{"method": "ach"}, {"method": "card"}]
    payment = await bench.pay(capture="MANUAL", payment_methods=methods)
    assert [each.processor_id for each in payment.attempts] == ["sandbox-card"]
    codes = {issue.code for issue in payment.context.validation_errors}
    assert "METHOD_CANNOT_AUTHORIZE" in codes
    alone = await bench.pay(capture="manual", method="ach")
    assert status(alone) == "REFUSED"


@pytest.mark.parametrize("odd", ["later", "", 7, ["manual"], {"a": 1}])
async def test_a_capture_that_cannot_be_read_takes_nothing(bench: Bench, odd: Any) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(capture=odd)
    if odd == "":
        assert status(payment) == "SUCCEEDED", "empty is absent"
    else:
        assert status(payment) == "REFUSED"
        assert "INVALID_CAPTURE" in {i.code for i in payment.context.validation_errors}


async def test_what_is_given_to_a_payment_that_is_none(bench: Bench) -> None:
    await bench.configure(CARD_WITH_FALLBACK)
    nobody = pb.Payment(payment_id="pay_none")
    for call in (capture, void, refund):
        assert await refused(call(bench, nobody)) == "NOT_FOUND"
    failed = await bench.pay(method="card", token="tok_decline")
    assert await refused(refund(bench, failed)) == "NOTHING_TO_REFUND"
    assert await refused(void(bench, failed)) == "PAYMENT_NOT_AUTHORIZED"
    paid = await bench.pay()
    request = asked(service_pb.RefundPaymentRequest, paid, 1)
    request.amount.currency_code = "EUR"
    assert await refused(bench.payments.RefundPayment(request)) == "INVALID_FIELD"
    request.amount.currency_code, request.amount.minor_units = "USD", 0
    assert await refused(bench.payments.RefundPayment(request)) == "INVALID_FIELD"


# ---- the database's own guards


@pytest.mark.parametrize(
    ("operation", "amount", "closes"),
    [("REFUND", 5001, False), ("CAPTURE", 1, False), ("VOID", 1, False), ("CHARGE", 1, False)],
)
async def test_the_database_refuses_what_exceeds_whatever_the_code_does(
    bench: Bench, operation: str, amount: int, closes: bool
) -> None:
    await bench.configure(CARD)
    payment = await bench.pay()
    await refund(bench, payment, 684)
    with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.UniqueViolation)):
        follow(bench, payment.attempts[0].attempt_id, operation, amount, closes)


@pytest.mark.parametrize(
    ("operation", "amount"), [("CAPTURE", 5001), ("VOID", 5001), ("REFUND", 1), ("AUTHORIZE", 1)]
)
async def test_the_database_refuses_more_than_is_authorised(
    bench: Bench, operation: str, amount: int
) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(capture="manual")
    await capture(bench, payment, 684, keep_open=True)
    with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.UniqueViolation)):
        follow(bench, payment.attempts[0].attempt_id, operation, amount, False)


def follow(bench: Bench, attempt_id: str, operation: str, amount: int, closes: bool) -> None:
    """Store an attempt like another one, as a fault of the code would."""
    bench.execute(
        "INSERT INTO orchestration.attempt SELECT (jsonb_populate_record(a, to_jsonb(a) || jsonb_build_object("
        " 'attempt_id', 'att_more', 'ordinal', 99, 'idempotency_key', 'a key of its own', 'status', 'SENT',"
        " 'settled_at', NULL, 'operation', %(operation)s::text, 'amount_minor', %(amount)s::bigint,"
        " 'closes', %(closes)s::boolean,"
        " 'parent_id', CASE WHEN %(operation)s::text IN ('CHARGE', 'AUTHORIZE') THEN '' ELSE a.attempt_id END))).*"
        " FROM orchestration.attempt AS a WHERE tenant_id = %(tenant)s AND attempt_id = %(attempt_id)s",
        attempt_id=attempt_id,
        operation=operation,
        amount=amount,
        closes=closes,
    )
