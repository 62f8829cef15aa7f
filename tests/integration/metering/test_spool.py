"""The database is away: batches are held, and stored with the same verdicts once it is back; never more, never less."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToJson
from grpc_health.v1 import health_pb2, health_pb2_grpc
from nats.aio.client import Client
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc
from payments.metering.v1 import (
    corrections_pb2,
    metering_pb2,
    metering_service_pb2,
    metering_service_pb2_grpc,
    spool_pb2,
)
from payments.type.v1 import type_pb2
from structlog.testing import capture_logs

from services.runtime.events.jetstream.spool import stream_of
from services.runtime.postgres.roles import DatabaseUrls
from tests.support.billing.metering import NOW, batch, event, outcomes, usage_query
from tests.support.billing.spooling import SERVICE, SKU, Far, far_mesh, refused
from tests.support.http.rest import Rest, facade
from tests.support.jetstream import nats
from tests.support.jetstream.nats import Nats
from tests.support.jetstream.sites import eventually
from tests.support.postgres.server import Server

SITE = "main"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    with nats.serving(tmp_path_factory.mktemp("nats"), max_payload="64KB") as running:
        yield running


@pytest.fixture(scope="module")
async def far(postgres_server: Server, server: Nats) -> AsyncIterator[Far]:
    urls = postgres_server.new_database("spool")
    async with far_mesh(urls, server, SITE) as running:
        yield running
    postgres_server.drop_database(urls)


@pytest.fixture(autouse=True)
async def database_comes_back(far: Far) -> AsyncIterator[None]:
    """What one test leaves cut is no other's."""
    yield
    await far.mend()


@pytest.fixture
def stub(far: Far, tenant: str) -> Any:
    return far.stub(tenant)


async def held(far: Far, tenant: str, *events: metering_pb2.UsageEvent) -> Any:
    """Send a batch that has to be enqueued whole."""
    answer = await far.stub(tenant).IngestEvents(batch(*events))
    assert (answer.enqueued, sum(outcomes(answer).values())) == (len(events), 0)
    return answer


async def test_a_batch_is_held_and_then_stored_with_the_verdicts_of_a_direct_one(
    far: Far, stub: Any, tenant: str
) -> None:
    await stub.IngestEvents(batch(event("known"), event("other", quantity="1")))
    await far.cut()
    sent = [
        event("new"),
        event("known"),
        event("other", quantity="2"),
        event("bad", quantity="-1"),
        event("sku", sku="nobody.knows"),
        event("new"),
    ]
    answer = await held(far, tenant, *sent)
    assert [problem.index for problem in answer.problems] == list(range(6))
    assert {problem.outcome for problem in answer.problems} == {type_pb2.OUTCOME_ENQUEUED}
    assert {problem.reason for problem in answer.problems} == {"EVENT_ENQUEUED"}
    assert answer.problems[3].request_id == "bad"
    await far.mend()
    found = await far.drained(tenant, answer.receipt_id)
    assert outcomes(found) == {"accepted": 1, "duplicate": 2, "conflict": 1, "rejected": 2}
    assert (found.events, found.stored_receipt_id) == (6, answer.receipt_id)
    assert [(problem.index, problem.reason) for problem in found.problems] == [
        (1, "EVENT_DUPLICATE"),
        (2, "EVENT_CONFLICT"),
        (3, "INVALID_FIELD"),
        (4, "UNKNOWN_SKU"),
        (5, "EVENT_DUPLICATE"),
    ]
    (row,) = (await stub.QueryUsage(usage_query())).rows
    assert (row.value, row.event_count) == ("26", 3)
    receipts = far.rows(
        "SELECT accepted, recorded_by FROM metering.receipt WHERE tenant_id = %s ORDER BY accepted",
        tenant,
    )
    assert receipts == [(1, f"test:{tenant}"), (2, f"test:{tenant}")]
    rejected = await stub.ListRejectedEvents(corrections_pb2.ListRejectedEventsRequest())
    assert [item.event.request_id for item in rejected.rejected_events] == ["bad", "sku"]
    told = "SELECT count(*) FROM mesh.event WHERE tenant_id = %s AND subject = %s"
    assert far.rows(told, tenant, "contract.violated") == [(1,)]
    await far.empty()


async def test_a_batch_that_waits_is_told_of_and_unknown_ones_are_not(
    far: Far, stub: Any, tenant: str
) -> None:
    await far.cut()
    answer = await held(far, tenant, event("e"))
    with far.drained_elsewhere(tenant):
        await far.mend()
        request = spool_pb2.GetSpooledBatchRequest(receipt_id=answer.receipt_id)
        found = (await stub.GetSpooledBatch(request)).spooled_batch
        assert (found.status, found.events) == (spool_pb2.SPOOL_STATUS_WAITING, 1)
        assert found.received_at.ToDatetime(NOW.tzinfo) == NOW
        assert not found.HasField("drained_at")
        # Another tenant's batch is nobody else's.
        error = await refused(far.stub(f"{tenant}-x").GetSpooledBatch(request))
        assert error.reason == "NOT_FOUND"
    await far.drained(tenant, answer.receipt_id)
    request = spool_pb2.GetSpooledBatchRequest(receipt_id=f"rcp_{uuid.uuid4()}")
    assert (await refused(stub.GetSpooledBatch(request))).reason == "NOT_FOUND"


async def test_the_same_batch_is_held_once_and_counts_once_whichever_way_it_comes(
    far: Far, stub: Any, tenant: str
) -> None:
    before = await stub.IngestEvents(batch(event("before")))
    await far.cut()
    events = [event(f"e-{number}") for number in range(20)]
    first = await held(far, tenant, *events)
    again = await held(far, tenant, *events)
    known = await held(far, tenant, event("before"))
    assert again.receipt_id == first.receipt_id
    assert (await far.held()).messages == 2
    await far.mend()
    found = await far.drained(tenant, first.receipt_id)
    assert outcomes(found)["accepted"] == 20
    # All of it was stored by another call: that one's receipt is the proof.
    found = await far.drained(tenant, known.receipt_id)
    assert (found.duplicate, found.stored_receipt_id) == (1, before.receipt_id)
    direct = await stub.IngestEvents(batch(*events))
    assert (direct.duplicate, direct.receipt_id) == (20, first.receipt_id)
    count = "SELECT count(*) FROM metering.usage_event WHERE tenant_id = %s"
    assert far.rows(count, tenant) == [(21,)]


async def test_tenants_are_apart(far: Far, tenant: str) -> None:
    other = f"{tenant}.x"
    await far.cut()
    mine = await held(far, tenant, event("same", quantity="1"))
    theirs = await held(far, other, event("same", quantity="1"))
    assert mine.receipt_id != theirs.receipt_id
    await far.mend()
    for who, answer in ((tenant, mine), (other, theirs)):
        found = await far.drained(who, answer.receipt_id)
        assert (found.accepted, found.stored_receipt_id) == (1, answer.receipt_id)
        usage = await far.stub(who).QueryUsage(usage_query())
        assert [row.value for row in usage.rows] == ["1"]


async def test_batches_of_a_tenant_are_stored_in_their_order(
    far: Far, stub: Any, tenant: str
) -> None:
    await far.cut()
    answers = [await held(far, tenant, event("e", quantity=str(number))) for number in range(1, 9)]
    await far.mend()
    found = [await far.drained(tenant, answer.receipt_id) for answer in answers]
    assert [item.accepted for item in found] == [1] + [0] * 7
    assert [item.conflict for item in found] == [0] + [1] * 7
    (row,) = (await stub.QueryUsage(usage_query())).rows
    assert row.value == "1"


async def test_cloud_events_and_streams_are_held_too(far: Far, stub: Any, tenant: str) -> None:
    await far.cut()
    body = [
        {
            "specversion": "1.0",
            "source": "/gateway",
            "id": "1",
            "type": SKU,
            "subject": "chat",
            "time": NOW.isoformat(),
            "data": {"quantity": "2.50"},
        },
        {"specversion": "1.0", "source": "/gateway", "id": "2", "type": SKU},
    ]
    request = metering_service_pb2.IngestCloudEventsRequest(
        content_type="application/cloudevents-batch+json", raw_request=json.dumps(body).encode()
    )
    answer = await stub.IngestCloudEvents(request)
    assert (answer.enqueued, len(answer.problems)) == (2, 2)

    async def requests() -> AsyncIterator[metering_service_pb2.StreamEventsRequest]:
        for number in range(3):
            yield metering_service_pb2.StreamEventsRequest(batch=batch(event(f"s-{number}")))

    streamed = [item.result async for item in stub.StreamEvents(requests())]
    assert [item.enqueued for item in streamed] == [1, 1, 1]
    # What cannot be read at all is refused, and not held.
    request.raw_request = b"["
    assert (await refused(stub.IngestCloudEvents(request))).reason == "INVALID_FIELD"
    empty = metering_service_pb2.IngestEventsRequest()
    assert (await refused(stub.IngestEvents(empty))).reason == "INVALID_FIELD"
    await far.mend()
    found = await far.drained(tenant, answer.receipt_id)
    assert outcomes(found) == {"accepted": 1, "duplicate": 0, "conflict": 0, "rejected": 1}
    assert found.problems[0].reason == "CLOUD_EVENT_INVALID"
    for item in streamed:
        assert (await far.drained(tenant, item.receipt_id)).accepted == 1


async def test_a_stream_that_is_open_when_the_database_goes_away_goes_on(
    far: Far, stub: Any, tenant: str
) -> None:
    go_on = asyncio.Event()

    async def requests() -> AsyncIterator[metering_service_pb2.StreamEventsRequest]:
        yield metering_service_pb2.StreamEventsRequest(batch=batch(event("before")))
        await go_on.wait()
        yield metering_service_pb2.StreamEventsRequest(batch=batch(event("behind")))

    answers = aiter(stub.StreamEvents(requests()))
    assert (await anext(answers)).result.accepted == 1
    await far.cut()
    go_on.set()
    behind = (await anext(answers)).result
    assert behind.enqueued == 1
    await far.mend()
    assert (await far.drained(tenant, behind.receipt_id)).accepted == 1


async def test_events_are_judged_as_of_the_moment_when_they_came(
    postgres_server: Server, server: Nats, tenant: str
) -> None:
    """An hour of outage makes nothing too old."""
    urls = postgres_server.new_database("spool")
    async with far_mesh(urls, server, "times") as far:
        settings = metering_service_pb2.UpdateIngestSettingsRequest(request_id=str(uuid.uuid4()))
        settings.accept_past.FromSeconds(600)
        await far.stub(tenant).UpdateIngestSettings(settings)
        await far.cut()
        edge = event("edge", at=NOW - timedelta(seconds=600))
        beyond = event("beyond", at=NOW - timedelta(seconds=601))
        answer = await held(far, tenant, edge, beyond)
        far.clock.advance(timedelta(hours=1))
        await far.mend()
        found = await far.drained(tenant, answer.receipt_id)
        assert outcomes(found) == {"accepted": 1, "duplicate": 0, "conflict": 0, "rejected": 1}
        assert found.problems[0].reason == "EVENT_TOO_OLD"
        assert found.drained_at.ToDatetime(NOW.tzinfo) == NOW + timedelta(hours=1)
        assert (await far.stub(tenant).IngestEvents(batch(beyond, edge))).rejected == 2
    postgres_server.drop_database(urls)


_CLOSED = """
INSERT INTO metering.closed_period
  (tenant_id, charge_id, org_id, start_at, end_at, usage_ordinal, heard_ordinal, heard_at)
VALUES (%s, %s, 'chat', %s, %s, 0, 0, %s)
"""


@pytest.mark.parametrize(("closed_before", "stored"), [(True, 0), (False, 1)])
async def test_a_period_that_was_closed_behind_a_batch_makes_it_late_and_refuses_nothing(
    far: Far, stub: Any, tenant: str, closed_before: bool, stored: int
) -> None:
    settings = metering_service_pb2.UpdateIngestSettingsRequest(
        request_id=str(uuid.uuid4()), late=metering_pb2.LATE_POLICY_REJECT
    )
    await stub.UpdateIngestSettings(settings)
    await far.cut()
    answer = await held(far, tenant, event("e"))
    heard_at = NOW + timedelta(seconds=-1 if closed_before else 1)
    period = (NOW - timedelta(hours=1), NOW + timedelta(hours=1))
    with far.owner() as connection:
        connection.execute(_CLOSED, (tenant, f"chg_{uuid.uuid4()}", *period, heard_at))
    await far.mend()
    found = await far.drained(tenant, answer.receipt_id)
    assert (found.accepted, found.rejected) == (stored, 1 - stored)
    late = "SELECT count(*) FROM metering.late_event WHERE tenant_id = %s"
    assert far.rows(late, tenant) == [(stored,)]


async def test_corrections_wait_for_events_that_may_be_held(
    far: Far, stub: Any, tenant: str
) -> None:
    await stub.IngestEvents(batch(event("stored")))
    await far.cut()
    answer = await held(far, tenant, event("held"))
    with far.drained_elsewhere(tenant):
        await far.mend()

        def cancel(request_id: str) -> Any:
            return corrections_pb2.CancelEventsRequest(
                request_id=str(uuid.uuid4()), request_ids=[request_id], reason="test"
            )

        assert (await stub.CancelEvents(cancel("stored"))).accepted == 1
        waits = cancel("held")
        error = await refused(stub.CancelEvents(waits))
        assert (error.reason, error.code, error.retry_after_ms) == (
            "SPOOL_NOT_DRAINED",
            "UNAVAILABLE",
            1000,
        )
        # Nobody else waits for it.
        other = far.stub(f"{tenant}-x")
        assert (await other.CancelEvents(cancel("held"))).rejected == 1
    await far.drained(tenant, answer.receipt_id)
    # The same call, with the same request_id.
    assert (await stub.CancelEvents(waits)).accepted == 1
    await far.empty()
    assert (await stub.CancelEvents(cancel("nowhere"))).rejected == 1


async def _key(far: Far, tenant: str) -> tuple[str, str]:
    """Make a key; returns its id and its secret."""
    access = access_service_pb2_grpc.AccessServiceStub(
        far.mesh.channel(tenant, {"*", "mesh:admin"})
    )
    made = await access.CreateApiKey(
        access_service_pb2.CreateApiKeyRequest(
            request_id=str(uuid.uuid4()), name="sender", scopes=["metering:write", "metering:read"]
        )
    )
    return made.api_key.key_id, made.secret


async def _ingest(far: Far, secret: str, *events: metering_pb2.UsageEvent) -> Any:
    async with grpc.aio.insecure_channel(far.mesh.address) as channel:
        stub: Any = metering_service_pb2_grpc.MeteringServiceStub(channel)
        metadata = (("authorization", f"Bearer {secret}"),)
        return await stub.IngestEvents(batch(*events), metadata=metadata)


async def test_keys_count_that_were_used_shortly_before_and_no_others(
    far: Far, tenant: str
) -> None:
    key_id, used = await _key(far, tenant)
    _, unused = await _key(far, tenant)
    assert (await _ingest(far, used, event("before"))).accepted == 1
    await far.cut()
    answer = await _ingest(far, used, event("behind"))
    assert answer.enqueued == 1
    for secret in (unused, "tmk_00000000_nobody's"):
        error = await refused(_ingest(far, secret, event("unknown")))
        assert (error.reason, error.retry_after_ms) == ("DATABASE_UNAVAILABLE", 1000)
    assert (await far.held()).messages == 1
    await far.mend()
    assert (await far.drained(tenant, answer.receipt_id)).accepted == 1
    by = "SELECT recorded_by FROM metering.receipt WHERE tenant_id = %s"
    assert far.rows(by, tenant) == [(key_id,), (key_id,)]


async def test_rest_answers_202(far: Far, tenant: str) -> None:
    _, secret = await _key(far, tenant)
    sent = json.loads(MessageToJson(event("rest"), preserving_proto_field_name=True))
    with facade(far.mesh.address) as url:
        rest = Rest(url, secret)

        async def is_stored() -> bool:
            # The start of the facade held up the wire, so that the database may count as away for a moment.
            stored = await rest.acall("POST", "/v1/metering/events", [sent])
            return bool(stored.status == 202 and stored.json()["duplicate"])

        await eventually(is_stored)
        await far.cut()
        answer = await rest.acall("POST", "/v1/metering/events", [sent | {"request_id": "held"}])
        assert answer.status == 202, answer.body
        assert (answer.json()["enqueued"], answer.json()["accepted"]) == (1, 0)
        assert answer.json()["problems"][0]["outcome"] == "OUTCOME_ENQUEUED"
        path = f"/v1/metering/spooled-batches/{answer.json()['receipt_id']}"
        assert (await rest.acall("GET", path)).status == 503
        await far.mend()
        await far.drained(tenant, answer.json()["receipt_id"])


async def test_what_a_key_brought_that_had_been_revoked_is_kept_as_rejected(
    far: Far, stub: Any, tenant: str
) -> None:
    """Another process has revoked it, and this one lost its database before it could hear of that."""
    key_id, secret = await _key(far, tenant)
    assert (await _ingest(far, secret, event("before"))).accepted == 1
    await far.cut()
    with far.owner() as connection:
        connection.execute(
            "UPDATE mesh.api_key SET revoked_at = clock_timestamp() WHERE key_id = %s", (key_id,)
        )
    answer = await _ingest(far, secret, event("behind"))
    assert answer.enqueued == 1
    await far.mend()
    found = await far.drained(tenant, answer.receipt_id)
    assert (found.rejected, found.problems[0].reason) == (1, "EVENT_KEY_ENDED")
    replay = corrections_pb2.ReplayRejectedEventsRequest(request_id=str(uuid.uuid4()))
    replay.reason = "EVENT_KEY_ENDED"
    assert (await stub.ReplayRejectedEvents(replay)).accepted == 1
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await _ingest(far, secret, event("later"))
    assert failed.value.code() is grpc.StatusCode.UNAUTHENTICATED


def noise(count: int) -> list[metering_pb2.UsageEvent]:
    """Make events that do not pack well."""
    return [event(str(uuid.uuid4()), metadata={"k": uuid.uuid4().hex}) for _ in range(count)]


async def test_a_batch_that_the_spool_cannot_hold_is_not_acknowledged(
    far: Far, tenant: str
) -> None:
    await far.cut()
    error: Any = await refused(far.stub(tenant).IngestEvents(batch(*noise(2_500))))
    assert (error.reason, error.retry_after_ms) == ("SPOOL_UNAVAILABLE", 1000)
    assert int(error.metadata["batch_bytes"]) > int(error.metadata["batch_bytes_max"]) > 50_000
    # Full: nothing that was acknowledged makes room for it.
    answers = []
    while True:
        try:
            answers.append(await far.stub(tenant).IngestEvents(batch(*noise(900))))
        except grpc.aio.AioRpcError as failed:
            assert failed.code() is grpc.StatusCode.UNAVAILABLE
            assert "maximum bytes" in str(failed.details())
            break
        assert len(answers) < 100
    assert (await far.held()).messages == len(answers) > 2
    await far.mend()
    for answer in answers:
        assert (await far.drained(tenant, answer.receipt_id)).accepted == 900
    count = "SELECT count(*) FROM metering.usage_event WHERE tenant_id = %s"
    assert far.rows(count, tenant) == [(900 * len(answers),)]


async def test_what_is_no_batch_of_the_mesh_is_left_where_it_lies(
    far: Far, tenant: str, server: Nats
) -> None:
    await far.empty()
    await far.cut()
    first = await held(far, tenant, event("first"))
    client = Client()
    await client.connect(server.url)
    (found,) = [await far.stream().next(0)]
    assert found is not None
    # Somebody who may publish: another tenant's batch, and one with other content.
    for group, payload in (("other", found.payload), (tenant, b"x" * 32 + found.payload[32:])):
        await client.jetstream().publish(f"spool.{SITE}.{group}.name.item", payload)
    await client.close()
    second = await held(far, tenant, event("second"))
    with capture_logs() as lines:
        await far.mend()
        for answer in (first, second):
            assert (await far.drained(tenant, answer.receipt_id)).accepted == 1
        await eventually(_messages(far, 2))
    told = [line for line in lines if "no batch of this mesh" in line["event"]]
    assert len(told) == 2
    assert {line["fault"] for line in told} == {
        "it lies under another tenant than it names",
        "it does not carry the seal of this mesh's secret",
    }
    for line in told:
        await far.stream().remove(line["sequence"])


def _messages(far: Far, count: int) -> Any:
    async def are_held() -> bool:
        return (await far.held()).messages == count

    return are_held


async def test_a_spool_that_lost_what_it_acknowledged_is_told_of(
    far: Far, stub: Any, tenant: str
) -> None:
    await far.empty()
    await far.cut()
    lost = await held(far, tenant, event("lost"))
    jetstream = await far.stream().broker.jetstream()
    with capture_logs() as lines:
        await jetstream.delete_stream(stream_of(SITE))
        # Made anew by whoever needs it next.
        answer: Any = None

        async def is_held_again() -> bool:
            nonlocal answer
            try:
                answer = await held(far, tenant, event("behind"))
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                return False
            return True

        await eventually(is_held_again)
        await far.mend()
        assert (await far.drained(tenant, answer.receipt_id)).accepted == 1
        violations = (
            "SELECT count(*) FROM mesh.event WHERE tenant_id = %s AND subject = 'contract.violated'"
        )

        async def is_told() -> bool:
            return bool(far.rows(violations, tenant) == [(1,)])

        await eventually(is_told)
    told = [line["event"] for line in lines if line["log_level"] == "error"]
    assert any("was made anew" in line for line in told), told
    assert any("lost a batch that was acknowledged" in line for line in told), told
    request = spool_pb2.GetSpooledBatchRequest(receipt_id=lost.receipt_id)
    assert (await refused(stub.GetSpooledBatch(request))).reason == "NOT_FOUND"


async def test_metering_is_healthy_while_its_spool_takes_batches(far: Far) -> None:
    health: Any = health_pb2_grpc.HealthStub(far.mesh.channel("nobody", set()))

    async def serves(name: str) -> bool:
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    assert await serves("")
    await far.cut()

    async def whole_is_gone() -> bool:
        return not await serves("")

    await eventually(whole_is_gone)
    assert await serves(SERVICE)
    assert not await serves("payments.metering.v1.GuardrailService")
    await far.mend()


async def test_without_a_spool_and_without_nats_nothing_is_acknowledged(
    new_database: Callable[..., DatabaseUrls], tmp_path_factory: pytest.TempPathFactory, tenant: str
) -> None:
    with nats.serving(tmp_path_factory.mktemp("away")) as away:
        async with far_mesh(new_database(), away, SITE, spool=False) as far:
            await far.stub(tenant).IngestEvents(batch(event("before")))
            await far.cut()
            error = await refused(far.stub(tenant).IngestEvents(batch(event("e"))))
            assert (error.reason, error.code) == ("DATABASE_UNAVAILABLE", "UNAVAILABLE")
            assert error.retry_after_ms == 1000
        async with far_mesh(new_database(), away, SITE) as far:
            await far.stub(tenant).IngestEvents(batch(event("before")))
            await far.cut()
            (server,) = away.servers.values()
            server.kill()
            error = await refused(far.stub(tenant).IngestEvents(batch(event("e"))))
            assert (error.reason, error.code) == ("SPOOL_UNAVAILABLE", "UNAVAILABLE")
            assert error.retry_after_ms == 1000
            server.start()
            server.await_ready()

            async def is_held() -> bool:
                try:
                    await held(far, tenant, event("e"))
                except grpc.aio.AioRpcError:
                    return False
                return True

            await eventually(is_held)
            await far.mend()
            await far.empty()
            (row,) = (await far.stub(tenant).QueryUsage(usage_query())).rows
            assert row.event_count == 2


async def test_a_database_that_hangs_is_away_too(far: Far, tenant: str) -> None:
    await far.stub(tenant).IngestEvents(batch(event("before")))
    far.wire.hang()
    answers = await asyncio.gather(
        *(far.stub(tenant).IngestEvents(batch(event(f"e-{number}"))) for number in range(12))
    )
    assert {answer.enqueued for answer in answers} == {1}
    await far.mend()
    for answer in answers:
        await far.drained(tenant, answer.receipt_id)
    count = "SELECT count(*) FROM metering.usage_event WHERE tenant_id = %s"
    assert far.rows(count, tenant) == [(13,)]
