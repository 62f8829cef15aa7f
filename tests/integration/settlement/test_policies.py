"""Policies: what holds without one, what each says, and what is refused."""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from payments.settlement.v1 import payout_service_pb2
from payments.settlement.v1 import settlement_pb2 as pb
from payments.settlement.v1 import settlement_service_pb2 as service_pb
from payments.type.v1.type_pb2 import Money

from services.settlement.app import schedule
from tests.support.billing.charging import refused
from tests.support.postgres.server import DatabaseUrls
from tests.support.settlement.paying import Partnered, usd


async def holds(partnered: Partnered, seller: str = "") -> pb.SettlementPolicy:
    request = service_pb.GetSettlementPolicyRequest(seller=seller)
    return (await partnered.policies.GetSettlementPolicy(request)).policy


async def test_without_one_fifty_australian_dollars_and_each_monday(partnered: Partnered) -> None:
    policy = await holds(partnered)
    assert policy.payout_threshold == Money(currency_code="AUD", minor_units=50_00)
    assert (policy.sweep, policy.time_zone) == ("0 0 * * 1", "UTC")
    assert not policy.HasField("updated_at")


async def test_a_sellers_own_stands_before_the_common_one(partnered: Partnered) -> None:
    aud = Money(currency_code="AUD", minor_units=80_00)
    await partnered.policy(
        payout_threshold=aud, further_payout_thresholds=[usd(70_00)], payout_minimums=[usd(5)]
    )
    await partnered.policy(seller="north", payout_threshold=usd(0))
    own, common = await holds(partnered, "north"), await holds(partnered, "south")
    assert (own.payout_threshold, [*own.further_payout_thresholds]) == (usd(0), [aud])
    assert own.payout_minimums == [usd(5)]
    assert (common.payout_threshold, [*common.further_payout_thresholds]) == (aud, [usd(70_00)])


async def test_the_same_request_is_the_same_policy(partnered: Partnered) -> None:
    request_id = str(uuid4())
    first = await partnered.policy(request_id, payout_threshold=usd(1))
    assert await partnered.policy(request_id, payout_threshold=usd(1)) == first
    info = await refused(partnered.policy(request_id, payout_threshold=usd(2)))
    assert info.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"payout_threshold": usd(-1)}, "INVALID_FIELD"),
        ({"payout_minimums": [usd(1), usd(2)]}, "INVALID_FIELD"),
        ({"payout_threshold": usd(1), "further_payout_thresholds": [usd(2)]}, "INVALID_FIELD"),
        ({"seller": "north", "sweep": "0 0 * * 1"}, "INVALID_FIELD"),
        ({"seller": "north", "sweep_paused": True}, "INVALID_FIELD"),
        ({"sweep": "0 0 31 2 *"}, "SCHEDULE_INVALID"),
        ({"sweep": "weekly"}, "SCHEDULE_INVALID"),
        ({"time_zone": "Mars/Olympus"}, "SCHEDULE_INVALID"),
        ({"payout_threshold": Money(currency_code="XXQ", minor_units=1)}, "UNKNOWN_CURRENCY"),
    ],
)
async def test_what_cannot_be_used_is_refused(
    partnered: Partnered, fields: dict[str, Any], reason: str
) -> None:
    assert (await refused(partnered.policy(**fields))).reason == reason


async def test_a_sweep_that_begins_to_wait_meanwhile_comes_by_the_new_policy(
    partnered: Partnered, database: DatabaseUrls
) -> None:
    waits = b"SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid')"
    with partnered.acting():
        async with partnered.desk.runtime.database.unit_of_work("settlement.take_in") as work:
            await schedule.keep(work)
            put = asyncio.create_task(partnered.policy(sweep="0 6 * * 5"))
            with psycopg.connect(database.owner_admin, autocommit=True) as owner:
                for _ in range(3_000):
                    if put.done() or owner.execute(waits).fetchone() == (True,):
                        break
                    await asyncio.sleep(0.01)
            assert not put.done(), "it waits for the one that was made just now"
    await put
    request = payout_service_pb2.ListCommissionSweepsRequest()
    (sweep,) = (await partnered.payouts.ListCommissionSweeps(request)).sweeps
    due_at = sweep.due_at.ToDatetime(UTC)
    assert (due_at.isoweekday(), due_at.hour) == (5, 6)
