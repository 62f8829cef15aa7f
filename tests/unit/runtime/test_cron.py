"""When schedules fire, against a clock that is read minute by minute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime import moments
from services.runtime.timers.cron import MISSED_AFTER, Cron, Missed, ScheduleInvalid

MINUTE = timedelta(minutes=1)
# Days around a change of clocks: forward and back, either side of the ocean.
CHANGES = [
    ("Europe/Berlin", datetime(2026, 3, 28, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 24, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 10, 31, tzinfo=UTC)),
]


def minutes(start: datetime, zone: str, days: int = 3) -> Iterator[tuple[datetime, datetime]]:
    """Every minute of some days, with what a clock on the wall of that place shows."""
    for number in range(days * 24 * 60):
        moment = start + number * MINUTE
        yield moment, moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def fires(expression: str, zone: str, start: datetime, days: int = 3) -> list[datetime]:
    found = []
    moment = start - MINUTE
    while (moment := Cron(expression, zone).next_after(moment)) < start + timedelta(days=days):
        found.append(moment)
    return found


def at_times_of_day(times: list[time], zone: str, start: datetime) -> list[datetime]:
    """Each time once a day: when the wall first shows it, or first shows a later one."""
    shown = list(minutes(start - timedelta(days=1), zone, 5))
    wanted = set()
    for date in {wall.date() for _, wall in shown[1440:-1440]}:
        for at in times:
            meant = datetime.combine(date, at)
            exact = [moment for moment, wall in shown if wall == meant]
            later = [moment for moment, wall in shown if wall > meant]
            wanted.add(exact[0] if exact else later[0])
    return sorted(moment for moment in wanted if start <= moment < start + timedelta(days=3))


@pytest.mark.parametrize(("zone", "start"), CHANGES)
@pytest.mark.parametrize("times", [["02:30"], ["01:15", "01:45"], ["02:00", "02:30"], ["03:00"]])
def test_a_time_of_day_comes_once_a_day_whatever_clocks_do(
    zone: str, start: datetime, times: list[str]
) -> None:
    of_day = [time.fromisoformat(text) for text in times]
    (hour,) = {at.hour for at in of_day}
    expression = f"{','.join(str(at.minute) for at in of_day)} {hour} * * *"
    expected = at_times_of_day(of_day, zone, start)
    assert fires(expression, zone, start) == expected
    # Times that fall into the missing hour come together.
    assert len(expected) >= 2 * len(times)


@pytest.mark.parametrize(("zone", "start"), CHANGES)
@pytest.mark.parametrize(
    ("expression", "shows"),
    [
        ("*/15 * * * *", lambda wall: wall.minute % 15 == 0),
        ("0 * * * *", lambda wall: wall.minute == 0),
        ("* 2 * * *", lambda wall: wall.hour == 2),
    ],
)
def test_what_counts_minutes_or_hours_follows_the_wall(
    zone: str, start: datetime, expression: str, shows: Callable[[datetime], bool]
) -> None:
    expected = [moment for moment, wall in minutes(start, zone) if shows(wall)]
    assert fires(expression, zone, start) == expected


def test_the_hours_that_change_are_the_ones_that_were_meant() -> None:
    """The oracle above and the calendar agree."""
    berlin = fires("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 29, tzinfo=UTC), 1)
    assert berlin == [datetime(2026, 3, 29, 1, 0, tzinfo=UTC)]
    doubled = fires("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC), 1)
    assert doubled == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC)]
    hourly = fires("30 * * * *", "Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC), 1)
    assert len(hourly) == 24, "one an hour of real time"


@pytest.mark.parametrize(
    ("expression", "zone"),
    [
        ("", "UTC"),
        ("* * * *", "UTC"),
        ("* * * * * *", "UTC"),
        ("60 * * * *", "UTC"),
        ("0 25 * * *", "UTC"),
        ("a b c d e", "UTC"),
        ("@daily", "UTC"),
        ("0 0 30 2 *", "UTC"),
        ("0 0 * * 1#2/3", "UTC"),
        ("0 0 1 1 " + ",".join(["1"] * 100), "UTC"),
        ("0 0 * * *", "Europe/Nowhere"),
        ("0 0 * * *", "Europe"),
        ("0 0 * * *", "../../etc/passwd"),
        ("0 0 * * *", "localtime"),
        ("0 0 * * *", "posixrules"),
        ("0 0 * * *", "Factory"),
        ("0 0 * * *", "right/Europe/Berlin"),
        ("0 0 * * *", ""),
    ],
)
def test_what_cannot_be_used_is_refused(expression: str, zone: str) -> None:
    with pytest.raises(ScheduleInvalid, match="cannot be used") as refused:
        Cron(expression, zone).next_after(datetime(2026, 1, 1, tzinfo=UTC))
    assert refused.value.metadata["time_zone"] == zone


@pytest.mark.parametrize(
    ("expression", "days"),
    [
        ("0 0 1 * 1", [(3, 2), (3, 9), (3, 16), (3, 23)]),
        # A field that begins with a star narrows the other one, whatever its step.
        ("0 0 */10 * 1", [(5, 11), (6, 1), (8, 31), (9, 21)]),
        ("0 0 1-31/10 * 1", [(3, 2), (3, 9), (3, 11), (3, 16)]),
    ],
)
def test_both_fields_of_days_are_read_as_debians_cron_does(
    expression: str, days: list[tuple[int, int]]
) -> None:
    cron, at, found = Cron(expression, "UTC"), datetime(2026, 3, 1, 12, tzinfo=UTC), []
    for _ in days:
        at = cron.next_after(at)
        found.append((at.month, at.day))
    assert found == days


def test_a_rare_day_is_found_in_both_directions() -> None:
    cron = Cron("0 0 29 2 *", "UTC")
    first = cron.next_after(datetime(2021, 1, 1, tzinfo=UTC))
    assert first == datetime(2024, 2, 29, tzinfo=UTC)
    assert cron.last_until(datetime(2033, 1, 1, tzinfo=UTC), first).year == 2032
    assert cron.last_until(datetime(2025, 1, 1, tzinfo=UTC), first) == first


FROM, UNTIL = datetime(2020, 1, 1), datetime(2030, 1, 1)  # noqa: DTZ001 - given its zone below
EXPRESSIONS = ["*/17 * * * *", "30 2 * * *", "0 0 * * MON", "0,30 1,2 * * *", "0 12 1 * *"]


@given(
    st.sampled_from(EXPRESSIONS),
    st.sampled_from(sorted(moments.zones())),
    st.datetimes(FROM, UNTIL, timezones=st.just(UTC)),
    st.timedeltas(timedelta(0), timedelta(days=20)),
)
@settings(max_examples=50, deadline=None)
def test_policies_agree_on_what_was_missed(
    expression: str, zone: str, start: datetime, away: timedelta
) -> None:
    cron = Cron(expression, zone)
    first = cron.next_after(start)
    now = start + away
    every = [first]
    while every[-1] <= now:
        every.append(cron.next_after(every[-1]))
    owed, after = every[:-1], every[-1]
    assert all(earlier < later for earlier, later in pairwise(every))
    skip, one, backfill = (cron.due(policy, first, now, 10_000) for policy in Missed)
    if not owed:
        assert {skip.next_at, one.next_at, backfill.next_at} == {first}
        assert skip.fires == one.fires == backfill.fires == ()
        return
    assert list(backfill.fires) == owed
    assert list(one.fires) == owed[-1:]
    assert list(skip.fires) == [fire for fire in owed if fire > now - MISSED_AFTER]
    assert {skip.next_at, one.next_at, backfill.next_at} == {after}


def test_a_backfill_is_bounded_and_goes_on_where_it_stopped() -> None:
    cron = Cron("* * * * *", "UTC")
    first = datetime(2026, 1, 1, tzinfo=UTC)
    now = first + timedelta(hours=3)
    made: list[datetime] = []
    next_at = first
    while (due := cron.due(Missed.BACKFILL, next_at, now, 100)).fires:
        assert len(due.fires) <= 100
        made += due.fires
        next_at = due.next_at
    assert made == [first + number * MINUTE for number in range(181)]
