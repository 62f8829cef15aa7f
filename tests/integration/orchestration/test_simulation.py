"""What a configuration would have made of payments that are there, before it is put in force."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from payments.config.v1 import config_pb2
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from services.orchestration.app import configs

from .conftest import CARD, Bench, reason, status

SECOND = {"method": "card", "processor_id": "sandbox-card-second"}
FEES = [
    {"processor_id": "sandbox-card", "percent": "2.9", "fixed_minor": 30, "currency_code": "USD"},
    {"processor_id": "sandbox-card-second", "percent": "1.5"},
]


def proposal(*methods: dict[str, Any], **more: Any) -> config_pb2.MerchantConfig:
    config = config_pb2.MerchantConfig(merchant_id="acme", **more)
    for method in methods:
        config.methods.add(**method)
    return config


async def simulate(
    bench: Bench, config: config_pb2.MerchantConfig, payments_max: int = 0
) -> service_pb.SimulateRoutingResponse:
    request = service_pb.SimulateRoutingRequest(config=config, payments_max=payments_max)
    answer: service_pb.SimulateRoutingResponse = await bench.configs.SimulateRouting(request)
    return answer


async def test_what_would_be_otherwise_is_told_and_nothing_is_changed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configs, "PAGE", 2)
    refused = await bench.pay(order_id="early", method="card")
    assert status(refused) == "REFUSED"
    await bench.configure(CARD)
    made = [await bench.pay(order_id=f"o-{n}", method="card") for n in range(3)]
    unread = await bench.pay(order_id="unread", amount="much", method="card")
    assert status(unread) == "REFUSED"
    total = made[0].plan.total_amount.minor_units

    same = await simulate(bench, proposal(CARD))
    assert (same.looked_at, same.same, same.newly_covered, same.left_out) == (5, 3, 1, 1)
    assert not same.rerouted and not same.no_longer_covered

    other = await simulate(bench, proposal(SECOND, fees=FEES))
    assert (other.rerouted, other.newly_covered, other.same) == (3, 1, 0)
    (fees,) = other.fees
    assert (fees.payments, fees.unknown) == (3, 0)
    assert fees.before.minor_units == round(3 * (total * 0.029 + 30))
    assert fees.after.minor_units == round(3 * total * 0.015)
    told = {each.payment_id: each for each in other.differences}
    assert list(told) == sorted(told, reverse=True), "the latest first"
    one = told[made[0].payment_id]
    assert [step.processor_id for step in one.before.steps] == ["sandbox-card"]
    assert [step.processor_id for step in one.after.steps] == ["sandbox-card-second"]
    assert not told[refused.payment_id].HasField("before")
    assert unread.payment_id not in told

    capped = CARD | {"max_amount": {"currency_code": "USD", "minor_units": total - 1}}
    less = await simulate(bench, proposal(capped))
    assert (less.no_longer_covered, less.newly_covered) == (3, 0)
    codes = {code for each in less.differences for code in each.refused_codes}
    assert codes == {"PLAN_NOT_COVERED"}

    assert (await simulate(bench, proposal(SECOND), payments_max=2)).looked_at == 2
    versions = service_pb.ListMerchantConfigVersionsRequest(merchant_id="acme")
    stored = (await bench.configs.ListMerchantConfigVersions(versions)).configs
    assert [each.version for each in stored] == [1], "nothing was stored"


async def test_what_could_not_be_put_in_force_cannot_be_simulated(bench: Bench) -> None:
    for config, expected in (
        (proposal({"method": "card", "processor_id": "nobodys"}), "UNKNOWN_PROCESSOR"),
        (proposal(CARD, CARD), "INVALID_FIELD"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await simulate(bench, config)
        assert reason(refused.value) == expected
    assert (await simulate(bench, proposal(CARD))).looked_at == 0
