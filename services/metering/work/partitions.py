"""Makes the partitions of usage of the months to come, so that no month begins without one; tells what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from services.metering.domain import measures
from services.metering.domain.storage import Storage
from services.metering.store import partitions as store
from services.runtime.database import Database
from services.runtime.loops import Loop
from services.runtime.telemetry import Telemetry

# This month and three more: a process may be away for long, and a lock may be held for long.
MONTHS = 4
REST_SECONDS = 900.0

Readings = Iterable[tuple[float, Mapping[str, str]]]


class Partitions:
    """Makes them from time to time; any number of processes may.

    Args:
        telemetry: told what is stored.
    """

    def __init__(self, database: Database, telemetry: Telemetry) -> None:
        self._database = database
        self._storage: Storage | None = None
        telemetry.observe(measures.USAGE_BYTES.name, self._bytes)
        telemetry.observe(
            measures.USAGE_PARTITIONS.name, lambda: self._read(lambda seen: seen.partitions)
        )
        telemetry.observe(
            measures.USAGE_AHEAD.name, lambda: self._read(lambda seen: seen.ahead_seconds)
        )
        telemetry.observe(measures.USAGE_STRAYS.name, lambda: self._read(lambda seen: seen.strays))
        self.loop = Loop(
            "partitions of usage",
            self.make,
            conditions=database.conditions,
            rest_seconds=REST_SECONDS,
            writes=True,
        )

    async def make(self) -> None:
        """Make those that are missing, and look at what is stored."""
        async with self._database.across_tenants("metering.make_months") as work:
            await store.make_months(work, MONTHS)
            self._storage = await store.storage(work)

    async def start(self) -> None:
        """Begin."""
        self.loop.start()

    async def stop(self) -> None:
        """End."""
        await self.loop.stop()

    def _bytes(self) -> Readings:
        seen = self._storage
        if seen is None:
            return []
        parts = {"events": seen.event_bytes, "ids": seen.id_bytes}
        return [(float(size), {"part": part}) for part, size in parts.items()]

    def _read(self, value: Callable[[Storage], float]) -> Readings:
        return [] if self._storage is None else [(float(value(self._storage)), {})]
