"""Every statement about the health of processors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta

from services.orchestration.domain import breaker
from services.orchestration.domain.health import Fared
from services.orchestration.domain.payment import AttemptStatus
from services.orchestration.domain.routing import Health, Snapshot
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.orchestration", "queries.sql")


# Faults that are older open no breaker.
_LOOKED_BACK = 2 * breaker.WAIT_MAX


async def snapshot(
    work: UnitOfWork, watched: Mapping[int, Collection[str]], breakers: Collection[str]
) -> Snapshot:
    """Return what is known of processors.

    Args:
        work: reads it.
        watched: processors whose success counts, by how far back is looked, in seconds.
        breakers: processors whose circuit breakers count.
    """
    seen: dict[tuple[str, int], Health] = {}
    for window_s, processors in sorted(watched.items()):
        asked = {
            "tenant_id": work.tenant_id,
            "processors": sorted(processors),
            "since_at": work.now - timedelta(seconds=window_s),
        }
        for row in await work.execute(_SQL["health"], asked):
            seen[row.processor_id, window_s] = Health(row.done, row.failed)
    return Snapshot(seen, await _resting(work, breakers))


async def fared(work: UnitOfWork, processor_id: str, window: timedelta) -> Fared:
    """Return how a processor has fared, by its attempts of so long."""
    asked = {
        "tenant_id": work.tenant_id,
        "processor_id": processor_id,
        "since_at": work.now - window,
    }
    row = (await work.execute(_SQL["processor_health"], asked)).one()
    recent = await _recent(work, [processor_id])
    return Fared(
        processor_id=processor_id,
        window=window,
        attempts=row.attempts,
        done=row.done,
        failed=row.failed,
        latency_p50_ms=row.latency_p50_ms or 0,
        latency_p95_ms=row.latency_p95_ms or 0,
        last_at=row.last_at,
        breaker=breaker.standing(processor_id, recent.get(processor_id, []), work.now),
    )


async def is_known(work: UnitOfWork, processor_id: str) -> bool:
    """Say whether a payment has tried a processor, or a configuration brings it."""
    asked = {"tenant_id": work.tenant_id, "processor_id": processor_id}
    return bool((await work.execute(_SQL["is_known_processor"], asked)).scalar_one())


async def _resting(work: UnitOfWork, processors: Collection[str]) -> frozenset[str]:
    if not processors:
        return frozenset()
    recent = await _recent(work, processors)
    return frozenset(each for each, last in recent.items() if breaker.rests(each, last, work.now))


async def _recent(work: UnitOfWork, processors: Collection[str]) -> dict[str, list[breaker.Recent]]:
    asked = {
        "tenant_id": work.tenant_id,
        "processors": sorted(processors),
        "since_at": work.now - _LOOKED_BACK,
        "tried_since_at": work.now - breaker.PROBE_MAX,
        "recent_max": breaker.RECENT_MAX,
    }
    recent: dict[str, list[breaker.Recent]] = {}
    for row in await work.execute(_SQL["recent_attempts"], asked):
        found = breaker.Recent(AttemptStatus(row.status), row.created_at)
        recent.setdefault(row.processor_id, []).append(found)
    return recent
