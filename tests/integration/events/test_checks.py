"""What strangers send is read and checked where it holds up nobody, and costs so much and no more."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.events import bootstrap
from services.events.adapters import checks
from services.events.app.publisher import Publisher
from services.events.domain import schemas
from services.events.domain.outside import EventOutcome
from services.events.servicer import incoming
from services.runtime.context import acting
from services.runtime.errors import DomainError
from services.runtime.service import Runtime, Service
from services.runtime.workers import Workers
from tests.support.events.lab import Lab, call, new_tenant
from tests.support.events.outside import payload_of
from tests.support.measures.loop_watch import STEP_S, watching
from tests.support.mesh.serving import Mesh, running
from tests.unit.events.test_expansion import BEYOND, chain

ACCEPTED, REJECTED = type_pb2.OUTCOME_ACCEPTED, type_pb2.OUTCOME_REJECTED
BATCH = "application/cloudevents-batch+json"
Event, EventType = events_pb2.Event, events_pb2.EventType
MIB = 1024 * 1024


@pytest.fixture(scope="module")
async def mesh(lab: Lab) -> AsyncIterator[Mesh]:
    """A mesh in which an event may take 50 ms of a processor."""

    def build(runtime: Runtime) -> Service:
        return bootstrap.assemble(runtime, cpu_seconds=0.05)[0]

    async with running(lab.urls, [build]) as found:
        yield found


@pytest.fixture(scope="module")
async def roomy() -> AsyncIterator[checks.Checks]:
    workers = Workers(cpu_seconds=60)
    yield checks.Checks(workers, 60)
    await workers.close()


def stub(mesh: Mesh, tenant: str) -> events_service_pb2_grpc.EventServiceAsyncStub:
    return events_service_pb2_grpc.EventServiceStub(mesh.channel(tenant))


async def register(
    mesh: Mesh, tenant: str, schema: Any
) -> events_service_pb2.RegisterEventTypeResult:
    type_ = EventType(subject="stock.moved", owner="shop")
    type_.versions.add(version=1, json_schema=json.dumps(schema))
    request = events_service_pb2.RegisterEventTypesRequest(event_types=[type_])
    (found,) = (await stub(mesh, tenant).RegisterEventTypes(request)).results
    return found


# Sound JSON below the limit of a payload, and far more to look at than 50 ms are enough for.
LONG = b"[" + b",".join([b"[]"] * 150_000) + b"]"


async def test_an_event_that_takes_too_long_is_rejected_alone(mesh: Mesh) -> None:
    tenant = new_tenant()
    await register(mesh, tenant, {"type": ["array", "object"]})
    sent = [
        Event(id="a", subject="stock.moved", json=b"{}"),
        Event(id="b", subject="stock.moved", json=LONG),
        Event(id="c", subject="stock.moved", json=b"{}"),
    ]
    request = events_service_pb2.PublishEventsRequest(events=sent)
    first, long, last = (await stub(mesh, tenant).PublishEvents(request)).results
    assert [first.outcome, long.outcome, last.outcome] == [ACCEPTED, REJECTED, ACCEPTED]
    assert (long.id, long.reason) == ("b", "EVENT_CHECK_TOO_COSTLY")
    assert "simplify" in long.message
    # And the next call is served as ever.
    request = events_service_pb2.PublishEventsRequest(
        events=[
            Event(subject="order.created", json=json.dumps(payload_of("order.created")).encode())
        ]
    )
    (fine,) = (await stub(mesh, tenant).PublishEvents(request)).results
    assert fine.outcome == ACCEPTED


async def test_behind_three_such_events_the_others_are_told_why(mesh: Mesh) -> None:
    tenant = new_tenant()
    await register(mesh, tenant, {})
    texts = [LONG] * 3 + [b"{}"]
    sent = [Event(id=f"e{n}", subject="stock.moved", json=text) for n, text in enumerate(texts)]
    request = events_service_pb2.PublishEventsRequest(events=sent)
    results = (await stub(mesh, tenant).PublishEvents(request)).results
    assert [r.reason for r in results] == ["EVENT_CHECK_TOO_COSTLY"] * 4
    assert "not checked" in results[3].message


async def test_a_schema_just_beyond_the_bound_is_no_type(mesh: Mesh) -> None:
    tenant = new_tenant()
    found = await register(mesh, tenant, chain(BEYOND))
    assert (found.outcome, found.reason) == (REJECTED, "EVENT_SCHEMA_INVALID")
    assert str(schemas.EXPANDED_MAX) in found.message
    found = await register(mesh, tenant, {"allOf": [{"$ref": "#"}]})
    assert (found.outcome, found.reason) == (REJECTED, "EVENT_SCHEMA_INVALID")
    found = await register(mesh, tenant, chain(BEYOND - 1))
    assert found.outcome == ACCEPTED


@pytest.mark.parametrize(
    "number", [b"1e1000000000000000000", b"-1e-1000000000000000000", b"7" * 5000, b"NaN", b"1e1001"]
)
async def test_a_number_that_does_not_read_takes_no_other_event_along(
    mesh: Mesh, number: bytes
) -> None:
    tenant = new_tenant()
    await register(mesh, tenant, {"type": "object"})
    good = b'{"id": "%s", "subject": "stock.moved", "data": {"a": 1e400}}'
    bad = b'{"id": "bad", "subject": "stock.moved", "data": {"a": %s}}' % number
    raw = b'{"events": [%s, %s, %s]}' % (good % b"x", bad, good % b"y")
    answer = await stub(mesh, tenant).PublishEvents(
        events_service_pb2.PublishEventsRequest(raw_request=raw)
    )
    assert [r.outcome for r in answer.results] == [ACCEPTED, REJECTED, ACCEPTED]
    assert answer.results[1].reason == "EVENT_PAYLOAD_INVALID"
    # The same as messages, and as CloudEvents.
    sent = [
        Event(id="m", subject="stock.moved", json=b"[%s]" % number),
        Event(id="bad", subject="x"),
    ]
    answer = await stub(mesh, tenant).PublishEvents(
        events_service_pb2.PublishEventsRequest(events=sent)
    )
    assert [r.outcome for r in answer.results] == [REJECTED, REJECTED]
    cloud = b'{"specversion":"1.0","id":"%s","source":"/a","type":"stock.moved","data":%s}'
    batch = b"[%s,%s]" % (cloud % (b"c", b"[%s]" % number), cloud % (b"d", b"{}"))
    told = await stub(mesh, tenant).PublishCloudEvents(
        events_service_pb2.PublishCloudEventsRequest(content_type=BATCH, raw_request=batch)
    )
    assert [r.outcome for r in told.results] == [REJECTED, ACCEPTED]
    assert told.results[0].id == "c"


HALF = r"\udc00"
OF_EVENTS = [
    '{"id": "HALF", "subject": "stock.moved", "data": {}}',
    '{"id": "b", "subject": "HALF", "data": {}}',
    '{"id": "b", "subject": "stock.moved", "key": "HALF", "data": {}}',
    '{"id": "b", "subject": "stock.moved", "HALF": 1, "data": {}}',
    '{"id": "b", "subject": "stock.moved", "metadata": {"HALF": "x"}, "data": {}}',
    '{"id": "b", "subject": "stock.moved", "metadata": {"correlation_id": "HALF"}, "data": {}}',
    '{"id": "b", "subject": "stock.moved", "message": {"@type": "HALF"}}',
    '{"id": "b", "subject": "stock.moved", "data": {"HALF": 1}}',
    '{"id": "b", "subject": "stock.moved", "data": ["HALF"]}',
]
OF_CLOUD_EVENTS = [
    '"id": "HALF", "source": "/a", "type": "stock.moved"',
    '"id": "b", "source": "HALF", "type": "stock.moved"',
    '"id": "b", "source": "/a", "type": "HALF"',
    '"id": "b", "source": "/a", "type": "stock.moved", "subject": "HALF"',
    '"id": "b", "source": "/a", "type": "stock.moved", "time": "HALF"',
    '"id": "b", "source": "/a", "type": "stock.moved", "HALF": "x"',
    '"id": "b", "source": "/a", "type": "stock.moved", "datacontenttype": "HALF"',
    '"id": "b", "source": "/a", "type": "stock.moved", "specversion": "HALF"',
    '"id": "HALF", "source": "/a", "type": "stock.moved", "datacontenttype": "HALF"',
]


@pytest.mark.parametrize("text", OF_EVENTS)
async def test_half_a_surrogate_pair_is_a_fault_of_its_event(mesh: Mesh, text: str) -> None:
    tenant = new_tenant()
    await register(mesh, tenant, {})
    good, other = (f'{{"id": "{name}", "subject": "stock.moved", "data": {{}}}}' for name in "xy")
    raw = f'{{"events": [{good}, {text.replace("HALF", HALF)}, {other}]}}'
    answer = await stub(mesh, tenant).PublishEvents(
        events_service_pb2.PublishEventsRequest(raw_request=raw.encode())
    )
    assert [r.outcome for r in answer.results] == [ACCEPTED, REJECTED, ACCEPTED]
    assert answer.results[1].message


@pytest.mark.parametrize("attributes", OF_CLOUD_EVENTS)
async def test_half_a_surrogate_pair_is_a_fault_of_its_cloud_event(
    mesh: Mesh, attributes: str
) -> None:
    tenant = new_tenant()
    await register(mesh, tenant, {})
    version = '"specversion": "1.0", '
    good, other = (
        f'{{{version}"id": "{name}", "source": "/a", "type": "stock.moved", "data": {{}}}}'
        for name in "xy"
    )
    members = attributes.replace("HALF", HALF)
    bad = f'{{{"" if "specversion" in members else version}"data": {{}}, {members}}}'
    raw = f"[{good},{bad},{other}]"
    answer = await stub(mesh, tenant).PublishCloudEvents(
        events_service_pb2.PublishCloudEventsRequest(content_type=BATCH, raw_request=raw.encode())
    )
    assert [r.outcome for r in answer.results] == [ACCEPTED, REJECTED, ACCEPTED]
    single = await stub(mesh, tenant).PublishCloudEvents(
        events_service_pb2.PublishCloudEventsRequest(
            content_type="application/cloudevents+json", raw_request=bad.encode()
        )
    )
    assert [r.outcome for r in single.results] == [REJECTED]


async def test_an_empty_batch_of_cloudevents_is_answered_with_nothing(mesh: Mesh) -> None:
    request = events_service_pb2.PublishCloudEventsRequest(content_type=BATCH, raw_request=b"[]")
    assert not (await stub(mesh, new_tenant()).PublishCloudEvents(request)).results


# ---- The loop


BODIES = {
    "zeros": b"[" + b",".join([b"0"] * MIB) + b"]",
    "objects": b"[" + b",".join([b"{}"] * MIB) + b"]",
    "nested": b"[" + b"[" * (MIB // 4) + b"]" * (MIB // 4) + b"]",
    "text": b'["' + b"\\u00e9" * (MIB // 2) + b'"]',
    "names": b"[{" + b",".join(b'"%d":1' % n for n in range(100_000)) + b"}]",
    "one": b'[{"id":"a","subject":"order.created","data":['
    + b",".join([b"[]"] * (MIB // 4))
    + b"]}]",
    "metadata": b'[{"metadata":[' + b",".join([b"{}"] * (MIB // 4)) + b"]}]",
    "full": b"["
    + b",".join(
        b'{"id":"e%d","subject":"order.created","data":%s}'
        % (n, json.dumps(payload_of("order.created")).encode())
        for n in range(1000)
    )
    + b"]",
    "unended": b'["' + b"a" * (3 * MIB),
    "commas": b"[" + b"," * (3 * MIB),
}


@pytest.mark.parametrize("form", BODIES)
async def test_no_body_holds_the_loop(lab: Lab, roomy: checks.Checks, form: str) -> None:
    raw = BODIES[form]
    tenant = new_tenant()
    publisher = Publisher(lab.database, lab.bus, roomy)
    with acting(call(tenant)):
        for read in (_events, _cloud_events):
            async with watching() as watch:
                try:
                    verdicts = await publisher.publish(await read(roomy, raw))
                except DomainError as error:
                    assert error.reason in ("BATCH_TOO_LARGE", "INVALID_FIELD")
                    verdicts = []
            assert watch.longest_s < STEP_S
            if form == "full" and read is _events:
                assert {v.outcome for v in verdicts} == {EventOutcome.ACCEPTED}


async def _events(found: checks.Checks, raw: bytes) -> Any:
    return await incoming.read(found, events_service_pb2.PublishEventsRequest(raw_request=raw))


async def _cloud_events(found: checks.Checks, raw: bytes) -> Any:
    request = events_service_pb2.PublishCloudEventsRequest(content_type=BATCH, raw_request=raw)
    return await incoming.read_cloud_events(found, request)


async def test_a_large_struct_does_not_hold_the_loop(roomy: checks.Checks) -> None:
    event = Event(subject="order.created")
    event.data["a"] = [0] * 50_000
    with acting(call(new_tenant())):
        async with watching() as watch:
            await incoming.read(roomy, events_service_pb2.PublishEventsRequest(events=[event]))
    assert watch.longest_s < STEP_S


@pytest.mark.parametrize("content_type", ["", BATCH])
async def test_a_million_elements_are_too_many_at_the_first_beyond_the_limit(
    mesh: Mesh, content_type: str
) -> None:
    raw = b"[" + b",".join([b"{}"] * MIB) + b"]"
    with acting(call(new_tenant())), pytest.raises(Exception, match="send at most 1000"):
        if content_type:
            request = events_service_pb2.PublishCloudEventsRequest(
                content_type=content_type, raw_request=raw
            )
            await stub(mesh, new_tenant()).PublishCloudEvents(request)
        else:
            await stub(mesh, new_tenant()).PublishEvents(
                events_service_pb2.PublishEventsRequest(raw_request=raw)
            )
