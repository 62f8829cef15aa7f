"""Months of UTC: what the books are partitioned by."""

from __future__ import annotations

from datetime import MAXYEAR, UTC, datetime


def month_of(moment: datetime) -> datetime:
    """Return when the month of a moment began."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def month_after(moment: datetime) -> datetime:
    """Return when the month after that of a moment begins; the last moment of all where none follows."""
    start = month_of(moment)
    if (start.year, start.month) == (MAXYEAR, 12):
        return datetime.max.replace(tzinfo=UTC)
    return start.replace(
        year=start.year + start.month // 12,
        month=start.month % 12 + 1,
    )
