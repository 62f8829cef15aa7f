"""A process that sequences and dispatches, to be killed and paused at will.

`python -m tests.support.events.worker URLS_JSON` serves until it is killed; with `--drain` it ends once all is
handled. Keys that start with `poison` fail at their second event, always.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections.abc import Sequence
from typing import Literal

from payments.events.v1.pricing_events_pb2 import PlanCreated

from services.runtime.clock import SystemClock
from services.runtime.database import UnitOfWork
from services.runtime.events.backbone import EventBackbone
from services.runtime.events.bus import EventBus
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.telemetry import configure_logs
from tests.support.events.lab import QUICK, write_effect

LEASE_MS = 1500
CONSUMERS = ("chaos.a", "chaos.b")
# These take part in the fuzz alone: one goes past dead letters, one takes its events in batches.
SKIPPING = "chaos.c"
BATCHING = "chaos.d"
BATCH = 20


def poisonous(key: str, version: int) -> bool:
    """True for the events that nobody can handle."""
    return key.startswith("poison") and version == 2


async def _handle(work: UnitOfWork, envelope: Envelope, consumer: str) -> None:
    """Write the effect, now and then after a while, and fail on poison."""
    payload = envelope.payload
    assert isinstance(payload, PlanCreated)
    await write_effect(work, envelope, consumer)
    if random.random() < 0.02:
        await asyncio.sleep(random.random() * 0.05)
    if poisonous(envelope.key, payload.plan_version):
        raise RuntimeError("poison")


def reaction(consumer: str) -> Reaction:
    """A consumer that takes its events one by one."""

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        await _handle(work, envelope, consumer)

    on_dead: Literal["park_key", "skip"] = "skip" if consumer == SKIPPING else "park_key"
    return Reaction(consumer, ("plan.created",), handle, on_dead=on_dead, retry=QUICK)


def batch_reaction(consumer: str) -> Reaction:
    """A consumer that takes them in batches."""

    async def handle(work: UnitOfWork, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            await _handle(work, envelope, consumer)

    return Reaction(
        consumer, ("plan.created",), batch_handler=handle, batch_size=BATCH, retry=QUICK
    )


def reactions() -> list[Reaction]:
    """All that take part in the fuzz."""
    return [*map(reaction, (*CONSUMERS, SKIPPING)), batch_reaction(BATCHING)]


async def serve(urls: DatabaseUrls, *, drain: bool) -> None:
    """Run a backbone."""
    backbone = EventBackbone(
        urls.relay,
        [reaction(consumer) for consumer in CONSUMERS],
        bus=EventBus(),
        clock=SystemClock(),
        workers=3,
        lease_ms=LEASE_MS,
    )
    await backbone.start()
    if drain:
        await backbone.drain()
        await backbone.stop()
        return
    await asyncio.Event().wait()


def main() -> None:
    """Serve from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("urls")
    parser.add_argument("--drain", action="store_true")
    arguments = parser.parse_args()
    configure_logs("warning")
    asyncio.run(serve(DatabaseUrls(**json.loads(arguments.urls)), drain=arguments.drain))


if __name__ == "__main__":
    main()
