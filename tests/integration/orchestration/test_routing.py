"""Routing by rules and strategies, from the configuration to the processor that was asked."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import grpc
import pytest
from payments.config.v1 import config_pb2
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from services.orchestration.domain.breaker import RECENT_MAX

from .conftest import CARD, WALLET, Bench, reason, status

SPLIT: dict[str, Any] = {
    "volume_split": {
        "shares": [
            {"processor_id": "sandbox-card", "weight": 1},
            {"processor_id": "sandbox-card-second", "weight": 1},
        ]
    }
}
CARD_SPLIT = CARD | {"fallback_processor_ids": ["sandbox-card-second"], "strategy": SPLIT}
RULES: list[dict[str, Any]] = [
    {
        "name": "europe",
        "methods": ["card"],
        "when": {"regions": ["eu"], "amount_max": {"currency_code": "EUR", "minor_units": 5000}},
        "route": {"processor_ids": ["sandbox-card-second", "sandbox-card"]},
    },
    {
        "name": "no-wallet",
        "methods": ["wallet"],
        "when": {"metadata": [{"key": "channel", "values": ["phone"]}]},
        "skip": {},
    },
    {
        "name": "cheap",
        "methods": ["card"],
        "when": {"bins": ["4111"], "currencies": ["USD"]},
        "route": {
            "processor_ids": ["sandbox-card", "sandbox-card-second"],
            "strategy": {"least_cost": {}},
        },
    },
]
MORE: dict[str, Any] = {
    "rules": RULES,
    "regions": [{"name": "eu", "countries": ["DE", "FR"]}],
    "fees": [
        {
            "processor_id": "sandbox-card",
            "percent": "2.9",
            "currency_code": "USD",
            "fixed_minor": 30,
        },
        {"processor_id": "sandbox-card-second", "percent": "3.5"},
    ],
}


async def plan(bench: Bench, **fields: Any) -> service_pb.PlanPaymentResponse:
    raw = bench.request(**fields).raw_request
    answer: service_pb.PlanPaymentResponse
    answer = await bench.payments.PlanPayment(service_pb.PlanPaymentRequest(raw_request=raw))
    return answer


async def test_rules_are_stored_and_decide(bench: Bench) -> None:
    assert await bench.configure(WALLET, CARD_SPLIT, **MORE) == 1
    assert await bench.configure(WALLET, CARD_SPLIT, **MORE) == 1, "an equal one is no new version"
    get = service_pb.GetMerchantConfigRequest(merchant_id="acme")
    stored = (await bench.configs.GetMerchantConfig(get)).config
    wanted = config_pb2.MerchantConfig(**MORE)
    assert stored.rules == wanted.rules
    assert stored.regions == wanted.regions
    assert stored.fees == wanted.fees
    assert stored.methods[1].strategy == config_pb2.Strategy(**SPLIT)

    europe = await plan(bench, currency="EUR", amount="20.00", country="de", method="card")
    (decision,) = europe.decisions
    assert decision.rule == "europe"
    assert list(decision.processor_ids) == ["sandbox-card-second", "sandbox-card"]
    assert europe.context.country == "DE"
    phone = await plan(bench, metadata={"channel": "phone"})
    assert [(d.method, d.reason, d.rule) for d in phone.decisions] == [
        ("wallet", "SKIPPED_BY_RULE", "no-wallet"),
        ("card", "TAKES_THE_REST", ""),
    ]
    cheap = await plan(bench, amount="4.00", method="card", cardBin="41111111")
    assert cheap.context.bin == "41111111"
    assert [(c.processor_id, c.reason, c.message) for c in cheap.decisions[0].candidates] == [
        ("sandbox-card-second", "FEE", "takes 14 minor units of USD"),
        ("sandbox-card", "FEE", "takes 41.6 minor units of USD"),
    ]
    assert (await plan(bench, amount="4.00", method="card", cardBin="41111111")) == cheap


async def test_a_payment_keeps_its_plan_and_its_hash(bench: Bench) -> None:
    await bench.configure(WALLET, CARD_SPLIT, **MORE)
    key = str(uuid.uuid4())
    fields: dict[str, Any] = {"method": "card", "idempotency_key": key}
    dry = (await plan(bench, **fields)).plan
    paid = await bench.pay(key="", **fields)
    assert status(paid) == "SUCCEEDED"
    assert paid.plan == dry, "the dry run shows what is done, the drawn processor too"
    assert len(dry.plan_hash) == 64
    assert (await bench.get(paid.payment_id)).plan == dry
    assert paid.attempts[0].processor_id == dry.steps[0].processor_id
    drawn = {
        (await plan(bench, method="card", idempotency_key=str(uuid.uuid4())))
        .plan.steps[0]
        .processor_id
        for _ in range(24)
    }
    assert drawn == {"sandbox-card", "sandbox-card-second"}


async def test_an_older_version_is_put_in_force_again(bench: Bench) -> None:
    await bench.configure(CARD)
    await bench.configure(WALLET, CARD_SPLIT, **MORE)
    get = service_pb.GetMerchantConfigRequest(merchant_id="acme", version=1)
    first = (await bench.configs.GetMerchantConfig(get)).config
    put = service_pb.PutMerchantConfigRequest(request_id=str(uuid.uuid4()), config=first)
    assert (await bench.configs.PutMerchantConfig(put)).version == 3
    get.version = 3
    third = (await bench.configs.GetMerchantConfig(get)).config
    assert third.methods == first.methods
    assert not third.rules


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"when": {"currencies": ["USD"]}}, "RULE_UNREACHABLE"),
        (
            {
                "when": {
                    "amount_min": {"currency_code": "USD", "minor_units": 2},
                    "currencies": ["EUR"],
                }
            },
            "RULE_CONTRADICTORY",
        ),
        ({"methods": ["ach"]}, "METHOD_NOT_COVERED"),
        ({"name": "all"}, "INVALID_FIELD"),
    ],
)
async def test_rules_that_do_not_say_what_they_seem_to(
    bench: Bench, rule: dict[str, Any], expected: str
) -> None:
    everything = {"name": "all", "methods": ["card"], "route": {"processor_ids": ["sandbox-card"]}}
    second = everything | {"name": "second"} | rule
    before = [] if expected == "RULE_CONTRADICTORY" else [everything]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bench.configure(CARD, rules=[*before, second])
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(refused.value) == expected


async def test_odd_countries_and_bins_are_findings_and_charge_all_the_same(bench: Bench) -> None:
    await bench.configure(CARD, **MORE | {"rules": RULES[:1]})
    paid = await bench.pay(country="Germany", bin="41", method="card")
    assert status(paid) == "SUCCEEDED"
    issues = [(each.field, each.code) for each in paid.context.validation_errors]
    assert sorted(issues) == [("bin", "INVALID_BIN"), ("country", "INVALID_COUNTRY")]
    listed = await bench.pay(
        order_id="order-2",
        payment_methods=[{"method": "card", "iin": 411111, "token": "tok_approve"}],
    )
    assert listed.context.payment_methods[0].bin == "411111"
    stored: pb.Payment = await bench.get(listed.payment_id)
    assert stored.context == listed.context


async def test_success_counts_and_payers_errors_do_not(bench: Bench) -> None:
    """The first processor fails for its own reasons, the second for the payers' alone."""
    rate = {"success_rate": {"samples_min": 3, "outage_below_percent": 50}}
    both = CARD | {"fallback_processor_ids": ["sandbox-card-second"]}
    await bench.configure(both | {"strategy": rate})
    assert (await plan(bench)).decisions[0].candidates[0].reason == "RATE_UNKNOWN"
    failing = "tok_soft_decline@sandbox-card"
    for number in range(3):
        paid = await bench.pay(order_id=f"a-{number}", method="card", token=failing)
        assert status(paid) == "SUCCEEDED", "the second one takes it"
    await bench.configure(CARD | {"processor_id": "sandbox-card-second"})
    for number in range(5):
        refused = await bench.pay(order_id=f"b-{number}", method="card", token="tok_expired_card")
        assert status(refused) == "FAILED"
    await bench.configure(both | {"strategy": rate})
    found = (await plan(bench)).decisions[0].candidates
    assert [(c.processor_id, c.reason, c.message) for c in found] == [
        ("sandbox-card-second", "RATE", "3 of 3 succeeded, the payer's errors aside"),
        ("sandbox-card", "OUTAGE", "0 of 3 succeeded, the payer's errors aside"),
    ]
    bench.clock.advance(timedelta(seconds=901))
    assert {c.reason for c in (await plan(bench)).decisions[0].candidates} == {"RATE_UNKNOWN"}


async def test_a_processor_that_does_not_answer_is_asked_last_until_it_does(bench: Bench) -> None:
    down = {
        "method": "card",
        "processor_id": "sandbox-card",
        "fallback_processor_ids": ["sandbox-card-second"],
    }
    await bench.configure(down)
    for number in range(5):
        paid = await bench.pay(
            order_id=f"o-{number}", method="card", token="tok_connection_refused@sandbox-card"
        )
        assert [a.processor_id for a in paid.attempts] == ["sandbox-card", "sandbox-card-second"]
    paid = await bench.pay(order_id="o-5", method="card", token="tok_approve")
    assert [a.processor_id for a in paid.attempts] == ["sandbox-card-second"]
    found = (await plan(bench)).decisions[0].candidates
    assert [(c.processor_id, c.reason) for c in found] == [
        ("sandbox-card-second", "LISTED"),
        ("sandbox-card", "BREAKER_OPEN"),
    ]
    bench.clock.advance(timedelta(seconds=17))
    tried = await bench.pay(order_id="o-6", method="card", token="tok_approve")
    assert [a.processor_id for a in tried.attempts] == ["sandbox-card"]
    assert (await plan(bench)).decisions[0].candidates[0].processor_id == "sandbox-card"


async def test_calls_that_hang_hide_no_fault_of_a_processor(bench: Bench) -> None:
    """While a processor hangs, the newest of its attempts are those that nobody has answered yet."""
    await bench.configure(CARD | {"fallback_processor_ids": ["sandbox-card-second"]})
    hanging = [bench.pay(order_id=f"h-{n}", method="card") for n in range(RECENT_MAX)]
    ids = [each.payment_id for each in await asyncio.gather(*hanging)]
    for number in range(5):
        await bench.pay(
            order_id=f"o-{number}", method="card", token="tok_connection_refused@sandbox-card"
        )
    bench.execute(
        "UPDATE orchestration.attempt SET status = 'SENT', settled_at = NULL, created_at = created_at + interval '1 s'"
        " WHERE tenant_id = %(tenant)s AND payment_id = ANY(%(ids)s)",
        ids=ids,
    )
    bench.clock.advance(timedelta(seconds=2))
    found = (await plan(bench, order_id="next")).decisions[0].candidates
    assert [(c.processor_id, c.reason) for c in found] == [
        ("sandbox-card-second", "LISTED"),
        ("sandbox-card", "BREAKER_OPEN"),
    ]
    request = service_pb.GetProcessorHealthRequest(processor_id="sandbox-card")
    health = (await bench.payments.GetProcessorHealth(request)).health
    assert (health.breaker, health.faults_in_a_row) == (pb.BREAKER_STATE_OPEN, 5)
