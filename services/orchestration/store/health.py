"""Every statement about the health of processors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta

from services.orchestration.domain.routing import Health, Snapshot
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.orchestration", "queries.sql")


async def snapshot(work: UnitOfWork, watched: Mapping[int, Collection[str]]) -> Snapshot:
    """Return what was lately seen of processors, by how far back is looked, in seconds."""
    seen: dict[tuple[str, int], Health] = {}
    for window_s, processors in sorted(watched.items()):
        asked = {
            "tenant_id": work.tenant_id,
            "processors": sorted(processors),
            "since_at": work.now - timedelta(seconds=window_s),
        }
        for row in await work.execute(_SQL["health"], asked):
            seen[row.processor_id, window_s] = Health(row.done, row.failed)
    return Snapshot(seen)
