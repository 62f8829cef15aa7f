"""The fold of a log against a model that knows no cleverness, and the laws of the two times."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.agreements.domain import edits as e
from services.agreements.domain.difference import changes
from services.agreements.domain.errors import EditRefused, HistoryConflict, StatusConflict
from services.agreements.domain.fold import (
    RENEWALS_MAX,
    Agreement,
    as_of,
    extended,
    months_after,
)
from services.agreements.domain.statuses import TRANSITIONS, Move, ServiceStatus, Status
from services.runtime.errors import CurrencyMismatch, DomainError
from services.runtime.money import Money

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CREATE = e.Create("acme", "north", "USD", T0, None)


def product(product_id: str = "rack", price: str = "10", **fields: Any) -> e.Product:
    return e.Product(product_id, "colo", Decimal(2), Decimal(price), **fields)


def entries(*edits: tuple[int, e.Edit], first: int = 1, recorded: int = 0) -> list[e.Entry]:
    """Entries whose times are days after T0."""
    return [
        e.Entry(first + index, edit, T0 + at * DAY, T0 + (recorded + index) * DAY)
        for index, (at, edit) in enumerate(edits)
    ]


def at(log: Sequence[e.Entry], day: float, known: float | None = None) -> Agreement:
    found = as_of("agr_1", log, T0 + day * DAY, None if known is None else T0 + known * DAY)
    assert found is not None
    return found


def price(agreement: Agreement, product_id: str = "rack") -> Decimal:
    (found,) = [each for each in agreement.products if each.product_id == product_id]
    return found.unit_price


def test_a_backdated_price_is_true_then_and_was_not_known_then() -> None:
    log = entries((0, CREATE), (0, e.AddProduct(product())), (0, e.Activate()))
    log += entries((5, e.ChangePrice("rack", Decimal(8))), first=4, recorded=30)
    assert price(at(log, 10)) == Decimal(8)
    assert price(at(log, 10, known=29)) == Decimal(10)
    assert price(at(log, 4)) == Decimal(10)
    assert (at(log, 10).revision, at(log, 10, known=29).revision) == (4, 3)


def test_an_edit_that_holds_later_is_known_and_does_not_hold_yet() -> None:
    log = entries(
        (0, CREATE), (0, e.AddProduct(product())), (90, e.ChangeQuantity("rack", Decimal(7)))
    )
    assert [at(log, day).products[0].quantity for day in (89, 90)] == [Decimal(2), Decimal(7)]
    assert at(log, 89).revision == 3


def test_before_it_begins_there_is_none() -> None:
    log = entries((3, CREATE))
    assert as_of("agr_1", log, T0 + 2 * DAY, None) is None
    assert as_of("agr_1", log, T0 + 3 * DAY, T0 - DAY) is None
    assert as_of("agr_1", [], T0, None) is None


def _built(status: Status) -> list[e.Entry]:
    path: dict[Status, list[e.Edit]] = {
        Status.DRAFT: [],
        Status.ACTIVE: [e.Activate()],
        Status.SUSPENDED: [e.Activate(), e.Suspend("late")],
        Status.TERMINATED: [e.Activate(), e.Terminate("over")],
        Status.EXPIRED: [e.Activate()],
    }
    end_at = T0 + 10 * DAY if status is Status.EXPIRED else None
    begin = e.Create("acme", "north", "USD", T0, end_at)
    edits: list[e.Edit] = [begin, e.AddProduct(product()), *path[status]]
    return entries(*((0, edit) for edit in edits))


MOVING: dict[Move, e.Edit] = {
    Move.ACTIVATE: e.Activate(),
    Move.SUSPEND: e.Suspend("late"),
    Move.RESUME: e.Resume(),
    Move.TERMINATE: e.Terminate("over"),
}


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("move", MOVING)
def test_every_move_is_in_the_table_or_refused(status: Status, move: Move) -> None:
    log = _built(status)
    assert at(log, 20).status is status
    added = entries((20, MOVING[move]), first=len(log) + 1, recorded=50)
    expected = TRANSITIONS.get((status, move))
    if expected is None:
        with pytest.raises(StatusConflict) as refused:
            extended("agr_1", log, added)
        assert refused.value.metadata["status"] == status
        return
    (step,) = extended("agr_1", log, added)
    assert step.before is not None
    assert (step.before.status, step.after.status) == (status, expected)


@pytest.mark.parametrize("status", [Status.TERMINATED, Status.EXPIRED])
def test_what_has_ended_is_not_edited(status: Status) -> None:
    log = _built(status)
    with pytest.raises(StatusConflict):
        extended("agr_1", log, entries((20, e.ChangePrice("rack", Decimal(1))), first=9))
    assert at(log, 20).service_status is ServiceStatus.ENDED


def test_a_term_that_ends_on_the_31st_comes_back_to_it() -> None:
    end = datetime(2026, 1, 31, tzinfo=UTC)
    begin = e.Create("acme", "north", "USD", T0, end)
    renewal = e.AutoRenewal(1, 5, Decimal(10))
    log = entries(
        (0, begin), (0, e.AddProduct(product())), (0, e.SetAutoRenew(renewal)), (0, e.Activate())
    )
    ends = [at(log, day).end_at for day in (29, 30, 58, 89)]
    days = [(moment.month, moment.day) for moment in ends if moment is not None]
    assert days == [(1, 31), (2, 28), (3, 31), (4, 30)]
    assert [price(at(log, day)) for day in (29, 30, 58)] == [
        Decimal(10),
        Decimal(11),
        Decimal("12.1"),
    ]
    assert at(log, 36500).status is Status.EXPIRED, f"after {RENEWALS_MAX} renewals"


def test_notice_is_to_be_given_in_time() -> None:
    begin = e.Create("acme", "north", "USD", T0, T0 + 100 * DAY)
    log = entries(
        (0, begin),
        (0, e.AddProduct(product())),
        (0, e.SetAutoRenew(e.AutoRenewal(12, 30, Decimal()))),
        (0, e.Activate()),
    )
    (step,) = extended("agr_1", log, entries((70, e.SetAutoRenew(None)), first=5))
    assert step.after.auto_renew is None
    with pytest.raises(EditRefused, match="notice period of 30 days"):
        extended("agr_1", log, entries((71, e.SetAutoRenew(None)), first=5))


def test_a_backdated_edit_must_not_undo_what_holds_later() -> None:
    log = entries((0, CREATE), (0, e.AddProduct(product())), (0, e.AddProduct(product("u2"))))
    log += entries((20, e.ChangePrice("u2", Decimal(3))), first=4)
    with pytest.raises(HistoryConflict) as refused:
        extended("agr_1", log, entries((10, e.RemoveProduct("u2")), first=5))
    assert refused.value.metadata["conflicting_revision"] == "4"
    extended("agr_1", log, entries((21, e.RemoveProduct("u2")), first=5))


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (e.AddProduct(product()), EditRefused),
        (e.RemoveProduct("none"), EditRefused),
        (e.RemoveProduct("rack"), EditRefused),
        (e.ChangePrice("none", Decimal(1)), EditRefused),
        (e.ChangeQuantity("none", Decimal(1)), EditRefused),
        (e.Renew(12, Decimal()), EditRefused),
        (e.SetAutoRenew(e.AutoRenewal(1, 1, Decimal())), EditRefused),
        (e.ExtendTerm(T0 + DAY), EditRefused),
        (e.SetDownpayment(Money("EUR", 1)), CurrencyMismatch),
        (e.SetFinancing((e.Installment(T0, Money("EUR", 1)),)), CurrencyMismatch),
        (e.AddProduct(product("x", hosting_fee=Money("EUR", 1))), CurrencyMismatch),
        (e.AssignParty(e.Party(e.Role.BUYER, "north", Decimal())), EditRefused),
        (e.AssignParty(e.Party(e.Role.PARTNER, "p", Decimal())), EditRefused),
        (CREATE, EditRefused),
    ],
)
def test_what_an_agreement_contradicts_is_refused(edit: e.Edit, error: type[DomainError]) -> None:
    log = _built(Status.ACTIVE)
    with pytest.raises(error):
        extended("agr_1", log, entries((1, edit), first=len(log) + 1))


def test_a_draft_without_products_or_behind_its_term_is_not_activated() -> None:
    with pytest.raises(EditRefused, match="no product"):
        extended("agr_1", entries((0, CREATE)), entries((0, e.Activate()), first=2))
    log = entries((0, e.Create("a", "b", "USD", T0, T0 + DAY)), (0, e.AddProduct(product())))
    with pytest.raises(EditRefused, match="term is over"):
        extended("agr_1", log, entries((2, e.Activate()), first=3))


def test_shares_leave_no_more_than_the_whole() -> None:
    log = entries((0, CREATE), (0, e.AssignParty(e.Party(e.Role.PARTNER, "p", Decimal(60)))))
    too_much = e.AssignParty(e.Party(e.Role.REFERRAL, "r", Decimal(41)))
    with pytest.raises(EditRefused, match="leave 40 percent"):
        extended("agr_1", log, entries((1, too_much), first=3))
    less = e.AssignParty(e.Party(e.Role.PARTNER, "p", Decimal(10)))
    (step,) = extended("agr_1", log, entries((1, less), first=3))
    assert [each.share_pct for each in step.after.parties] == [Decimal(10)]


def test_a_ramp_says_the_quantity_of_its_time() -> None:
    ramp = (e.RampStep(T0 + 10 * DAY, Decimal(4)), e.RampStep(T0 + 20 * DAY, Decimal(8)))
    ramped = product(ramp=ramp)
    found = [ramped.quantity_at(T0 + day * DAY) for day in (0, 10, 19, 20)]
    assert found == [Decimal(2), Decimal(4), Decimal(4), Decimal(8)]


def test_the_difference_names_what_changed_and_nothing_else() -> None:
    log = _built(Status.ACTIVE)
    (step,) = extended("agr_1", log, entries((1, e.ChangePrice("rack", Decimal("8.50"))), first=4))
    (found,) = changes(step.before, step.after)
    assert (found.path, found.before, found.after) == ("products[rack].unit_price", "10", "8.5")


@given(
    st.integers(0, 73_000).map(lambda day: datetime(1900, 1, 1, 12, tzinfo=UTC) + day * DAY),
    st.lists(st.integers(1, 30), min_size=2, max_size=6),
)
def test_months_never_drift(moment: datetime, steps: list[int]) -> None:
    found = [months_after(moment, count) for count in sorted(set(steps))]
    for each in found:
        assert each is not None
        assert each.day == moment.day or (each + DAY).day == 1, "its day, or the last of its month"
    assert all(one is not None and two is not None and one < two for one, two in pairwise(found))


# ---- Against a model: everything is done over, from the start, with plain dictionaries.

PRODUCTS = ("a", "b", "c")
EDITS = st.one_of(
    st.builds(lambda key: e.AddProduct(product(key)), st.sampled_from(PRODUCTS)),
    st.builds(e.RemoveProduct, st.sampled_from(PRODUCTS)),
    st.builds(e.ChangePrice, st.sampled_from(PRODUCTS), st.decimals(1, 9, places=1)),
    st.builds(e.ChangeQuantity, st.sampled_from(PRODUCTS), st.decimals(1, 9, places=1)),
    st.just(e.Activate()),
    st.just(e.Suspend("why")),
    st.just(e.Resume()),
    st.just(e.Terminate("why")),
    st.builds(e.ChangeTerms, st.integers(0, 90), st.just("")),
)
# Day from which it holds, and what it is.
TOLD = st.lists(st.tuples(st.integers(0, 12), EDITS), max_size=14)


class Impossible(Exception):
    """Some edit could not be made on its day."""


class Model:
    """An agreement as four plain values."""

    def __init__(self) -> None:
        self.status, self.net_days = "DRAFT", 0
        self.prices: dict[str, Decimal] = {}
        self.quantities: dict[str, Decimal] = {}

    def edit(self, edit: Any) -> None:
        if self.status == "TERMINATED":
            raise Impossible
        match edit.name:
            case "add_product":
                self.add(edit.product)
            case "remove_product":
                self.remove(edit.product_id)
            case "change_price":
                self.set(self.prices, edit.product_id, edit.unit_price)
            case "change_quantity":
                self.set(self.quantities, edit.product_id, edit.quantity)
            case "change_terms":
                self.net_days = edit.net_days
            case move:
                self.move(move)

    def add(self, added: e.Product) -> None:
        if added.product_id in self.prices:
            raise Impossible
        self.prices[added.product_id] = added.unit_price
        self.quantities[added.product_id] = added.quantity

    def remove(self, key: str) -> None:
        if key not in self.prices or (len(self.prices) == 1 and self.status != "DRAFT"):
            raise Impossible
        del self.prices[key], self.quantities[key]

    def set(self, values: dict[str, Decimal], key: str, value: Decimal) -> None:
        if key not in values:
            raise Impossible
        values[key] = value

    def move(self, move: str) -> None:
        moves = {
            ("DRAFT", "activate"): "ACTIVE",
            ("ACTIVE", "suspend"): "SUSPENDED",
            ("SUSPENDED", "resume"): "ACTIVE",
        }
        found = "TERMINATED" if move == "terminate" else moves.get((self.status, move))
        if found is None or (move == "activate" and not self.prices):
            raise Impossible
        self.status = found


def model(told: Sequence[tuple[int, e.Edit]], day: int) -> dict[str, Any] | None:
    """Status, prices, quantities and days of payment on a day; None when some edit was impossible on its day."""
    found = Model()
    order = sorted(range(len(told)), key=lambda index: (told[index][0], index))
    try:
        for when, edit in (told[index] for index in order):
            if when <= day:
                found.edit(edit)
    except Impossible:
        return None
    return vars(found)


@given(TOLD)
def test_fold_is_the_model_and_each_past_is_a_replay(told: list[tuple[int, e.Edit]]) -> None:
    log = entries((0, CREATE))
    accepted: list[tuple[int, e.Edit]] = []
    for when, edit in told:
        added = entries((when, edit), first=len(log) + 1, recorded=len(log))
        expected = model([*accepted, (when, edit)], 99)
        try:
            extended("agr_1", log, added)
        except DomainError:
            assert expected is None
            continue
        assert expected is not None
        log += added
        accepted.append((when, edit))
    for known in range(len(log)):
        for day in range(13):
            found = at(log, day, known=known)
            assert found.revision == known + 1
            # By what was known then, nothing that came later counts.
            assert found == at(log[: known + 1], day)
            assert model(accepted[:known], day) == {
                "status": found.status,
                "prices": {each.product_id: each.unit_price for each in found.products},
                "quantities": {each.product_id: each.quantity for each in found.products},
                "net_days": found.net_days,
            }
