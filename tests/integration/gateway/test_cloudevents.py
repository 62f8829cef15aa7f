"""CloudEvents over REST, end to end: the three modes in, the bare batch out."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from cloudevents.core.bindings.http import to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from payments.events.v1 import events_service_pb2, events_service_pb2_grpc

from tests.support.events.lab import LATER_MESSAGE, publish_of_later_release
from tests.support.events.outside import payload_of
from tests.support.http.rest import Reply, Rest
from tests.support.mesh.serving import Mesh

PATH = "/v1/events:cloudevents"
BATCH = "application/cloudevents-batch+json"
# As their producer wrote them: spaces, digits and escapes that no parser would give back.
DATA = b'{ "price": 90071992547409.93, "big": 1e400,\n"name": "\\u00e9" }'


async def registered(rest: Rest) -> None:
    schema = {"subject": "stock.moved", "owner": "depot", "versions": [{"version": 1}]}
    schema["versions"][0]["json_schema"] = "{}"  # type: ignore[index]
    answer = await rest.acall("POST", "/v1/event-types", {"event_types": [schema]})
    assert answer.status == 200, answer.body


def attributes(event_id: str, **more: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": event_id, "source": "/s", "type": "stock.moved", **more}


def text(event_id: str, data: bytes = DATA, **more: Any) -> bytes:
    return json.dumps(attributes(event_id, **more)).encode()[:-1] + b', "data": ' + data + b"}"


async def send(rest: Rest, content_type: str, body: bytes, **headers: str) -> list[dict[str, Any]]:
    answer = await rest.acall("POST", PATH, body, {"Content-Type": content_type, **headers})
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


async def listed(mesh: Mesh, rest: Rest, query: str = "", accept: str = BATCH) -> Reply:
    await mesh.drain_events()
    answer = await rest.acall("GET", f"/v1/events{query}", headers={"Accept": accept})
    assert answer.status == 200, answer.body
    return answer


async def test_every_mode_keeps_the_bytes(mesh: Mesh, rest: Rest) -> None:
    await registered(rest)
    await send(rest, "application/cloudevents+json; charset=utf-8", text("one"))
    results = await send(
        rest, BATCH, b"[" + text("two") + b",\n" + text("bad", b"{}", time="x") + b"]"
    )
    assert [item["outcome"] for item in results] == ["OUTCOME_ACCEPTED", "OUTCOME_REJECTED"]
    assert (results[1]["reason"], results[1]["pointer"]) == ("CLOUD_EVENT_INVALID", "/time")
    message = to_binary(CloudEvent(attributes("thrée", subject="a key %"), DATA), JSONFormat())
    headers = dict(message.headers)
    await send(rest, headers.pop("content-type", "application/json"), message.body, **headers)
    answer = await listed(mesh, rest)
    assert answer.headers["content-type"] == BATCH
    assert answer.body.count(b',"data":' + DATA) == 3
    found = json.loads(answer.body)
    assert [(item["id"], item["source"]) for item in found] == [
        ("one", "/s"), ("two", "/s"), ("thrée", "/s"),
    ]  # fmt: skip
    assert found[2]["subject"] == "a key %"


async def test_pages_of_the_batch_follow_the_link(mesh: Mesh, rest: Rest) -> None:
    await registered(rest)
    body = b"[" + b",".join(text(f"e{number}", b"1") for number in range(5)) + b"]"
    await send(rest, BATCH, body)
    seen, path = [], "/v1/events?subjects=stock.*&page_size=2"
    await mesh.drain_events()
    for size in (2, 2, 1, 0):
        answer = await rest.acall("GET", path, headers={"Accept": BATCH})
        page = json.loads(answer.body)
        assert len(page) == size
        seen += [item["id"] for item in page]
        link = answer.headers["link"]
        assert link.endswith('>; rel="next"')
        path = link[1 : link.index(">")]
        assert quote(answer.headers["tollmesh-next-cursor"], safe="") in path
    assert seen == [f"e{number}" for number in range(5)]


async def test_json_stays_what_it_was(mesh: Mesh, rest: Rest) -> None:
    await registered(rest)
    await send(rest, BATCH, b"[" + text("one") + b"]")
    for accept in ("application/json", "*/*"):
        answer = await listed(mesh, rest, accept=accept)
        assert answer.headers["content-type"] == "application/json"
        assert [item["id"] for item in answer.json()["events"]] == ["one"]
        assert answer.json()["cloud_events"] == ""
        assert "tollmesh-next-cursor" not in answer.headers


async def test_other_forms_are_refused(rest: Rest) -> None:
    for content_type, body, status, reason in (
        ("application/json", b"{}", 415, "CLOUD_EVENTS_CONTENT_TYPE"),
        ("application/cloudevents+avro", b"x", 415, "CLOUD_EVENTS_CONTENT_TYPE"),
        ("application/cloudevents+json", b"{", 400, "INVALID_FIELD"),
        (BATCH, b"[", 400, "INVALID_FIELD"),
    ):
        answer = await rest.acall("POST", PATH, body, {"Content-Type": content_type})
        assert (answer.status, answer.reason) == (status, reason), answer.body


async def test_an_empty_batch_is_answered_with_nothing(rest: Rest) -> None:
    answer = await rest.acall("POST", PATH, b"[]", {"Content-Type": BATCH})
    assert (answer.status, answer.json()) == (200, {"results": []})


async def test_publishing_needs_its_scope(caller: Callable[..., Awaitable[Rest]]) -> None:
    reader = await caller("events:read")
    refused = await reader.acall("POST", PATH, text("one"), {"Content-Type": BATCH})
    assert (refused.status, refused.reason) == (403, "SCOPE_MISSING")


async def test_an_order_of_another_system_arrives(mesh: Mesh, rest: Rest) -> None:
    sent = {
        "specversion": "1.0",
        "id": "o-1",
        "source": "https://shop.example/orders",
        "type": "order.created",
        "time": "2026-01-02T03:04:05Z",
        "subject": "ord-1",
        "datacontenttype": "application/json",
        "data": payload_of("order.created"),
    }
    await send(rest, "application/cloudevents+json", json.dumps(sent).encode())
    (found,) = json.loads((await listed(mesh, rest)).body)
    found.pop("sequence"), found.pop("correlationid")
    found.pop("causationid", ""), found.pop("traceparent", "")
    assert found == sent


async def test_an_event_of_a_later_release_is_shown_as_bytes(
    mesh: Mesh, rest: Rest, tenant: str
) -> None:
    payload = b"\x0a\x05\xff"
    later = await publish_of_later_release(mesh.node.database, tenant, payload)
    await registered(rest)
    await send(rest, BATCH, b"[" + text("behind it") + b"]")
    # It waits for nobody who cannot read it.
    await mesh.drain_events()
    shown = base64.b64encode(payload).decode()
    answer = await listed(mesh, rest, "", "application/json")
    events = {event["id"]: event for event in answer.json()["events"]}
    assert events[later]["message"] == {
        "@type": f"type.googleapis.com/{LATER_MESSAGE}",
        "value": shown,
    }
    assert "behind it" in events
    found = {event["id"]: event for event in json.loads((await listed(mesh, rest)).body)}
    assert found[later]["data_base64"] == shown
    assert "behind it" in found
    stub = events_service_pb2_grpc.EventServiceStub(mesh.channel(tenant))
    letters = await stub.ListDeadLetters(events_service_pb2.ListDeadLettersRequest())
    assert not letters.dead_letters
    page = await stub.ListEvents(events_service_pb2.ListEventsRequest())
    (message,) = (event.message for event in page.events if event.id == later)
    assert (message.type_url, message.value) == (f"type.googleapis.com/{LATER_MESSAGE}", payload)


async def test_usage_is_taken_in_every_mode(rest: Rest) -> None:
    path = "/v1/metering/events:cloudevents"
    used = {"subject": "acme", "time": "2026-01-15T10:00:00Z", "data": {"quantity": 1}}
    sent = [attributes("a", **used), attributes("b", **{**used, "traceparent": "zz"})]
    answer = await rest.acall("POST", path, json.dumps(sent).encode(), {"Content-Type": BATCH})
    found = answer.json()
    assert (answer.status, found["rejected"]) == (202, 2), answer.body
    # No catalogue has the SKU, which `type` names; the other one is no sound CloudEvent.
    told = [(item["request_id"], item["reason"]) for item in found["problems"]]
    assert [reason for _, reason in told][1] == "CLOUD_EVENT_INVALID"
    assert [name for name, _ in told] == ["/s|a", "/s|b"]
    headers = {f"ce-{name}": str(value) for name, value in attributes("c", **used).items()}
    del headers["ce-data"]
    answer = await rest.acall(
        "POST", path, b'{"quantity": "2"}', {"Content-Type": "application/json", **headers}
    )
    (problem,) = answer.json()["problems"]
    assert problem["request_id"] == "/s|c"
    answer = await rest.acall("POST", path, b"{}", {"Content-Type": "application/json"})
    assert (answer.status, answer.reason) == (415, "CLOUD_EVENTS_CONTENT_TYPE")
