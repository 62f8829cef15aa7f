"""Periods as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from payments.type.v1 import type_pb2

from services.cli.errors import EXIT_USAGE, CliError
from services.runtime import moments

HELP = "a day (2023-11-16), a month (2023-11), or two ISO 8601 times joined by a slash; UTC unless a zone is given"
INSTANT_HELP = "2023-11-16T12:30:00, or a day or a month for its end; UTC unless a zone is given"
_MONTH = re.compile(r"([0-9]{4})-([0-9]{2})")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ZONE = re.compile(r"([Zz]|[+-][0-9:]+)$")


def parse(text: str) -> type_pb2.Period:
    """Read a period.

    Raises:
        CliError: it is none of the three forms, or ends before it starts.
    """
    try:
        start_at, end_at = _bounds(text)
    except (ValueError, OverflowError) as error:
        raise CliError(
            f"{text!r} is not a period ({error})", f"write {HELP}", exit_code=EXIT_USAGE
        ) from error
    if end_at <= start_at:
        raise CliError(f"{text!r} ends before it starts", f"write {HELP}", exit_code=EXIT_USAGE)
    period = type_pb2.Period()
    period.start_at.FromDatetime(start_at)
    period.end_at.FromDatetime(end_at)
    return period


def between(start: str, end: str) -> type_pb2.Period:
    """Read a period from the options `--from` and `--to`.

    Raises:
        CliError: one of them is no time, or they are not in this order.
    """
    if _option("--from", start) >= _option("--to", end):
        raise CliError(f"--from {start} is not before --to {end}", exit_code=EXIT_USAGE)
    return parse(f"{start}/{end}")


def _option(name: str, text: str) -> datetime:
    try:
        return moment(text)
    except (ValueError, OverflowError) as error:
        raise CliError(
            f"{name} {text!r} is not a time: write 2023-11-16 or 2023-11-16T12:30:00; UTC unless a zone is given",
            exit_code=EXIT_USAGE,
        ) from error


def first_instant(option: str, text: str) -> datetime:
    """Read an instant: a day or a month means its first microsecond, as when something begins.

    Raises:
        CliError: it is no time.
    """
    return _option(option, f"{text}-01" if _MONTH.fullmatch(text) else text)


def last_instant(option: str, text: str) -> datetime:
    """Read an instant: a day or a month means its last microsecond, as when books are looked at or closed.

    Raises:
        CliError: it is neither a time nor a day nor a month.
    """
    try:
        if _MONTH.fullmatch(text) or _DAY.fullmatch(text):
            return _bounds(text)[1] - timedelta(microseconds=1)
        return moment(text)
    except (ValueError, OverflowError) as error:
        raise CliError(
            f"{option} {text!r} is not a time: write {INSTANT_HELP}", exit_code=EXIT_USAGE
        ) from error


def describe(period: type_pb2.Period) -> str:
    """Write a period back as two times."""
    start_at, end_at = period.start_at.ToDatetime(), period.end_at.ToDatetime()
    return f"{start_at:%Y-%m-%d %H:%M} to {end_at:%Y-%m-%d %H:%M} UTC"


def _bounds(text: str) -> tuple[datetime, datetime]:
    if "/" in text:
        left, right = text.split("/", 1)
        return moment(left), moment(right)
    month = _MONTH.fullmatch(text)
    if month:
        year, number = int(month[1]), int(month[2])
        start_at = datetime(year, number, 1, tzinfo=UTC)
        return start_at, start_at.replace(year=year + (number == 12), month=number % 12 + 1)
    if _DAY.fullmatch(text):
        start_at = moment(text)
        return start_at, start_at + timedelta(days=1)
    raise ValueError("unknown format")


def moment(text: str) -> datetime:
    """Read a moment as RFC 3339 writes it, or a day; UTC unless a zone is given. Raises ValueError."""
    if _DAY.fullmatch(text):
        text = f"{text}T00:00:00"
    return moments.read(text if _ZONE.search(text) else f"{text}Z")
