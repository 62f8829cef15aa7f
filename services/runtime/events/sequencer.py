"""The sequencer: gives every committed event its place in the feed, and each consumer its delivery.

It reads by snapshot interval: what was not visible in the last snapshot and is visible in this one,
ordered by sequence number. A cursor on the sequence would lose what commits late; an order by transaction
id would turn the events of one aggregate round. The tick itself is the SQL function `mesh.tick`.
Any number of processes may run one; the tick row lets one of them work.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import time
from dataclasses import dataclass

from services.runtime.crashpoints import crashpoint
from services.runtime.events import relay
from services.runtime.events.bus import EventBus
from services.runtime.events.relay import Relay
from services.runtime.loops import Backoff, Loop
from services.runtime.postgres.session import Session

# From the first wait to the last, of an idle mesh, they grow.
IDLE_MS_MIN = 20
IDLE_MS_MAX = 500
# While another process, whose commits ring no bell here, is at work; and when another one held the tick row,
# whose snapshot may be older than the commit that woke us.
BUSY_MS = 5
BUSY_SECONDS = 1.0
ERROR_MS_MAX = 1_000
STOP_SECONDS_MAX = 15.0
# A tick takes at most so many events; the interval of a longer backlog is used up page by page.
PAGE_MAX = 20_000
# The first page of an interval looks at all of it: a backlog of millions needs its time.
TICK_MS_MAX = 300_000
# The stored snapshot moves on at least so often while transactions come and go, so that reading what
# it left open stays cheap.
ADVANCE_SECONDS = 1.0
SLOW_PROBE_SECONDS = 0.005
# Between two ticks: of a multiple of the time that the last one took, so that ticks take a quarter of a core at most.
REST_FACTOR = 3
REST_MS_MIN = 4
REST_MS_MAX = 20


class Sequencer:
    """Ticks soon after a commit of this process, and finds those of others by polling."""

    def __init__(self, relay_: Relay, bus: EventBus) -> None:
        self._relay = relay_
        self._bus = bus
        self._seen = ""
        self._ticked_at = self._took_s = 0.0
        self._session: Session | None = None
        self.loop = Loop(
            "sequencer",
            self._hold_session,
            conditions=relay_.conditions,
            backoff=Backoff(BUSY_MS / 1000, ERROR_MS_MAX / 1000),
            stop_seconds=STOP_SECONDS_MAX,
            ring=bus.wake,
        )

    @property
    def tick_age_seconds(self) -> float:
        """Seconds since this process ticked; infinite before its first. It does not while another one does."""
        return time.monotonic() - self._ticked_at if self._ticked_at else math.inf

    def reconnect(self) -> None:
        """End the session, should it wait for an answer that nobody is left to give: the loop opens another."""
        if self._session is not None and not self._session.closed:
            with (
                contextlib.suppress(OSError),
                socket.socket(fileno=os.dup(self._session.fileno())) as ending,
            ):
                ending.shutdown(socket.SHUT_RDWR)

    async def _hold_session(self) -> None:
        async with await self._relay.control(statement_ms=TICK_MS_MAX) as session:
            self._session = session
            await self._work(session)

    async def _work(self, session: Session) -> None:
        wait_ms, busy_until = float(IDLE_MS_MIN), 0.0
        while not self.loop.is_stopping():
            woken = await self._bus.published(wait_ms / 1000)
            if self.loop.is_stopping():
                return
            if not woken and not await self._probe(session):
                self.loop.works()
                wait_ms = (
                    BUSY_MS if time.monotonic() < busy_until else min(wait_ms * 1.5, IDLE_MS_MAX)
                )
                continue
            await self._rest()
            moved = await self._tick(session)
            if moved > 0 and not woken:
                busy_until = time.monotonic() + BUSY_SECONDS
            busy = moved < 0 or time.monotonic() < busy_until
            wait_ms = BUSY_MS if busy else IDLE_MS_MIN

    async def _probe(self, session: Session) -> bool:
        """True when a tick is due. Takes no lock and no transaction id."""
        found = await relay.row(session, "probe_snapshot")
        assert found is not None
        if found["snapshot"] == self._seen:
            return False
        started = time.monotonic()
        rows = await relay.row(session, "probe_rows")
        assert rows is not None
        now = time.monotonic()
        due = now - self._ticked_at > ADVANCE_SECONDS or now - started > SLOW_PROBE_SECONDS
        if rows["moved"] or due:
            return True
        # Remember the probe, never the tick's own snapshot: a tick takes an id, the two would differ for ever.
        self._seen = found["snapshot"]
        return False

    async def _rest(self) -> None:
        """Let more events come to the next tick while they come in numbers: one tick costs as much as ten events."""
        rest_s = (
            self._ticked_at + max(self._took_s * REST_FACTOR, REST_MS_MIN / 1000) - time.monotonic()
        )
        if rest_s > 0:
            await asyncio.sleep(min(rest_s, REST_MS_MAX / 1000))

    async def _tick(self, session: Session) -> int:
        """Sequence what was committed, page by page; -1 when another session is at it."""
        while True:
            crashpoint("events.tick.before_commit")
            began = time.monotonic()
            page = await tick_page(session)
            crashpoint("events.tick.after_commit")
            self._ticked_at = time.monotonic()
            self._took_s = self._ticked_at - began
            if page.moved >= 0:
                self.loop.works()
            if page.moved > 0:
                self._bus.moved()
            if not page.more or self.loop.is_stopping():
                return page.moved


@dataclass(frozen=True, slots=True)
class Page:
    """What a tick did.

    Attributes:
        moved: events that it gave their place; -1 when another session is at it.
        more: its interval holds more of them.
    """

    moved: int
    more: bool


async def tick_page(session: Session, page_max: int = PAGE_MAX) -> Page:
    """Sequence what was committed, at most a page of it."""
    found = await relay.row(session, "tick", page_max=page_max)
    assert found is not None
    return Page(found["moved"], found["more"])


async def tick(session: Session) -> int:
    """Sequence all that was committed; returns how many events, -1 when another session is at it."""
    page = await tick_page(session)
    moved = page.moved
    while page.more:
        page = await tick_page(session)
        moved += max(page.moved, 0)
    return moved
