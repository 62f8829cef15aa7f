"""IngestEvents and StreamEvents on a real server with a real Postgres."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import psycopg
import pytest
from payments.events.v1 import metering_events_pb2
from payments.metering.v1 import metering_pb2, metering_service_pb2
from payments.type.v1 import type_pb2

from services.runtime.edge.status import RemoteError
from tests.support.billing.metering import NOW, Catalogue, batch, event, outcomes, usage_query
from tests.support.mesh.serving import Mesh
from tests.support.postgres.server import DatabaseUrls


def rows(database: DatabaseUrls, statement: str, *parameters: object) -> list[Any]:
    """Read as the owner, whom row-level security does not hold back."""
    with psycopg.connect(database.owner_admin) as connection:
        return connection.execute(statement.encode(), parameters).fetchall()


def error_of(error: grpc.aio.AioRpcError) -> Any:
    """Read the typed error of a failed call."""
    return RemoteError.of(error, "metering")


async def test_a_batch_is_stored_whole_with_its_receipt(
    stub: Any, tenant: str, database: DatabaseUrls
) -> None:
    sent = event("e-1", quantity="0012.500", metadata={"model": "größe \\ \t x", "a": '"'})
    response = await stub.IngestEvents(batch(sent, event("e\\N\t2", project_id="")))
    assert outcomes(response) == {"accepted": 2, "duplicate": 0, "conflict": 0, "rejected": 0}
    assert response.receipt_id.startswith("rcp_")
    assert not response.problems
    stored = rows(
        database,
        "SELECT request_id, project_id, quantity, event_time, source, metadata, 'rcp_' || receipt_id"
        " FROM metering.usage_event WHERE tenant_id = %s ORDER BY project_id",
        tenant,
    )
    assert stored[0][:2] == ("e\\N\t2", "")
    assert str(stored[1][2]) == "12.500000000000000000"
    assert stored[1][3:5] == (NOW, metering_pb2.SOURCE_BACKEND)
    assert stored[1][5] == {"model": "größe \\ \t x", "a": '"'}
    assert {row[6] for row in stored} == {response.receipt_id}
    receipts = rows(
        database,
        "SELECT accepted, duplicate, conflict, rejected, first_event_at, last_event_at, recorded_by"
        " FROM metering.receipt WHERE tenant_id = %s",
        tenant,
    )
    assert receipts == [(2, 0, 0, 0, NOW, NOW, f"test:{tenant}")]


async def test_the_same_batch_again_is_all_duplicates(stub: Any) -> None:
    """A lost reply is repaired by sending the batch again, in any order and any grouping."""
    events = [event(f"e-{number}", quantity=str(number)) for number in range(50)]
    await stub.IngestEvents(batch(*events))
    again = await stub.IngestEvents(batch(*reversed(events)))
    assert outcomes(again) == {"accepted": 0, "duplicate": 50, "conflict": 0, "rejected": 0}
    assert [problem.index for problem in again.problems] == list(range(50))
    assert {problem.reason for problem in again.problems} == {"EVENT_DUPLICATE"}
    mixed = await stub.IngestEvents(batch(events[0], event("new")))
    assert outcomes(mixed) == {"accepted": 1, "duplicate": 1, "conflict": 0, "rejected": 0}


async def test_equal_spellings_are_duplicates_and_other_contents_conflicts(stub: Any) -> None:
    first = event("e", quantity="1.5", metadata={"a": "1", "b": "2"})
    await stub.IngestEvents(batch(first))
    same = event("e", quantity="01.50", metadata={"b": "2", "a": "1"})
    same.source = metering_pb2.SOURCE_BACKEND
    assert (await stub.IngestEvents(batch(same))).duplicate == 1
    changes: list[dict[str, Any]] = [
        {"quantity": "1.51"},
        {"org_id": "other"},
        {"project_id": ""},
        {"sku": "llm.requests"},
        {"at": NOW - timedelta(microseconds=1)},
        {"source": metering_pb2.SOURCE_REPLAY},
        {"metadata": {"a": "1"}},
    ]
    for change in changes:
        fields = {"quantity": "1.5", "metadata": {"a": "1", "b": "2"}, **change}
        answer = await stub.IngestEvents(batch(event("e", **fields)))
        assert answer.conflict == 1, change
        (problem,) = answer.problems
        assert problem.outcome == type_pb2.OUTCOME_CONFLICT
        assert problem.reason == "EVENT_CONFLICT"
        assert problem.message


async def test_one_batch_may_repeat_itself_and_the_first_wins(stub: Any) -> None:
    answer = await stub.IngestEvents(
        batch(event("e"), event("e", quantity="2"), event("f"), event("e"))
    )
    assert outcomes(answer) == {"accepted": 2, "duplicate": 1, "conflict": 1, "rejected": 0}
    assert [(problem.index, problem.outcome) for problem in answer.problems] == [
        (1, type_pb2.OUTCOME_CONFLICT),
        (3, type_pb2.OUTCOME_DUPLICATE),
    ]
    # Judged against what is stored, not against what stood first in this batch.
    later = await stub.IngestEvents(batch(event("e", quantity="2"), event("e")))
    assert [problem.outcome for problem in later.problems] == [
        type_pb2.OUTCOME_CONFLICT,
        type_pb2.OUTCOME_DUPLICATE,
    ]


REJECTED = [
    (event(""), "INVALID_FIELD", "request_id"),
    (event("x" * 129), "INVALID_FIELD", "request_id"),
    (event("a\0b"), "INVALID_FIELD", "request_id"),
    (event("r-org", org_id="a b"), "INVALID_FIELD", "org_id"),
    (event("r-sku", sku=""), "INVALID_FIELD", "sku"),
    (event("r-negative", quantity="-1"), "INVALID_FIELD", "quantity"),
    (event("r-absurd", quantity="1" + "0" * 15), "INVALID_FIELD", "quantity"),
    (event("r-exponent", quantity="1e3"), "INVALID_FIELD", "quantity"),
    (event("r-empty", quantity=""), "INVALID_FIELD", "quantity"),
    (event("r-untimed", at=None), "INVALID_FIELD", "event_time"),
    (event("r-source", source=17), "INVALID_FIELD", "source"),
    (event("r-label", metadata={"a b": ""}), "INVALID_FIELD", "metadata"),
    (event("r-past", at=NOW - timedelta(days=35, microseconds=1)), "EVENT_TOO_OLD", "event_time"),
    (event("r-future", at=NOW + timedelta(minutes=5, microseconds=1)), "EVENT_TOO_NEW", "event_ti"),
    (event("r-unknown", sku="no.such.sku"), "UNKNOWN_SKU", "no.such.sku"),
]


async def test_each_broken_event_is_rejected_alone_and_kept(
    stub: Any, tenant: str, mesh: Mesh, database: DatabaseUrls
) -> None:
    good = [
        event("g-1"),
        event("g-2", at=NOW - timedelta(days=35)),
        event("g-3", at=NOW + timedelta(minutes=5)),
    ]
    answer = await stub.IngestEvents(batch(*(item[0] for item in REJECTED), *good))
    assert outcomes(answer)["accepted"] == 3
    assert outcomes(answer)["rejected"] == len(REJECTED)
    for problem, (sent, reason, told) in zip(answer.problems, REJECTED, strict=True):
        assert problem.outcome == type_pb2.OUTCOME_REJECTED
        assert problem.request_id == sent.request_id[:128]
        assert problem.reason == reason
        assert told in problem.message
    kept = rows(
        database,
        "SELECT event_index, reason, content FROM metering.rejected_event"
        " WHERE tenant_id = %s ORDER BY event_index",
        tenant,
    )
    assert [(index, reason) for index, reason, _ in kept] == [
        (index, item[1]) for index, item in enumerate(REJECTED)
    ]
    assert [metering_pb2.UsageEvent.FromString(content) for _, _, content in kept] == [
        item[0] for item in REJECTED
    ]
    # An id whose event was rejected is free for a right one.
    assert (await stub.IngestEvents(batch(event("r-negative")))).accepted == 1
    await mesh.drain_events()
    violations = rows(
        database,
        "SELECT payload FROM mesh.event WHERE tenant_id = %s AND subject = 'contract.violated'",
        tenant,
    )
    assert len(violations) == 1


async def test_an_unknown_sku_is_looked_up_once(
    stub: Any, tenant: str, catalogue: Catalogue
) -> None:
    catalogue.skus.add("fresh.sku")
    strange = [event(f"s-{number}", sku="fresh.sku") for number in range(20)]
    missing = [event(f"m-{number}", sku="missing.sku") for number in range(20)]
    answer = await stub.IngestEvents(batch(*strange, *missing))
    assert outcomes(answer) == {"accepted": 20, "duplicate": 0, "conflict": 0, "rejected": 20}
    asked = [skus for who, skus in catalogue.asked if who == tenant]
    assert asked == [["fresh.sku", "missing.sku"]]
    await stub.IngestEvents(batch(event("s-20", sku="fresh.sku")))
    assert len([who for who, _ in catalogue.asked if who == tenant]) == 1
    # What was missing is asked for again soon, so a SKU that is added then is accepted.
    catalogue.skus.add("missing.sku")
    await asyncio.sleep(0.25)
    assert (await stub.IngestEvents(batch(*missing))).accepted == 20


async def test_nothing_is_lost_while_the_catalogue_is_down(stub: Any, catalogue: Catalogue) -> None:
    await stub.IngestEvents(batch(event("before")))
    catalogue.skus.add("later.sku")
    mixed = batch(event("known"), event("strange", sku="later.sku"))
    catalogue.down = True
    try:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.IngestEvents(mixed)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert error_of(failed.value).reason == "DEPENDENCY_UNAVAILABLE"
        assert (await stub.IngestEvents(batch(event("only-known")))).accepted == 1
    finally:
        catalogue.down = False
    assert (await stub.IngestEvents(mixed)).accepted == 2


async def test_batches_of_no_or_too_many_events_are_refused(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.IngestEvents(batch())
    assert error_of(failed.value).reason == "INVALID_FIELD"
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.IngestEvents(batch(*[event("e")] * 10_001))
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_of(failed.value).reason == "BATCH_TOO_LARGE"
    full = await stub.IngestEvents(batch(*(event(f"e-{number}") for number in range(10_000))))
    assert full.accepted == 10_000


async def test_bytes_that_are_no_batch_get_a_typed_error(mesh: Mesh, tenant: str) -> None:
    call: Any = mesh.channel(tenant).unary_unary(
        "/payments.metering.v1.MeteringService/IngestEvents"
    )
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call(b"\xff\xff\xff")
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_of(failed.value).reason == "UNDECODABLE_REQUEST"


async def test_scopes_are_needed(mesh: Mesh, tenant: str) -> None:
    from payments.metering.v1.metering_service_pb2_grpc import MeteringServiceStub

    reader: Any = MeteringServiceStub(mesh.channel(tenant, {"metering:read"}))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await reader.IngestEvents(batch(event("e")))
    assert error_of(failed.value).reason == "SCOPE_MISSING"


@pytest.mark.parametrize("seed", range(3))
async def test_concurrent_batches_with_shared_ids_store_each_once(
    stub: Any, tenant: str, database: DatabaseUrls, seed: int
) -> None:
    """The same ids at once, in opposite and random orders, some with other content."""
    chance = random.Random(seed)
    events = [event(f"e-{number}") for number in range(400)]
    others = [event(f"e-{number}", quantity="99") for number in range(0, 400, 7)]
    orders = [events, events[::-1], others, *(chance.sample(events, 400) for _ in range(5))]
    answers = await asyncio.gather(*(stub.IngestEvents(batch(*order)) for order in orders))
    assert sum(answer.accepted for answer in answers) == 400
    for answer, order in zip(answers, orders, strict=True):
        assert sum(outcomes(answer).values()) == len(order)
    won_by_others = answers[2].accepted
    assert answers[2].conflict == len(others) - won_by_others
    total = rows(
        database,
        "SELECT count(*), sum(quantity) FROM metering.usage_event WHERE tenant_id = %s",
        tenant,
    )
    assert total == [(400, 99 * won_by_others + 12.5 * (400 - won_by_others))]


async def test_what_a_batch_added_is_reported_once(
    stub: Any, tenant: str, mesh: Mesh, database: DatabaseUrls
) -> None:
    events = [
        event("a", quantity="1.25"),
        event("b", quantity="2", at=NOW - timedelta(hours=1)),
        event("c", sku="llm.requests", quantity="1"),
    ]
    receipt = await stub.IngestEvents(batch(*events))
    await stub.IngestEvents(batch(*events))
    await mesh.drain_events()
    published = rows(
        database,
        "SELECT payload, key FROM mesh.event WHERE tenant_id = %s AND subject = 'usage.reported'",
        tenant,
    )
    assert len(published) == 1
    payload = metering_events_pb2.UsageReported.FromString(published[0][0])
    assert published[0][1] == payload.receipt_id == receipt.receipt_id
    assert payload.accepted == 3
    told = [(item.org_id, item.sku, item.quantity, item.event_count) for item in payload.totals]
    assert told == [("chat", "llm.requests", "1", 1), ("chat", "llm.tokens", "3.25", 2)]
    assert payload.first_event_at.ToDatetime() == (NOW - timedelta(hours=1)).replace(tzinfo=None)
    assert not payload.totals_omitted


async def test_rejected_usage_is_told_once_a_receipt(
    stub: Any, tenant: str, mesh: Mesh, database: DatabaseUrls
) -> None:
    bad = [event("x", sku="nobody.knows"), event("y", sku="nobody.knows"), event("z", quantity="a")]
    receipt = await stub.IngestEvents(batch(event("a"), *bad))
    await stub.IngestEvents(batch(event("b")))
    published = rows(
        database,
        "SELECT payload, key FROM mesh.event WHERE tenant_id = %s AND subject = 'usage.status.changed'",
        tenant,
    )
    assert len(published) == 1
    payload = metering_events_pb2.UsageStatusChanged.FromString(published[0][0])
    assert published[0][1] == payload.receipt_id == receipt.receipt_id
    assert (payload.status_from, payload.status_to) == ("received", "rejected")
    assert payload.event_count == receipt.rejected == 3
    assert [(item.reason, item.event_count) for item in payload.reasons] == [
        ("INVALID_FIELD", 1),
        ("UNKNOWN_SKU", 2),
    ]
    assert payload.HasField("changed_at")


async def test_totals_of_very_many_organisations_are_left_out(
    stub: Any, tenant: str, mesh: Mesh, database: DatabaseUrls
) -> None:
    await stub.IngestEvents(batch(*(event(f"e-{n}", org_id=f"org-{n}") for n in range(501))))
    published = rows(
        database,
        "SELECT payload FROM mesh.event WHERE tenant_id = %s AND subject = 'usage.reported'",
        tenant,
    )
    payload = metering_events_pb2.UsageReported.FromString(published[0][0])
    assert payload.totals_omitted
    assert not payload.totals
    assert payload.accepted == 501


async def test_a_stream_answers_each_batch_in_order_while_it_is_open(stub: Any) -> None:
    call = stub.StreamEvents()
    for number in range(3):
        sent = batch(*(event(f"{number}-{item}") for item in range(number + 1)))
        await call.write(metering_service_pb2.StreamEventsRequest(batch=sent))
        answer = await call.read()
        assert answer.result.accepted == number + 1
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_a_stream_of_many_batches_keeps_their_order(stub: Any) -> None:
    sizes = [random.Random(number).randint(1, 300) for number in range(40)]

    async def requests() -> AsyncIterator[metering_service_pb2.StreamEventsRequest]:
        for number, size in enumerate(sizes):
            sent = batch(*(event(f"{number}-{item}") for item in range(size)))
            yield metering_service_pb2.StreamEventsRequest(batch=sent)

    answers = [answer.result.accepted async for answer in stub.StreamEvents(requests())]
    assert answers == sizes


async def test_a_bad_batch_ends_its_stream_after_the_answers_before_it(stub: Any) -> None:
    async def requests() -> AsyncIterator[metering_service_pb2.StreamEventsRequest]:
        yield metering_service_pb2.StreamEventsRequest(batch=batch(event("a")))
        yield metering_service_pb2.StreamEventsRequest(batch=batch())
        yield metering_service_pb2.StreamEventsRequest(batch=batch(event("b")))

    answers = []
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        async for answer in stub.StreamEvents(requests()):
            answers.append(answer.result.accepted)
    assert answers == [1]
    assert error_of(failed.value).reason == "INVALID_FIELD"
    again = await stub.IngestEvents(batch(event("a"), event("b")))
    assert again.accepted + again.duplicate == 2


async def test_tenants_share_no_ids_and_see_no_usage_of_each_other(
    stub: Any, mesh: Mesh, tenant: str
) -> None:
    from payments.metering.v1.metering_service_pb2_grpc import MeteringServiceStub

    other: Any = MeteringServiceStub(mesh.channel(f"{tenant}-other"))
    assert (await stub.IngestEvents(batch(event("e")))).accepted == 1
    assert (await other.IngestEvents(batch(event("e", quantity="7")))).accepted == 1
    mine = await stub.QueryUsage(usage_query())
    theirs = await other.QueryUsage(usage_query())
    assert [row.value for row in mine.rows] == ["12.5"]
    assert [row.value for row in theirs.rows] == ["7"]


def test_the_services_role_sees_no_rows_of_another_tenant(database: DatabaseUrls) -> None:
    tables = ("usage_event", "receipt", "rejected_event", "ingest_settings")
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', 'nobody', true)")
        for table in tables:
            found = connection.execute(f"SELECT count(*) FROM metering.{table}".encode()).fetchone()
            assert found == (0,)
        connection.rollback()
        for table in tables:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT count(*) FROM metering.{table}".encode())
            connection.rollback()


async def test_broken_database_connections_cost_one_typed_error_at_most(
    stub: Any, tenant: str, database: DatabaseUrls
) -> None:
    await stub.IngestEvents(batch(event("before")))
    service_login = psycopg.conninfo.conninfo_to_dict(database.service)["user"]
    with psycopg.connect(database.owner_admin) as connection:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE usename = %s AND datname = current_database()",
            (service_login,),
        ).fetchone()
    assert ended is not None
    assert ended[0] > 0
    try:
        await stub.IngestEvents(batch(event("after")))
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error_of(error).reason == "DATABASE_UNAVAILABLE"
    again = await stub.IngestEvents(batch(event("before"), event("after"), event("new")))
    assert again.accepted + again.duplicate == 3
    assert (await stub.QueryUsage(usage_query())).rows[0].event_count == 3


async def test_calls_that_are_given_up_leave_nothing_behind(
    stub: Any, tenant: str, database: DatabaseUrls
) -> None:
    """A deadline may hit between any two statements: each batch is stored whole or not at all."""
    sent = [batch(*(event(f"{call}-{n}") for n in range(500))) for call in range(24)]
    calls = [
        stub.IngestEvents(request, timeout=0.004 * (number + 1))
        for number, request in enumerate(sent)
    ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert any(isinstance(answer, grpc.aio.AioRpcError) for answer in answers)
    for request in sent:
        again = await stub.IngestEvents(request)
        assert (again.accepted, again.duplicate) in {(500, 0), (0, 500)}
    ((count, receipts),) = rows(
        database,
        "SELECT count(*), (SELECT sum(accepted) FROM metering.receipt WHERE tenant_id = %s)"
        " FROM metering.usage_event WHERE tenant_id = %s",
        tenant,
        tenant,
    )
    assert count == receipts == 500 * len(sent)
    open_transactions = rows(
        database,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND state LIKE 'idle in transaction%%' AND xact_start < now() - interval '2 seconds'",
    )
    assert open_transactions == [(0,)]
