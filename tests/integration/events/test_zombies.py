"""A dispatcher that is paused past its lease commits nothing once another holds the lane."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from services.runtime.events.backbone import EventBackbone
from tests.support.events import zombie as event_zombie
from tests.support.events.lab import Lab, effects_reaction, lab_alone, new_tenant
from tests.support.events.zombie import Where
from tests.support.postgres.server import Server

LEASE_MS = 1500
WITHIN_S = 30.0


@pytest.fixture
async def lab(postgres_server: Server) -> AsyncIterator[Lab]:
    """A lab of each test's own: the zombie shall meet the test's one event."""
    async with lab_alone(postgres_server) as lab:
        yield lab


@contextmanager
def zombie(lab: Lab, consumer: str, where: Where) -> Iterator[tuple[BaseProcess, Connection]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (lab.urls, consumer, where, LEASE_MS, theirs)
    process = context.Process(target=event_zombie.run, args=arguments, daemon=True)
    process.start()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join()


async def stopped(process: BaseProcess) -> None:
    """Wait until the process has stopped itself."""
    async with asyncio.timeout(WITHIN_S):
        while _state(process) != "T":
            assert process.is_alive()
            await asyncio.sleep(0.01)


def _state(process: BaseProcess) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


async def told(pipe: Connection) -> str:
    """What the zombie says of the lane that it held."""
    assert await asyncio.to_thread(pipe.poll, WITHIN_S), "it says nothing"
    return str(pipe.recv())


async def drained(backbone: EventBackbone) -> None:
    async with asyncio.timeout(WITHIN_S):
        await backbone.drain()


@pytest.mark.parametrize("where", ["before the fence", "behind the fence"])
async def test_a_dispatcher_that_was_paused_past_its_lease_commits_nothing(
    lab: Lab, where: Where
) -> None:
    # Before its fence it finds another epoch. Behind it, holding the lane's row, it keeps the thief waiting until
    # the server ends its silent transaction; what it had done in it is gone.
    tenant, consumer = new_tenant(), "lab.zombie"
    with zombie(lab, consumer, where) as (process, pipe):
        (event_id,) = await lab.publish(tenant, "k", 1)
        await stopped(process)
        assert await lab.effects(tenant, consumer) == []
        async with lab.reacting(effects_reaction(consumer=consumer), lease_ms=LEASE_MS) as backbone:
            await drained(backbone)
            (effect,) = await lab.effects(tenant, consumer)
            (lease,) = await lab.rows(
                "SELECT epoch FROM mesh.lane_lease WHERE consumer = %s AND epoch > 1", consumer
            )
            assert process.pid is not None
            os.kill(process.pid, signal.SIGCONT)
            assert await told(pipe) in {"lost", "given up"}
    assert await lab.effects(tenant, consumer) == [effect]
    assert effect.event_id == event_id
    assert lease["epoch"] >= 2
    assert await lab.rows("SELECT 1 FROM mesh.dead_letter WHERE tenant_id = %s", tenant) == []
    assert await lab.rows("SELECT 1 FROM mesh.delivery WHERE tenant_id = %s", tenant) == []
