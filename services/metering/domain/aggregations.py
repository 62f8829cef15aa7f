"""How the events of a window become one value; definitions: `payments.type.v1.Aggregation`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType

from services.runtime.money import CONTEXT

_ZERO = Decimal(0)
_MICROSECOND = timedelta(microseconds=1)
_MICROSECONDS_OF_HOUR = Decimal(3_600_000_000)


class Aggregation(StrEnum):
    """How events become one value."""

    SUM = "SUM"
    COUNT = "COUNT"
    MAX = "MAX"
    MIN = "MIN"
    AVG = "AVG"
    LATEST = "LATEST"
    UNIQUE = "UNIQUE"
    WEIGHTED_SUM = "WEIGHTED_SUM"
    P50 = "P50"
    P95 = "P95"
    P99 = "P99"


PERCENTS: Mapping[Aggregation, int] = MappingProxyType(
    {Aggregation.P50: 50, Aggregation.P95: 95, Aggregation.P99: 99}
)
"""Of which per cent of the events a percentile is not below."""


def average(total: Decimal, event_count: int) -> Decimal:
    """Return the mean of quantities that add up to a total, rounded once, half up, to 18 places."""
    return _quotient(total, Decimal(event_count))


def _quotient(dividend: Decimal, divisor: Decimal) -> Decimal:
    """Divide and round half up to 18 places, by the exact rest: no digit in between is rounded."""
    units, rest = CONTEXT.divmod(dividend.scaleb(18, CONTEXT), divisor)
    if CONTEXT.add(rest, rest) >= divisor:
        units = CONTEXT.add(units, Decimal(1))
    return units.scaleb(-18, CONTEXT)


@dataclass(frozen=True, slots=True)
class LevelPart:
    """What the events of one series and one window say of its level.

    Attributes:
        window_number: from 1; 0 for all that happened before the period.
        level_microseconds: integral of the level from the first of the events to the end of the window.
        closing_level: that of the last of them.
    """

    window_number: int
    level_microseconds: Decimal
    event_count: int
    first_event_at: datetime
    last_event_at: datetime
    closing_level: Decimal


@dataclass(frozen=True, slots=True)
class LevelWindow:
    """The time integral of a level over a window.

    Attributes:
        hours: the level times the hours that it held, 18 places, half up.
        part: the events of the window; None when the level is from before it.
    """

    window_number: int
    hours: Decimal
    part: LevelPart | None


def held(parts: Sequence[LevelPart], edges: Sequence[datetime]) -> Iterator[LevelWindow]:
    """Yield the integral of one series for each window with events, or with a level above zero, in their order.

    A level holds from its event to the next; that from before the period holds at its start, and the last one to its
    end.

    Args:
        parts: of the windows that have events, ascending; what was before the period may be one of them.
        edges: the starts of all windows, ascending, and the end of the last.
    """
    by_number = {part.window_number: part for part in parts}
    level = by_number[0].closing_level if 0 in by_number else _ZERO
    numbers: Iterator[int] = iter(sorted(by_number.keys() - {0}))
    following = next(numbers, None)
    number = 1
    while number < len(edges):
        if level == _ZERO and number != following:
            # Nothing holds until the next event, however many windows that is.
            if following is None:
                return
            number = following
        start_at, end_at = edges[number - 1], edges[number]
        part = by_number[number] if number == following else None
        until_at = part.first_event_at if part else end_at
        integral = _integral(level, start_at, until_at)
        if part:
            integral = CONTEXT.add(integral, part.level_microseconds)
            level = part.closing_level
            following = next(numbers, None)
        yield LevelWindow(number, _quotient(integral, _MICROSECONDS_OF_HOUR), part)
        number += 1


def _integral(level: Decimal, start_at: datetime, end_at: datetime) -> Decimal:
    """Return level times microseconds."""
    return CONTEXT.multiply(level, Decimal((end_at - start_at) // _MICROSECOND))
