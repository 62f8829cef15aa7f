"""Payments through cut connections at a processor without keys, and configurations of processors."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest
from payments.config.v1 import config_pb2
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from tests.support.peers.cutter import Fault, at_random
from tests.support.peers.faulted import (
    compare,
    keep_credential,
    processor,
    requests,
    rested,
)

from ..conftest import reason, status, step_statuses
from .conftest import Shop

PAYMENTS = 60
AT_ONCE = 6


async def test_no_charge_is_made_twice_or_lost_through_cut_connections(shop: Shop) -> None:
    await shop.configure(timeouts={"call_timeout": {"seconds": 2}})
    before = shop.peer.net_minor()
    shop.cutter.fault = at_random(seed=1, share=0.3)
    slots = asyncio.Semaphore(AT_ONCE)

    async def pay(fields: dict[str, Any]) -> str:
        async with slots:
            return str((await shop.bench.pay(**fields)).payment_id)

    ids = await asyncio.gather(*(pay(each) for each in requests(seed=2, count=PAYMENTS)))
    assert all(shop.cutter.done[fault] for fault in Fault), shop.cutter.done
    shop.cutter.fault = lambda request: Fault.NONE
    payments = await rested(ids, shop.bench.get, shop.bench.later)
    compare(payments, shop.peer.net_minor() - before)
    assert {status(each) for each in payments} == {"SUCCEEDED", "FAILED"}, "both ends were reached"


async def test_a_merchants_processor_is_shown_without_its_secret(shop: Shop) -> None:
    assert await shop.configure() == 1
    assert await shop.configure() == 1, "the same processors are no new version"
    get = service_pb.GetMerchantConfigRequest(merchant_id="acme")
    config = (await shop.bench.configs.GetMerchantConfig(get)).config
    assert list(config.processors) == [processor(shop.base_url)]
    payment = await shop.bench.pay(
        payment_methods=[{"method": "card", "token": "pm_card_visa"}], amount="12.34"
    )
    assert status(payment) == "SUCCEEDED"
    (attempt,) = payment.attempts
    assert attempt.provider_ref.startswith("pi_")
    assert shop.peer.net_minor()[attempt.attempt_id] == 1234
    stored = shop.bench.rows(
        "SELECT to_jsonb(c)::text AS text FROM orchestration.merchant_config AS c WHERE tenant_id = %(tenant)s"
        " UNION ALL SELECT to_jsonb(a)::text FROM mesh.audit AS a WHERE tenant_id = %(tenant)s"
        " UNION ALL SELECT to_jsonb(a)::text FROM orchestration.attempt AS a WHERE tenant_id = %(tenant)s"
    )
    assert all("sk_test" not in row["text"] for row in stored)


async def test_a_credential_that_is_not_the_tenants_is_refused(shop: Shop) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shop.bench.configure(
            {"method": "card", "processor_id": "stripe"}, processors=[processor(shop.base_url)]
        )
    assert reason(refused.value) == "CREDENTIAL_UNUSABLE"
    keep_credential(shop.folder, shop.bench.tenant_id, "https://elsewhere.example")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shop.bench.configure(
            {"method": "card", "processor_id": "stripe"}, processors=[processor(shop.base_url)]
        )
    assert reason(refused.value) == "CREDENTIAL_UNUSABLE", "it must not be sent here"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"base_url": "https://10.0.0.1"}, "processors[0].base_url"),
        ({"base_url": "http://pay.example.com"}, "processors[0].base_url"),
        ({"adapter": "adyen"}, "processors[0].adapter"),
        ({"settings": {"colour": "red"}}, "processors[0].settings[colour]"),
        ({"settings": {"multicapture": "maybe"}}, "processors[0].settings[multicapture]"),
        ({"processor_id": "sandbox-card"}, "processors[0].processor_id"),
    ],
)
async def test_a_processor_that_could_not_be_used_is_refused(
    shop: Shop, changed: dict[str, object], field: str
) -> None:
    keep_credential(shop.folder, shop.bench.tenant_id, shop.base_url)
    config = processor(shop.base_url)
    config.MergeFrom(config_pb2.ProcessorConfig(**changed))  # type: ignore[arg-type] # fields by name
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shop.bench.configure(
            {"method": "card", "processor_id": config.processor_id}, processors=[config]
        )
    assert reason(refused.value) == "INVALID_FIELD"
    details = refused.value.details() or ""
    assert field in details, details


async def test_a_credential_that_went_away_sends_nothing_and_loses_nothing(shop: Shop) -> None:
    await shop.configure()
    kept = shop.folder / shop.bench.tenant_id / "peer.json"
    content = json.loads(kept.read_text())
    kept.unlink()
    calls = sum(shop.cutter.done.values())
    payment = await shop.bench.pay(
        payment_methods=[{"method": "card", "token": "pm_card_visa"}], amount="5.00"
    )
    assert status(payment) == "FAILED"
    assert {"NOT_SENT"} == set(step_statuses(payment))
    assert sum(shop.cutter.done.values()) == calls
    kept.write_text(json.dumps(content))
    payment = await shop.bench.pay(
        payment_methods=[{"method": "card", "token": "pm_card_visa"}], amount="5.00", order_id="o-2"
    )
    assert status(payment) == "SUCCEEDED"


async def test_a_sandbox_processor_of_ones_own(shop: Shop) -> None:
    mine = config_pb2.ProcessorConfig(processor_id="mine", adapter="sandbox")
    await shop.bench.configure({"method": "card", "processor_id": "mine"}, processors=[mine])
    payment = await shop.bench.pay(method="card")
    assert (status(payment), payment.attempts[0].processor_id) == ("SUCCEEDED", "mine")
