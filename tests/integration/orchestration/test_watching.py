"""A payment is followed while others work on it, until nothing is left to do."""

from __future__ import annotations

import asyncio
import uuid
from itertools import pairwise
from typing import Any

import grpc
import pytest
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from services.orchestration.app import watching

from .conftest import CARD, Bench, reason, status, step_statuses

MUTE = {"method": "card", "processor_id": "sandbox-card-mute"}


async def watched(bench: Bench, payment_id: str) -> list[pb.Payment]:
    request = service_pb.WatchPaymentRequest(payment_id=payment_id)
    return [answer.payment async for answer in bench.payments.WatchPayment(request)]


async def test_a_payment_at_rest_is_told_once(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(method="card")
    (told,) = await watched(bench, payment.payment_id)
    assert told == await bench.get(payment.payment_id)
    refused = await bench.pay(order_id="unread", merchant_id="nobody")
    assert [status(each) for each in await watched(bench, refused.payment_id)] == ["REFUSED"]
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await watched(bench, "pay_unknown")
    assert reason(unknown.value) == "NOT_FOUND"


async def test_each_change_is_told_until_nothing_is_left_to_do(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(method="card", token="tok_timeout_books_late@sandbox-card")
    assert status(payment) == "RESOLVING"
    following = asyncio.ensure_future(watched(bench, payment.payment_id))
    await asyncio.sleep(0.2)
    assert not following.done()
    for _ in range(6):
        await bench.later(10)
    told = await asyncio.wait_for(following, 10)
    assert [status(told[0]), status(told[-1])] == ["RESOLVING", "SUCCEEDED"]
    assert all(one != other for one, other in pairwise(told))


async def test_what_waits_for_an_operator_ends_the_stream(bench: Bench) -> None:
    await bench.configure(MUTE)
    payment = await bench.pay(method="card", token="tok_timeout")
    await bench.later(10)
    told = await asyncio.wait_for(watched(bench, payment.payment_id), 10)
    assert (status(told[-1]), step_statuses(told[-1])) == ("RESOLVING", ["MANUAL"])


async def test_so_many_are_followed_at_once_and_a_long_one_ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(method="card", token="tok_timeout_books_late@sandbox-card")
    request = service_pb.WatchPaymentRequest(payment_id=payment.payment_id)
    calls: list[Any] = [
        bench.payments.WatchPayment(request) for _ in range(watching.WATCHES_OF_TENANT_MAX)
    ]
    for call in calls:
        assert status((await call.read()).payment) == "RESOLVING"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await watched(bench, payment.payment_id)
    assert reason(refused.value) == "OVERLOADED"
    for call in calls:
        call.cancel()
    monkeypatch.setattr(watching, "WATCH_SECONDS_MAX", 0.3)
    for _ in range(100):
        try:
            told = await watched(bench, payment.payment_id)
            break
        except grpc.aio.AioRpcError as error:
            assert reason(error) == "OVERLOADED"
            await asyncio.sleep(0.05)
    assert [status(each) for each in told] == ["RESOLVING"], "it ends, though nothing is settled"


async def test_an_instruction_is_followed_to_its_end(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(method="card", token="tok_refund_timeout")
    refund = service_pb.RefundPaymentRequest(
        payment_id=payment.payment_id, request_id=str(uuid.uuid4())
    )
    await bench.payments.RefundPayment(refund)
    following = asyncio.ensure_future(watched(bench, payment.payment_id))
    for _ in range(4):
        await bench.later(10)
    told = await asyncio.wait_for(following, 10)
    assert told[-1].instructions[0].status == pb.INSTRUCTION_STATUS_SUCCEEDED
