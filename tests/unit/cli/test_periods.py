"""Periods as people write them."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli import periods
from services.cli.errors import EXIT_USAGE, CliError


@pytest.mark.parametrize(
    ("text", "start_at", "end_at"),
    [
        ("2023-11-16", "2023-11-16T00:00:00Z", "2023-11-17T00:00:00Z"),
        ("2024-02-29", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
        ("2023-11", "2023-11-01T00:00:00Z", "2023-12-01T00:00:00Z"),
        ("2023-12", "2023-12-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("2023-11-16/2023-11-18", "2023-11-16T00:00:00Z", "2023-11-18T00:00:00Z"),
        (
            "2023-11-16T01:00:00+01:00/2023-11-16T12:30:00",
            "2023-11-16T00:00:00Z",
            "2023-11-16T12:30:00Z",
        ),
    ],
)
def test_the_three_forms(text: str, start_at: str, end_at: str) -> None:
    period = periods.parse(text)
    assert (period.start_at.ToJsonString(), period.end_at.ToJsonString()) == (start_at, end_at)


def test_a_period_is_shown_as_it_is() -> None:
    shown = periods.describe(periods.parse("2023-11"))
    assert shown == "2023-11-01 00:00 to 2023-12-01 00:00 UTC"


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-02", "2024-02-29T23:59:59.999999+00:00"),
        ("2024-02-29", "2024-02-29T23:59:59.999999+00:00"),
        ("2024-02-29T12:30:00", "2024-02-29T12:30:00+00:00"),
        ("2024-02-29T12:30:00.000001+01:00", "2024-02-29T11:30:00.000001+00:00"),
    ],
)
def test_a_day_and_a_month_mean_their_last_instant(text: str, instant: str) -> None:
    assert periods.last_instant("--effective-at", text).isoformat() == instant


@pytest.mark.parametrize("text", ["yesterday", "2024-13", "2024-02-30", "2024-01/2024-02", ""])
def test_what_is_no_instant_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(CliError, match=r"--effective-at .*is not a time: write") as refused:
        periods.last_instant("--effective-at", text)
    assert refused.value.exit_code == EXIT_USAGE


@given(st.dates(date(1, 1, 1), date(9999, 12, 30)))
def test_every_day_is_a_period_of_one_day(day: date) -> None:
    period = periods.parse(day.isoformat())
    assert period.end_at.ToDatetime() - period.start_at.ToDatetime() == timedelta(days=1)
    assert period.start_at.ToDatetime().date() == day


@given(st.text(alphabet="0123456789-/TZ:+. x", max_size=40))
def test_nothing_else_than_a_period_or_an_error_that_says_what_to_write(text: str) -> None:
    try:
        period = periods.parse(text)
    except CliError as error:
        assert error.exit_code == EXIT_USAGE
        assert error.hints == (f"write {periods.HELP}",)
    else:
        assert period.start_at.ToDatetime() < period.end_at.ToDatetime()


@pytest.mark.parametrize(
    "text",
    ["", "2023", "2023-13", "2023-02-30", "9999-12-31", "2023-11-17/2023-11-16", "2023-11/2023-12"],
)
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(CliError):
        periods.parse(text)


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("yesterday", "2023-11-18", "--from 'yesterday' is not a time"),
        ("2023-11-16", "2023/11/18", "--to '2023/11/18' is not a time"),
        ("2023-11-18", "2023-11-16", "--from 2023-11-18 is not before --to 2023-11-16"),
        ("2023-11-16", "2023-11-16", "is not before"),
    ],
)
def test_options_are_named_where_they_are_wrong(start: str, end: str, said: str) -> None:
    with pytest.raises(CliError, match=said) as caught:
        periods.between(start, end)
    assert caught.value.exit_code == EXIT_USAGE


def test_options_make_a_period() -> None:
    assert periods.between("2023-11-16", "2023-11-18") == periods.parse("2023-11-16/2023-11-18")
