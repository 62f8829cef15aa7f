"""Spans of time as people write them."""

from __future__ import annotations

import re
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from services.cli.errors import EXIT_USAGE, CliError

HELP = "90s, 30m, 24h, 7d or 0"
_DURATION = re.compile(r"(?P<count>[0-9]{1,6})(?P<unit>[smhd]?)")
_UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LENGTHS = (("d", 86_400), ("h", 3_600), ("m", 60))


def parse(text: str) -> timedelta:
    """Read a span of time: `0`, `90s`, `30m`, `24h`, `7d`; seconds where no unit is given.

    Raises:
        CliError: it is none of these.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise CliError(f"{text!r} is not a duration: write {HELP}", exit_code=EXIT_USAGE)
    return timedelta(**{_UNITS[found["unit"]]: int(found["count"])})


def describe(duration: Duration) -> str:
    """Write a span in the longest unit that it is whole in: `35d`, `90s`, `1.5s`."""
    if not duration.nanos:
        for unit, seconds in _LENGTHS:
            if duration.seconds and duration.seconds % seconds == 0:
                return f"{duration.seconds // seconds}{unit}"
    return duration.ToJsonString()


def microseconds(length: timedelta) -> int:
    """Return a span in microseconds."""
    return length // timedelta(microseconds=1)
