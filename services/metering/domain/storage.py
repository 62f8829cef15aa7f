"""What stored usage takes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

STRAYS_COUNTED_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Storage:
    """Of all tenants.

    Attributes:
        partitions: that there are, those of months to come included.
        seen_at: when it was looked at, by the database's clock.
        until_at: when the last of them ends.
        event_bytes: of events, with their indexes.
        id_bytes: of the ids by which an event counts once.
        strays: events that no month was there for; counted up to STRAYS_COUNTED_MAX.
    """

    partitions: int
    seen_at: datetime
    until_at: datetime
    event_bytes: int
    id_bytes: int
    strays: int

    @property
    def ahead_seconds(self) -> float:
        """How long from then on there are partitions for."""
        return (self.until_at - self.seen_at).total_seconds()
