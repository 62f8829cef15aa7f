"""Sweeps pay what is owed once, page by page, whoever runs them and whatever dies."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import grpc
import pytest
from payments.settlement.v1 import payout_service_pb2 as service_pb
from payments.settlement.v1 import settlement_pb2 as pb

from services.runtime.edge.status import RemoteError
from services.settlement.app import sweeps as sweeps_module
from tests.support.settlement.paying import Desk, Partnered, usd

PARTNERS = ("ash", "birch", "cedar", "dogwood", "elm")


async def sweeps_of(partnered: Partnered) -> list[pb.CommissionSweep]:
    found = await partnered.payouts.ListCommissionSweeps(service_pb.ListCommissionSweepsRequest())
    return [*found.sweeps]


async def get(partnered: Partnered, sweep_id: str) -> pb.CommissionSweep:
    request = service_pb.GetCommissionSweepRequest(sweep_id=sweep_id)
    return (await partnered.payouts.GetCommissionSweep(request)).sweep


async def test_payouts_of_a_sweep_that_is_not_are_refused(partnered: Partnered) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await partnered.paid_out(sweep_id="swp_none")
    info = RemoteError.of(failed.value, "settlement")
    assert (info.reason, info.metadata) == ("NOT_FOUND", {"resource": "sweep", "id": "swp_none"})


async def test_a_sweep_pays_each_party_once(partnered: Partnered) -> None:
    for place, name in enumerate(PARTNERS, start=1):
        await partnered.charge(place * 100, 1, partner=name)
    request_id = str(uuid4())
    sweep = await partnered.sweep(request_id)
    assert (sweep.status, sweep.payout_count) == (pb.SWEEP_STATUS_DONE, 5)
    assert sweep.totals == [usd(1505)]
    assert sorted(await partnered.paid_out(sweep_id=sweep.sweep_id)) == [
        (name, place * 100 + 1, "SWEEP") for place, name in enumerate(PARTNERS, start=1)
    ]
    for name in PARTNERS:
        assert (await partnered.stands(name))["carried"] == 0
    # The same again is the same sweep, and another one has nothing to pay.
    assert await partnered.sweep(request_id) == sweep
    nothing = await partnered.sweep()
    assert (nothing.payout_count, await partnered.paid_out(sweep_id=nothing.sweep_id)) == (0, [])
    told = [e.payload for e in partnered.desk.world.heard if e.subject == "commissions.swept"]
    assert [each.payout_count for each in told if each.sweep_id == sweep.sweep_id] == [5]  # type: ignore[attr-defined]
    await partnered.sound()


async def test_sweeps_at_once_while_charges_are_taken_in(partnered: Partnered) -> None:
    for name in PARTNERS:
        await partnered.charge(1000, partner=name)
    charges = [await partnered.billing.charge(day=100 + day) for day in range(4)]
    await partnered.desk.world.mesh.drain_events()

    async def taken_in() -> None:
        with partnered.acting():
            for charge in charges:
                await partnered.desk.commissions.take_in(charge.charge_id)

    await asyncio.gather(*[partnered.sweep() for _ in range(3)], taken_in())
    await partnered.sweep()
    paid: dict[str, int] = {}
    for party, minor, _ in await partnered.paid_out():
        paid[party] = paid.get(party, 0) + minor
    assert paid == {**dict.fromkeys(PARTNERS, 1000), "elm": 5000}
    await partnered.sound()


async def test_a_sweep_that_was_left_half_way_goes_on(
    desk: Desk, partnered: Partnered, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PARTNERS:
        await partnered.charge(1000, partner=name)
    seen: list[str] = []

    def die(name: str) -> None:
        seen.append(name)
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(sweeps_module, "crashpoint", die)
    (waiting,) = await sweeps_of(partnered)
    assert waiting.status == pb.SWEEP_STATUS_WAITING
    desk.world.clock.advance(timedelta(days=8))
    sweep_id = waiting.sweep_id
    with pytest.raises(KeyboardInterrupt), partnered.acting():
        await desk.sweeps.run(sweep_id)
    half = await get(partnered, sweep_id)
    assert (half.status, half.payout_count) == (pb.SWEEP_STATUS_RUNNING, 2)
    monkeypatch.undo()
    await desk.work()
    done = await get(partnered, sweep_id)
    assert (done.status, done.payout_count) == (pb.SWEEP_STATUS_DONE, 5)
    assert done.totals == [usd(5000)]
    assert len(await partnered.paid_out()) == 5
    await partnered.sound()


async def test_sweeps_come_by_the_schedule_in_its_time_zone(
    desk: Desk, partnered: Partnered
) -> None:
    await partnered.policy(sweep="30 6 * * FRI", time_zone="Australia/Sydney")
    (waiting,) = await sweeps_of(partnered)
    due_at = waiting.due_at.ToDatetime(UTC)
    # Half past six there, in summer.
    assert (due_at.weekday(), due_at.hour, due_at.minute) == (3, 19, 30)
    await partnered.charge(1000)
    assert await partnered.list_payouts() == []
    now = desk.world.clock.now()
    desk.world.clock.advance(due_at - now)
    await desk.work()
    assert await partnered.paid_out() == [("north", 1000, "SWEEP")]
    following, done = await sweeps_of(partnered)
    assert (done.sweep_id, done.status) == (waiting.sweep_id, pb.SWEEP_STATUS_DONE)
    assert following.due_at.ToDatetime(UTC) == due_at + timedelta(days=7)
    # Paused, the one that waits never comes; by hand it goes on.
    await partnered.policy(sweep_paused=True)
    assert not (await get(partnered, following.sweep_id)).HasField("due_at")
    await partnered.charge(500)
    desk.world.clock.advance(timedelta(days=30))
    await desk.work()
    assert len(await partnered.paid_out()) == 1
    assert (await partnered.sweep()).totals == [usd(500)]


async def test_only_what_was_earned_by_then_is_paid(desk: Desk, partnered: Partnered) -> None:
    await partnered.charge(1000)
    through = desk.world.clock.now()
    desk.world.clock.advance(timedelta(hours=1))
    charge = await partnered.charge(700)
    assert charge.created_at.ToDatetime(UTC) > through
    assert (await partnered.sweep(through=through)).totals == [usd(1000)]
    assert (await partnered.stands())["carried"] == 700
    future = desk.world.clock.now() + timedelta(days=300)
    sweep = await partnered.sweep(through=future)
    assert sweep.totals == [usd(700)]
    assert sweep.through_at.ToDatetime(UTC) <= desk.world.clock.now()
    early = await partnered.sweep(through=datetime(2020, 1, 1, tzinfo=UTC))
    assert early.payout_count == 0


async def test_what_is_paid_at_once_later_takes_nothing_from_what_was_earned_by_then(
    desk: Desk, partnered: Partnered
) -> None:
    await partnered.threshold(50_00)
    await partnered.charge(40_00, 45_00, 15_00)
    through = desk.world.clock.now()
    desk.world.clock.advance(timedelta(hours=1))
    await partnered.charge(60_00, 5_00)
    (at_once,) = await partnered.list_payouts()
    assert at_once.amount == usd(60_00)
    # One that came back is owed, and was earned later.
    await partnered.charge(70_00)
    (back,) = [each for each in await partnered.list_payouts() if each.amount == usd(70_00)]
    request = service_pb.RecordPayoutReturnRequest(
        request_id=str(uuid4()), payout_id=back.payout_id, return_code="R03"
    )
    await partnered.payouts.RecordPayoutReturn(request)
    assert (await partnered.sweep(through=through)).totals == [usd(100_00)]
    assert (await partnered.stands())["carried"] == 75_00
    await partnered.desk.work()
    await partnered.sound()


async def test_less_than_the_least_waits(partnered: Partnered) -> None:
    await partnered.policy(payout_minimums=[usd(1000)])
    await partnered.policy(seller="south", payout_minimums=[usd(500)])
    await partnered.charge(999)
    await partnered.charge(999, partner="south")
    await partnered.sweep()
    assert await partnered.paid_out() == [("south", 999, "SWEEP")]
    await partnered.charge(1)
    await partnered.sweep()
    assert (await partnered.stands())["claimed"] == 1000
