"""Every statement of the feed's reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from services.events.domain.feed import FeedEvent, Progress
from services.runtime.database import UnitOfWork
from services.runtime.outbox.subjects import Pattern
from services.runtime.postgres import sql

# A catalogue holds some dozens of subjects; more under one prefix means that somebody makes them up.
SUBJECTS_MAX = 1000
# Payloads of one page: past it the page ends, so that any client can take it (4 MiB a message, unless told otherwise).
PAGE_BYTES_MAX = 2 * 1024 * 1024

_SQL = sql.load("services.events", "queries.sql")


async def last_position(work: UnitOfWork) -> int:
    """Return the place of the tenant's newest event, 0 without one."""
    result = await work.execute(_SQL["last_position"], {"tenant_id": work.tenant_id})
    return int(result.scalar_one())


async def page(
    work: UnitOfWork, patterns: Sequence[Pattern], after: int, limit: int
) -> tuple[list[FeedEvent], bool]:
    """Return the first events behind a place, of some subjects or (without patterns) of all.

    Says too whether the page ended because of its weight.
    """
    asked: dict[str, Any] = {"tenant_id": work.tenant_id, "after": after, "limit": limit}
    if patterns:
        asked["subjects"] = sorted(await _subjects(work, patterns))
    query = _SQL["page_of_subjects" if patterns else "page_of_all"]
    positions = list((await work.execute(query, asked)).scalars())
    if not positions:
        return [], False
    wanted = {
        "tenant_id": work.tenant_id,
        "positions": positions,
        "bytes_max": PAGE_BYTES_MAX,
    }
    found = [_event(row) for row in (await work.execute(_SQL["events_at"], wanted)).mappings()]
    return found, len(found) < len(positions)


async def _subjects(work: UnitOfWork, patterns: Iterable[Pattern]) -> set[str]:
    """Return the subjects that the patterns name, prefixes spelled out."""
    subjects: set[str] = set()
    for pattern in patterns:
        if not pattern.is_prefix:
            subjects.add(pattern.text)
            continue
        first, end = pattern.bounds()
        bounds = {"tenant_id": work.tenant_id, "first": first, "end": end, "limit": SUBJECTS_MAX}
        subjects.update((await work.execute(_SQL["subjects_between"], bounds)).scalars())
    return subjects


def _event(row: Any) -> FeedEvent:
    values = dict(row)
    progress = Progress(
        **{name: values.pop(name) for name in ("waiting", "dead", "tries", "next_at", "last_error")}
    )
    return FeedEvent(**values, progress=progress)
