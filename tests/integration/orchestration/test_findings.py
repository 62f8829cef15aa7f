"""Outcomes that an operator finds out, and words of processors that come late, beside the processors' own books."""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from datetime import timedelta
from typing import Any

import grpc
import pytest
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from services.orchestration.adapters.sandbox import SandboxProcessor
from services.orchestration.domain.findings import Heard, Told, Word
from services.orchestration.domain.instructions import PaymentUnderWay
from services.orchestration.domain.operations import Operation
from services.orchestration.ports import Order, Unknown, Verdict
from services.runtime.context import CallContext, acting
from services.runtime.errors import NotFound

from .conftest import CARD, IN_TURN, WALLET, Bench, reason, status, step_statuses

TOTAL = 5684
MUTE = {"method": "card", "processor_id": "sandbox-card-mute"}


def verdict(
    attempt_id: str, said: pb.Verdict.ValueType, **fields: Any
) -> service_pb.ResolveAttemptRequest:
    fields = {"request_id": str(uuid.uuid4()), "evidence": "their books of today"} | fields
    return service_pb.ResolveAttemptRequest(attempt_id=attempt_id, verdict=said, **fields)


async def manual(bench: Bench, **fields: Any) -> pb.Payment:
    """A payment whose outcome nothing proves."""
    await bench.configure(MUTE)
    payment = await bench.pay(**{"method": "card", "token": "tok_timeout", **fields})
    assert step_statuses(payment) == ["UNKNOWN"]
    await bench.later(10)
    return await bench.get(payment.payment_id)


def violations(bench: Bench, contract: str) -> int:
    rows = bench.rows(
        "SELECT payload FROM mesh.event WHERE tenant_id = %(tenant)s AND subject = 'contract.violated'"
    )
    return sum(contract.encode() in bytes(row["payload"]) for row in rows)


async def tell(bench: Bench, word: Word, attempt: pb.Attempt) -> Told:
    call = CallContext(
        tenant_id=bench.tenant_id,
        principal_id="test",
        scopes=frozenset(),
        correlation_id="c",
        request_id=str(uuid.uuid4()),
    )
    heard = Heard(word, attempt.attempt_id, attempt.amount.minor_units, "USD", "ref-of-a-webhook")
    assert bench.apply is not None
    with acting(call):
        found = await bench.apply(heard)
    (row,) = bench.rows(
        "SELECT payment_id FROM orchestration.attempt WHERE tenant_id = %(tenant)s AND attempt_id = %(id)s",
        id=attempt.attempt_id,
    )
    await bench.runs.wait(bench.tenant_id, row["payment_id"], 5)
    return found


# ---- an operator's verdict


async def test_what_nothing_proves_waits_for_an_operator(bench: Bench) -> None:
    payment = await manual(bench)
    assert (status(payment), step_statuses(payment)) == ("RESOLVING", ["MANUAL"])
    assert violations(bench, "orchestration/manual-outcome") == 1
    await bench.later(100_000)
    assert await bench.get(payment.payment_id) == payment, (
        "no other processor, and no more questions"
    )
    request = verdict(payment.attempts[0].attempt_id, pb.VERDICT_SUCCEEDED)
    answers = [await bench.payments.ResolveAttempt(request) for _ in range(2)]
    assert [status(each.payment) for each in answers] == ["SUCCEEDED"] * 2
    assert answers[0].attempt.evidence == "their books of today"
    assert answers[0].attempt.resolved_by
    assert bench.net_at_processors() == TOTAL
    assert bench.subjects().count("payment.received") == 1
    (entry,) = bench.rows(
        "SELECT entity_id, before, after FROM mesh.audit WHERE tenant_id = %(tenant)s"
        " AND entity = 'payment_attempt'"
    )
    assert entry["entity_id"] == payment.attempts[0].attempt_id
    assert "their books of today" in str(entry["after"])


async def test_what_was_not_charged_fails_and_charges_nobody_days_later(bench: Bench) -> None:
    payment = await manual(bench, token="tok_timeout_not_charged")
    request = verdict(payment.attempts[0].attempt_id, pb.VERDICT_NOT_CHARGED)
    answer = await bench.payments.ResolveAttempt(request)
    assert (status(answer.payment), step_statuses(answer.payment)) == ("FAILED", ["NOT_CHARGED"])
    assert bench.subjects().count("payment.failed") == 1
    assert bench.net_at_processors() == 0


async def test_a_verdict_that_nobody_waits_for_is_refused(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay()
    for attempt_id, expected in (
        (payment.attempts[0].attempt_id, "ATTEMPT_NOT_MANUAL"),
        ("att_unknown", "NOT_FOUND"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await bench.payments.ResolveAttempt(verdict(attempt_id, pb.VERDICT_SUCCEEDED))
        assert reason(refused.value) == expected


async def test_of_different_verdicts_at_once_one_holds(bench: Bench) -> None:
    """Two operators, or twenty, who found out different things: the first is taken, the others are told that it was."""
    payment = await manual(bench)
    (attempt,) = payment.attempts
    said = [pb.VERDICT_SUCCEEDED, pb.VERDICT_NOT_CHARGED] * 10
    requests = [verdict(attempt.attempt_id, each) for each in said]

    async def give(request: service_pb.ResolveAttemptRequest) -> str:
        try:
            return status((await bench.payments.ResolveAttempt(request)).payment)
        except grpc.aio.AioRpcError as refused:
            return reason(refused)

    answers = await asyncio.gather(*map(give, requests))
    after = await bench.get(payment.payment_id)
    assert status(after) in ("SUCCEEDED", "FAILED")
    (taken,) = (place for place, answer in enumerate(answers) if answer == status(after))
    assert set(answers) == {status(after), "ATTEMPT_NOT_MANUAL"}
    assert (
        bench.subjects().count("payment.received") + bench.subjects().count("payment.failed") == 1
    )
    audited = bench.rows(
        "SELECT after ->> 'verdict' AS verdict FROM mesh.audit"
        " WHERE tenant_id = %(tenant)s AND entity = 'payment_attempt'"
    )
    assert [each["verdict"] for each in audited] == [
        pb.Verdict.Name(said[taken]).removeprefix("VERDICT_")
    ]
    assert await give(requests[taken]) == status(after), "its answer was lost: it is given again"
    assert await give(requests[1 - taken % 2]) == "ATTEMPT_NOT_MANUAL"


async def test_a_wrong_verdict_is_put_right_by_the_processor(bench: Bench) -> None:
    payment = await manual(bench)
    (attempt,) = payment.attempts
    await bench.payments.ResolveAttempt(verdict(attempt.attempt_id, pb.VERDICT_NOT_CHARGED))
    assert bench.net_at_processors() == TOTAL, "it was charged all the same"
    await tell(bench, Word.DONE, attempt)
    await bench.later(1)
    after = await bench.get(payment.payment_id)
    assert (status(after), step_statuses(after)) == ("FAILED", ["REVERSED", "SUCCEEDED"])
    assert bench.net_at_processors() == 0
    assert violations(bench, "orchestration/late-charge") == 1
    assert bench.subjects().count("payment.failed") == 1
    assert "payment.received" not in bench.subjects()


async def test_a_refund_that_nothing_proves_keeps_others_away(bench: Bench) -> None:
    await bench.configure(MUTE)
    payment = await bench.pay(method="card", token="tok_refund_timeout")
    request = service_pb.RefundPaymentRequest(
        payment_id=payment.payment_id, request_id=str(uuid.uuid4())
    )
    await bench.payments.RefundPayment(request)
    await bench.later(10)
    after = await bench.get(payment.payment_id)
    assert step_statuses(after) == ["SUCCEEDED", "MANUAL"]
    assert after.instructions[0].status == pb.INSTRUCTION_STATUS_PENDING
    assert after.amounts.refundable.minor_units == 0
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bench.payments.RefundPayment(
            service_pb.RefundPaymentRequest(
                payment_id=payment.payment_id, request_id=str(uuid.uuid4())
            )
        )
    assert reason(refused.value) == "PAYMENT_AWAITS_VERDICT"
    answer = await bench.payments.ResolveAttempt(
        verdict(after.attempts[1].attempt_id, pb.VERDICT_SUCCEEDED)
    )
    assert answer.payment.instructions[0].status == pb.INSTRUCTION_STATUS_SUCCEEDED
    assert bench.net_at_processors() == 0


# ---- the same key again


async def test_an_unknown_outcome_is_found_out_by_the_same_key(bench: Bench) -> None:
    """The processor cannot be asked, but knows its keys: the repeat gets the answer that was lost."""
    await bench.configure({"method": "card", "processor_id": "sandbox-card-keyed"})
    payment = await bench.pay(method="card", token="tok_timeout")
    await bench.later(10)
    payment = await bench.get(payment.payment_id)
    assert (status(payment), step_statuses(payment)) == ("SUCCEEDED", ["SUCCEEDED"])
    assert bench.net_at_processors() == TOTAL
    (row,) = bench.rows(
        "SELECT replayed_at >= sent_at AS after FROM orchestration.attempt WHERE tenant_id = %(tenant)s"
    )
    assert row["after"], "marked before it is sent again"


async def test_no_key_is_sent_again_once_it_may_be_forgotten(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond its lifetime the same key could charge a second time: what is unknown then is for an operator."""
    await bench.configure({"method": "card", "processor_id": "sandbox-card-keyed"})
    sent: dict[str, set[str]] = defaultdict(set)

    async def lost(self: SandboxProcessor, operation: Operation, order: Order) -> Verdict:
        sent[order.merchant_ref].add(order.idempotency_key)
        return Unknown("timeout")

    monkeypatch.setattr(SandboxProcessor, "ask", lost)
    payment = await bench.pay()
    for _ in range(60):
        await bench.later(3700)
    (attempt,) = (await bench.get(payment.payment_id)).attempts
    assert len(sent[attempt.attempt_id]) == 1, "one key, one processor"
    (row,) = bench.rows(
        "SELECT sent_at, replayed_at FROM orchestration.attempt WHERE tenant_id = %(tenant)s"
    )
    assert row["replayed_at"] - row["sent_at"] < timedelta(hours=24)
    payment = await bench.get(payment.payment_id)
    assert (status(payment), step_statuses(payment)) == ("RESOLVING", ["MANUAL"])


# ---- late words


async def test_a_late_success_goes_back_by_itself(bench: Bench) -> None:
    """It had counted as not charged, and another attempt has paid: what came too late is given back, and no more."""
    await bench.configure(CARD)
    payment = await bench.pay(method="card", token="tok_timeout_not_charged@sandbox-card")
    for _ in range(6):
        await bench.later(10)
    payment = await bench.get(payment.payment_id)
    first = payment.attempts[0]
    assert step_statuses(payment)[0] == "NOT_CHARGED"
    before = len(payment.attempts)
    bench.execute(
        "INSERT INTO orchestration.sandbox_order (tenant_id, processor_id, idempotency_key, merchant_ref, operation,"
        " charge_key, amount_minor, currency, token, done, error_code, failure_code, retryable, provider_ref, message)"
        " SELECT tenant_id, processor_id, idempotency_key, attempt_id, operation, '', amount_minor, 'USD', '', true,"
        " '', '', false, 'late', 'approved' FROM orchestration.attempt"
        " WHERE tenant_id = %(tenant)s AND attempt_id = %(id)s",
        id=first.attempt_id,
    )
    kept = bench.net_at_processors() - first.amount.minor_units
    for _ in range(3):
        await tell(bench, Word.DONE, first)
        await bench.later(1)
    after = await bench.get(payment.payment_id)
    assert status(after) == status(payment)
    assert step_statuses(after)[0] == "REVERSED"
    assert len(after.attempts) == before + 1, "one refund, however often it is told"
    assert bench.net_at_processors() == kept == after.result.total_processed.minor_units
    assert violations(bench, "orchestration/late-charge") == 1


async def test_a_word_ends_a_payment_whose_outcome_is_unknown(bench: Bench) -> None:
    capped = {**MUTE, "max_amount": WALLET["max_amount"]}
    await bench.configure(capped, {**CARD, "method": "bank"}, **IN_TURN)
    methods = [{"method": "card", "token": "tok_timeout"}, {"method": "bank"}]
    payment = await bench.pay(payment_methods=methods)
    assert (status(payment), step_statuses(payment)) == ("RESOLVING", ["UNKNOWN"])
    told = await tell(bench, Word.DONE, payment.attempts[0])
    assert told.attempt is not None
    again = await tell(bench, Word.DONE, payment.attempts[0])
    assert again.attempt is None
    await bench.later(1)
    payment = await bench.get(payment.payment_id)
    assert (status(payment), step_statuses(payment)) == ("SUCCEEDED", ["SUCCEEDED"] * 2)
    assert bench.net_at_processors() == TOTAL


async def test_a_word_waits_for_a_worker_that_is_at_the_payment(bench: Bench) -> None:
    await bench.configure(MUTE)
    payment = await bench.pay(method="card", token="tok_timeout")
    bench.execute(
        "UPDATE orchestration.payment SET lease_owner = 'other', lease_until = now() + interval '1 minute'"
        " WHERE tenant_id = %(tenant)s"
    )
    with pytest.raises(PaymentUnderWay):
        await tell(bench, Word.DONE, payment.attempts[0])
    nobodys = pb.Attempt(attempt_id="att_nobodys")
    with pytest.raises(NotFound):
        await tell(bench, Word.DONE, nobodys)
