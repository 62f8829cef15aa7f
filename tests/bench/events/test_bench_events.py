"""What publishing costs, how soon an event has its effect, how fast a backlog drains, what idling takes."""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import time
from pathlib import Path

from payments.events.v1.pricing_events_pb2 import PlanCreated

from services.runtime.context import acting
from services.runtime.database import UnitOfWork
from services.runtime.events import Envelope, Reaction
from tests.support.events import Lab, call, effects_reaction, new_tenant
from tests.support.figures import tell

BATCH = 2_000
ROUNDS = 200
PUBLISH_BATCH_US_MAX = 40.0
LATENCIES = 300
BACKLOG = 5_000
IDLE_SECONDS = 10.0
IDLE_SHARE_MAX = 0.03
"""Of one core, for the whole mesh; the backbone alone must stay well below."""

_AUDIT = (
    "INSERT INTO mesh.audit (tenant_id, audit_id, entity, entity_id, actor, recorded_at) "
    "VALUES (%(t)s, gen_random_uuid(), 'bench', 'x', 'bench', now())"
)

_WAITING = "SELECT EXISTS (SELECT 1 FROM mesh.delivery WHERE consumer = 'bench.latency')"


async def test_draining_a_backlog(lab: Lab) -> None:
    consumers = [effects_reaction(consumer=f"bench.{name}") for name in ("one", "two")]
    async with lab.reacting(*consumers) as backbone:
        await backbone.drain()
    with acting(call(new_tenant())):
        async with lab.database.unit_of_work("bench.publish") as work:
            for number in range(BACKLOG):
                work.publish(PlanCreated(plan_id=f"p{number % 500}", plan_version=number))
    async with lab.reacting(*consumers) as backbone:
        started = time.perf_counter()
        await backbone.drain()
        took = time.perf_counter() - started
    rate = len(consumers) * BACKLOG / took
    tell(
        "events",
        f"drain {BACKLOG:,} events to 2 consumers, an effect each",
        f"{rate:,.0f} deliveries/s",
    )
    assert rate > 200


async def _small_transaction(lab: Lab, tenant: str, *, publishes: bool) -> float:
    """Three inserts, as a small use case makes, with or without an event; returns seconds."""
    started = time.perf_counter()
    with acting(call(tenant)):
        async with lab.database.unit_of_work("bench.publish") as work:
            for _ in range(3):
                await work.execute(_AUDIT, {"t": tenant})
            if publishes:
                work.publish(PlanCreated(plan_id="p", plan_version=1))
    return time.perf_counter() - started


async def test_publishing_one_event(lab: Lab) -> None:
    tenant = new_tenant()
    with_, without = [], []
    for _ in range(ROUNDS):
        without.append(await _small_transaction(lab, tenant, publishes=False))
        with_.append(await _small_transaction(lab, tenant, publishes=True))
    plain, publishing = statistics.median(without), statistics.median(with_)
    tell(
        "events",
        "publish one event in a small transaction",
        f"{publishing * 1e3:.2f} ms",
        floor=f"without: {plain * 1e3:.2f} ms",
        ratio=f"{publishing / plain:.2f}",
    )
    assert publishing < plain * 2


async def test_publishing_a_batch(lab: Lab) -> None:
    tenant, costs = new_tenant(), []
    for _ in range(10):
        started = time.perf_counter()
        with acting(call(tenant)):
            async with lab.database.unit_of_work("bench.publish") as work:
                for number in range(BATCH):
                    work.publish(PlanCreated(plan_id=f"p{number}", plan_version=1))
        costs.append((time.perf_counter() - started) / BATCH * 1e6)
    tell(
        "events",
        f"publish {BATCH:,} events in one transaction",
        f"{statistics.median(costs):.1f} µs an event",
        target=f"< {PUBLISH_BATCH_US_MAX:.0f} µs",
    )
    assert statistics.median(costs) < PUBLISH_BATCH_US_MAX


async def test_commit_to_committed_effect(lab: Lab) -> None:
    tenant, waits = new_tenant(), []
    handled = asyncio.Event()

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        if envelope.tenant_id == tenant:
            handled.set()

    async with lab.reacting(Reaction("bench.latency", ("plan.created",), handle)) as backbone:
        await backbone.drain()
        for number in range(LATENCIES):
            handled.clear()
            await lab.publish(tenant, f"k{number % 7}", number)
            started = time.perf_counter()
            await handled.wait()
            # The handler has run; its transaction commits behind it.
            while await _deliveries(lab, tenant):
                pass
            waits.append((time.perf_counter() - started) * 1e3)
    waits.sort()
    p50, p99 = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
    tell(
        "events",
        "commit to committed effect, light load",
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
    )
    assert p50 < 50


async def _deliveries(lab: Lab, tenant: str) -> bool:
    with acting(call(tenant)):
        async with lab.database.read() as work:
            return bool(
                (await work.execute("SELECT EXISTS (SELECT 1 FROM mesh.delivery)")).scalar()
            )


async def test_idling(lab: Lab) -> None:
    async with lab.reacting(effects_reaction(consumer="bench.idle")) as backbone:
        await backbone.drain()
        await asyncio.sleep(3)
        before = _own_seconds() + _postgres_seconds()
        await asyncio.sleep(IDLE_SECONDS)
        share = (_own_seconds() + _postgres_seconds() - before) / IDLE_SECONDS
    tell(
        "events",
        "idle backbone, Postgres included",
        f"{share:.2%} of a core",
        target=f"< {IDLE_SHARE_MAX:.0%}",
    )
    assert share < IDLE_SHARE_MAX


def _own_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _postgres_seconds() -> float:
    """CPU seconds of the server processes below this one."""
    ticks = os.sysconf("SC_CLK_TCK")
    parents, seconds = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(stat.parent.name)
        parents[pid] = int(fields[1])
        seconds[pid] = (int(fields[11]) + int(fields[12])) / ticks
    below = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return sum(seconds[pid] for pid in below - {os.getpid()})
