"""Work of strangers in other processes: bounded, killed when it overruns, gone with us."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.runtime.errors import InvalidField
from services.runtime.workers import CALL_BUDGETS, ITEMS_PER_JOB, Overrun, WorkerFault, Workers
from tests.support.mesh import worker_jobs as jobs
from tests.support.processes.alive import runs

# CPU time: what the machine does besides counts for nothing.
BUDGET = 0.2
TOO_MUCH = 30.0


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    found = Workers(cpu_seconds=BUDGET)
    yield found
    await found.close()


async def test_answers_come_in_order_across_jobs(workers: Workers) -> None:
    items = list(range(2 * ITEMS_PER_JOB + 1))
    found = await workers.run("acme", jobs.echo, "s", items)
    assert found == [("s", item) for item in items]
    assert await workers.run("acme", jobs.echo, None, []) == []


async def test_what_overruns_is_ended_and_the_others_are_done(workers: Workers) -> None:
    found = await workers.run("acme", jobs.burn, None, [0.0, TOO_MUCH, 0.0, TOO_MUCH, 0.0])
    assert found == [0.0, Overrun(), 0.0, Overrun(), 0.0]
    assert await workers.run("acme", jobs.burn, None, [0.0]) == [0.0]


async def test_a_call_overruns_so_often_and_no_more(workers: Workers) -> None:
    found = await workers.run("acme", jobs.burn, None, [TOO_MUCH] * 3 + [0.0, TOO_MUCH, 0.0])
    assert found[:3] == [Overrun()] * 3
    assert found[3:] == [Overrun(tried=False)] * 3


async def test_behind_an_overrun_a_call_that_has_no_time_left_tries_no_more(
    workers: Workers,
) -> None:
    late = time.monotonic()
    assert await workers.run("acme", jobs.burn, None, [0.0] * 3, until=late) == [0.0] * 3
    found = await workers.run("acme", jobs.burn, None, [0.0, TOO_MUCH, 0.0, 0.0], until=late)
    assert found == [0.0, Overrun(), Overrun(tried=False), Overrun(tried=False)]


async def test_errors_and_deaths_are_those_of_their_items(workers: Workers) -> None:
    refused, memory, died, last = await workers.run(
        "acme", jobs.refuse, None, ["a", "memory", "die", "b"]
    )
    assert isinstance(refused, InvalidField)
    assert refused.fields[0].description == "a"
    assert (memory, died) == (Overrun(), Overrun())
    assert isinstance(last, InvalidField)
    with pytest.raises(WorkerFault, match="KeyError"):
        await workers.run("acme", jobs.refuse, None, ["bug"])


async def test_a_tenant_holds_up_no_other(workers: Workers, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow = [
        asyncio.create_task(workers.run("slow", jobs.wait_for, None, [str(gate)])) for _ in range(5)
    ]
    await asyncio.sleep(0)
    for _ in range(3):
        assert await workers.run("other", jobs.echo, None, [1]) == [(None, 1)]
    assert not any(task.done() for task in slow)
    gate.touch()
    assert await asyncio.gather(*slow) == [[str(gate)]] * 5


@pytest.fixture
async def patient() -> AsyncIterator[Workers]:
    found = Workers(cpu_seconds=1.0)
    yield found
    await found.close()


async def test_costly_tenants_leave_a_process_to_the_others(patient: Workers) -> None:
    workers = patient
    costly = [
        asyncio.create_task(workers.run(f"costly-{number}", jobs.burn, None, [0.3] * 5))
        for number in range(3)
    ]
    # Until each is known for what it asks.
    await _until(lambda: len(workers._places._costly) == len(costly))
    for _ in range(3):
        assert await workers.run("other", jobs.echo, None, [1]) == [(None, 1)]
        assert not any(task.done() for task in costly), "it waited for none of them"
    for outcomes in await asyncio.gather(*costly):
        assert outcomes == [0.3] * 5, "they get their turns too"


async def test_a_call_has_a_budget_for_all_of_its_items() -> None:
    workers = Workers(1, cpu_seconds=0.3)
    found = await workers.run("acme", jobs.burn, None, [0.2] * 20)
    await workers.close()
    done = [item for item in found if item == 0.2]
    assert CALL_BUDGETS * 0.3 / 0.2 <= len(done) <= CALL_BUDGETS * 0.3 / 0.2 + 2
    assert found[len(done) :] == [Overrun(tried=False)] * (20 - len(done))


async def test_who_goes_away_keeps_the_cost_of_what_it_asked(patient: Workers) -> None:
    asked = asyncio.create_task(patient.run("acme", jobs.burn, None, [0.9]))
    await asyncio.sleep(0.7)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert patient._places._of_late("acme") > 0.5


async def test_a_call_that_goes_away_takes_its_process_along(
    workers: Workers, tmp_path: Path
) -> None:
    (before,) = await workers.run("acme", jobs.pid, None, [0])
    waiting = asyncio.create_task(
        workers.run("acme", jobs.wait_for, None, [str(tmp_path / "never")])
    )
    await _until(lambda: not workers._idle)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not runs(before)
    (after,) = await workers.run("acme", jobs.pid, None, [0])
    assert after != before


async def test_a_process_that_dies_idle_is_replaced(workers: Workers) -> None:
    (before,) = await workers.run("acme", jobs.pid, None, [0])
    os.kill(before, signal.SIGKILL)
    await _until(lambda: not runs(before))
    assert await workers.run("acme", jobs.echo, None, [1, 2]) == [(None, 1), (None, 2)]


async def test_it_knows_no_secrets_and_keeps_the_pipe_clean(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLMESH_MESH_SECRET", "secret")
    assert await workers.run("acme", jobs.environment, None, ["TOLLMESH_MESH_SECRET"]) == [None]
    assert await workers.run("acme", jobs.say, None, ["hello"]) == ["hello"]


async def test_closing_ends_the_processes(workers: Workers) -> None:
    (process,) = await workers.run("acme", jobs.pid, None, [0])
    await workers.close()
    assert not runs(process)


_OWNER = """\
import asyncio, sys
from services.runtime.workers import Workers
from tests.support.mesh import worker_jobs as jobs

async def main():
    workers = Workers()
    (pid,) = await workers.run("acme", jobs.pid, None, [0])
    waiting = asyncio.create_task(workers.run("acme", jobs.wait_for, None, [sys.argv[1]]))
    while workers._idle:
        await asyncio.sleep(0)
    print(pid, flush=True)
    await waiting

asyncio.run(main())
"""


async def test_no_process_outlives_a_kill_of_ours(tmp_path: Path) -> None:
    """Not even one that is in the midst of an item, and does not look at its pipe."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    owner = subprocess.Popen(  # noqa: ASYNC220 - the event loop that is tested is its own
        [sys.executable, "-c", _OWNER, str(tmp_path / "never")],
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert owner.stdout is not None
    worker = int(await asyncio.to_thread(owner.stdout.readline))
    assert runs(worker)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    await _until(lambda: not runs(worker))


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - a process rings no bell
        await asyncio.sleep(0.005)
