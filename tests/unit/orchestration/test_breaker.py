"""The circuit breaker: faults in a row open it, any answer closes it, one payment at a time tries again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestration.domain.breaker import (
    FAULTS_TO_OPEN,
    PROBE_MAX,
    WAIT_FIRST,
    WAIT_MAX,
    Recent,
    rests,
    wait,
)
from services.orchestration.domain.payment import AttemptStatus

NOW = datetime(2026, 11, 1, tzinfo=UTC)
S = AttemptStatus
FAULTS = [S.UNKNOWN, S.MANUAL, S.NOT_SENT, S.NOT_CHARGED]
ANSWERS = [S.SUCCEEDED, S.DECLINED, S.LATE_CHARGE, S.REVERSED]


def recent(*statuses: AttemptStatus, at: datetime = NOW) -> list[Recent]:
    """The newest first, a second apart."""
    return [Recent(each, at - timedelta(seconds=n)) for n, each in enumerate(statuses)]


@given(st.lists(st.sampled_from(FAULTS), min_size=FAULTS_TO_OPEN), st.sampled_from(ANSWERS))
def test_faults_in_a_row_open_it_and_an_answer_closes_it(
    faults: list[AttemptStatus], answer: AttemptStatus
) -> None:
    assert rests("p", recent(*faults), NOW)
    assert not rests("p", recent(*faults[: FAULTS_TO_OPEN - 1]), NOW)
    assert not rests("p", recent(answer, *faults), NOW)
    assert not rests("p", recent(*faults[: FAULTS_TO_OPEN - 1], answer, *faults), NOW)
    assert rests("p", recent(S.SENT, *faults), NOW), "what is under way says nothing yet"


@given(st.integers(FAULTS_TO_OPEN, 40))
def test_the_wait_doubles_up_to_its_end(faults: int) -> None:
    whole = min(WAIT_FIRST * 2 ** (faults - FAULTS_TO_OPEN), WAIT_MAX)
    found = wait("p", faults, NOW)
    assert whole * 0.9 <= found <= whole * 1.1
    assert wait("p", faults, NOW) == found


def test_one_payment_at_a_time_tries_again() -> None:
    faults = recent(*[S.NOT_SENT] * FAULTS_TO_OPEN)
    again_at = NOW + wait("p", FAULTS_TO_OPEN, NOW)
    assert rests("p", faults, again_at - timedelta(milliseconds=1))
    assert not rests("p", faults, again_at)
    trying = [Recent(S.SENT, again_at), *faults]
    assert rests("p", trying, again_at + timedelta(seconds=1)), "somebody tries: the others wait"
    assert not rests("p", trying, again_at + PROBE_MAX), "who tried has not come back"
    assert rests("p", [Recent(S.UNKNOWN, again_at), *faults], again_at + WAIT_FIRST)
    assert not rests("p", [Recent(S.DECLINED, again_at), *faults], again_at)


@pytest.mark.parametrize("status", [S.VOIDED_UNSENT, S.PENDING, S.CREATED])
def test_what_was_not_asked_or_not_answered_is_no_answer(status: AttemptStatus) -> None:
    assert rests("p", recent(status, *[S.UNKNOWN] * FAULTS_TO_OPEN), NOW)
