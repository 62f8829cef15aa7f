"""Producers that roll back, sleep and take their ids early; dispatchers that are killed and paused.

At the end nothing is lost, doubled or turned round, and poison was buried after exactly four tries. Two readers
that do it the simple way run beside it: one follows the sequence, one sorts by transaction id. Both must
fail, else the fuzz proves nothing.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

import psycopg
from payments.events.v1.pricing_events_pb2 import PlanCreated

from services.runtime.clock import SystemClock
from services.runtime.context import acting
from services.runtime.events import publish
from services.runtime.events.backbone import EventBackbone
from services.runtime.events.bus import EventBus
from services.runtime.ids import new_ulid
from tests.support import event_worker
from tests.support.event_worker import CONSUMERS, LEASE_MS, poisonous
from tests.support.events import Effect, Lab, call, inversions, new_tenant

SECONDS = float(os.environ.get("TOLLMESH_FUZZ_SECONDS", "12"))
SEED = int(os.environ.get("TOLLMESH_FUZZ_SEED", str(time.time_ns() % 1_000_000)))
PRODUCERS = 6
WORKERS = 3
KILLS_MIN = 5
KEYS = [f"k{number}" for number in range(12)] + ["poison1", "poison2"]

_AGGREGATE = """
CREATE TABLE probe.aggregate (tenant_id text, key text, version int NOT NULL, PRIMARY KEY (tenant_id, key));
GRANT SELECT, INSERT, UPDATE ON probe.aggregate TO PUBLIC;
"""
_BUMP = (
    "INSERT INTO probe.aggregate VALUES (%s, %s, 1) ON CONFLICT (tenant_id, key) "
    "DO UPDATE SET version = probe.aggregate.version + 1 RETURNING version"
)


@dataclass
class Tally:
    """What really happened."""

    committed: dict[str, tuple[str, int]] = field(default_factory=dict)
    rolled_back: int = 0
    kills: int = 0
    pauses: int = 0
    naive: set[str] = field(default_factory=set)


async def _transaction(
    lab: Lab, tenant: str, keys: list[str], dice: random.Random, tally: Tally
) -> None:
    """Change some aggregates and publish an event of each, as a use case does."""
    written = {}
    with acting(call(tenant)):
        try:
            async with lab.database.unit_of_work("fuzz.produce") as work:
                if dice.random() < 0.5:
                    await work.execute("SELECT pg_current_xact_id()")
                    await asyncio.sleep(dice.random() * 0.02)
                driver = await work.raw()
                for key in sorted(keys):
                    found = await (await driver.execute(_BUMP, (tenant, key))).fetchone()
                    assert found is not None
                    payload = PlanCreated(plan_id=key, plan_version=found[0])
                    written[work.publish(payload)] = (key, found[0])
                await asyncio.sleep(dice.random() * 0.01)
                if dice.random() < 0.1:
                    raise _ChangedMind
        except _ChangedMind:
            tally.rolled_back += 1
            return
    tally.committed.update(written)


class _ChangedMind(Exception):
    """A producer rolls back."""


async def _produce(lab: Lab, tenant: str, seed: int, until: float, tally: Tally) -> None:
    dice = random.Random(seed)
    while time.monotonic() < until:
        keys = dice.sample(KEYS, dice.choice((1, 1, 2, 3)))
        await _transaction(lab, tenant, keys, dice, tally)
        await asyncio.sleep(dice.random() * 0.02)


async def _hold_open(lab: Lab, tenant: str, until: float, tally: Tally) -> None:
    """One writing transaction is open all the time, and publishes at its start and at its end."""
    with acting(call(tenant)) as who:
        async with lab.database.unit_of_work("fuzz.old_writer") as work:
            for version in (1, 2, 3):
                pending = publish.Pending(
                    new_ulid(), PlanCreated(plan_id="old", plan_version=version), ""
                )
                await publish.write(work.connection, who, work.now, [pending])
                tally.committed[pending.event_id] = ("old", version)
                await asyncio.sleep(max(until - time.monotonic(), 0) / 2)


async def _follow_sequence(lab: Lab, until: float, tally: Tally) -> None:
    """The naive reader: everything behind the last sequence number it has seen."""
    last = 0
    async with await psycopg.AsyncConnection.connect(lab.urls.owner_admin, autocommit=True) as own:
        while time.monotonic() < until:
            found = await own.execute(
                "SELECT seq, event_id FROM mesh.event WHERE seq > %s ORDER BY seq", (last,)
            )
            for seq, event_id in await found.fetchall():
                tally.naive.add(event_id)
                last = seq
            await asyncio.sleep(0.005)


class Workers:
    """Dispatching processes that die and come back."""

    def __init__(self, lab: Lab, context: ForkServerContext) -> None:
        self._lab, self._context = lab, context
        self._running: list[ForkServerProcess] = []

    def fill(self) -> None:
        """Start as many as there should be."""
        self._running = [process for process in self._running if process.is_alive()]
        while len(self._running) < WORKERS:
            process = self._context.Process(
                target=event_worker.run, args=(self._lab.urls,), daemon=True
            )
            process.start()
            self._running.append(process)

    async def torment(self, seed: int, until: float, tally: Tally) -> None:
        """Kill one, or pause it past its lease, again and again."""
        dice = random.Random(seed)
        while time.monotonic() < until or tally.kills < KILLS_MIN:
            self.fill()
            await asyncio.sleep(0.3 + dice.random() * 0.4)
            victim = dice.choice(self._running)
            assert victim.pid is not None
            if dice.random() < 0.25:
                tally.pauses += 1
                os.kill(victim.pid, signal.SIGSTOP)
                await asyncio.sleep(LEASE_MS / 1000 * 1.3)
                os.kill(victim.pid, signal.SIGCONT)
            else:
                tally.kills += 1
                victim.kill()
                await asyncio.to_thread(victim.join)

    def end(self) -> None:
        """Kill all of them."""
        for process in self._running:
            process.kill()
            process.join()


@asynccontextmanager
async def tormented(lab: Lab) -> AsyncIterator[Workers]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.event_worker"])
    workers = Workers(lab, context)
    try:
        yield workers
    finally:
        workers.end()


async def _finish(lab: Lab) -> None:
    """Let one undisturbed dispatcher handle what is left."""
    backbone = EventBackbone(
        lab.urls.relay,
        [event_worker.reaction(consumer) for consumer in CONSUMERS],
        bus=EventBus(),
        clock=SystemClock(),
        lease_ms=LEASE_MS,
    )
    await backbone.start()
    async with asyncio.timeout(60):
        await backbone.drain()
    await backbone.stop()


def _expected(tally: Tally) -> set[str]:
    """What must have an effect: all that was committed, but for poison and what waits behind it."""
    return {
        event_id
        for event_id, (key, version) in tally.committed.items()
        if not (key.startswith("poison") and version >= 2)
    }


async def _inverted_by_transaction(lab: Lab, tenant: str) -> int:
    found = await lab.rows(
        "SELECT event_id, tenant_id, key, payload FROM mesh.event WHERE tenant_id = %s ORDER BY xid, seq",
        tenant,
    )
    effects = [
        Effect(row["tenant_id"], "xid", row["event_id"], row["key"], _version(row["payload"]))
        for row in found
    ]
    return len(inversions(effects))


def _version(payload: Any) -> int:
    return PlanCreated.FromString(bytes(payload)).plan_version


async def test_nothing_is_lost_doubled_or_turned_round(lab: Lab, capsys: Any) -> None:
    tenant, tally = new_tenant(), Tally()
    await lab.rows(_AGGREGATE)
    async with tormented(lab) as workers:
        until = time.monotonic() + SECONDS
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(workers.torment(SEED, until, tally))
            tasks.create_task(_hold_open(lab, tenant, until, tally))
            tasks.create_task(_follow_sequence(lab, until + 0.5, tally))
            for number in range(PRODUCERS):
                tasks.create_task(_produce(lab, tenant, SEED + number + 1, until, tally))
    await _finish(lab)

    inverted = await _inverted_by_transaction(lab, tenant)
    missed = len(tally.committed.keys() - tally.naive)
    with capsys.disabled():
        figures = {
            "seed": SEED,
            "events": len(tally.committed),
            "rolled_back": tally.rolled_back,
            "killed": tally.kills,
            "paused": tally.pauses,
            "naive_cursor_lost": missed,
            "xid_order_inverted": inverted,
        }
        sys.stdout.write(f"\nfuzz {json.dumps(figures)}\n")

    expected = _expected(tally)
    for consumer in CONSUMERS:
        effects = await lab.effects(tenant, consumer)
        times = Counter(effect.event_id for effect in effects)
        assert expected - times.keys() == set(), "lost"
        assert times.keys() - expected == set(), "effects of what was rolled back or is poison"
        assert [event_id for event_id, count in times.items() if count > 1] == [], "doubled"
        assert inversions(effects) == [], "turned round"
    letters = await lab.rows("SELECT consumer, event_id, attempts FROM mesh.dead_letter")
    assert {letter["attempts"] for letter in letters} <= {4}
    assert sorted((letter["consumer"], letter["event_id"]) for letter in letters) == sorted(
        (consumer, event_id)
        for consumer in CONSUMERS
        for event_id, (key, version) in tally.committed.items()
        if poisonous(key, version)
    )
    assert len(tally.committed) > 100
    assert missed > 0, "the naive cursor must lose, else the fuzz is too tame"
    assert inverted > 0, "the order by transaction id must invert, else the fuzz is too tame"
