"""Rollups: wherever they stand, an answer is the one that the events give, at every ordinal; what is wrong is found."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any

import grpc
import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from payments.metering.v1 import metering_pb2, metering_service_pb2, rollups_pb2
from payments.type.v1 import type_pb2

from services.metering.app import rollups
from services.metering.app.rollups import clear, keep_up, renew, roll_up
from services.metering.domain.rollups import STRETCHES_MAX, Standing
from services.metering.store import rollups as store
from services.metering.work.ordinals import Sequencing
from services.metering.work.rollups import RollingUp
from services.runtime.context import CallContext, acting
from services.runtime.edge.status import RemoteError
from tests.integration.metering.test_aggregations import (
    PROPERTY,
    History,
    answered,
    made_history,
    october,
    questions,
)
from tests.integration.metering.test_corrections import amendments, cancellation
from tests.support.billing import raw_usage
from tests.support.billing.metering import NOW, batch, event, usage_query
from tests.support.billing.raw_usage import Asked
from tests.support.mesh.serving import Mesh
from tests.support.postgres.server import DatabaseUrls

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ROLLED_UP = metering_pb2.FRESHNESS_ROLLED_UP
ROLLED = ("SUM", "COUNT", "AVG", "MAX", "MIN", "LATEST")
SUM, LATEST = type_pb2.AGGREGATION_SUM, type_pb2.AGGREGATION_LATEST


class Death(BaseException):
    """What ends a round midway."""


@pytest.fixture(scope="module", autouse=True)
def by_hand() -> Iterator[None]:
    """Leave rolling up to the tests: the mesh finds no tenant to do it for."""

    async def none(*_: object) -> list[str]:
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "unrolled_tenants", none)
        yield


@pytest.fixture
def owner(database: DatabaseUrls) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.owner_admin, autocommit=True) as connection:
        yield connection


def acting_for(tenant: str) -> Any:
    return acting(CallContext(tenant, "test", frozenset(), "run", "run"))


async def stepped(mesh: Mesh, tenant: str, step: Callable[[Any], Any]) -> bool:
    """Run one transaction of it."""
    with acting_for(tenant):
        async with mesh.node.database.unit_of_work("test") as work:
            return bool(await step(work))


async def rolled(
    mesh: Mesh, tenant: str, receipts: int | None = None, *, renewed: bool = True
) -> None:
    """Roll up what was committed, or so many receipts more."""
    await Sequencing(mesh.node.database).sequence(tenant)
    if receipts is None:
        while await RollingUp(mesh.node.database).roll_up(tenant):
            pass
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollups, "RECEIPTS_A_ROUND_MAX", 1)
        for _ in range(receipts):
            await stepped(mesh, tenant, roll_up)
    if renewed:
        while await stepped(mesh, tenant, renew):
            pass


async def kept_apart(stub: Any, *keys: str) -> None:
    """Roll up by keys; by none without."""
    request = metering_service_pb2.UpdateIngestSettingsRequest(
        request_id=str(uuid.uuid4()), rollup_keys=keys, rollup_keys_none=not keys
    )
    changed = (await stub.UpdateIngestSettings(request)).ingest_settings
    assert list(changed.rollup_keys) == sorted(keys)


@dataclass(frozen=True, repr=False)
class Rolled:
    """A history, and what is rolled up of it."""

    history: History
    rolled_ordinal: int
    keys: frozenset[str]


STANDINGS = [(2, False), (3, False), (4, True), (6, False), (6, True)]


@pytest.fixture(scope="module")
async def standings(mesh: Mesh) -> list[Rolled]:
    """The same history, rolled up to several ordinals, with hours that wait to be rolled up anew and without."""
    made = []
    for receipts, renewed in STANDINGS:
        tenant = f"t-{uuid.uuid4().hex[:12]}"
        history = await made_history(mesh, tenant)
        keys = ("tier", "region") if renewed else ("region",)
        if receipts == 3:
            # Once by no key: those rows must count no more.
            await rolled(mesh, tenant)
        await kept_apart(history.stub, *keys)
        # The first round takes the keys over.
        assert await stepped(mesh, tenant, roll_up)
        await rolled(mesh, tenant, receipts, renewed=renewed)
        made.append(Rolled(history, receipts, frozenset(keys)))
    return made


@example(asked=october("SUM", "HOUR", "Australia/Lord_Howe"), at=3)
@example(asked=october("LATEST", "DAY", "Europe/Berlin"), at=0)
@example(asked=october("MIN", "MONTH", "America/New_York"), at=4)
@example(asked=october("MAX", "NONE", "Asia/Kathmandu"), at=1)
@given(asked=questions(), at=st.integers(0, len(STANDINGS) - 1))
@settings(PROPERTY, max_examples=120)
async def test_an_answer_is_that_of_a_plain_list_wherever_rollups_stand(
    standings: list[Rolled], asked: Asked, at: int
) -> None:
    made = standings[at]
    assert await answered(made.history, asked) == raw_usage.rows(made.history.versions, asked)
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
    found = await made.history.stub.QueryUsage(request)
    # Nothing of the history is too much for them.
    is_served = asked.aggregation in ROLLED and {*asked.group_by, *asked.metadata} <= made.keys
    assert found.rollup_ordinal == (made.rolled_ordinal if is_served else 0)
    # By the events alone: rows, their order and their times are the same.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Standing, "serves", lambda *_: False)
        assert (await made.history.stub.QueryUsage(request)).rows == found.rows


async def test_an_answer_says_how_fresh_it_is_and_exactness_is_the_rule(
    stub: Any, mesh: Mesh, tenant: str
) -> None:
    empty = await stub.QueryUsage(usage_query(freshness=ROLLED_UP))
    assert (empty.usage_ordinal, empty.rollup_ordinal) == (0, 0)
    assert not empty.HasField("usage_recorded_at")
    await stub.IngestEvents(batch(event("a", quantity="1")))
    await rolled(mesh, tenant)
    await stub.IngestEvents(batch(event("b", quantity="2")))
    fast = await stub.QueryUsage(usage_query(freshness=ROLLED_UP))
    assert [row.value for row in fast.rows] == ["1"]
    assert (fast.usage_ordinal, fast.rollup_ordinal) == (1, 1)
    assert fast.usage_recorded_at.ToDatetime(tzinfo=UTC) == NOW
    for freshness in (metering_pb2.FRESHNESS_UNSPECIFIED, metering_pb2.FRESHNESS_EXACT):
        exact = await stub.QueryUsage(usage_query(freshness=freshness))
        assert [row.value for row in exact.rows] == ["3"]
        assert (exact.usage_ordinal, exact.rollup_ordinal) == (2, 1)
    again = await stub.QueryUsage(usage_query(at_ordinal=fast.usage_ordinal))
    assert again.rows == fast.rows
    # What rollups do not keep apart is read from the events, and lacks nothing.
    by_key = await stub.QueryUsage(usage_query(freshness=ROLLED_UP, group_by=["model"]))
    assert (by_key.usage_ordinal, by_key.rollup_ordinal) == (2, 0)
    unique = type_pb2.AGGREGATION_UNIQUE
    values = await stub.QueryUsage(usage_query(freshness=ROLLED_UP, aggregation=unique))
    assert ([row.value for row in values.rows], values.rollup_ordinal) == (["2"], 0)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.QueryUsage(usage_query(freshness=ROLLED_UP, at_ordinal=1))
    refused = RemoteError.of(failed.value, "metering")
    assert [each.field for each in refused.fields] == ["freshness"]


async def test_rollups_that_are_long_behind_are_left_out(
    stub: Any, mesh: Mesh, tenant: str, owner: psycopg.Connection
) -> None:
    await stub.IngestEvents(batch(event("a", quantity="1")))
    await rolled(mesh, tenant)
    await stub.IngestEvents(batch(event("b", quantity="2")))
    fast = usage_query(freshness=ROLLED_UP)
    for seconds, values in ((60, ["1"]), (61, ["3"])):
        owner.execute(
            "UPDATE metering.receipt SET recorded_at = %s WHERE tenant_id = %s AND ordinal IS DISTINCT FROM 1",
            [NOW - timedelta(seconds=seconds), tenant],
        )
        assert [row.value for row in (await stub.QueryUsage(fast)).rows] == values
    with pytest.MonkeyPatch.context() as patch:
        # An exact answer reads what is behind, but not any amount of it.
        patch.setattr(store, "DELTA_EVENTS_MAX", 0)
        found = await stub.QueryUsage(usage_query())
    assert ([row.value for row in found.rows], found.rollup_ordinal) == (["3"], 0)


async def test_what_a_correction_took_away_is_still_there_before_it(
    stub: Any, mesh: Mesh, tenant: str
) -> None:
    await stub.IngestEvents(batch(event("gone", at=NOW - 3 * HOUR), event("stays")))
    await rolled(mesh, tenant)
    await stub.CancelEvents(cancellation("gone"))
    await stub.AmendEvents(amendments(event("stays", at=NOW - 5 * HOUR, quantity="7")))
    hours = usage_query(window=metering_pb2.WINDOW_HOUR)
    now = [("7", 4)]
    before = [("12.5", 6), ("12.5", 9)]

    async def rows(request: Any) -> list[tuple[str, int]]:
        answer = await stub.QueryUsage(request)
        assert answer.rollup_ordinal
        return [(row.value, row.window_start_at.ToDatetime().hour) for row in answer.rows]

    at_first = usage_query(window=metering_pb2.WINDOW_HOUR, at_ordinal=1)
    for receipts in (0, 2):
        await rolled(mesh, tenant, receipts, renewed=False)
        assert (await rows(hours), await rows(at_first)) == (now, before)
    await rolled(mesh, tenant)
    assert (await rows(hours), await rows(at_first)) == (now, before)
    # Into an hour that was left empty.
    await stub.IngestEvents(batch(event("new", at=NOW - 3 * HOUR, quantity="1")))
    for receipts in (0, 1):
        await rolled(mesh, tenant, receipts)
        assert await rows(hours) == [("7", 4), ("1", 6)]
    assert await audited(stub) == []


async def test_too_many_changed_hours_are_left_to_the_events(
    stub: Any, mesh: Mesh, tenant: str
) -> None:
    start_at = NOW - (STRETCHES_MAX + 2) * 2 * HOUR
    sent = [
        event(f"e{number}", at=start_at + 2 * number * HOUR, quantity="1")
        for number in range(STRETCHES_MAX + 1)
    ]
    await stub.UpdateIngestSettings(_window(100))
    await stub.IngestEvents(batch(event("first", at=start_at - HOUR)))
    await stub.IngestEvents(batch(*sent))
    await rolled(mesh, tenant)
    whole = usage_query(start_at=start_at, length=NOW - start_at)
    now = await stub.QueryUsage(whole)
    assert ([row.value for row in now.rows], now.rollup_ordinal) == ([f"{STRETCHES_MAX + 1}"], 2)
    whole.at_ordinal = 1
    before = await stub.QueryUsage(whole)
    assert ([*before.rows], before.rollup_ordinal) == ([], 0)


def _window(days: int) -> metering_service_pb2.UpdateIngestSettingsRequest:
    request = metering_service_pb2.UpdateIngestSettingsRequest(request_id=str(uuid.uuid4()))
    request.accept_past.FromTimedelta(days * DAY)
    return request


async def test_other_keys_are_rolled_up_by_anew_and_the_rows_of_before_go(
    stub: Any, mesh: Mesh, tenant: str, owner: psycopg.Connection
) -> None:
    await stub.IngestEvents(
        batch(
            event("a", quantity="1", metadata={"model": "big", "region": "eu"}),
            event("b", quantity="2", metadata={"model": "small"}),
            event("c", quantity="4"),
        )
    )
    await rolled(mesh, tenant)
    by_model = usage_query(group_by=["model"])
    wanted = [({"model": "big"}, "1"), ({"model": "small"}, "2"), ({}, "4")]

    async def answer() -> tuple[list[tuple[dict[str, str], str]], int]:
        found = await stub.QueryUsage(by_model)
        return [(dict(row.group), row.value) for row in found.rows], found.rollup_ordinal

    assert await answer() == (wanted, 0)
    await kept_apart(stub, "region", "model")
    assert await answer() == (wanted, 0)
    # The first round begins anew: meanwhile there is nothing to read.
    assert await stepped(mesh, tenant, roll_up)
    assert await answer() == (wanted, 0)
    fast = await stub.QueryUsage(usage_query(freshness=ROLLED_UP))
    assert (len(fast.rows), fast.usage_ordinal) == (1, 1)
    await rolled(mesh, tenant)
    assert await answer() == (wanted, 1)
    only = await stub.QueryUsage(usage_query(metadata={"region": "eu"}))
    assert ([row.value for row in only.rows], only.rollup_ordinal) == (["1"], 1)
    generations = "SELECT DISTINCT generation FROM metering.usage_rollup WHERE tenant_id = %s"
    assert owner.execute(generations, [tenant]).fetchall() == [(2,)]
    await kept_apart(stub)
    await kept_apart(stub, "model")
    await rolled(mesh, tenant)
    assert await answer() == (wanted, 1)
    assert await stepped(mesh, tenant, clear) is False
    assert owner.execute(generations, [tenant]).fetchall() == [(3,)]


async def test_keys_and_none_are_not_given_together(stub: Any) -> None:
    request = metering_service_pb2.UpdateIngestSettingsRequest(
        request_id=str(uuid.uuid4()), rollup_keys=["a"], rollup_keys_none=True
    )
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.UpdateIngestSettings(request)
    error = RemoteError.of(failed.value, "metering")
    assert [violation.field for violation in error.fields] == ["rollup_keys_none"]


async def test_each_receipt_is_rolled_up_once_by_many_at_once_and_by_one_that_dies(
    stub: Any, mesh: Mesh, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await stub.IngestEvents(batch(event(f"e{number}", quantity="1")))
    await Sequencing(mesh.node.database).sequence(tenant)
    advance = store.advance

    async def dies(*arguments: Any) -> None:
        await advance(*arguments)
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(store, "advance", dies)
        with pytest.raises(Death):
            await stepped(mesh, tenant, roll_up)
    assert (await stub.QueryUsage(usage_query())).rollup_ordinal == 0
    monkeypatch.setattr(rollups, "RECEIPTS_A_ROUND_MAX", 1)
    await asyncio.gather(*(stepped(mesh, tenant, roll_up) for _ in range(8)))
    answer = await stub.QueryUsage(usage_query())
    assert ([row.value for row in answer.rows], answer.rollup_ordinal) == (["5"], 5)
    assert await audited(stub) == []


async def test_corrections_have_their_share_however_much_comes_in(
    stub: Any, mesh: Mesh, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stub.IngestEvents(batch(event("a", quantity="1"), event("b", quantity="2")))
    await stub.CancelEvents(cancellation("a"))
    for number in range(3):
        await stub.IngestEvents(batch(event(f"e{number}", quantity="4")))
    await Sequencing(mesh.node.database).sequence(tenant)
    monkeypatch.setattr(rollups, "RECEIPTS_A_ROUND_MAX", 1)
    # The hour of the correction is rolled up anew with it, although there is more to come.
    for receipts in (1, 2, 3):
        assert await stepped(mesh, tenant, keep_up)
        with acting_for(tenant):
            async with mesh.node.database.read() as work:
                at = await store.standing(work)
                assert at is not None
                left = await store.stale_hours(work, at, 9, 9)
        assert (at.rolled_ordinal, left) == (receipts, [])
    assert await audited(stub) == []


async def test_hours_of_very_many_events_are_left_to_them(
    stub: Any, mesh: Mesh, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [event(f"e{number}", quantity="1") for number in range(3)]
    await stub.IngestEvents(batch(*many, event("x", sku="llm.requests")))
    await stub.CancelEvents(cancellation("e0"))
    await stub.CancelEvents(cancellation("x"))
    monkeypatch.setattr(rollups, "EVENTS_OF_HOUR_MAX", 2)
    await rolled(mesh, tenant)
    answer = await stub.QueryUsage(usage_query())
    assert ([(row.sku, row.value) for row in answer.rows], answer.rollup_ordinal) == (
        [("llm.tokens", "2")],
        3,
    )
    with acting_for(tenant):
        async with mesh.node.database.read() as work:
            at = await store.standing(work)
            assert at is not None
            (left,) = await store.stale_hours(work, at, 9, 9)
    assert (left.sku, left.event_count) == ("llm.tokens", 3)
    assert await audited(stub) == []


async def test_tenants_with_something_left_to_do_are_found(
    stub: Any, mesh: Mesh, tenant: str, owner: psycopg.Connection
) -> None:
    def found() -> bool:
        rows = owner.execute(
            "SELECT tenant_id FROM metering.unrolled('', 1000000) WHERE tenant_id = %s", [tenant]
        )
        return bool(rows.fetchall())

    assert not found()
    await stub.IngestEvents(batch(event("a")))
    await Sequencing(mesh.node.database).sequence(tenant)
    assert found()
    await rolled(mesh, tenant)
    assert not found()
    await stub.CancelEvents(cancellation("a"))
    await rolled(mesh, tenant, 1, renewed=False)
    assert found()
    await rolled(mesh, tenant)
    assert not found()
    await kept_apart(stub, "model")
    assert found()
    await rolled(mesh, tenant)
    assert not found()


async def audited(stub: Any, page_size: int = 3) -> list[rollups_pb2.RollupFinding]:
    request = rollups_pb2.VerifyRollupsRequest(page_size=page_size)
    found: list[rollups_pb2.RollupFinding] = []
    while True:
        answer = await stub.VerifyRollups(request)
        assert answer.hours <= page_size
        found += answer.findings
        request.page_token = answer.next_page_token
        if not request.page_token:
            return found


async def test_sound_rollups_have_no_finding(standings: list[Rolled]) -> None:
    for made in standings:
        assert await audited(made.history.stub, 200) == []


async def test_buckets_that_are_not_what_their_events_come_to_are_found(
    stub: Any, mesh: Mesh, tenant: str, owner: psycopg.Connection
) -> None:
    assert await audited(stub) == []
    await stub.IngestEvents(
        batch(
            *(event(f"e{number}", at=NOW - number * HOUR, quantity="2") for number in range(4)),
            event("other", org_id="code", sku="llm.requests"),
            event("third", org_id="code", sku="llm.tokens", quantity="3"),
        )
    )
    await rolled(mesh, tenant)
    assert await audited(stub) == []
    bucket = "tenant_id = %(tenant)s AND org_id = 'chat' AND minutes = 60 AND bucket_at = %(at)s"
    at = NOW.replace(minute=0, second=0, microsecond=0)

    def change(statement: str, hours: int) -> None:
        changed = owner.execute(statement.encode(), {"tenant": tenant, "at": at - hours * HOUR})
        assert changed.rowcount == 1

    change(f"UPDATE metering.usage_rollup SET quantity = 5 WHERE {bucket}", 0)
    change(f"DELETE FROM metering.usage_rollup WHERE {bucket}", 2)
    change(f"UPDATE metering.usage_rollup SET project_id = 'x' WHERE {bucket}", 3)
    owner.execute(
        "DELETE FROM metering.usage_rollup WHERE tenant_id = %s AND sku = 'llm.requests'", [tenant]
    )
    findings = await audited(stub)
    told = [
        (each.org_id, each.sku, each.bucket_at.ToDatetime(tzinfo=UTC), each.minutes)
        for each in findings
    ]
    quarter = NOW.replace(minute=NOW.minute // 15 * 15, second=0, microsecond=0)
    assert told == [
        ("chat", "llm.tokens", at - 3 * HOUR, 60),
        ("chat", "llm.tokens", at - 2 * HOUR, 60),
        ("chat", "llm.tokens", at, 60),
        *sorted(
            [("code", "llm.requests", at, 60), ("code", "llm.requests", quarter, 15)],
            key=lambda each: (each[2], each[3]),
        ),
    ]
    assert findings[1].found == "nothing"
    assert findings[2].expected.startswith("1 events, quantity 2, ")
    assert findings[2].found.startswith("1 events, quantity 5, ")
    assert all(each.project_id == "web" for each in findings)


PARAMETERS: dict[str, Any] = {
    "tenant_id": "t",
    "generation": 1,
    "org_id": "chat",
    "skus": ["llm.tokens"],
    "project_id": "",
    "metadata": None,
    "ordinal": 5,
    "rolled_ordinal": 9,
    "keyed": False,
    "minutes": 60,
    "start_at": NOW - 30 * DAY,
    "from_at": NOW - 30 * DAY,
    "end_at": NOW,
    "until_at": NOW,
    "cut": [NOW],
    "quarters": [NOW],
    "firsts": [NOW - DAY],
    "untils": [NOW - DAY + HOUR],
    "stretch_edges": [NOW - DAY, NOW - DAY + HOUR],
    "receipt_ids": [uuid.UUID(int=7)],
    "corrected": [uuid.UUID(int=7)],
    "window_starts": [NOW - 30 * DAY],
    "with_latest": True,
    "rows_max": 100,
    "limit": 100,
    **{
        f"{name}_{number}": None for name in ("position", "wanted", "key") for number in range(1, 5)
    },
}
READINGS = (
    (store._USAGE, "rolled"),
    (store._USAGE, "parts_of_placed_of_stretches_now"),
    (store._USAGE, "parts_of_placed_of_stretches_at"),
    (store._USAGE, "parts_of_placed_of_delta"),
    (store._SQL, "broken_hours"),
)


def test_readings_use_indexes(new_database: Callable[..., DatabaseUrls]) -> None:
    """As the services' role, under whose policies only some operators may."""
    urls = new_database()
    with psycopg.connect(urls.owner_admin) as owner:
        owner.execute(
            "INSERT INTO metering.usage_rollup (tenant_id, generation, org_id, sku, keyed, minutes, bucket_at, series,"
            " project_id, group_values, event_count, quantity, smallest, largest, latest, first_event_at,"
            " last_event_at, last_ordinal) SELECT 't', 1, CASE n %% 20 WHEN 0 THEN 'chat' ELSE 'code' END,"
            " 'llm.tokens', false, 60, %(at)s::timestamptz - n * interval '1 hour', gen_random_uuid(), '', '{}',"
            " 1, 1, 1, 1, 1, %(at)s, %(at)s, n"
            " FROM generate_series(1, 12000) AS n",
            {"at": NOW},
        )
        owner.execute(
            "INSERT INTO metering.usage_event (tenant_id, event_key, request_id, org_id, project_id, sku, quantity,"
            " event_time, source, metadata, fingerprint, receipt_id)"
            " SELECT 't', gen_random_uuid(), n::text, CASE n %% 20 WHEN 0 THEN 'chat' ELSE 'code' END, '',"
            " 'llm.tokens', n, %s::timestamptz - n * interval '1 minute', 2, NULL, gen_random_uuid(),"
            " ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid FROM generate_series(1, 12000) AS n",
            [NOW],
        )
        owner.execute("ANALYZE metering.usage_event, metering.usage_rollup")
    with psycopg.connect(urls.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', 't', true)")
        for statements, name in READINGS:
            plan = connection.execute(f"EXPLAIN {statements[name]}".encode(), PARAMETERS).fetchall()
            text = "\n".join(line for (line,) in plan)
            # A month that nothing is in yet has no page to read.
            read = re.sub(r"Seq Scan on usage_event_\S+( \S+)?  \(cost=0\.00\.\.0\.00 ", "", text)
            assert "Seq Scan on usage_event" not in read, f"{name}:\n{text}"
            assert "Seq Scan on usage_rollup" not in text, f"{name}:\n{text}"


async def test_a_question_without_keys_reads_one_row_an_hour_and_project(
    stub: Any, mesh: Mesh, tenant: str, owner: psycopg.Connection
) -> None:
    await kept_apart(stub, "model")
    sent = [
        event(f"e{number}", project_id=f"p{number % 2}", metadata={"model": f"m{number}"})
        for number in range(12)
    ]
    await stub.IngestEvents(batch(*sent))
    await rolled(mesh, tenant)
    rows = owner.execute(
        "SELECT keyed, minutes, count(*), sum(event_count)::int FROM metering.usage_rollup"
        " WHERE tenant_id = %s GROUP BY 1, 2 ORDER BY 1, 2",
        [tenant],
    ).fetchall()
    assert rows == [(False, 15, 2, 12), (False, 60, 2, 12), (True, 15, 12, 12), (True, 60, 12, 12)]
    # Told apart by what is read: of the rows of the other kind nothing is.
    owner.execute("DELETE FROM metering.usage_rollup WHERE tenant_id = %s AND keyed", [tenant])
    whole = await stub.QueryUsage(usage_query())
    assert ([row.event_count for row in whole.rows], whole.rollup_ordinal) == ([6, 6], 1)
    assert (await stub.QueryUsage(usage_query(group_by=["model"]))).rows == []
    assert len(await audited(stub)) == 24
    # Without keys there is one kind.
    await kept_apart(stub)
    await rolled(mesh, tenant)
    kinds = "SELECT DISTINCT keyed FROM metering.usage_rollup WHERE tenant_id = %s"
    assert owner.execute(kinds, [tenant]).fetchall() == [(False,)]
    assert await audited(stub) == []
