"""The table of transitions, and the pure rules against it, whatever is done in whichever order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.orders.domain.orders import (
    Change,
    Order,
    OrderAmountExceeded,
    OrderRefundExceeded,
    OrderTotalTooLow,
    adjusted,
    cancelled,
    noted,
    opened,
    paid,
    placed,
    refunded,
)
from services.orders.domain.statuses import (
    CREATED,
    TRANSITIONS,
    UPDATED,
    Move,
    OrderStatusConflict,
    Status,
    check,
    due,
)
from services.runtime.money import Money

START = datetime(2026, 3, 2, tzinfo=UTC)
ENDED = (Status.CANCELLED, Status.REFUNDED)


def order(total: int = 100, paid: int = 0, status: str = "") -> Order:
    made = Order("ord_1", "per_1", "org_1", status, Money("USD", total), "portal", START)
    return replace(made, paid_minor=paid)


@pytest.mark.parametrize(("before", "move", "after"), list(product(Status, Move, Status)))
def test_every_move_is_in_the_table_or_refused(before: Status, move: Move, after: Status) -> None:
    if (before, move, after) in TRANSITIONS:
        # A refund of a part is told by itself alone.
        told = "" if move is Move.REFUND and before is after else UPDATED
        assert check("ord_1", before, move, after) == told
        return
    with pytest.raises(OrderStatusConflict) as refused:
        check("ord_1", before, move, after)
    assert refused.value.metadata == {"order_id": "ord_1", "status": before.value}


def test_statuses_that_end_are_left_by_nothing() -> None:
    assert not [key for key in TRANSITIONS if key[0] in ENDED]


def test_a_status_of_a_later_release_is_borne_and_not_moved() -> None:
    later = order(status="ON_HOLD")
    with pytest.raises(OrderStatusConflict):
        opened(later, "cli", START)
    with pytest.raises(OrderStatusConflict):
        adjusted(later, Money("USD", 1), "cli", START)
    with pytest.raises(OrderStatusConflict):
        cancelled(later, "why", "cli", START)
    assert noted(later, "seen", [], START).after.status == "ON_HOLD"


@pytest.mark.parametrize(
    ("total", "paid", "status"),
    [(0, 0, Status.PAID), (5, 0, Status.OPEN), (5, 4, Status.PARTIALLY_PAID), (5, 5, Status.PAID)],
)
def test_what_is_due_makes_the_status(total: int, paid: int, status: Status) -> None:
    assert due(total, paid) is status


@pytest.mark.parametrize("status", [Status.OPEN, Status.PARTIALLY_PAID, Status.PAID])
def test_what_was_received_for_is_not_cancelled(status: Status) -> None:
    with pytest.raises(OrderStatusConflict):
        cancelled(order(100, 40, status), "why", "cli", START)


def test_a_total_is_never_less_than_what_is_paid() -> None:
    part = order(100, 40, Status.PARTIALLY_PAID)
    with pytest.raises(OrderTotalTooLow) as refused:
        adjusted(part, Money("USD", 39), "cli", START)
    assert refused.value.metadata["paid_minor"] == "40"
    assert adjusted(part, Money("USD", 40), "cli", START).after.status == "PAID"
    assert adjusted(part, Money("USD", 41), "cli", START).after.status == "PARTIALLY_PAID"


class Life(RuleBasedStateMachine):
    """An order against a model that knows only lists of what was done."""

    @initialize(total=st.integers(0, 3), draft=st.booleans())
    def create(self, total: int, draft: bool) -> None:
        self.order = placed(order(total, status="DRAFT" if draft else ""))
        assert TRANSITIONS[None, Move.CREATE, Status(self.order.status)] == CREATED
        self.draft, self.ended = draft, False
        self.total, self.told = total, 0
        self.payments: list[int] = []
        self.refunded = 0
        self.now = START

    def wanted(self) -> str:
        if self.ended:
            return "REFUNDED" if self.refunded else "CANCELLED"
        if self.draft:
            return "DRAFT"
        if sum(self.payments) == self.total:
            return "PAID"
        return "PARTIALLY_PAID" if self.payments else "OPEN"

    def apply(self, change: Change, told: bool) -> None:
        assert change.before == self.order
        assert change.is_told is told
        self.order = change.after
        self.told += told

    @rule()
    def open(self) -> None:
        self.now += timedelta(seconds=1)
        if self.ended or not self.draft:
            with pytest.raises(OrderStatusConflict):
                opened(self.order, "cli", self.now)
            return
        self.draft = False
        self.apply(opened(self.order, "cli", self.now), told=True)

    @rule(total=st.integers(0, 3))
    def adjust(self, total: int) -> None:
        if self.ended:
            with pytest.raises(OrderStatusConflict):
                adjusted(self.order, Money("USD", total), "cli", self.now)
            return
        if total < sum(self.payments):
            with pytest.raises(OrderTotalTooLow):
                adjusted(self.order, Money("USD", total), "cli", self.now)
            return
        told = total != self.total
        self.total = total
        self.apply(adjusted(self.order, Money("USD", total), "cli", self.now), told=told)

    @rule()
    def cancel(self) -> None:
        if self.ended or self.payments:
            with pytest.raises(OrderStatusConflict):
                cancelled(self.order, "why", "cli", self.now)
            return
        self.ended = True
        self.apply(cancelled(self.order, "why", "cli", self.now), told=True)

    @rule(minor=st.integers(1, 4))
    def pay(self, minor: int) -> None:
        rest = self.total - sum(self.payments)
        if self.ended or self.draft or not rest:
            with pytest.raises(OrderStatusConflict):
                paid(self.order, Money("USD", minor), "cli", self.now)
        elif minor > rest:
            with pytest.raises(OrderAmountExceeded) as refused:
                paid(self.order, Money("USD", minor), "cli", self.now)
            assert refused.value.metadata["due_minor"] == str(rest)
        else:
            self.payments.append(minor)
            self.apply(paid(self.order, Money("USD", minor), "cli", self.now), told=True)

    @rule(minor=st.integers(0, 4))
    def refund(self, minor: int) -> None:
        rest = sum(self.payments) - self.refunded
        amount = Money("USD", minor) if minor else None
        if self.ended or not self.payments:
            with pytest.raises(OrderStatusConflict):
                refunded(self.order, amount, "cli", self.now)
        elif minor > rest:
            with pytest.raises(OrderRefundExceeded) as refused:
                refunded(self.order, amount, "cli", self.now)
            assert refused.value.metadata["refundable_minor"] == str(rest)
        else:
            change, given = refunded(self.order, amount, "cli", self.now)
            assert given.minor_units == (minor or rest)
            self.refunded += given.minor_units
            self.ended = self.refunded == sum(self.payments)
            self.apply(change, told=self.ended)

    @rule(notes=st.sampled_from(["", "a", "b"]))
    def note(self, notes: str) -> None:
        self.apply(noted(self.order, notes, ["x", "x"], self.now), told=False)

    @invariant()
    def agrees(self) -> None:
        assert self.order.status == self.wanted()
        assert self.order.total.minor_units == self.total
        assert self.order.paid_minor == sum(self.payments)
        assert self.order.refunded_minor == self.refunded
        assert (self.order.cancelled_at is not None) is (self.ended and not self.refunded)


TestLife = Life.TestCase
