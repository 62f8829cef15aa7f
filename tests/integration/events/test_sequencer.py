"""The order of the feed: nothing lost, doubled or turned round, whatever the transactions do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.local.postgres.server import EmbeddedPostgres
from services.runtime import migrations
from services.runtime.events import relay, sequencer, subscriptions
from services.runtime.events.relay import Relay
from services.runtime.events.sequencer import Page
from services.runtime.postgres import roles
from services.runtime.postgres.roles import Passwords
from services.runtime.postgres.session import Session
from tests.support.events.lab import Lab, effects_reaction, new_tenant

_INSERT = (
    "INSERT INTO mesh.event (tenant_id, event_id, subject, schema_version, key, message_name, payload,"
    " correlation_id, causation_id, traceparent, created_at)"
    " VALUES (%s, %s, 'plan.created', 1, %s, 'payments.events.v1.PlanCreated', '', '', '', '', now())"
)


class Writer:
    """A transaction of a service that the test steps through."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], tenant: str) -> None:
        self.connection = connection
        self._tenant = tenant

    async def take_id(self) -> None:
        """Get the transaction id now, as an idempotency record written first does."""
        await self.connection.execute("SELECT pg_current_xact_id()")

    async def publish(self, *names: str) -> None:
        """Write events whose ids are their names; the key is the name's first letter."""
        for name in names:
            await self.connection.execute(_INSERT, (self._tenant, name, name[0]))

    async def commit(self) -> None:
        """End it."""
        await self.connection.commit()


@pytest.fixture
async def session(lab: Lab) -> AsyncIterator[Session]:
    """A session of the relay's; nothing else sequences."""
    link = Relay(lab.urls.relay)
    opened = await link.control()
    await sequencer.tick(opened)
    yield opened
    await opened.close()
    await link.close()


@asynccontextmanager
async def writing(lab: Lab, tenant: str) -> AsyncIterator[Writer]:
    async with await psycopg.AsyncConnection.connect(lab.urls.service) as connection:
        await connection.execute("SELECT set_config('mesh.tenant', %s, false)", (tenant,))
        await connection.commit()
        yield Writer(connection, tenant)
        await connection.rollback()


async def feed(lab: Lab, tenant: str) -> list[str]:
    found = await lab.rows(
        "SELECT event_id FROM mesh.feed WHERE tenant_id = %s ORDER BY position", tenant
    )
    return [row["event_id"] for row in found]


async def test_a_late_commit_is_found_where_a_cursor_would_have_passed(
    lab: Lab, session: Session
) -> None:
    tenant = new_tenant()
    async with writing(lab, tenant) as slow, writing(lab, tenant) as fast:
        await slow.publish("a1")
        await fast.publish("b1")
        await fast.commit()
        assert await sequencer.tick(session) == 1
        await slow.commit()
        assert await sequencer.tick(session) == 1
        assert await sequencer.tick(session) == 0
    assert await feed(lab, tenant) == ["b1", "a1"]


async def test_an_early_id_with_a_late_insert_comes_in_the_order_of_the_key(
    lab: Lab, session: Session
) -> None:
    # By transaction id the second event of `a` would come first.
    tenant = new_tenant()
    async with writing(lab, tenant) as early, writing(lab, tenant) as late:
        await early.take_id()
        await late.publish("a1")
        await late.commit()
        await early.publish("a2")
        await early.commit()
    assert await sequencer.tick(session) == 2
    assert await feed(lab, tenant) == ["a1", "a2"]


async def test_an_early_id_across_ticks(lab: Lab, session: Session) -> None:
    tenant = new_tenant()
    async with writing(lab, tenant) as early, writing(lab, tenant) as late:
        await early.take_id()
        assert await sequencer.tick(session) == 0
        await late.publish("a1")
        await late.commit()
        assert await sequencer.tick(session) == 1
        await early.publish("a2")
        assert await sequencer.tick(session) == 0
        await early.commit()
        assert await sequencer.tick(session) == 1
    assert await feed(lab, tenant) == ["a1", "a2"]


async def test_savepoints_and_what_they_roll_back(lab: Lab, session: Session) -> None:
    tenant = new_tenant()
    async with writing(lab, tenant) as writer:
        for number in range(101):
            await writer.connection.execute("SAVEPOINT s")
            await writer.publish(f"a{number:03}")
            if number % 2:
                await writer.connection.execute("ROLLBACK TO SAVEPOINT s")
            if number == 50:
                assert await sequencer.tick(session) == 0
        await writer.commit()
    assert await sequencer.tick(session) == 51
    assert await feed(lab, tenant) == [f"a{number:03}" for number in range(0, 101, 2)]


async def test_an_aborted_transaction_leaves_nothing_and_holds_nothing_up(
    lab: Lab, session: Session
) -> None:
    tenant = new_tenant()
    async with writing(lab, tenant) as writer:
        await writer.publish("a1")
        assert await sequencer.tick(session) == 0
        await writer.connection.rollback()
        await writer.publish("a2")
        await writer.commit()
    assert await sequencer.tick(session) == 1
    assert await feed(lab, tenant) == ["a2"]


async def test_two_sequencers_do_the_work_once(lab: Lab, session: Session) -> None:
    tenant = new_tenant()
    link = Relay(lab.urls.relay)
    async with await link.control() as other:
        for round_ in range(30):
            await lab.publish(tenant, "k", 2 * round_, 2 * round_ + 1)
            moved = await asyncio.gather(sequencer.tick(session), sequencer.tick(other))
            if sum(max(count, 0) for count in moved) == 0:
                assert await sequencer.tick(session) + await sequencer.tick(other) == 2
    await link.close()
    found = await lab.rows(
        "SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM mesh.feed WHERE tenant_id = %s",
        tenant,
    )
    assert found == [{"n": 60, "ids": 60}]


async def test_a_tick_that_another_holds_is_left_to_it(lab: Lab, session: Session) -> None:
    link = Relay(lab.urls.relay)
    async with await link.control() as other, other.transaction():
        await relay.rows(other, "hold_feed")
        assert await sequencer.tick(session) == -1
    await link.close()
    assert await sequencer.tick(session) == 0


async def test_an_open_writer_stalls_nobody_and_comes_out_in_order(lab: Lab) -> None:
    tenant = new_tenant()
    async with lab.reacting(effects_reaction()) as backbone, writing(lab, tenant) as old:
        await old.take_id()
        await old.publish("x1")
        for number in range(50):
            await lab.publish(tenant, f"k{number % 5}", number)
        await asyncio.wait_for(backbone.drain(), 10)
        assert len(await lab.effects(tenant)) == 50
        await old.publish("x2")
        await old.commit()
        await asyncio.wait_for(backbone.drain(), 10)
    assert [e.event_id for e in await lab.effects(tenant)][50:] == ["x1", "x2"]


async def test_what_another_process_publishes_is_found_without_a_bell(lab: Lab) -> None:
    tenant = new_tenant()
    async with lab.reacting(effects_reaction()), writing(lab, tenant) as stranger:
        await stranger.publish("a1")
        await stranger.commit()
        for _ in range(250):
            if await lab.effects(tenant):
                break
            await asyncio.sleep(0.02)
    assert [effect.event_id for effect in await lab.effects(tenant)] == ["a1"]


@pytest.fixture
async def lonely(tmp_path: Path) -> AsyncIterator[Lab]:
    """A lab on a server of its own: transaction ids are the whole cluster's."""
    # Without autovacuum: the server's own housekeeping takes ids too.
    with EmbeddedPostgres(tmp_path / "data", settings={"autovacuum": "off"}) as server:
        urls = roles.prepare_now(server.create_database("idle"), passwords=Passwords.generate())
        migrations.upgrade(urls.owner_admin, [])
        lab = Lab(urls)
        await lab.prepare()
        yield lab
        await lab.close()


async def test_an_idle_feed_takes_no_transaction_ids(lonely: Lab) -> None:
    async def next_id() -> int:
        found = await lonely.rows("SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS id")
        return int(found[0]["id"])

    async with lonely.reacting(effects_reaction()) as backbone:
        await lonely.publish(new_tenant(), "k", 1)
        await backbone.drain()
        await asyncio.sleep(2.5)
        before = await next_id()
        await asyncio.sleep(2)
        assert await next_id() == before


async def test_a_tick_row_of_another_cluster_is_refused(lab: Lab, session: Session) -> None:
    await lab.rows("UPDATE mesh.tick SET system_id = system_id + 1")
    try:
        with pytest.raises(psycopg.errors.RaiseException, match="another cluster"):
            await sequencer.tick(session)
    finally:
        await lab.rows("UPDATE mesh.tick SET system_id = system_id - 1")
    assert await sequencer.tick(session) == 0


async def test_a_tick_needs_a_snapshot_of_each_statement_s_own(lab: Lab, session: Session) -> None:
    await session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    with pytest.raises(psycopg.errors.RaiseException, match="READ COMMITTED"):
        await sequencer.tick(session)
    await session.execute("ROLLBACK")


async def test_the_probe_reads_by_index_however_long_the_log(lab: Lab, session: Session) -> None:
    tenant = new_tenant()
    for _ in range(3):
        await lab.publish(tenant, "k", *range(3000))
    await sequencer.tick(session)
    await lab.rows("ANALYZE mesh.event")
    plan = await session.execute(("EXPLAIN " + relay.SQL["probe_rows"]).encode())
    text = "\n".join(row[0] for row in await plan.fetchall())
    assert "Seq Scan on event" not in text
    assert "event_history_xid_idx" in text


# ---- Pages


async def test_a_long_interval_is_used_up_page_by_page(lab: Lab, session: Session) -> None:
    tenant = new_tenant()
    async with writing(lab, tenant) as old, writing(lab, tenant) as writer:
        await old.publish("x1")
        for number in range(7):
            await writer.publish(f"a{number}")
            await writer.commit()
        assert await sequencer.tick_page(session, 3) == Page(3, more=True)
        # Neither what commits meanwhile nor another page size changes what the interval holds.
        await old.publish("x2")
        await old.commit()
        await writer.publish("a7")
        await writer.commit()
        assert await relay.row(session, "probe_rows") == {"moved": True}
        quiet = await relay.row(session, "is_quiet", consumers=[])
        assert quiet == {"quiet": False}
        assert await sequencer.tick_page(session, 1000) == Page(3, more=True)
        assert await sequencer.tick_page(session) == Page(1, more=False)
        assert await feed(lab, tenant) == [f"a{number}" for number in range(7)]
        assert await sequencer.tick_page(session) == Page(3, more=False)
    assert (await feed(lab, tenant))[7:] == ["x1", "x2", "a7"]
    assert await relay.row(session, "probe_rows") == {"moved": False}
    assert await relay.row(session, "is_quiet", consumers=[]) == {"quiet": True}


async def test_an_interval_left_half_used_up_is_gone_on_with_by_another(
    lab: Lab, session: Session
) -> None:
    tenant = new_tenant()
    await lab.publish(tenant, "k", *range(10))
    assert (await sequencer.tick_page(session, 4)).more
    link = Relay(lab.urls.relay)
    async with await link.control() as other:
        assert await sequencer.tick(other) == 6
    await link.close()
    found = await lab.rows(
        "SELECT position FROM mesh.feed WHERE tenant_id = %s ORDER BY position", tenant
    )
    first = found[0]["position"]
    assert [row["position"] for row in found] == list(range(first, first + 10))


async def test_a_page_that_lacks_an_event_is_refused(lab: Lab, session: Session) -> None:
    tenant = new_tenant()
    await lab.publish(tenant, "k", *range(5))
    assert (await sequencer.tick_page(session, 2)).moved == 2
    await lab.rows("UPDATE mesh.tick_page SET events = events + 1")
    with pytest.raises(psycopg.errors.RaiseException, match="page of the feed"):
        await sequencer.tick_page(session, 2)
    await lab.rows("UPDATE mesh.tick_page SET events = events - 1")
    assert await sequencer.tick(session) == 3


class Model:
    """What the feed must be: intervals of commits, each in the order of publishing."""

    def __init__(self) -> None:
        self.published = 0
        self.committed: list[tuple[int, str]] = []
        self.interval: list[str] = []
        self.feed: list[str] = []

    def commit(self, pending: list[tuple[int, str]]) -> None:
        """A writer's events become visible."""
        self.committed += pending

    def tick(self, page_max: int) -> None:
        """A page of the interval, or of a new one."""
        if not self.interval:
            self.interval = [name for _, name in sorted(self.committed)]
            self.committed = []
            self.page_max = max(page_max, 1)
        page, self.interval = self.interval[: self.page_max], self.interval[self.page_max :]
        self.feed += page


@pytest.mark.parametrize("seed", range(4))
async def test_the_feed_is_what_a_model_says(lab: Lab, session: Session, seed: int) -> None:
    """Writers publish, commit and roll back in any order; ticks of any size come in between."""
    draw, model, tenant = random.Random(seed), Model(), new_tenant()
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(writing(lab, tenant)) for _ in range(4)]
        pending: list[list[tuple[int, str]]] = [[] for _ in writers]
        for _ in range(150):
            which = draw.randrange(len(writers))
            match draw.choices(("id", "publish", "commit", "rollback", "tick"), (1, 8, 3, 1, 3)):
                case ["id"]:
                    await writers[which].take_id()
                case ["publish"]:
                    name = f"{'abc'[draw.randrange(3)]}{model.published:04}"
                    await writers[which].publish(name)
                    pending[which].append((model.published, name))
                    model.published += 1
                case ["commit"]:
                    await writers[which].commit()
                    model.commit(pending[which])
                    pending[which] = []
                case ["rollback"]:
                    await writers[which].connection.rollback()
                    pending[which] = []
                case ["tick"]:
                    size = draw.randrange(1, 6)
                    await sequencer.tick_page(session, size)
                    model.tick(size)
                    assert await feed(lab, tenant) == model.feed
        for writer, left in zip(writers, pending, strict=True):
            await writer.commit()
            model.commit(left)
    await sequencer.tick(session)
    await sequencer.tick(session)
    while model.interval or model.committed:
        model.tick(1000)
    assert await feed(lab, tenant) == model.feed
    assert len(set(model.feed)) == len(model.feed)


# ---- Back-fill


async def _fill(session: Session, page_max: int) -> list[int]:
    """Fill page by page; returns how many deliveries there were after each."""
    counts = []
    while await subscriptions.fill_page(session, page_max):
        found = await session.execute(
            "SELECT count(*) FROM mesh.delivery WHERE consumer = 'fill.late'"
        )
        counts += [row[0] for row in await found.fetchall()]
    return counts


async def _open_lanes(lab: Lab) -> int:
    found = await lab.rows(
        "SELECT count(*) AS n FROM mesh.lane_lease WHERE consumer = 'fill.late' AND until_at < 'infinity'"
    )
    return int(found[0]["n"])


async def test_a_new_consumer_is_filled_in_pages_behind_shut_lanes(
    lab: Lab, session: Session
) -> None:
    await lab.rows("DELETE FROM mesh.feed")
    tenants = sorted(new_tenant() for _ in range(2))
    for tenant in tenants:
        await lab.publish(tenant, "k", *range(5))
    await sequencer.tick(session)
    late = effects_reaction(consumer="fill.late")
    await subscriptions.subscribe(session, late)
    await subscriptions.subscribe(session, late)
    # What comes from now on is queued by the tick, and waits.
    await lab.publish(tenants[0], "k", 5)
    assert await sequencer.tick(session) == 1
    assert await _open_lanes(lab) == 0
    assert await _fill(session, 3) == [4, 7, 10, 11, 11]
    assert await _open_lanes(lab) == 256
    async with lab.reacting(late) as backbone:
        await asyncio.wait_for(backbone.drain(), 20)
    for tenant, count in zip(tenants, (6, 5), strict=True):
        effects = await lab.effects(tenant, "fill.late")
        assert [effect.version for effect in effects] == list(range(count))


async def test_a_further_subject_evicts_the_owner_until_it_is_filled_in(
    lab: Lab, session: Session
) -> None:
    tenant = new_tenant()
    first = effects_reaction(consumer="fill.late")
    await subscriptions.subscribe(session, first)
    while await subscriptions.fill_page(session):
        pass
    await lab.publish(tenant, "k", 1)
    await sequencer.tick(session)
    claim = {"consumers": ["fill.late"], "owner": "me", "limit": 1}
    claimed = await relay.row(session, "claim", **claim, ttl_ms=60_000)
    assert claimed is not None
    lease = {"consumer": "fill.late", "lane": claimed["lane"], "epoch": claimed["epoch"]}
    wider = effects_reaction(("plan.created", "plan.updated"), consumer="fill.late")
    await subscriptions.subscribe(session, wider)
    assert await relay.row(session, "fence", **lease, limit_ms="1000") is None
    assert await relay.row(session, "claim", **claim, ttl_ms=1) is None
    # A replay evicts too, and must not open what is shut.
    await lab.replay("fill.late", tenant)
    assert await _open_lanes(lab) == 0
    while await subscriptions.fill_page(session):
        pass
    assert await _open_lanes(lab) == 256
    again = await relay.row(session, "claim", **claim, ttl_ms=1)
    assert again is not None and again["epoch"] > claimed["epoch"]


async def test_a_subject_that_was_handled_before_is_not_handled_twice(lab: Lab) -> None:
    tenant = new_tenant()
    async with lab.reacting(effects_reaction(consumer="fill.once")) as backbone:
        await lab.publish(tenant, "k", 1)
        await asyncio.wait_for(backbone.drain(), 20)
    wider = effects_reaction(("plan.*",), consumer="fill.once")
    async with lab.reacting(wider) as backbone:
        await asyncio.wait_for(backbone.drain(), 20)
    assert len(await lab.effects(tenant, "fill.once")) == 1


# ---- Stalls


async def test_a_sequencer_that_cannot_tick_says_since_when(lab: Lab) -> None:
    link = Relay(lab.urls.relay)
    async with lab.reacting() as backbone:
        async with await link.control() as other, other.transaction():
            await relay.rows(other, "hold_feed")
            await lab.publish(new_tenant(), "k", 1)
            await asyncio.sleep(0.6)
            assert backbone.stalled_seconds > 0.5
        await asyncio.wait_for(backbone.drain(), 10)
        for _ in range(200):
            if backbone.stalled_seconds < 0.5:
                break
            await asyncio.sleep(0.02)
        assert backbone.stalled_seconds < 0.5
    await link.close()


@pytest.mark.parametrize("page_max", [100, 1], ids=["in one tick", "in pages"])
async def test_a_consumer_by_tenant_gets_what_is_of_interest(
    lab: Lab, session: Session, page_max: int
) -> None:
    ours, theirs, late = new_tenant(), new_tenant(), new_tenant()
    consumer = f"lab.by_tenant_{page_max}"

    async def queued() -> set[str]:
        query = "SELECT tenant_id FROM mesh.delivery WHERE consumer = %s"
        return {row["tenant_id"] for row in await lab.rows(query, consumer)}

    async def interest(tenant: str) -> None:
        await lab.rows(
            "INSERT INTO mesh.interest (tenant_id, consumer) VALUES (%s, %s)", tenant, consumer
        )

    async def sequenced() -> None:
        while (await sequencer.tick_page(session, page_max)).more:
            pass

    await lab.publish(late, "before", 1)
    await sequenced()
    await interest(ours)
    reaction = effects_reaction(consumer=consumer, by_tenant=True)
    await subscriptions.subscribe(session, reaction)
    while await subscriptions.fill_page(session, page_max):
        pass
    assert await queued() == set(), "the feed held nothing of a tenant that is of interest"
    for tenant in (ours, theirs, late):
        await lab.publish(tenant, "p", 1)
    await sequenced()
    assert await queued() == {ours}
    await interest(late)
    await lab.publish(late, "p", 2)
    await sequenced()
    assert await queued() == {ours, late}
