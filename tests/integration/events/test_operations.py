"""Consumers, dead letters and replays on a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import grpc
import psycopg
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from payments.events.v1 import events_service_pb2 as service_pb2
from payments.events.v1 import events_service_pb2_grpc, operations_pb2
from payments.type.v1 import type_pb2

from services.events import manifest
from services.events.app import operations as app
from services.runtime.database import UnitOfWork
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.postgres import sql
from services.runtime.process.readiness import Feed
from services.runtime.service import Runtime, Service
from tests.support.events.lab import QUICK, Lab, inversions, new_tenant, write_effect
from tests.support.mesh.serving import Mesh, running

Stub = events_service_pb2_grpc.EventServiceStub

# What the consumers cannot handle: (tenant, key).
BROKEN: set[tuple[str, str]] = set()


async def _works(work: UnitOfWork, envelope: Envelope) -> None:
    await write_effect(work, envelope, f"ops.works/{envelope.generation}")


async def _fails(work: UnitOfWork, envelope: Envelope) -> None:
    if (envelope.tenant_id, envelope.key) in BROKEN:
        raise RuntimeError("the processor is away")
    await write_effect(work, envelope, "ops.fails")


def _consumers(_runtime: Runtime) -> Service:
    subjects = ("plan.created",)
    return Service(
        (),
        [
            Reaction("ops.works", subjects, _works),
            Reaction("ops.fails", subjects, _fails, retry=QUICK),
            Reaction("ops.skips", subjects, _fails_always, retry=QUICK, on_dead="skip"),
            Reaction("ops.once", ("plan.*",), _nothing, replayable=False),
        ],
    )


async def _fails_always(_work: UnitOfWork, envelope: Envelope) -> None:
    if (envelope.tenant_id, envelope.key) in BROKEN:
        raise RuntimeError("nobody is told")


async def _nothing(_work: UnitOfWork, _envelope: Envelope) -> None:
    return None


@pytest.fixture(scope="module")
async def mesh(lab: Lab) -> AsyncIterator[Mesh]:
    """A mesh of the events service on the lab's database."""
    async with running(lab.urls, [manifest.SERVICE, _consumers]) as mesh:
        lab.bus = mesh.node.bus
        lab.database._wake = mesh.node.bus.wake
        yield mesh


@pytest.fixture
def broken() -> Iterator[set[tuple[str, str]]]:
    """Keys that the consumers fail at."""
    yield BROKEN
    BROKEN.clear()


def reader(mesh: Mesh, tenant: str) -> events_service_pb2_grpc.EventServiceAsyncStub:
    return Stub(mesh.channel(tenant, {"events:read"}))


def operator(mesh: Mesh, tenant: str) -> events_service_pb2_grpc.EventServiceAsyncStub:
    return Stub(mesh.channel(tenant, {"events:read", "events:admin"}))


async def consumer(mesh: Mesh, tenant: str, name: str) -> operations_pb2.Consumer:
    answer = await reader(mesh, tenant).ListConsumers(service_pb2.ListConsumersRequest())
    return next(item for item in answer.consumers if item.consumer == name)


async def letters(mesh: Mesh, tenant: str, name: str = "ops.fails") -> list[Any]:
    request = service_pb2.ListDeadLettersRequest(consumer=name)
    return list((await reader(mesh, tenant).ListDeadLetters(request)).dead_letters)


async def versions(lab: Lab, tenant: str, name: str, key: str = "k") -> list[int]:
    found = await lab.effects(tenant, name)
    assert inversions(found) == []
    return [effect.version for effect in found if effect.key == key]


def info_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    status = rpc_status.from_call(cast("grpc.Call", error))
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


def period(start: datetime | None = None, end: datetime | None = None) -> type_pb2.Period:
    found = type_pb2.Period()
    found.start_at.FromDatetime(start or datetime.now(UTC) - timedelta(days=1))
    found.end_at.FromDatetime(end or datetime.now(UTC) + timedelta(days=1))
    return found


def again(name: str = "ops.works", **fields: Any) -> service_pb2.ReplayEventsRequest:
    return service_pb2.ReplayEventsRequest(
        request_id=str(uuid4()), consumer=name, **{"period": period(), **fields}
    )


async def test_a_consumer_that_keeps_up_has_no_lag(mesh: Mesh, lab: Lab) -> None:
    tenant = new_tenant()
    await lab.publish(tenant, "k", 1)
    await mesh.node.drain_events()
    found = await consumer(mesh, tenant, "ops.works")
    assert found == operations_pb2.Consumer(
        consumer="ops.works", subjects=["plan.created"], replayable=True, parks_keys=True
    )
    assert not (await consumer(mesh, tenant, "ops.once")).replayable
    assert list((await consumer(mesh, tenant, "ops.once")).subjects) == ["plan.*"]
    assert not (await consumer(mesh, tenant, "ops.skips")).parks_keys


async def test_consumers_come_in_pages(mesh: Mesh) -> None:
    stub = reader(mesh, new_tenant())
    names, token = [], ""
    while True:
        page = await stub.ListConsumers(
            service_pb2.ListConsumersRequest(page_size=1, page_token=token)
        )
        names += [item.consumer for item in page.consumers]
        token = page.next_page_token
        if not token:
            break
    assert [name for name in names if name.startswith("ops.")] == [
        "ops.fails",
        "ops.once",
        "ops.skips",
        "ops.works",
    ]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListConsumers(service_pb2.ListConsumersRequest(page_token="x"))
    assert info_of(caught.value).reason == "INVALID_PAGE_TOKEN"


async def test_a_parked_key_is_shown_with_what_waits_behind_it(
    mesh: Mesh, lab: Lab, broken: set[tuple[str, str]]
) -> None:
    tenant, other = new_tenant(), new_tenant()
    broken.add((tenant, "k"))
    (first,) = await lab.publish(tenant, "k", 1)
    await lab.publish(tenant, "k", 2)
    await lab.publish(tenant, "sound", 1)
    await mesh.node.drain_events()

    found = await consumer(mesh, tenant, "ops.fails")
    assert (found.waiting_count, found.dead_letter_count) == (1, 1)
    age = datetime.now(UTC) - found.oldest_recorded_at.ToDatetime(UTC)
    assert timedelta() < age < timedelta(minutes=1)
    (key,) = found.failing_keys
    assert (key.key, key.event_id, key.tries, key.parked) == ("k", first, 4, True)
    assert key.last_error == "RuntimeError: the processor is away"
    assert not key.HasField("next_try_at")

    (letter,) = await letters(mesh, tenant)
    assert (letter.consumer, letter.event_id, letter.subject) == (
        "ops.fails",
        first,
        "plan.created",
    )
    assert (letter.key, letter.tries, letter.generation, letter.parked) == ("k", 4, 0, True)
    assert letter.last_error == "RuntimeError: the processor is away"

    strange = await consumer(mesh, other, "ops.fails")
    assert (strange.waiting_count, strange.dead_letter_count) == (0, 0)
    assert not strange.failing_keys and await letters(mesh, other) == []


async def test_dead_letters_come_in_pages(
    mesh: Mesh, lab: Lab, broken: set[tuple[str, str]]
) -> None:
    tenant = new_tenant()
    broken.update((tenant, f"k{number}") for number in range(3))
    expected = [(await lab.publish(tenant, f"k{number}", 1))[0] for number in range(3)]
    await mesh.node.drain_events()
    stub = reader(mesh, tenant)
    for name, ids in (("ops.skips", expected), ("", expected * 2)):
        found, token = [], ""
        while True:
            page = await stub.ListDeadLetters(
                service_pb2.ListDeadLettersRequest(consumer=name, page_size=2, page_token=token)
            )
            found += [letter.event_id for letter in page.dead_letters]
            token = page.next_page_token
            if not token:
                break
        assert found == ids
    page = await stub.ListDeadLetters(service_pb2.ListDeadLettersRequest(page_size=2))
    strange = service_pb2.ListDeadLettersRequest(
        consumer="ops.skips", page_token=page.next_page_token
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListDeadLetters(strange)
    assert info_of(caught.value).reason == "INVALID_PAGE_TOKEN"


async def test_a_mended_key_goes_on_in_its_order(
    mesh: Mesh, lab: Lab, broken: set[tuple[str, str]]
) -> None:
    tenant = new_tenant()
    broken.update({(tenant, "k"), (tenant, "other")})
    for version in (1, 2, 3):
        await lab.publish(tenant, "k", version)
        await lab.publish(tenant, "other", version)
    await mesh.node.drain_events()
    broken.discard((tenant, "k"))

    request = service_pb2.ReplayDeadLettersRequest(
        request_id=str(uuid4()), consumer="ops.fails", key="k"
    )
    stub = operator(mesh, tenant)
    answer = await stub.ReplayDeadLetters(request)
    assert (answer.replayed_count, answer.more) == (1, False)
    await mesh.node.drain_events()
    assert await versions(lab, tenant, "ops.fails") == [1, 2, 3]
    assert await versions(lab, tenant, "ops.fails", "other") == []

    # The same request is answered from memory, whatever happened since.
    assert await stub.ReplayDeadLetters(request) == answer
    assert [letter.key for letter in await letters(mesh, tenant)] == ["other"]

    # Still broken: four fresh tries, and back among the letters.
    rest = service_pb2.ReplayDeadLettersRequest(request_id=str(uuid4()), consumer="ops.fails")
    assert (await stub.ReplayDeadLetters(rest)).replayed_count == 1
    await mesh.node.drain_events()
    (letter,) = await letters(mesh, tenant)
    assert (letter.key, letter.tries) == ("other", 4)
    entries = await lab.rows(
        "SELECT entity_id, after FROM mesh.audit WHERE tenant_id = %s AND entity = 'dead_letters'"
        " ORDER BY audit_id",
        tenant,
    )
    assert [entry["after"]["replayed"] for entry in entries] == [1, 1]


async def test_letters_are_chosen_by_event_and_by_so_many_a_call(
    mesh: Mesh, lab: Lab, broken: set[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, other = new_tenant(), new_tenant()
    broken.update({(tenant, "k"), (other, "k")})
    ids = [(await lab.publish(tenant, "k", version))[0] for version in range(5)]
    (strange,) = await lab.publish(other, "k", 1)
    await mesh.node.drain_events()
    broken.clear()
    stub = operator(mesh, tenant)

    async def replay(**fields: Any) -> tuple[int, bool]:
        request = service_pb2.ReplayDeadLettersRequest(
            request_id=str(uuid4()), consumer="ops.skips", **fields
        )
        answer = await stub.ReplayDeadLetters(request)
        return answer.replayed_count, answer.more

    # Another tenant's letter is none that there is.
    assert await replay(event_ids=[ids[3], strange]) == (1, False)
    monkeypatch.setattr(app, "LETTERS_MAX", 3)
    assert await replay() == (3, True)
    assert await replay() == (1, False)
    assert await replay() == (0, False)
    await mesh.node.drain_events()
    assert await letters(mesh, tenant, "ops.skips") == []
    assert [letter.event_id for letter in await letters(mesh, other, "ops.skips")] == [strange]


async def test_a_key_stays_parked_while_a_letter_of_it_is_left(
    mesh: Mesh, lab: Lab, broken: set[tuple[str, str]]
) -> None:
    tenant = new_tenant()
    broken.add((tenant, "k"))
    ids = [(await lab.publish(tenant, "k", version))[0] for version in (1, 2)]
    await mesh.node.drain_events()
    # As if the consumer had said "skip" when the second one failed.
    await lab.rows(
        "WITH gone AS (DELETE FROM mesh.delivery WHERE event_id = %s AND consumer = 'ops.fails' RETURNING *)"
        " INSERT INTO mesh.dead_letter SELECT tenant_id, consumer, event_id, generation, lane, position, key,"
        " recorded_at, 4, 'x' FROM gone",
        ids[1],
    )
    broken.clear()
    stub = operator(mesh, tenant)
    for event_id, done in ((ids[1], []), (ids[0], [1, 2])):
        request = service_pb2.ReplayDeadLettersRequest(
            request_id=str(uuid4()), consumer="ops.fails", event_ids=[event_id]
        )
        assert (await stub.ReplayDeadLetters(request)).replayed_count == 1
        await mesh.node.drain_events()
        assert await versions(lab, tenant, "ops.fails") == done


async def test_a_period_is_handled_again_page_by_page(
    mesh: Mesh, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, other = new_tenant(), new_tenant()
    for version in range(4):
        await lab.publish(tenant, "k", version)
        await lab.publish(tenant, "l", version)
        await lab.publish(other, "k", version)
    await mesh.node.drain_events()
    monkeypatch.setattr(app, "PLACES_MAX", 3)
    stub = operator(mesh, tenant)
    request, counts = again(), []
    while True:
        answer = await stub.ReplayEvents(request)
        assert await stub.ReplayEvents(request) == answer
        assert answer.generation == 1
        counts.append(answer.replayed_count)
        if not answer.next_page_token:
            break
        request = again(period=request.period, page_token=answer.next_page_token)
    assert counts == [3, 3, 2]
    await mesh.node.drain_events()
    assert await versions(lab, tenant, "ops.works/1") == [0, 1, 2, 3]
    assert await versions(lab, tenant, "ops.works/1", "l") == [0, 1, 2, 3]
    assert await lab.effects(other, "ops.works/1") == []
    # Going on with what is through changes nothing; a replay of one's own has the next number.
    answer = await stub.ReplayEvents(again(period=request.period, page_token=request.page_token))
    assert (answer.replayed_count, answer.next_page_token) == (0, "")
    assert (await stub.ReplayEvents(again())).generation == 2
    await mesh.node.drain_events()
    found = await lab.rows(
        "SELECT generation, event_count, ended_at IS NOT NULL AS ended FROM events.replay WHERE tenant_id = %s"
        " ORDER BY 1",
        tenant,
    )
    assert found[0] == {"generation": 1, "event_count": 8, "ended": True}
    audited = await lab.rows(
        "SELECT entity_id FROM mesh.audit WHERE tenant_id = %s AND entity = 'replay' ORDER BY entity_id",
        tenant,
    )
    assert [row["entity_id"] for row in audited] == ["ops.works/1", "ops.works/2"]


async def test_a_replay_is_of_the_period_and_the_subjects_asked_for(mesh: Mesh, lab: Lab) -> None:
    tenant = new_tenant()
    await lab.publish(tenant, "k", 1)
    await mesh.node.drain_events()
    middle = (await lab.rows("SELECT clock_timestamp() AS now"))[0]["now"]
    await lab.publish(tenant, "k", 2)
    await mesh.node.drain_events()
    stub = operator(mesh, tenant)
    answer = await stub.ReplayEvents(again(period=period(end=middle)))
    assert answer.replayed_count == 1
    answer = await stub.ReplayEvents(again(period=period(start=middle), subjects=["plan.*"]))
    assert (answer.replayed_count, answer.generation) == (1, 2)
    for subjects in (["plan.updated"], ["order.*"]):
        assert (await stub.ReplayEvents(again(subjects=subjects))).replayed_count == 0
    await mesh.node.drain_events()
    assert await versions(lab, tenant, "ops.works/1") == [1]
    assert await versions(lab, tenant, "ops.works/2") == [2]
    empty = again(
        period=period(end=datetime(2001, 1, 1, tzinfo=UTC), start=datetime(2000, 1, 1, tzinfo=UTC))
    )
    answer = await stub.ReplayEvents(empty)
    assert (answer.replayed_count, answer.next_page_token) == (0, "")


async def test_what_waits_comes_by_itself_and_after_what_is_replayed(
    mesh: Mesh, lab: Lab, broken: set[tuple[str, str]]
) -> None:
    tenant = new_tenant()
    await lab.publish(tenant, "k", 1)
    await mesh.node.drain_events()
    broken.add((tenant, "k"))
    await lab.publish(tenant, "k", 2)
    await lab.publish(tenant, "k", 3)
    await mesh.node.drain_events()
    # One is a dead letter, one waits behind it, one was handled.
    stub = operator(mesh, tenant)
    assert (await stub.ReplayEvents(again("ops.fails"))).replayed_count == 1
    await mesh.node.drain_events()
    assert await versions(lab, tenant, "ops.fails") == [1]
    broken.clear()
    letters_again = service_pb2.ReplayDeadLettersRequest(
        request_id=str(uuid4()), consumer="ops.fails"
    )
    await stub.ReplayDeadLetters(letters_again)
    await mesh.node.drain_events()
    assert [effect.version for effect in await lab.effects(tenant, "ops.fails")] == [1, 1, 2, 3]


async def test_replays_that_are_refused(mesh: Mesh, lab: Lab) -> None:
    tenant = new_tenant()
    stub = operator(mesh, tenant)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ReplayEvents(again("ops.once"))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert info_of(caught.value).reason == "CONSUMER_NOT_REPLAYABLE"
    assert dict(info_of(caught.value).metadata) == {"consumer": "ops.once"}
    nobody = service_pb2.ReplayDeadLettersRequest(request_id=str(uuid4()), consumer="ops.nobody")
    for call in (stub.ReplayEvents(again("ops.nobody")), stub.ReplayDeadLetters(nobody)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert info_of(caught.value).reason == "NOT_FOUND"
    for request in (again(subjects=["Plan"]), again(page_token="x")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ReplayEvents(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    both = service_pb2.ReplayDeadLettersRequest(
        request_id=str(uuid4()), consumer="ops.fails", key="k", event_ids=["e"]
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ReplayDeadLetters(both)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    for call in (
        reader(mesh, tenant).ReplayEvents(again()),
        reader(mesh, tenant).ReplayDeadLetters(nobody),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_token_goes_on_with_its_own_replay_only(
    mesh: Mesh, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = new_tenant()
    await lab.publish(tenant, "k", 1, 2)
    await mesh.node.drain_events()
    monkeypatch.setattr(app, "PLACES_MAX", 1)
    stub = operator(mesh, tenant)
    begun = again()
    token = (await stub.ReplayEvents(begun)).next_page_token
    assert token
    for fields in (
        {"period": period(end=datetime.now(UTC) + timedelta(days=2))},
        {"period": begun.period, "subjects": ["plan.created"]},
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ReplayEvents(again(page_token=token, **fields))
        assert info_of(caught.value).reason == "INVALID_PAGE_TOKEN"


async def test_two_replays_at_once_leave_each_key_in_order(mesh: Mesh, lab: Lab) -> None:
    tenant = new_tenant()
    for key in ("k", "l", "m"):
        await lab.publish(tenant, key, *range(20))
    await mesh.node.drain_events()
    stub = operator(mesh, tenant)
    replays = asyncio.gather(*(stub.ReplayEvents(again()) for _ in range(4)))
    for version in (20, 21):
        await lab.publish(tenant, "k", version)
    generations = sorted(answer.generation for answer in await replays)
    assert generations == [1, 2, 3, 4]
    await mesh.node.drain_events()
    for generation in range(5):
        for key in ("k", "l", "m"):
            found = await versions(lab, tenant, f"ops.works/{generation}", key)
            assert found == sorted(set(found))


async def test_the_functions_act_for_the_tenant_of_the_transaction_alone(lab: Lab) -> None:
    async with await psycopg.AsyncConnection.connect(lab.urls.service) as connection:
        for statement in (
            "SELECT * FROM mesh.replay_dead_letters('ops.fails', NULL, NULL, 1)",
            "SELECT * FROM mesh.replay_events('ops.works', 1, now(), now(), '{}', '{}', 0, 1, 1)",
            "SELECT mesh.evict('ops.works', '{1}')",
            "SELECT mesh.make_day('2030-01-01')",
            "SELECT * FROM mesh.retire(now())",
            "SELECT * FROM mesh.strays()",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute(statement.encode())
            await connection.rollback()


async def test_a_feed_that_stands_still_is_seen_by_who_asks_for_health(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "payments.events.v1.EventService"
    stub: Any = health_pb2_grpc.HealthStub(mesh.channel(new_tenant(), set()))
    states = health_pb2.HealthCheckResponse

    async def health(service: str) -> Any:
        return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status

    look = mesh.node.readiness.look
    await look()
    assert await health(name) == states.SERVING
    with monkeypatch.context() as patch:
        # It looks by itself too, which changes nothing here.
        patch.setattr(Feed, "why_unfit", lambda _: "no progress")
        await look()
        assert await health(name) == states.NOT_SERVING
        assert await health("") == states.NOT_SERVING, "the whole follows its parts"
        assert await health("timers") == states.SERVING
    await look()
    assert await health(name) == states.SERVING
    assert await health("") == states.SERVING


@pytest.mark.parametrize(
    ("name", "index"),
    [("begin_replay", "feed_recorded"), ("dead_letters", "dead_letter_place")],
)
async def test_replays_and_letters_are_found_by_index(lab: Lab, name: str, index: str) -> None:
    """As the services' role, whose policy lets only leakproof operators near an index."""
    tenant = new_tenant()
    await lab.rows(
        "INSERT INTO mesh.feed (tenant_id, position, event_id, recorded_at, subject, key, lane)"
        " SELECT CASE WHEN n %% 2 = 0 THEN %s ELSE 'others' END, -n, 'e' || n, now() + n * interval '1 s', 's', 'k', 1"
        " FROM generate_series(1, 20000) AS n",
        tenant,
    )
    await lab.rows(
        "INSERT INTO mesh.dead_letter (tenant_id, consumer, event_id, generation, lane, position, key, recorded_at,"
        " attempts, last_error) SELECT CASE WHEN n %% 100 = 0 THEN %s ELSE 'others' END, 'c' || n %% 7, 'e' || n, 0, 1,"
        " -n, 'k', now(), 4, 'x' FROM generate_series(1, 20000) AS n",
        tenant,
    )
    await lab.rows("ANALYZE mesh.feed, mesh.dead_letter")
    now = datetime.now(UTC)
    asked: dict[str, Any] = {
        "tenant_id": tenant,
        "consumer": "c1" if name == "dead_letters" else "explained",
        "start_at": now + timedelta(minutes=10),
        "end_at": now + timedelta(minutes=60),
        "subjects": [],
        "requested_by": "me",
        "now": now,
        "after_consumer": "",
        "after_position": -30_000,
        "after_generation": 0,
        "limit": 20,
    }
    statement = sql.load("services.events", "queries.sql")[name]
    async with await psycopg.AsyncConnection.connect(lab.urls.service) as connection:
        await connection.execute("SELECT set_config('mesh.tenant', %s, true)", (tenant,))
        found = await connection.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}".encode(), asked
        )
        ((explained,),) = await found.fetchall()
        await connection.rollback()
    await lab.rows("DELETE FROM mesh.feed WHERE position < 0")
    await lab.rows("DELETE FROM mesh.dead_letter WHERE position < 0")
    plan = json.dumps(explained)
    assert f'"Index Name": "{index}"' in plan
    assert '"Seq Scan"' not in plan
    assert explained[0]["Plan"]["Shared Hit Blocks"] < 300
