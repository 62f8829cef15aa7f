"""How far a lane was read is kept with its lease, and what was deleted but not vacuumed is not read again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
import pytest

from services.runtime.database import UnitOfWork
from services.runtime.events import relay
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.events.relay import Relay
from services.runtime.postgres.session import Session
from tests.support.events.drain import batch_reaction
from tests.support.events.lab import Lab, effects_reaction, lab_alone, new_tenant
from tests.support.postgres.server import Server

DRAIN_SECONDS = 30
EVENTS = 4_000


@pytest.fixture
async def lab(postgres_server: Server) -> AsyncIterator[Lab]:
    """A lab of each test's own."""
    async with lab_alone(postgres_server) as lab:
        yield lab


async def run(lab: Lab, reaction: Reaction) -> None:
    async with asyncio.timeout(DRAIN_SECONDS), lab.reacting(reaction) as backbone:
        await backbone.drain()


async def lease(lab: Lab) -> dict[str, Any]:
    (found,) = await lab.rows("SELECT * FROM mesh.lane_lease WHERE epoch > 0")
    return found


async def claim(session: Session, consumer: str) -> list[dict[str, Any]]:
    return await relay.rows(
        session, "claim", consumers=[consumer], owner="test", ttl_ms=1000, limit=4
    )


async def test_who_gives_a_lane_back_notes_how_far_it_was_read(lab: Lab) -> None:
    tenant = new_tenant()
    reaction = effects_reaction(consumer="lab.low")
    link = Relay(lab.urls.relay)
    await run(lab, reaction)
    await lab.publish(tenant, "k", 1, 2, 3)
    await run(lab, reaction)
    noted = await lease(lab)
    assert (noted["low"], noted["low_epoch"], noted["owner"]) == (2, noted["epoch"], None)
    async with lab.reacting(effects_reaction(consumer="lab.other")) as backbone:
        await lab.publish(tenant, "k", 4)
        await backbone.drain()
    async with await link.control() as session:
        # Under the epoch of the note, the next owner starts behind it...
        (found,) = await claim(session, "lab.low")
        assert (found["low"], found["epoch"]) == (2, noted["epoch"] + 1)
        # ...but whose owner vanished, or who found that deliveries came from the side, starts at the first.
        await lab.rows("UPDATE mesh.lane_lease SET until_at = '-infinity' WHERE owner = 'test'")
        (found,) = await claim(session, "lab.low")
        assert (found["low"], found["unclean"]) == (-1, True)
        place = {key: found[key] for key in ("consumer", "lane", "epoch")}
        assert await relay.changed(session, "release", **place, low=3) == 1
        await lab.rows("UPDATE mesh.lane_lease SET epoch = epoch + 1 WHERE consumer = 'lab.low'")
        (found,) = await claim(session, "lab.low")
        assert found["low"] == -1
    await link.close()


async def test_a_lane_that_waits_for_a_next_try_is_not_read_past(lab: Lab) -> None:
    tenant = new_tenant()
    fails = True
    tried = asyncio.Event()

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        tried.set()
        if fails:
            raise RuntimeError("not yet")

    reaction = Reaction("lab.waits", ("plan.created",), handle)
    await run(lab, reaction)
    await lab.publish(tenant, "k", 1)
    async with lab.reacting(reaction):
        await asyncio.wait_for(tried.wait(), DRAIN_SECONDS)
    assert (await lease(lab))["low"] == -1
    fails = False
    await run(lab, reaction)
    assert await lab.rows("SELECT 1 FROM mesh.delivery") == []


async def test_a_replay_of_the_last_place_that_was_read_is_not_passed_over(lab: Lab) -> None:
    # Two generations of one event share its place, and the end of a batch may fall between them.
    seen: list[int] = []

    async def handle(work: UnitOfWork, envelopes: Sequence[Envelope]) -> None:
        seen.extend(envelope.generation for envelope in envelopes)

    reaction = Reaction("lab.twice", ("plan.created",), batch_handler=handle, batch_size=1)
    await run(lab, reaction)
    async with lab.reacting(effects_reaction(consumer="lab.other")) as backbone:
        await lab.publish(new_tenant(), "k", 1)
        await backbone.drain()
    await lab.rows(
        "INSERT INTO mesh.delivery (consumer, lane, position, generation, tenant_id, key, event_id, recorded_at) "
        "SELECT consumer, lane, position, 1, tenant_id, key, event_id, recorded_at FROM mesh.delivery"
    )
    await run(lab, reaction)
    assert seen == [0, 1]
    assert await lab.rows("SELECT 1 FROM mesh.delivery") == []


async def test_lanes_that_another_holds_are_not_claimed(lab: Lab) -> None:
    tenant = new_tenant()
    reaction = effects_reaction(consumer="lab.held")
    link = Relay(lab.urls.relay)
    await run(lab, reaction)
    async with lab.reacting(effects_reaction(consumer="lab.other")) as backbone:
        for number in range(6):
            await lab.publish(tenant, f"k{number}", 1)
        await backbone.drain()
    async with await link.control() as one, await link.control() as other:
        first, second = await asyncio.gather(claim(one, "lab.held"), claim(other, "lab.held"))
        lanes = [found["lane"] for found in (*first, *second)]
        assert len(lanes) == len(set(lanes))
        rest = await claim(one, "lab.held")
        lanes += [found["lane"] for found in rest]
        assert len(set(lanes)) == len(lanes)
        assert await claim(other, "lab.held") == []
    await link.close()


async def _buffers(lab: Lab, name: str, **parameters: object) -> int:
    """Blocks that a statement of the relay's reads, under an old snapshot too."""
    link = Relay(lab.urls.relay)
    async with await link.control() as session, session.cursor() as cursor:
        await cursor.execute(
            ("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + relay.SQL[name]).encode(),
            parameters,
        )
        found = await cursor.fetchone()
    await link.close()
    assert found is not None
    plan = found[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


async def test_an_old_snapshot_makes_nobody_read_what_was_handled(lab: Lab) -> None:
    tenant = new_tenant()
    reaction = batch_reaction("lab.old")
    await run(lab, reaction)
    with psycopg.connect(lab.urls.owner_admin) as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM mesh.delivery")
        await lab.publish(tenant, "k", *range(EVENTS))
        await run(lab, reaction)
        noted = await lease(lab)
        place = {"consumer": "lab.old", "lane": noted["lane"], "limit": 300, "bytes_max": 2**20}
        # The dead rows are there: who starts at the first reads them all.
        from_the_first = await _buffers(lab, "fetch", **place, low=-1)
        assert from_the_first > EVENTS / 100
        assert await _buffers(lab, "fetch", **place, low=noted["low"]) < from_the_first / 5
        assert await _buffers(lab, "has_work", consumers=["lab.old"], covered=noted["low"]) < 20
        probed = await _buffers(
            lab, "claim", consumers=["lab.old"], owner="test", ttl_ms=1, limit=4
        )
        # A few blocks for each of 256 lanes, whatever was handled in them.
        assert probed < 256 * 8
        await lab.rows("UPDATE mesh.lane_lease SET low = -1")
        assert (
            await _buffers(lab, "claim", consumers=["lab.old"], owner="test", ttl_ms=1, limit=4)
            > probed + from_the_first / 2
        )


async def test_a_long_lane_is_not_gone_through_to_read_its_beginning(lab: Lab) -> None:
    tenant = new_tenant()
    reaction = effects_reaction(consumer="lab.long")
    await run(lab, reaction)
    # No statistics tell the planner yet that next to nobody waits.
    await lab.rows("ALTER TABLE mesh.delivery SET (autovacuum_enabled = false)")
    await lab.publish(tenant, "k", *range(EVENTS))
    async with lab.reacting(effects_reaction(consumer="lab.other")) as backbone:
        await backbone.drain()
    (place,) = await lab.rows(
        "SELECT DISTINCT consumer, lane FROM mesh.delivery WHERE consumer = 'lab.long'"
    )
    assert await _buffers(lab, "fetch", **place, low=-1, limit=1, bytes_max=2**20) < 20
