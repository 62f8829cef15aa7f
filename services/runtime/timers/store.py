"""Setting, cancelling and listing timers, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from services.runtime import sql
from services.runtime.ids import new_ulid
from services.runtime.timers import event

if TYPE_CHECKING:
    from services.runtime.context import CallContext
    from services.runtime.database import UnitOfWork

KEY_CHARS_MAX = 400
# Of an event to come: a pump moves many at once.
PAYLOAD_BYTES_MAX = 64 * 1024

_SQL = sql.load("services.runtime.timers", "queries.sql")
_EVER = datetime(9999, 12, 31, tzinfo=UTC)
# Sorts behind every key: the last code point that Postgres stores.
_LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Timer:
    """An event that is yet to come.

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


async def schedule(
    work: UnitOfWork, call: CallContext, payload: Message, due_at: datetime, key: str
) -> str:
    """Set a timer; see `UnitOfWork.schedule`."""
    timer_id = new_ulid()
    key = key or timer_id
    if due_at.tzinfo is None or len(key) > KEY_CHARS_MAX:
        raise ValueError(
            f"a timer needs a time with a zone and a key of up to {KEY_CHARS_MAX} characters"
        )
    columns = event.columns_of(payload, PAYLOAD_BYTES_MAX)
    await work.execute(
        _SQL["set_timer"],
        {
            **columns,
            "tenant_id": work.tenant_id,
            "key": key,
            "timer_id": timer_id,
            "due_at": due_at,
            "correlation_id": call.correlation_id,
            "causation_id": call.causation_id,
            "traceparent": call.traceparent,
            "created_at": work.now,
        },
    )
    return timer_id


async def cancel(work: UnitOfWork, keys: Sequence[str]) -> int:
    """Cancel timers; see `UnitOfWork.cancel_timers`."""
    asked = {"tenant_id": work.tenant_id, "keys": list(keys)}
    return (await work.execute(_SQL["cancel_timers"], asked)).rowcount


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
