"""Business time, injected. Leases use the database's clock instead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells business time."""

    def now(self) -> datetime:
        """Return the time, in UTC, to the microsecond."""


class SystemClock:
    """The machine's time."""

    def now(self) -> datetime:
        """Return the time, in UTC, to the microsecond."""
        return datetime.now(UTC)


class ManualClock:
    """A time that only moves when it is told to: fourteen days pass in a test at once."""

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("start needs a time zone")
        self._now = start

    def now(self) -> datetime:
        """Return the time it was set to."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Move time on. Raises ValueError for a step back."""
        if by < timedelta(0):
            raise ValueError("time cannot go backwards")
        self._now += by
