"""Limits refuse before a processor is asked, however many payments come at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from payments.config.v1 import config_pb2
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from .conftest import CARD, Bench, reason, status

PAYER = config_pb2.LIMIT_SCOPE_PAYER


def limit(**more: Any) -> dict[str, Any]:
    return {"name": "often", "scope": PAYER, "window": {"seconds": 3600}, "payments_max": 3} | more


def codes(payment: pb.Payment) -> list[str]:
    return [issue.code for issue in payment.context.validation_errors]


async def test_of_many_at_once_so_many_pass_as_the_limit_allows(bench: Bench) -> None:
    await bench.configure(CARD, limits=[limit()])
    get = service_pb.GetMerchantConfigRequest(merchant_id="acme")
    stored = (await bench.configs.GetMerchantConfig(get)).config
    assert list(stored.limits) == [config_pb2.Limit(**limit())]
    paid = await asyncio.gather(*(bench.pay(order_id=f"o-{n}") for n in range(8)))
    assert sorted(map(status, paid)) == ["REFUSED"] * 5 + ["SUCCEEDED"] * 3
    for refused in paid:
        if status(refused) == "REFUSED":
            assert codes(refused) == ["LIMIT_EXCEEDED"]
            assert not refused.attempts
    other = await bench.pay(order_id="other", person_id="schmidt")
    assert status(other) == "SUCCEEDED", "another payer is another count"
    dry = service_pb.PlanPaymentRequest(raw_request=bench.request().raw_request)
    assert not (await bench.payments.PlanPayment(dry)).HasField("plan")
    counts = bench.rows(
        "SELECT sum(payments)::int AS n FROM orchestration.velocity WHERE tenant_id = %(tenant)s"
        " AND subject = 'person-1'"
    )
    assert counts == [{"n": 3}], "neither refusals nor dry runs count"
    bench.clock.advance(timedelta(seconds=3661))
    assert status(await bench.pay(order_id="later")) == "SUCCEEDED"
    over = bench.rows(
        "SELECT count(*)::int AS n FROM orchestration.velocity WHERE tenant_id = %(tenant)s"
        " AND subject = 'schmidt'"
    )
    bench.clock.advance(timedelta(seconds=3600))
    await bench.pay(order_id="much-later")
    gone = bench.rows(
        "SELECT count(*)::int AS n FROM orchestration.velocity WHERE tenant_id = %(tenant)s"
        " AND subject = 'schmidt'"
    )
    assert (over, gone) == ([{"n": 1}], [{"n": 0}])


async def test_a_repeat_is_answered_and_does_not_count(bench: Bench) -> None:
    await bench.configure(CARD, limits=[limit(payments_max=1)])
    first = await bench.pay("5b6d9a0e-2f65-4d5c-8a51-3c4f7e0c9a11")
    again = await bench.pay("5b6d9a0e-2f65-4d5c-8a51-3c4f7e0c9a11")
    assert first == again
    assert status(first) == "SUCCEEDED"


async def test_amounts_of_one_instrument_and_of_one_payment(bench: Bench) -> None:
    ten = {"currency_code": "USD", "minor_units": 1000}
    token = limit(
        name="card", scope=config_pb2.LIMIT_SCOPE_INSTRUMENT, payments_max=0, amount_max=ten
    )
    once = {
        "name": "once",
        "scope": config_pb2.LIMIT_SCOPE_MERCHANT,
        "amount_max": {"currency_code": "USD", "minor_units": 800},
    }
    await bench.configure(CARD, limits=[token, once])
    card = {"method": "card", "token": "tok_approve"}
    assert status(await bench.pay(order_id="a", amount="6.00", **card)) == "SUCCEEDED"
    assert codes(await bench.pay(order_id="b", amount="4.01", **card)) == ["LIMIT_EXCEEDED"]
    assert status(await bench.pay(order_id="c", amount="4.00", **card)) == "SUCCEEDED"
    assert status(await bench.pay(order_id="d", amount="8.00", method="card")) == "SUCCEEDED"
    assert codes(await bench.pay(order_id="e", amount="8.01", method="card")) == ["LIMIT_EXCEEDED"]
    assert status(await bench.pay(order_id="f", amount="9.00", currency="EUR")) == "SUCCEEDED"


@pytest.mark.parametrize(
    "wrong",
    [
        [limit(), limit()],
        [{"name": "nothing", "scope": PAYER}],
        [{"name": "no-window", "scope": PAYER, "payments_max": 1}],
        [limit(scope=0)],
    ],
)
async def test_limits_that_bound_nothing_are_refused(
    bench: Bench, wrong: list[dict[str, Any]]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bench.configure(CARD, limits=wrong)
    assert reason(refused.value) == "INVALID_FIELD"
