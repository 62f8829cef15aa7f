"""Who earns on a line: laws of what is shared out over the stretches of a period."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.billing.domain.charges import RatedLine, rated_line
from services.pricing.domain.commissions import (
    Commission,
    Earner,
    Record,
    Stretch,
    commissions,
    overlaid,
    portion,
    stretches,
)
from services.runtime.money import Money, format_exact

START = datetime(2026, 11, 1, tzinfo=UTC)
END = START + timedelta(days=30)
D = Decimal
RATES = st.dictionaries(st.sampled_from(["", "sms", "calls"]), st.decimals(0, 100, places=2))


def at(day: float) -> datetime:
    return START + timedelta(days=day)


def earner(partner_id: str, since: datetime = START, pct: str = "10", dispute: str = "") -> Earner:
    return Earner(partner_id, "gold", since, {"": D(pct)}, dispute)


@st.composite
def records(draw: st.DrawFn) -> list[Record]:
    """Records that do not overlap, with gaps, some beyond the period."""
    days = st.integers(-5 * 86_400, 35 * 86_400)
    times = sorted(draw(st.lists(days, max_size=8, unique=True)))
    instants = [START + timedelta(seconds=second, microseconds=second % 5) for second in times]
    found = []
    for start_at, end_at in pairwise(instants):
        partner_id = draw(st.sampled_from(["", "north", "south"]))
        if partner_id:
            made = Earner(
                partner_id, "gold", start_at, draw(RATES), draw(st.sampled_from(["", "d"]))
            )
            found.append(Record(start_at, end_at, made))
    return found


def earning_at(found: Sequence[Record], moment: datetime) -> Earner | None:
    return next(
        (
            each.earner
            for each in found
            if each.start_at <= moment and (each.end_at is None or moment < each.end_at)
        ),
        None,
    )


@given(records(), st.lists(st.integers(0, 30 * 86_400 - 1), max_size=20))
def test_stretches_tile_the_period_and_say_who_earns(
    found: list[Record], seconds: list[int]
) -> None:
    cut = stretches(START, END, found)
    assert (cut[0].start_at, cut[-1].end_at) == (START, END)
    assert all(left.end_at == right.start_at for left, right in pairwise(cut))
    for moment in (START + timedelta(seconds=second) for second in seconds):
        (told,) = [each.earner for each in cut if each.start_at <= moment < each.end_at]
        wanted = earning_at(found, moment)
        assert (told and (told.partner_id, told.rates)) == (
            wanted and (wanted.partner_id, wanted.rates)
        )


QUANTITIES = st.decimals(0, 10**12, places=18)
AMOUNTS = st.integers(-(10**12), 10**12)


def shared_out(
    cut: list[Stretch], quantity: Decimal, exact: Decimal, amount: Money
) -> list[tuple[Commission, RatedLine]]:
    return [
        (each, RatedLine("sms", "p", *part, "x" if each.pct is not None else "", each.pct, b""))
        for each in commissions(cut, "sms")
        for part in [portion((START, END), each.stretches or cut, quantity, exact, amount)]
    ]


@given(records(), QUANTITIES, st.decimals(-(10**12), 10**12, places=25), AMOUNTS)
def test_shares_sum_exactly_to_the_line(
    found: list[Record], quantity: Decimal, exact: Decimal, minor_units: int
) -> None:
    """Gross is net and what partners earn; what the organisation pays does not depend on who does."""
    amount = Money("USD", minor_units)
    shares = shared_out(stretches(START, END, found), quantity, exact, amount)
    if not shares:
        return
    assert sum(Fraction(each.quantity) for _, each in shares) == Fraction(quantity)
    assert sum(Fraction(each.exact_amount) for _, each in shares) == Fraction(format_exact(exact))
    lines = [rated_line(str(no), each) for no, (_, each) in enumerate(shares)]
    zero = Money("USD", 0)
    assert sum((each.rated.amount for each in lines), zero) == amount
    assert sum((each.partner_amount + each.net for each in lines), zero) == amount
    for each in lines:
        assert abs(each.partner_amount.minor_units) <= abs(each.rated.amount.minor_units)


@given(records(), st.sampled_from(["sms", "other"]))
def test_each_partner_has_one_line_with_its_rate(found: list[Record], sku: str) -> None:
    made = commissions(stretches(START, END, found), sku)
    keys = [each.earner and (each.earner.partner_id, each.earner.dispute_id) for each in made]
    assert len(set(keys)) == len(keys)
    for each in made:
        if each.earner is None:
            assert (each.pct, each.rate_sku) == (None, "")
        else:
            own = sku in each.earner.rates
            assert each.rate_sku == (sku if own else "")
            assert each.pct == each.earner.rates[each.rate_sku]


def test_the_line_is_shared_out_by_time() -> None:
    found = [Record(at(-9), at(10), earner("north")), Record(at(10), None, earner("south", at(10)))]
    cut = stretches(START, END, found)
    shares = shared_out(cut, D(100), D("1.00"), Money("USD", 100))
    assert [(each.quantity, each.exact_amount, each.amount.minor_units) for _, each in shares] == [
        (D("33.333333333333333333"), D("0.333333333333333333"), 33),
        (D("66.666666666666666667"), D("0.666666666666666667"), 67),
    ]


def test_who_comes_back_has_one_share_and_a_record_renewed_changes_nobody() -> None:
    north = earner("north")
    back = [
        Record(at(0), at(10), north),
        Record(at(10), at(20), earner("south")),
        Record(at(20), at(25), north),
        Record(at(25), at(30), earner("north", at(25))),
    ]
    first, second = commissions(stretches(START, END, back), "sms")
    assert first.earner is north
    assert [tuple(each[:2]) for each in first.stretches] == [(at(0), at(10)), (at(20), at(30))]
    assert [tuple(each[:2]) for each in second.stretches] == [(at(10), at(20))]
    renewed = [Record(at(0), at(9), north), Record(at(9), at(30), earner("north", at(9)))]
    (only,) = commissions(stretches(START, END, renewed), "sms")
    assert only == Commission(north, D(10), "")


def test_nobody_earns_without_a_rate_and_before_the_record() -> None:
    late = [Record(at(15), None, earner("north", at(15)))]
    nobody, north = commissions(stretches(START, END, late), "sms")
    assert (nobody.earner, nobody.pct) == (None, None)
    assert north.earner is not None
    without = [Record(at(15), None, Earner("north", "gold", at(15), {"calls": D(5)}))]
    assert commissions(stretches(START, END, without), "sms") == []
    assert commissions((), "sms") == []


# ---- Billing accounts


def earns_at(found: Sequence[Record], moment: datetime) -> Earner | None:
    for each in found:
        if each.start_at <= moment and (each.end_at is None or moment < each.end_at):
            return each.earner
    return None


@given(records(), records(), st.booleans(), st.booleans())
def test_the_partner_of_a_billing_account_counts_before_the_organisations_own(
    over: list[Record], under: list[Record], over_goes_on: bool, under_goes_on: bool
) -> None:
    for found, goes_on in ((over, over_goes_on), (under, under_goes_on)):
        if found and goes_on:
            found[-1] = Record(found[-1].start_at, None, found[-1].earner)
    both = overlaid(over, under)
    for earlier, later in pairwise(both):
        assert earlier.end_at is not None
        assert earlier.end_at <= later.start_at
    assert all(each.end_at is None or each.start_at < each.end_at for each in both)
    bounds = {each.start_at for each in (*over, *under)}
    bounds |= {each.end_at for each in (*over, *under) if each.end_at is not None}
    for moment in (*bounds, *(bound - timedelta(microseconds=1) for bound in bounds)):
        assert earns_at(both, moment) == (earns_at(over, moment) or earns_at(under, moment))


def test_without_a_billing_account_nothing_changes() -> None:
    own = [Record(at(1), at(2), earner("north")), Record(at(3), None, earner("south"))]
    assert overlaid([], own) == own
    assert overlaid(own, []) == own
    whole = [Record(at(0), None, earner("group"))]
    assert overlaid(whole, own) == whole
