"""Grants against a pure model, whatever is held, used, released, reversed and lapses in whichever order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.orders.domain.credits import (
    Balance,
    CreditsExceeded,
    Grant,
    Part,
    Reversal,
    Source,
    balance,
    held,
    in_order_of_use,
    lapsed,
    parts_of,
    released,
    reversed_,
    rolled_over,
    used,
    used_of_held,
)

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)


def grant(
    name: str = "g1", amount: int = 100, *, priority: int = 0, days: int | None = None, age: int = 0
) -> Grant:
    return Grant(
        name,
        "per_1",
        "USD",
        amount,
        Source.PURCHASED,
        START - age * DAY,
        START - age * DAY,
        priority,
        None if days is None else START + days * DAY,
    )


def test_grants_are_used_by_priority_then_expiry_then_age() -> None:
    first = grant("urgent", priority=-1)
    second = grant("ends soon", days=1)
    third = grant("ends later", days=2)
    fourth = grant("old", age=3)
    fifth = grant("new")
    last = grant("spare", priority=1, days=1, age=9)
    expected = [first, second, third, fourth, fifth, last]
    for mixed in permutations(expected):
        assert in_order_of_use(mixed, START) == expected


def test_an_amount_is_shared_over_grants_and_what_is_empty_is_passed_over() -> None:
    empty = used(grant("empty", 10, days=1), 10)
    grants = [grant("rest", 50), empty, grant("soon", 30, days=2)]
    assert parts_of(grants, "per_1", "USD", 40, START) == (Part("soon", 30), Part("rest", 10))


def test_more_than_there_is_is_refused_and_tells_what_there_is() -> None:
    with pytest.raises(CreditsExceeded) as refused:
        parts_of([grant(amount=30), grant("over", 70, days=0)], "per_1", "USD", 31, START)
    assert refused.value.metadata == {"owner_id": "per_1", "unit": "USD", "available": "30"}


def test_a_grant_counts_from_its_first_moment_until_just_before_its_end() -> None:
    one = replace(grant(days=2), effective_at=START + DAY)
    times = [START, START + DAY, START + 2 * DAY - timedelta.resolution, START + 2 * DAY]
    assert [balance([one], at).available for at in times] == [0, 100, 100, 0]


def test_what_is_held_outlives_the_expiry_and_lapses_when_it_is_released() -> None:
    one, breakage = lapsed(held(grant(days=1), 40), START + DAY)
    assert (breakage, one.held) == (60, 40)
    assert lapsed(one, START + DAY) == (one, 0)
    assert used_of_held(one, 40).used == 40
    after, breakage = released(one, 40, START + DAY)
    assert (breakage, after.lapsed, after.available) == (40, 100, 0)


def test_a_reversal_tells_what_was_used_and_what_is_promised() -> None:
    one, told = reversed_(used(held(grant(), 30), 20))
    assert told == Reversal("g1", taken_back=50, used=20, held=30)
    assert balance([one], START) == Balance(available=0, held=30)
    again, told = reversed_(one)
    assert (again, told.taken_back) == (one, 0)
    after, breakage = released(one, 30, START)
    assert (after.taken_back, after.available, breakage) == (80, 0, 0)


@pytest.mark.parametrize(("rollover", "carried"), [(0, 0), (25, 25), (60, 60), (90, 60)])
def test_a_reset_carries_no_more_than_the_rollover(rollover: int, carried: int) -> None:
    before = replace(held(grant(days=1), 40), rollover_max=rollover)
    after, breakage = rolled_over(before, START + 31 * DAY)
    assert (after.available, breakage, after.held) == (carried, 60 - carried, 40)
    assert after.counts(START + 30 * DAY)


GRANTS = st.builds(
    grant,
    st.uuids().map(str),
    st.integers(1, 50),
    priority=st.integers(-2, 2),
    days=st.none() | st.integers(-1, 3),
    age=st.integers(0, 3),
)


@given(st.lists(GRANTS, max_size=8), st.integers(1, 200))
def test_parts_sum_to_the_amount_and_leave_no_earlier_grant_unused(
    grants: list[Grant], amount: int
) -> None:
    available = sum(
        one.amount for one in grants if one.expires_at is None or one.expires_at > START
    )
    if available < amount:
        with pytest.raises(CreditsExceeded):
            parts_of(grants, "per_1", "USD", amount, START)
        return
    parts = parts_of(grants, "per_1", "USD", amount, START)
    assert sum(part.amount for part in parts) == amount
    by_id = {one.grant_id: one for one in grants}
    # All but the last are used up.
    assert all(by_id[part.grant_id].amount == part.amount for part in parts[:-1])
    taken = [by_id[part.grant_id] for part in parts]
    assert all(before.priority <= after.priority for before, after in pairwise(taken))
    left = [one for one in grants if one.counts(START) and one not in taken]
    assert all(one.priority >= taken[-1].priority for one in left)


class Credits(RuleBasedStateMachine):
    """Credits of one owner, beside a model that knows no grants: each single credit and where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.at = START
        self.grants: dict[str, Grant] = {}
        self.where: dict[str, list[str]] = {}
        self.promised: list[tuple[Part, ...]] = []

    def _move(self, grant_id: str, before: str, after: str, amount: int) -> None:
        credits = self.where[grant_id]
        for _ in range(amount):
            credits[credits.index(before)] = after

    @rule(amount=st.integers(1, 20), priority=st.integers(0, 2), days=st.none() | st.integers(0, 3))
    def give(self, amount: int, priority: int, days: int | None) -> None:
        name = f"g{len(self.grants)}"
        expires_at = None if days is None else self.at + days * DAY
        self.grants[name] = replace(
            grant(name, amount, priority=priority),
            granted_at=self.at,
            effective_at=self.at,
            expires_at=expires_at,
        )
        self.where[name] = ["available"] * amount

    def _free(self) -> int:
        return sum(
            self.where[name].count("available")
            for name, one in self.grants.items()
            if one.expires_at is None or self.at < one.expires_at
        )

    @rule(amount=st.integers(1, 30), hold=st.booleans())
    def take(self, amount: int, hold: bool) -> None:
        if self._free() < amount:
            with pytest.raises(CreditsExceeded):
                parts_of(list(self.grants.values()), "per_1", "USD", amount, self.at)
            return
        parts = parts_of(list(self.grants.values()), "per_1", "USD", amount, self.at)
        for part in parts:
            do = held if hold else used
            self.grants[part.grant_id] = do(self.grants[part.grant_id], part.amount)
            self._move(part.grant_id, "available", "held" if hold else "used", part.amount)
        if hold:
            self.promised.append(parts)

    @precondition(lambda self: self.promised)
    @rule(data=st.data(), use=st.booleans())
    def end(self, data: st.DataObject, use: bool) -> None:
        parts = self.promised.pop(data.draw(st.integers(0, len(self.promised) - 1)))
        for part in parts:
            one = self.grants[part.grant_id]
            if use:
                self.grants[part.grant_id] = used_of_held(one, part.amount)
                self._move(part.grant_id, "held", "used", part.amount)
                continue
            self.grants[part.grant_id], _ = released(one, part.amount, self.at)
            self._move(part.grant_id, "held", "available", part.amount)
            over = one.expires_at is not None and one.expires_at <= self.at
            if one.is_reversed or over:
                gone = "taken back" if one.is_reversed else "lapsed"
                self._move(
                    part.grant_id, "available", gone, self.where[part.grant_id].count("available")
                )

    @rule()
    def a_day_passes(self) -> None:
        self.at += DAY
        for name, one in self.grants.items():
            self.grants[name], breakage = lapsed(one, self.at)
            over = one.expires_at is not None and one.expires_at <= self.at
            expected = self.where[name].count("available") if over else 0
            assert breakage == expected
            self._move(name, "available", "lapsed", expected)

    @precondition(lambda self: self.grants)
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.grants)))
        self.grants[name], told = reversed_(self.grants[name])
        credits = self.where[name]
        assert told == Reversal(
            name, credits.count("available"), credits.count("used"), credits.count("held")
        )
        self._move(name, "available", "taken back", told.taken_back)

    @invariant()
    def each_credit_is_where_the_model_has_it(self) -> None:
        for name, one in self.grants.items():
            credits = self.where[name]
            assert (one.available, one.held, one.used, one.lapsed, one.taken_back) == tuple(
                credits.count(place)
                for place in ("available", "held", "used", "lapsed", "taken back")
            )

    @invariant()
    def the_balance_is_what_can_be_taken(self) -> None:
        promised = sum(part.amount for parts in self.promised for part in parts)
        assert balance(list(self.grants.values()), self.at) == Balance(self._free(), promised)


TestCredits = Credits.TestCase
