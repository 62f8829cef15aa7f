"""Schedules: an event again and again, by a cron expression in a time zone. In the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message

from services.runtime.database import UnitOfWork
from services.runtime.errors import Code, DomainError
from services.runtime.outbox import timer_event as event
from services.runtime.postgres import sql
from services.runtime.timers.cron import Cron, Missed

SCHEDULES_MAX = 1000
# Of the event of a schedule, which is published again and again.
PAYLOAD_BYTES_MAX = 64 * 1024

_SQL = sql.load("services.runtime.timers", "queries.sql")
_EVER = datetime(9999, 12, 31, tzinfo=UTC)


class SchedulesFull(DomainError):
    """A tenant has as many schedules as it may."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "SCHEDULES_FULL"
    state_dependent = True
    schedules_max: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """An event that comes again and again.

    Attributes:
        name: what a tenant calls it; the same name again replaces it.
        cron: minute, hour, day of month, month, day of week.
        time_zone: where that is meant, e.g. `Europe/Berlin`.
        missed: what becomes of the fires for which nobody was there.
        subject: what its events are called.
        schema_version: version of their payload.
        event_key: what they are ordered by.
        message_name: their payload's message; empty for JSON of an outside type.
        payload: the payload of each.
        next_at: when it fires next; None until it is put.
        last_at: when it fired last; None before its first.
        updated_at: when it was put last.
    """

    name: str
    cron: str
    time_zone: str
    missed: Missed
    subject: str
    schema_version: int
    event_key: str
    message_name: str
    payload: bytes
    next_at: datetime | None = None
    last_at: datetime | None = None
    updated_at: datetime | None = None

    @classmethod
    def of(
        cls, name: str, cron: str, time_zone: str, payload: Message, missed: Missed = Missed.ONE
    ) -> Schedule:
        """Make the schedule of an event of ours."""
        columns: dict[str, Any] = event.columns_of(payload, PAYLOAD_BYTES_MAX)
        return cls(name, cron, time_zone, missed, **columns)


async def put(work: UnitOfWork, schedule: Schedule) -> Schedule:
    """Store a schedule, or change the one of its name; returns it as it stands.

    One whose expression and time zone stay keeps what it owes; one that they change starts anew from now.

    Raises:
        ScheduleInvalid: expression or time zone cannot be used.
        SchedulesFull: the tenant has 1,000 others.
    """
    next_at = Cron(schedule.cron, schedule.time_zone).next_after(work.now)
    tenant = {"tenant_id": work.tenant_id}
    await work.execute(_SQL["hold_schedules"], tenant)
    if await find(work, schedule.name) is None:
        count = (await work.execute(_SQL["count_schedules"], tenant)).scalar_one()
        if count >= SCHEDULES_MAX:
            raise SchedulesFull(
                f"there are already {SCHEDULES_MAX} schedules; delete one first",
                schedules_max=SCHEDULES_MAX,
            )
    await work.execute(
        _SQL["put_schedule"],
        {
            **tenant,
            "name": schedule.name,
            "cron": schedule.cron,
            "time_zone": schedule.time_zone,
            "missed": schedule.missed,
            "subject": schedule.subject,
            "schema_version": schedule.schema_version,
            "event_key": schedule.event_key,
            "message_name": schedule.message_name,
            "payload": schedule.payload,
            "next_at": next_at,
            "now": work.now,
        },
    )
    work.scheduled = True
    stands = await find(work, schedule.name)
    assert stands is not None, "it was just put"
    return stands


async def find(work: UnitOfWork, name: str) -> Schedule | None:
    """Return a schedule, or None."""
    asked = {"tenant_id": work.tenant_id, "name": name}
    row = (await work.execute(_SQL["get_schedule"], asked)).mapping()
    return _schedule(row) if row else None


async def page(work: UnitOfWork, after: str, limit: int) -> list[Schedule]:
    """Return the first schedules behind a name."""
    asked = {"tenant_id": work.tenant_id, "after": after, "limit": limit}
    rows = await work.execute(_SQL["get_schedules"], asked)
    return [_schedule(row) for row in rows.mappings()]


async def delete(work: UnitOfWork, name: str) -> bool:
    """Delete a schedule; False when there is none. What it fired stays."""
    asked = {"tenant_id": work.tenant_id, "name": name}
    if (await work.execute(_SQL["delete_schedule"], asked)).first() is None:
        return False
    # Nobody would forget its guards later, and one of its name that comes after it starts from now.
    await work.execute(_SQL["forget_fires"], {**asked, "before": _EVER})
    return True


def _schedule(row: Mapping[Any, Any]) -> Schedule:
    values = {str(name): value for name, value in row.items()}
    return Schedule(**{**values, "missed": Missed(values["missed"])})
