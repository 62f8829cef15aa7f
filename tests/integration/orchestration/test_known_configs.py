"""Configurations that a process keeps at hand: what is planned is always planned with the version in force."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from services.orchestration.store import configs as store

from .conftest import CARD, WALLET, Bench

SECOND = {**CARD, "processor_id": "sandbox-card-second"}
BODY = {
    "merchant_id": "acme",
    "order_id": "o",
    "person_id": "p",
    "currency": "USD",
    "amount": "9.00",
}


async def planned(bench: Bench) -> service_pb.PlanPaymentResponse:
    request = service_pb.PlanPaymentRequest(raw_request=json.dumps(BODY).encode())
    answer: service_pb.PlanPaymentResponse = await bench.payments.PlanPayment(request)
    return answer


async def asked_first(bench: Bench) -> str:
    return str((await planned(bench)).plan.steps[0].processor_id)


async def test_a_version_is_read_once_and_a_new_one_counts_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    find = store.find_configs

    async def counted(work: Any, merchant_id: str, **more: Any) -> Any:
        reads.append(merchant_id)
        return await find(work, merchant_id, **more)

    await bench.configure(CARD)
    monkeypatch.setattr(store, "find_configs", counted)
    first = await planned(bench)
    assert reads == ["acme"]
    assert await planned(bench) == first
    assert reads == ["acme"], "kept"
    await bench.configure(SECOND)
    reads.clear()
    assert await asked_first(bench) == "sandbox-card-second"
    assert reads == ["acme"]
    assert (await bench.pay(amount="9.00")).attempts[0].processor_id == "sandbox-card-second"


async def test_versions_of_a_merchant_that_begins_anew_are_not_mistaken(bench: Bench) -> None:
    """As when all of a tenant was removed: the same number is another version."""
    await bench.configure(CARD)
    assert await asked_first(bench) == "sandbox-card"
    bench.execute("DELETE FROM orchestration.merchant_config WHERE tenant_id = %(tenant)s")
    bench.clock.advance(timedelta(seconds=1))
    assert await bench.configure(SECOND) == 1
    assert await asked_first(bench) == "sandbox-card-second"
    bench.execute("DELETE FROM orchestration.merchant_config WHERE tenant_id = %(tenant)s")
    findings = (await planned(bench)).context.validation_errors
    assert "MERCHANT_NOT_CONFIGURED" in {each.code for each in findings}


async def test_breakers_and_limits_count_for_what_is_kept(bench: Bench) -> None:
    both = {**CARD, "fallback_processor_ids": ["sandbox-card-second"]}
    await bench.configure(both)
    assert await asked_first(bench) == "sandbox-card"
    for order in range(5):
        await bench.pay(
            order_id=f"o-{order}", method="card", token="tok_connection_refused@sandbox-card"
        )
    assert await asked_first(bench) == "sandbox-card-second", "its breaker is open"
    limit = {"name": "one", "scope": 2, "window": {"seconds": 3600}, "payments_max": 1}
    await bench.configure(WALLET, limits=[limit])
    await bench.pay(order_id="a", method="wallet", amount="1.00")
    refused = await bench.pay(order_id="b", method="wallet", amount="1.00")
    assert "LIMIT_EXCEEDED" in {each.code for each in refused.context.validation_errors}
    assert "LIMIT_EXCEEDED" in {
        each.code for each in (await planned(bench)).context.validation_errors
    }
