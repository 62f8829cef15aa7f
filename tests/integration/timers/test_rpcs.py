"""Timers, schedules and journeys through EventService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf import struct_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from payments.events.v1 import (
    events_pb2,
    events_service_pb2,
    events_service_pb2_grpc,
    timers_pb2,
)
from payments.events.v1.orchestration_events_pb2 import PaymentFailed, PaymentReceived

from services.events import manifest
from services.runtime.context import acting
from services.runtime.journeys.definition import Data, JourneyType, Outcome, State, Trigger
from services.runtime.journeys.runner import PostgresJourneys
from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.service import Runtime, Service
from services.runtime.timers import pump as pumps
from tests.support.events.lab import call, new_tenant
from tests.support.mesh.serving import Mesh, running
from tests.support.timers.lab import START, TimerLab
from tests.support.timers.seasoning import build_seasoning

pb = events_service_pb2


@pytest.fixture
async def mesh(lab: TimerLab, urls: DatabaseUrls) -> AsyncIterator[Mesh]:
    async with running(urls, [manifest.SERVICE, build_seasoning], clock=lab.clock) as mesh:
        yield mesh


@pytest.fixture
def tenant() -> str:
    return new_tenant()


@pytest.fixture
async def stub(mesh: Mesh, tenant: str) -> Any:
    return events_service_pb2_grpc.EventServiceStub(mesh.channel(tenant))


async def refused(call_: Any) -> str:
    """What a call was refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call_
    return str(error.value.details())


async def test_timers_are_shown_and_cancelled(lab: TimerLab, stub: Any, tenant: str) -> None:
    ids = {key: await lab.schedule(tenant, key, days=int(key[-1])) for key in ("a/1", "a/2", "b/3")}
    await lab.schedule(new_tenant(), "a/9")
    page = await stub.ListTimers(pb.ListTimersRequest(page_size=2))
    rest = await stub.ListTimers(pb.ListTimersRequest(page_size=2, page_token=page.next_page_token))
    assert [timer.key for timer in (*page.timers, *rest.timers)] == ["a/1", "a/2", "b/3"]
    assert rest.next_page_token == ""
    first = page.timers[0]
    assert (first.timer_id, first.subject, first.event_key) == (ids["a/1"], "plan.created", "a/1")
    assert first.due_at.ToDatetime() == (START + timedelta(days=1)).replace(tzinfo=None)
    early = pb.ListTimersRequest(key_prefix="a/")
    early.due_before.FromDatetime(START + timedelta(days=2))
    assert [timer.key for timer in (await stub.ListTimers(early)).timers] == ["a/1"]

    cancel = pb.CancelTimerRequest(request_id=str(uuid4()), timer_id=ids["a/1"])
    done = await stub.CancelTimer(cancel)
    assert done.timer == first
    assert await stub.CancelTimer(cancel) == done, "the same answer again"
    again = pb.CancelTimerRequest(request_id=str(uuid4()), timer_id=ids["a/1"])
    assert "does not exist" in await refused(stub.CancelTimer(again))
    lab.advance(days=30)
    assert await lab.fire() <= 3
    assert [key for key, _ in await lab.versions(tenant)] == ["a/2", "b/3"]
    audit = await lab.rows(
        "SELECT entity_id, before FROM mesh.audit WHERE tenant_id = %s AND entity = 'timer'", tenant
    )
    assert [(row["entity_id"], row["before"]["key"]) for row in audit] == [(ids["a/1"], "a/1")]


async def test_timers_have_a_health_of_their_own(
    mesh: Mesh, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pump that cannot reach the database says so, and takes no service with it."""
    health: Any = health_pb2_grpc.HealthStub(mesh.channel(tenant))
    states = health_pb2.HealthCheckResponse

    async def state(name: str) -> int:
        found = await health.Check(health_pb2.HealthCheckRequest(service=name))
        return int(found.status)

    assert await state("timers") == states.SERVING
    monkeypatch.setattr(pumps.TimerPump, "stalled_seconds", 16.0)
    async with asyncio.timeout(10):
        while await state("timers") == states.SERVING:  # noqa: ASYNC110 - asked as a balancer asks
            await asyncio.sleep(0.1)
    assert await state("payments.events.v1.EventService") == states.SERVING


async def test_a_page_token_belongs_to_its_list(lab: TimerLab, stub: Any, tenant: str) -> None:
    for key in ("a/1", "a/2"):
        await lab.schedule(tenant, key, days=1)
    page = await stub.ListTimers(pb.ListTimersRequest(page_size=1))
    other = pb.ListTimersRequest(key_prefix="a/", page_token=page.next_page_token)
    assert "page token" in await refused(stub.ListTimers(other))
    for method, request in (
        (stub.ListJourneys, pb.ListJourneysRequest(page_token="x")),
        (stub.ListSchedules, pb.ListSchedulesRequest(page_token="x")),
    ):
        assert "page token" in await refused(method(request))


async def _register(stub: Any) -> None:
    type_ = events_pb2.EventType(subject="report.due", owner="office", key_field="desk")
    type_.versions.add(
        version=1,
        json_schema='{"type": "object", "required": ["desk"], "properties": {"desk": {"type": "string"}}}',
    )
    await stub.RegisterEventTypes(pb.RegisterEventTypesRequest(event_types=[type_]))


def _schedule(**fields: Any) -> timers_pb2.Schedule:
    parts = {
        "name": "daily",
        "cron": "0 9 * * *",
        "subject": "report.due",
        "json": b'{"desk": "d1"}',
    }
    return timers_pb2.Schedule(**{**parts, **fields})


def _put(schedule: timers_pb2.Schedule) -> pb.PutScheduleRequest:
    return pb.PutScheduleRequest(request_id=str(uuid4()), schedule=schedule)


async def test_a_schedule_publishes_events_of_an_outside_type(
    lab: TimerLab, mesh: Mesh, stub: Any, tenant: str
) -> None:
    await _register(stub)
    put = _put(_schedule(time_zone="America/New_York"))
    stands = (await stub.PutSchedule(put)).schedule
    assert (await stub.PutSchedule(put)).schedule == stands
    assert (stands.time_zone, stands.missed) == ("America/New_York", timers_pb2.MISSED_POLICY_ONE)
    assert stands.next_at.ToDatetime() == (START + timedelta(hours=4.5)).replace(tzinfo=None)
    assert not stands.HasField("last_at")
    lab.advance(days=1)
    await mesh.node.timers.fire_due()
    await mesh.drain_events()
    (event,) = (await stub.ListEvents(pb.ListEventsRequest(subjects=["report.due"]))).events
    assert (event.json, event.key, event.schema_version) == (b'{"desk": "d1"}', "d1", 1)
    assert event.metadata.causation_id == "schedule:daily@2026-03-01T14:00:00Z"
    (listed,) = (await stub.ListSchedules(pb.ListSchedulesRequest())).schedules
    assert listed.last_at.ToDatetime() == (START + timedelta(hours=4.5)).replace(tzinfo=None)

    delete = pb.DeleteScheduleRequest(request_id=str(uuid4()), name="daily")
    assert (await stub.DeleteSchedule(delete)).schedule.name == "daily"
    again = pb.DeleteScheduleRequest(request_id=str(uuid4()), name="daily")
    assert "does not exist" in await refused(stub.DeleteSchedule(again))
    assert list((await stub.ListSchedules(pb.ListSchedulesRequest())).schedules) == []
    audit = await lab.rows(
        "SELECT entity_id FROM mesh.audit WHERE tenant_id = %s AND entity = 'schedule'", tenant
    )
    assert len(audit) == 2


async def test_what_orders_the_events_of_a_schedule(stub: Any) -> None:
    await _register(stub)
    data = struct_pb2.Struct()
    data.update({"desk": "d2"})
    schedule = timers_pb2.Schedule(
        name="s", cron="* * * * *", subject="report.due", data=data, key="mine"
    )
    assert (await stub.PutSchedule(_put(schedule))).schedule.json == b'{"desk":"d2"}'
    keyless = events_pb2.EventType(subject="bell.rung", owner="office")
    keyless.versions.add(version=1, json_schema='{"type": "object"}')
    await stub.RegisterEventTypes(pb.RegisterEventTypesRequest(event_types=[keyless]))
    await stub.PutSchedule(_put(_schedule(name="t", subject="bell.rung")))
    await stub.PutSchedule(_put(_schedule(name="u")))
    stands = (await stub.ListSchedules(pb.ListSchedulesRequest())).schedules
    assert [(item.name, item.key) for item in stands] == [("s", "mine"), ("t", "t"), ("u", "d1")]


async def test_a_large_struct_is_refused_as_large_json_is(stub: Any) -> None:
    await _register(stub)
    data = struct_pb2.Struct()
    data.update({"desk": "d", "more": "x" * 65536})
    schedule = timers_pb2.Schedule(name="s", cron="* * * * *", subject="report.due", data=data)
    assert "too large" in await refused(stub.PutSchedule(_put(schedule)))
    assert "65536" in await refused(stub.PutSchedule(_put(_schedule(json=b'"' + b"x" * 65536))))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cron": "0 25 * * *"}, "cannot be used"),
        ({"cron": "0 0 30 2 *"}, "cannot be used"),
        ({"time_zone": "Mars/Olympus"}, "cannot be used"),
        ({"subject": "nobody.knows"}, "is not registered"),
        ({"subject": "payment.received"}, "published only by the mesh"),
        ({"json": b'{"desk": 1}'}, "is not of type"),
        ({"json": b"no json"}, "JSON"),
        ({"json": b""}, "payload"),
        ({"name": "with space"}, "name"),
        ({"name": ""}, "name"),
    ],
)
async def test_a_schedule_that_cannot_publish_is_refused(
    stub: Any, fields: dict[str, Any], said: str
) -> None:
    await _register(stub)
    assert said in await refused(stub.PutSchedule(_put(_schedule(**fields))))


async def test_a_refusal_by_the_type_ends_with_the_type(stub: Any) -> None:
    async def register(key_field: str) -> None:
        type_ = events_pb2.EventType(subject="bin.moved", owner="office", key_field=key_field)
        type_.versions.add(version=1, json_schema='{"type": "object"}')
        await stub.RegisterEventTypes(pb.RegisterEventTypesRequest(event_types=[type_]))

    await register("desk")
    put = _put(_schedule(subject="bin.moved", json=b'{"desk": {}}'))
    assert "desk is the ordering key" in await refused(stub.PutSchedule(put))
    await register("shelf")
    assert (await stub.PutSchedule(put)).schedule.subject == "bin.moved"


async def test_journeys_are_shown_with_their_steps(
    lab: TimerLab, mesh: Mesh, stub: Any, tenant: str
) -> None:
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.publish") as work:
            for number in range(3):
                work.publish(PaymentReceived(payment_id=f"p{number}", amount_cents=1))
            work.publish(PaymentFailed(payment_id="p1"))
    await mesh.drain_events()
    page = await stub.ListJourneys(pb.ListJourneysRequest(page_size=2))
    token = page.next_page_token
    rest = await stub.ListJourneys(pb.ListJourneysRequest(page_size=2, page_token=token))
    assert [item.journey_id for item in (*page.journeys, *rest.journeys)] == ["p0", "p1", "p2"]
    assert rest.next_page_token == ""
    held = page.journeys[0]
    assert (held.journey_type, held.version, held.state) == ("seasoning", 1, "held")
    assert held.deadline_at.ToDatetime() == (START + timedelta(days=14)).replace(tzinfo=None)
    assert not held.HasField("ended_at")
    assert list(held.steps) == []
    failed = pb.ListJourneysRequest(status=timers_pb2.JOURNEY_STATUS_FAILED, state="held")
    assert [item.journey_id for item in (await stub.ListJourneys(failed)).journeys] == ["p1"]
    other = pb.ListJourneysRequest(journey_type="other")
    assert list((await stub.ListJourneys(other)).journeys) == []

    get = pb.GetJourneyRequest(journey_type="seasoning", journey_id="p1")
    found = (await stub.GetJourney(get)).journey
    assert (found.status, found.reason) == (timers_pb2.JOURNEY_STATUS_FAILED, "disputed")
    assert [timers_pb2.JourneyStepKind.Name(step.kind)[18:] for step in found.steps] == [
        "STARTED",
        "ADVANCED",
        "COMPENSATED",
        "FAILED",
    ]
    assert found.step_count == 4
    assert found.steps[2].cause == "hold"
    assert "StepFailed" in found.steps[2].commands
    missing = pb.GetJourneyRequest(journey_type="seasoning", journey_id="none")
    assert "does not exist" in await refused(stub.GetJourney(missing))


def _ring(data: Data, trigger: Trigger) -> Outcome:
    return Outcome("ringing", data={"rings": 1})


def _ring_again(data: Data, trigger: Trigger) -> Outcome:
    rings = data["rings"] + trigger.document()["times"]
    return Outcome("quiet" if rings > 3 else "", data={"rings": rings})


BELLS = JourneyType(
    "bells",
    1,
    _ring,
    {"ringing": State(on={"bell.rung.v2": _ring_again}), "quiet": State(is_end=True)},
    {"bell.rung.v2": lambda trigger: trigger.document().get("bell")},
    {"bell.rung.v2": lambda trigger: {}},
)


def build_bells(runtime: Runtime) -> Service:
    """A service whose journeys are driven by events of outside producers."""
    return Service([], PostgresJourneys([BELLS]).reactions())


async def test_events_of_outside_producers_drive_journeys(
    lab: TimerLab, urls: DatabaseUrls, tenant: str
) -> None:
    async with running(urls, [manifest.SERVICE, build_bells], clock=lab.clock) as mesh:
        stub: Any = events_service_pb2_grpc.EventServiceStub(mesh.channel(tenant))
        type_ = events_pb2.EventType(subject="bell.rung", owner="tower")
        for version in (1, 2):
            type_.versions.add(version=version, json_schema='{"type": "object"}')
        await stub.RegisterEventTypes(pb.RegisterEventTypesRequest(event_types=[type_]))
        rung = [
            events_pb2.Event(subject=subject, key="big", json=payload)
            for subject, payload in (
                ("bell.rung", b'{"bell": "big", "unknown": 1}'),
                ("bell.rung.v2", b'{"bell": "big", "unknown": 1}'),
                ("bell.rung.v2", b'{"times": 9}'),
                ("bell.rung.v2", b'{"bell": "big", "times": 1}'),
                ("bell.rung.v2", b'{"bell": "big", "times": 2, "unknown": {}}'),
            )
        ]
        await stub.PublishEvents(pb.PublishEventsRequest(events=rung))
        await mesh.drain_events()
        get = pb.GetJourneyRequest(journey_type="bells", journey_id="big")
        found = (await stub.GetJourney(get)).journey
    assert found.status == timers_pb2.JOURNEY_STATUS_COMPLETED
    assert (found.state, found.data, found.step_count) == ("quiet", '{"rings": 4}', 4)
