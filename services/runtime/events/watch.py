"""When to look for a lane: at once where this process hears of it, soon where another made the work.

A look that goes through the lanes is not for every poll. What makes a lane worth claiming is that the feed grew,
that an event's wait is over, or that somebody gave a lane back, lost it or put deliveries into it from the side.
The first two are asked for in one cheap statement, every 5 ms while another process, which can ring no bell here,
brings events, and ever more rarely once it does not; the third is rare and asked for once a second. None of them
reads what was deleted but not yet vacuumed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from services.runtime.events import relay
from services.runtime.events.bus import Listener
from services.runtime.loops import Loop
from services.runtime.postgres.session import Session

POLL_MS_MIN = 5
POLL_MS_MAX = 500
POLL_MS_IDLE = 20
# How long the shortest interval is kept after the last event that was found by asking.
BUSY_SECONDS = 1.0
FREED_SECONDS = 1.0
# Whatever was overlooked is found by then.
LOOK_SECONDS_MAX = 10.0
# After a look that found nothing none follows, unless the feed grows, for a multiple of the time that it took,
# twice as long each time: lanes that others hold must not be asked for all the time.
REST_FACTOR = 10


class Watch:
    """Says when to try and claim lanes.

    Attributes:
        position: the end of the feed when it was last looked at.
    """

    def __init__(self, consumers: Sequence[str]) -> None:
        self.position = -1
        self._consumers = list(consumers)
        # Up to here no delivery is left without a lane that is being served.
        self._covered = -1
        self._wait_ms = float(POLL_MS_IDLE)
        self._busy_until = self._rest_until = self._rest_s = self._freed_at = 0.0
        self._looked_at = time.monotonic()
        self._own_ring = False

    def looked(self, position: int, took_s: float, *, found: bool) -> None:
        """The lanes were gone through to the last, after the feed had reached `position`."""
        again = self._rest_s * 2 if position == self._covered else 0.0
        self._rest_s = 0.0 if found else min(max(took_s * REST_FACTOR, again), POLL_MS_MAX / 1000)
        self._covered = position
        self._looked_at = time.monotonic()
        self._rest_until = self._looked_at + self._rest_s

    def given_back(self, position: int, bell: Listener) -> None:
        """A lane of this process is free; it was read to its end after the feed had reached `position`."""
        self._covered = min(self._covered, position)
        self._own_ring = True
        bell.ring()

    async def work(self, session: Session, bell: Listener, loop: Loop) -> None:
        """Return once lanes may be worth a look, or at a stop."""
        while not loop.is_stopping():
            rung = await bell.wait(self._wait_ms / 1000)
            asked, self._own_ring = rung and not self._own_ring, False
            if loop.is_stopping() or await self._is_worth_it(session, rung=rung, asked=asked):
                return
            loop.works()

    async def _is_worth_it(self, session: Session, *, rung: bool, asked: bool) -> bool:
        found = await relay.row(
            session, "has_work", consumers=self._consumers, covered=self._covered
        )
        assert found is not None
        now = time.monotonic()
        moved = found["position"] > self.position
        if moved and not rung:
            self._busy_until = now + BUSY_SECONDS
        self.position = found["position"]
        self._wait_ms = min(self._wait_ms * 1.5, POLL_MS_MAX)
        if moved or found["work"]:
            self._wait_ms = POLL_MS_IDLE
        if now < self._busy_until:
            self._wait_ms = POLL_MS_MIN
        if found["work"]:
            return moved or now >= self._rest_until
        return now > self._looked_at + LOOK_SECONDS_MAX or await self._are_freed(
            session, now, asked
        )

    async def _are_freed(self, session: Session, now: float, asked: bool) -> bool:
        if not asked and now < self._freed_at + FREED_SECONDS:
            return False
        self._freed_at = now
        found = await relay.row(session, "lanes_freed", consumers=self._consumers)
        assert found is not None
        return bool(found["freed"])
