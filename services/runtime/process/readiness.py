"""Whether the services of a process can be relied on: while their database answers, and the feed moves for those that
answer by it.

The database is asked from a thread of its own, by connections of its own: neither a pool that is used up nor an event
loop that is busy makes it look gone, and one that hangs does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

import psycopg
import structlog

from services.runtime.conditions import Conditions
from services.runtime.loops import Backoff, Loop

# From the last answer to NOT_SERVING at the latest; with a look, and the question and the memory of the facade's
# /readyz (0.7 s), that is below three seconds, for the database as for the feed.
ANSWER_SECONDS_MAX = 2.0
PROBE_SECONDS = 0.75
PROBE_AGAIN_SECONDS = 0.25
LOOK_SECONDS = 0.1
# Failures of the feed that are told of: those that outlast a session that is opened again. An idle feed notices half a
# second late that its session has ended.
FEED_FAILING_SECONDS_MAX = 1.0
# After the database came back the feed, and the timers, get so long before anything is said, or done, about it.
FEED_GRACE_SECONDS = 1.0
TIMERS_STALL_SECONDS_MAX = 15.0
# What the health service calls the timers of a process, and the whole of it.
TIMERS = "timers"
ALL = ""
# A server that says this is there: all its places are taken.
_FULL = ("too many clients", "too many connections", "connection slots", "53300")

_log = structlog.get_logger(__name__)


class DatabaseProbe:
    """Opens a session again and again, in a thread.

    Args:
        url: the database as the services use it.
        answer_seconds_max: an answer that is older does not count any more.
    """

    def __init__(self, url: str, *, answer_seconds_max: float = ANSWER_SECONDS_MAX) -> None:
        self._url = url
        self._answer_seconds_max = answer_seconds_max
        self._answered_at = time.monotonic()
        self._error = ""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to ask. Until the first answer the database counts as there."""
        self._answered_at = time.monotonic()
        # A daemon: a look that hangs must not keep the process from its end.
        self._thread = threading.Thread(target=self._run, name="database-probe", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; a look that is under way ends by itself."""
        self._stopping.set()

    def why_gone(self) -> str:
        """Say why the database counts as gone; an empty text while it answers."""
        silent_s = time.monotonic() - self._answered_at
        if self._error:
            return self._error
        return f"no answer for {silent_s:.1f} s" if silent_s > self._answer_seconds_max else ""

    @property
    def silent_seconds(self) -> float:
        """Seconds since it last answered."""
        return time.monotonic() - self._answered_at

    def look(self) -> None:
        """Ask once, and remember the answer."""
        try:
            with psycopg.connect(
                self._url,
                autocommit=True,
                application_name="tollmesh-health",
                connect_timeout=2,
                keepalives_idle=2,
                keepalives_interval=1,
                keepalives_count=2,
                tcp_user_timeout=2000,
                prepare_threshold=None,
            ) as session:
                session.execute("SELECT 1")
        except psycopg.Error as error:
            text = str(error)
            if not any(mark in text for mark in _FULL):
                self._error = " ".join(text.split())[:300] or type(error).__name__
                return
        self._answered_at = time.monotonic()
        self._error = ""

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.look()
            self._stopping.wait(PROBE_AGAIN_SECONDS if self._error else PROBE_SECONDS)


@dataclass(frozen=True, slots=True)
class Feed:
    """How the event feed of a process fares.

    Attributes:
        stalled_seconds: how long it has not been brought up to date.
        failing_seconds: how long every try has failed; 0 while none does.
        reconnect: opens a new session for it.
        stall_seconds_max: how long it may stand still.
    """

    stalled_seconds: Callable[[], float]
    failing_seconds: Callable[[], float]
    reconnect: Callable[[], None]
    stall_seconds_max: float

    def why_unfit(self) -> str:
        """Say what is wrong with it; an empty text when nothing is."""
        stalled_s, failing_s = self.stalled_seconds(), self.failing_seconds()
        if stalled_s > self.stall_seconds_max:
            return f"no progress for {stalled_s:.1f} s"
        return f"failing for {failing_s:.1f} s" if failing_s > FEED_FAILING_SECONDS_MAX else ""


class Readiness:
    """Tells the health service of a process what can be relied on, and the log what changed.

    Args:
        set_serving: says so of one name.
        names: full names of the gRPC services.
        following: those of them that answer by the feed.
        why_gone: why the database counts as gone; empty while it answers.
        conditions: told of the same.
        feed: how the feed fares.
        timers_stalled_seconds: how long nobody looked what is due.
        outlasting: of names whose calls may be taken although the database is away, whether they are.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        set_serving: Callable[[str, bool], Awaitable[None]],
        names: Collection[str],
        following: Collection[str],
        *,
        why_gone: Callable[[], str],
        conditions: Conditions,
        feed: Feed,
        timers_stalled_seconds: Callable[[], float],
        outlasting: Mapping[str, Callable[[], bool]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._set_serving = set_serving
        self._names = names
        self._following = frozenset(following)
        self._why_gone = why_gone
        self._conditions = conditions
        self._feed = feed
        self._timers_stalled_seconds = timers_stalled_seconds
        self._outlasting = dict(outlasting or {})
        self._clock = clock
        self._gone_at = 0.0
        self._back_at = float("-inf")
        self._reconnected = True
        self._unfit: dict[str, bool] = {}
        self._loop = Loop(
            "readiness",
            self.look,
            conditions=conditions,
            rest_seconds=LOOK_SECONDS,
            backoff=Backoff(LOOK_SECONDS, LOOK_SECONDS),
        )
        self.states: Mapping[str, bool] = dict.fromkeys((ALL, TIMERS, *names), False)

    async def look(self) -> None:
        """Look once, and say what changed."""
        there = self._look_at_database()
        feed_fault = self._feed.why_unfit() if there and self._following else ""
        if there:
            self._look_at_feed(feed_fault)
        late = self._timers_stalled_seconds() > TIMERS_STALL_SECONDS_MAX
        if there and (not late or self._clock() - self._back_at > FEED_GRACE_SECONDS):
            self._tell("timer pump", "nobody looks what is due" if late else "")
        states = {
            name: not (feed_fault and name in self._following) if there else self._outlasts(name)
            for name in self._names
        }
        # No service is unfit because timers are late.
        states = {ALL: there and all(states.values()), TIMERS: there and not late, **states}
        for name, serving in states.items():
            if serving != self.states[name]:
                await self._set_serving(name, serving)
        self.states = states

    def _outlasts(self, name: str) -> bool:
        is_taken = self._outlasting.get(name)
        return is_taken is not None and is_taken()

    def start(self) -> None:
        """Look several times a second from now on."""
        self._loop.start()

    async def stop(self) -> None:
        """Look no more."""
        await self._loop.stop()

    def _look_at_database(self) -> bool:
        why, now = self._why_gone(), self._clock()
        if why and not self._conditions.database_gone:
            self._gone_at = now
            _log.error("database gone: nothing is served until it is back", error=why)
        if not why and self._conditions.database_gone:
            self._back_at, self._reconnected = now, False
            _log.warning("database back", gone_s=round(now - self._gone_at, 1))
        self._conditions.database_gone = bool(why)
        return not why

    def _look_at_feed(self, fault: str) -> None:
        if fault and self._clock() - self._back_at < FEED_GRACE_SECONDS:
            return
        if fault and not self._reconnected:
            # Its session may be one whose other end is no more, and nobody told it.
            self._reconnected = True
            self._back_at = self._clock()
            self._feed.reconnect()
            return
        self._tell("event feed", fault)

    def _tell(self, what: str, fault: str) -> None:
        if bool(fault) == self._unfit.get(what, False):
            return
        self._unfit[what] = bool(fault)
        if fault:
            _log.error(f"{what} stands still", error=fault)
        else:
            _log.warning(f"{what} moves again")
