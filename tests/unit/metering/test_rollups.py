"""How answers are put together from rollups, against a plain list of events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metering.domain.aggregations import Aggregation
from services.metering.domain.rollups import (
    STRETCHES_MAX,
    Part,
    Plan,
    Standing,
    hour_of,
    merged,
    plan,
    value,
)
from services.metering.domain.usage import UsageQuery, Window, window_starts

HOUR, QUARTER = timedelta(hours=1), timedelta(minutes=15)
START = datetime(2026, 10, 23, tzinfo=UTC)
ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe"]
# Instants at which something may go wrong: full hours, quarters, and any microsecond.
instants = st.one_of(
    st.integers(0, 96).map(lambda count: START + count * HOUR),
    st.integers(0, 4 * 96).map(lambda count: START + count * QUARTER),
    st.integers(0, 96 * 3_600_000_000).map(lambda count: START + timedelta(microseconds=count)),
)
hours = st.integers(-2, 98).map(lambda count: START + count * HOUR)


def question(start_at: datetime, end_at: datetime, window: Window, zone: str) -> UsageQuery:
    return UsageQuery("org", "", [], start_at, end_at, window, zone, [], Aggregation.SUM)


@st.composite
def edges(draw: st.DrawFn) -> list[datetime]:
    start_at, end_at = sorted(draw(st.lists(instants, min_size=2, max_size=2, unique=True)))
    window, zone = draw(st.sampled_from(Window)), draw(st.sampled_from(ZONES))
    return [*window_starts(question(start_at, end_at, window, zone)), end_at]


def parts_at(made: Plan, at: datetime) -> list[tuple[datetime, datetime] | None]:
    """Return the buckets that an event at an instant is read in; None for the events themselves."""
    found: list[tuple[datetime, datetime] | None] = []
    unit = timedelta(minutes=made.minutes)
    bucket = at - (at - START) % unit
    if made.from_at <= bucket < made.until_at and bucket not in made.cut:
        found.append((bucket, bucket + unit))
    quarter = at - (at - START) % QUARTER
    if quarter in made.quarters:
        found.append((quarter, quarter + QUARTER))
    found += [None for first, last in made.stretches if first <= at < last]
    return found


def window_of(at: datetime, all_edges: Sequence[datetime]) -> int:
    return sum(edge <= at for edge in all_edges)


@given(all_edges=edges(), broken=st.sets(hours, max_size=4), offsets=st.lists(st.floats(0, 1)))
def test_every_instant_is_read_once_and_in_its_window(
    all_edges: list[datetime], broken: set[datetime], offsets: list[float]
) -> None:
    made = plan(all_edges, broken)
    assert made is not None
    start_at, end_at = all_edges[0], all_edges[-1]
    tick = timedelta(microseconds=1)
    asked = {start_at, end_at - tick, start_at - tick, end_at}
    for edge in all_edges:
        asked |= {edge, edge - tick}
    asked |= {start_at + offset * (end_at - start_at) for offset in offsets}
    for at in asked:
        found = parts_at(made, at)
        if not start_at <= at < end_at:
            # A bucket that begins before the period, or ends behind it, would bring what is outside.
            assert found == []
            continue
        (part,) = found
        if part is None:
            continue
        first, until = part
        assert window_of(first, all_edges) == window_of(until - tick, all_edges)
        assert hour_of(first) not in broken
    assert list(made.stretches) == sorted(made.stretches)
    assert all(
        last < first
        for (_, last), (first, _) in zip(made.stretches, made.stretches[1:], strict=False)
    )


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu"])
def test_windows_of_todays_zones_need_no_event(zone: str) -> None:
    where = ZoneInfo(zone)
    start_at = datetime(2026, 10, 1, tzinfo=where).astimezone(UTC)
    end_at = datetime(2026, 11, 1, tzinfo=where).astimezone(UTC)
    for window, minutes in ((Window.DAY, 60), (Window.MONTH, 60), (Window.NONE, 60)):
        query = question(start_at, end_at, window, zone)
        made = plan([*window_starts(query), end_at], set())
        assert made is not None
        assert (made.minutes, list(made.stretches)) == (minutes, [])
    query = question(start_at, end_at, Window.HOUR, zone)
    made = plan([*window_starts(query), end_at], set())
    assert made is not None
    assert made.stretches == []
    assert made.minutes == (60 if start_at == hour_of(start_at) else 15)


def test_zones_of_odd_seconds_and_too_many_broken_hours_are_left_to_the_events() -> None:
    """Clocks in Liberia were 44 minutes and 30 seconds behind until 1972."""
    start_at = datetime(1970, 3, 1, tzinfo=UTC)
    query = question(start_at, start_at + 40 * 24 * HOUR, Window.HOUR, "Africa/Monrovia")
    assert plan([*window_starts(query), query.end_at], set()) is None
    broken = {start_at + 2 * number * HOUR for number in range(STRETCHES_MAX + 1)}
    assert plan([start_at, start_at + 2000 * HOUR], broken) is None
    broken.remove(start_at)
    assert plan([start_at, start_at + 2000 * HOUR], broken) is not None


def test_the_ends_of_time_are_no_trouble() -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    made = plan([first, last], set())
    assert made is not None
    assert (made.from_at, made.until_at) == (first, last)
    assert made.stretches == [(last.replace(minute=45, second=0, microsecond=0), last)]


quantities = st.integers(0, 5).map(Decimal)
events = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from([None, "", "x"]),
        st.integers(1, 2),
        quantities,
        st.integers(0, 3).map(lambda count: START + count * QUARTER),
    )
)
Event = tuple[str, str | None, int, Decimal, datetime]


def parts_of(some: Sequence[Event]) -> list[Part]:
    """Aggregate events the plain way, in the order of an answer."""
    found = []
    for sku, group, number in {event[:3] for event in some}:
        of = [event for event in some if event[:3] == (sku, group, number)]
        values, times = [event[3] for event in of], [event[4] for event in of]
        latest = max(event[3] for event in of if event[4] == max(times))
        part = Part(
            sku,
            "",
            number,
            (group,),
            len(of),
            sum(values, Decimal(0)),
            min(values),
            max(values),
            latest,
            min(times),
            max(times),
        )
        found.append(part)
    return sorted(
        found,
        key=lambda part: (
            part.sku,
            part.window_number,
            part.groups[0] is None,
            part.groups[0] or "",
        ),
    )


@given(some=events, others=events, more=events)
def test_parts_put_together_are_those_of_all_events(
    some: list[Event], others: list[Event], more: list[Event]
) -> None:
    together = merged([*parts_of(some), *parts_of(others), *parts_of(more)])
    assert together == parts_of([*some, *others, *more])
    for part in together:
        assert value(Aggregation.COUNT, part) == part.event_count
        assert value(Aggregation.AVG, part) * part.event_count == pytest.approx(part.quantity)


def test_rollups_serve_what_they_keep_apart() -> None:
    at = Standing(1, 1, 9, ("model", "region"))

    def serves(aggregation: Aggregation, *group_by: str, **metadata: str) -> bool:
        query = UsageQuery(
            "org",
            "",
            [],
            START,
            START + HOUR,
            Window.NONE,
            "",
            group_by,
            aggregation,
            metadata=metadata,
        )
        return at.serves(query)

    assert serves(Aggregation.SUM)
    assert serves(Aggregation.LATEST, "region", model="big")
    assert not serves(Aggregation.SUM, "customer")
    assert not serves(Aggregation.SUM, customer="1")
    for aggregation in (Aggregation.UNIQUE, Aggregation.WEIGHTED_SUM, Aggregation.P95):
        assert not serves(aggregation)
