"""Schedules: an event at each of their times, once, and what becomes of those for which nobody was there."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from payments.events.v1.pricing_events_pb2 import PlanCreated

from services.runtime.context import acting
from services.runtime.timers import pump as pumps
from services.runtime.timers import schedules
from services.runtime.timers.cron import Missed, ScheduleInvalid
from services.runtime.timers.schedules import Schedule, SchedulesFull
from tests.support.events.lab import call, new_tenant
from tests.support.timers.lab import START, TimerLab


async def _put(
    lab: TimerLab,
    tenant: str,
    cron: str = "0 * * * *",
    *,
    name: str = "s",
    zone: str = "UTC",
    missed: Missed = Missed.ONE,
    version: int = 1,
) -> Schedule:
    payload = PlanCreated(plan_id=name, plan_version=version)
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.put_schedule") as work:
            return await schedules.put(work, Schedule.of(name, cron, zone, payload, missed))


async def _fires(lab: TimerLab, tenant: str) -> list[str]:
    """When the schedule's events should have come, in the order of the log."""
    return [row["causation_id"].rpartition("@")[2] for row in await lab.log(tenant)]


async def test_a_schedule_fires_at_its_times(lab: TimerLab) -> None:
    tenant = new_tenant()
    stored = await _put(lab, tenant, "0 3 * * *", zone="Europe/Berlin")
    assert stored.next_at == datetime(2026, 3, 2, 2, tzinfo=UTC)
    for _ in range(3):
        assert await lab.fire() == 0
        lab.advance(days=1)
        assert await lab.fire() == 1
    assert await _fires(lab, tenant) == [f"2026-03-0{day}T02:00:00Z" for day in (2, 3, 4)]
    (row, *_) = await lab.log(tenant)
    assert (row["subject"], row["key"]) == ("plan.created", "s")
    assert row["correlation_id"] == row["event_id"], "each fire begins a chain"
    with acting(call(tenant)):
        async with lab.database.read() as work:
            (found,) = await schedules.page(work, "", 10)
    assert (found.last_at, found.next_at) == (
        datetime(2026, 3, 4, 2, tzinfo=UTC),
        datetime(2026, 3, 5, 2, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        (Missed.SKIP, []),
        (Missed.ONE, ["2026-03-04T09:00:00Z"]),
        (Missed.BACKFILL, ["2026-03-02T09:00:00Z", "2026-03-03T09:00:00Z", "2026-03-04T09:00:00Z"]),
    ],
)
async def test_after_days_of_rest(lab: TimerLab, missed: Missed, expected: list[str]) -> None:
    tenant = new_tenant()
    await _put(lab, tenant, "0 9 * * *", missed=missed)
    lab.advance(days=3, hours=2)
    assert await lab.fire() == len(expected)
    assert await _fires(lab, tenant) == expected
    lab.advance(hours=21, minutes=30)
    assert await lab.fire() == 1, "from then on as ever"
    assert (await _fires(lab, tenant))[-1] == "2026-03-05T09:00:00Z"


async def test_a_long_backfill_comes_whole_and_in_order(lab: TimerLab) -> None:
    tenant = new_tenant()
    await _put(lab, tenant, "* * * * *", missed=Missed.BACKFILL)
    lab.advance(minutes=350)
    made = [lab.pump() for _ in range(3)]
    fired = await asyncio.gather(*(pump.fire_due() for pump in made))
    for pump in made:
        await pump.stop()
    found = await _fires(lab, tenant)
    assert sum(fired) == len(found) == len(set(found)) == 350
    assert found == sorted(found)


async def test_a_transaction_makes_a_bounded_number(
    lab: TimerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many schedules that owe much: some at a time, all in the end."""
    monkeypatch.setattr(pumps, "FIRES_MAX", 50)
    monkeypatch.setattr(pumps, "FIRES_BYTES_MAX", 200)
    tenant = new_tenant()
    for name in ("a", "b", "c"):
        await _put(lab, tenant, "* * * * *", name=name, missed=Missed.BACKFILL)
    lab.advance(minutes=60)
    pump = lab.pump()
    async with await pump._session() as session:
        made = await pump._serve(session, tenant, lab.clock.now())
    # A payload weighs five bytes, and each counts one more.
    assert made == 33
    await pump.fire_due()
    await pump.stop()
    found = await lab.versions(tenant)
    assert sorted(key for key, _ in found) == ["a"] * 60 + ["b"] * 60 + ["c"] * 60


async def test_a_fire_that_was_made_is_not_made_again(lab: TimerLab) -> None:
    """The second wall: somebody set the schedule back."""
    tenant = new_tenant()
    await _put(lab, tenant, missed=Missed.BACKFILL)
    lab.advance(hours=2)
    assert await lab.fire() == 2
    await lab.rows("UPDATE mesh.schedule SET next_at = %s WHERE tenant_id = %s", START, tenant)
    lab.advance(hours=1)
    await lab.fire()
    found = await _fires(lab, tenant)
    assert [fire[11:13] for fire in found if fire.endswith(":00:00Z")] == ["10", "11", "12"]


async def test_what_is_put_again_keeps_its_times_unless_they_change(lab: TimerLab) -> None:
    tenant = new_tenant()
    await _put(lab, tenant, "0 * * * *")
    lab.advance(hours=2)
    kept = await _put(lab, tenant, "0 * * * *", version=2)
    assert kept.next_at == datetime(2026, 3, 1, 10, tzinfo=UTC), "what it owes stays owed"
    assert await lab.fire() == 1
    assert await lab.versions(tenant) == [("s", 2)]
    moved = await _put(lab, tenant, "15 * * * *")
    assert moved.next_at == datetime(2026, 3, 1, 12, 15, tzinfo=UTC)
    guards = "SELECT 1 FROM mesh.schedule_fire WHERE tenant_id = %s"
    assert len(await lab.rows(guards, tenant)) == 1
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.delete_schedule") as work:
            assert await schedules.delete(work, "s")
            assert not await schedules.delete(work, "s")
    assert await lab.rows(guards, tenant) == [], "nobody would remove them later"
    lab.advance(days=1)
    assert await lab.fire() == 0


async def test_what_a_clock_that_was_ahead_moved_on_comes_back_when_put_again(
    lab: TimerLab,
) -> None:
    tenant = new_tenant()
    await _put(lab, tenant)
    lab.advance(hours=1)
    assert await lab.fire() == 1
    # A minute of a wrong clock: its next time is a year away, and its last fire was made.
    await lab.rows(
        "UPDATE mesh.schedule SET next_at = next_at + interval '1 year' WHERE tenant_id = %s",
        tenant,
    )
    put = await _put(lab, tenant)
    assert put.next_at == datetime(2026, 3, 1, 11, tzinfo=UTC)
    lab.advance(hours=1)
    assert await lab.fire() == 1
    assert len(set(await _fires(lab, tenant))) == 2


async def test_a_schedule_that_never_comes_is_refused(lab: TimerLab) -> None:
    with pytest.raises(ScheduleInvalid):
        await _put(lab, new_tenant(), "0 0 31 4 *")
    with pytest.raises(ScheduleInvalid):
        await _put(lab, new_tenant(), zone="Mars/Olympus")


async def test_one_that_cannot_be_read_any_more_holds_up_no_other(lab: TimerLab) -> None:
    tenant = new_tenant()
    await _put(lab, tenant, name="broken")
    await _put(lab, tenant, name="sound")
    await lab.rows(
        "UPDATE mesh.schedule SET time_zone = 'Gone/Away' WHERE tenant_id = %s AND name = 'broken'",
        tenant,
    )
    lab.advance(hours=1)
    assert await lab.fire() == 1
    assert [key for key, _ in await lab.versions(tenant)] == ["sound"]


async def test_a_tenant_has_a_bounded_number(
    lab: TimerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "SCHEDULES_MAX", 2)
    tenant = new_tenant()
    await _put(lab, tenant, name="a")
    await _put(lab, tenant, name="b")
    with pytest.raises(SchedulesFull):
        await _put(lab, tenant, name="c")
    await _put(lab, tenant, name="b", version=2)
