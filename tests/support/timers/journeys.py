"""Journeys on a mesh that runs elsewhere, started as a service of its would: no service of the release runs one."""

from __future__ import annotations

import asyncio

from services.runtime.clock import SystemClock
from services.runtime.context import acting
from services.runtime.database import Database
from services.runtime.journeys.runner import PostgresJourneys
from tests.support.events.lab import call
from tests.support.timers.seasoning import seasoning


def start_seasoning(
    database_url: str, tenant: str, journey_id: str, *, cancelled: str = ""
) -> None:
    """Start a seasoning; with a reason in `cancelled` cancel it at once."""
    # With a loop of its own, that no other test finds gone.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(_start(database_url, tenant, journey_id, cancelled))


async def _start(database_url: str, tenant: str, journey_id: str, cancelled: str) -> None:
    database = Database(database_url, SystemClock())
    journeys = PostgresJourneys([seasoning()])
    try:
        with acting(call(tenant)):
            async with database.unit_of_work("lab.start") as work:
                data = {"payment_id": journey_id, "reminders": 0}
                assert await journeys.start(work, "seasoning", journey_id, data)
                if cancelled:
                    assert await journeys.cancel(work, "seasoning", journey_id, cancelled)
    finally:
        await database.close()
