"""Which days of usage are unlike those before them, by a measure that the odd day itself does not bend.

A day is compared with the days before it by its modified z-score (Iglewicz and Hoaglin, 1993): its distance from their
median, in units of their median absolute deviation (MAD). 1.4826 MAD is the standard deviation where days are spread
normally; one wild day in the past moves neither median nor MAD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median

THRESHOLD = Decimal("3.5")
"""What Iglewicz and Hoaglin recommend: beyond it a value counts as an outlier."""
BASELINE_DAYS = 28
DAYS_MIN = 7
"""Days that a day is held against; with fewer nothing is said."""
SAME_WEEKDAYS_MIN = 3
_MAD_TO_DEVIATION = Decimal("1.4826")
_MEAN_TO_DEVIATION = Decimal("1.2533")
# Usage that is nearly the same each day has nearly no MAD: a change of a few per cent is no finding then.
_FLOOR = Decimal("0.05")
_WEEK_DAYS = 7


@dataclass(frozen=True, slots=True)
class Unusual:
    """A day that is unlike those before it.

    Attributes:
        value: its usage.
        expected: the median of the days before it.
        score: how many standard deviations it is away; below zero, there is less than expected.
    """

    value: Decimal
    expected: Decimal
    score: Decimal


def unusual(
    value: Decimal, earlier: Sequence[Decimal], threshold: Decimal = THRESHOLD
) -> Unusual | None:
    """Judge a day by the days before it; None when it is like them, or they are too few.

    A day must be unlike the same weekdays too, where there are enough of them: weekends are not findings.

    Args:
        value: its usage.
        earlier: that of the days before it, the last one last.
        threshold: from which score on it is unlike them.
    """
    if len(earlier) < DAYS_MIN:
        return None
    found = _judged(value, earlier, threshold)
    same = earlier[::-1][_WEEK_DAYS - 1 :: _WEEK_DAYS]
    if found and len(same) >= SAME_WEEKDAYS_MIN and _judged(value, same, threshold) is None:
        return None
    return found


def _judged(value: Decimal, earlier: Sequence[Decimal], threshold: Decimal) -> Unusual | None:
    expected = Decimal(median(earlier))
    deviation = _deviation(earlier, expected)
    if not deviation:
        return None
    score = (value - expected) / deviation
    return Unusual(value, expected, score) if abs(score) > threshold else None


def _deviation(values: Sequence[Decimal], middle: Decimal) -> Decimal:
    """Return the standard deviation that MAD stands for; by the mean deviation where most values are the same."""
    distances = [abs(value - middle) for value in values]
    found = max(_MAD_TO_DEVIATION * median(distances), _FLOOR * middle)
    return found or _MEAN_TO_DEVIATION * sum(distances) / len(distances)
