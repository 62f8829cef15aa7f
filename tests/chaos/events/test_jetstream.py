"""From database to database through NATS while processes of either are killed: exact counts, order per key."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from services.runtime.events.jetstream.broker import Broker
from tests.support.events.lab import Lab, effects_reaction, inversions, new_tenant
from tests.support.jetstream import nats
from tests.support.jetstream.sites import arrived, eventually, options, running, sent
from tests.support.postgres.server import DatabaseUrls
from tests.support.processes.forked import ForkedProcess

REPOSITORY = Path(__file__).parents[3]
DEATH_SECONDS = 60
EVENTS = 3_000
PUBLISHERS = 6
KEYS = 40


async def test_the_leader_of_a_cluster_is_killed_while_publishing(
    tmp_path: Path, new_database: Callable[..., DatabaseUrls]
) -> None:
    east, west = Lab(new_database()), Lab(new_database())
    await west.prepare()
    tenants = [new_tenant() for _ in range(2)]
    with nats.serving(tmp_path, 3) as cluster:
        for server in cluster.servers.values():
            assert server.asked("jsz")["config"]["sync_always"] is True  # type: ignore[index]
        async with (
            running(east, options(cluster.url, "east")) as source,
            running(west, options(cluster.url, "west", "east"), [effects_reaction()]) as target,
        ):
            broker, sink = source.transport.broker, source.transport.sink
            killed = asyncio.Event()
            publishing = asyncio.create_task(_publish_all(east, tenants, killed))
            await eventually(_exceeds(lambda: sink.published, EVENTS // 10))
            leader = await _leader(broker)
            cluster.servers[leader].kill()
            killed.set()
            await publishing
            await sent(east)
            found = [await arrived(west, tenant, EVENTS // 2) for tenant in tenants]
            await target.backbone.drain()
            state = await broker.state("east")
            successor = await _leader(broker)
    assert successor != leader
    assert state is not None and (state.messages, state.last, state.replicas) == (EVENTS, EVENTS, 3)
    for tenant, log in zip(tenants, found, strict=True):
        born = await east.rows("SELECT event_id FROM mesh.event WHERE tenant_id = %s", tenant)
        assert sorted(row["event_id"] for row in log) == sorted(row["event_id"] for row in born)
        effects = await west.effects(tenant)
        assert len({effect.event_id for effect in effects}) == len(effects) == len(log)
        assert inversions(effects) == []
    for table in ("mesh.dead_letter", "mesh.transport_refusal"):
        for lab in (east, west):
            assert await lab.rows(f"SELECT 1 FROM {table}") == []
    for lab in (east, west):
        await lab.close()


async def _publish_all(lab: Lab, tenants: list[str], killed: asyncio.Event) -> None:
    """Publish from several tasks at once, each with keys of its own, one to six events a transaction; a third of it
    only after the leader was killed.
    """

    async def publish(number: int) -> None:
        draw = random.Random(number)
        tenant = tenants[number % len(tenants)]
        versions = [0] * KEYS
        left = EVENTS // PUBLISHERS
        while left:
            if left < EVENTS // PUBLISHERS // 3:
                await killed.wait()
            count = min(left, draw.randint(1, 6))
            key = draw.randrange(KEYS)
            first = versions[key]
            await lab.publish(tenant, f"p{number}-k{key}", *range(first, first + count))
            versions[key] += count
            left -= count

    async with asyncio.TaskGroup() as tasks:
        for number in range(PUBLISHERS):
            tasks.create_task(publish(number))


def _exceeds(count: Callable[[], int], wanted: int):  # type: ignore[no-untyped-def]
    async def there() -> bool:
        return count() > wanted

    return there


async def _leader(broker: Broker) -> str:
    info = await (await broker.jetstream()).stream_info("tollmesh-east")
    assert info.cluster is not None and info.cluster.leader is not None
    return str(info.cluster.leader)


# Each death leaves lanes and shares leased that the next one has to wait for.
SINK_DIES_AT = (
    "transport.sink.before_publish",
    "transport.sink.after_publish",
    "transport.sink.after_settle",
)
SOURCE_DIES_AT = ("transport.source.before_commit", "transport.source.after_commit")


async def test_sink_and_source_are_killed_and_started_again(
    tmp_path: Path, new_database: Callable[..., DatabaseUrls]
) -> None:
    east, west = Lab(new_database()), Lab(new_database())
    await west.prepare()
    tenant = new_tenant()
    with nats.serving(tmp_path) as server:

        async def kill_sinks() -> None:
            for version, point in enumerate(SINK_DIES_AT):
                for key in range(8):
                    await east.publish(tenant, f"k{key}", 2 * version, 2 * version + 1)
                await _die(east, f"{point}:2", server.url, "east")

        async def kill_sources() -> None:
            for point in SOURCE_DIES_AT:
                await _die(west, point, server.url, "west", "east")

        async with asyncio.timeout(DEATH_SECONDS), asyncio.TaskGroup() as tasks:
            tasks.create_task(kill_sinks())
            tasks.create_task(kill_sources())
        await east.publish(tenant, "k0", 6)
        async with (
            running(east, options(server.url, "east")),
            running(west, options(server.url, "west", "east"), [effects_reaction()]) as target,
        ):
            await arrived(west, tenant, 49)
            await sent(east)
            await target.backbone.drain()
            state = await target.transport.broker.state("east")
    assert state is not None
    assert state.messages == 49
    effects = await west.effects(tenant)
    assert len({effect.event_id for effect in effects}) == len(effects) == 49
    assert inversions(effects) == []
    for lab in (east, west):
        await lab.close()


async def _die(lab: Lab, point: str, *arguments: str) -> None:
    """Run a site until it is killed at a point."""
    process = ForkedProcess(
        *("tests.support.jetstream.worker", json.dumps(asdict(lab.urls)), *arguments),
        environment={**os.environ, "TOLLMESH_CRASHPOINT": point},
    )
    try:
        assert await process.ended(DEATH_SECONDS) == -signal.SIGKILL, point
    finally:
        process.kill()
