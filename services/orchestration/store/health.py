"""Every statement about the health of processors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.orchestration.domain import breaker
from services.orchestration.domain.health import Fared
from services.orchestration.domain.payment import AttemptStatus
from services.orchestration.domain.routing import Health, Snapshot
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql
from services.runtime.postgres.session import Rows

_SQL = sql.load("services.orchestration", "queries.sql")


# Faults that are older open no breaker.
_LOOKED_BACK = 2 * breaker.WAIT_MAX


@dataclass(frozen=True, slots=True)
class Look:
    """What is asked to know how processors fare.

    Attributes:
        windows_s: how far back each statement looks, but for the last one, of breakers.
        queries: statements with their values, to be run together.
    """

    windows_s: tuple[int, ...]
    queries: tuple[tuple[str, dict[str, Any]], ...]
    now: datetime

    def seen(self, answers: Sequence[Rows]) -> Snapshot:
        """Return what the answers to the queries say."""
        seen: dict[tuple[str, int], Health] = {}
        for window_s, rows in zip(self.windows_s, answers, strict=False):
            for row in rows:
                seen[row.processor_id, window_s] = Health(row.done, row.failed)
        if len(self.queries) == len(self.windows_s):
            return Snapshot(seen)
        recent = _by_processor(answers[-1])
        resting = (each for each, last in recent.items() if breaker.rests(each, last, self.now))
        return Snapshot(seen, frozenset(resting))


def look(
    tenant_id: str,
    now: datetime,
    owner_of: Callable[[str], str],
    watched: Mapping[int, Collection[str]],
    breakers: Collection[str],
) -> Look:
    """Say what is to be asked.

    Args:
        tenant_id: whose processors.
        now: business time.
        owner_of: tells the merchant whose own a processor is; empty for one of every merchant.
        watched: processors whose success counts, by how far back is looked, in seconds.
        breakers: processors whose circuit breakers count.
    """
    windows_s = tuple(sorted(watched))
    queries = [
        (
            _SQL["health"],
            {
                **_named(tenant_id, owner_of, watched[window_s]),
                "since_at": now - timedelta(seconds=window_s),
            },
        )
        for window_s in windows_s
    ]
    if breakers:
        queries.append((_SQL["recent_attempts"], _recently(tenant_id, now, owner_of, breakers)))
    return Look(windows_s, tuple(queries), now)


async def snapshot(
    work: UnitOfWork,
    owner_of: Callable[[str], str],
    watched: Mapping[int, Collection[str]],
    breakers: Collection[str],
) -> Snapshot:
    """Return what is known of processors; see `look`."""
    looked = look(work.tenant_id, work.now, owner_of, watched, breakers)
    answers = await work.execute_all(*looked.queries) if looked.queries else []
    return looked.seen(answers)


async def fared(work: UnitOfWork, owner: str, processor_id: str, window: timedelta) -> Fared:
    """Return how a processor of a merchant's own, or of all (empty), has fared, by its attempts of so long."""
    asked = {
        "tenant_id": work.tenant_id,
        "owner": owner,
        "processor_id": processor_id,
        "since_at": work.now - window,
    }
    row = (await work.execute(_SQL["processor_health"], asked)).one()
    asked = _recently(work.tenant_id, work.now, lambda _: owner, [processor_id])
    recent = _by_processor(await work.execute(_SQL["recent_attempts"], asked))
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


async def is_known(work: UnitOfWork, owner: str, processor_id: str) -> bool:
    """Say whether a payment has tried a processor, or a configuration of its owner brings it."""
    asked = {"tenant_id": work.tenant_id, "owner": owner, "processor_id": processor_id}
    return bool((await work.execute(_SQL["is_known_processor"], asked)).scalar_one())


def _named(
    tenant_id: str, owner_of: Callable[[str], str], processors: Collection[str]
) -> dict[str, Any]:
    names = sorted(processors)
    owners = [owner_of(each) for each in names]
    return {"tenant_id": tenant_id, "processors": names, "owners": owners}


def _recently(
    tenant_id: str, now: datetime, owner_of: Callable[[str], str], processors: Collection[str]
) -> dict[str, Any]:
    return {
        **_named(tenant_id, owner_of, processors),
        "since_at": now - _LOOKED_BACK,
        "tried_since_at": now - breaker.PROBE_MAX,
        "recent_max": breaker.RECENT_MAX,
    }


def _by_processor(rows: Rows) -> dict[str, list[breaker.Recent]]:
    recent: dict[str, list[breaker.Recent]] = {}
    for row in rows:
        found = breaker.Recent(AttemptStatus(row.status), row.created_at)
        recent.setdefault(row.processor_id, []).append(found)
    return recent
