"""Worker processes that drain a backlog with batch handlers, as a deployment runs several of them."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier, Event

from payments.events.v1.pricing_events_pb2 import PlanCreated

from services.runtime.clock import SystemClock
from services.runtime.database import UnitOfWork
from services.runtime.events import Envelope, Reaction
from services.runtime.events.backbone import EventBackbone
from services.runtime.events.bus import EventBus
from services.runtime.roles import DatabaseUrls
from services.runtime.telemetry import configure_logs

START_SECONDS_MAX = 60

_INSERT = (
    "INSERT INTO probe.effect (tenant_id, consumer, event_id, key, version) "
    "SELECT %(tenant_id)s, %(consumer)s, e.event_id, e.key, e.version "
    "FROM unnest(%(event_ids)s::text[], %(keys)s::text[], %(versions)s::int[]) "
    "AS e (event_id, key, version)"
)


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


def work(
    urls: DatabaseUrls,
    consumers: Sequence[str],
    counted: Synchronized[int],
    start: Barrier,
    stop: Event,
) -> None:
    """Be a worker: begin together with the others, end when told to."""
    configure_logs("error")
    start.wait(START_SECONDS_MAX)
    asyncio.run(_drain(urls, consumers, counted, stop))


@dataclass
class Workers:
    """The processes, and how many events they have handled."""

    counted: Synchronized[int]
    samples: list[tuple[float, int]] = field(default_factory=list)

    def await_all(self, total: int, limit_s: float) -> None:
        """Wait until all is handled, noting the progress. Raises TimeoutError."""
        give_up_at = time.monotonic() + limit_s
        while not self.samples or self.samples[-1][1] < total:
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"{self.samples[-1:]} of {total} after {limit_s} s")
            self.samples.append((time.monotonic(), self.counted.value))
            time.sleep(0.005)

    def rates(self, total: int, parts: int) -> list[float]:
        """Return the rate of each part of the work: from its first event to its last, a second."""
        marks = [self._at(total * part // parts) for part in range(parts + 1)]
        return [(total / parts) / (later - earlier) for earlier, later in pairwise(marks)]

    def _at(self, count: int) -> float:
        if count == 0:
            return max(at for at, done in self.samples if done == 0)
        return min(at for at, done in self.samples if done >= count)


@contextmanager
def workers(urls: DatabaseUrls, consumers: Sequence[str], number: int) -> Iterator[Workers]:
    """Run worker processes until the block ends."""
    context = multiprocessing.get_context("spawn")
    counted: Synchronized[int] = context.Value("q", 0)
    start, stop = context.Barrier(number + 1), context.Event()
    arguments = (urls, list(consumers), counted, start, stop)
    processes = [context.Process(target=work, args=arguments, daemon=True) for _ in range(number)]
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
