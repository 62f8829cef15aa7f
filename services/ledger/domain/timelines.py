"""The balance of an account over effective time, as far as a batch has to know it.

An account with `limits_at_every_instant` keeps its limits at each instant from when a transfer takes effect, not only
once all is added up: what is posted back in time must not overdraw a day that is over.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Timeline:
    """The lowest and the highest balance of an account in each span of effective time. It is never changed in place.

    Attributes:
        times: where the spans begin, in order; each ends where the next begins, the last never.
        lows: the lowest balance of each span, in debits less credits, minor units.
        highs: the highest one, likewise.
    """

    times: tuple[datetime, ...]
    lows: tuple[int, ...]
    highs: tuple[int, ...]

    def moved(self, at: datetime, net_minor: int) -> Timeline:
        """Return it with so much more from an instant on, at which a span begins."""
        place = self._place(at)
        return Timeline(
            self.times,
            self.lows[:place] + tuple(low + net_minor for low in self.lows[place:]),
            self.highs[:place] + tuple(high + net_minor for high in self.highs[place:]),
        )

    def highest(self, at: datetime, now: datetime, held_minor: int) -> int:
        """Return the highest balance from an instant on; what is held counts from now on."""
        start, present = self._place(at), self._place(now)
        later = max(self.highs[max(start, present) :]) + held_minor
        return max(*self.highs[start:present], later) if start < present else later

    def lowest(self, at: datetime, now: datetime, held_minor: int) -> int:
        """Return the lowest balance from an instant on, what is held taken off from now on."""
        start, present = self._place(at), self._place(now)
        later = min(self.lows[max(start, present) :]) - held_minor
        return min(*self.lows[start:present], later) if start < present else later

    def _place(self, at: datetime) -> int:
        place = bisect_right(self.times, at) - 1
        assert place >= 0, "a timeline begins with the first instant that its batch is about"
        return place
