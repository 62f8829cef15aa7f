"""Events to come: timers that wait, and schedules that tenants put."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.events.app.publisher import Publisher
from services.events.domain.outside import Incoming, Sound
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import DomainError, NotFound
from services.runtime.outbox.subjects import with_version
from services.runtime.timers import schedules
from services.runtime.timers import store as timers
from services.runtime.timers.cron import Missed
from services.runtime.timers.schedules import Schedule
from services.runtime.timers.store import Timer


@dataclass(frozen=True, slots=True)
class PutSchedule:
    """A schedule to be put, under the name that is the event's id.

    Attributes:
        event: what `Timers.check` said of its event.
    """

    event: Sound | DomainError
    cron: str
    time_zone: str
    missed: Missed


class Timers:
    """A tenant's timers and schedules."""

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self._database = database
        self._publisher = publisher

    async def page(
        self, prefix: str, due_before: datetime | None, after: str, limit: int
    ) -> list[Timer]:
        """Return the first timers behind a key, of those whose keys start with `prefix`."""
        async with self._database.read() as work:
            return await timers.page(work, prefix, due_before, after, limit)

    async def cancel(self, timer_id: str, work: UnitOfWork) -> Timer:
        """Take a timer back. Raises NotFound."""
        timer = await timers.cancel_by_id(work, timer_id)
        if timer is None:
            raise NotFound("timer", timer_id)
        said = {"key": timer.key, "subject": timer.subject, "due_at": timer.due_at.isoformat()}
        work.audit("timer", timer_id, said, None)
        return timer

    async def check(self, event: Incoming) -> Sound | DomainError:
        """Check the event of a schedule by its type, as Publisher does; returns why it cannot be published."""
        (found,) = await self._publisher.check([event])
        if isinstance(found, Sound):
            return found
        assert found.error is not None
        return found.error

    async def put_schedule(self, command: PutSchedule, work: UnitOfWork) -> Schedule:
        """Put a schedule.

        Raises:
            ScheduleInvalid: expression or time zone cannot be used.
            SchedulesFull: the tenant has as many as it may.
            DomainError: the event could not be published, as Publisher says.
        """
        event = command.event
        if isinstance(event, DomainError):
            raise event
        sent = event.incoming
        name = sent.event_id
        before = await schedules.find(work, name)
        stands = await schedules.put(
            work,
            Schedule(
                name=name,
                cron=command.cron,
                time_zone=command.time_zone,
                missed=command.missed,
                subject=with_version(sent.subject, sent.version),
                schema_version=sent.version,
                event_key=event.key,
                message_name="",
                payload=sent.payload,
            ),
        )
        work.audit("schedule", name, _said(before) if before else None, _said(stands))
        return stands

    async def schedules(self, after: str, limit: int) -> list[Schedule]:
        """Return the first schedules behind a name."""
        async with self._database.read() as work:
            return await schedules.page(work, after, limit)

    async def delete_schedule(self, name: str, work: UnitOfWork) -> Schedule:
        """End a schedule. Raises NotFound."""
        stood = await schedules.find(work, name)
        if stood is None or not await schedules.delete(work, name):
            raise NotFound("schedule", name)
        work.audit("schedule", name, _said(stood), None)
        return stood


def _said(schedule: Schedule) -> dict[str, object]:
    return {
        "cron": schedule.cron,
        "time_zone": schedule.time_zone,
        "missed": str(schedule.missed),
        "subject": schedule.subject,
        "key": schedule.event_key,
    }
