"""Maintenance of the event log: creates partitions ahead, drops old ones, and checks what blocks this.

Every process runs it; locks inside the database's functions let one of them work. Partitions are made and dropped by
functions that run as their owner, because the relay may neither create nor drop a table.

A lock that isn't granted within a fraction of a second is given up and requested again in the next round: the
statements of producers queue behind a waiting exclusive lock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psycopg
import structlog

from services.runtime.events import alarms, relay
from services.runtime.events.alarms import Alarm, Condition
from services.runtime.events.relay import Relay
from services.runtime.loops import Backoff, Loop
from services.runtime.postgres.session import Session
from services.runtime.telemetry import Silent, Telemetry

DAYS_AHEAD = 7
RETENTION_DAYS = 90
CHECK_SECONDS = 30.0
ROUND_SECONDS = 3600.0
# A round that found a lock taken is made again so soon.
RETRY_SECONDS = 30.0
STATEMENT_MS_MAX = 60_000
# Steps of letting days go in one round: a hundred times 20,000 rows of the feed.
STEPS_MAX = 100
STOP_SECONDS_MAX = 15.0

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Round:
    """What a round did.

    Attributes:
        made: days that got their partition.
        skipped: days whose events lie in the default partition, too many to move.
        dropped: partitions that are gone.
        held: the oldest day that is to go and cannot yet, and why; empty when there is none.
        busy: another process, or a lock, was in the way: try again soon.
    """

    made: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    held: str = ""
    busy: bool = False


class Maintenance:
    """Makes days, lets days go and sounds alarms.

    Args:
        relay_: opens its sessions.
        role: the services' role, whose sessions are looked at.
        retention_days: days that an event is kept at least; 0 keeps all.
        telemetry: where readings go.
        now: the time of day by which days are made and go. Without it the database's, which events were recorded
            by: a machine whose clock is months ahead would else let all of them go.
    """

    def __init__(
        self,
        relay_: Relay,
        *,
        retention_days: int = RETENTION_DAYS,
        telemetry: Telemetry | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._relay = relay_
        self._retention_days = retention_days
        self._telemetry = telemetry or Silent()
        self._now = now
        self._role = ""
        self._round_at = time.monotonic()
        self._alarms: dict[str, Alarm] = {}
        self._growth = alarms.Growth()
        self._ticked_at = -math.inf
        self.loop = Loop(
            "maintenance of the event log",
            self._look,
            conditions=relay_.conditions,
            rest_seconds=CHECK_SECONDS,
            backoff=Backoff(1.0, CHECK_SECONDS),
            stop_seconds=STOP_SECONDS_MAX,
        )

    @property
    def tick_age_seconds(self) -> float:
        """Seconds since the last tick that was seen, of whatever process; infinite before the first look."""
        return time.monotonic() - self._ticked_at

    def start(self, role: str) -> None:
        """Begin; `role` is the services'."""
        self._role = role
        self.loop.start()

    async def _look(self) -> None:
        # Nothing is ever half done: every step is a transaction.
        async with await self._relay.control(statement_ms=STATEMENT_MS_MAX) as session:
            if time.monotonic() >= self._round_at:
                done = await self.round(session)
                again_s = RETRY_SECONDS if done.busy else ROUND_SECONDS
                self._round_at = time.monotonic() + again_s
            await self.check(session, self._role)

    async def prepare(self, session: Session) -> None:
        """Create today's partition before the first event, in case the maintenance didn't run for a week."""
        try:
            await self.make_days(session, Round())
        except psycopg.Error as error:
            # The default partition takes what comes; the rounds try again.
            _log.warning("days of the event log not made", error=str(error))

    async def round(self, session: Session) -> Round:
        """Make the days to come, then let the old ones go."""
        done = Round()
        await self.make_days(session, done)
        await self._retire(session, done)
        if done.made or done.dropped:
            _log.info("days of the event log", made=done.made, dropped=done.dropped)
        if done.skipped or done.held:
            _log.warning("days of the event log", skipped=done.skipped, held=done.held)
        return done

    async def make_days(self, session: Session, done: Round) -> None:
        """Make the days to come, and those of which something lies in the default partition."""
        today = (await self._time_of_day(session)).astimezone(UTC).date()
        strays = await relay.row(session, "strays")
        assert strays is not None
        days = {today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)}
        for day in sorted(days.union(strays["days"])):
            if self.loop.is_stopping():
                return
            found = await relay.row(session, "make_day", day=day)
            assert found is not None
            match found["result"]:
                case "made" | "moved":
                    done.made.append(day.isoformat())
                case "skipped":
                    done.skipped.append(day.isoformat())
                case "busy":
                    done.busy = True

    async def _retire(self, session: Session, done: Round) -> None:
        if not self._retention_days:
            return
        before = await self._time_of_day(session) - timedelta(days=self._retention_days)
        for _ in range(STEPS_MAX):
            if self.loop.is_stopping():
                return
            found = await relay.row(session, "retire", before=before)
            assert found is not None
            match found["step"]:
                case "feed":
                    continue
                case "dropped":
                    done.dropped.append(found["name"])
                case "done":
                    return
                case "busy":
                    done.busy = True
                    return
                case reason:
                    done.held = f"{found['name']}: {reason}"
                    return
        done.busy = True

    async def _time_of_day(self, session: Session) -> datetime:
        if self._now is not None:
            return self._now()
        found = await relay.row(session, "time_of_day")
        assert found is not None
        now: datetime = found["now"]
        return now

    async def check(self, session: Session, role: str) -> list[Alarm]:
        """Look at what holds the log back; returns the alarms that stand."""
        condition = await self._condition(session, role)
        self._ticked_at = time.monotonic() - condition.tick_age_s
        for name, value in condition.readings().items():
            self._telemetry.gauge(f"tollmesh.events.{name}", value)
        for consumer, waiting in condition.waiting.items():
            self._telemetry.gauge("tollmesh.events.waiting", waiting, consumer=consumer)
        standing = {alarm.name: alarm for alarm in alarms.judge(condition, self._growth)}
        for name, alarm in standing.items():
            if name not in self._alarms:
                _log.warning("event log alarm", alarm=name, **alarm.details, advice=alarm.advice)
        for name in self._alarms.keys() - standing.keys():
            _log.info("event log alarm over", alarm=name)
        for name in self._alarms.keys() | standing.keys():
            self._telemetry.gauge("tollmesh.events.alarm", float(name in standing), alarm=name)
        self._alarms = standing
        return list(standing.values())

    async def _condition(self, session: Session, role: str) -> Condition:
        found = await relay.row(session, "condition")
        strays = await relay.row(session, "strays")
        waiting = await relay.rows(session, "waiting", limit=alarms.WAITING_COUNT_MAX)
        assert found is not None and strays is not None
        sessions = [await relay.row(session, "sessions")]
        # The relay inherits nothing from the services' role, so it has to become it to see its sessions.
        async with relay.transaction(session, STATEMENT_MS_MAX):
            await session.execute("SELECT set_config('role', %s, true)", (role,))
            sessions.append(await relay.row(session, "sessions"))
        seen = [row for row in sessions if row is not None]
        return Condition(
            transaction_s=max(row["transaction_s"] for row in seen),
            xmin_age=max(row["xmin_age"] for row in seen),
            strays=strays["events"],
            waiting={row["consumer"]: row["waiting"] for row in waiting},
            **found,
        )
