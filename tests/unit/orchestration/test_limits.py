"""Limits: what counts together, how windows slide, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.orchestration.domain.issues import Findings
from services.orchestration.domain.limits import (
    PARTS,
    Bound,
    Counted,
    Limit,
    Paid,
    Scope,
    Slots,
    bounds,
    check,
    windows,
)
from services.orchestration.store import codec
from services.runtime.money import Money

NOW = datetime(2026, 11, 1, tzinfo=UTC)
PAID = Paid("meier", 1000, {"tok_a": 400, "tok_b": 300})


@given(st.integers(60, 2_678_400), st.integers(0, 10**7), st.integers(0, 10**7))
def test_what_is_within_the_window_always_counts_and_little_beside_it(
    window_s: int, paid_s: int, later_s: int
) -> None:
    (bound,) = bounds([Limit("l", Scope.MERCHANT, window_s, 1)], PAID)
    paid_at = NOW + timedelta(seconds=paid_s)
    asked_at = paid_at + timedelta(seconds=later_s)
    counts = bound.slots.slot_at(paid_at) >= bound.since(asked_at)
    if later_s < window_s:
        assert counts
    if later_s >= window_s + bound.slots.slot_s:
        assert not counts
    assert bound.slots.slot_s <= max(1, window_s / PARTS)


def test_whose_payments_count_together() -> None:
    every = [Limit(scope.value, scope, 3600, 1) for scope in Scope]
    found = bounds(every, PAID)
    assert [(b.slots.scope, b.amount_minor) for b in found] == [
        (Scope.PAYER, 1000),
        (Scope.MERCHANT, 1000),
        (Scope.INSTRUMENT, 400),
        (Scope.INSTRUMENT, 300),
    ]
    assert all("tok" not in b.slots.subject for b in found)
    nobody = bounds(every, Paid("", 1000, {}))
    assert [b.slots.scope for b in nobody] == [Scope.MERCHANT]


def test_two_limits_on_the_same_count_once() -> None:
    two = [Limit("a", Scope.PAYER, 60, 1), Limit("b", Scope.PAYER, 100, 5), Limit("c", Scope.PAYER)]
    assert windows(bounds(two, PAID)) == {Slots(Scope.PAYER, "meier", 1): 100}


def refused(limit: Limit, counted: Counted, currency: str = "USD") -> list[str]:
    findings = Findings()
    check(Bound(limit, Slots(limit.scope, "", 1), 100), counted, currency, findings)
    return [issue.message for issue in findings.issues]


def test_the_last_one_within_a_limit_passes_and_the_next_does_not() -> None:
    three = Limit("three", Scope.PAYER, 3600, 3)
    assert refused(three, Counted(2)) == []
    said = "limit three allows 3 payments of one payer within 3600 seconds"
    assert refused(three, Counted(3)) == [said]
    much = Limit("much", Scope.INSTRUMENT, 3600, 0, Money("USD", 1000))
    assert refused(much, Counted(9, 900)) == []
    assert refused(much, Counted(9, 901)) == [
        "limit much allows 10.00 USD with one instrument within 3600 seconds"
    ]
    assert refused(much, Counted(9, 901), "EUR") == [], "other currencies are not bounded"


@given(
    st.lists(
        st.builds(
            Limit,
            st.text("abc", min_size=1),
            st.sampled_from(Scope),
            st.integers(0, 99),
            st.integers(0, 99),
            st.none() | st.just(Money("USD", 5)),
        )
    )
)
def test_what_is_stored_is_read_back(limits: list[Limit]) -> None:
    assert codec.limits_from_json(codec.limits_to_json(tuple(limits))) == tuple(limits)
