"""Means, and levels over windows, against fractions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metering.domain.aggregations import LevelPart, LevelWindow, average, held
from tests.support.billing import raw_usage
from tests.support.billing.raw_usage import Raw

D = Decimal
START = datetime(2026, 10, 24, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MOST = D("999999999999999.999999999999999999")
quantities = st.one_of(st.just(D(0)), st.decimals(0, MOST, places=18), st.integers(0, 9).map(D))


@pytest.mark.parametrize(
    ("total", "count", "mean"),
    [
        ("1", 3, "0.333333333333333333"),
        ("2", 3, "0.666666666666666667"),
        ("10", 4, "2.5"),
        # An exact half of the last place, and a hair less than one.
        ("0.000000000000000001", 2, "0.000000000000000001"),
        ("0.000000000000000499", 1000, "0"),
        ("0", 7, "0"),
    ],
)
def test_a_mean_is_rounded_half_up_once(total: str, count: int, mean: str) -> None:
    assert average(D(total), count) == D(mean)


@given(st.decimals(0, MOST * 10**9, places=18), st.integers(1, 10**9))
def test_a_mean_is_the_nearest_of_18_places(total: Decimal, count: int) -> None:
    assert Fraction(average(total, count)) == raw_usage.rounded(Fraction(total) / count)


def parts_of(events: Sequence[Raw], edges: Sequence[datetime]) -> list[LevelPart]:
    """What each window's events say, as a store would tell it."""
    found = []
    for number, (start_at, end_at) in enumerate(
        [(datetime.min.replace(tzinfo=UTC), edges[0]), *pairwise(edges)]
    ):
        inside = [event for event in events if start_at <= event.at < end_at]
        if inside:
            first_at = min(event.at for event in inside)
            hours = raw_usage.integral(inside, first_at, end_at) if number else Fraction(0)
            found.append(
                LevelPart(
                    number,
                    D(raw_usage.spelt(hours * 3_600_000_000)),
                    len(inside),
                    first_at,
                    max(event.at for event in inside),
                    D(raw_usage.spelt(raw_usage.latest(inside))),
                )
            )
    return found


@given(
    st.lists(st.tuples(st.integers(-(10**11), 10**11), quantities), max_size=8),
    st.lists(st.integers(1, 10**11), min_size=1, max_size=6, unique=True),
)
def test_a_level_is_integrated_window_by_window(
    drawn: list[tuple[int, Decimal]], ends: list[int]
) -> None:
    edges = [START, *(START + at * MICROSECOND for at in sorted(ends))]
    events = [
        Raw(0, str(n), START + at * MICROSECOND, Fraction(quantity))
        for n, (at, quantity) in enumerate(drawn)
        if START + at * MICROSECOND < edges[-1]
    ]
    found = {window.window_number: window for window in held(parts_of(events, edges), edges)}
    assert list(found) == sorted(found)
    for number, (start_at, end_at) in enumerate(pairwise(edges), start=1):
        count = sum(start_at <= event.at < end_at for event in events)
        hours = raw_usage.integral(events, start_at, end_at)
        assert (number in found) is bool(count or hours)
        if number in found:
            window = found[number]
            assert Fraction(window.hours) == raw_usage.rounded(hours)
            assert (window.part.event_count if window.part else 0) == count


def test_windows_in_which_nothing_holds_cost_nothing() -> None:
    edges = [START + hour * timedelta(hours=1) for hour in range(10_001)]
    last = edges[-2]
    end = LevelPart(10_000, D(3_600_000_000), 1, last, last, D(1))
    assert list(held([end], edges)) == [LevelWindow(10_000, D(1), end)]
    assert list(held([], edges)) == []
