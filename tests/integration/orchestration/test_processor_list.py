"""Which processors a merchant may name, and how each has fared."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from services.orchestration.domain.breaker import FAULTS_TO_OPEN
from services.runtime.postgres.roles import DatabaseUrls

from .conftest import CARD, Bench, reason, serving

OWN = {"processor_id": "till-1", "adapter": "sandbox"}


async def health(
    bench: Bench, processor_id: str, window_s: int = 0, merchant_id: str = ""
) -> pb.ProcessorHealth:
    request = service_pb.GetProcessorHealthRequest(
        processor_id=processor_id, merchant_id=merchant_id
    )
    if window_s:
        request.window.FromSeconds(window_s)
    return (await bench.payments.GetProcessorHealth(request)).health


async def refusal(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return reason(refused.value)


async def test_processors_are_those_of_everybody_and_the_merchants_own(bench: Bench) -> None:
    everybody = await bench.payments.ListProcessors(service_pb.ListProcessorsRequest())
    names = [each.processor_id for each in everybody.processors]
    assert names == sorted(names) and "sandbox-card" in names
    assert not any(each.own for each in everybody.processors)
    mine = service_pb.ListProcessorsRequest(merchant_id="acme")
    assert await refusal(bench.payments.ListProcessors(mine)) == "NOT_FOUND"
    await bench.configure(CARD, processors=[OWN])
    found = {
        each.processor_id: each for each in (await bench.payments.ListProcessors(mine)).processors
    }
    assert found.keys() == {*names, "till-1"}
    assert (found["till-1"].own, found["till-1"].adapter) == (True, "sandbox")
    assert found["till-1"].capabilities.holds
    mute = found["sandbox-card-mute"].capabilities
    assert (mute.lookup_by_ref, mute.replay_key) == (False, False)
    keyed = found["sandbox-card-keyed"].capabilities
    assert keyed.replay_key and keyed.key_ttl.ToTimedelta() > timedelta(0)


async def test_processors_are_read_page_by_page(bench: Bench) -> None:
    await bench.configure(CARD, processors=[OWN])
    whole = await bench.payments.ListProcessors(
        service_pb.ListProcessorsRequest(merchant_id="acme")
    )
    assert not whole.next_page_token
    request = service_pb.ListProcessorsRequest(merchant_id="acme", page_size=3)
    read: list[pb.Processor] = []
    pages = 0
    while True:
        page = await bench.payments.ListProcessors(request)
        read, pages = [*read, *page.processors], pages + 1
        if not page.next_page_token:
            break
        assert len(page.processors) == 3
        request.page_token = page.next_page_token
    assert read == list(whole.processors) and pages == -(-len(read) // 3)
    elsewhere = service_pb.ListProcessorsRequest(page_token=request.page_token)
    assert await refusal(bench.payments.ListProcessors(elsewhere)) == "INVALID_PAGE_TOKEN"


async def test_health_counts_what_processors_are_to_blame_for(bench: Bench) -> None:
    await bench.configure(CARD)
    assert (await health(bench, "sandbox-card")).attempts == 0
    await bench.pay(order_id="good", method="card")
    await bench.pay(order_id="poor", method="card", token="tok_insufficient_funds")
    found = await health(bench, "sandbox-card")
    assert (found.attempts, found.succeeded, found.failed) == (2, 1, 0), (
        "a payer's error is no fault"
    )
    assert (found.breaker, found.faults_in_a_row) == (pb.BREAKER_STATE_CLOSED, 0)
    assert found.window.seconds == 900
    assert found.last_attempt_at.ToDatetime() <= bench.clock.now().replace(tzinfo=None)
    assert not found.HasField("try_again_at")
    bench.clock.advance(timedelta(minutes=16))
    assert (await health(bench, "sandbox-card")).attempts == 0
    assert (await health(bench, "sandbox-card", 3600)).attempts == 2


async def test_the_breaker_is_told_with_when_it_is_tried_again(bench: Bench) -> None:
    await bench.configure({"method": "card", "processor_id": "sandbox-card-mute"})
    for number in range(FAULTS_TO_OPEN):
        await bench.pay(order_id=f"lost-{number}", method="card", token="tok_timeout")
    found = await health(bench, "sandbox-card-mute")
    assert (found.failed, found.faults_in_a_row) == (FAULTS_TO_OPEN, FAULTS_TO_OPEN)
    assert found.breaker == pb.BREAKER_STATE_OPEN
    wait = found.try_again_at.ToDatetime() - found.last_attempt_at.ToDatetime()
    assert timedelta(seconds=13) < wait < timedelta(seconds=17)
    bench.clock.advance(timedelta(seconds=20))
    assert (await health(bench, "sandbox-card-mute")).breaker == pb.BREAKER_STATE_HALF_OPEN


async def test_a_processor_that_nobody_names_is_not_found(bench: Bench) -> None:
    assert await refusal(health(bench, "nobodys")) == "NOT_FOUND"
    await bench.configure(CARD, processors=[OWN])
    assert (await health(bench, "till-1", merchant_id="acme")).attempts == 0
    assert await refusal(health(bench, "till-1", merchant_id="other")) == "NOT_FOUND"
    assert await refusal(health(bench, "till-1")) == "NOT_FOUND", "nobody's but a merchant's"


async def test_two_merchants_with_a_processor_of_one_name_have_a_breaker_each(bench: Bench) -> None:
    method = {
        "method": "card",
        "processor_id": "till-1",
        "fallback_processor_ids": ["sandbox-card"],
    }
    for merchant in ("acme", "beta"):
        await bench.configure(method, merchant=merchant, processors=[OWN])
    for number in range(FAULTS_TO_OPEN):
        lost = await bench.pay(
            order_id=f"lost-{number}", method="card", token="tok_connection_refused@till-1"
        )
        assert [each.processor_id for each in lost.attempts] == ["till-1", "sandbox-card"]
    found = await health(bench, "till-1", merchant_id="acme")
    assert (found.breaker, found.failed) == (pb.BREAKER_STATE_OPEN, found.attempts)
    found = await health(bench, "till-1", merchant_id="beta")
    assert (found.breaker, found.attempts) == (pb.BREAKER_STATE_CLOSED, 0)
    shared = await health(bench, "sandbox-card", merchant_id="beta")
    assert shared.attempts == FAULTS_TO_OPEN, "one of every merchant is told with all payments"
    hers = await bench.pay(order_id="hers", method="card")
    assert [each.processor_id for each in hers.attempts] == ["sandbox-card"], "asked last"
    other = await bench.pay(merchant_id="beta", order_id="others", method="card")
    assert [each.processor_id for each in other.attempts] == ["till-1"]
    assert (await health(bench, "till-1", merchant_id="beta")).succeeded == 1


async def test_a_try_of_one_process_keeps_the_others_from_trying(
    bench: Bench, database_url: DatabaseUrls
) -> None:
    """Half-open: what tries the processor is read from what all processes store."""
    method = {
        "method": "card",
        "processor_id": "sandbox-card",
        "fallback_processor_ids": ["sandbox-card-second"],
    }
    await bench.configure(method)
    for number in range(FAULTS_TO_OPEN):
        token = "tok_connection_refused@sandbox-card"
        await bench.pay(order_id=f"lost-{number}", method="card", token=token)
    async with serving(database_url, []) as (mesh, runs, booker, clock, apply):
        other = Bench(mesh, runs, booker, clock, database_url, bench.tenant_id, apply)
        clock.advance(bench.clock.now() - clock.now())
        assert await asked_first(other) == "sandbox-card-second", "open"
        for each in (bench.clock, clock):
            each.advance(timedelta(seconds=20))
        assert await asked_first(other) == "sandbox-card", "half open: somebody may try"
        trying = asyncio.create_task(bench.pay(order_id="slow", method="card", token="tok_slow"))
        sent = "SELECT FROM orchestration.attempt WHERE tenant_id = %(tenant)s AND status = 'SENT'"
        for _ in range(500):
            if bench.rows(sent):
                break
            await asyncio.sleep(0.01)
        assert await asked_first(other) == "sandbox-card-second", "the other process tries"
        assert (await trying).attempts[0].processor_id == "sandbox-card"
        assert await asked_first(other) == "sandbox-card", "its answer closed it for all"


async def asked_first(bench: Bench) -> str:
    request = service_pb.PlanPaymentRequest(raw_request=Bench.request(method="card").raw_request)
    plan = (await bench.payments.PlanPayment(request)).plan
    return str(plan.steps[0].processor_id)
