"""How long it takes from a commit that published to the committed effect, as whoever published sees it."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from multiprocessing.connection import Connection

from services.runtime.context import acting
from services.runtime.roles import DatabaseUrls
from services.runtime.telemetry import configure_logs
from tests.support.events import Lab, call, new_tenant

WITHIN_S = 10.0
# Looking takes a processor from those that are looked at.
POLL_SECONDS = 0.0005
CHILD_WITHIN_S = 120.0

_DONE = "SELECT EXISTS (SELECT 1 FROM probe.effect WHERE tenant_id = %(tenant)s AND event_id = %(event)s)"


async def latencies_ms(lab: Lab, number: int, *, pause_s: float = 0.005) -> list[float]:
    """Publish events one after the other, each once the one before has had its effect; sorted."""
    tenant, waits = new_tenant(), []
    for version in range(number):
        (event_id,) = await lab.publish(tenant, f"k{version % 7}", version)
        published_at = time.perf_counter()
        while not await _is_done(lab, tenant, event_id):
            assert time.perf_counter() < published_at + WITHIN_S
            await asyncio.sleep(POLL_SECONDS)
        waits.append((time.perf_counter() - published_at) * 1e3)
        await asyncio.sleep(pause_s)
    return sorted(waits)


async def _is_done(lab: Lab, tenant: str, event_id: str) -> bool:
    with acting(call(tenant)):
        async with lab.database.read() as work:
            found = await work.execute(_DONE, {"tenant": tenant, "event": event_id})
            return bool(found.scalar())


async def _tell(urls: DatabaseUrls, number: int, pipe: Connection) -> None:
    lab = Lab(urls)
    # The first of them meet a mesh that has gone to sleep.
    await latencies_ms(lab, 20)
    pipe.send(await latencies_ms(lab, number))
    await lab.close()


def _run(urls: DatabaseUrls, number: int, pipe: Connection) -> None:
    configure_logs("error")
    asyncio.run(_tell(urls, number, pipe))


async def latencies_of_another_process_ms(urls: DatabaseUrls, number: int) -> list[float]:
    """The same by a process in which no backbone runs, so that its commits ring no bell."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(urls, number, theirs), daemon=True)
    process.start()
    try:
        assert await asyncio.to_thread(ours.poll, CHILD_WITHIN_S), "the publisher says nothing"
        waits: list[float] = ours.recv()
    finally:
        process.kill()
        process.join()
    return waits
