"""Corrections against budgets, held to a model that adds up what is left of the events anew for each question."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.metering.domain import holds as domain
from services.metering.domain.budgets import (
    ZERO,
    Book,
    Budget,
    BudgetMode,
    BudgetPeriod,
    Counter,
    Key,
)
from services.metering.domain.enforcing import Tally, Use, keys_of
from services.metering.domain.holds import Hold, HoldStatus, Reserve
from services.metering.domain.shifts import (
    Shift,
    ShiftRate,
    ShiftTally,
    covered,
    moved_units,
    shift_keys,
)

START = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
HOLD_ID = UUID(int=7)
QUANTITIES = st.decimals("0", "20", places=2)
CONTENTS = st.tuples(
    st.sampled_from(["chat", "code"]), st.sampled_from(["t", "r"]), QUANTITIES, st.integers(0, 2)
)
CHANGES = st.lists(st.tuples(st.integers(0, 4), st.none() | CONTENTS), max_size=12)
Content = tuple[str, str, Decimal, int]


def budget(number: int, **changes: object) -> Budget:
    made = Budget(
        budget_id=f"b-{number}",
        series=UUID(int=number + 1),
        org_id="chat",
        sku="",
        period=BudgetPeriod.TOTAL,
        time_zone="UTC",
        limit=Decimal(40),
        currency_code="",
        mode=BudgetMode.HARD,
    )
    return replace(made, **changes)  # type: ignore[arg-type] # fields by name


def use(content: Content, name: int, hold_id: UUID | None = None) -> Use:
    org_id, sku, quantity, day = content
    at = START + timedelta(days=day)
    return Use(name, f"e-{name}", f"{name:032}", org_id, sku, quantity, at, hold_id)


def opened(keys: dict[Key, Budget]) -> dict[Key, Counter]:
    return {key: Counter(each, key[1]) for key, each in keys.items()}


class Books:
    """Budgets, their counters and one hold, to which batches and corrections are put."""

    def __init__(self, *budgets: Budget) -> None:
        self.book = Book(1, budgets)
        self.counters: dict[Key, Counter] = {}
        self.holds: dict[UUID, Hold] = {}

    def hold(self, quantity: str) -> None:
        covering = self.book.covering("chat", "t")
        self._open({each.key(START): each for each in covering})
        counters = [self.counters[each.key(START)] for each in covering]
        asked = Reserve(HOLD_ID, "chat", "t", Decimal(quantity), timedelta(days=9), {})
        self.holds[HOLD_ID] = domain.reserve(asked, counters, START)

    def store(self, *uses: Use) -> None:
        self._open(keys_of(uses, self.book))
        tally = Tally(self.book, self.counters, self.holds, {})
        for each in uses:
            tally.count(each)
        self.holds = dict(tally.holds)

    def correct(
        self, *shifts: Shift, rates: dict[tuple[Key, str], ShiftRate] | None = None
    ) -> set[int]:
        """Count corrections; returns those that are refused."""
        self._open(shift_keys(shifts, self.holds, self.book))
        tally = ShiftTally(self.book, self.counters, self.holds, rates or {})
        for shift in shifts:
            tally.count(shift)
        self.holds |= {hold.hold_id: hold for hold in tally.changed_holds}
        return set(tally.refusals)

    def used(self, of: Budget) -> dict[datetime, Decimal]:
        return {
            start: counter.used
            for (series, start), counter in self.counters.items()
            if series == of.series and counter.used
        }

    def _open(self, keys: dict[Key, Budget]) -> None:
        self.counters = opened(keys) | self.counters


@given(first=st.lists(CONTENTS, min_size=5, max_size=5), changes=CHANGES)
def test_what_is_used_is_what_is_left_of_the_events(
    first: list[Content], changes: list[tuple[int, Content | None]]
) -> None:
    budgets = [
        budget(0),
        budget(1, sku="t", period=BudgetPeriod.DAY, enforce_in_ingest=True),
        budget(2, org_id="code", mode=BudgetMode.SOFT),
    ]
    books = Books(*budgets)
    events: dict[int, Content] = {}
    for name, content in enumerate(first):
        before = books.used(budgets[1])
        books.store(use(content, name))
        if (
            content[1] != "t"
            or content[0] != "chat"
            or not content[2]
            or books.used(budgets[1]) != before
        ):
            events[name] = content
    for name, changed in changes:
        if name not in events:
            continue
        after = None if changed is None else use(changed, name)
        refused = books.correct(Shift(0, use(events[name], name), after))
        day = budgets[1].key(START + timedelta(days=changed[3]))[1] if changed else START
        if refused:
            assert changed is not None
            added = changed[2]
            if events[name][:2] == ("chat", "t") and events[name][3] == changed[3]:
                added -= events[name][2]
            assert books.used(budgets[1]).get(day, ZERO) + added > budgets[1].limit
        elif changed is None:
            del events[name]
        else:
            events[name] = changed
        for each in budgets:
            wanted: dict[datetime, Decimal] = {}
            for org_id, sku, quantity, at in events.values():
                if each.covers(org_id, sku) and quantity:
                    start = each.key(START + timedelta(days=at))[1]
                    wanted[start] = wanted.get(start, ZERO) + quantity
            assert books.used(each) == wanted


@given(
    quantities=st.lists(QUANTITIES, min_size=1, max_size=4),
    changes=st.lists(st.tuples(st.integers(0, 3), st.none() | QUANTITIES), max_size=8),
)
def test_with_a_hold_never_less_counts_than_was_used(
    quantities: list[Decimal], changes: list[tuple[int, Decimal | None]]
) -> None:
    """And exactly as much where one event alone names it."""
    item = budget(0, limit=Decimal(1000))
    books = Books(item)
    books.hold("10")
    events = dict(enumerate(quantities))
    for name, quantity in events.items():
        books.store(use(("chat", "t", quantity, 0), name, HOLD_ID))
    for name, changed in changes:
        if name not in events:
            continue
        before = use(("chat", "t", events[name], 0), name, HOLD_ID)
        after = None if changed is None else use(("chat", "t", changed, 0), name, HOLD_ID)
        assert not books.correct(Shift(0, before, after))
        if changed is None:
            del events[name]
        else:
            events[name] = changed
        (counter,) = books.counters.values()
        beyond = max(sum(events.values(), ZERO) - 10, ZERO)
        assert counter.held == 10 and counter.used >= beyond
        assert ZERO <= books.holds[HOLD_ID].reported <= 10
        if len(quantities) == 1:
            assert counter.used == beyond


def test_a_hold_that_was_given_up_gives_back_what_is_not_reported_any_more() -> None:
    item = budget(0)
    books = Books(item)
    books.hold("10")
    event = use(("chat", "t", Decimal(6), 0), 0, HOLD_ID)
    books.store(event)
    (counter,) = books.counters.values()
    books.holds[HOLD_ID] = domain.release(books.holds[HOLD_ID], books.counters, START)
    assert counter.used == 6 and counter.held == 0
    less = replace(event, quantity=Decimal(2))
    books.correct(Shift(0, event, less))
    assert counter.used == 2
    books.correct(Shift(0, less, None))
    hold = books.holds[HOLD_ID]
    assert counter.used == 0 and hold.accounted == 0 and hold.status is HoldStatus.RELEASED


def test_a_hold_of_something_else_accounts_for_nothing() -> None:
    books = Books(budget(0))
    books.hold("10")
    event = use(("chat", "r", Decimal(6), 0), 0, HOLD_ID)
    books.store(event)
    (counter,) = books.counters.values()
    assert counter.used == 6
    books.correct(Shift(0, event, use(("chat", "t", Decimal(6), 0), 0, HOLD_ID)))
    assert counter.used == 0 and books.holds[HOLD_ID].reported == 6


def test_budgets_in_money_take_what_both_sides_are_worth() -> None:
    item = budget(0, currency_code="USD", sku="t")
    books = Books(item)
    before, after = (use(("chat", "t", Decimal(units), 0), 0) for units in (6, 4))
    key = item.key(START)
    shifts = [Shift(0, before, after)]
    moved = moved_units(shifts, books.book)
    assert moved == {(key, "t"): (Decimal(6), Decimal(4))}
    # Rated as twice as many units that are taken away.
    rate = ShiftRate(Decimal(12), Decimal(3), Decimal(4), Decimal(1))
    books.counters[key] = Counter(item, key[1], Decimal(9), quantities={"t": Decimal(20)})
    books.correct(*shifts, rates={(key, "t"): rate})
    counter = books.counters[key]
    assert (counter.used, counter.quantities) == (Decimal("8.5"), {"t": Decimal(18)})
    assert covered({(key, "t"): rate}, (key, "t"), (Decimal(6), Decimal(4)))
    assert not covered({}, (key, "t"), (Decimal(6), Decimal(4)))
    unrated = ShiftRate(Decimal(12), Decimal(3), ZERO, ZERO)
    assert not covered({(key, "t"): unrated}, (key, "t"), (Decimal(6), Decimal(4)))
    # What was never counted takes nothing below nothing.
    books.counters[key] = Counter(item, key[1], Decimal(1))
    books.correct(Shift(0, before, None), rates={(key, "t"): rate})
    assert (books.counters[key].used, books.counters[key].quantities) == (ZERO, {"t": ZERO})
