"""The order of the feed: nothing lost, doubled or turned round, whatever the transactions do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.runtime import migrations, roles
from services.runtime.events import relay, sequencer
from services.runtime.events.relay import Relay, Session
from services.runtime.postgres import EmbeddedPostgres
from services.runtime.roles import Passwords
from tests.support.events import Lab, effects_reaction, new_tenant

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
    plan = await session.execute(("EXPLAIN " + relay.statement("probe_rows")).encode())
    text = "\n".join(row[0] for row in await plan.fetchall())
    assert "Seq Scan on event" not in text
    assert "event_history_xid_idx" in text
