"""Timers: an event when its time has come, once, whoever fires it."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from google.protobuf import empty_pb2
from payments.events.v1.pricing_events_pb2 import PlanCreated

from services.runtime.context import acting
from services.runtime.journeys import store as journeys
from services.runtime.outbox import timer_event as event
from services.runtime.outbox import timer_setting as setting
from services.runtime.outbox.publish import EventTooLarge
from services.runtime.timers import pump as pumps
from services.runtime.timers import store
from services.runtime.timers.pump import TimerPump
from tests.support.events.lab import call, new_tenant
from tests.support.postgres.server import DatabaseUrls
from tests.support.timers.lab import START, TimerLab


async def _waiting(lab: TimerLab, tenant: str) -> list[str]:
    rows = await lab.rows("SELECT key FROM mesh.timer WHERE tenant_id = %s ORDER BY key", tenant)
    return [row["key"] for row in rows]


async def _until_logged(lab: TimerLab, tenant: str, events: int) -> None:
    async with asyncio.timeout(10):
        while len(await lab.log(tenant)) < events:  # noqa: ASYNC110 - rows ring no bell
            await asyncio.sleep(0.01)


async def test_nothing_comes_before_its_time(lab: TimerLab) -> None:
    tenant = new_tenant()
    await lab.schedule(tenant, "k", days=14)
    lab.advance(days=13, hours=23, minutes=59, seconds=59)
    assert await lab.fire() == 0
    lab.advance(seconds=1)
    assert await lab.fire() == 1
    assert await lab.versions(tenant) == [("k", 1)]
    assert await lab.fire() == 0
    assert await _waiting(lab, tenant) == []


async def test_the_event_has_the_trail_and_the_id_of_its_timer(lab: TimerLab) -> None:
    who = call(new_tenant(), causation_id="cause", traceparent="00-ab-cd-01")
    with acting(who):
        async with lab.database.unit_of_work("lab.schedule") as work:
            timer_id = await work.schedule(PlanCreated(plan_id="p", plan_version=7), START)
    await lab.fire()
    (row,) = await lab.log(who.tenant_id)
    assert row["event_id"] == timer_id
    assert (row["subject"], row["schema_version"], row["key"]) == ("plan.created", 1, "p")
    assert row["message_name"] == "payments.events.v1.PlanCreated"
    assert (row["correlation_id"], row["causation_id"]) == (who.correlation_id, "cause")
    assert (row["traceparent"], row["created_at"]) == ("00-ab-cd-01", START)


async def test_the_same_key_replaces_and_a_cancelled_timer_is_gone(lab: TimerLab) -> None:
    tenant = new_tenant()
    await lab.schedule(tenant, "k", 1, hours=1)
    await lab.schedule(tenant, "k", 2, hours=2)
    await lab.schedule(tenant, "other", 3, hours=1)
    lab.advance(hours=1)
    assert await lab.fire() == 1
    assert await lab.versions(tenant) == [("other", 3)]
    assert await lab.cancel(tenant, "k", "other", "never-set") == 1
    lab.advance(days=365)
    assert await lab.fire() == 0


async def test_timers_without_a_key_do_not_replace_one_another(lab: TimerLab) -> None:
    tenant = new_tenant()
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.schedule") as work:
            for version in (1, 2):
                await work.schedule(PlanCreated(plan_id="p", plan_version=version), START)
    await lab.fire()
    assert await lab.versions(tenant) == [("p", 1), ("p", 2)]


async def test_what_is_rolled_back_was_never_scheduled_nor_cancelled(lab: TimerLab) -> None:
    tenant = new_tenant()
    await lab.schedule(tenant, "stays", hours=1)
    with acting(call(tenant)), pytest.raises(RuntimeError, match="changed my mind"):
        async with lab.database.unit_of_work("lab.schedule") as work:
            await work.schedule(PlanCreated(plan_id="gone"), START, key="gone")
            assert await work.cancel_timers("stays") == 1
            raise RuntimeError("changed my mind")
    assert await _waiting(lab, tenant) == ["stays"]


async def test_what_cannot_become_an_event_is_refused_when_it_is_set(lab: TimerLab) -> None:
    with acting(call(new_tenant())):
        async with lab.database.unit_of_work("lab.schedule") as work:
            with pytest.raises(TypeError):
                await work.schedule(empty_pb2.Empty(), START)
            with pytest.raises(ValueError, match="ordering key"):
                await work.schedule(PlanCreated(), START)
            with pytest.raises(ValueError, match="zone"):
                await work.schedule(PlanCreated(plan_id="p"), datetime(2026, 3, 1))  # noqa: DTZ001
            with pytest.raises(EventTooLarge):
                heavy = PlanCreated(plan_id="p")
                heavy.plan.name = "x" * setting.PAYLOAD_BYTES_MAX
                await work.schedule(heavy, START)
            with pytest.raises(ValueError, match="key"):
                await work.schedule(PlanCreated(plan_id="p"), START, key="x" * 401)


async def test_a_tenants_timers_come_in_the_order_of_their_times(lab: TimerLab) -> None:
    tenant = new_tenant()
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.schedule") as work:
            for number in range(450):
                version = number * 7919 % 450
                due_at = START + timedelta(seconds=version)
                payload = PlanCreated(plan_id="p", plan_version=version)
                await work.schedule(payload, due_at, key=f"k{number}")
    lab.advance(hours=1)
    async with lab.pumping(4):
        await _until_logged(lab, tenant, 450)
    assert [version for _, version in await lab.versions(tenant)] == list(range(450))


async def test_how_far_the_pump_is_behind(lab: TimerLab) -> None:
    told: dict[str, float] = {}
    telemetry: Any = SimpleNamespace(gauge=lambda name, value, **_: told.update({name: value}))
    tenant = new_tenant()
    await lab.fire()
    for number in range(3):
        await lab.schedule(tenant, f"k{number}", seconds=10)
    lab.advance(seconds=100)
    pump = TimerPump(lab.urls.relay, bus=lab.bus, clock=lab.clock, telemetry=telemetry)
    async with await pump._session() as session:
        await pump._lag.tell(partial(pump._due, session), lab.clock.now)
        assert told == {"tollmesh.work.due": 3, "tollmesh.work.oldest_s": 90.0}
        await lab.fire()
        assert (await pump._due(session)).due == 0
    await pump.stop()


async def test_several_pumps_fire_each_timer_once_and_are_fair(lab: TimerLab) -> None:
    busy, quiet = new_tenant(), new_tenant()
    with acting(call(busy)):
        async with lab.database.unit_of_work("lab.schedule") as work:
            for number in range(3 * pumps.BATCH_MAX):
                await work.schedule(PlanCreated(plan_id="p"), START, key=f"k{number}")
    await lab.schedule(quiet, "k", minutes=1)
    lab.advance(days=14)
    made = [lab.pump() for _ in range(3)]
    fired = await asyncio.gather(*(pump.fire_due() for pump in made))
    for pump in made:
        await pump.stop()
    assert sum(fired) == 3 * pumps.BATCH_MAX + 1
    assert len(await lab.log(busy)) == 3 * pumps.BATCH_MAX
    (one,) = await lab.log(quiet)
    behind = await lab.rows(
        "SELECT count(*) AS n FROM mesh.event WHERE tenant_id = %s AND seq > %s", busy, one["seq"]
    )
    assert behind[0]["n"] >= pumps.BATCH_MAX, "one batch each, then the next tenant"


async def test_where_much_is_due_tenants_take_turns(
    lab: TimerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More is due than is looked at: tenants are gone through one by one, a few at a time."""
    monkeypatch.setattr(pumps, "WINDOW_MAX", 3)
    monkeypatch.setattr(pumps, "TENANTS_MAX", 2)
    monkeypatch.setattr(pumps, "BATCH_MAX", 2)
    tenants = [new_tenant() for _ in range(5)]
    for tenant in tenants:
        for number in range(3):
            await lab.schedule(tenant, f"k{number}", seconds=number)
        await lab.schedule(tenant, "far", days=9)
    lab.advance(minutes=1)
    pump = lab.pump()
    async with await pump._session() as session:
        first = [await pump._due_tenants(session, lab.clock.now()) for _ in range(3)]
    assert [len(turn) for turn in first] == [2, 2, 1]
    assert sorted(name for turn in first for name in turn) == sorted(tenants)
    assert await pump.fire_due() == 15
    await pump.stop()
    for tenant in tenants:
        assert [key for key, _ in await lab.versions(tenant)] == ["k0", "k1", "k2"]


async def test_a_running_pump_sees_what_is_set_and_what_time_brings(lab: TimerLab) -> None:
    tenant = new_tenant()
    async with lab.pumping():
        await lab.schedule(tenant, "now", seconds=0)
        await _until_logged(lab, tenant, 1)
        await lab.schedule(tenant, "later", days=14)
        lab.advance(days=14)
        await _until_logged(lab, tenant, 2)
    assert await lab.versions(tenant) == [("now", 1), ("later", 1)]


async def test_a_cancel_under_way_keeps_its_timer_and_a_fired_one_cannot_be_cancelled(
    lab: TimerLab,
) -> None:
    tenant = new_tenant()
    await lab.schedule(tenant, "k")
    await lab.schedule(tenant, "free")
    pump = lab.pump()
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.cancel") as work:
            assert await work.cancel_timers("k") == 1
            session = await pump._session()
            async with session:
                assert await pump._round(session, START) == 1
    await pump.stop()
    assert await lab.versions(tenant) == [("free", 1)]
    assert await lab.cancel(tenant, "free") == 0


async def test_an_event_that_the_log_refuses_is_put_off_alone(lab: TimerLab) -> None:
    """An outside producer took the id of a timer for an event of its own."""
    tenant = new_tenant()
    taken = await lab.schedule(tenant, "taken")
    await lab.schedule(tenant, "sound", seconds=1)
    await lab.rows(
        "INSERT INTO mesh.event_identity VALUES (%s, substr(sha256(%s), 1, 16), '0123456789abcdef')",
        tenant,
        taken.encode(),
    )
    lab.advance(minutes=1)
    assert await lab.fire() == 1
    assert await lab.versions(tenant) == [("sound", 1)]
    assert await _waiting(lab, tenant) == ["taken"]


async def test_a_database_that_is_away_is_waited_for(
    lab: TimerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = new_tenant()
    away = iter([psycopg.OperationalError("away")] * 2)
    opened = pumps.TimerPump._session

    async def session(self: pumps.TimerPump) -> object:
        for error in away:
            raise error
        return await opened(self)

    monkeypatch.setattr(pumps.TimerPump, "_session", session)
    await lab.schedule(tenant, "k")
    async with lab.pumping():
        await _until_logged(lab, tenant, 1)


async def test_a_pump_whose_connection_was_cut_goes_on(lab: TimerLab) -> None:
    tenant = new_tenant()
    async with lab.pumping(2):
        await lab.schedule(tenant, "before")
        await _until_logged(lab, tenant, 1)
        cut = await lab.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'tollmesh-relay'"
        )
        assert len(cut) == 2
        await lab.schedule(tenant, "after")
        await _until_logged(lab, tenant, 2)


async def test_a_pump_that_was_paused_holds_its_tenant_for_a_bounded_time(
    lab: TimerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stopped between taking the timers and its commit: it commits nothing, another does."""
    monkeypatch.setattr(pumps, "TRANSACTION_MS_MAX", 300)
    tenant = new_tenant()
    await lab.schedule(tenant, "k")
    paused = lab.pump()
    async with await paused._session() as session:
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            async with session.transaction():
                assert await paused._take(session, tenant)
                assert len(await paused._timers(session, tenant, START, 10)) == 1
                # Another looks in vain until the server has ended the paused transaction.
                assert await lab.fire() == 1
    await paused.stop()
    assert await lab.versions(tenant) == [("k", 1)]


async def test_a_key_that_is_set_again_while_it_fires_has_both(lab: TimerLab) -> None:
    tenant = new_tenant()
    await lab.schedule(tenant, "k", 1)
    pump = lab.pump()
    async with await pump._session() as session:
        async with session.transaction():
            assert await pump._take(session, tenant)
            taken = await pump._timers(session, tenant, START, 10)
            again = asyncio.create_task(lab.schedule(tenant, "k", 2, days=1))
            await _until_somebody_waits(lab)
            await event.write(session, taken)
        await again
    await pump.stop()
    assert await lab.versions(tenant) == [("k", 1)]
    lab.advance(days=1)
    assert await lab.fire() == 1
    assert await lab.versions(tenant) == [("k", 1), ("k", 2)]


async def test_a_timer_that_is_put_off_while_it_is_due_does_not_fire(lab: TimerLab) -> None:
    """The pump sees it due; before it can take it, it was replaced by one of tomorrow."""
    tenant = new_tenant()
    await lab.schedule(tenant, "k", 1)
    pump = lab.pump()
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.schedule") as work:
            later = PlanCreated(plan_id="k", plan_version=2)
            await work.schedule(later, START + timedelta(days=1), key="k")
            async with await pump._session() as session:
                assert await pump._round(session, START) == 0
    await pump.stop()
    assert await lab.fire() == 0
    assert await lab.versions(tenant) == []


async def _until_somebody_waits(lab: TimerLab) -> None:
    query = (
        "SELECT 1 FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(10):
        while not await lab.rows(query):  # noqa: ASYNC110 - locks ring no bell
            await asyncio.sleep(0.01)


async def test_timers_are_listed_by_key_in_pages(lab: TimerLab) -> None:
    tenant = new_tenant()
    for key in ("a/1", "a/2", "b/1"):
        await lab.schedule(tenant, key, hours=int(key[-1]))
    await lab.schedule(new_tenant(), "a/1")
    with acting(call(tenant)):
        async with lab.database.read() as work:
            listed = await store.page(work, "a/", None, "", 10)
            assert [timer.key for timer in listed] == ["a/1", "a/2"]
            assert (await store.page(work, "", None, "a/1", 1))[0].key == "a/2"
            early = await store.page(work, "", START + timedelta(hours=2), "", 10)
            assert [timer.key for timer in early] == ["a/1", "b/1"]


async def test_waiting_costs_next_to_nothing(lab: TimerLab) -> None:
    """Many timers in the far: the pump looks at the ends of two indexes."""
    tenant = new_tenant()
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.schedule") as work:
            for number in range(500):
                due_at = START + timedelta(days=number + 1)
                await work.schedule(PlanCreated(plan_id="p"), due_at, key=f"k{number}")
    session = await lab.pump()._session()
    async with session:
        plan = await session.execute(b"EXPLAIN (FORMAT JSON) " + pumps._SQL["next_due"].encode())
        text = str((await plan.fetchall())[0][0])
        assert "timer_due" in text
        assert "schedule_due" in text
        assert "Seq Scan" not in text


_PAGE = {"first": "a", "last": "b", "state": "", "after_type": "a", "after_id": "x"}
_PLANS = [
    (
        store,
        "list_timers",
        {"after": "", "first": "a", "end": "b", "due_before": START},
        "timer_pkey",
    ),
    (store, "cancel_timers", {"keys": ["k"]}, "timer_pkey"),
    # Of an empty table either index will do.
    (store, "cancel_timer_by_id", {"timer_id": "t"}, "timer_"),
    (pumps, "take_timers", {"now": START}, "timer_tenant_due"),
    (pumps, "take_schedules", {"now": START}, "schedule_tenant_due"),
    (journeys, "list_journeys", _PAGE, "journey_pkey"),
    (journeys, "list_journeys_of_status", {**_PAGE, "status": "running"}, "journey_status"),
    (journeys, "last_steps", {"journey_type": "a", "journey_id": "b"}, "journey_step_pkey"),
]


@pytest.mark.parametrize(("module", "name", "asked", "index"), _PLANS)
def test_the_services_role_uses_indexes(
    untouched_database: DatabaseUrls, module: Any, name: str, asked: dict[str, Any], index: str
) -> None:
    with psycopg.connect(
        untouched_database.service, cursor_factory=psycopg.ClientCursor
    ) as connection:
        connection.execute("SELECT set_config('mesh.tenant', 't', true)")
        connection.execute("SET LOCAL enable_seqscan = off")
        statement = f"EXPLAIN {module._SQL[name]}".encode()
        plan = connection.execute(statement, {"tenant_id": "t", "limit": 10, **asked}).fetchall()
    _, _, rest = "\n".join(line for (line,) in plan).partition(index)
    conditions = rest.splitlines()[1]
    assert "Index Cond" in conditions
    assert all(f"{key} " in conditions for key in {"list_timers": ["key"]}.get(name, ["tenant_id"]))
