"""The pump: turns what is due into events, each once.

In one transaction: take one tenant's due timers and schedules, write their events into the log, delete the timers
and move the schedules on. A process that dies leaves all of it or nothing. Any number of processes may run a pump;
an advisory lock of the transaction lets one of them work for a tenant, so that its timers keep their order. Each
round takes one batch of every tenant, so that nobody's backlog holds up the others.

What is due is said by the injected clock, never by the database's.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import structlog

from services.runtime.clock import Clock
from services.runtime.conditions import Conditions
from services.runtime.crashpoints import crashpoint
from services.runtime.errors import DomainError
from services.runtime.events import relay
from services.runtime.events.bus import EventBus
from services.runtime.events.relay import Relay, Row
from services.runtime.ids import new_ulid
from services.runtime.loops import Backoff, Loop
from services.runtime.outbox import timer_event as event
from services.runtime.postgres import sql
from services.runtime.postgres.roles import DatabaseUnfit, RoleNames
from services.runtime.postgres.session import Session
from services.runtime.telemetry import Telemetry
from services.runtime.timers.cron import Cron, Missed
from services.runtime.work import Lag, LagGauge

BATCH_MAX = 200
SCHEDULES_MAX = 50
# Of all schedules of a tenant in one transaction.
FIRES_MAX = 200
FIRES_BYTES_MAX = 4 * 1024 * 1024
# What is looked at to find who has something due; beyond it the tenants are gone through one by one.
WINDOW_MAX = 10_000
TENANTS_MAX = 100
STOP_SECONDS_MAX = 10.0
# A transaction that hangs is ended by the server, so that another pump can take its tenant.
TRANSACTION_MS_MAX = 6_000
# Another process may set a timer at any moment, and business time may jump: nobody sleeps longer than this.
IDLE_MS_MAX = 500
BUSY_MS_MIN = 5
ERROR_MS_MAX = 1_000
# What cannot be published, or computed, is looked at again after this.
PUT_OFF = timedelta(hours=1)
# A fire that was guarded this long ago cannot come again: its schedule moved on in the same transaction.
GUARD_KEPT = timedelta(days=30)

_SQL = sql.load("services.runtime.timers", "queries.sql")

_log = structlog.get_logger(__name__)


class TimerPump:
    """Fires timers and schedules of all tenants.

    Args:
        relay_url: Postgres as the relay's role.
        bus: rings when a timer was set in this process.
        clock: business time.
        pooled: a connection pooler in transaction mode stands in between.
        conditions: of the process; nothing is fired while the storage is low.
        telemetry: told how much is due.
    """

    def __init__(
        self,
        relay_url: str,
        *,
        bus: EventBus,
        clock: Clock,
        pooled: bool = False,
        conditions: Conditions | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._relay = Relay(relay_url, workers=1, pooled=pooled, conditions=conditions)
        self._bus = bus
        self._clock = clock
        self._role = ""
        self._after = ""
        self._lag = LagGauge("timers", telemetry)
        self._loop = Loop(
            "timer pump",
            self._hold_session,
            conditions=self._relay.conditions,
            backoff=Backoff(BUSY_MS_MIN / 1000, ERROR_MS_MAX / 1000),
            stop_seconds=STOP_SECONDS_MAX,
            ring=bus.scheduled,
        )

    @property
    def stalled_seconds(self) -> float:
        """Seconds since it last looked what is due, and fired what it could."""
        return self._loop.stalled_seconds

    async def start(self) -> None:
        """Begin. A database that is away is waited for."""
        self._loop.start()

    async def stop(self) -> None:
        """End after the transaction that is under way; what is due stays for the next start."""
        await self._loop.stop()
        await self._relay.close()

    async def _hold_session(self) -> None:
        async with await self._session() as session:
            await self._work(session)

    async def fire_due(self) -> int:
        """Fire all that is due now, and return how many events that made."""
        fired = 0
        async with await self._session() as session:
            while now := await self._due_now(session):
                made = await self._round(session, now)
                fired += made
                if not made:
                    # Another pump is at it.
                    await asyncio.sleep(BUSY_MS_MIN / 1000)
        return fired

    async def _session(self) -> Session:
        """Open a session that commits every statement by itself. Raises DatabaseUnfit."""
        session = await self._relay.control()
        try:
            owner = await relay.row(session, "owner_role")
            if owner is None:
                raise DatabaseUnfit("the database has no schema mesh: migrate it first")
            self._role = RoleNames.of_owner(owner["owner"]).service
        except BaseException:
            await session.close()
            raise
        return session

    async def _work(self, session: Session) -> None:
        wait_ms = float(BUSY_MS_MIN)
        while not self._loop.is_stopping():
            due_in_ms = await self._due_in_ms(session)
            if self._relay.conditions.storage_low:
                due_in_ms = IDLE_MS_MAX  # what is due waits for room
            fired = 0 if due_in_ms > 0 else await self._round(session, self._clock.now())
            self._loop.works()
            await self._lag.tell(partial(self._due, session), self._clock.now)
            if due_in_ms > 0:
                await self._bus.due(min(due_in_ms, IDLE_MS_MAX) / 1000)
                continue
            if fired:
                wait_ms = BUSY_MS_MIN
                continue
            # What is due is another pump's, or of a tenant that cannot be served.
            await self._bus.due(wait_ms / 1000)
            wait_ms = min(wait_ms * 2, IDLE_MS_MAX)

    async def _due(self, session: Session) -> Lag:
        (found,) = await _rows(session, "due_lag", now=self._clock.now())
        return Lag(**found)

    async def _due_in_ms(self, session: Session) -> float:
        """How long nothing is due, at most the idle time; 0 when something is."""
        at = (await _rows(session, "next_due"))[0]["at"]
        if at is None:
            return IDLE_MS_MAX
        # Not less than a millisecond: a time that is not reached yet must not spin.
        ahead = at - self._clock.now()
        return max(ahead / timedelta(milliseconds=1), 1.0) if ahead > timedelta(0) else 0.0

    async def _due_now(self, session: Session) -> datetime | None:
        now = self._clock.now()
        at = (await _rows(session, "next_due"))[0]["at"]
        return now if at is not None and at <= now else None

    async def _round(self, session: Session, now: datetime) -> int:
        """Fire one batch of each tenant that has something due; returns how many events that made."""
        fired = 0
        for tenant_id in await self._due_tenants(session, now):
            if self._loop.is_stopping():
                break
            fired += await self._serve(session, tenant_id, now)
        return fired

    async def _due_tenants(self, session: Session, now: datetime) -> list[str]:
        """Return who has something due; when that is much, some of them in turn."""
        (seen,) = await _rows(session, "due_tenants", now=now, window=WINDOW_MAX)
        if not seen["cut"]:
            return seen["tenants"] or []
        found = await _rows(
            session, "walk_due_tenants", after=self._after, now=now, limit=TENANTS_MAX
        )
        self._after = found[-1]["tenant_id"] if len(found) == TENANTS_MAX else ""
        return [row["tenant_id"] for row in found]

    async def _serve(self, session: Session, tenant_id: str, now: datetime) -> int:
        """Fire a batch of one tenant. What the log refuses is put off alone; it holds up nobody else."""
        for limit in (BATCH_MAX, 1):
            try:
                return await self._fire(session, tenant_id, now, limit)
            except (psycopg.IntegrityError, psycopg.DataError) as error:
                _log.warning("timers refused", tenant_id=tenant_id, limit=limit, error=_text(error))
                cause = error
        await self._put_off(session, tenant_id, now, cause)
        return 0

    async def _fire(self, session: Session, tenant_id: str, now: datetime, limit: int) -> int:
        async with session.transaction():
            if not await self._take(session, tenant_id):
                return 0
            events = await self._timers(session, tenant_id, now, limit)
            if len(events) < limit:
                events += await self._schedules(session, tenant_id, now)
            await event.write(session, events)
            crashpoint("timers.fire.before_commit")
        crashpoint("timers.fire.after_commit")
        if events:
            self._bus.wake()
        return len(events)

    async def _take(self, session: Session, tenant_id: str) -> bool:
        """Go on as the services' role, for a tenant; False when another pump serves it."""
        limit_ms = str(TRANSACTION_MS_MAX)
        return bool(
            await _rows(
                session, "take_tenant", tenant_id=tenant_id, role=self._role, limit_ms=limit_ms
            )
        )

    async def _timers(
        self, session: Session, tenant_id: str, now: datetime, limit: int
    ) -> list[dict[str, object]]:
        rows = await _rows(session, "take_timers", tenant_id=tenant_id, now=now, limit=limit)
        rows.sort(key=lambda row: (row["due_at"], row["timer_id"]))
        return [
            event.of_row(
                row,
                row["timer_id"],
                tenant_id=tenant_id,
                correlation_id=row["correlation_id"],
                causation_id=row["causation_id"],
                traceparent=row["traceparent"],
                created_at=now,
            )
            for row in rows
        ]

    async def _schedules(
        self, session: Session, tenant_id: str, now: datetime
    ) -> list[dict[str, object]]:
        rows = await _rows(
            session, "take_schedules", tenant_id=tenant_id, now=now, limit=SCHEDULES_MAX
        )
        fires: list[tuple[datetime, Row, str]] = []
        weight = 0
        for row in rows:
            size = len(row["payload"]) + 1
            limit = min(FIRES_MAX - len(fires), max(FIRES_BYTES_MAX - weight, 0) // size)
            if limit < 1:
                break  # the rest is still due
            owed = await _owed(session, tenant_id, row, now, limit)
            fires += [(at, row, event_id) for at, event_id in owed]
            weight += size * len(owed)
        fires.sort(key=lambda fire: (fire[0], fire[1]["name"]))
        return [
            event.of_row(
                row,
                event_id,
                tenant_id=tenant_id,
                correlation_id=event_id,
                causation_id=f"schedule:{row['name']}@{at:%Y-%m-%dT%H:%M:%SZ}",
                traceparent="",
                created_at=now,
            )
            for at, row, event_id in fires
        ]

    async def _put_off(
        self, session: Session, tenant_id: str, now: datetime, error: Exception
    ) -> None:
        async with session.transaction():
            if not await self._take(session, tenant_id):
                return
            found = await _rows(
                session, "put_off_timer", tenant_id=tenant_id, now=now, until=now + PUT_OFF
            )
        for row in found:
            _log.error("timer put off", tenant_id=tenant_id, **row, error=_text(error))


async def _owed(
    session: Session, tenant_id: str, row: Row, now: datetime, limit: int
) -> list[tuple[datetime, str]]:
    """Guard the fires that a schedule owes and move it on; returns those that nobody made before."""
    name = {"tenant_id": tenant_id, "name": row["name"]}
    try:
        cron = Cron(row["cron"], row["time_zone"])
        due = cron.due(Missed(row["missed"]), row["next_at"], now, limit)
    except DomainError as error:
        # It could be read when it was put: the rules of time zones have changed since.
        _log.error("schedule put off", **name, error=_text(error))
        await _rows(session, "move_schedule", **name, next_at=now + PUT_OFF, last_at=None)
        return []
    guarded = await _rows(
        session,
        "guard_fires",
        **name,
        fire_at=list(due.fires),
        event_id=[new_ulid() for _ in due.fires],
    )
    last_at = due.fires[-1] if due.fires else None
    await _rows(session, "move_schedule", **name, next_at=due.next_at, last_at=last_at)
    await _rows(session, "forget_fires", **name, before=now - GUARD_KEPT)
    return sorted((fire["fire_at"], fire["event_id"]) for fire in guarded)


async def _rows(session: Session, name: str, /, **parameters: Any) -> list[Row]:
    async with asyncio.timeout(TRANSACTION_MS_MAX / 1000):
        return await _SQL.rows(session, name, **parameters)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:1000]
