"""A lab whose time moves when it is told to, with pumps in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from payments.events.v1.pricing_events_pb2 import PlanCreated

from services.runtime.clock import Clock, ManualClock
from services.runtime.context import acting
from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.timers.pump import TimerPump
from tests.support.events.lab import Lab, call

START = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


class TimerLab(Lab):
    """Sets timers, moves time and looks at what came of it."""

    def __init__(self, urls: DatabaseUrls, clock: Clock | None = None) -> None:
        super().__init__(urls, clock or ManualClock(START))

    def advance(self, **by: float) -> None:
        """Move time on: `advance(days=14)`."""
        assert isinstance(self.clock, ManualClock)
        self.clock.advance(timedelta(**by))
        self.bus.scheduled()

    def pump(self) -> TimerPump:
        """Make a pump; it does nothing until it is asked."""
        return TimerPump(self.urls.relay, bus=self.bus, clock=self.clock)

    @asynccontextmanager
    async def pumping(self, pumps: int = 1) -> AsyncIterator[list[TimerPump]]:
        """Run pumps until the block ends."""
        made = [self.pump() for _ in range(pumps)]
        for pump in made:
            await pump.start()
        try:
            yield made
        finally:
            for pump in made:
                await pump.stop()

    async def fire(self) -> int:
        """Fire all that is due now."""
        pump = self.pump()
        try:
            return await pump.fire_due()
        finally:
            await pump.stop()

    async def schedule(self, tenant: str, key: str, version: int = 1, **after: float) -> str:
        """Set a timer that becomes `plan.created` of this version: `schedule(t, "k", days=14)`."""
        with acting(call(tenant)):
            async with self.database.unit_of_work("lab.schedule") as work:
                due_at = work.now + timedelta(**after)
                payload = PlanCreated(plan_id=key, plan_version=version)
                return await work.schedule(payload, due_at, key=key)

    async def cancel(self, tenant: str, *keys: str) -> int:
        """Cancel timers."""
        with acting(call(tenant)):
            async with self.database.unit_of_work("lab.cancel") as work:
                return await work.cancel_timers(*keys)

    async def log(self, tenant: str) -> list[dict[str, Any]]:
        """Return a tenant's events as the log holds them, in order."""
        return await self.rows("SELECT * FROM mesh.event WHERE tenant_id = %s ORDER BY seq", tenant)

    async def versions(self, tenant: str) -> list[tuple[str, int]]:
        """Return key and version of a tenant's `plan.created` events, in order."""
        return [
            (row["key"], PlanCreated.FromString(bytes(row["payload"])).plan_version)
            for row in await self.log(tenant)
        ]
