"""What is remembered of estimates: only what still holds, and only so much."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from services.pricing.app.estimates import Estimates, Remembered
from services.pricing.domain.rating import EstimatedPeriod, EstimateLine
from services.runtime.money import Money

NOW = datetime(2026, 11, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOTHING = Money("USD", 0)


def estimate(lines: int = 1) -> EstimatedPeriod:
    line = EstimateLine("s", Decimal(0), Decimal(0), NOTHING, Decimal(0))
    return EstimatedPeriod(NOTHING, [line] * lines, NOTHING)


def remembered(answer: EstimatedPeriod, until: datetime | None = None) -> Remembered:
    return Remembered(answer, 7, NOW, until)


def test_an_estimate_holds_for_one_state_of_the_catalogue() -> None:
    estimates, answer = Estimates(), estimate()
    estimates.keep("a", remembered(answer))
    assert estimates.find("a", 7, NOW) is answer
    assert estimates.find("b", 7, NOW) is None
    assert estimates.find("a", 8, NOW) is None
    # What holds no more is gone.
    assert (estimates.find("a", 7, NOW), estimates.lines) == (None, 0)


def test_an_estimate_holds_until_other_terms_begin() -> None:
    estimates, answer = Estimates(), estimate()
    estimates.keep("a", remembered(answer, NOW + HOUR))
    assert estimates.find("a", 7, NOW + HOUR - timedelta(microseconds=1)) is answer
    assert estimates.find("a", 7, NOW + HOUR) is None
    estimates.keep("a", remembered(answer))
    assert estimates.find("a", 7, NOW - HOUR) is None


def test_those_asked_for_longest_ago_make_room() -> None:
    estimates = Estimates(lines_max=10)
    for key in "abc":
        estimates.keep(key, remembered(estimate(2)))
    assert estimates.lines == 9
    assert estimates.find("a", 7, NOW)
    estimates.keep("d", remembered(estimate(2)))
    assert [bool(estimates.find(key, 7, NOW)) for key in "abcd"] == [True, False, True, True]
    estimates.keep("a", remembered(estimate(1)))
    assert estimates.lines == 8
    estimates.keep("e", remembered(estimate(20)))
    assert estimates.lines == 0
