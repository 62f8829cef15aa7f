"""Background work that fails is told of once, and once again when it works."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.runtime.conditions import Conditions
from services.runtime.errors import DatabaseUnavailable, StorageLow
from services.runtime.interruptions import Interruptions, error_summary, is_database_away

AWAY = psycopg.OperationalError("server closed the connection unexpectedly")


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_same_failure_is_one_line_however_often_it_comes() -> None:
    clock = Clock()
    work = Interruptions("sweep", Conditions(), clock=clock)
    with capture_logs() as lines:
        for _ in range(100):
            clock.now += 0.5
            work.failed(ValueError("a fault"))
        assert work.failing_seconds == 49.5
        clock.now += 6
        work.works()
        work.works()
    assert [(line["event"], line["failures"]) for line in lines] == [
        ("sweep interrupted", 1),
        ("sweep works again", 100),
    ]
    assert work.count == 0 and work.failing_seconds == 0


def test_a_database_that_is_known_to_be_gone_is_not_told_of_again() -> None:
    clock, conditions = Clock(), Conditions(database_gone=True)
    work = Interruptions("sequencer", conditions, clock=clock)
    with capture_logs() as lines:
        for _ in range(100):
            clock.now += 1
            work.failed(AWAY)
            work.failed(TimeoutError())
            work.failed(ExceptionGroup("tasks", [AWAY]))
            work.failed(DatabaseUnavailable("away"))
        conditions.database_gone = False
        clock.now += 2.5
        work.failed(AWAY)  # begun while it was gone
        clock.now += 0.5
        work.works()
    assert lines == []


def test_what_only_this_work_cannot_reach_is_told_after_a_moment() -> None:
    clock = Clock()
    work = Interruptions("sequencer", Conditions(), clock=clock)
    with capture_logs() as lines:
        work.failed(AWAY)
        clock.now += 2.9
        work.failed(AWAY)
        assert lines == []
        clock.now += 0.2
        work.failed(AWAY)
    assert [line["failures"] for line in lines] == [3]


def test_a_fault_is_told_though_the_database_is_gone_and_a_second_kind_too() -> None:
    work = Interruptions("timer pump", Conditions(database_gone=True))
    with capture_logs() as lines:
        work.failed(KeyError("a"))
        work.failed(KeyError("b"))
        work.failed(psycopg.errors.DiskFull())
        work.failed(psycopg.errors.UndefinedTable())
        work.failed(psycopg.errors.UndefinedColumn())
    assert [line["error"].partition(":")[0] for line in lines] == [
        "KeyError",
        "DiskFull",
        "UndefinedTable",
        "UndefinedColumn",
    ]


def test_work_that_fails_and_works_by_turns_is_not_told_of_at_each_turn() -> None:
    clock = Clock()
    work = Interruptions("relay", Conditions(), clock=clock)
    with capture_logs() as lines:
        for _ in range(100):
            work.failed(ValueError("x"))
            clock.now += 1
            work.works()
        clock.now += 5
        work.works()
    assert [line["event"] for line in lines] == ["relay interrupted", "relay works again"]


@given(st.lists(st.sampled_from(["a", "b", "c", "works"]), max_size=60))
def test_lines_are_bounded_by_the_kinds_and_not_by_the_failures(steps: list[str]) -> None:
    kinds = {"a": KeyError, "b": ValueError, "c": RuntimeError}
    work = Interruptions("work", Conditions(), clock=lambda: 1.0)
    with capture_logs() as lines:
        for step in steps:
            if step == "works":
                work.works()
            else:
                work.failed(kinds[step]("x"))
    assert len(lines) == len({step for step in steps if step != "works"})


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (AWAY, True),
        (ExceptionGroup("g", [ExceptionGroup("h", [AWAY])]), True),
        (ConnectionRefusedError(), True),
        (psycopg.errors.DiskFull(), False),
        (psycopg.errors.TooManyConnections(), False),
        (StorageLow("full"), False),
        (psycopg.errors.UniqueViolation(), False),
        (ValueError(), False),
    ],
)
def test_what_says_that_the_database_is_away(error: BaseException, away: bool) -> None:
    assert is_database_away(error) is away


def test_of_a_group_the_first_error_is_told() -> None:
    assert error_summary(ExceptionGroup("g", [ValueError("x"), KeyError("y")])) == "ValueError: x"
