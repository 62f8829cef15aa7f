"""Days of the log: made ahead, moved into, let go; and the alarms of what holds them back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from services.events.app.feed import EventReader
from services.runtime import migrations
from services.runtime.context import acting
from services.runtime.events import relay, sequencer
from services.runtime.events.maintenance import DAYS_AHEAD, Maintenance
from services.runtime.events.relay import Relay
from services.runtime.migrations import MESH
from services.runtime.postgres.roles import RoleNames
from services.runtime.postgres.session import Session
from services.runtime.telemetry import Read
from tests.support.events.lab import Lab, call, effects_reaction, lab_alone, new_tenant
from tests.support.postgres import server as postgres
from tests.support.postgres.server import DatabaseUrls, Server

_COLUMNS = (
    "tenant_id, event_id, subject, schema_version, key, message_name, payload, correlation_id, causation_id,"
    " traceparent, created_at"
)
_VALUES = "%s, %s, 'plan.created', 1, 'k', '', '{}', '', '', '', now()"


@pytest.fixture(scope="module")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the suite's own: a day stays as long as any database has an older transaction open."""
    with postgres.alone(tmp_path_factory.mktemp("days") / "data") as server:
        yield server


@pytest.fixture
async def lab(postgres_server: Server) -> AsyncIterator[Lab]:
    """A lab on a database of the test's own: days go for everybody in it."""
    async with lab_alone(postgres_server, "days") as lab:
        yield lab


@pytest.fixture
async def link(lab: Lab) -> AsyncIterator[Relay]:
    opened = Relay(lab.urls.relay)
    yield opened
    await opened.close()


@pytest.fixture
async def session(link: Relay) -> AsyncIterator[Session]:
    async with await link.control() as opened:
        yield opened


class Gauges:
    """Telemetry that remembers what it was told last."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, ...], float] = {}
        self.observed: dict[str, Read] = {}

    def gauge(self, name: str, value: float, **attributes: str) -> None:
        self.values[(name, *attributes.values())] = value

    def observe(self, name: str, read: Read) -> None:
        self.observed[name] = read

    def duration(self, name: str, seconds: float, **attributes: str) -> None:
        raise AssertionError("the maintenance measures no time")

    def record(self, path: str, code: str, seconds: float, traceparent: str, parent: str) -> None:
        raise AssertionError("the maintenance answers no calls")

    def close(self) -> None:
        raise AssertionError("whoever made the telemetry closes it")


def at(days: float, link: Relay, retention_days: int = 90, **options: Any) -> Maintenance:
    """The maintenance so many days from now."""
    moment = datetime.now(UTC) + timedelta(days=days)
    return Maintenance(link, retention_days=retention_days, now=lambda: moment, **options)


async def names(lab: Lab, parent: str = "event") -> list[str]:
    found = await lab.rows("SELECT name FROM mesh.partitions(%s::regclass)", f"mesh.{parent}")
    return [row["name"] for row in found]


async def step(session: Session, days: float) -> Any:
    """One step of letting go what is so many days in the past, seen from so far in the future."""
    return await relay.row(session, "retire", before=datetime.now(UTC) + timedelta(days=days))


def day_of(days: int) -> str:
    return f"{datetime.now(UTC) + timedelta(days=days):%Y%m%d}"


# ---- Making days


async def test_a_week_is_made_ahead_for_log_and_inbox_alike(
    lab: Lab, link: Relay, session: Session
) -> None:
    week = [f"event_{day_of(ahead)}" for ahead in range(1, DAYS_AHEAD + 1)]
    assert await names(lab) == ["event_history", *week]
    done = await at(0, link).round(session)
    assert (done.made, done.dropped, done.busy) == ([], [], False)
    done = await at(2, link).round(session)
    assert len(done.made) == 2
    assert [name.replace("inbox", "event") for name in await names(lab, "inbox")] == await names(
        lab
    )
    settings = await lab.rows(
        "SELECT c.relrowsecurity, c.reloptions, pg_get_userbyid(c.relowner) AS owner FROM pg_class c"
        " WHERE c.relname = %s",
        f"event_{day_of(9)}",
    )
    assert settings[0]["relrowsecurity"] and settings[0]["owner"].endswith("_owner")
    assert "autovacuum_freeze_min_age=0" in settings[0]["reloptions"]


async def test_many_who_make_days_at_once_make_each_once(lab: Lab, link: Relay) -> None:
    sessions = [await link.control() for _ in range(4)]
    try:
        rounds = await asyncio.gather(*(at(20, link).round(session) for session in sessions))
        # Who met a lock leaves the day to a later round.
        rounds.append(await at(20, link).round(sessions[0]))
    finally:
        for session in sessions:
            await session.close()
    made = [day for done in rounds for day in done.made]
    assert len(made) == len(set(made)) == DAYS_AHEAD + 1
    assert [name for name in await names(lab) if day_of(20) in name] == [f"event_{day_of(20)}"]


async def _stray(lab: Lab, tenant: str, *ids: str) -> None:
    """Have events fall into the default partition: nobody made the day."""
    await lab.rows(f"DROP TABLE mesh.event_{day_of(3)}, mesh.inbox_{day_of(3)}")
    for event_id in ids:
        await lab.rows(
            f"INSERT INTO mesh.event ({_COLUMNS}, recorded_at) VALUES ({_VALUES}, now() + interval '3 days')",
            tenant,
            event_id,
        )


async def test_what_lies_in_the_default_partition_is_moved_and_delivered_once(
    lab: Lab, link: Relay, session: Session
) -> None:
    tenant = new_tenant()
    await _stray(lab, tenant, "a", "b")
    assert await sequencer.tick(session) == 2
    await lab.rows(
        f"INSERT INTO mesh.event ({_COLUMNS}, recorded_at) VALUES ({_VALUES}, now() + interval '3 days')",
        tenant,
        "c",
    )
    assert await relay.row(session, "strays") == {
        "events": 3,
        "days": [(datetime.now(UTC) + timedelta(days=3)).date()],
    }
    # From far away, so the day is made because of what lies there, not because it is near.
    done = await at(40, link).round(session)
    assert (datetime.now(UTC) + timedelta(days=3)).date().isoformat() in done.made
    strays = await relay.row(session, "strays")
    assert strays is not None and strays["events"] == 0
    found = await lab.rows(f"SELECT event_id, xid, seq FROM mesh.event_{day_of(3)} ORDER BY seq")
    assert [row["event_id"] for row in found] == ["a", "b", "c"]
    # What was sequenced stays so; what was not, is found where it lies now.
    assert await sequencer.tick(session) == 1
    feed = await lab.rows(
        "SELECT event_id FROM mesh.feed WHERE tenant_id = %s ORDER BY position", tenant
    )
    assert [row["event_id"] for row in feed] == ["a", "b", "c"]


async def test_too_many_to_move_stay_where_they_are(lab: Lab, session: Session) -> None:
    await _stray(lab, new_tenant(), "a", "b")
    query = "SELECT mesh.make_day(%s::date, 1)"
    day = (datetime.now(UTC) + timedelta(days=3)).date()
    for _ in range(2):
        cursor = await session.execute(query, (day,))
        assert await cursor.fetchone() == ("skipped",)
    assert f"event_{day_of(3)}" not in await names(lab)
    cursor = await session.execute("SELECT mesh.make_day(%s::date, 2)", (day,))
    assert await cursor.fetchone() == ("moved",)


async def test_days_are_made_beside_open_transactions_of_producers(
    lab: Lab, link: Relay, session: Session
) -> None:
    tenant = new_tenant()
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.publish") as work:
            await work.execute(
                f"INSERT INTO mesh.event ({_COLUMNS}) VALUES ({_VALUES})".replace("%s", "%(x)s"),
                {"x": tenant},
            )
            done = await at(30, link).round(session)
            assert len(done.made) == DAYS_AHEAD + 1 and not done.busy


# ---- Letting days go


async def _handled(lab: Lab, tenant: str, *versions: int) -> list[str]:
    """Publish events and have them handled."""
    async with lab.reacting(effects_reaction(), retention_days=0) as backbone:
        ids = await lab.publish(tenant, "k", *versions)
        await asyncio.wait_for(backbone.drain(), 20)
    return ids


async def test_an_old_day_goes_with_its_feed_and_its_inbox(
    lab: Lab, link: Relay, session: Session
) -> None:
    tenant = new_tenant()
    ids = await _handled(lab, tenant, 1, 2)
    assert (await at(89, link).round(session)).dropped == []
    assert (await at(1000, link, retention_days=0).round(session)).dropped == []
    done = await at(92, link).round(session)
    assert done.dropped[0] == "event_history" and not done.held
    assert "event_history" not in await names(lab)
    assert "inbox_history" not in await names(lab, "inbox")
    for table in ("event", "feed", "inbox"):
        assert await lab.rows(f"SELECT 1 FROM mesh.{table}") == [], table
    # Its ids stay taken, for good.
    with acting(call(tenant)), pytest.raises(Exception, match="event_identity_pkey"):
        async with lab.database.unit_of_work("lab.publish") as work:
            await work.execute(
                "INSERT INTO mesh.event_identity SELECT %(tenant)s, substr(sha256(%(id)s::bytea), 1, 16),"
                " substr(sha256('x'), 1, 16)",
                {"tenant": tenant, "id": ids[0]},
            )
    # And the log goes on: what comes now has no day of its own any more, and is kept all the same.
    (kept,) = await _handled(lab, tenant, 3)
    assert [effect.version for effect in await lab.effects(tenant)] == [1, 2, 3]
    # A reader that had stopped at the first event goes on with what is kept.
    with acting(call(tenant)):
        page = await EventReader(lab.database, lab.bus).page([], 1, 100)
    assert [event.event_id for event in page] == [kept]


async def test_feed_rows_go_first_and_a_few_at_a_time(lab: Lab, session: Session) -> None:
    for tenant in (new_tenant(), new_tenant()):
        await _handled(lab, tenant, *range(5))
    query = "SELECT step, removed FROM mesh.retire(%s, 4)"
    before = datetime.now(UTC) + timedelta(days=1)
    steps = []
    for _ in range(4):
        cursor = await session.execute(query, (before,))
        steps.append(await cursor.fetchone())
    assert steps == [("feed", 4), ("feed", 4), ("feed", 2), ("dropped", 0)]


async def test_a_day_stays_while_something_of_it_is_to_be_handled(
    lab: Lab, session: Session
) -> None:
    tenant = new_tenant()

    async def held() -> str:
        return str((await step(session, 1))["step"])

    await lab.rows("INSERT INTO mesh.subscription VALUES ('slow', 'plan.created', false)")
    await lab.publish(tenant, "k", 1)
    assert await held() == "unsequenced"
    await sequencer.tick(session)
    assert await held() == "unhandled"
    await lab.rows(
        "WITH gone AS (DELETE FROM mesh.delivery RETURNING *) INSERT INTO mesh.dead_letter SELECT tenant_id,"
        " consumer, event_id, generation, lane, position, key, recorded_at, 4, 'x' FROM gone"
    )
    assert await held() == "dead-letters"
    await lab.rows("DELETE FROM mesh.dead_letter")
    await lab.rows(
        "INSERT INTO mesh.back_fill (consumer, texts, prefixes, last_position) VALUES ('slow', '{}', '{}', 1)"
    )
    assert await held() == "back-fill"
    await lab.rows("DELETE FROM mesh.back_fill")
    await sequencer.tick(session)
    assert await held() == "feed"
    assert await held() == "dropped"


async def test_a_day_that_has_to_stay_does_not_keep_later_ones(
    lab: Lab, link: Relay, session: Session
) -> None:
    tenant = new_tenant()
    await lab.rows("INSERT INTO mesh.subscription VALUES ('slow', 'plan.created', false)")
    await lab.publish(tenant, "k", 1)
    await sequencer.tick(session)
    done = await at(100, link).round(session)
    assert done.held == "event_history: unhandled"
    assert done.dropped == [f"event_{day_of(ahead)}" for ahead in range(1, DAYS_AHEAD + 1)]
    assert (await names(lab))[0] == "event_history"
    assert len(await lab.rows("SELECT 1 FROM mesh.feed")) == 1


async def test_an_unfinished_page_keeps_its_day(lab: Lab, session: Session) -> None:
    await lab.publish(new_tenant(), "k", *range(5))
    assert (await sequencer.tick_page(session, 2)).more
    assert (await step(session, 1))["step"] == "unsequenced"
    await sequencer.tick(session)
    await sequencer.tick(session)
    assert (await step(session, 1))["step"] == "feed"


async def test_a_replay_under_way_keeps_its_day(lab: Lab, session: Session) -> None:
    tenant = new_tenant()
    await _handled(lab, tenant, 1)
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.replay") as work:
            found = await work.execute(
                "SELECT replayed FROM mesh.replay_events('lab.effects', 1, '-infinity', 'infinity', '{}', '{}',"
                " 0, 1000000, 10)"
            )
            assert found.scalar_one() == 1
            assert (await step(session, 1))["step"] == "busy"
    assert (await step(session, 1))["step"] == "unhandled"


async def test_a_reader_of_the_day_is_waited_for_only_briefly(lab: Lab, session: Session) -> None:
    tenant = new_tenant()
    await _handled(lab, tenant, 1)
    assert (await step(session, 1))["step"] == "feed"
    with acting(call(tenant)):
        async with lab.database.read() as work:
            await work.execute("SELECT 1 FROM mesh.event")
            began = time.monotonic()
            dropping = asyncio.create_task(step(session, 1))
            await asyncio.sleep(0.1)
            # Behind the waiting lock, but not for long.
            await lab.publish(tenant, "k", 2)
            assert (await dropping)["step"] == "busy"
            assert time.monotonic() - began < 3
    await sequencer.tick(session)
    assert "event_history" in await names(lab)


async def test_access_is_by_the_parent_alone(lab: Lab, session: Session) -> None:
    tenant = new_tenant()
    await lab.publish(tenant, "k", 1)
    with acting(call(tenant)):
        async with lab.database.read() as work:
            assert len((await work.execute("SELECT 1 FROM mesh.event")).all()) == 1
    with acting(call(new_tenant())):
        async with lab.database.read() as work:
            assert (await work.execute("SELECT 1 FROM mesh.event")).all() == []
    for table in ("event_history", "event_default", f"event_{day_of(1)}", f"inbox_{day_of(1)}"):
        with acting(call(tenant)), pytest.raises(Exception, match="permission denied"):
            async with lab.database.read() as work:
                await work.execute(f"SELECT 1 FROM mesh.{table}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await session.execute(f"SELECT 1 FROM mesh.{table}".encode())


# ---- From the release before


async def test_what_an_earlier_release_left_is_carried_over_and_back(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database(empty=True)
    migrations.upgrade(urls.owner_admin, [])
    migrations.downgrade(urls.owner_admin, MESH, "0002")
    lab = Lab(urls)
    await lab.prepare()
    await lab.rows(
        f"INSERT INTO mesh.event ({_COLUMNS}, recorded_at) VALUES ({_VALUES}, now() - interval '9 days'),"
        f" ({_VALUES}, now())",
        "t", "old", "t", "new",
    )  # fmt: skip
    await lab.rows("SELECT mesh.tick()")
    await lab.rows("INSERT INTO mesh.inbox VALUES ('t', 'lab.effects', 'old', 0)")
    await lab.rows("INSERT INTO mesh.subscription VALUES ('lab.effects', 'plan.created', false)")
    await lab.rows(
        f"INSERT INTO mesh.event ({_COLUMNS}) VALUES ({_VALUES})",
        "t",
        "later",
    )
    before = await lab.rows("SELECT event_id, seq, xid, recorded_at FROM mesh.event ORDER BY seq")
    migrations.upgrade(urls.owner_admin, [])

    assert before == await lab.rows(
        "SELECT event_id, seq, xid, recorded_at FROM mesh.event ORDER BY seq"
    )
    inbox = await lab.rows("SELECT event_id, recorded_at FROM mesh.inbox")
    assert inbox == [{"event_id": "old", "recorded_at": before[0]["recorded_at"]}]
    assert (await names(lab))[0] == "event_history"
    link = Relay(urls.relay)
    async with await link.control() as session:
        assert await sequencer.tick(session) == 1
        await lab.publish("t", "k", 1)
        assert await sequencer.tick(session) == 1
        await lab.publish("t", "k", *range(5))
        assert (await sequencer.tick_page(session, 2)).more
    await link.close()
    queue = await lab.rows("SELECT count(*) AS n FROM mesh.delivery")
    after = await lab.rows("SELECT event_id, seq, xid, recorded_at FROM mesh.event ORDER BY seq")

    migrations.downgrade(urls.owner_admin, MESH, "0002")
    assert after == await lab.rows(
        "SELECT event_id, seq, xid, recorded_at FROM mesh.event ORDER BY seq"
    )
    assert [row["event_id"] for row in await lab.rows("SELECT event_id FROM mesh.inbox")] == ["old"]
    # The page that was left half-way was ended first.
    assert (await lab.rows("SELECT count(*) AS n FROM mesh.delivery"))[0]["n"] == queue[0]["n"] + 3
    assert (await lab.rows("SELECT count(*) AS n FROM mesh.feed")) == [{"n": 9}]
    migrations.upgrade(urls.owner_admin, [])
    assert len(await lab.rows("SELECT 1 FROM mesh.event")) == 9
    await lab.close()


# ---- Alarms


async def test_a_service_that_leaves_its_transaction_open_is_seen(lab: Lab, link: Relay) -> None:
    gauges = Gauges()
    maintenance = at(0, link, telemetry=gauges)
    async with await link.control() as session:
        owner = await relay.row(session, "owner_role")
        assert owner is not None
        role = RoleNames.of_owner(owner["owner"]).service
        # The last tick may be that of the template's making, long ago.
        await sequencer.tick(session)
        assert await maintenance.check(session, role) == []
        assert gauges.values[("tollmesh.events.strays",)] == 0
        with acting(call(new_tenant())):
            async with lab.database.read() as work:
                await work.execute("SELECT 1")
                await asyncio.sleep(0.3)
                await maintenance.check(session, role)
        assert gauges.values[("tollmesh.events.transaction_s",)] > 0.3
        await _stray(lab, new_tenant(), "a")
        (alarm,) = await maintenance.check(session, role)
        assert alarm.name == "default_partition"
        assert gauges.values[("tollmesh.events.alarm", "default_partition")] == 1
        await at(40, link).round(session)
        assert await maintenance.check(session, role) == []
        assert gauges.values[("tollmesh.events.alarm", "default_partition")] == 0


async def test_the_backbone_maintains_by_itself_and_says_who_waits(lab: Lab) -> None:
    gauges = Gauges()
    await lab.rows(f"DROP TABLE mesh.event_{day_of(7)}, mesh.inbox_{day_of(7)}")
    async with lab.reacting(effects_reaction(), telemetry=gauges):
        assert f"event_{day_of(7)}" in await names(lab), "before the first event comes in"
        for _ in range(500):
            if ("tollmesh.events.waiting", "lab.effects") in gauges.values:
                break
            await asyncio.sleep(0.02)
    assert gauges.values[("tollmesh.events.waiting", "lab.effects")] == 0
