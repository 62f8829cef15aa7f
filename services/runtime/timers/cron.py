"""When a schedule fires: cron expressions in time zones. Pure.

Five fields, as Debian's cron reads them (library `cronsim`). When clocks change: a time of day that does not exist
(fixed minute and hour, `30 2 * * *`) fires at the first minute that does; one that comes twice fires the first
time. What counts minutes or hours (`*/15 * * * *`, `0 * * * *`) fires as time really passes, so the doubled hour
has its fires twice and the missing one none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from services.runtime import moments
from services.runtime.errors import Code, DomainError

CRON_CHARS_MAX = 100
CRON_FIELDS = 5
# What comes later than this was missed: nobody was there to fire it.
MISSED_AFTER = timedelta(minutes=1)
# Where the last fire before a moment is looked for, step by step: the denser the fires, the nearer the last.
_WINDOWS = tuple(timedelta(hours=hours) for hours in (1, 25, 24 * 8, 24 * 32, 24 * 366))


class ScheduleInvalid(DomainError):
    """An expression or a time zone cannot be read, or the expression never comes round."""

    code = Code.INVALID_ARGUMENT
    reason = "SCHEDULE_INVALID"
    state_dependent = False
    cron: str
    time_zone: str


class Missed(StrEnum):
    """What to do about missed runs."""

    SKIP = "skip"
    ONE = "one"
    BACKFILL = "backfill"


@dataclass(frozen=True, slots=True)
class Due:
    """What a schedule owes.

    Attributes:
        fires: when it should have fired, in order, UTC.
        next_at: from when on it owes more.
    """

    fires: tuple[datetime, ...]
    next_at: datetime


@dataclass(frozen=True, slots=True)
class Cron:
    """An expression in a time zone.

    Attributes:
        expression: five fields, e.g. `0 2 * * MON`.
        time_zone: name of the IANA's, e.g. `Europe/Berlin`.
    """

    expression: str
    time_zone: str

    def next_after(self, moment: datetime) -> datetime:
        """Return the first fire after a moment, in UTC.

        Raises:
            ScheduleInvalid: it cannot be read, or never comes round.
        """
        zone = self._zone()
        local = moment.astimezone(zone)
        try:
            if len(self.expression) > CRON_CHARS_MAX or len(self.expression.split()) != CRON_FIELDS:
                raise CronSimError("five fields are needed")
            # The library knows a wall clock's time, not which of two it is: what comes out may be past.
            fires = (fire.astimezone(UTC) for fire in CronSim(self.expression, local))
            found = next((fire for fire in fires if fire > moment), None)
        except (CronSimError, AssertionError, ValueError, TypeError, OverflowError) as error:
            raise self._invalid(str(error) or "it isn't valid") from error
        if found is None:
            raise self._invalid("it never occurs")
        return found

    def last_until(self, moment: datetime, since: datetime) -> datetime:
        """Return the last fire from `since`, which is one, to a moment."""
        for window in _WINDOWS:
            start = max(since, moment - window)
            last = since if start == since else None
            for fire in self._between(start, moment):
                last = fire
            if last is not None:
                return last
        # Rarer than yearly: a handful in all of time.
        return max((since, *self._between(since, moment)))

    def due(self, missed: Missed, next_at: datetime, now: datetime, limit: int) -> Due:
        """Return what is owed at `now` by a schedule whose next fire was `next_at`, at most `limit` fires."""
        if next_at > now:
            return Due((), next_at)
        if missed is Missed.BACKFILL:
            fires = [next_at]
            while len(fires) < limit and (fire := self.next_after(fires[-1])) <= now:
                fires.append(fire)
            return Due(tuple(fires), self.next_after(fires[-1]))
        last = self.last_until(now, next_at)
        after = self.next_after(now)
        if missed is Missed.ONE:
            return Due((last,), after)
        on_time = now - MISSED_AFTER
        recent = (next_at, *self._between(max(next_at, on_time), now))
        return Due(tuple(fire for fire in recent if fire > on_time), after)

    def _between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        while (after := self.next_after(after)) <= until:
            yield after

    def _zone(self) -> ZoneInfo:
        try:
            return moments.zone(self.time_zone)
        except LookupError as error:
            raise self._invalid(str(error)) from error

    def _invalid(self, why: str) -> ScheduleInvalid:
        return ScheduleInvalid(
            f"the schedule {self.expression!r} in {self.time_zone} cannot be used: {why}; write minute, hour, "
            "day of month, month and day of week, e.g. 0 2 * * MON",
            cron=self.expression[:CRON_CHARS_MAX],
            time_zone=self.time_zone[:CRON_CHARS_MAX],
        )
