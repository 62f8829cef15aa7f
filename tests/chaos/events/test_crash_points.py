"""Kill -9 at each named point of sequencing and dispatching: after a restart nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict
from pathlib import Path

import pytest

from services.runtime.events import sequencer
from services.runtime.events.relay import Relay
from tests.support.events.lab import Lab, inversions, new_tenant
from tests.support.events.worker import CONSUMERS
from tests.support.processes.forked import ForkedProcess

REPOSITORY = Path(__file__).parents[3]
SECONDS_MAX = 60


async def _worker(lab: Lab, crash_at: str) -> int:
    """Run a worker until it has drained everything or was killed; returns its exit code."""
    process = ForkedProcess(
        *("tests.support.events.worker", json.dumps(asdict(lab.urls)), "--drain"),
        environment={**os.environ, "TOLLMESH_CRASHPOINT": crash_at},
    )
    try:
        return await process.ended(SECONDS_MAX)
    finally:
        process.kill()


@pytest.mark.parametrize(
    "crash_at",
    [
        "events.tick.before_commit",
        "events.tick.after_commit",
        "events.dispatch.before_commit",
        "events.dispatch.before_commit:7",
        "events.dispatch.after_commit",
        "events.dispatch.after_commit:7",
    ],
)
async def test_killed_and_restarted(lab: Lab, crash_at: str) -> None:
    tenant = new_tenant()
    for version in range(5):
        for key in range(6):
            await lab.publish(tenant, f"k{key}", version)
    assert await _worker(lab, crash_at) == -signal.SIGKILL
    await lab.publish(tenant, "k0", 5)
    assert await _worker(lab, "") == 0
    for consumer in CONSUMERS:
        effects = await lab.effects(tenant, consumer)
        assert len({effect.event_id for effect in effects}) == len(effects) == 31
        assert inversions(effects) == []
    assert await lab.rows("SELECT 1 FROM mesh.dead_letter") == []
    assert await lab.rows("SELECT 1 FROM mesh.delivery") == []


@pytest.mark.parametrize(
    "crash_at", ["events.back_fill.before_commit", "events.back_fill.after_commit"]
)
async def test_a_new_consumer_is_given_what_was_there_before_it(lab: Lab, crash_at: str) -> None:
    tenant = new_tenant()
    for version in range(5):
        for key in range(6):
            await lab.publish(tenant, f"k{key}", version)
    link = Relay(lab.urls.relay)
    async with await link.control() as session:
        assert await sequencer.tick(session) == 30
    await link.close()
    assert await _worker(lab, crash_at) == -signal.SIGKILL
    await lab.publish(tenant, "k0", 5)
    assert await _worker(lab, "") == 0
    for consumer in CONSUMERS:
        effects = await lab.effects(tenant, consumer)
        assert len({effect.event_id for effect in effects}) == len(effects) == 31
        assert inversions(effects) == []
    assert await lab.rows("SELECT 1 FROM mesh.back_fill") == []
    assert await lab.rows("SELECT 1 FROM mesh.lane_lease WHERE until_at = 'infinity'") == []
