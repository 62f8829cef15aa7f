"""From database to database through NATS, beside what NATS alone does with the same bytes and the same disk."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from payments.events.v1.pricing_events_pb2 import PlanCreated

from services.local.postgres.server import EmbeddedPostgres
from services.runtime import migrations
from services.runtime.context import acting
from services.runtime.events.jetstream.broker import Broker
from services.runtime.postgres import roles
from services.runtime.postgres.roles import DatabaseUrls, Passwords
from tests.support.events.lab import Lab, call, new_tenant
from tests.support.jetstream import nats
from tests.support.jetstream.sites import Site, eventually, options, running
from tests.support.measures.figures import tell

EVENTS = 20_000
KEYS = 2_000
TRANSACTION = 1_000
IN_FLIGHT = 100
PAYLOAD = b"x" * 400
"""About what subject, headers and payload of an event weigh."""
LATENCIES = 100
RATE_MIN = 500

_TAKEN = "SELECT count(*) AS n FROM mesh.event WHERE origin = 'east'"


def _database(server: EmbeddedPostgres, name: str) -> DatabaseUrls:
    urls = roles.prepare_now(server.create_database(name), passwords=Passwords.generate())
    migrations.upgrade(urls.owner_admin, [])
    return urls


async def _alone(url: str) -> float:
    """Messages a second that NATS takes, pipelined, each acknowledged once it is on disk."""
    broker = Broker(options(url, "floor"))
    try:
        await broker.ensure_stream("1/1")
        jetstream = await broker.jetstream()
        free = asyncio.Semaphore(IN_FLIGHT)

        async def publish(number: int) -> None:
            async with free:
                await jetstream.publish(f"ev.floor.{number % 256}.t.a.b", PAYLOAD)

        started = time.perf_counter()
        await asyncio.gather(*(publish(number) for number in range(EVENTS // 4)))
        return EVENTS / 4 / (time.perf_counter() - started)
    finally:
        await broker.close()


async def _publish(lab: Lab, tenant: str, count: int) -> None:
    for first in range(0, count, TRANSACTION):
        with acting(call(tenant)):
            async with lab.database.unit_of_work("bench.publish") as work:
                for number in range(first, min(first + TRANSACTION, count)):
                    work.publish(PlanCreated(plan_id=f"p{number % KEYS}", plan_version=number))


@pytest.mark.parametrize("servers", [1, 3])
async def test_from_database_to_database(tmp_path: Path, servers: int) -> None:
    tenant = new_tenant()
    with (
        EmbeddedPostgres(tmp_path / "data") as postgres,
        nats.serving(tmp_path / "nats", servers) as broker,
    ):
        floor = await _alone(broker.url)
        east, west = (Lab(_database(postgres, name)) for name in ("east", "west"))
        async with (
            running(east, options(broker.url, "east", stream_bytes_max=256 * 1024**2)),
            running(west, options(broker.url, "west", "east")) as target,
        ):
            await east.publish(tenant, "first", 1)
            await eventually(_has(west, 1))
            started = time.perf_counter()
            await _publish(east, tenant, EVENTS)
            await eventually(_has(west, EVENTS + 1), 300)
            rate = EVENTS / (time.perf_counter() - started)
            latency = await _latency(east, target, tenant)
        for lab in (east, west):
            await lab.close()
    tell(
        "events",
        f"database to database through NATS, {servers} of each message, {EVENTS:,} events, publishing included",
        f"{rate:,.0f} events/s",
        floor=f"NATS alone: {floor:,.0f} messages/s",
        ratio=f"{rate / floor:.2f}",
    )
    tell(
        "events",
        f"commit at one site to commit at the other, {servers} of each message, light load",
        f"p50 {latency[len(latency) // 2]:.0f} ms, p99 {latency[int(len(latency) * 0.99)]:.0f} ms",
    )
    assert rate > RATE_MIN


async def _latency(east: Lab, west: Site, tenant: str) -> list[float]:
    source, found = west.transport.sources[0], []
    for number in range(LATENCIES):
        taken = source.taken
        started = time.perf_counter()
        await east.publish(tenant, f"k{number}", number)
        while source.taken == taken:  # noqa: ASYNC110 - a look costs less than what is measured
            await asyncio.sleep(0.001)
        found.append((time.perf_counter() - started) * 1e3)
    return sorted(found)


def _has(lab: Lab, count: int):  # type: ignore[no-untyped-def]
    async def there() -> bool:
        return bool((await lab.rows(_TAKEN))[0]["n"] >= count)

    return there
