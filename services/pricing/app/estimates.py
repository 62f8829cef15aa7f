"""Remembers estimates by their inputs for as long as the catalogue stands as it was read.

What was computed is good for one state of the tenant's catalogue, which its stamp names: every write to what
estimates read gives it another one, in the same transaction and whichever process writes. The stamp is read with each
call, in one snapshot with all else, so that no process shows what another has changed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime

from services.pricing.domain.rating import EstimatedPeriod

# Lines of all that is remembered, over all tenants; an estimate has at most 500.
LINES_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Remembered:
    """An estimate, and for which state of the catalogue it is good.

    Attributes:
        stamp: of the catalogue.
        since: when it was computed.
        until: when another list or entitlement comes into force; None: never, or it is of a given period.
    """

    answer: EstimatedPeriod
    stamp: int
    since: datetime
    until: datetime | None

    def holds(self, stamp: int, now: datetime) -> bool:
        """True when it is what would be computed now."""
        return (
            self.stamp == stamp and self.since <= now and (self.until is None or now < self.until)
        )

    @property
    def lines(self) -> int:
        """What it weighs."""
        return 1 + len(self.answer.lines)


class Estimates:
    """The estimates that were asked for last, as many as fit."""

    def __init__(self, lines_max: int = LINES_MAX) -> None:
        self._lines_max = lines_max
        self._kept: OrderedDict[Hashable, Remembered] = OrderedDict()
        self._lines = 0

    def find(self, key: Hashable, stamp: int, now: datetime) -> EstimatedPeriod | None:
        """Return what is remembered of some inputs, if it still holds."""
        found = self._kept.get(key)
        if found is None:
            return None
        if not found.holds(stamp, now):
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        return found.answer

    def keep(self, key: Hashable, remembered: Remembered) -> None:
        """Remember an estimate; those that were asked for longest ago make room."""
        self._forget(key)
        self._kept[key] = remembered
        self._lines += remembered.lines
        while self._lines > self._lines_max:
            self._forget(next(iter(self._kept)))

    @property
    def lines(self) -> int:
        """What all of them weigh."""
        return self._lines

    def _forget(self, key: Hashable) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self._lines -= found.lines
