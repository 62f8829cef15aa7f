"""Which events are taken: the window in which one may lie, what its metadata may hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from services.metering.domain.times import microseconds
from services.runtime.errors import InvalidField

# By which an event names the hold that it reports the use of: what guardrails need is never refused.
ALWAYS_ALLOWED = frozenset({"hold_id"})


class LatePolicy(StrEnum):
    """What becomes of usage of a period that a charge has closed."""

    ADJUST = "ADJUST"
    REJECT = "REJECT"


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """How far from now an event may lie; both ends belong to it. And what becomes of late usage, and of metadata.

    The defaults are what most meters take: 35 days let a month be completed, 5 minutes forgive a wrong clock.
    """

    accept_past: timedelta = timedelta(days=35)
    accept_future: timedelta = timedelta(minutes=5)
    updated_at: datetime | None = None
    late: LatePolicy = LatePolicy.ADJUST
    metadata_allowed: tuple[str, ...] = ()
    """Keys that the metadata of an event may have, sorted; none: any."""
    rollup_keys: tuple[str, ...] = ()
    """Keys of metadata whose values rollups keep apart, sorted."""

    @property
    def allowed_keys(self) -> frozenset[str] | None:
        """Return the keys that may stand in metadata; None for any."""
        return ALWAYS_ALLOWED.union(self.metadata_allowed) if self.metadata_allowed else None

    def bounds_us(self, now: datetime) -> tuple[int, int]:
        """Return the earliest and the latest event_time, in microseconds since 1970."""
        return microseconds(now - self.accept_past), microseconds(now + self.accept_future)


@dataclass(frozen=True, slots=True)
class ChangeSettings:
    """How far from now events may lie, back and ahead, what becomes of late ones, what metadata may hold, and by which
    of its keys usage is rolled up; None leaves it. An empty list of allowed keys takes any.
    """

    past: timedelta | None
    future: timedelta | None
    late: LatePolicy | None = None
    metadata_allowed: tuple[str, ...] | None = None
    rollup_keys: tuple[str, ...] | None = None


def allowed_by(keys: tuple[str, ...], *, takes_any: bool) -> tuple[str, ...] | None:
    """Return the list of allowed keys that a change sets; None when it leaves it.

    Raises:
        InvalidField: it names keys, and takes any.
    """
    if keys and takes_any:
        raise InvalidField.one(
            "metadata_any", "give metadata_allowed, or metadata_any to take any key again, not both"
        )
    return () if takes_any else tuple(sorted(keys)) or None


def rolled_by(keys: tuple[str, ...], *, by_none: bool) -> tuple[str, ...] | None:
    """Return the keys that a change has rollups keep apart; None when it leaves them.

    Raises:
        InvalidField: it names keys, and none.
    """
    if keys and by_none:
        raise InvalidField.one(
            "rollup_keys_none",
            "give rollup_keys, or rollup_keys_none to roll up by no key again, not both",
        )
    return () if by_none else tuple(sorted(keys)) or None
