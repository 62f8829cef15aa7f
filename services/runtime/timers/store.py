"""Listing timers and cancelling one by its id, in the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.runtime.timers", "queries.sql")
_EVER = datetime(9999, 12, 31, tzinfo=UTC)
# Sorts behind every key: the last code point that Postgres stores.
_LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Timer:
    """A pending timer.

    Attributes:
        timer_id: id of the timer, and of the event that it becomes.
        key: what it is replaced and cancelled by.
        due_at: when it becomes an event.
        subject: what the event will be called.
        schema_version: version of the event's payload.
        event_key: what the event will be ordered by.
        correlation_id: chain that it belongs to.
        causation_id: event or call that set it.
        created_at: when it was set.
    """

    timer_id: str
    key: str
    due_at: datetime
    subject: str
    schema_version: int
    event_key: str
    correlation_id: str
    causation_id: str
    created_at: datetime


async def cancel_by_id(work: UnitOfWork, timer_id: str) -> Timer | None:
    """Cancel the timer of an id and return it; None when there is none."""
    asked = {"tenant_id": work.tenant_id, "timer_id": timer_id}
    row = (await work.execute(_SQL["cancel_timer_by_id"], asked)).mapping()
    return Timer(**row) if row else None


async def page(
    work: UnitOfWork, prefix: str, due_before: datetime | None, after: str, limit: int
) -> list[Timer]:
    """Return the first timers behind a key, of those whose keys start with `prefix`."""
    asked: dict[str, Any] = {
        "tenant_id": work.tenant_id,
        "after": after,
        # Ranges, because LIKE uses no index under row-level security.
        "first": prefix,
        "end": prefix + _LAST,
        "due_before": due_before or _EVER,
        "limit": limit,
    }
    rows = await work.execute(_SQL["list_timers"], asked)
    return [Timer(**row) for row in rows.mappings()]
