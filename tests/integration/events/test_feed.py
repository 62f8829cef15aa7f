"""EventService on a real server: pages, the tail, and what each tenant sees."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import grpc
import psycopg
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc
from payments.events.v1.pricing_events_pb2 import PlanCreated, PlanDeprecated, PlanUpdated

from services.events import manifest
from services.events.app import feed as app
from services.runtime.context import acting
from services.runtime.database import UnitOfWork
from services.runtime.events.envelope import Envelope, RetryPolicy
from services.runtime.outbox.subjects import Pattern
from services.runtime.postgres import sql
from services.runtime.service import Runtime, Service
from tests.integration.events.test_sequencer import writing
from tests.support.events.lab import QUICK, Lab, call, effects_reaction, new_tenant
from tests.support.jetstream.sites import eventually
from tests.support.mesh.serving import Mesh, running

ListEventsRequest = events_service_pb2.ListEventsRequest
TailEventsRequest = events_service_pb2.TailEventsRequest
Stub = events_service_pb2_grpc.EventServiceStub


# Tenants whose events can be handled after all.
MENDED: set[str] = set()
LATER = RetryPolicy(base_ms=1000)


async def _refuse(_: UnitOfWork, envelope: Envelope) -> None:
    if envelope.tenant_id not in MENDED:
        raise RuntimeError("never")


def _consumer(runtime: Runtime) -> Service:
    """A service that handles plan.created and cannot handle plan.updated and plan.deprecated."""
    failing = effects_reaction(("plan.updated",), consumer="feed.fails")
    reactions = [
        effects_reaction(consumer="feed.works"),
        type(failing)("feed.fails", ("plan.updated",), _refuse, retry=QUICK),
        type(failing)("feed.later", ("plan.deprecated",), _refuse, retry=LATER),
    ]
    return Service((), reactions)


@pytest.fixture(scope="module")
async def mesh(lab: Lab) -> AsyncIterator[Mesh]:
    """A mesh of the events service on the lab's database."""
    async with running(lab.urls, [manifest.SERVICE, _consumer]) as mesh:
        # What the test publishes in this process rings the mesh's own bell.
        lab.bus = mesh.node.bus
        lab.database._wake = mesh.node.bus.wake
        yield mesh


def stub(mesh: Mesh, tenant: str) -> events_service_pb2_grpc.EventServiceAsyncStub:
    return Stub(mesh.channel(tenant, {"events:read"}))


async def publish(lab: Lab, tenant: str, *payloads: Message) -> list[str]:
    with acting(call(tenant, causation_id="c-1", traceparent="00-aa-bb-01")):
        async with lab.database.unit_of_work("lab.publish") as work:
            return [work.publish(payload) for payload in payloads]


def reason(error: grpc.aio.AioRpcError) -> str:
    """The reason of the error's ErrorInfo."""
    status = rpc_status.from_call(cast("grpc.Call", error))
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return str(info.reason)


# ---- pages


async def test_an_event_arrives_with_its_envelope_and_its_bytes(lab: Lab, mesh: Mesh) -> None:
    tenant = new_tenant()
    payload = PlanCreated(plan_id="p", plan_version=7)
    (event_id,) = await publish(lab, tenant, payload)
    await mesh.drain_events()
    answer = await stub(mesh, tenant).ListEvents(ListEventsRequest())
    (event,) = answer.events
    assert (event.id, event.subject, event.schema_version) == (event_id, "plan.created", 1)
    assert (event.tenant_id, event.key) == (tenant, "p")
    assert event.WhichOneof("payload") == "message"
    assert event.message.type_url == "type.googleapis.com/payments.events.v1.PlanCreated"
    assert event.message.value == payload.SerializeToString()
    assert event.metadata.tenant_id == tenant
    assert event.metadata.causation_id == "c-1"
    assert event.metadata.traceparent == "00-aa-bb-01"
    assert len(event.metadata.correlation_id) == 26
    assert event.HasField("created_at")
    assert event.metadata.outbox_status == "published"
    assert event.metadata.outbox_retry_count == 0
    assert not event.metadata.HasField("outbox_next_attempt_at")


async def test_pages_give_every_event_once_and_the_last_cursor_goes_on(
    lab: Lab, mesh: Mesh
) -> None:
    tenant = new_tenant()
    events = stub(mesh, tenant)
    ids = []
    for batch in range(5):
        ids += await publish(lab, tenant, *(PlanCreated(plan_id=f"p{batch}{n}") for n in range(5)))
    await mesh.drain_events()
    seen: list[str] = []
    cursor = ""
    for size in (10, 10, 5):
        page = await events.ListEvents(ListEventsRequest(after=cursor, page_size=10))
        assert len(page.events) == size
        seen += [event.id for event in page.events]
        cursor = page.next_cursor
    assert seen == ids
    empty = await events.ListEvents(ListEventsRequest(after=cursor))
    assert list(empty.events) == []
    more = await publish(lab, tenant, PlanCreated(plan_id="late"))
    await mesh.drain_events()
    page = await events.ListEvents(ListEventsRequest(after=empty.next_cursor))
    assert [event.id for event in page.events] == more


async def test_nothing_is_ever_put_in_before_a_cursor(lab: Lab, mesh: Mesh) -> None:
    """Transactions that began together commit in any order, while a reader pages on behind each commit."""
    tenant, draw = new_tenant(), random.Random(20261120)
    reader = stub(mesh, tenant)

    async def read(after: str) -> tuple[list[str], str]:
        page = await reader.ListEvents(ListEventsRequest(after=after, subjects=["plan.*"]))
        return [event.id for event in page.events], page.next_cursor

    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(writing(lab, tenant)) for _ in range(10)]
        for number, writer in enumerate(writers):
            await writer.publish(f"{number}-a", f"{number}-b")
        draw.shuffle(writers)
        seen: list[str] = []
        handed: list[tuple[int, str]] = []
        _, cursor = await read("")
        for writer in writers:
            handed.append((len(seen), cursor))
            await writer.commit()
            await mesh.drain_events()
            found, cursor = await read(cursor)
            assert len(found) == 2
            seen += found
            everything, _ = await read("")
            assert everything == seen, "what was read once stays in its place"
    assert len(set(seen)) == 20
    for place, old in handed:
        assert (await read(old))[0] == seen[place:]


async def test_a_page_of_large_events_ends_before_it_is_too_large_to_send(
    lab: Lab, mesh: Mesh
) -> None:
    tenant = new_tenant()
    large = [PlanCreated(plan_id=f"p{number}") for number in range(7)]
    for payload in large[:6]:
        payload.plan.notes = "x" * 1024 * 1000
    ids = []
    for payload in large:
        ids += await publish(lab, tenant, payload)
    await mesh.drain_events()
    reader, cursor, sizes = stub(mesh, tenant), "", []
    seen: list[str] = []
    while len(seen) < len(ids):
        page = await reader.ListEvents(ListEventsRequest(after=cursor, page_size=1000))
        assert page.ByteSize() < 4 * 1024 * 1024
        sizes.append(len(page.events))
        seen += [event.id for event in page.events]
        cursor = page.next_cursor
    assert (seen, sizes) == (ids, [3, 3, 1])
    first = (await reader.ListEvents(ListEventsRequest(page_size=1))).next_cursor
    tail = reader.TailEvents(TailEventsRequest(after=first))
    assert [event.id for event in await _take(aiter(tail), 6)] == ids[1:]
    tail.cancel()


async def test_subjects_choose_exactly_or_by_their_first_part(lab: Lab, mesh: Mesh) -> None:
    tenant = new_tenant()
    created, updated, again = await publish(
        lab, tenant, PlanCreated(plan_id="p"), PlanUpdated(plan_id="p"), PlanCreated(plan_id="q")
    )
    await mesh.drain_events()

    async def ask(*subjects: str) -> list[str]:
        page = await stub(mesh, tenant).ListEvents(ListEventsRequest(subjects=subjects))
        return [event.id for event in page.events]

    assert await ask("plan.created") == [created, again]
    assert await ask("plan.*") == [created, updated, again]
    assert await ask("plan.updated", "plan.created") == [created, updated, again]
    assert await ask("plan.updated", "plan.*") == [created, updated, again]
    # Of types that there are.
    assert await ask("invoice.paid") == []
    assert await ask("plan.created.v2") == []
    assert await ask("order.*", "invoice.*") == []


@pytest.mark.parametrize(
    ("subject", "meant"),
    [
        ("pla.*", ""),
        ("plan.created.*", ""),
        ("plan.creatd", "plan.created"),
        ("paymnt.*", ""),
        ("payment.recieved", "payment.received"),
        ("none.such", ""),
        ("plan.creatd.v2", "plan.created"),
    ],
)
async def test_subjects_that_no_type_has_are_refused(mesh: Mesh, subject: str, meant: str) -> None:
    asked = stub(mesh, new_tenant())
    with pytest.raises(grpc.aio.AioRpcError) as listed:
        await asked.ListEvents(ListEventsRequest(subjects=["plan.*", subject]))
    with pytest.raises(grpc.aio.AioRpcError) as tailed:
        await asked.TailEvents(TailEventsRequest(subjects=[subject])).read()
    for refused in (listed.value, tailed.value):
        assert (refused.code(), reason(refused)) == (
            grpc.StatusCode.NOT_FOUND,
            "EVENT_TYPE_UNKNOWN",
        )
        assert subject in str(refused.details())
        assert meant in str(refused.details())


async def test_what_was_given_up_says_so_in_the_envelope(lab: Lab, mesh: Mesh) -> None:
    tenant = new_tenant()
    await publish(lab, tenant, PlanUpdated(plan_id="p"), PlanUpdated(plan_id="p"))
    await mesh.drain_events()
    page = await stub(mesh, tenant).ListEvents(ListEventsRequest(subjects=["plan.updated"]))
    dead, waiting = (event.metadata for event in page.events)
    assert (dead.outbox_status, dead.outbox_retry_count) == ("dead", 4)
    assert dead.outbox_last_error == "RuntimeError: never"
    # It waits behind the dead letter of its key.
    assert (waiting.outbox_status, waiting.outbox_retry_count) == ("pending", 0)


async def metadata(mesh: Mesh, tenant: str, subject: str) -> events_pb2.EventMetadata:
    """The metadata of a tenant's only event of a subject."""
    page = await stub(mesh, tenant).ListEvents(ListEventsRequest(subjects=[subject]))
    (event,) = page.events
    return event.metadata


async def test_what_will_be_tried_again_says_when(lab: Lab, mesh: Mesh) -> None:
    tenant = new_tenant()
    await publish(lab, tenant, PlanDeprecated(plan_id="p"))
    seen = events_pb2.EventMetadata()

    async def was_tried() -> bool:
        page = await stub(mesh, tenant).ListEvents(ListEventsRequest(subjects=["plan.deprecated"]))
        for event in page.events:  # none before it has its place in the feed
            seen.CopyFrom(event.metadata)
        return seen.outbox_status not in ("", "pending")

    await eventually(was_tried)
    assert (seen.outbox_status, seen.outbox_retry_count) == ("retrying", 1)
    assert seen.outbox_last_error == "RuntimeError: never"
    due = seen.outbox_next_attempt_at.ToDatetime(UTC) - datetime.now(UTC)
    assert timedelta() < due <= timedelta(milliseconds=1.2 * LATER.base_ms)
    MENDED.add(tenant)
    await mesh.drain_events()
    assert_well(await metadata(mesh, tenant, "plan.deprecated"))


async def test_what_was_replayed_is_as_if_nothing_had_been(lab: Lab, mesh: Mesh) -> None:
    tenant = new_tenant()
    await publish(lab, tenant, PlanUpdated(plan_id="p"))
    await mesh.drain_events()
    assert (await metadata(mesh, tenant, "plan.updated")).outbox_status == "dead"
    MENDED.add(tenant)
    admin = Stub(mesh.channel(tenant, {"events:admin"}))
    request = events_service_pb2.ReplayDeadLettersRequest(
        request_id=str(uuid4()), consumer="feed.fails"
    )
    assert (await admin.ReplayDeadLetters(request)).replayed_count == 1
    await mesh.drain_events()
    assert_well(await metadata(mesh, tenant, "plan.updated"))


def assert_well(seen: events_pb2.EventMetadata) -> None:
    """Every consumer is done, and no trace of a failure is left."""
    assert (seen.outbox_status, seen.outbox_retry_count) == ("published", 0)
    assert not seen.HasField("outbox_next_attempt_at")
    assert seen.outbox_last_error == ""


async def test_tenants_see_their_own_events_only(lab: Lab, mesh: Mesh) -> None:
    mine, theirs = new_tenant(), new_tenant()
    ids = await publish(lab, mine, PlanCreated(plan_id="same"))
    others = await publish(lab, theirs, PlanCreated(plan_id="same"), PlanCreated(plan_id="more"))
    await mesh.drain_events()
    page = await stub(mesh, mine).ListEvents(ListEventsRequest())
    assert [event.id for event in page.events] == ids
    page = await stub(mesh, theirs).ListEvents(ListEventsRequest())
    assert [event.id for event in page.events] == others


# ---- refusals


@pytest.mark.parametrize(
    "request_",
    [
        ListEventsRequest(subjects=["Invoice.paid"]),
        ListEventsRequest(subjects=["invoice"]),
        ListEventsRequest(subjects=["invoice.%"]),
        ListEventsRequest(subjects=["a.b.c.d.e.*"]),
        ListEventsRequest(subjects=["a.b.c.d.e"]),
        ListEventsRequest(subjects=["usage.v2"]),
        ListEventsRequest(subjects=["a.b"] * 51),
        ListEventsRequest(page_size=1001),
        ListEventsRequest(page_size=-1),
        ListEventsRequest(after="x" * 513),
    ],
)
async def test_bad_requests_name_the_field(mesh: Mesh, request_: ListEventsRequest) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub(mesh, new_tenant()).ListEvents(request_)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(refused.value) == "INVALID_FIELD"


async def test_a_cursor_belongs_to_its_tenant_and_its_subjects(lab: Lab, mesh: Mesh) -> None:
    tenant = new_tenant()
    await publish(lab, tenant, PlanCreated(plan_id="p"))
    await mesh.drain_events()
    page = await stub(mesh, tenant).ListEvents(ListEventsRequest(subjects=["plan.*"]))
    for who, subjects, cursor in (
        (new_tenant(), ["plan.*"], page.next_cursor),
        (tenant, ["plan.created"], page.next_cursor),
        (tenant, ["plan.*"], "garbage"),
        (tenant, ["plan.*"], page.next_cursor[:-3]),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub(mesh, who).ListEvents(ListEventsRequest(subjects=subjects, after=cursor))
        assert reason(refused.value) == "INVALID_PAGE_TOKEN"


async def test_reading_needs_the_scope(mesh: Mesh) -> None:
    reader = Stub(mesh.channel(new_tenant(), {"ledger:read"}))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await reader.ListEvents(ListEventsRequest())
    assert reason(refused.value) == "SCOPE_MISSING"


# ---- the tail


async def _take(
    tail: AsyncIterator[events_service_pb2.TailEventsResponse], count: int
) -> list[events_pb2.Event]:
    async with asyncio.timeout(10):
        return [(await anext(tail)).event for _ in range(count)]


async def test_a_tail_starts_now_and_follows(lab: Lab, mesh: Mesh) -> None:
    tenant = new_tenant()
    await publish(lab, tenant, PlanCreated(plan_id="before"))
    await mesh.drain_events()
    following = stub(mesh, tenant).TailEvents(TailEventsRequest())
    tail = aiter(following)
    first = asyncio.create_task(_take(tail, 1))
    await asyncio.sleep(0.5)
    assert not first.done()
    ids = await publish(lab, tenant, PlanCreated(plan_id="a"), PlanUpdated(plan_id="b"))
    ids += await publish(lab, tenant, PlanCreated(plan_id="c"))
    events = await first + await _take(tail, 2)
    assert [event.id for event in events] == ids
    following.cancel()


async def test_a_tail_says_where_it_starts_when_asked(lab: Lab, mesh: Mesh) -> None:
    tenant = new_tenant()
    await publish(lab, tenant, PlanCreated(plan_id="before"))
    await mesh.drain_events()
    reader = stub(mesh, tenant)
    following = reader.TailEvents(TailEventsRequest(announce=True))
    tail = aiter(following)
    async with asyncio.timeout(10):
        start = await anext(tail)
        assert not start.HasField("event")
        ids = await publish(lab, tenant, PlanCreated(plan_id="a"), PlanUpdated(plan_id="b"))
        found = [await anext(tail) for _ in ids]
    following.cancel()
    assert [answer.event.id for answer in found] == ids
    assert start.position < found[0].position < found[1].position
    # The cursor of the start is good for pages too.
    page = await reader.ListEvents(ListEventsRequest(after=start.cursor))
    assert [event.id for event in page.events] == ids


async def test_a_tail_goes_on_behind_its_cursor_without_a_gap(lab: Lab, mesh: Mesh) -> None:
    tenant = new_tenant()
    reader = stub(mesh, tenant)
    ids = await publish(lab, tenant, *(PlanCreated(plan_id=f"p{n}") for n in range(250)))
    await mesh.drain_events()
    page = await reader.ListEvents(ListEventsRequest(page_size=1, subjects=["plan.*"]))
    seen = [page.events[0].id]
    cursor = page.next_cursor
    for upto in (121, 250):
        following = reader.TailEvents(TailEventsRequest(after=cursor, subjects=["plan.*"]))
        async with asyncio.timeout(10):
            async for answer in following:
                seen.append(answer.event.id)
                cursor = answer.cursor
                if len(seen) == upto:
                    break
        following.cancel()
    assert seen == ids


async def test_a_tail_gives_its_subjects_and_its_tenant_only(lab: Lab, mesh: Mesh) -> None:
    tenant = new_tenant()
    following = stub(mesh, tenant).TailEvents(TailEventsRequest(subjects=["plan.created"]))
    first = asyncio.create_task(_take(aiter(following), 1))
    await asyncio.sleep(0.3)
    await publish(lab, new_tenant(), PlanCreated(plan_id="theirs"))
    await publish(lab, tenant, PlanUpdated(plan_id="other"))
    (event_id,) = await publish(lab, tenant, PlanCreated(plan_id="mine"))
    assert [event.id for event in await first] == [event_id]
    following.cancel()


async def test_cancelled_tails_are_let_go_and_their_number_is_bounded(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "TAILS_MAX", 2)
    reader = stub(mesh, new_tenant())
    for _ in range(3):
        open_ = [reader.TailEvents(TailEventsRequest()) for _ in range(2)]
        waiting = [asyncio.create_task(_take(aiter(tail), 1)) for tail in open_]
        await asyncio.sleep(0.3)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await _take(aiter(reader.TailEvents(TailEventsRequest())), 1)
        assert reason(refused.value) == "OVERLOADED"
        for tail in open_:
            tail.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(0.3)


async def test_one_tenant_cannot_take_every_tail(
    lab: Lab, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "TAILS_MAX", 4)
    monkeypatch.setattr(app, "TAILS_OF_TENANT_MAX", 2)
    greedy, other, third = [new_tenant() for _ in range(3)]
    starts = {}
    for tenant in (greedy, other, third):
        starts[tenant] = (await stub(mesh, tenant).ListEvents(ListEventsRequest())).next_cursor
        await publish(lab, tenant, PlanCreated(plan_id="p"))

    async def served(tenant: str) -> grpc.aio.UnaryStreamCall[Any, Any]:
        tail = stub(mesh, tenant).TailEvents(TailEventsRequest(after=starts[tenant]))
        await _take(aiter(tail), 1)
        return cast("grpc.aio.UnaryStreamCall[Any, Any]", tail)

    open_ = [await served(greedy), await served(greedy)]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served(greedy)
    assert reason(refused.value) == "OVERLOADED"
    assert "2 streams of this tenant" in str(refused.value.details())
    open_ += [await served(other), await served(other)]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served(third)
    assert "4 streams are open" in str(refused.value.details())
    for tail in open_:
        tail.cancel()


async def test_a_stopping_server_ends_its_tails_with_a_reason(lab: Lab) -> None:
    async with running(lab.urls, [manifest.SERVICE]) as mesh:
        following = stub(mesh, new_tenant()).TailEvents(TailEventsRequest())
        waiting = asyncio.create_task(_take(aiter(following), 1))
        await asyncio.sleep(0.5)
        started = asyncio.get_running_loop().time()
        mesh.node.bus.close()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await waiting
        assert asyncio.get_running_loop().time() - started < 2
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason(ended.value) == "STREAM_ENDED"


# ---- with many rows

_MANY = """
INSERT INTO mesh.feed (tenant_id, position, event_id, recorded_at, subject, key, lane)
SELECT %s, 1000000 + n, 'e' || n, now(), CASE WHEN n %% 5000 = 0 THEN 'rare.event' ELSE 'common.event' END, 'k', 0
  FROM generate_series(1, 60000) AS n
"""


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("page_of_all", "feed_pkey"),
        ("page_of_subjects", "feed_subject"),
        ("subjects_between", "feed_subject"),
        ("last_position", "feed_pkey"),
    ],
)
async def test_the_services_role_reads_the_feed_by_index(lab: Lab, name: str, index: str) -> None:
    tenant = new_tenant()
    await lab.rows(_MANY, tenant)
    await lab.rows("ANALYZE mesh.feed")
    first, end = Pattern.parse("rare.*").bounds()
    asked = {
        "tenant_id": tenant,
        "after": 0,
        "limit": 100,
        "subjects": ["rare.event"],
        "first": first,
        "end": end,
    }
    statement = sql.load("services.events", "queries.sql")[name]
    async with await psycopg.AsyncConnection.connect(lab.urls.service) as connection:
        await connection.execute("SELECT set_config('mesh.tenant', %s, true)", (tenant,))
        found = await connection.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}".encode(), asked
        )
        ((explained,),) = await found.fetchall()
    plan = json.dumps(explained)
    assert f'"Index Name": "{index}"' in plan
    assert '"Seq Scan"' not in plan
    assert explained[0]["Plan"]["Shared Hit Blocks"] < 200
    await lab.rows("DELETE FROM mesh.feed WHERE tenant_id = %s", tenant)
