"""Instruments that must not be tried again are not sent, whichever payment wants them; on the mesh's own clock."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from payments.config.v1 import config_pb2
from payments.events.v1 import orchestration_events_pb2 as events
from payments.orchestration.v1 import orchestration_pb2 as pb

from .conftest import CARD, Bench, status, step_statuses

BOTH = {**CARD, "fallback_processor_ids": ["sandbox-card-second"]}
ORDERS = "SELECT count(*) AS orders FROM orchestration.sandbox_order WHERE tenant_id = %(tenant)s"


def orders(bench: Bench) -> int:
    return int(bench.rows(ORDERS)[0]["orders"])


async def test_an_instrument_that_is_refused_for_good_is_sent_nowhere_again(bench: Bench) -> None:
    await bench.configure(BOTH)
    first = await bench.pay(method="card", token="tok_stolen_card")
    assert (status(first), step_statuses(first)) == ("FAILED", ["DECLINED"])
    assert first.attempts[0].never_again
    again = await bench.pay(order_id="o-2", method="card", token="tok_stolen_card")
    assert (status(again), step_statuses(again)) == ("FAILED", ["VOIDED_UNSENT"])
    (attempt,) = again.attempts
    assert attempt.withheld_by == pb.RETRY_RULE_NEVER_AGAIN
    assert attempt.failure_code == "card_declined"
    assert "refused it for good" in attempt.message
    assert not attempt.HasField("sent_at")
    assert orders(bench) == 1, "nothing was sent"
    failed = bench.events()[-1][1]
    assert isinstance(failed, events.PaymentFailed)
    assert (failed.failure_code, failed.failure_reason) == ("card_declined", attempt.message)
    other = await bench.pay(order_id="o-3", method="card", token="tok_approve")
    assert status(other) == "SUCCEEDED"
    bench.clock.advance(timedelta(days=30))
    later = await bench.pay(order_id="o-4", method="card", token="tok_stolen_card")
    assert step_statuses(later) == ["DECLINED"], "the token may be another card's by then"


@pytest.mark.parametrize(
    ("digits", "allowed", "rule", "window"),
    [
        ("41111111", 15, pb.RETRY_RULE_VISA_15_IN_30_DAYS, timedelta(days=30)),
        ("51051051", 10, pb.RETRY_RULE_MASTERCARD_10_IN_24_HOURS, timedelta(hours=24)),
    ],
)
async def test_a_scheme_bounds_tries_over_all_payments(
    bench: Bench, digits: str, allowed: int, rule: int, window: timedelta
) -> None:
    """Several at once may not pass together what one more could not."""
    await bench.configure(CARD)
    request = {"method": "card", "token": "tok_decline", "bin": digits}
    found = await asyncio.gather(
        *(bench.pay(order_id=f"o-{n}", **request) for n in range(allowed + 3))
    )
    assert {status(each) for each in found} == {"FAILED"}
    unsent = [each for each in found if step_statuses(each) == ["VOIDED_UNSENT"]]
    assert len(unsent) == 3
    assert {each.attempts[0].withheld_by for each in unsent} == {rule}
    assert orders(bench) == allowed
    bench.clock.advance(window)
    after = await bench.pay(order_id="after", **request)
    assert step_statuses(after) == ["DECLINED"]


async def test_a_processor_that_did_not_act_is_asked_again_after_a_wait(bench: Bench) -> None:
    """A wait that is long hands the payment back until it is over."""
    retry = config_pb2.RetryPolicy(attempts_per_processor_max=3)
    retry.backoff.FromSeconds(10)
    await bench.configure(CARD, retry_policy=retry)
    payment = await bench.pay(method="card", token="tok_connection_refused")
    assert (status(payment), step_statuses(payment)) == ("PENDING", ["NOT_SENT"])
    await bench.later(4.9)
    assert len((await bench.get(payment.payment_id)).attempts) == 1
    await bench.later(5.2)
    assert len((await bench.get(payment.payment_id)).attempts) == 2
    await bench.later(9.9)
    assert len((await bench.get(payment.payment_id)).attempts) == 2, "the second wait is longer"
    await bench.later(10.2)
    payment = await bench.get(payment.payment_id)
    assert (status(payment), step_statuses(payment)) == ("FAILED", ["NOT_SENT"] * 3)
