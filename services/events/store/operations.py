"""Every statement about consumers, dead letters and replays."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from services.events.domain.operations import Consumer, DeadLetter, FailingKey, Replay
from services.runtime.context import current
from services.runtime.database import UnitOfWork
from services.runtime.outbox.subjects import Pattern
from services.runtime.postgres import sql

COUNT_MAX = 100_000
FAILING_KEYS_MAX = 20

_SQL = sql.load("services.events", "queries.sql")


async def consumers(work: UnitOfWork, after: str, limit: int) -> list[Consumer]:
    """Return the first consumers behind a name, with their failing keys."""
    asked = {
        "tenant_id": work.tenant_id,
        "after": after,
        "limit": limit,
        "count_max": COUNT_MAX,
        "keys_max": FAILING_KEYS_MAX,
    }
    found = [dict(row) for row in (await work.execute(_SQL["consumers"], asked)).mappings()]
    names = [row["name"] for row in found]
    failing: dict[str, list[FailingKey]] = {name: [] for name in names}
    rows = await work.execute(_SQL["failing_keys"], {**asked, "consumers": names})
    for row in rows.mappings():
        values = dict(row)
        failing[values.pop("consumer")].append(FailingKey(**values))
    return [Consumer(**row, failing_keys=failing[row["name"]]) for row in found]


async def consumer_is_replayable(work: UnitOfWork, consumer: str) -> bool | None:
    """Return whether periods may be replayed to a consumer; None when there is no such consumer."""
    result = await work.execute(_SQL["consumer"], {"consumer": consumer})
    found = result.scalar()
    return None if found is None else bool(found)


async def dead_letters(
    work: UnitOfWork, consumer: str, after: tuple[str, int, int], limit: int
) -> list[DeadLetter]:
    """Return the first letters behind (consumer, position, generation); of one consumer or of all."""
    name, position, generation = after
    asked = {
        "tenant_id": work.tenant_id,
        "consumer": consumer or None,
        "after_consumer": name,
        "after_position": position,
        "after_generation": generation,
        "limit": limit,
    }
    rows = await work.execute(_SQL["dead_letters"], asked)
    return [DeadLetter(**row) for row in rows.mappings()]


async def replay_dead_letters(
    work: UnitOfWork, consumer: str, key: str, event_ids: Sequence[str], limit: int
) -> tuple[int, bool]:
    """Bring letters back into their lanes; returns how many, and whether more are left."""
    asked = {
        "consumer": consumer,
        "key": key or None,
        "event_ids": list(event_ids) or None,
        "limit": limit,
    }
    row = (await work.execute(_SQL["replay_dead_letters"], asked)).one()
    return int(row.replayed), bool(row.more)


async def begin_replay(
    work: UnitOfWork, consumer: str, start_at: datetime, end_at: datetime, subjects: Sequence[str]
) -> Replay:
    """Store a replay under the next generation of its consumer."""
    asked = {
        "tenant_id": work.tenant_id,
        "consumer": consumer,
        "start_at": start_at,
        "end_at": end_at,
        "subjects": list(subjects),
        "requested_by": current().principal_id,
        "now": work.now,
    }
    await work.execute(_SQL["hold_generations"], asked)
    return _replay((await work.execute(_SQL["begin_replay"], asked)).mappings()[0])


async def hold_replay(work: UnitOfWork, consumer: str, generation: int) -> Replay | None:
    """Return a replay and keep others from going on with it."""
    asked = {"tenant_id": work.tenant_id, "consumer": consumer, "generation": generation}
    row = (await work.execute(_SQL["hold_replay"], asked)).mapping()
    return None if row is None else _replay(row)


async def advance(work: UnitOfWork, replay: Replay, limit: int) -> tuple[int, Replay]:
    """Go through the next places of the feed; returns how many events were put into the queue."""
    patterns = [Pattern.parse(subject) for subject in replay.subjects]
    asked: dict[str, Any] = {
        "tenant_id": work.tenant_id,
        "consumer": replay.consumer,
        "generation": replay.generation,
        "start_at": replay.start_at,
        "end_at": replay.end_at,
        "texts": [pattern.text for pattern in patterns],
        "prefixes": [pattern.is_prefix for pattern in patterns],
        "after_position": replay.after_position,
        "end_position": replay.end_position,
        "limit": limit,
    }
    page = (await work.execute(_SQL["replay_page"], asked)).one()
    after = page.last_position if page.more else replay.end_position
    moved = {**asked, "after_position": after, "replayed": page.replayed, "now": work.now}
    row = (await work.execute(_SQL["advance_replay"], moved)).mappings()[0]
    return int(page.replayed), _replay(row)


def _replay(row: Any) -> Replay:
    return Replay(**row)
