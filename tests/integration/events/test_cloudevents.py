"""CloudEvents on a real server: in by three modes, judged one by one, and out as they came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from cloudevents.core.bindings.http import to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc
from payments.events.v1.pricing_events_pb2 import PlanCreated
from payments.type.v1 import type_pb2

from services.events import manifest
from services.runtime.context import acting
from tests.support.events.lab import Lab, call, new_tenant
from tests.support.events.outside import payload_of
from tests.support.mesh.serving import Mesh, running

Result = events_service_pb2.PublishEventResult
ACCEPTED, DUPLICATE = type_pb2.OUTCOME_ACCEPTED, type_pb2.OUTCOME_DUPLICATE
CONFLICT, REJECTED = type_pb2.OUTCOME_CONFLICT, type_pb2.OUTCOME_REJECTED
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BATCH = "application/cloudevents-batch+json"


@pytest.fixture(scope="module")
async def mesh(lab: Lab) -> AsyncIterator[Mesh]:
    async with running(lab.urls, [manifest.SERVICE]) as mesh:
        lab.bus = mesh.node.bus
        lab.database._wake = mesh.node.bus.wake
        yield mesh


def stub(mesh: Mesh, tenant: str) -> events_service_pb2_grpc.EventServiceAsyncStub:
    return events_service_pb2_grpc.EventServiceStub(mesh.channel(tenant))


def order(event_id: str, **attributes: Any) -> dict[str, Any]:
    """A sound CloudEvent; an attribute that is None is left out."""
    found = {
        "specversion": "1.0",
        "id": event_id,
        "source": "https://shop.example/orders",
        "type": "order.created",
        "data": payload_of("order.created"),
        **attributes,
    }
    return {name: value for name, value in found.items() if value is not None}


async def publish(mesh: Mesh, tenant: str, *events: Any) -> list[Result]:
    return await send(mesh, tenant, BATCH, json.dumps(events).encode())


async def send(
    mesh: Mesh, tenant: str, content_type: str, raw: bytes, headers: dict[str, str] | None = None
) -> list[Result]:
    request = events_service_pb2.PublishCloudEventsRequest(
        content_type=content_type, raw_request=raw, headers=headers or {}
    )
    return list((await stub(mesh, tenant).PublishCloudEvents(request)).results)


async def listed(mesh: Mesh, tenant: str) -> tuple[bytes, list[dict[str, Any]]]:
    """The tenant's events as CloudEvents: the text, and what it says."""
    await mesh.drain_events()
    request = events_service_pb2.ListEventsRequest(
        page_size=1000, rendering=events_service_pb2.RENDERING_CLOUD_EVENTS
    )
    answer = await stub(mesh, tenant).ListEvents(request)
    assert not answer.events
    assert answer.next_cursor
    return answer.cloud_events, json.loads(answer.cloud_events)


async def test_a_cloud_event_goes_out_as_it_came_in(mesh: Mesh) -> None:
    tenant = new_tenant()
    sent = order(
        "o-1",
        subject="ord-key",
        time="2026-01-02T03:04:05.000006Z",
        dataschema="https://shop.example/order",
        datacontenttype="application/vnd.shop+json",
        correlationid="corr",
        causationid="cause",
        traceparent=TRACEPARENT,
        tracestate="vendor=1",
        priority=3,
        sampled=True,
    )
    assert [item.outcome for item in await publish(mesh, tenant, sent)] == [ACCEPTED]
    _, (found,) = await listed(mesh, tenant)
    assert len(found.pop("sequence")) == 19
    assert found == sent
    # What goes out can be published elsewhere, and comes out there as it was.
    other = new_tenant()
    await publish(mesh, other, found)
    _, (again,) = await listed(mesh, other)
    again.pop("sequence")
    assert again == sent


async def test_the_event_is_one_like_any_other(mesh: Mesh) -> None:
    tenant = new_tenant()
    await publish(mesh, tenant, order("o-1", subject="s", partitionkey="p", correlationid="c"))
    await mesh.drain_events()
    (event,) = (await stub(mesh, tenant).ListEvents(events_service_pb2.ListEventsRequest())).events
    assert (event.id, event.subject, event.schema_version) == ("o-1", "order.created", 1)
    assert (event.key, event.metadata.correlation_id) == ("p", "c")
    assert json.loads(event.json) == payload_of("order.created")
    _, (found,) = await listed(mesh, tenant)
    assert (found["subject"], found["partitionkey"]) == ("s", "p")


async def test_every_mode_keeps_the_text_of_the_data(lab: Lab, mesh: Mesh) -> None:
    tenant = new_tenant()
    await stub(mesh, tenant).RegisterEventTypes(
        events_service_pb2.RegisterEventTypesRequest(event_types=[_open_type("stock.moved")])
    )
    exact = b'{ "amount": 90071992547409.93,"big":1e400, "small": 0.10 }'
    head = b'{"specversion":"1.0","source":"/s","type":"stock.moved","id":"%s","data":%s}'
    await send(mesh, tenant, "application/cloudevents+json", head % (b"one", exact))
    await send(mesh, tenant, BATCH, b"[" + head % (b"two", exact) + b"]")
    attributes = {"id": "thrée", "source": "/s", "type": "stock.moved"}
    message = to_binary(CloudEvent(attributes, exact), JSONFormat())
    await send(mesh, tenant, "application/json", message.body, dict(message.headers))
    text, found = await listed(mesh, tenant)
    assert [item["id"] for item in found] == ["one", "two", "thrée"]
    assert text.count(b',"data":' + exact) == 3
    sequences = [item["sequence"] for item in found]
    assert sequences == sorted(set(sequences))


def _open_type(subject: str) -> events_pb2.EventType:
    found = events_pb2.EventType(subject=subject, owner="depot")
    found.versions.add(version=1, json_schema='{"type": "object"}')
    return found


async def test_each_is_judged_by_itself(mesh: Mesh) -> None:
    tenant = new_tenant()
    bad = [
        (order("b1", specversion="0.3"), "CLOUD_EVENT_UNSUPPORTED", "/specversion"),
        (order("b2", source=None), "CLOUD_EVENT_INVALID", "/source"),
        (order("b3", subject=""), "CLOUD_EVENT_INVALID", "/subject"),
        (order("b4", data=None), "CLOUD_EVENT_INVALID", "/data"),
        (order("b5", data=None, data_base64="AA=="), "CLOUD_EVENT_UNSUPPORTED", "/data_base64"),
        (order("b6", type="Order.Created"), "INVALID_FIELD", "/type"),
        (order("b7", type="nobody.knows"), "EVENT_TYPE_UNKNOWN", "/type"),
        (order("b8", type="order.created.v9"), "EVENT_TYPE_UNKNOWN", "/type"),
        (order("b9", type="payment.received"), "EVENT_SUBJECT_OWNED", "/type"),
        (order("b10", data={"order_id": 5}), "EVENT_PAYLOAD_INVALID", "/person_id"),
        (order("b11", data="x" * 1024 * 1024), "EVENT_TOO_LARGE", "/data"),
        (order("i" * 129), "CLOUD_EVENT_INVALID", "/id"),
        (5, "INVALID_FIELD", ""),
    ]
    found = await publish(mesh, tenant, *(item for item, _, _ in bad), order("good"))
    for index, (result, (item, reason, pointer)) in enumerate(zip(found, bad, strict=False)):
        assert (result.index, result.outcome) == (index, REJECTED)
        assert (result.reason, result.pointer) == (reason, pointer), item
        assert result.message
    assert (found[-1].id, found[-1].outcome) == ("good", ACCEPTED)
    _, events = await listed(mesh, tenant)
    assert [item["id"] for item in events] == ["good"]


async def test_an_event_is_published_once(mesh: Mesh) -> None:
    tenant = new_tenant()
    first = order("o-1", traceparent=TRACEPARENT)
    again = order("o-1", traceparent=TRACEPARENT.replace("-b7", "-c7"))
    changed = order("o-1", data={**payload_of("order.created"), "status": "PAID"})
    # To CloudEvents this is another event; to the mesh an id says everything, so it must not be lost in silence.
    elsewhere = order("o-1", source="https://other.example")
    assert [item.outcome for item in await publish(mesh, tenant, first)] == [ACCEPTED]
    found = await publish(mesh, tenant, again, changed, elsewhere)
    assert [item.outcome for item in found] == [DUPLICATE, CONFLICT, CONFLICT]
    assert {item.reason for item in found[1:]} == {"EVENT_ID_REUSED"}
    assert {item.pointer for item in found[1:]} == {"/id"}
    _, (stored,) = await listed(mesh, tenant)
    assert stored["traceparent"] == TRACEPARENT


async def test_calls_at_once_publish_once(mesh: Mesh) -> None:
    tenant = new_tenant()
    events = [order(f"o-{number}", priority=number) for number in range(20)]
    calls = [publish(mesh, tenant, *events), publish(mesh, tenant, *reversed(events))]
    outcomes = [item.outcome for found in await asyncio.gather(*calls) for item in found]
    assert (outcomes.count(ACCEPTED), outcomes.count(DUPLICATE)) == (20, 20)
    _, stored = await listed(mesh, tenant)
    assert sorted(item["priority"] for item in stored) == list(range(20))


async def test_messages_of_ours_go_out_as_json(lab: Lab, mesh: Mesh) -> None:
    tenant = new_tenant()
    with acting(call(tenant, causation_id="c-1", traceparent=TRACEPARENT)):
        async with lab.database.unit_of_work("lab.publish") as work:
            event_id = work.publish(PlanCreated(plan_id="p", plan_version=7))
    _, (found,) = await listed(mesh, tenant)
    assert found.pop("sequence")
    assert len(found.pop("correlationid")) == 26
    assert datetime.fromisoformat(found.pop("time")) > datetime.now(UTC) - timedelta(minutes=5)
    assert found == {
        "specversion": "1.0",
        "id": event_id,
        "source": f"/tollmesh/{tenant}",
        "type": "plan.created",
        "subject": "p",
        "datacontenttype": "application/json",
        "dataschema": "https://tollmesh.dev/schemas/payments.events.v1.PlanCreated",
        "causationid": "c-1",
        "traceparent": TRACEPARENT,
        "data": {"plan_id": "p", "plan_version": 7},
    }


async def test_a_tenant_without_events_has_an_empty_batch(mesh: Mesh) -> None:
    text, _ = await listed(mesh, new_tenant())
    assert text == b"[]"


async def test_what_is_kept_goes_with_the_log(lab: Lab, mesh: Mesh) -> None:
    tenant = new_tenant()
    await publish(mesh, tenant, *(order(f"old-{number}") for number in range(5)))
    await publish(mesh, tenant, order("young"))
    count = "SELECT count(*) AS n FROM events.cloud_event WHERE tenant_id = %s"
    assert (await lab.rows(count, tenant))[0]["n"] == 6
    # The log lost its oldest day; what its events brought is as old.
    await lab.rows(
        "UPDATE events.cloud_event SET recorded_at = recorded_at - interval '90 days' "
        "WHERE tenant_id = %s AND event_id LIKE 'old-%%'",
        tenant,
    )
    left = []
    for number in range(3):
        await publish(mesh, tenant, order(f"new-{number}"))
        left.append((await lab.rows(count, tenant))[0]["n"])
    assert left == [5, 4, 4]


async def test_a_reader_cannot_publish(mesh: Mesh) -> None:
    reader = events_service_pb2_grpc.EventServiceStub(mesh.channel(new_tenant(), {"events:read"}))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await reader.PublishCloudEvents(events_service_pb2.PublishCloudEventsRequest())
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("content_type", "raw"), [("text/plain", b"{}"), (BATCH, b"[" + b"1," * 1000 + b"1]")]
)
async def test_a_call_in_no_mode_or_too_large_is_refused(
    mesh: Mesh, content_type: str, raw: bytes
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await send(mesh, new_tenant(), content_type, raw)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
