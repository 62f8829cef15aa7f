"""Budgets and holds against a slow model: a list of all that ever happened, added up anew for each question."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.metering.domain import holds as domain
from services.metering.domain.budgets import (
    FOREVER,
    ZERO,
    Book,
    Budget,
    BudgetExceeded,
    BudgetFixed,
    BudgetMode,
    BudgetPeriod,
    Counter,
    check_fixed,
)
from services.metering.domain.enforcing import Tally, Use
from services.metering.domain.events import Batch, Rejection, Repeat, without
from services.metering.domain.holds import Hold, HoldEnded, HoldStatus, NotRated, Reserve

START = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
QUANTITIES = st.decimals("0.001", "20", places=3)
LONG = timedelta(days=30)


def budget(number: int, limit: Decimal, **changes: object) -> Budget:
    made = Budget(
        budget_id=f"b-{number}",
        series=UUID(int=number + 1),
        org_id="chat",
        sku="",
        period=BudgetPeriod.TOTAL,
        time_zone="UTC",
        limit=limit,
        currency_code="",
        mode=BudgetMode.HARD,
    )
    return replace(made, **changes)  # type: ignore[arg-type] # fields by name


def reserved(number: int, quantity: Decimal, sku: str = "t", lasts: timedelta = LONG) -> Reserve:
    return Reserve(UUID(int=number + 1), "chat", sku, quantity, lasts, {})


@dataclass
class Story:
    """What happened to one hold: the model keeps the acts, and no sum of them."""

    sku: str
    held: Decimal
    ends_at: datetime
    committed: Decimal | None = None
    released: bool = False
    expired: bool = False
    reports: list[Decimal] = field(default_factory=list)
    extra: list[Decimal] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.committed is None and not self.released and not self.expired

    def held_now(self) -> Decimal:
        return self.held if self.is_open else ZERO

    def used_now(self) -> Decimal:
        """What is used of it: committed or reported, whichever is more, and what went beyond."""
        if self.is_open:
            return sum(self.extra, ZERO)
        return max(self.committed or ZERO, sum(self.reports, ZERO)) + sum(self.extra, ZERO)

    def take(self, quantity: Decimal) -> Decimal:
        """Note a report; returns what of it is not accounted for."""
        covers = self.held if self.is_open else max(self.committed or ZERO, sum(self.reports, ZERO))
        covered = min(quantity, covers - sum(self.reports, ZERO))
        self.reports.append(covered)
        self.extra.append(quantity - covered)
        return quantity - covered


class Guardrails(RuleBasedStateMachine):
    """One wide budget that is enforced in ingest, one of a SKU, and a soft one."""

    @initialize(wide=QUANTITIES, narrow=QUANTITIES)
    def begin(self, wide: Decimal, narrow: Decimal) -> None:
        self.now = START
        self.budgets = [
            budget(0, wide * 3, enforce_in_ingest=True),
            budget(1, narrow, sku="t"),
            budget(2, narrow, mode=BudgetMode.SOFT, thresholds_pct=(50, 100)),
        ]
        self.book = Book(1, self.budgets)
        self.counters = {
            counter.key: counter
            for counter in (Counter(each, each.bounds(self.now)[0]) for each in self.budgets)
        }
        self.holds: list[Hold] = []
        self.stories: list[Story] = []
        self.alone: list[tuple[str, Decimal]] = []
        self.told: list[int] = []

    def model(self, of: Budget) -> tuple[Decimal, Decimal]:
        stories = [each for each in self.stories if of.sku in ("", each.sku)]
        used = sum((each.used_now() for each in stories), ZERO)
        used += sum((value for sku, value in self.alone if of.sku in ("", sku)), ZERO)
        return used, sum((each.held_now() for each in stories), ZERO)

    def room(self, sku: str, more: Decimal, *, ingest: bool = False) -> bool:
        return all(
            more <= 0 or sum(self.model(each), ZERO) + more <= each.limit
            for each in self.budgets
            if each.is_hard and each.sku in ("", sku) and (each.enforce_in_ingest or not ingest)
        )

    @rule(sku=st.sampled_from("tu"), quantity=QUANTITIES, minutes=st.integers(1, 60))
    def reserve(self, sku: str, quantity: Decimal, minutes: int) -> None:
        lasts = timedelta(minutes=minutes)
        covering = self.book.covering("chat", sku)
        counters = [self.counters[each.key(self.now)] for each in covering]
        has_room = self.room(sku, quantity)
        try:
            hold = domain.reserve(
                reserved(len(self.holds), quantity, sku, lasts), counters, self.now
            )
        except BudgetExceeded:
            assert not has_room
            return
        assert has_room
        self.holds.append(hold)
        self.stories.append(Story(sku, quantity, self.now + lasts))

    @rule(pick=st.integers(0, 50), part=st.decimals("0", "1.5", places=2))
    def commit(self, pick: int, part: Decimal) -> None:
        if not self.holds:
            return
        index = pick % len(self.holds)
        story = self.stories[index]
        quantity = (story.held * part).quantize(Decimal("1e-5"))
        used = max(quantity, sum(story.reports, ZERO))
        is_open = story.is_open and story.ends_at > self.now
        has_room = self.room(story.sku, used - story.held)
        try:
            self.holds[index] = domain.commit(self.holds[index], quantity, self.counters, self.now)
        except HoldEnded:
            assert not is_open
        except BudgetExceeded:
            assert is_open and not has_room
        else:
            assert is_open and has_room
            story.committed = quantity

    @rule(pick=st.integers(0, 50))
    def release(self, pick: int) -> None:
        if not self.holds:
            return
        index = pick % len(self.holds)
        story = self.stories[index]
        is_open = story.is_open and story.ends_at > self.now
        try:
            self.holds[index] = domain.release(self.holds[index], self.counters, self.now)
        except HoldEnded:
            assert not is_open
        else:
            assert is_open
            story.released = True

    @rule(minutes=st.integers(1, 40))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)
        for index, story in enumerate(self.stories):
            self.holds[index] = domain.expire(self.holds[index], self.counters, self.now)
            if story.is_open and story.ends_at <= self.now:
                story.expired = True

    @rule(
        events=st.lists(
            st.tuples(st.sampled_from("tu"), QUANTITIES, st.integers(-3, 10), st.booleans()),
            min_size=1,
            max_size=4,
        )
    )
    def ingest(self, events: list[tuple[str, Decimal, int, bool]]) -> None:
        holds = {hold.hold_id: hold for hold in self.holds}
        tally = Tally(self.book, self.counters, holds, {})
        for index, (sku, quantity, pick, taken_back) in enumerate(events):
            names = pick % len(self.holds) if self.holds and pick >= 0 else None
            hold_id = None if names is None else self.holds[names].hold_id
            name = f"e-{index}"
            use = Use(index, name, name, "chat", sku, quantity, self.now, hold_id)
            own = names is not None and self.stories[names].sku == sku
            trial = replace_story(self.stories[names]) if own and names is not None else None
            more = trial.take(quantity) if trial else quantity
            accepted = self.room(sku, more, ingest=True)
            tally.count(use)
            assert (index not in tally.refusals) == accepted
            if not accepted:
                continue
            if taken_back:
                tally.take_back(name)
            elif trial is not None and names is not None:
                self.stories[names] = trial
            else:
                self.alone.append((sku, quantity))
        self.holds = [tally.holds[hold.hold_id] for hold in self.holds]

    @invariant()
    def counters_are_what_happened(self) -> None:
        for each in getattr(self, "budgets", ()):
            counter = self.counters[each.key(self.now)]
            assert (counter.used, counter.held) == self.model(each)
            self.told += [crossing.threshold_pct for crossing in counter.crossings()]
            assert len(self.told) == len(set(self.told)), "a threshold is told once"
            if each.thresholds_pct:
                top = counter.used > 0 and counter.used >= each.limit
                assert top <= (100 in self.told)
            if each.enforce_in_ingest:
                assert counter.used + counter.held <= each.limit

    @invariant()
    def holds_say_what_happened(self) -> None:
        for hold, story in zip(
            getattr(self, "holds", ()), getattr(self, "stories", ()), strict=True
        ):
            assert (hold.status is HoldStatus.HELD) == story.is_open
            assert hold.reported == sum(story.reports, ZERO)


def replace_story(story: Story) -> Story:
    return replace(story, reports=list(story.reports), extra=list(story.extra))


Guardrails.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestGuardrails = Guardrails.TestCase


ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Africa/Cairo",
]


@given(
    at=st.integers(800_000_000, 2_200_000_000).map(lambda at: datetime.fromtimestamp(at, UTC)),
    name=st.sampled_from(ZONES),
    period=st.sampled_from([BudgetPeriod.DAY, BudgetPeriod.CALENDAR_MONTH]),
)
def test_periods_meet_and_begin_at_local_midnight(
    at: datetime, name: str, period: BudgetPeriod
) -> None:
    item = budget(0, Decimal(1), period=period, time_zone=name)
    start_at, end_at = item.bounds(at)
    assert start_at <= at < end_at
    assert item.bounds(start_at) == (start_at, end_at)
    assert item.bounds(end_at - timedelta(microseconds=1)) == (start_at, end_at)
    assert item.bounds(end_at)[0] == end_at
    local = end_at.astimezone(ZoneInfo(name))
    # Where clocks skip midnight, the day begins an hour later.
    assert local.hour in (0, 1)
    if period is BudgetPeriod.CALENDAR_MONTH:
        assert local.day == 1


def test_days_of_a_changed_clock_are_longer_and_shorter() -> None:
    item = budget(0, Decimal(1), period=BudgetPeriod.DAY, time_zone="Europe/Berlin")
    days = [date(2026, 3, 28), date(2026, 3, 29), date(2026, 10, 25)]
    bounds = [
        item.bounds(datetime.combine(day, datetime.min.time(), ZoneInfo("Europe/Berlin")))
        for day in days
    ]
    assert [(end - start).total_seconds() / 3600 for start, end in bounds] == [24, 23, 25]
    assert bounds[0][1] == bounds[1][0]


def test_the_last_month_that_there_is_has_an_end() -> None:
    item = budget(0, Decimal(1), period=BudgetPeriod.CALENDAR_MONTH)
    start_at, end_at = item.bounds(datetime(9999, 12, 31, 23, tzinfo=UTC))
    assert (start_at, end_at) == (datetime(9999, 12, 1, tzinfo=UTC), FOREVER)


@given(parts=st.lists(QUANTITIES, min_size=1, max_size=8))
def test_a_hold_in_money_is_rated_by_its_own_rate(parts: list[Decimal]) -> None:
    item = budget(0, Decimal(10**9), currency_code="USD")
    counter = Counter(item, item.bounds(START)[0])
    for number, quantity in enumerate(parts):
        price = quantity * Decimal("0.0025")
        command = replace(reserved(number, quantity), amounts={item.series: price})
        hold = domain.reserve(command, [counter], START)
        domain.commit(hold, quantity / 2, {counter.key: counter}, START)
    assert counter.held == 0
    assert abs(counter.used - sum(parts, ZERO) * Decimal("0.00125")) < Decimal("1e-16")
    assert counter.quantities["t"] == sum(parts, ZERO) / 2


def test_a_budget_in_money_that_was_not_rated_is_told() -> None:
    item = budget(0, Decimal(1), currency_code="USD")
    counter = Counter(item, item.bounds(START)[0])
    with pytest.raises(NotRated):
        domain.reserve(reserved(0, Decimal(1)), [counter], START)
    assert counter == Counter(item, item.bounds(START)[0])


def test_thresholds_out_of_reach_under_new_terms_are_told_again() -> None:
    old = budget(0, Decimal(100), thresholds_pct=(50, 90))
    counter = Counter(old, old.bounds(START)[0], used=Decimal(90))
    assert [each.threshold_pct for each in counter.crossings()] == [50, 90]
    counter.follow(replace(old, limit=Decimal(150)))
    assert counter.told == {50}
    assert counter.crossings() == []
    counter.add(Decimal(45), ZERO, "t", Decimal(45))
    assert [each.threshold_pct for each in counter.crossings()] == [90]


def test_nothing_used_reaches_no_threshold_even_of_a_limit_of_nothing() -> None:
    item = budget(0, ZERO, thresholds_pct=(1,))
    counter = Counter(item, item.bounds(START)[0])
    assert counter.crossings() == []
    assert counter.has_room(ZERO) and not counter.has_room(Decimal("1e-18"))


def test_what_a_budget_counts_is_fixed() -> None:
    old = budget(0, Decimal(1))
    check_fixed(old, replace(old, limit=Decimal(2), mode=BudgetMode.SOFT, description="new"))
    with pytest.raises(BudgetFixed) as refused:
        check_fixed(old, replace(old, sku="t"))
    assert refused.value.field == "sku"


def test_a_refused_event_takes_its_repeats_along() -> None:
    row = ("a", "chat\t\tt\t5\t0\t2\t", "", "k" * 32, "f" * 32)
    kept = ("b", "chat\t\tt\t1\t0\t2\t", "", "l" * 32, "g" * 32)
    batch = Batch(
        3, [row, kept], {"a": 0, "b": 2}, [Repeat(1, "a", "f" * 32), Repeat(2, "b", "g" * 32)]
    )

    def refused(index: int, reason: str, message: str) -> Rejection:
        return Rejection(index, "a", reason, message, bytes([index]), "chat", "t")

    left = without(batch, {"a": ("BUDGET_EXCEEDED", "no room")}, refused)
    assert left.rows == [kept] and left.first_index == {"b": 2}
    assert [each.request_id for each in left.repeats] == ["b"]
    assert [(each.index, each.reason, each.content) for each in left.rejections] == [
        (0, "BUDGET_EXCEEDED", b"\x00"),
        (1, "BUDGET_EXCEEDED", b"\x01"),
    ]


def test_budgets_of_an_organisation_are_looked_at_by_their_names() -> None:
    items = [budget(number, Decimal(1)) for number in range(5)]
    found = Book(1, reversed(items)).covering("chat", "t")
    assert all(one.budget_id < two.budget_id for one, two in pairwise(found))
    assert len(found) == 5
