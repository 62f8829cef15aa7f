"""QueryUsage on a real server with a real Postgres."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import grpc
import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from payments.metering.v1 import metering_pb2, metering_service_pb2
from payments.type.v1 import type_pb2

from services.metering.app import ordinals
from services.metering.domain.ordinals import Position
from services.runtime.database import Database
from services.runtime.edge.status import RemoteError
from tests.support.billing.metering import NOW, batch, event, usage_query
from tests.support.postgres.server import DatabaseUrls

HOUR = timedelta(hours=1)


async def refusal(
    stub: Any,
    request: metering_service_pb2.QueryUsageRequest,
    code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT,
) -> Any:
    """Return the typed error that a query gets."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.QueryUsage(request)
    assert failed.value.code() is code
    return RemoteError.of(failed.value, "metering")


async def test_sums_agree_with_a_count_by_hand(stub: Any) -> None:
    chance = random.Random(7)
    expected: dict[tuple[str, str], list[Decimal]] = defaultdict(list)
    events = []
    for number in range(500):
        sku = chance.choice(["llm.tokens", "llm.requests", "gpu.seconds"])
        project = chance.choice(["", "app", "web"])
        quantity = Decimal(chance.randrange(10**6)).scaleb(-chance.randrange(7))
        at = NOW - timedelta(microseconds=chance.randrange(9 * 3600 * 10**6))
        expected[sku, project].append(quantity)
        events.append(
            event(f"e-{number}", sku=sku, project_id=project, at=at, quantity=f"{quantity:f}")
        )
    await stub.IngestEvents(batch(*events))
    answer = await stub.QueryUsage(usage_query())
    found = {(row.sku, row.project_id): row for row in answer.rows}
    assert list(found) == sorted(expected)
    for key, quantities in expected.items():
        assert Decimal(found[key].value) == sum(quantities)
        assert found[key].event_count == len(quantities)
    counted = await stub.QueryUsage(usage_query(aggregation=type_pb2.AGGREGATION_COUNT))
    assert [row.value for row in counted.rows] == [str(len(expected[key])) for key in found]


async def test_a_period_is_half_open_to_the_microsecond(stub: Any) -> None:
    tick = timedelta(microseconds=1)
    times = [NOW - tick, NOW, NOW + HOUR - tick, NOW + HOUR]
    await stub.UpdateIngestSettings(
        metering_service_pb2.UpdateIngestSettingsRequest(
            request_id="0190c1de-0000-7000-8000-000000000001", accept_future=Duration(seconds=7200)
        )
    )
    await stub.IngestEvents(
        batch(*(event(f"e-{n}", at=at, quantity=str(10**n)) for n, at in enumerate(times)))
    )
    (row,) = (await stub.QueryUsage(usage_query(start_at=NOW, length=HOUR))).rows
    assert row.value == "110"
    assert row.first_event_at.ToDatetime(tzinfo=UTC) == NOW
    assert row.last_event_at.ToDatetime(tzinfo=UTC) == NOW + HOUR - tick
    assert row.window_start_at.ToDatetime(tzinfo=UTC) == NOW
    assert row.window_end_at.ToDatetime(tzinfo=UTC) == NOW + HOUR


async def test_filters_name_project_and_skus(stub: Any) -> None:
    await stub.IngestEvents(
        batch(
            event("a", quantity="1"),
            event("b", quantity="2", project_id="app"),
            event("c", quantity="4", sku="llm.requests"),
            event("d", quantity="8", org_id="code"),
        )
    )

    async def values(**query: Any) -> list[str]:
        return [row.value for row in (await stub.QueryUsage(usage_query(**query))).rows]

    assert await values() == ["4", "2", "1"]
    assert await values(project_id="app") == ["2"]
    assert await values(skus=["llm.tokens"]) == ["2", "1"]
    assert await values(skus=["llm.requests", "gpu.seconds"], project_id="web") == ["4"]
    assert await values(org_id="code") == ["8"]
    assert await values(org_id="nobody") == []


async def test_a_sku_that_there_is_not_is_refused(stub: Any) -> None:
    await stub.IngestEvents(batch(event("a")))
    for unknown in ("llm.token", "LLM.tokens", "x"):
        refused = await refusal(stub, usage_query(skus=["llm.tokens", unknown]))
        assert (refused.reason, refused.metadata["sku"]) == ("UNKNOWN_SKU", unknown)


async def test_days_follow_the_zones_clocks(stub: Any) -> None:
    """Berlin's 25 October 2026 has 25 hours; the hour that comes twice is two windows."""
    where = ZoneInfo("Europe/Berlin")
    start_at = datetime(2026, 10, 25, tzinfo=where).astimezone(UTC)
    events = [event(f"e-{n}", at=start_at + n * HOUR, quantity="1") for n in range(26)]
    await stub.IngestEvents(batch(*events))
    query = usage_query(
        start_at=start_at,
        length=timedelta(days=2),
        window=metering_pb2.WINDOW_DAY,
        time_zone="Europe/Berlin",
    )
    days = (await stub.QueryUsage(query)).rows
    assert [row.value for row in days] == ["25", "1"]
    assert days[0].window_end_at.ToDatetime(tzinfo=UTC) - start_at == timedelta(hours=25)
    query.window = metering_pb2.WINDOW_HOUR
    hours = (await stub.QueryUsage(query)).rows
    assert [row.value for row in hours] == ["1"] * 26
    query.window, query.time_zone = metering_pb2.WINDOW_DAY, ""
    assert [row.value for row in (await stub.QueryUsage(query)).rows] == ["2", "24"]


async def test_windows_without_events_have_no_row(stub: Any) -> None:
    await stub.IngestEvents(batch(event("a", at=NOW - 5 * HOUR), event("b")))
    answer = await stub.QueryUsage(usage_query(window=metering_pb2.WINDOW_HOUR))
    starts = [row.window_start_at.ToDatetime(tzinfo=UTC).hour for row in answer.rows]
    assert starts == [4, 9]


async def test_metadata_keys_get_rows_of_their_own(stub: Any) -> None:
    await stub.IngestEvents(
        batch(
            event("a", quantity="1", metadata={"model": "big", "region": "eu"}),
            event("b", quantity="2", metadata={"model": "big", "region": "us"}),
            event("c", quantity="4", metadata={"region": "eu"}),
            event("d", quantity="8"),
        )
    )
    answer = await stub.QueryUsage(usage_query(group_by=["model", "region"]))
    found = {tuple(sorted(row.group.items())): row.value for row in answer.rows}
    assert found == {
        (("model", "big"), ("region", "eu")): "1",
        (("model", "big"), ("region", "us")): "2",
        (("region", "eu"),): "4",
        (): "8",
    }
    by_model = await stub.QueryUsage(usage_query(group_by=["model"]))
    assert sorted(row.value for row in by_model.rows) == ["12", "3"]


async def test_usage_at_an_ordinal_stays_what_it_was(stub: Any) -> None:
    seen = [await stub.QueryUsage(usage_query())]
    for number in range(3):
        await stub.IngestEvents(batch(event(f"e{number}", quantity=str(number + 1))))
        seen.append(await stub.QueryUsage(usage_query()))
    assert [answer.usage_ordinal for answer in seen] == [0, 1, 2, 3]
    assert [[row.value for row in answer.rows] for answer in seen] == [[], ["1"], ["3"], ["6"]]
    for answer in seen:
        again = await stub.QueryUsage(usage_query(at_ordinal=answer.usage_ordinal))
        assert (again.rows, again.usage_ordinal) == (answer.rows, answer.usage_ordinal)
    error = await refusal(stub, usage_query(at_ordinal=4), grpc.StatusCode.OUT_OF_RANGE)
    assert error.reason == "USAGE_ORDINAL_AHEAD"
    assert error.metadata == {"at_ordinal": "4", "last_ordinal": "3"}


async def test_what_is_committed_while_usage_is_read_belongs_to_the_next_ordinal(
    stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Committed behind the ordinal and before the snapshot: the snapshot has it, the answer has not."""
    await stub.IngestEvents(batch(event("before", quantity="1")))
    sequence = ordinals.sequence

    async def overtaken(database: Database) -> int:
        ordinal = await sequence(database)
        await stub.IngestEvents(batch(event("meanwhile", quantity="2")))
        return ordinal

    with monkeypatch.context() as patch:
        # Whether or not the loop was there first.
        patch.setattr(Position, "is_behind", lambda *_: True)
        patch.setattr(ordinals, "sequence", overtaken)
        answer = await stub.QueryUsage(usage_query())
    assert [row.value for row in answer.rows] == ["1"]
    later = await stub.QueryUsage(usage_query())
    assert [row.value for row in later.rows] == ["3"]
    assert later.usage_ordinal == answer.usage_ordinal + 1


async def test_ordinals_are_given_once_and_without_a_gap(
    stub: Any, tenant: str, database: DatabaseUrls
) -> None:
    """Batches and readings at once: a later reading has a greater ordinal, and never less usage."""

    async def send(worker: int) -> None:
        for number in range(6):
            await stub.IngestEvents(batch(event(f"{worker}-{number}", quantity="1")))

    async def ask() -> list[tuple[int, int]]:
        found = []
        for _ in range(6):
            answer = await stub.QueryUsage(usage_query())
            found.append((answer.usage_ordinal, sum(int(row.value) for row in answer.rows)))
        return found

    sending = asyncio.gather(*map(send, range(4)))
    one, two = await asyncio.gather(ask(), ask())
    await sending
    assert one == sorted(one)
    assert two == sorted(two)
    # A batch is one event here, so the ordinal counts them.
    assert all(ordinal == events for ordinal, events in one + two)
    assert (await stub.QueryUsage(usage_query())).usage_ordinal == 24
    with psycopg.connect(database.owner_admin) as connection:
        given = connection.execute(
            "SELECT ordinal FROM metering.receipt WHERE tenant_id = %s ORDER BY ordinal", [tenant]
        ).fetchall()
    assert given == [(ordinal,) for ordinal in range(1, 25)]


async def test_what_cannot_be_answered_is_refused_with_its_reason(stub: Any) -> None:
    error = await refusal(stub, usage_query(time_zone="Europe/Berlino"))
    assert (error.reason, error.metadata) == (
        "UNKNOWN_TIME_ZONE",
        {"time_zone": "Europe/Berlino"},
    )
    error = await refusal(stub, usage_query(time_zone="../../etc/passwd"))
    assert error.reason == "UNKNOWN_TIME_ZONE"
    assert (await refusal(stub, usage_query(aggregation=77))).reason == "INVALID_FIELD"
    pairs = {f"k{number}": "v" for number in range(17)}
    assert (await refusal(stub, usage_query(metadata=pairs))).reason == "INVALID_FIELD"
    assert (await refusal(stub, usage_query(metadata={"a b": "v"}))).reason == "INVALID_FIELD"
    wide = usage_query(length=timedelta(days=500), window=metering_pb2.WINDOW_HOUR)
    assert (await refusal(stub, wide)).reason == "USAGE_TOO_WIDE"
    assert (await refusal(stub, usage_query(window=77))).reason == "INVALID_FIELD"
    assert (await refusal(stub, usage_query(org_id=""))).reason == "INVALID_FIELD"
    assert (await refusal(stub, usage_query(group_by=["a", "b", "c", "d"]))).fields
    backwards = usage_query()
    backwards.period.end_at.seconds = backwards.period.start_at.seconds
    assert (await refusal(stub, backwards)).reason == "INVALID_FIELD"
    beyond = usage_query()
    beyond.period.end_at.seconds = 10**15
    assert (await refusal(stub, beyond)).reason == "INVALID_FIELD"


async def test_more_rows_than_one_answer_carries_are_refused(stub: Any) -> None:
    for part in range(2):
        await stub.IngestEvents(
            batch(*(event(f"{part}-{n}", project_id=f"p{part}-{n}") for n in range(5001)))
        )
    assert (await refusal(stub, usage_query())).reason == "USAGE_TOO_WIDE"
    assert len((await stub.QueryUsage(usage_query(project_id="p0-17"))).rows) == 1


def test_billing_queries_use_the_index_under_row_level_security(
    untouched_database: DatabaseUrls,
) -> None:
    """As the services' role: operators that are not leakproof would read the whole table."""
    from services.metering.store import usage

    parameters = {
        "tenant_id": "t",
        "org_id": "chat",
        "project_id": "",
        "metadata": None,
        "skus": ["llm.tokens"],
        "start_at": NOW,
        "end_at": NOW + HOUR,
        "window_starts": [NOW],
        "key_1": None,
        "key_2": None,
        "key_3": None,
        "rows_max": 100,
        "ordinal": 1,
    }
    with psycopg.connect(untouched_database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', 't', true)")
        connection.execute("SET LOCAL enable_seqscan = off")
        for name, asked in (
            ("now", usage._SQL["summed_of_placed_of_usage_now"]),
            ("at", usage._SQL["summed_of_placed_of_usage_at"]),
            ("skus", usage._SQL["skus_of_org"]),
        ):
            plan = connection.execute(f"EXPLAIN {asked}".encode(), parameters).fetchall()
            text = "\n".join(line for (line,) in plan)
            assert "Seq Scan" not in text
            if name == "at":
                # Empty tables have it begin anywhere.
                continue
            assert "usage_event_history_by_time" in text
            if name == "now":
                assert "(event_time >= " in text.partition("Index Cond:")[2].splitlines()[0]
