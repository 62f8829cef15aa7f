"""When a refused instrument may be tried again, by what issuers and schemes say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestration.domain import outcome
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.payment import (
    Attempt,
    AttemptStatus,
    Finish,
    PaymentStatus,
    Policy,
    Progress,
    Take,
    decide,
    due_at,
)
from services.orchestration.domain.plan import Step
from services.orchestration.domain.retries import (
    CAPS,
    RetryRule,
    Scheme,
    Tried,
    instrument_of,
    scheme_of,
    withheld,
)

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("digits", "scheme"),
    [
        ("4", "VISA"),
        ("41111111", "VISA"),
        ("51", "MASTERCARD"),
        ("5599", "MASTERCARD"),
        ("2221", "MASTERCARD"),
        ("272099", "MASTERCARD"),
        ("2220", "UNKNOWN"),
        ("2721", "UNKNOWN"),
        ("50", "UNKNOWN"),
        ("56", "UNKNOWN"),
        ("37", "UNKNOWN"),
        ("", "UNKNOWN"),
    ],
)
def test_a_scheme_is_told_by_the_first_digits(digits: str, scheme: str) -> None:
    assert scheme_of(digits) is Scheme(scheme)


@pytest.mark.parametrize("cap", CAPS)
def test_a_cap_lets_through_exactly_what_the_scheme_allows(cap: object) -> None:
    assert cap in CAPS
    for each in CAPS:
        if each is not cap:
            continue
        # All at the far end of the window, where no shorter one sees them.
        at = NOW - each.window + timedelta(seconds=1)
        tried = [Tried(at, failure_code="insufficient_funds")] * each.tries_max
        assert withheld(each.scheme, tried[1:], NOW) is None
        found = withheld(each.scheme, tried, NOW)
        assert found is not None
        assert (found.rule, found.failure_code) == (each.rule, "insufficient_funds")
        assert str(each.tries_max) in found.message
        again = f"{at + each.window:%Y-%m-%d %H:%M} UTC"
        assert again in found.message
        assert withheld(each.scheme, tried, NOW + timedelta(seconds=1)) is None
        assert withheld(Scheme.UNKNOWN, tried, NOW) is None


def test_what_an_issuer_refused_for_good_is_not_tried_for_a_month() -> None:
    tried = [Tried(NOW - 30 * DAY + timedelta(seconds=1), True, "expired_card")]
    found = withheld(Scheme.UNKNOWN, tried, NOW)
    assert found is not None
    assert (found.rule, found.failure_code) == (RetryRule.NEVER_AGAIN, "expired_card")
    assert withheld(Scheme.UNKNOWN, tried, NOW + timedelta(seconds=1)) is None


@given(
    hours=st.lists(st.integers(0, 40 * 24), max_size=60).map(sorted),
    scheme=st.sampled_from(Scheme),
)
def test_no_window_ever_holds_more_tries_than_its_scheme_allows(
    hours: list[int], scheme: Scheme
) -> None:
    made: list[datetime] = []
    for hour in hours:
        at = NOW + timedelta(hours=hour)
        if withheld(scheme, [Tried(each) for each in reversed(made)], at) is None:
            made.append(at)
    for cap in CAPS:
        if cap.scheme is scheme:
            for at in made:
                assert sum(at <= each < at + cap.window for each in made) <= cap.tries_max
    if scheme is Scheme.UNKNOWN:
        assert len(made) == len(hours)


def test_instruments_are_of_one_merchant_and_not_readable() -> None:
    assert instrument_of("acme", "") == ""
    assert instrument_of("acme", "tok") != instrument_of("shop", "tok")
    assert "tok" not in instrument_of("acme", "tok")


# ---- backing off


def attempt(number: int, status: AttemptStatus, at: datetime) -> Attempt:
    return Attempt(
        f"att-{number}",
        0,
        number,
        Operation.CHARGE,
        "p",
        100,
        f"key-{number}",
        status,
        at,
        settled_at=at,
    )


def progress(*attempts: Attempt, backoff_ms: int = 1000) -> Progress:
    policy = Policy(5, 1000, False, backoff_ms)
    return Progress(PaymentStatus.PENDING, (Step("card", 100, ("p",)),), attempts, policy)


def test_waits_double_and_are_drawn_from_their_second_half() -> None:
    made: list[Attempt] = []
    for number in range(1, 5):
        made.append(attempt(number, AttemptStatus.NOT_SENT, NOW))
        action = decide(progress(*made))
        assert isinstance(action, Take)
        assert action.not_before is not None
        assert due_at(action) == action.not_before
        whole = timedelta(seconds=2 ** (number - 1))
        assert whole / 2 <= action.not_before - NOW <= whole
        assert decide(progress(*made)) == action, "drawn once for all"
    drawn = {decide(progress(replace(made[0], attempt_id=f"other-{n}"))) for n in range(20)}
    assert len(drawn) > 10, "payments of one outage do not all ask at once"


def test_another_processor_is_asked_at_once() -> None:
    one = attempt(1, AttemptStatus.NOT_SENT, NOW)
    steps = (Step("card", 100, ("p", "q")),)
    action = decide(replace(progress(one), steps=steps))
    assert action == Take(0, "q")
    assert decide(progress(one, backoff_ms=0)) == Take(0, "p")


def test_what_is_withheld_ends_its_step() -> None:
    found = withheld(Scheme.VISA, [Tried(NOW, True, "card_declined")], NOW)
    assert found is not None
    sent = attempt(1, AttemptStatus.SENT, NOW)
    after = outcome.withheld(sent, found, "card", NOW)
    assert (after.status, after.sent_at) == (AttemptStatus.VOIDED_UNSENT, None)
    assert (after.withheld_by, after.failure_code) == ("NEVER_AGAIN", "card_declined")
    steps = (Step("card", 100, ("p", "q")),)
    assert decide(replace(progress(after), steps=steps)) == Finish(PaymentStatus.FAILED)
