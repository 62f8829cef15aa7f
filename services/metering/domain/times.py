"""Instants as microseconds since 1970, as events carry them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(at: datetime) -> int:
    """Return the microseconds since 1970 of an instant."""
    return (at - EPOCH) // _MICROSECOND


def instant(at_us: int) -> datetime:
    """Return the instant that lies so many microseconds after 1970."""
    return EPOCH + timedelta(microseconds=at_us)
