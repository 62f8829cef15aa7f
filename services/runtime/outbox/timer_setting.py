"""What a unit of work writes to set timers and to take them back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from google.protobuf.message import Message

from services.runtime.context import CallContext
from services.runtime.outbox import timer_event as event
from services.runtime.postgres import sql
from services.runtime.postgres.session import Call
from services.runtime.postgres.statements import statement

KEY_CHARS_MAX = 400
# Of an event to come: a pump moves many at once.
PAYLOAD_BYTES_MAX = 64 * 1024

_SQL = sql.load("services.runtime.timers", "queries.sql")
_SET = statement(_SQL["set_timer"])
_CANCEL = statement(_SQL["cancel_timers"])


def set_timer(
    context: CallContext, now: datetime, timer_id: str, payload: Message, due_at: datetime, key: str
) -> Call:
    """Return what sets a timer; without a key it is known by its id only.

    Raises:
        TypeError: the message is no event payload.
        ValueError: the time has no zone, or a key is too long.
        EventTooLarge: the payload weighs more than 64 KiB.
    """
    key = key or timer_id
    if due_at.tzinfo is None or len(key) > KEY_CHARS_MAX:
        raise ValueError(
            f"a timer needs a time with a time zone and a key of up to {KEY_CHARS_MAX} characters"
        )
    values = {
        **event.columns_of(payload, PAYLOAD_BYTES_MAX),
        "tenant_id": context.tenant_id,
        "key": key,
        "timer_id": timer_id,
        "due_at": due_at,
        "correlation_id": context.correlation_id,
        "causation_id": context.causation_id,
        "traceparent": context.traceparent,
        "created_at": now,
    }
    return Call(_SET, values)


def cancel_timers(context: CallContext, keys: Sequence[str]) -> Call:
    """Return what takes the timers of some keys back; its row count is how many there were."""
    return Call(_CANCEL, {"tenant_id": context.tenant_id, "keys": list(keys)})
