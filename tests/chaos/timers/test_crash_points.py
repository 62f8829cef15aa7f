"""Kill -9 at each named point of timers and schedules: after a restart nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import pytest
from payments.events.v1.orchestration_events_pb2 import PaymentReceived

from services.events import manifest
from services.runtime.clock import ManualClock
from services.runtime.context import acting
from services.runtime.timers import schedules
from services.runtime.timers.cron import Missed
from services.runtime.timers.schedules import Schedule
from tests.support.events.lab import call, new_tenant
from tests.support.mesh.serving import running
from tests.support.postgres.server import Server
from tests.support.processes.forked import ForkedProcess
from tests.support.timers.lab import TimerLab
from tests.support.timers.seasoning import build_seasoning
from tests.support.timers.worker import CANCELLED_KEY, ask, timer_of

REPOSITORY = Path(__file__).parents[3]
SECONDS_MAX = 60
FORTNIGHT = 14 * 86_400


@pytest.fixture
async def lab(postgres_server: Server) -> AsyncIterator[TimerLab]:
    """A lab on a fresh database."""
    urls = postgres_server.new_database("chaos")
    lab = TimerLab(urls)
    yield lab
    await lab.close()
    postgres_server.drop_database(urls)


async def _worker(lab: TimerLab, tenant: str, job: str, seconds: int, crash_at: str) -> int:
    """Run a worker until it is done or was killed; returns its exit code."""
    process = ForkedProcess(
        "tests.support.timers.worker",
        *(json.dumps(asdict(lab.urls)), tenant, job, str(seconds)),
        environment={**os.environ, "TOLLMESH_CRASHPOINT": crash_at},
    )
    try:
        return await process.ended(SECONDS_MAX)
    finally:
        process.kill()


@pytest.mark.parametrize("point", ["timers.fire.before_commit", "timers.fire.after_commit"])
async def test_a_fortnight_passes_once_though_pumps_die(lab: TimerLab, point: str) -> None:
    """Seasonings, a schedule and plain timers of two tenants; one pump is killed while another works."""
    crash_at = f"{point}:2" if point.endswith("before_commit") else point
    tenants = [new_tenant() for _ in range(2)]
    assert isinstance(lab.clock, ManualClock)
    async with running(lab.urls, [build_seasoning], clock=lab.clock) as mesh:
        for tenant in tenants:
            await lab.schedule(tenant, "plain", days=3)
            with acting(call(tenant)):
                async with lab.database.unit_of_work("lab.publish") as work:
                    for number in range(5):
                        work.publish(PaymentReceived(payment_id=f"p{number}", amount_cents=1))
                    payload = PaymentReceived(payment_id="other-daily")
                    daily = Schedule.of("daily", "0 9 * * *", "UTC", payload, Missed.BACKFILL)
                    await schedules.put(work, daily)
        await mesh.drain_events()
    codes = await asyncio.gather(
        _worker(lab, tenants[0], "fire", FORTNIGHT, crash_at),
        _worker(lab, tenants[0], "fire", FORTNIGHT, ""),
    )
    assert codes[1] == 0
    # Which of the two got to fire is chance; the one alone is not.
    if codes[0] == 0:
        await lab.schedule(tenants[0], "plain-too", days=3)
        await lab.schedule(tenants[1], "plain-too", days=3)
        assert await _worker(lab, tenants[0], "fire", FORTNIGHT, crash_at) == -signal.SIGKILL
    lab.advance(days=14)
    await lab.fire()
    async with running(lab.urls, [build_seasoning], clock=lab.clock) as mesh:
        await mesh.drain_events()
    for tenant in tenants:
        log = await lab.log(tenant)
        assert len({row["event_id"] for row in log}) == len(log)
        found = Counter(row["subject"] for row in log)
        assert found["payment.completed"] == 5
        assert found["journey.timer.fired"] == 10
        assert found["plan.created"] == (2 if codes[0] == 0 else 1)
        fires = [row["causation_id"] for row in log if row["causation_id"].startswith("schedule:")]
        assert fires == [f"schedule:daily@2026-03-{day:02}T09:00:00Z" for day in range(2, 16)]
    assert await lab.rows("SELECT 1 FROM mesh.timer") == []


@pytest.mark.parametrize(
    "crash_at",
    [
        "events.put_schedule.before_commit",
        "events.put_schedule.after_commit",
        "events.delete_schedule.before_commit",
        "events.delete_schedule.after_commit",
        "events.cancel_timer.before_commit",
        "events.cancel_timer.after_commit",
    ],
)
async def test_who_asks_again_after_a_death_gets_the_first_answer(
    lab: TimerLab, crash_at: str
) -> None:
    tenant = new_tenant()
    timer_id = await lab.schedule(tenant, CANCELLED_KEY, days=1)
    await lab.schedule(tenant, "stays", days=1)
    assert await _worker(lab, tenant, "ask", 0, crash_at) == -signal.SIGKILL
    async with running(lab.urls, [manifest.SERVICE], clock=lab.clock) as mesh:
        answers = await ask(mesh, tenant, timer_id)
        assert await ask(mesh, tenant, timer_id) == answers
    assert await timer_of(lab, tenant) == ""
    kept = await lab.rows("SELECT name FROM mesh.schedule WHERE tenant_id = %s", tenant)
    assert kept == [{"name": "kept"}]
    audits = await lab.rows(
        "SELECT entity, count(*) AS n FROM mesh.audit WHERE tenant_id = %s GROUP BY 1 ORDER BY 1",
        tenant,
    )
    assert audits == [
        {"entity": "event_type", "n": 1},
        {"entity": "schedule", "n": 3},
        {"entity": "timer", "n": 1},
    ]
