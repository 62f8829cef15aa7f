"""Worker processes that drain a backlog with batch handlers, as a deployment runs several of them."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier, Event
from typing import Any

import psycopg
from payments.events.v1.pricing_events_pb2 import PlanCreated

from services.runtime.clock import SystemClock
from services.runtime.database import UnitOfWork
from services.runtime.events.backbone import EventBackbone
from services.runtime.events.bus import EventBus
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.events.lanes import LANES
from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.telemetry import configure_logs

START_SECONDS_MAX = 60

_INSERT = (
    "INSERT INTO probe.effect (tenant_id, consumer, event_id, key, version) "
    "SELECT %(tenant_id)s, %(consumer)s, e.event_id, e.key, e.version "
    "FROM unnest(%(event_ids)s::text[], %(keys)s::text[], %(versions)s::int[]) "
    "AS e (event_id, key, version)"
)


# What draining costs Postgres alone, and so at least: the same rows by one statement a batch, each lane by one
# process, without lease, order of tenants, handler or anything in Python.
_FLOOR = """
WITH next AS MATERIALIZED (
  SELECT position, generation FROM mesh.delivery
   WHERE consumer = %(consumer)s AND lane = %(lane)s AND position > %(low)s ORDER BY position LIMIT 300),
gone AS (
  DELETE FROM mesh.delivery d USING next n
   WHERE d.consumer = %(consumer)s AND d.lane = %(lane)s AND d.position = n.position AND d.generation = n.generation
  RETURNING d.*),
entered AS (
  INSERT INTO mesh.inbox (tenant_id, consumer, event_id, generation, recorded_at)
  SELECT tenant_id, consumer, event_id, generation, recorded_at FROM gone ON CONFLICT DO NOTHING),
done AS (
  INSERT INTO probe.effect (tenant_id, consumer, event_id, key, version)
  SELECT g.tenant_id, g.consumer, g.event_id, g.key, octet_length(e.payload)
    FROM gone g
    JOIN mesh.event e ON e.tenant_id = g.tenant_id AND e.recorded_at = g.recorded_at AND e.event_id = g.event_id)
SELECT count(*), max(position) FROM gone
"""


async def write_effects(work: UnitOfWork, envelopes: Sequence[Envelope], consumer: str) -> None:
    """The effect of a batch: a row an event, by one statement, as the services' role."""
    versions = []
    for envelope in envelopes:
        assert isinstance(envelope.payload, PlanCreated)
        versions.append(envelope.payload.plan_version)
    driver = await work.raw()
    await driver.execute(
        _INSERT,
        {
            "tenant_id": work.tenant_id,
            "consumer": consumer,
            "event_ids": [envelope.event_id for envelope in envelopes],
            "keys": [envelope.key for envelope in envelopes],
            "versions": versions,
        },
    )


def batch_reaction(consumer: str, *, counted: Synchronized[int] | None = None) -> Reaction:
    """A reaction that writes its effects batch by batch, and counts them where other processes see it."""

    async def handle(work: UnitOfWork, envelopes: Sequence[Envelope]) -> None:
        await write_effects(work, envelopes, consumer)
        if counted is not None:
            with counted.get_lock():
                counted.value += len(envelopes)

    return Reaction(consumer, ("plan.created",), batch_handler=handle)


async def _drain(
    urls: DatabaseUrls, consumers: Sequence[str], counted: Synchronized[int], stop: Event
) -> None:
    backbone = EventBackbone(
        urls.relay,
        [batch_reaction(consumer, counted=counted) for consumer in consumers],
        bus=EventBus(),
        clock=SystemClock(),
        workers=2,
    )
    await backbone.start()
    await asyncio.to_thread(stop.wait)
    await backbone.stop()


Run = Callable[[DatabaseUrls, Sequence[str], "Synchronized[int]", Event, int, int], None]


def work(
    urls: DatabaseUrls,
    consumers: Sequence[str],
    counted: Synchronized[int],
    stop: Event,
    _index: int,
    _number: int,
) -> None:
    """Be a worker until told to end."""
    asyncio.run(_drain(urls, consumers, counted, stop))


def floor(
    urls: DatabaseUrls,
    consumers: Sequence[str],
    counted: Synchronized[int],
    _stop: Event,
    index: int,
    number: int,
) -> None:
    """Move this process's share of the lanes by bare SQL."""
    with psycopg.connect(urls.owner_admin, autocommit=True) as connection:
        for consumer, lane in product(consumers, range(index, LANES, number)):
            low = -1
            while True:
                place = {"consumer": consumer, "lane": lane, "low": low}
                found = connection.execute(_FLOOR.encode(), place).fetchone()
                assert found is not None
                if not found[0]:
                    break
                low = found[1]
                with counted.get_lock():
                    counted.value += found[0]


def _begin(run: Run, start: Barrier, *arguments: Any) -> None:
    """Begin together with the others."""
    configure_logs("error")
    start.wait(START_SECONDS_MAX)
    run(*arguments)


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the work is.

    Attributes:
        at: monotonic seconds.
        cpu_s: processor time that was used so far.
        done: events that were handled so far.
    """

    at: float
    cpu_s: float
    done: int

    def rate_since(self, earlier: Mark) -> float:
        """Events a second."""
        return (self.done - earlier.done) / (self.at - earlier.at)

    def cpu_us_since(self, earlier: Mark) -> float:
        """Processor time of an event."""
        return (self.cpu_s - earlier.cpu_s) / (self.done - earlier.done) * 1e6


@dataclass(frozen=True, slots=True)
class Workers:
    """The processes, and how many events they have handled."""

    counted: Synchronized[int]

    def follow(self, total: int, cpu_s: Callable[[], float], limit_s: float) -> list[Mark]:
        """Wait until all is handled; returns the marks of its beginning and of its thirds.

        Raises:
            TimeoutError: it takes longer than it may.
        """
        give_up_at = time.monotonic() + limit_s
        marks: list[Mark] = []
        while len(marks) < 4:
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"{self.counted.value} of {total} after {limit_s} s")
            done = self.counted.value
            if done >= total * len(marks) // 3 and (marks or done > 0):
                marks.append(Mark(time.monotonic(), cpu_s(), done))
            time.sleep(0.005)
        return marks


@contextmanager
def workers(
    urls: DatabaseUrls, consumers: Sequence[str], number: int, *, run: Run = work
) -> Iterator[Workers]:
    """Run worker processes until the block ends."""
    context = multiprocessing.get_context("spawn")
    counted: Synchronized[int] = context.Value("q", 0)
    start, stop = context.Barrier(number + 1), context.Event()
    processes = [
        context.Process(
            target=_begin,
            args=(run, start, urls, list(consumers), counted, stop, index, number),
            daemon=True,
        )
        for index in range(number)
    ]
    for process in processes:
        process.start()
    try:
        start.wait(START_SECONDS_MAX)
        yield Workers(counted)
    finally:
        stop.set()
        for process in processes:
            process.join(20)
            if process.is_alive():
                process.kill()
                process.join()
