"""How long it takes from a commit that published to the commit of the effect, by the server's own record of both.

The server must keep it (`track_commit_timestamp`). Nobody looks while it happens: a process that polls takes the
processor from those that it looks at.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
from multiprocessing.process import BaseProcess

from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.telemetry import configure_logs
from tests.support.events.lab import Lab, new_tenant

PAUSE_SECONDS = 0.02
CHILD_WITHIN_S = 120.0

_WAITS = """
SELECT (extract(epoch FROM pg_xact_commit_timestamp(f.xmin) - pg_xact_commit_timestamp(e.xid::xid))
        * 1000)::float8 AS ms
  FROM probe.effect f JOIN mesh.event e ON e.tenant_id = f.tenant_id AND e.event_id = f.event_id
 WHERE f.tenant_id = %s ORDER BY 1
"""


async def publish_slowly(lab: Lab, tenant: str, number: int) -> None:
    """Publish one event after the other, about fifty a second, in no step with anything that polls."""
    dice = random.Random(number)
    for version in range(number):
        await lab.publish(tenant, f"k{version % 7}", version)
        await asyncio.sleep(PAUSE_SECONDS * (0.5 + dice.random()))


async def publish_elsewhere(urls: DatabaseUrls, tenant: str, number: int) -> None:
    """The same by a process in which no backbone runs, so that its commits ring no bell."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_run, args=(urls, tenant, number), daemon=True)
    process.start()
    try:
        await asyncio.to_thread(process.join, CHILD_WITHIN_S)
        assert process.exitcode == 0
    finally:
        _end(process)


async def latencies_ms(lab: Lab, tenant: str) -> list[float]:
    """From each event's commit to that of its effect, sorted."""
    return [row["ms"] for row in await lab.rows(_WAITS, tenant)]


def _run(urls: DatabaseUrls, tenant: str, number: int) -> None:
    configure_logs("error")
    asyncio.run(_publish(urls, tenant, number))


async def _publish(urls: DatabaseUrls, tenant: str, number: int) -> None:
    lab = Lab(urls)
    # The first meet a mesh that has gone to sleep.
    await publish_slowly(lab, new_tenant(), 20)
    await publish_slowly(lab, tenant, number)
    await lab.close()


def _end(process: BaseProcess) -> None:
    if process.is_alive():
        process.kill()
        process.join()
