"""The clock moves fourteen days: a seasoning and a cutover come once, whoever is at work."""

from __future__ import annotations

import json
from datetime import timedelta

from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc
from payments.events.v1.event_type_events_pb2 import EventTypeCutOver
from payments.events.v1.orchestration_events_pb2 import PaymentCompleted, PaymentReceived
from payments.type.v1 import type_pb2

from services.events import manifest
from services.runtime.clock import ManualClock
from services.runtime.context import acting
from services.runtime.postgres.roles import DatabaseUrls
from tests.support.events.lab import call, new_tenant
from tests.support.mesh.serving import Mesh, Served, running
from tests.support.timers.lab import START, TimerLab
from tests.support.timers.seasoning import build_seasoning

Register = events_service_pb2.RegisterEventTypesRequest
Publish = events_service_pb2.PublishEventsRequest


def _stub(mesh: Mesh, tenant: str) -> events_service_pb2_grpc.EventServiceAsyncStub:
    return events_service_pb2_grpc.EventServiceStub(mesh.channel(tenant))


def _type(*versions: int, cutover_days: int | None = None) -> events_pb2.EventType:
    found = events_pb2.EventType(subject="stock.moved", owner="warehouse")
    for version in versions:
        schema = {"type": "object", "properties": {f"v{version}": {"type": "string"}}}
        item = found.versions.add(version=version, json_schema=json.dumps(schema))
        if cutover_days is not None and version > 1:
            item.cutover_at.FromDatetime(START + timedelta(days=cutover_days))
    return found


async def _cutovers(lab: TimerLab, tenant: str) -> list[EventTypeCutOver]:
    return [
        EventTypeCutOver.FromString(bytes(row["payload"]))
        for row in await lab.log(tenant)
        if row["subject"] == "event-type.cutover"
    ]


async def test_seasoning_and_cutover_fire_once(lab: TimerLab, urls: DatabaseUrls) -> None:
    """Two whole nodes and three further pumps share the database and the clock."""
    tenant = new_tenant()
    builds: Served = [manifest.SERVICE, build_seasoning]
    assert isinstance(lab.clock, ManualClock)
    async with (
        running(urls, builds, clock=lab.clock) as mesh,
        running(urls, builds, clock=lab.clock) as other,
        lab.pumping(3),
    ):
        stub = _stub(mesh, tenant)
        for _ in range(2):
            await stub.RegisterEventTypes(Register(event_types=[_type(1, 2)]))
        with acting(call(tenant)):
            async with lab.database.unit_of_work("lab.publish") as work:
                for number in range(20):
                    work.publish(PaymentReceived(payment_id=f"p{number}", amount_cents=1))
        await mesh.drain_events()
        await mesh.node.timers.fire_due()
        assert await _cutovers(lab, tenant) == []

        old = events_pb2.Event(subject="stock.moved", json=b"{}")
        (before,) = (await stub.PublishEvents(Publish(events=[old]))).results
        assert before.outcome == type_pb2.OUTCOME_ACCEPTED
        lab.advance(days=14)
        await mesh.node.timers.fire_due()
        await other.drain_events()
        await mesh.drain_events()
        (after,) = (await stub.PublishEvents(Publish(events=[old]))).results
        assert after.reason == "EVENT_VERSION_RETIRED"

    (cutover,) = await _cutovers(lab, tenant)
    assert (cutover.subject, cutover.schema_version, cutover.retired_schema_version) == (
        "stock.moved",
        2,
        1,
    )
    assert cutover.cutover_at.ToDatetime() == (START + timedelta(days=14)).replace(tzinfo=None)
    released = [
        PaymentCompleted.FromString(bytes(row["payload"])).payment_id
        for row in await lab.log(tenant)
        if row["subject"] == "payment.completed"
    ]
    assert sorted(released) == sorted(f"p{number}" for number in range(20))
    journeys = await lab.rows(
        "SELECT status, step_count FROM mesh.journey WHERE tenant_id = %s", tenant
    )
    assert journeys == [{"status": "completed", "step_count": 4}] * 20
    assert await lab.rows("SELECT 1 FROM mesh.timer") == []


async def test_a_cutover_that_is_moved_comes_once_at_its_new_time(
    lab: TimerLab, urls: DatabaseUrls
) -> None:
    tenant = new_tenant()
    async with running(urls, [manifest.SERVICE], clock=lab.clock) as mesh:
        stub = _stub(mesh, tenant)
        await stub.RegisterEventTypes(Register(event_types=[_type(1, 2)]))
        await stub.RegisterEventTypes(Register(event_types=[_type(1, 2, cutover_days=30)]))
        waiting = await stub.ListTimers(events_service_pb2.ListTimersRequest())
        (timer,) = waiting.timers
        assert timer.key == "event-type/stock.moved/2"
        lab.advance(days=29)
        await mesh.node.timers.fire_due()
        assert await _cutovers(lab, tenant) == []
        lab.advance(days=1)
        await mesh.node.timers.fire_due()
        # A version that is past its cutover and gets another field is not cut over again.
        wider = _type(1, 2)
        wider.versions[1].json_schema = json.dumps(
            {"type": "object", "properties": {"v2": {"type": "string"}, "more": {}}}
        )
        (result,) = (await stub.RegisterEventTypes(Register(event_types=[wider]))).results
        assert result.outcome == type_pb2.OUTCOME_ACCEPTED
        lab.advance(days=100)
        await mesh.node.timers.fire_due()
    (cutover,) = await _cutovers(lab, tenant)
    assert cutover.cutover_at.ToDatetime() == (START + timedelta(days=30)).replace(tzinfo=None)


async def test_what_waits_at_a_stop_comes_after_the_next_start(
    lab: TimerLab, urls: DatabaseUrls
) -> None:
    tenant = new_tenant()
    async with running(urls, [], clock=lab.clock):
        await lab.schedule(tenant, "k", minutes=10)
    lab.advance(minutes=10)
    async with running(urls, [], clock=lab.clock) as mesh:
        await mesh.node.timers.fire_due()
    assert await lab.versions(tenant) == [("k", 1)]
