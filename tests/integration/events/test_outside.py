"""Events of outside producers on a real server: the whole catalogue, good and bad, twice and at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, json_format, struct_pb2
from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc
from payments.events.v1.pricing_events_pb2 import PlanCreated
from payments.type.v1 import type_pb2

from services.events import manifest
from services.events.store import catalogue
from services.runtime.clock import ManualClock
from services.runtime.context import acting
from services.runtime.database import UnitOfWork
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.outbox import registry
from services.runtime.outbox.publish import EventTooLarge
from services.runtime.service import Runtime, Service
from tests.support.events.lab import QUICK, Lab, call, effects_reaction, new_tenant
from tests.support.events.outside import faults, payload_of, schema_of
from tests.support.mesh.serving import Mesh, running

Event = events_pb2.Event
Publish = events_service_pb2.PublishEventsRequest
Result = events_service_pb2.PublishEventResult
ACCEPTED, DUPLICATE = type_pb2.OUTCOME_ACCEPTED, type_pb2.OUTCOME_DUPLICATE
CONFLICT, REJECTED = type_pb2.OUTCOME_CONFLICT, type_pb2.OUTCOME_REJECTED

NOW = datetime(2026, 12, 1, tzinfo=UTC)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLS_TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
OUTSIDE = sorted(name for name, entry in catalogue.entries().items() if not entry.type.is_ours)
OURS = sorted(name for name, entry in catalogue.entries().items() if entry.type.is_ours)
LATEST = {name: catalogue.entries()[name].type.versions[-1].version for name in OUTSIDE}
KNOWN_STATUSES = {"DRAFT", "OPEN", "PAID", "PARTIALLY_PAID", "CANCELLED", "REFUNDED"}


class Readers:
    """What the reactions of the tests saw."""

    def __init__(self) -> None:
        self.statuses: list[str] = []
        self.unknown: list[str] = []
        self.json: dict[str, Envelope] = {}

    async def status(self, work: UnitOfWork, envelope: Envelope) -> None:
        """A consumer that acts on the statuses that it knows and ignores the others."""
        status = json.loads(envelope.json)["status_to"]
        (self.statuses if status in KNOWN_STATUSES else self.unknown).append(status)

    async def keep(self, work: UnitOfWork, envelope: Envelope) -> None:
        self.json[envelope.event_id] = envelope


READERS = Readers()


def _consumers(runtime: Runtime) -> Service:
    """Readers of JSON; and one of everything that knows messages only, which fails on anything else."""
    reactions = [
        Reaction("outside.status", ("order.updated",), READERS.status, takes_json=True),
        Reaction("outside.keep", ("stock.*",), READERS.keep, takes_json=True),
        effects_reaction(("plan.created", "order.*", "stock.*"), consumer="outside.messages"),
    ]
    return Service((), reactions)


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture(scope="module")
async def mesh(lab: Lab, clock: ManualClock) -> AsyncIterator[Mesh]:
    async with running(lab.urls, [manifest.SERVICE, _consumers], clock=clock) as mesh:
        lab.bus = mesh.node.bus
        lab.database._wake = mesh.node.bus.wake
        yield mesh


def stub(mesh: Mesh, tenant: str) -> events_service_pb2_grpc.EventServiceAsyncStub:
    return events_service_pb2_grpc.EventServiceStub(mesh.channel(tenant))


def event(subject: str, payload: Any = None, event_id: str = "", **fields: Any) -> Event:
    text = json.dumps(payload_of(subject) if payload is None else payload).encode()
    return Event(subject=subject, id=event_id, json=text, **fields)


async def publish(mesh: Mesh, tenant: str, *events: Event) -> list[Result]:
    response = await stub(mesh, tenant).PublishEvents(Publish(events=events))
    assert [result.index for result in response.results] == list(range(len(events)))
    return list(response.results)


async def feed(mesh: Mesh, tenant: str, *subjects: str) -> list[Event]:
    await mesh.drain_events()
    request = events_service_pb2.ListEventsRequest(subjects=subjects, page_size=1000)
    return list((await stub(mesh, tenant).ListEvents(request)).events)


# ---- The catalogue


@pytest.mark.parametrize("subject", OUTSIDE)
async def test_every_outside_event_can_be_published_good_and_bad(mesh: Mesh, subject: str) -> None:
    tenant = new_tenant()
    latest = catalogue.entries()[subject].type.versions[-1].version
    name = subject if latest == 1 else f"{subject}.v{latest}"
    good = event(subject, event_id="good")
    good.subject = name
    bad = event(subject, {**payload_of(subject), "surplus": 1}, event_id="bad")
    bad.subject = name
    accepted, rejected = await publish(mesh, tenant, good, bad)
    assert (accepted.id, accepted.outcome, accepted.reason) == ("good", ACCEPTED, "")
    assert (rejected.outcome, rejected.reason) == (REJECTED, "EVENT_PAYLOAD_INVALID")
    assert rejected.pointer == "/surplus"
    (stored,) = await feed(mesh, tenant)
    assert (stored.id, stored.subject, stored.schema_version) == ("good", name, latest)
    assert stored.json == good.json
    assert stored.key == str(payload_of(subject)[catalogue.entries()[subject].type.key_field])


@pytest.mark.parametrize("subject", OURS)
async def test_every_event_of_ours_is_published_by_us_and_by_nobody_else(
    lab: Lab, mesh: Mesh, subject: str
) -> None:
    tenant = new_tenant()
    kind = next(item for item in registry.all_types().values() if item.subject == subject)
    payload = kind.message_class()
    field = payload.DESCRIPTOR.fields_by_name[kind.key_field]
    setattr(payload, kind.key_field, "k" if field.type == field.TYPE_STRING else 1)
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.publish") as work:
            event_id = work.publish(payload)
    (refused,) = await publish(mesh, tenant, event(subject, {}))
    assert (refused.outcome, refused.reason) == (REJECTED, "EVENT_SUBJECT_OWNED")
    assert refused.pointer == "/subject"
    (stored,) = await feed(mesh, tenant)
    assert (stored.id, stored.subject) == (event_id, subject)
    assert stored.message.type_url.endswith(kind.message_name)


def _too_large() -> bytes:
    """A field that no message knows, as wide as no payload may be."""
    tag, size = 15_000 << 3 | 2, 1024 * 1024
    return b"".join(map(_varint, (tag, size))) + b"x" * size


def _varint(number: int) -> bytes:
    low, high = number & 0x7F, number >> 7
    return bytes((low | 0x80,)) + _varint(high) if high else bytes((low,))


@pytest.mark.parametrize("subject", OURS)
async def test_a_bad_event_of_ours_takes_its_transaction_down(lab: Lab, subject: str) -> None:
    tenant = new_tenant()
    kind = next(item for item in registry.all_types().values() if item.subject == subject)
    field = kind.message_class.DESCRIPTOR.fields_by_name[kind.key_field]
    is_text = field.type == field.TYPE_STRING
    sound = kind.message_class()
    setattr(sound, kind.key_field, "k" if is_text else 1)
    without_key, too_large = kind.message_class(), kind.message_class()
    too_large.MergeFrom(sound)
    too_large.MergeFromString(_too_large())
    bad: list[tuple[Any, type[Exception]]] = [
        (without_key, ValueError),
        (too_large, EventTooLarge),
        (events_pb2.Event(), TypeError),
    ]
    if is_text:
        long_key = kind.message_class()
        setattr(long_key, kind.key_field, "k" * 201)
        bad.append((long_key, ValueError))
    for payload, error in bad:
        with acting(call(tenant)), pytest.raises(error):
            async with lab.database.unit_of_work("lab.publish") as work:
                work.publish(sound)
                work.publish(payload)
    query = "SELECT count(*) AS n FROM mesh.event WHERE tenant_id = %s"
    assert (await lab.rows(query, tenant))[0]["n"] == 0


@pytest.mark.parametrize("subject", OUTSIDE)
async def test_every_broken_rule_is_refused_by_its_pointer(mesh: Mesh, subject: str) -> None:
    """Every field missing, every type, pattern, format and limit broken, as the schema itself has them."""
    broken = list(faults(subject))
    schema = schema_of(subject)
    assert len(broken) > len(schema["required"]) + len(schema["properties"])
    version = LATEST[subject]
    bad = [
        Event(subject=subject, schema_version=version, json=json.dumps(payload).encode())
        for _, payload, _ in broken
    ]
    for result, (what, _, pointer) in zip(
        await publish(mesh, "t-faults", *bad), broken, strict=True
    ):
        assert (result.outcome, result.reason) == (REJECTED, "EVENT_PAYLOAD_INVALID"), what
        assert result.pointer == pointer, what
        assert result.message


async def test_nothing_of_a_refused_event_is_stored(mesh: Mesh) -> None:
    assert await feed(mesh, "t-faults") == []


@pytest.mark.parametrize(
    "name",
    [
        "reservation_id", "reservation_lock_id", "coach_id", "lesson_site_id", "service_area_id",
        "lesson_zip", "lesson_type_id",
    ],
)  # fmt: skip
async def test_what_may_be_unknown_may_be_null(mesh: Mesh, name: str) -> None:
    payload = {**payload_of("lesson.scheduled"), name: None}
    (result,) = await publish(mesh, new_tenant(), event("lesson.scheduled", payload))
    assert result.outcome == ACCEPTED


# ---- The same id


async def test_an_event_is_published_once(mesh: Mesh) -> None:
    tenant = new_tenant()
    first = event("order.created", event_id="o-1")
    respelled = Event(subject=first.subject, id="o-1")
    respelled.json = json.dumps(json.loads(first.json), indent=2, sort_keys=True).encode()
    other = event(
        "order.created", {**payload_of("order.created"), "status": "PAID"}, event_id="o-1"
    )
    assert [r.outcome for r in await publish(mesh, tenant, first)] == [ACCEPTED]
    again = await publish(mesh, tenant, first, respelled, other)
    assert [r.outcome for r in again] == [DUPLICATE, DUPLICATE, CONFLICT]
    assert (again[2].reason, again[2].pointer, again[2].id) == ("EVENT_ID_REUSED", "/id", "o-1")
    (stored,) = await feed(mesh, tenant)
    assert stored.json == first.json


async def test_ids_are_settled_within_one_call(mesh: Mesh) -> None:
    tenant = new_tenant()
    one, other = event("order.created", event_id="x"), event("order.updated", event_id="x")
    free = event("order.created")
    found = await publish(mesh, tenant, one, one, other, free, free)
    assert [r.outcome for r in found] == [ACCEPTED, DUPLICATE, CONFLICT, ACCEPTED, ACCEPTED]
    assert len({found[3].id, found[4].id, "x"}) == 3
    assert len(found[3].id) == 26
    assert [item.id for item in await feed(mesh, tenant)] == ["x", found[3].id, found[4].id]


async def test_of_many_at_once_with_one_id_one_counts(mesh: Mesh) -> None:
    tenant = new_tenant()
    contents = [{**payload_of("order.created"), "status": f"S{n % 2}"} for n in range(16)]
    ids = [f"race-{n}" for n in range(20)]

    async def send(number: int) -> list[Result]:
        order = ids if number % 3 else ids[::-1]
        items = [event("order.created", contents[number], event_id=i) for i in order]
        return await publish(mesh, tenant, *items)

    calls = await asyncio.gather(*map(send, range(16)))
    by_id: dict[str, list[int]] = {i: [] for i in ids}
    for results in calls:
        for result in results:
            by_id[result.id].append(result.outcome)
    for outcomes in by_id.values():
        assert sorted(outcomes) == sorted([ACCEPTED] + [DUPLICATE] * 7 + [CONFLICT] * 8)
    assert sorted(item.id for item in await feed(mesh, tenant)) == sorted(ids)


async def test_tenants_use_the_same_ids(mesh: Mesh) -> None:
    one, other = new_tenant(), new_tenant()
    for tenant in (one, other):
        (result,) = await publish(mesh, tenant, event("order.created", event_id="shared"))
        assert result.outcome == ACCEPTED


@pytest.mark.parametrize("event_id", ["x", "x" * 128, "ключ 🔑", "a/b c?d=e&f", str(NOW)])
async def test_any_text_is_an_id(mesh: Mesh, event_id: str) -> None:
    tenant = new_tenant()
    (result,) = await publish(mesh, tenant, event("order.created", event_id=event_id))
    assert (result.outcome, result.id) == (ACCEPTED, event_id)
    (stored,) = await feed(mesh, tenant)
    assert stored.id == event_id


# ---- The envelope


async def test_the_payload_stays_as_it_was_written(mesh: Mesh) -> None:
    tenant = new_tenant()
    await register(mesh, tenant, event_type("stock.moved", {"type": "object"}))
    text = b'{ "b":1.0,\t"a": 90071992547409.93, "n": 9007199254740993,\n"e": "\\u00e9\xc3\xa9" } '
    raw = b'{"events": [ {"id":"raw", "subject":"stock.moved", "data":' + text + b"}]}"
    sent = Event(id="grpc", subject="stock.moved", json=text)
    await publish(mesh, tenant, sent)
    (result,) = (await stub(mesh, tenant).PublishEvents(Publish(raw_request=raw))).results
    assert result.outcome == ACCEPTED
    by_grpc, by_body = await feed(mesh, tenant)
    assert by_grpc.json == text
    assert by_body.json == text.strip()
    assert READERS.json["grpc"].json == text
    tail = stub(mesh, tenant).TailEvents(
        events_service_pb2.TailEventsRequest(after=await start(mesh, tenant))
    )
    assert (await anext(aiter(tail))).event.json == text.strip()
    tail.cancel()


async def start(mesh: Mesh, tenant: str) -> str:
    """The cursor behind the first event."""
    request = events_service_pb2.ListEventsRequest(page_size=1)
    return str((await stub(mesh, tenant).ListEvents(request)).next_cursor)


async def test_what_a_producer_tells_is_kept(mesh: Mesh) -> None:
    tenant = new_tenant()
    sent = event("order.created", event_id="told", key="my-key")
    sent.metadata.correlation_id, sent.metadata.causation_id = "corr", "cause"
    sent.metadata.traceparent = TRACEPARENT
    sent.created_at.FromDatetime(NOW - timedelta(days=1))
    await publish(mesh, tenant, sent, event("order.created", event_id="silent"))
    told, silent = await feed(mesh, tenant)
    assert (told.key, told.metadata.correlation_id) == ("my-key", "corr")
    assert (told.metadata.causation_id, told.metadata.traceparent) == ("cause", TRACEPARENT)
    assert told.created_at.ToDatetime(UTC) == NOW - timedelta(days=1)
    assert silent.created_at.ToDatetime(UTC) >= NOW
    assert silent.metadata.correlation_id
    assert silent.key == payload_of("order.created")["order_id"]


def _struct(**values: Any) -> struct_pb2.Struct:
    return json_format.ParseDict(values, struct_pb2.Struct())


ENVELOPE_FAULTS: list[tuple[Event, str, str]] = [
    (Event(subject="order.created"), "INVALID_FIELD", "/data"),
    (Event(subject="Order.created", json=b"{}"), "INVALID_FIELD", "/subject"),
    (Event(subject="order.v2", json=b"{}"), "INVALID_FIELD", "/subject"),
    (Event(subject="nobody.knows", json=b"{}"), "EVENT_TYPE_UNKNOWN", "/subject"),
    (Event(subject="order.created.v9", json=b"{}"), "EVENT_TYPE_UNKNOWN", "/subject"),
    (
        Event(subject="order.created.v2", schema_version=3, json=b"{}"),
        "INVALID_FIELD",
        "/schema_version",
    ),
    (Event(subject="order.created", id="i" * 129, json=b"{}"), "INVALID_FIELD", "/id"),
    (Event(subject="order.created", id="a\0b", json=b"{}"), "INVALID_FIELD", "/id"),
    (Event(subject="order.created", key="k" * 201, json=b"{}"), "INVALID_FIELD", "/key"),
    (
        Event(subject="order.created", tenant_id="other", json=b"{}"),
        "TENANT_MISMATCH",
        "/tenant_id",
    ),
    (Event(subject="order.created", message=any_pb2.Any()), "INVALID_FIELD", "/message"),
    (Event(subject="order.created", json=b"{"), "EVENT_PAYLOAD_INVALID", ""),
    (
        Event(subject="order.created", json=b'"' + b"x" * 1024 * 1024 + b'"'),
        "EVENT_TOO_LARGE",
        "/json",
    ),
    (
        Event(subject="order.created", data=_struct(a=0.1234567890123456)),
        "EVENT_PAYLOAD_INVALID",
        "",
    ),
]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (f"01{TRACEPARENT[2:]}-more", TRACEPARENT),
        (f"{TRACEPARENT[:-2]}ff", f"{TRACEPARENT[:-2]}03"),
        ("garbage", CALLS_TRACEPARENT),
        (f"ff{TRACEPARENT[2:]}", CALLS_TRACEPARENT),
        ("", CALLS_TRACEPARENT),
    ],
)
async def test_trace_context_is_read_as_that_of_calls_is(mesh: Mesh, sent: str, told: str) -> None:
    tenant = new_tenant()
    traced = event("order.created", event_id="e")
    traced.metadata.traceparent = sent
    await stub(mesh, tenant).PublishEvents(
        Publish(events=[traced]), metadata=(("traceparent", CALLS_TRACEPARENT),)
    )
    (found,) = await feed(mesh, tenant)
    assert found.metadata.traceparent == told


async def test_a_bad_event_never_spoils_its_batch(mesh: Mesh) -> None:
    tenant = new_tenant()
    bad = [item for item, _, _ in ENVELOPE_FAULTS]
    found = await publish(mesh, tenant, *bad, event("order.created", event_id="good"))
    for result, (item, reason, pointer) in zip(found[:-1], ENVELOPE_FAULTS, strict=True):
        assert (result.outcome, result.reason, result.pointer) == (REJECTED, reason, pointer), item
    assert found[-1].outcome == ACCEPTED
    assert [item.id for item in await feed(mesh, tenant)] == ["good"]


async def test_a_struct_arrives_as_json(mesh: Mesh) -> None:
    tenant = new_tenant()
    sent = Event(id="s", subject="order.created", data=_struct(**payload_of("order.created")))
    (result,) = await publish(mesh, tenant, sent)
    assert result.outcome == ACCEPTED
    (stored,) = await feed(mesh, tenant)
    assert json.loads(stored.json) == payload_of("order.created")
    same = event("order.created", event_id="s")
    assert [r.outcome for r in await publish(mesh, tenant, same)] == [DUPLICATE]


@pytest.mark.parametrize(
    "request_",
    [
        Publish(),
        Publish(events=[Event()], raw_request=b"[]"),
        Publish(raw_request=b"{}"),
        Publish(raw_request=b"[]"),
    ],
)
async def test_a_call_without_events_is_refused(mesh: Mesh, request_: Publish) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(mesh, new_tenant()).PublishEvents(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_batch_has_its_limit(mesh: Mesh) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await publish(mesh, new_tenant(), *[Event()] * 1001)
    assert "at most 1000" in str(caught.value.details())


# ---- Readers


async def test_unknown_values_are_safe_for_consumers(mesh: Mesh) -> None:
    tenant = new_tenant()
    READERS.statuses.clear()
    for status in ("PAID", "ON_HOLD", "REFUNDED"):
        payload = {
            **payload_of("order.updated"),
            "status_to": status,
            "updated_via": "carrier pigeon",
        }
        (result,) = await publish(mesh, tenant, event("order.updated", payload))
        assert result.outcome == ACCEPTED
    found = await feed(mesh, tenant)
    assert READERS.statuses == ["PAID", "REFUNDED"]
    assert READERS.unknown[-1] == "ON_HOLD"
    assert {item.metadata.outbox_status for item in found} == {"published"}


async def test_who_reads_messages_only_is_not_troubled_by_json(lab: Lab, mesh: Mesh) -> None:
    tenant = new_tenant()
    await publish(mesh, tenant, event("order.created"), event("order.updated"))
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.publish") as work:
            work.publish(PlanCreated(plan_id="p", plan_version=1))
    found = await feed(mesh, tenant)
    assert [item.metadata.outbox_status for item in found] == ["published"] * 3
    assert [item.key for item in await lab.effects(tenant, "outside.messages")] == ["p"]
    query = "SELECT count(*) AS n FROM mesh.inbox WHERE tenant_id = %s AND consumer = 'outside.messages'"
    assert (await lab.rows(query, tenant))[0]["n"] == 3
    assert QUICK.tries_max == 4


# ---- Types


def event_type(subject: str, *schemas: Any, first: int = 1, **fields: Any) -> events_pb2.EventType:
    found = events_pb2.EventType(subject=subject, **{"owner": "shop", **fields})
    for number, schema in enumerate(schemas, start=first):
        found.versions.add(version=number, json_schema=json.dumps(schema))
    return found


async def register(
    mesh: Mesh, tenant: str, *types: events_pb2.EventType
) -> list[events_service_pb2.RegisterEventTypeResult]:
    request = events_service_pb2.RegisterEventTypesRequest(event_types=types)
    return list((await stub(mesh, tenant).RegisterEventTypes(request)).results)


async def get(mesh: Mesh, tenant: str, subject: str) -> events_pb2.EventType:
    request = events_service_pb2.GetEventTypeRequest(subject=subject)
    response = await stub(mesh, tenant).GetEventType(request)
    found: events_pb2.EventType = response.event_type
    return found


V1 = {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}}}
V1_MORE = {**V1, "properties": {**V1["properties"], "note": {}}}  # type: ignore[dict-item]
V2 = {"type": "object", "required": ["sku", "count"], "properties": {"count": {"type": "integer"}}}


async def test_a_type_grows_by_additions_and_by_versions(mesh: Mesh) -> None:
    tenant = new_tenant()
    first = event_type(
        "stock.moved", V1, consumers=["depot"], description="Moved.", key_field="sku"
    )
    (done,) = await register(mesh, tenant, first)
    assert (done.outcome, done.version, done.subject) == (ACCEPTED, 1, "stock.moved")
    (done,) = await register(mesh, tenant, first)
    assert (done.outcome, done.version) == (DUPLICATE, 1)
    first.versions[0].json_schema = json.dumps(V1_MORE)
    (done,) = await register(mesh, tenant, first)
    assert (done.outcome, done.version) == (ACCEPTED, 1)
    first.versions[0].json_schema = json.dumps(V1)
    (done,) = await register(mesh, tenant, first)
    assert (done.outcome, done.reason) == (REJECTED, "EVENT_SCHEMA_BREAKING")
    assert done.pointer == "/properties/note"
    second = event_type("stock.moved", V2, first=2)
    (done,) = await register(mesh, tenant, second)
    assert (done.outcome, done.version) == (ACCEPTED, 2)
    found = await get(mesh, tenant, "stock.moved.v2")
    assert [item.version for item in found.versions] == [1, 2]
    assert json.loads(found.versions[0].json_schema) == V1_MORE
    assert not found.built_in


async def test_both_versions_are_published_until_the_cutover(
    mesh: Mesh, clock: ManualClock
) -> None:
    tenant = new_tenant()
    await register(mesh, tenant, event_type("stock.counted", V1, V2))
    v2 = (await get(mesh, tenant, "stock.counted")).versions[1]
    assert v2.cutover_at.ToDatetime() - v2.published_at.ToDatetime() == timedelta(days=14)
    old = Event(subject="stock.counted", json=b'{"sku": "a"}')
    new = Event(subject="stock.counted.v2", json=b'{"sku": "a", "count": 1}')
    same = Event(subject="stock.counted", schema_version=2, json=new.json)
    assert [r.outcome for r in await publish(mesh, tenant, old, new, same)] == [ACCEPTED] * 3
    late = Event(id="late", subject="stock.counted", json=old.json)
    assert [r.outcome for r in await publish(mesh, tenant, late)] == [ACCEPTED]
    (wrong,) = await publish(mesh, tenant, Event(subject="stock.counted.v2", json=old.json))
    assert (wrong.reason, wrong.pointer) == ("EVENT_PAYLOAD_INVALID", "/count")
    clock.advance(timedelta(days=14) - timedelta(seconds=1))
    assert [r.outcome for r in await publish(mesh, tenant, old, new)] == [ACCEPTED] * 2
    clock.advance(timedelta(seconds=1))
    refused, taken = await publish(mesh, tenant, old, new)
    assert (refused.outcome, refused.reason) == (REJECTED, "EVENT_VERSION_RETIRED")
    assert taken.outcome == ACCEPTED
    # The answer to it was lost, and it came again too late.
    other = Event(id="late", subject="stock.counted", json=b'{"sku": "b"}')
    again = await publish(mesh, tenant, late, other)
    assert [r.outcome for r in again] == [DUPLICATE, REJECTED]
    # The cutover is an event as well, which may or may not have come by now.
    found = await feed(mesh, tenant, "stock.*")
    assert [item.schema_version for item in found] == [1, 2, 2, 1, 1, 2, 2]
    later = await feed(mesh, tenant, "stock.counted.v2")
    assert {item.subject for item in later} == {"stock.counted.v2"}
    assert len(later) == 4


async def test_a_type_of_the_release_can_be_taken_further(mesh: Mesh) -> None:
    tenant, other = new_tenant(), new_tenant()
    standing = await get(mesh, tenant, "order.created")
    assert standing.built_in
    (done,) = await register(mesh, tenant, standing)
    assert done.outcome == DUPLICATE
    (done,) = await register(mesh, tenant, event_type("order.created", V1, first=2))
    assert (done.outcome, done.version) == (ACCEPTED, 2)
    found = await get(mesh, tenant, "order.created")
    assert found.versions[0] == standing.versions[0]
    assert await get(mesh, other, "order.created") == standing


async def test_registrations_at_once_make_one_type(mesh: Mesh) -> None:
    tenant = new_tenant()
    found = await asyncio.gather(
        *(register(mesh, tenant, event_type("stock.raced", V1)) for _ in range(8))
    )
    outcomes = sorted(results[0].outcome for results in found)
    assert outcomes == sorted([ACCEPTED] + [DUPLICATE] * 7)


async def test_a_bad_type_never_spoils_its_batch(mesh: Mesh) -> None:
    tenant = new_tenant()
    far = event_type("stock.far", V1, V2)
    far.versions[1].cutover_at.seconds = 10**12
    bad = [
        (event_type("Stock", V1), "INVALID_FIELD", "/subject"),
        (event_type("stock.moved.v2", V1), "INVALID_FIELD", "/subject"),
        (event_type("stock.none"), "INVALID_FIELD", "/versions"),
        (event_type("stock.late", V1, first=2), "INVALID_FIELD", "/versions/0/version"),
        (event_type("stock.odd", {"type": "strin"}), "EVENT_SCHEMA_INVALID", "/type"),
        (event_type("payment.received", V1), "EVENT_SUBJECT_OWNED", "/subject"),
        (event_type("stock.nul", V1, owner="a\0b"), "INVALID_FIELD", "/owner"),
        (far, "INVALID_FIELD", "/versions/1/cutover_at"),
    ]
    found = await register(
        mesh, tenant, *(item for item, _, _ in bad), event_type("stock.fine", V1)
    )
    for result, (item, reason, pointer) in zip(found[:-1], bad, strict=True):
        assert (result.outcome, result.reason, result.pointer) == (REJECTED, reason, pointer), item
    assert found[-1].outcome == ACCEPTED


async def test_types_come_in_pages_by_subject(mesh: Mesh) -> None:
    tenant = new_tenant()
    await register(mesh, tenant, event_type("aaa.first", V1), event_type("stock.moved", V1))
    subjects: list[str] = []
    token = ""
    while True:
        request = events_service_pb2.ListEventTypesRequest(page_size=7, page_token=token)
        page = await stub(mesh, tenant).ListEventTypes(request)
        subjects += [item.subject for item in page.event_types]
        token = page.next_page_token
        if not token:
            break
        assert len(page.event_types) == 7
    assert subjects == sorted({*catalogue.entries(), "aaa.first", "stock.moved"})


async def test_a_tenant_has_its_limit_of_types(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = new_tenant()
    monkeypatch.setattr("services.events.app.types.TYPES_MAX", 2)
    types = [event_type(f"stock.t{n}", V1) for n in range(3)]
    found = await register(mesh, tenant, *types)
    assert [item.outcome for item in found] == [ACCEPTED, ACCEPTED, REJECTED]
    assert found[2].reason == "EVENT_TYPES_FULL"
    (further,) = await register(mesh, tenant, event_type("stock.t0", V2, first=2))
    assert further.outcome == ACCEPTED


async def test_a_type_that_is_not_there_is_not_found(mesh: Mesh) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await get(mesh, new_tenant(), "nobody.knows")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
