"""CreatePayment and its outcomes: tokens, splits, fallbacks, repeats, and doubt that ends by proof."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf import json_format, struct_pb2
from payments.events.v1 import orchestration_events_pb2 as events
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb
from payments.result.v1 import result_pb2

from services.orchestration.adapters.sandbox import SandboxProcessor
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.processors import Capabilities
from services.orchestration.ports import Inquiry, Order, Settled, Unknown, Verdict
from services.orchestration.store import payments as store
from services.runtime.context import CallContext, acting

from .conftest import (
    CARD,
    CARD_WITH_FALLBACK,
    IN_TURN,
    WALLET,
    Bench,
    reason,
    status,
    step_statuses,
)


@pytest.mark.parametrize(("amount", "card_minor"), [("56.84", 684), ("129.55", 7955)])
async def test_wallet_then_card_with_fallback(bench: Bench, amount: str, card_minor: int) -> None:
    version = await bench.configure(WALLET, CARD_WITH_FALLBACK, **IN_TURN)
    payment = await bench.pay(amount=amount)
    total = 5000 + card_minor

    assert status(payment) == "SUCCEEDED"
    assert payment.config_version == version == 1
    assert [(s.method, s.max_amount.minor_units) for s in payment.plan.steps] == [
        ("wallet", 5000),
        ("card", card_minor),
    ]
    assert [(a.step_index, a.attempt_number, a.processor_id) for a in payment.attempts] == [
        (0, 1, "sandbox-wallet"),
        (1, 1, "sandbox-card-down"),
        (1, 2, "sandbox-card"),
    ]
    assert step_statuses(payment) == ["SUCCEEDED", "NOT_SENT", "SUCCEEDED"]
    assert payment.result.success
    assert payment.result.total_processed.minor_units == total
    assert payment.result.remaining_amount.minor_units == 0
    assert [r.amount_processed.minor_units for r in payment.result.step_results] == [
        5000,
        card_minor,
    ]
    assert bench.net_at_processors() == total
    assert payment == await bench.get(payment.payment_id)
    assert (payment.org_id, payment.context.org_id) == ("org-1", "org-1")

    assert bench.subjects() == [
        "payment.step.succeeded",
        "payment.step.failed",
        "payment.step.succeeded",
        "payment.completed",
        "payment.received",
    ]
    received = bench.events()[-1][1]
    assert isinstance(received, events.PaymentReceived)
    assert (received.order_id, received.person_id, received.org_id) == (
        "order-1",
        "person-1",
        "org-1",
    )
    assert received.payment_method == ("wallet" if card_minor < 5000 else "card")
    assert received.payment_path == "active_charge"
    assert (received.amount_cents, received.currency) == (total, "USD")
    assert received.provider_ref
    assert [(s.processor_id, s.amount_cents) for s in received.steps] == [
        ("sandbox-wallet", 5000),
        ("sandbox-card", card_minor),
    ]
    failed = bench.events()[1][1]
    assert isinstance(failed, events.StepFailed)
    assert (failed.error_code, failed.retryable) == ("network_failure", True)
    # A clean request leaves nothing for the contract monitor.
    assert not payment.context.validation_errors
    assert not bench.rows(
        "SELECT 1 FROM mesh.event WHERE tenant_id = %(tenant)s AND subject = 'contract.violated'"
    )


@pytest.mark.parametrize(
    ("token", "attempts", "error_code", "failure_code"),
    [
        ("tok_decline", ["DECLINED"], "DECLINED", "card_declined"),
        ("tok_insufficient_funds", ["DECLINED"], "DECLINED", "insufficient_funds"),
        ("tok_expired_card", ["DECLINED"], "INVALID_CARD", "expired_card"),
        ("tok_nobody_knows", ["DECLINED"], "INVALID_CARD", "other"),
        ("tok_soft_decline", ["DECLINED"], "DECLINED", "card_declined"),
        ("tok_connection_refused", ["NOT_SENT", "NOT_SENT"], "NETWORK_FAILURE", "network_error"),
    ],
)
async def test_refusals_fail_the_payment(
    bench: Bench, token: str, attempts: list[str], error_code: str, failure_code: str
) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(method="card", token=token)
    assert status(payment) == "FAILED"
    assert step_statuses(payment) == attempts
    assert not payment.result.success
    assert result_pb2.ErrorCode.Name(payment.result.final_error) == f"ERROR_CODE_{error_code}"
    assert payment.result.remaining_amount.minor_units == 5684
    assert bench.net_at_processors() == 0
    assert bench.subjects() == ["payment.step.failed"] * len(attempts) + ["payment.failed"]
    failed = bench.events()[-1][1]
    assert isinstance(failed, events.PaymentFailed)
    assert failed.failure_code == failure_code
    assert failed.amount_cents == 5684
    # The seed wants a reference always; ours, marked, where no processor gave one.
    assert failed.provider_ref.startswith("ext_") == (token == "tok_connection_refused")


@pytest.mark.parametrize("token", ["", "tok_approve"])
async def test_approval(bench: Bench, token: str) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(method="card", token=token)
    assert status(payment) == "SUCCEEDED"
    assert bench.net_at_processors() == 5684


async def test_soft_decline_goes_to_the_next_processor_and_a_hard_one_does_not(
    bench: Bench,
) -> None:
    both = {
        "method": "card",
        "processor_id": "sandbox-card",
        "fallback_processor_ids": ["sandbox-card-second"],
    }
    await bench.configure(both)
    soft = await bench.pay(method="card", token="tok_soft_decline@sandbox-card")
    assert [a.processor_id for a in soft.attempts] == ["sandbox-card", "sandbox-card-second"]
    assert (status(soft), step_statuses(soft)) == ("SUCCEEDED", ["DECLINED", "SUCCEEDED"])
    hard = await bench.pay(method="card", token="tok_decline@sandbox-card")
    assert (status(hard), step_statuses(hard)) == ("FAILED", ["DECLINED"])


@pytest.mark.parametrize("token", ["tok_timeout", "tok_pending"])
async def test_a_lost_answer_is_asked_after_and_found_charged(bench: Bench, token: str) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(method="card", token=token)
    assert (status(payment), step_statuses(payment)) == ("SUCCEEDED", ["SUCCEEDED"])
    assert bench.net_at_processors() == 5684
    assert bench.subjects().count("payment.received") == 1


async def test_an_early_not_found_proves_nothing(bench: Bench) -> None:
    await bench.configure(CARD_WITH_FALLBACK)
    payment = await bench.pay(method="card", token="tok_timeout_books_late")
    assert (status(payment), step_statuses(payment)) == ("RESOLVING", ["NOT_SENT", "UNKNOWN"])
    assert bench.net_at_processors() == 5684, "charged, and nobody knows yet"
    await bench.later(2)
    payment = await bench.get(payment.payment_id)
    assert (status(payment), step_statuses(payment)) == ("SUCCEEDED", ["NOT_SENT", "SUCCEEDED"])
    assert bench.net_at_processors() == 5684


async def test_a_lost_order_stays_unknown_until_proof_then_goes_on(bench: Bench) -> None:
    both = {
        "method": "card",
        "processor_id": "sandbox-card",
        "fallback_processor_ids": ["sandbox-card-second"],
    }
    await bench.configure(both)
    payment = await bench.pay(method="card", token="tok_timeout_not_charged@sandbox-card")
    # Unknown is a state of its own: no other processor is asked yet.
    assert (status(payment), step_statuses(payment)) == ("RESOLVING", ["UNKNOWN"])
    assert bench.subjects() == []
    assert await bench.later(0.5) == 0, "the next question is not due yet"
    await bench.later(1.5)
    payment = await bench.get(payment.payment_id)
    assert step_statuses(payment) == ["UNKNOWN"], "a call of 5 s could still arrive"
    await bench.later(6)
    payment = await bench.get(payment.payment_id)
    assert (status(payment), step_statuses(payment)) == ("SUCCEEDED", ["NOT_CHARGED", "SUCCEEDED"])
    assert [a.processor_id for a in payment.attempts] == ["sandbox-card", "sandbox-card-second"]
    assert bench.net_at_processors() == 5684
    assert bench.subjects()[0] == "payment.step.failed"
    (violation,) = bench.rows(
        "SELECT key FROM mesh.event WHERE tenant_id = %(tenant)s AND subject = 'contract.violated'"
    )
    assert violation["key"]


async def test_a_lost_order_everywhere_fails_by_timeout(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(method="card", token="tok_timeout_not_charged")
    for _ in range(4):
        await bench.later(7)
    payment = await bench.get(payment.payment_id)
    assert (status(payment), step_statuses(payment)) == ("FAILED", ["NOT_CHARGED", "NOT_CHARGED"])
    assert payment.result.final_error == result_pb2.ERROR_CODE_TIMEOUT
    assert bench.subjects().count("payment.failed") == 1
    assert bench.net_at_processors() == 0


async def test_a_failed_later_step_gives_the_earlier_ones_back(bench: Bench) -> None:
    await bench.configure(WALLET, CARD, **IN_TURN)
    payment = await bench.pay(
        payment_methods=[{"method": "wallet"}, {"method": "card", "token": "tok_decline"}]
    )
    assert status(payment) == "FAILED"
    operations = [pb.Operation.Name(a.operation) for a in payment.attempts]
    assert operations == ["OPERATION_CHARGE", "OPERATION_CHARGE", "OPERATION_REFUND"]
    assert payment.attempts[2].parent_attempt_id == payment.attempts[0].attempt_id
    assert payment.result.total_processed.minor_units == 0
    assert payment.result.remaining_amount.minor_units == 5684
    assert bench.net_at_processors() == 0
    assert bench.subjects() == [
        "payment.step.succeeded",
        "payment.step.failed",
        "payment.step.refunded",
        "payment.failed",
    ]
    charged, refunded = bench.events()[0][1], bench.events()[2][1]
    assert isinstance(charged, events.StepSucceeded)
    assert isinstance(refunded, events.StepRefunded)
    named = ("order-1", "person-1", "org-1")
    assert (charged.order_id, charged.person_id, charged.org_id) == named
    assert charged.settled_at == payment.attempts[0].settled_at
    assert (refunded.order_id, refunded.person_id, refunded.org_id) == named
    assert (refunded.amount, refunded.currency, refunded.processor_id) == (
        5000,
        "USD",
        "sandbox-wallet",
    )
    assert refunded.attempt_id == payment.attempts[2].attempt_id
    assert refunded.charge_attempt_id == charged.attempt_id
    assert refunded.charged_at == charged.settled_at
    assert refunded.settled_at == payment.attempts[2].settled_at


async def test_a_lost_refund_is_asked_after_not_repeated(bench: Bench) -> None:
    await bench.configure(WALLET, CARD, **IN_TURN)
    payment = await bench.pay(
        payment_methods=[
            {"method": "wallet", "token": "tok_refund_timeout"},
            {"method": "card", "token": "tok_decline"},
        ]
    )
    assert (status(payment), step_statuses(payment)) == (
        "FAILED",
        ["SUCCEEDED", "DECLINED", "SUCCEEDED"],
    )
    assert bench.net_at_processors() == 0


async def test_a_refund_that_never_arrived_is_made_again(bench: Bench) -> None:
    await bench.configure(WALLET, CARD, **IN_TURN)
    payment = await bench.pay(
        payment_methods=[
            {"method": "wallet", "token": "tok_refund_timeout_not_refunded"},
            {"method": "card", "token": "tok_decline"},
        ]
    )
    assert status(payment) == "COMPENSATING"
    await bench.later(7)
    await bench.later(2)
    payment = await bench.get(payment.payment_id)
    assert step_statuses(payment)[2:] == ["NOT_CHARGED", "UNKNOWN"]
    assert bench.net_at_processors() == 5000, "shown as it is: not given back yet, and not failed"
    assert status(payment) == "COMPENSATING"


async def test_a_refused_refund_is_never_shown_as_failed(bench: Bench) -> None:
    await bench.configure(WALLET, CARD, **IN_TURN)
    payment = await bench.pay(
        payment_methods=[
            {"method": "wallet", "token": "tok_refund_declined"},
            {"method": "card", "token": "tok_decline"},
        ]
    )
    assert status(payment) == "COMPENSATION_STUCK"
    assert payment.result.total_processed.minor_units == 5000
    assert "payment.failed" not in bench.subjects()
    await bench.later(2)
    assert len((await bench.get(payment.payment_id)).attempts) == 4, "tried again on schedule"


async def test_partial_payment_where_the_policy_allows_it(bench: Bench) -> None:
    await bench.configure(WALLET, CARD, partial_allowed=True, **IN_TURN)
    payment = await bench.pay(
        payment_methods=[{"method": "wallet"}, {"method": "card", "token": "tok_decline"}]
    )
    assert status(payment) == "PARTIALLY_PAID"
    assert payment.result.total_processed.minor_units == 5000
    assert payment.result.remaining_amount.minor_units == 684
    assert bench.subjects()[-1] == "payment.received"
    received = bench.events()[-1][1]
    assert isinstance(received, events.PaymentReceived)
    assert received.amount_cents == 5000


# ---- repeats


async def test_the_same_key_and_body_give_the_same_payment(bench: Bench) -> None:
    await bench.configure(CARD)
    request = bench.request()
    first = await bench.payments.CreatePayment(request)
    again = await bench.payments.CreatePayment(request)
    assert first.payment.SerializeToString(deterministic=True) == again.payment.SerializeToString(
        deterministic=True
    )
    assert bench.net_at_processors() == 5684


async def test_a_repeat_is_told_apart_from_a_new_payment(bench: Bench) -> None:
    await bench.configure(CARD)
    request = bench.request()
    answers = [await bench.payments.CreatePayment(request) for _ in range(3)]
    assert [answer.repeated for answer in answers] == [False, True, True]


@pytest.mark.parametrize(
    ("amount", "accepted"),
    [
        ({"amount_minor": 10**15}, True),
        ({"amount_minor": str(10**15 + 1)}, False),
        ({"amount": "10000000000000.01"}, False),
        ({"amount": "92233720368547758.07"}, False),
        ({"amount": "10000000000000001", "currency": "JPY"}, False),
    ],
)
async def test_more_than_the_books_take_is_refused_before_a_processor_is_asked(
    bench: Bench, amount: dict[str, Any], accepted: bool
) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(**{"amount": None, **amount})
    assert status(payment) == ("SUCCEEDED" if accepted else "REFUSED")
    codes = [issue.code for issue in payment.context.validation_errors]
    assert ("AMOUNT_OUT_OF_RANGE" in codes) is not accepted
    assert (bench.net_at_processors() > 0) is accepted


async def test_a_refusal_for_the_configuration_is_no_answer_for_ever(bench: Bench) -> None:
    request = bench.request(amount="80.00")
    refused = (await bench.payments.CreatePayment(request)).payment
    assert status(refused) == "REFUSED"
    again = await bench.payments.CreatePayment(request)
    assert again.repeated and again.payment == refused, "nothing has changed"
    await bench.configure(WALLET)
    short = await bench.payments.CreatePayment(request)
    assert status(short.payment) == "REFUSED"
    assert [i.code for i in short.payment.context.validation_errors] == [
        "REFUSED_BEFORE",
        "PLAN_NOT_COVERED",
    ]
    await bench.configure(WALLET, CARD, **IN_TURN)
    paid = await bench.payments.CreatePayment(request)
    assert status(paid.payment) == "SUCCEEDED"
    assert not paid.repeated
    assert paid.payment.payment_id == refused.payment_id
    assert paid.payment.config_version == 2
    history = [(i.code, i.message) for i in paid.payment.context.validation_errors]
    assert [code for code, _ in history] == ["REFUSED_BEFORE"] * 2
    assert "no configuration: MERCHANT_NOT_CONFIGURED" in history[0][1]
    assert "configuration version 1: PLAN_NOT_COVERED" in history[1][1]
    last = await bench.payments.CreatePayment(request)
    assert last.repeated and last.payment == paid.payment
    assert bench.net_at_processors() == 8000
    other = bench.request(key=request.request_id, amount="80.01")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await bench.payments.CreatePayment(other)
    assert reason(error.value) == "REQUEST_ID_REUSED"


async def test_many_at_once_plan_a_refused_payment_again_once(bench: Bench) -> None:
    request = bench.request()
    await bench.payments.CreatePayment(request)
    await bench.configure(CARD)
    answers = await asyncio.gather(*(bench.payments.CreatePayment(request) for _ in range(8)))
    assert {status(answer.payment) for answer in answers} <= {"SUCCEEDED", "PENDING"}
    assert [answer.repeated for answer in answers].count(False) == 1
    assert bench.net_at_processors() == 5684
    assert len(bench.subjects()) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"amount": "12.5.0"},
        {"amount": None},
        {"currency": "XXQ"},
        {"amount_minor": 10**17, "amount": None},
        {"payment_methods": "card"},
    ],
)
async def test_a_refusal_of_the_request_itself_stands(bench: Bench, fields: dict[str, Any]) -> None:
    request = bench.request(**fields)
    refused = (await bench.payments.CreatePayment(request)).payment
    assert status(refused) == "REFUSED"
    await bench.configure(CARD)
    again = await bench.payments.CreatePayment(request)
    assert again.repeated and again.payment == refused


async def test_the_same_key_with_another_body_is_refused(bench: Bench) -> None:
    await bench.configure(CARD)
    key = str(uuid.uuid4())
    await bench.pay(key)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bench.pay(key, amount="1.00")
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert reason(refused.value) == "REQUEST_ID_REUSED"
    assert bench.net_at_processors() == 5684


async def test_many_at_once_with_one_key_charge_once(bench: Bench) -> None:
    await bench.configure(WALLET, CARD_WITH_FALLBACK, **IN_TURN)
    request = bench.request()
    answers = await asyncio.gather(*(bench.payments.CreatePayment(request) for _ in range(10)))
    assert {answer.payment.payment_id for answer in answers} == {answers[0].payment.payment_id}
    assert {status(answer.payment) for answer in answers} == {"SUCCEEDED"}
    assert bench.net_at_processors() == 5684
    assert bench.subjects().count("payment.received") == 1


async def test_without_any_key_the_body_stands_for_itself(bench: Bench) -> None:
    await bench.configure(CARD)
    first = await bench.pay("")
    again = await bench.pay("")
    other = await bench.pay("", amount="1.00")
    assert first.payment_id == again.payment_id != other.payment_id
    assert [i.code for i in first.context.validation_errors] == ["MISSING_IDEMPOTENCY_KEY"]
    assert bench.net_at_processors() == 5684 + 100


async def test_an_odd_key_is_mapped_and_reported(bench: Bench) -> None:
    await bench.configure(CARD)
    first = await bench.pay("order 1, second try")
    assert status(first) == "SUCCEEDED"
    assert [i.code for i in first.context.validation_errors] == ["ODD_IDEMPOTENCY_KEY"]
    request = bench.request("")
    by_header = await bench.payments.CreatePayment(
        request, metadata=(("idempotency-key", "order 1, second try"),)
    )
    assert by_header.payment.payment_id == first.payment_id
    assert bench.net_at_processors() == 5684


async def test_header_and_field_must_not_differ(bench: Bench) -> None:
    await bench.configure(CARD)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bench.payments.CreatePayment(
            bench.request(), metadata=(("idempotency-key", str(uuid.uuid4())),)
        )
    assert reason(refused.value) == "IDEMPOTENCY_KEY_MISMATCH"


async def test_a_key_in_the_body_counts(bench: Bench) -> None:
    await bench.configure(CARD)
    first = await bench.pay("", idempotency_key="invoice-77")
    assert [i.code for i in first.context.validation_errors] == []
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bench.pay("", idempotency_key="invoice-77", amount="1.00")
    assert reason(refused.value) == "REQUEST_ID_REUSED"


# ---- messy input


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "EMPTY_REQUEST"),
        (b"\xff\xfe\x00", "MALFORMED_JSON"),
        (b'{"amount": ', "MALFORMED_JSON"),
        (b"[" * 100_000, "NESTED_TOO_DEEP"),
        (b"[1]", "NOT_AN_OBJECT"),
        (b'{"merchant_id":"acme","currency":"USD","amount":NaN}', "AMOUNT_NOT_A_NUMBER"),
        (
            b'{"merchant_id":"acme","currency":"USD","amount":"1.00","amount":"2.00"}',
            "DUPLICATE_FIELD",
        ),
        (b'{"merchant_id":"acme","currency":"USD","amount":90071992547409.93}', "AMOUNT_AMBIGUOUS"),
        (b'{"merchant_id":"acme","currency":"XXQ","amount":"1.00"}', "UNKNOWN_CURRENCY"),
        (b'{"currency":"USD","amount":"1.00"}', "MISSING"),
        (b'{"merchant_id":"nobody","currency":"USD","amount":"1.00"}', "MERCHANT_NOT_CONFIGURED"),
        (
            b'{"merchant_id":"acme","currency":"EUR","amount":"1.00","method":"wallet"}',
            "PLAN_NOT_COVERED",
        ),
    ],
)
async def test_what_is_in_doubt_is_stored_as_refused(bench: Bench, raw: bytes, code: str) -> None:
    await bench.configure(WALLET, CARD, **IN_TURN)
    request = service_pb.CreatePaymentRequest(raw_request=raw, request_id=str(uuid.uuid4()))
    payment = (await bench.payments.CreatePayment(request)).payment
    assert status(payment) == "REFUSED"
    errors = [
        issue.code
        for issue in payment.context.validation_errors
        if issue.severity == pb.ISSUE_SEVERITY_ERROR
    ]
    assert code in errors
    assert not payment.HasField("plan")
    assert await bench.get(payment.payment_id) == payment
    assert (await bench.payments.CreatePayment(request)).payment == payment
    assert bench.net_at_processors() == 0
    assert bench.subjects() == []
    reported = bench.rows(
        "SELECT 1 FROM mesh.event WHERE tenant_id = %(tenant)s AND subject = 'contract.violated'"
    )
    assert len(reported) == len(payment.context.validation_errors)


async def test_a_struct_reads_like_the_bytes(bench: Bench) -> None:
    await bench.configure(CARD)

    def request(**fields: Any) -> service_pb.CreatePaymentRequest:
        body = {
            "merchant_id": "acme",
            "order_id": "o",
            "person_id": "p",
            "currency": "USD",
        } | fields
        return service_pb.CreatePaymentRequest(
            external_request=json_format.ParseDict(body, struct_pb2.Struct()),
            request_id=str(uuid.uuid4()),
        )

    paid = (await bench.payments.CreatePayment(request(amount_minor=5684))).payment
    assert (status(paid), paid.context.amount_cents) == ("SUCCEEDED", 5684)
    doubtful = (await bench.payments.CreatePayment(request(amount=90071992547409.93))).payment
    assert status(doubtful) == "REFUSED"
    infinite = request()
    infinite.external_request.fields["amount"].number_value = float("inf")
    assert status((await bench.payments.CreatePayment(infinite)).payment) == "REFUSED"


NUMBER = "4242424242424242"
DOTTED = "4242.4242.4242.4242"


def traces(bench: Bench) -> str:
    """Everything that is stored of a tenant: payments, configurations, audit, events, violations."""
    tables = bench.rows(
        "SELECT format('%%I.%%I', table_schema, table_name) AS name FROM information_schema.columns"
        " JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE column_name = 'tenant_id' AND table_type = 'BASE TABLE'"
    )
    everything = []
    for table in tables:
        everything += bench.rows(f"SELECT * FROM {table['name']} WHERE tenant_id = %(tenant)s")
    assert everything
    return "".join(
        bytes(value).decode("latin-1") if isinstance(value, bytes | memoryview) else str(value)
        for row in everything
        for value in row.values()
    )


@pytest.mark.parametrize("written", [NUMBER, f"order-{NUMBER}", DOTTED, "4242_4242_4242_4242"])
async def test_card_numbers_in_ids_leave_no_trace(bench: Bench, written: str) -> None:
    await bench.configure(CARD)
    request = bench.request(
        order_id=written, person_id=written, org_id=written, metadata={written: written}
    )
    answer = await bench.payments.CreatePayment(
        request, metadata=(("x-request-id", written), ("x-correlation-id", written))
    )
    paid = answer.payment
    assert status(paid) == "SUCCEEDED"
    assert (paid.order_id, paid.person_id, paid.org_id) == (paid.payment_id, "anonymous", "")
    assert [i.code for i in paid.context.validation_errors] == ["CARD_DATA"] * 5
    assert (await bench.payments.CreatePayment(request)).payment == paid
    assert bench.net_at_processors() == 5684
    kept = traces(bench)
    assert paid.payment_id in kept
    assert written not in kept
    assert NUMBER not in kept
    assert written not in str(paid)


async def test_card_numbers_leave_no_trace(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(
        method="card",
        token=NUMBER,
        card_number=NUMBER,
        metadata={"note": f"card {NUMBER}", NUMBER: "x"},
        **{f"note {DOTTED}": "x", f"{'x' * 55}{NUMBER}": "x"},
    )
    assert status(payment) == "REFUSED"
    paid_to = await bench.pay(merchant_id=f"m-{NUMBER}")
    assert (status(paid_to), paid_to.merchant_id) == ("REFUSED", "")
    by_method = await bench.pay(method=f"card_{NUMBER}")
    assert status(by_method) == "REFUSED"
    kept = traces(bench)
    for text in (kept, str(payment), str(paid_to), str(by_method)):
        assert "42424242" not in text
        assert DOTTED not in text
    assert bench.net_at_processors() == 0


async def test_a_key_that_is_a_card_number_charges_nothing(bench: Bench) -> None:
    await bench.configure(CARD)
    refused = await bench.pay(NUMBER)
    assert status(refused) == "REFUSED"
    assert [i.code for i in refused.context.validation_errors] == ["CARD_DATA"]
    assert (await bench.pay(NUMBER)).payment_id == refused.payment_id
    by_header = await bench.payments.CreatePayment(
        bench.request(""), metadata=(("idempotency-key", DOTTED),)
    )
    assert by_header.payment.payment_id == refused.payment_id
    kept = traces(bench)
    assert NUMBER not in kept
    assert DOTTED not in kept
    # With a key as it should be, and the same body, it is paid.
    assert status(await bench.pay()) == "SUCCEEDED"
    assert bench.net_at_processors() == 5684


async def test_numbers_that_are_no_cards_are_kept(bench: Bench) -> None:
    await bench.configure(CARD)
    paid = await bench.pay(
        order_id="1764363194002", person_id="8415698462516992", metadata={"at": 1764363194002}
    )
    assert (paid.order_id, paid.person_id) == ("1764363194002", "8415698462516992")
    assert dict(paid.context.metadata) == {"at": "1764363194002"}
    assert not paid.context.validation_errors


async def test_places_that_the_currency_does_not_have_charge_nothing(bench: Bench) -> None:
    await bench.configure(CARD)
    for currency, amount in (("EUR", "1.080"), ("JPY", "1.000"), ("VND", "250.000")):
        refused = await bench.pay(currency=currency, amount=amount)
        assert status(refused) == "REFUSED"
        assert [i.code for i in refused.context.validation_errors] == ["AMOUNT_AMBIGUOUS"]
    limited = await bench.pay(payment_methods=[{"method": "card", "max_amount": "56.840"}])
    assert status(limited) == "REFUSED"
    assert bench.net_at_processors() == 0


async def test_absent_optional_fields_are_no_violation(bench: Bench) -> None:
    await bench.configure(CARD)
    raw = b"""{"merchant_id": "acme", "currency": "USD", "amount": null, "amount_minor": 5684,
        "method": null, "payment_methods": [], "metadata": null, "person_id": null}"""
    request = service_pb.CreatePaymentRequest(raw_request=raw, request_id=str(uuid.uuid4()))
    paid = (await bench.payments.CreatePayment(request)).payment
    assert status(paid) == "SUCCEEDED"
    assert (paid.order_id, paid.person_id) == (paid.payment_id, "anonymous")
    assert not paid.context.validation_errors
    assert not bench.rows(
        "SELECT 1 FROM mesh.event WHERE tenant_id = %(tenant)s AND subject = 'contract.violated'"
    )


# ---- deadlines


async def test_a_short_deadline_answers_pending_and_the_work_goes_on(bench: Bench) -> None:
    await bench.configure(CARD)
    request = bench.request()
    with_token = json.loads(request.raw_request) | {"method": "card", "token": "tok_slow"}
    request.raw_request = json.dumps(with_token).encode()
    answer = await bench.payments.CreatePayment(request, timeout=0.6)
    assert status(answer.payment) == "PENDING"
    for _ in range(50):
        payment = await bench.get(answer.payment.payment_id)
        if status(payment) != "PENDING":
            break
        await asyncio.sleep(0.1)
    assert status(payment) == "SUCCEEDED"
    assert bench.net_at_processors() == 5684


async def test_a_processor_slower_than_the_policy_is_asked_not_repeated(bench: Bench) -> None:
    await bench.configure(CARD, timeouts={"call_timeout": timedelta(seconds=0.5)})
    payment = await bench.pay(method="card", token="tok_slow")
    assert (status(payment), step_statuses(payment)) == ("SUCCEEDED", ["SUCCEEDED"])
    assert bench.net_at_processors() == 5684
    reported = bench.rows(
        "SELECT payload FROM mesh.event WHERE tenant_id = %(tenant)s AND subject = 'contract.violated'"
    )
    assert [b"router/timeout" in bytes(row["payload"]) for row in reported] == [True]


# ---- processors that misbehave


async def test_an_answer_about_another_amount_is_no_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.configure(CARD)
    honest = SandboxProcessor.ask

    async def ask(self: SandboxProcessor, operation: Operation, order: Order) -> Verdict:
        answer = await honest(self, operation, order)
        assert isinstance(answer, Settled)
        return replace(answer, amount_minor=order.amount_minor + 1)

    with monkeypatch.context() as lying:
        lying.setattr(SandboxProcessor, "ask", ask)
        payment = await bench.pay()
    # The answer was not believed; the books, asked afterwards, were.
    assert (status(payment), step_statuses(payment)) == ("SUCCEEDED", ["SUCCEEDED"])
    reported = bench.rows(
        "SELECT payload FROM mesh.event WHERE tenant_id = %(tenant)s AND subject = 'contract.violated'"
    )
    (violation,) = [bytes(row["payload"]) for row in reported]
    assert b"orchestration/processor-integrity" in violation
    assert b"CRITICAL" in violation


async def test_books_that_lie_leave_the_outcome_unknown(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.configure(CARD)

    async def lookup(self: SandboxProcessor, inquiry: Inquiry) -> Settled:
        return Settled(True, "ref", 1, "USD", inquiry.merchant_ref)

    with monkeypatch.context() as lying:
        lying.setattr(SandboxProcessor, "lookup", lookup)
        payment = await bench.pay(method="card", token="tok_timeout")
        await bench.later(2)
        payment = await bench.get(payment.payment_id)
        assert (status(payment), step_statuses(payment)) == ("RESOLVING", ["UNKNOWN"])
    await bench.later(10)
    assert status(await bench.get(payment.payment_id)) == "SUCCEEDED"


async def test_an_adapter_that_raises_leaves_the_outcome_unknown(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.configure(CARD)

    async def broken(self: SandboxProcessor, *asked: object) -> Verdict:
        raise RuntimeError("a fault of the adapter")

    with monkeypatch.context() as patched:
        patched.setattr(SandboxProcessor, "ask", broken)
        patched.setattr(SandboxProcessor, "lookup", broken)
        payment = await bench.pay()
    assert (status(payment), step_statuses(payment)) == ("RESOLVING", ["UNKNOWN"])
    for _ in range(4):
        await bench.later(40)
    payment = await bench.get(payment.payment_id)
    assert (status(payment), step_statuses(payment)) == ("SUCCEEDED", ["NOT_CHARGED", "SUCCEEDED"])
    assert bench.net_at_processors() == 5684


async def test_a_processor_that_never_tells_is_reported_and_asked_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.configure(CARD)

    async def silent(self: SandboxProcessor, inquiry: Inquiry) -> Unknown:
        return Unknown("timeout")

    with monkeypatch.context() as patched:
        patched.setattr(SandboxProcessor, "lookup", silent)
        no_replay = Capabilities(timedelta(seconds=1))
        patched.setattr(SandboxProcessor, "capabilities", property(lambda self: no_replay))
        payment = await bench.pay(method="card", token="tok_timeout")
        for _ in range(10):
            await bench.later(4000)
        payment = await bench.get(payment.payment_id)
        assert (status(payment), step_statuses(payment)) == ("RESOLVING", ["UNKNOWN"])
    reported = bench.rows(
        "SELECT payload FROM mesh.event WHERE tenant_id = %(tenant)s AND subject = 'contract.violated'"
    )
    unknown = [row for row in reported if b"orchestration/unknown-outcome" in bytes(row["payload"])]
    assert len(unknown) == 1, "told once, not at every question"
    await bench.later(4000)
    assert status(await bench.get(payment.payment_id)) == "SUCCEEDED"


# ---- the limit of an order


def within(minor_units: int, currency_code: str = "USD", **fields: Any) -> Any:
    """A payment of 56.84 for one order, with what all payments of that order may take."""
    request = Bench.request(**{"order_id": "o-limited", **fields})
    request.order_limit.currency_code, request.order_limit.minor_units = currency_code, minor_units
    return request


async def test_payments_at_once_never_take_more_than_their_order_may(bench: Bench) -> None:
    await bench.configure(CARD)
    requests = [within(3 * 5684 + 100) for _ in range(8)]
    answers = await asyncio.gather(
        *map(bench.payments.CreatePayment, requests), return_exceptions=True
    )
    paid = [each.payment for each in answers if not isinstance(each, BaseException)]
    assert [status(each) for each in paid] == ["SUCCEEDED"] * 3
    refused = [each for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert {reason(each) for each in refused} == {"ORDER_LIMIT_EXCEEDED"}
    assert len(refused) == 5
    assert bench.net_at_processors() == 3 * 5684
    stored = bench.rows("SELECT 1 FROM orchestration.payment WHERE tenant_id = %(tenant)s")
    assert len(stored) == 3, "what is refused leaves nothing"
    # A repeat is answered whatever is open; what was refused may be asked again.
    pairs = list(zip(requests, answers, strict=True))
    done = next(asked for asked, answer in pairs if not isinstance(answer, BaseException))
    done.order_limit.minor_units = 1
    assert (await bench.payments.CreatePayment(done)).repeated
    late = next(asked for asked, answer in pairs if isinstance(answer, grpc.aio.AioRpcError))
    late.order_limit.minor_units = 4 * 5684
    assert status((await bench.payments.CreatePayment(late)).payment) == "SUCCEEDED"


async def test_an_end_is_never_seen_without_what_was_charged(bench: Bench) -> None:
    await bench.configure(CARD)
    payment_id = (await bench.pay()).payment_id
    of_payment = "WHERE tenant_id = %s AND payment_id = %s"
    where = (bench.tenant_id, payment_id)
    bench.execute(
        "UPDATE orchestration.payment SET status = 'PENDING' WHERE tenant_id = %(tenant)s"
    )
    bench.execute(
        "UPDATE orchestration.attempt SET status = 'SENT', settled_at = NULL WHERE tenant_id = %(tenant)s"
    )
    waiting = (
        "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'orchestration.payment'::regclass"
    )
    call = CallContext(bench.tenant_id, "test", frozenset(), "r", "c")
    unit_of_work = bench.mesh.node.database.unit_of_work
    async with await psycopg.AsyncConnection.connect(bench.urls.owner_admin) as other:
        await other.execute("LOCK TABLE orchestration.payment IN ACCESS EXCLUSIVE MODE")
        with acting(call):
            async with unit_of_work("orchestration.accept") as work:
                loading = asyncio.create_task(store.load(work, [payment_id]))
                while not bench.rows(waiting):
                    assert not loading.done()
                    await asyncio.sleep(0.01)
                for change in (
                    "attempt SET status = 'SUCCEEDED', settled_at = now()",
                    "payment SET status = 'SUCCEEDED'",
                ):
                    await other.execute(
                        f"UPDATE orchestration.{change} {of_payment}".encode(), where
                    )
                await other.commit()
                (loaded,) = await loading
    assert (loaded.status.value, loaded.taken_minor) == ("SUCCEEDED", 5684)


async def test_what_is_under_way_counts_and_what_failed_does_not(bench: Bench) -> None:
    await bench.configure(CARD)
    failed = await bench.payments.CreatePayment(within(5684, method="card", token="tok_decline"))
    assert status(failed.payment) == "FAILED"
    slow = within(5684, method="card", token="tok_slow")
    begun = (await bench.payments.CreatePayment(slow, timeout=0.6)).payment
    assert status(begun) == "PENDING"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bench.payments.CreatePayment(within(2 * 5684 - 1))
    assert reason(refused.value) == "ORDER_LIMIT_EXCEEDED"
    assert "has 5683 minor units of USD open, not 5684" in str(refused.value.details())
    other = within(5684, order_id="o-other")
    assert status((await bench.payments.CreatePayment(other)).payment) == "SUCCEEDED"
    with pytest.raises(grpc.aio.AioRpcError) as odd:
        await bench.payments.CreatePayment(within(10**9, currency_code="EUR"))
    assert (odd.value.code(), reason(odd.value)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
    )
