"""Usage the slow way: in fractions, event by event and quarter of an hour by quarter, as a person would with a pencil.

Nothing here is taken from the product.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from fractions import Fraction
from math import ceil, floor

QUARTER = timedelta(minutes=15)
"""Clocks of all zones stand whole quarters of an hour apart, and change at such."""
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Raw:
    """A version of an event, by the ordinal of the receipt that brought it."""

    ordinal: int
    event_id: str
    at: datetime
    quantity: Fraction
    sku: str = "sku"
    project_id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    cancelled: bool = False


@dataclass(frozen=True)
class Asked:
    """What usage is asked for."""

    start_at: datetime
    end_at: datetime
    aggregation: str
    window: str = "NONE"
    zone: tzinfo = UTC
    group_by: Sequence[str] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    project_id: str = ""
    ordinal: int = 0


Place = tuple[str, str, datetime, tuple[tuple[str, str], ...]]
"""SKU, project, start of the window, group."""


def rows(versions: Iterable[Raw], asked: Asked) -> dict[Place, tuple[Fraction, int]]:
    """Return value and number of events by place."""
    series: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[Raw]] = defaultdict(list)
    for event in standing(versions, asked.ordinal):
        is_meant = asked.project_id in ("", event.project_id) and all(
            event.metadata.get(key) == value for key, value in asked.metadata.items()
        )
        if is_meant and event.at < asked.end_at:
            group = tuple(
                sorted(
                    (key, event.metadata[key]) for key in asked.group_by if key in event.metadata
                )
            )
            series[event.sku, event.project_id, group].append(event)
    found = {}
    for start_at, end_at in windows(asked):
        for (sku, project_id, group), events in series.items():
            inside = [event for event in events if start_at <= event.at < end_at]
            if asked.aggregation == "WEIGHTED_SUM":
                value = integral(events, start_at, end_at)
                if not inside and not value:
                    continue
            elif inside:
                value = AGGREGATIONS[asked.aggregation](inside)
            else:
                continue
            found[sku, project_id, start_at, group] = rounded(value), len(inside)
    return found


def standing(versions: Iterable[Raw], ordinal: int) -> list[Raw]:
    """Return the events as they were at an ordinal."""
    newest: dict[str, Raw] = {}
    for version in sorted(versions, key=lambda each: each.ordinal):
        if version.ordinal <= ordinal:
            newest[version.event_id] = version
    return [event for event in newest.values() if not event.cancelled]


def windows(asked: Asked) -> Iterator[tuple[datetime, datetime]]:
    """Yield the windows: a new one begins whenever the clock on the wall shows another hour, day or month."""
    start_at = at = asked.start_at
    seen = _label(asked, at)
    while at < asked.end_at:
        at += QUARTER - (at - datetime.min.replace(tzinfo=UTC)) % QUARTER
        label = _label(asked, at)
        if at < asked.end_at and label != seen:
            yield start_at, at
            start_at, seen = at, label
    yield start_at, asked.end_at


def _label(asked: Asked, at: datetime) -> object:
    local = at.astimezone(asked.zone)
    return {
        "NONE": None,
        "HOUR": (local.date(), local.hour, local.utcoffset()),
        "DAY": local.date(),
        "MONTH": (local.year, local.month),
    }[asked.window]


def integral(events: Sequence[Raw], start_at: datetime, end_at: datetime) -> Fraction:
    """Return a level times the hours that it held, instant by instant at which it is set."""
    times = sorted({start_at, *(event.at for event in events if start_at < event.at < end_at)})
    total = Fraction(0)
    for at, until_at in zip(times, [*times[1:], end_at], strict=True):
        before = [event for event in events if event.at <= at]
        if before:
            total += latest(before) * Fraction((until_at - at) // _MICROSECOND, 3_600_000_000)
    return total


def latest(events: Sequence[Raw]) -> Fraction:
    """Return the quantity of the last event, the largest of those at one instant."""
    return max((event.at, event.quantity) for event in events)[1]


def _percentile(per_cent: int) -> Callable[[Sequence[Raw]], Fraction]:
    def place(events: Sequence[Raw]) -> Fraction:
        ordered = sorted(event.quantity for event in events)
        return ordered[ceil(Fraction(per_cent * len(ordered), 100)) - 1]

    return place


def _sum(events: Sequence[Raw]) -> Fraction:
    return sum((event.quantity for event in events), Fraction(0))


AGGREGATIONS: Mapping[str, Callable[[Sequence[Raw]], Fraction]] = {
    "SUM": _sum,
    "COUNT": lambda events: Fraction(len(events)),
    "MAX": lambda events: max(event.quantity for event in events),
    "MIN": lambda events: min(event.quantity for event in events),
    "AVG": lambda events: _sum(events) / len(events),
    "LATEST": latest,
    "UNIQUE": lambda events: Fraction(len({event.quantity for event in events})),
    "P50": _percentile(50),
    "P95": _percentile(95),
    "P99": _percentile(99),
}
"""All but the one that looks at more than the events of a window."""
ALL = (*AGGREGATIONS, "WEIGHTED_SUM")


def rounded(number: Fraction) -> Fraction:
    """Round a number that is not below zero to 18 places, half up."""
    return Fraction(floor(number * 10**18 + Fraction(1, 2)), 10**18)


def spelt(number: Fraction) -> str:
    """Write a number of at most 18 places."""
    whole, places = divmod(int(number * 10**18), 10**18)
    return f"{whole}.{places:018}"
