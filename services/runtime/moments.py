"""Moments as text: RFC 3339, read strictly and in one way at every door; time zones. Domain modules import it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

EXAMPLE = "2026-11-20T10:00:00Z"
HOW = f"an RFC 3339 time in the years 1 to 9999, such as {EXAMPLE}"

# No leap seconds: neither a datetime nor a protobuf Timestamp can hold 23:59:60, and calling it another second would
# be a guess.
_RFC3339 = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]"
    r"(?P<clock>[0-9]{2}:[0-9]{2}:[0-5][0-9])(?:\.(?P<fraction>[0-9]{1,100}))?"
    r"(?P<zone>[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_MICROSECOND_DIGITS = 6
# Names of the data base that are no place's: what they mean is each machine's own.
_NO_ZONES = frozenset({"Factory", "localtime", "posixrules"})


def read(text: str) -> datetime:
    """Read a moment, in UTC; what is finer than a microsecond is cut off.

    Raises:
        ValueError: the text is not of RFC 3339, or names no moment of the years 1 to 9999 in UTC.
    """
    parts = _RFC3339.fullmatch(text)
    if parts is None:
        raise ValueError(f"{_shown(text)} is not {HOW}")
    micros = (parts["fraction"] or "")[:_MICROSECOND_DIGITS].ljust(_MICROSECOND_DIGITS, "0")
    zone = parts["zone"].upper()
    try:
        read = datetime.fromisoformat(f"{parts['day']}T{parts['clock']}.{micros}{zone}")
        # A zone may lead out of the years that there are.
        return read.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{_shown(text)} is not {HOW}: {error}") from error


def written(moment: datetime) -> str:
    """Write a moment as RFC 3339 asks for, in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def zone(name: str) -> ZoneInfo:
    """Return the time zone of the IANA that has this name, which means the same on every machine.

    Raises:
        LookupError: there is none.
    """
    if name not in zones():
        raise LookupError(f"{_shown(name)} is not an IANA time zone such as Europe/Berlin")
    return ZoneInfo(name)


@cache
def zones() -> frozenset[str]:
    """Return the names of all time zones."""
    return frozenset(available_timezones() - _NO_ZONES)


def _shown(text: str) -> str:
    return repr(text[:64])
