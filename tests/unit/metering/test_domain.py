"""Windows, verdicts and spellings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metering.domain.aggregations import Aggregation
from services.metering.domain.events import Batch, Repeat, StoredEvent, canonical_quantity
from services.metering.domain.receipts import Verdict, receipt_of, settle
from services.metering.domain.settings import IngestSettings
from services.metering.domain.times import instant, microseconds
from services.metering.domain.usage import (
    WINDOWS_MAX,
    UnknownTimeZone,
    UsageQuery,
    UsageTooWide,
    Window,
    window_starts,
    zone,
)

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "Asia/Beirut",
]
FIRST, LAST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
LENGTHS = {Window.HOUR: timedelta(days=20), Window.DAY: timedelta(days=700)}


def query(start_at: datetime, end_at: datetime, window: Window, time_zone: str) -> UsageQuery:
    """Make a query over a period."""
    return UsageQuery("o", "", [], start_at, end_at, window, time_zone, [], Aggregation.SUM)


@given(
    st.integers(microseconds(FIRST), microseconds(LAST)).map(instant),
    st.floats(0.001, 1),
    st.sampled_from([Window.HOUR, Window.DAY, Window.MONTH]),
    st.sampled_from(ZONES),
)
def test_windows_cover_the_period_and_begin_where_the_zone_says(
    start_at: datetime, part: float, window: Window, time_zone: str
) -> None:
    end_at = start_at + LENGTHS.get(window, timedelta(days=3000)) * part
    starts = window_starts(query(start_at, end_at, window, time_zone))
    assert starts[0] == start_at
    assert starts == sorted(set(starts))
    assert starts[-1] < end_at
    zone = ZoneInfo(time_zone)
    for before, at in pairwise(starts):
        local, previous = at.astimezone(zone), before.astimezone(zone)
        if window is Window.HOUR:
            assert local.minute == local.second == local.microsecond == 0 or shifted(at, zone)
            assert at - before <= timedelta(hours=1)
        else:
            assert local.time() == datetime.min.time() or shifted(at, zone)
            assert local.date() > previous.date()
        if window is Window.MONTH:
            assert local.day == 1
            assert (local.year, local.month) != (previous.year, previous.month)


def shifted(at: datetime, zone: ZoneInfo) -> bool:
    """True when the zone changes its clocks at this instant: the round hour or midnight never comes."""
    tick = timedelta(microseconds=1)
    return at.astimezone(zone).utcoffset() != (at - tick).astimezone(zone).utcoffset()


def local_days(time_zone: str, *days: tuple[int, int, int]) -> list[datetime]:
    """Return the midnights of a zone, in UTC."""
    zone = ZoneInfo(time_zone)
    return [datetime(*day, tzinfo=zone).astimezone(UTC) for day in days]


def test_days_have_23_24_and_25_hours() -> None:
    for day, hours in ((28, 24), (29, 23), (30, 24)):
        start_at, end_at = local_days("Europe/Berlin", (2026, 3, day), (2026, 3, day + 1))
        asked = query(start_at, end_at, Window.HOUR, "Europe/Berlin")
        assert len(window_starts(asked)) == hours
    start_at, end_at = local_days("Europe/Berlin", (2026, 10, 24), (2026, 10, 27))
    starts = window_starts(query(start_at, end_at, Window.DAY, "Europe/Berlin"))
    assert [b - a for a, b in zip(starts, [*starts[1:], end_at], strict=True)] == [
        timedelta(hours=24),
        timedelta(hours=25),
        timedelta(hours=24),
    ]


def test_windows_are_cut_at_both_ends_of_the_period() -> None:
    start_at = datetime(2026, 1, 31, 22, 30, tzinfo=UTC)
    end_at = datetime(2026, 3, 1, 0, 0, 1, tzinfo=UTC)
    assert window_starts(query(start_at, end_at, Window.MONTH, "")) == [
        start_at,
        datetime(2026, 2, 1, tzinfo=UTC),
        datetime(2026, 3, 1, tzinfo=UTC),
    ]
    assert window_starts(query(start_at, end_at, Window.NONE, "")) == [start_at]


def test_the_number_of_windows_is_bounded() -> None:
    start_at = datetime(2026, 1, 1, tzinfo=UTC)
    limit = timedelta(hours=WINDOWS_MAX)
    asked = query(start_at, start_at + limit, Window.HOUR, "")
    assert len(window_starts(asked)) == WINDOWS_MAX
    beyond = query(start_at, start_at + limit + timedelta(microseconds=1), Window.HOUR, "")
    with pytest.raises(UsageTooWide):
        window_starts(beyond)


def test_windows_end_with_the_calendar() -> None:
    last = datetime(9999, 12, 31, 22, tzinfo=UTC)
    end_at = datetime.max.replace(tzinfo=UTC)
    for window in (Window.HOUR, Window.DAY, Window.MONTH):
        for time_zone in ("UTC", "Pacific/Apia", "America/New_York"):
            assert len(window_starts(query(last, end_at, window, time_zone))) <= 2


@pytest.mark.parametrize(
    "name",
    [
        *("Europe/Berlino", "../etc/passwd", "/etc/passwd", "Europe", "a\0b"),
        # What these mean is the machine's own.
        *("localtime", "posixrules", "Factory", "right/Europe/Berlin"),
    ],
)
def test_unknown_zones_are_refused(name: str) -> None:
    with pytest.raises(UnknownTimeZone):
        zone(name)


@given(st.decimals(0, 10**15, places=6))
def test_equal_quantities_have_one_spelling(value: Decimal) -> None:
    text = f"{value:f}"
    spelling = canonical_quantity(text)
    assert Decimal(spelling) == value
    spellings = {"00" + text, f"{text}000", spelling, f"{Decimal(spelling):f}"}
    assert {canonical_quantity(other) for other in spellings} == {spelling}


@given(st.integers(0, 2**52))
def test_instants_survive_the_way_through_microseconds(at_us: int) -> None:
    assert microseconds(instant(at_us)) == at_us


def test_the_window_of_event_times_has_both_ends() -> None:
    now = datetime(2026, 11, 20, tzinfo=UTC)
    settings = IngestSettings(timedelta(hours=1), timedelta(seconds=1))
    earliest_us, latest_us = settings.bounds_us(now)
    assert instant(earliest_us) == now - timedelta(hours=1)
    assert instant(latest_us) == now + timedelta(seconds=1)


def test_repeats_are_judged_against_what_is_stored_in_the_end() -> None:
    batch = Batch(size=4, rows=[("a", "", "", "key", "mine")], first_index={"a": 0})
    batch.repeats = [Repeat(1, "a", "mine"), Repeat(2, "a", "theirs"), Repeat(3, "a", "third")]
    new = [problem.verdict for problem in settle(batch, [])]
    assert new == [Verdict.DUPLICATE, Verdict.CONFLICT, Verdict.CONFLICT]
    lost = [problem.verdict for problem in settle(batch, [StoredEvent("a", "theirs")])]
    assert lost == [Verdict.CONFLICT, Verdict.CONFLICT, Verdict.DUPLICATE, Verdict.CONFLICT]
    receipt = receipt_of("rcp_1", batch, [StoredEvent("a", "mine")])
    assert (receipt.accepted, receipt.duplicate, receipt.conflict) == (0, 2, 2)
