"""Every aggregation on a real server with a real Postgres, against a plain list of all that was ever sent."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from payments.metering.v1 import corrections_pb2, metering_pb2, metering_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.metering.store import usage as store
from tests.support.billing import raw_usage
from tests.support.billing.metering import NOW, batch, event, usage_query
from tests.support.billing.raw_usage import Asked, Raw
from tests.support.mesh.serving import Mesh
from tests.support.postgres.server import DatabaseUrls

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Clocks change in Berlin on 25 October, in New York on 1 November, on Lord Howe by half an hour on 4 October.
FIRST = datetime(2026, 10, 17, tzinfo=UTC)
EARLIER = datetime(2026, 10, 3, tzinfo=UTC)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]
SKUS, PROJECTS = ["gpu.seconds", "llm.tokens"], ["", "app"]
# So that many are equal, and some have all their places.
QUANTITIES = ["0", "1", "1", "2", "3", "7.5", "100", "0.333333333333333333", "99999999999.000001"]
PROPERTY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@dataclass(frozen=True, repr=False)
class History:
    """What was sent, amended and cancelled."""

    stub: Any
    versions: list[Raw]

    @property
    def last_ordinal(self) -> int:
        """That of the newest receipt."""
        return self.versions[-1].ordinal


def sent(raw: Raw) -> metering_pb2.UsageEvent:
    """Spell an event."""
    return event(
        raw.event_id,
        at=raw.at,
        quantity=raw_usage.spelt(raw.quantity),
        sku=raw.sku,
        project_id=raw.project_id,
        metadata=raw.metadata,
    )


def drawn(chance: random.Random, ordinal: int, event_id: str, first: datetime) -> Raw:
    """Draw an event; many share an instant."""
    minutes = chance.randrange(33 * 24 * 12) * 5
    at = first + timedelta(minutes=minutes, microseconds=chance.choice([0, 0, 1, 999_999]))
    metadata = {
        key: chance.choice(values)
        for key, values in (("region", ["eu", "us", ""]), ("tier", ["a", "b"]))
        if chance.random() < 0.7
    }
    quantity = Fraction(chance.choice(QUANTITIES))
    sku, project_id = chance.choice(SKUS), chance.choice(PROJECTS)
    return Raw(ordinal, event_id, min(at, NOW), quantity, sku, project_id, metadata)


@pytest.fixture(scope="module")
async def history(mesh: Mesh) -> History:
    """The history of a tenant of its own."""
    return await made_history(mesh, f"t-{uuid4().hex[:12]}")


async def made_history(mesh: Mesh, tenant: str) -> History:
    """Send six receipts: events, then some of them with another content, then fewer; and all over again."""
    stub = metering_service_pb2_grpc.MeteringServiceStub(mesh.channel(tenant))
    chance = random.Random(11)
    versions: list[Raw] = []
    for round_no in range(2):
        at = 3 * round_no
        fresh = [drawn(chance, at + 1, f"{round_no}-{n}", FIRST) for n in range(120)]
        # Several at one instant, of which one sets the level.
        fresh += [
            replace(fresh[n], event_id=f"{round_no}-same-{n}", quantity=Fraction(n))
            for n in range(9)
        ]
        versions += fresh
        await stub.IngestEvents(batch(*map(sent, fresh)))
        amended = [
            drawn(chance, at + 2, each.event_id, EARLIER if chance.random() < 0.4 else FIRST)
            for each in chance.sample(fresh, 25)
        ]
        versions += amended
        asked = corrections_pb2.AmendEventsRequest(request_id=str(uuid4()))
        for each in amended:
            asked.amendments.add(event=sent(each), reason="misread")
        assert (await stub.AmendEvents(asked)).rejected == 0
        gone = chance.sample(raw_usage.standing(versions, at + 2), 12)
        versions += [replace(each, ordinal=at + 3, cancelled=True) for each in gone]
        ids = [each.event_id for each in gone]
        await stub.CancelEvents(
            corrections_pb2.CancelEventsRequest(
                request_id=str(uuid4()), request_ids=ids, reason="a test run"
            )
        )
        seen = (await stub.QueryUsage(usage_query())).usage_ordinal
        assert seen == at + 3
    return History(stub, versions)


minutes = st.integers(0, 49 * 24 * 60).map(lambda count: EARLIER + timedelta(minutes=count))
LENGTHS = {"HOUR": 6 * 24 * 60, "DAY": 30 * 24 * 60}


@st.composite
def questions(draw: st.DrawFn) -> Asked:
    window = draw(st.sampled_from(["NONE", "HOUR", "DAY", "MONTH"]))
    start_at = draw(minutes)
    length = timedelta(minutes=draw(st.integers(1, LENGTHS.get(window, 70 * 24 * 60))))
    return Asked(
        start_at,
        start_at + length,
        draw(st.sampled_from(raw_usage.ALL)),
        window,
        ZoneInfo(draw(st.sampled_from(ZONES))),
        draw(st.lists(st.sampled_from(["region", "tier", "none"]), unique=True, max_size=3)),
        draw(st.sampled_from([{}, {}, {"region": "eu"}, {"region": "", "tier": "a"}])),
        draw(st.sampled_from(["", "", "app"])),
        draw(st.integers(0, 6)),
    )


def october(aggregation: str, window: str, zone: str) -> Asked:
    """Ask for a time in which clocks change, with what was before it."""
    start_at = datetime(2026, 10, 4, 12, 20, tzinfo=UTC)
    if zone != "Australia/Lord_Howe":
        start_at = datetime(2026, 10, 24, 21, 40, tzinfo=UTC)
    length = timedelta(days=2 if window == "HOUR" else 20)
    return Asked(
        start_at, start_at + length, aggregation, window, ZoneInfo(zone), ["tier"], ordinal=6
    )


@example(asked=october("WEIGHTED_SUM", "HOUR", "Europe/Berlin"))
@example(asked=october("WEIGHTED_SUM", "DAY", "America/New_York"))
@example(asked=october("WEIGHTED_SUM", "HOUR", "Australia/Lord_Howe"))
@example(asked=october("P95", "DAY", "Europe/Berlin"))
@example(asked=october("AVG", "MONTH", "Europe/Berlin"))
@example(asked=october("LATEST", "DAY", "America/New_York"))
@example(asked=october("UNIQUE", "HOUR", "Australia/Lord_Howe"))
@given(asked=questions())
@PROPERTY
async def test_every_aggregation_is_that_of_a_plain_list(history: History, asked: Asked) -> None:
    assert await answered(history, asked) == raw_usage.rows(history.versions, asked)


async def answered(history: History, asked: Asked) -> Mapping[raw_usage.Place, Any]:
    """Ask the mesh; checks the order of the rows, and what they say of events and windows."""
    request = usage_query(
        start_at=asked.start_at,
        length=asked.end_at - asked.start_at,
        aggregation=type_pb2.Aggregation.Value(f"AGGREGATION_{asked.aggregation}"),
        window=metering_pb2.Window.Value(f"WINDOW_{asked.window}"),
        time_zone=str(asked.zone),
        group_by=asked.group_by,
        metadata=asked.metadata,
        project_id=asked.project_id,
        at_ordinal=asked.ordinal,
    )
    found = {}
    places = []
    ends = dict(raw_usage.windows(asked))
    for row in (await history.stub.QueryUsage(request)).rows:
        start_at = row.window_start_at.ToDatetime(UTC)
        assert row.window_end_at.ToDatetime(UTC) == ends[start_at]
        assert (
            row.HasField("first_event_at") is row.HasField("last_event_at") is bool(row.event_count)
        )
        if row.event_count:
            first, last = row.first_event_at.ToDatetime(UTC), row.last_event_at.ToDatetime(UTC)
            assert start_at <= first <= last < ends[start_at]
        group = tuple(sorted(row.group.items()))
        found[row.sku, row.project_id, start_at, group] = Fraction(row.value), row.event_count
        places.append((row.sku, row.project_id, start_at))
    assert places == sorted(places)
    assert len(places) == len(found)
    return found


@given(asked=questions())
@settings(PROPERTY, max_examples=25)
async def test_windows_of_a_level_add_up_to_the_whole(history: History, asked: Asked) -> None:
    asked = replace(asked, aggregation="WEIGHTED_SUM")
    sums: dict[Any, Fraction] = {}
    counts: dict[Any, int] = {}
    for (sku, project_id, _, group), (value, _) in (await answered(history, asked)).items():
        series = sku, project_id, group
        sums[series] = sums.get(series, Fraction(0)) + value
        counts[series] = counts.get(series, 0) + 1
    whole = await answered(history, replace(asked, window="NONE"))
    assert {(sku, project_id, group) for sku, project_id, _, group in whole} == sums.keys()
    for (sku, project_id, _, group), (value, _) in whole.items():
        series = sku, project_id, group
        # Each window rounds once, and so does the whole.
        assert abs(sums[series] - value) <= Fraction(counts[series] + 1, 2 * 10**18)


async def test_a_level_holds_over_a_period_without_events_and_ends_with_zero(stub: Any) -> None:
    start_at = NOW.replace(hour=0, minute=0)
    await stub.IngestEvents(
        batch(
            event("set", at=start_at - 20 * DAY, quantity="4"),
            event("gone", at=start_at - 20 * DAY, quantity="4", project_id="old"),
            event("end", at=start_at - 9 * DAY, quantity="0", project_id="old"),
        )
    )
    level = type_pb2.AGGREGATION_WEIGHTED_SUM
    (row,) = (await stub.QueryUsage(usage_query(aggregation=level))).rows
    assert (row.project_id, row.value, row.event_count) == ("web", "96", 0)
    assert not row.HasField("first_event_at")
    hours = usage_query(aggregation=level, window=metering_pb2.WINDOW_HOUR)
    assert [each.value for each in (await stub.QueryUsage(hours)).rows] == ["4"] * 24
    # The rest of the day lies ahead of now.
    await stub.IngestEvents(batch(event("less", at=start_at + 6 * HOUR, quantity="1")))
    (row,) = (await stub.QueryUsage(usage_query(aggregation=level))).rows
    assert (row.value, row.event_count) == ("42", 1)
    months = usage_query(
        aggregation=level,
        start_at=start_at - 11 * DAY,
        length=4 * DAY,
        project_id="old",
        window=metering_pb2.WINDOW_DAY,
    )
    # On the third day there is nothing any more.
    assert [each.value for each in (await stub.QueryUsage(months)).rows] == ["96", "96", "0"]


async def test_levels_of_more_rows_than_an_answer_carries_are_refused(stub: Any) -> None:
    """A level alone fills windows: two series of 5,001 hours each are one row too many, 10,000 hours of one are not."""
    start_at = NOW - 30 * DAY
    await stub.IngestEvents(
        batch(event("a", at=start_at), event("b", at=start_at, project_id="app"))
    )
    asked = usage_query(
        start_at=start_at,
        length=5001 * HOUR,
        aggregation=type_pb2.AGGREGATION_WEIGHTED_SUM,
        window=metering_pb2.WINDOW_HOUR,
    )
    with pytest.raises(Exception, match="more than 10000 rows"):
        await stub.QueryUsage(asked)
    asked.project_id = "app"
    assert len((await stub.QueryUsage(asked)).rows) >= 5001


PARAMETERS: dict[str, Any] = {
    "tenant_id": "t",
    "org_id": "chat",
    "project_id": "",
    "metadata": None,
    "skus": ["llm.tokens"],
    "start_at": NOW - DAY,
    "end_at": NOW + DAY,
    "window_starts": [NOW - DAY, NOW],
    "window_ends": [NOW, NOW + DAY],
    "key_1": "region",
    "key_2": None,
    "key_3": None,
    "percent": 95,
    "rows_max": 100,
    "ordinal": 1,
}
STATEMENTS = ("summed", "extremes", "latest", "ranked", "levels")


def test_every_aggregation_uses_the_index_and_keeps_within_the_memory_of_a_sort(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    """As the services' role, with 30,000 distinct quantities and the least memory that a sort may have."""
    urls = new_database()
    with psycopg.connect(urls.owner_admin) as owner:
        owner.execute(
            "INSERT INTO metering.usage_event (tenant_id, event_key, request_id, org_id, project_id, sku, quantity,"
            " event_time, source, metadata, fingerprint, receipt_id)"
            " SELECT 't', gen_random_uuid(), n::text, CASE n %% 4 WHEN 0 THEN 'chat' ELSE 'code' END, '',"
            " 'llm.tokens', n, %s::timestamptz + n * interval '0.25 seconds', 2, NULL, gen_random_uuid(),"
            " gen_random_uuid() FROM generate_series(1, 120000) AS n",
            [NOW - DAY],
        )
        owner.execute("ANALYZE metering.usage_event")
    with psycopg.connect(urls.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', 't', true)")
        connection.execute("SET LOCAL work_mem = '64kB'")
        connection.execute("SET LOCAL enable_seqscan = off")
        for name in STATEMENTS:
            asked = store._SQL[f"{name}_of_placed_of_usage_now"]
            explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {asked}".encode()
            ((plans,),) = connection.execute(explain, PARAMETERS).fetchall()
            nodes = list(flattened(plans[0]["Plan"]))
            scans = [node for node in nodes if "Index Name" in node]
            assert len(scans) > 1, "one each partition"
            for scan in scans:
                assert scan["Index Name"].startswith("usage_event_")
                assert scan["Index Name"].endswith("_by_time")
                assert "event_time >= " in scan["Index Cond"]
            for node in nodes:
                # Kilobytes: what a hash, a sort or a window keeps beyond its limit goes to disk.
                assert node.get("Peak Memory Usage", 0) <= 1024
                assert node.get("Sort Space Type") != "Memory" or node["Sort Space Used"] <= 1024
                assert node.get("Storage") != "Memory" or node["Maximum Storage"] <= 1024


def flattened(node: dict[str, Any]) -> Any:
    """Yield a node of a plan, and all below it."""
    yield node
    for below in node.get("Plans", ()):
        yield from flattened(below)
