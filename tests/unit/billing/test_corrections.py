"""Corrections: with them, what was billed comes to what the usage comes to, to the minor unit, for partners too."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.domain.charges import (
    Charge,
    ChargeKind,
    ChargeStatus,
    Line,
    RatedLine,
    Rating,
    Span,
    freeze,
    totals_of,
)
from services.billing.domain.corrections import (
    Billed,
    ChargeNotCorrectable,
    NothingToAdjust,
    adjusted,
    check_correctable,
    reversed_by,
    totals_after,
)
from services.billing.domain.postings import effective_at
from services.runtime.money import Money

NOW = datetime(2026, 11, 20, tzinfo=UTC)
PERIOD = Span(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
Key = tuple[str, str, str, str]


@st.composite
def ratings(draw: st.DrawFn) -> Rating:
    """What the usage of a month may come to: no two lines of one SKU, project, partner and dispute."""
    keys = draw(
        st.lists(
            st.tuples(
                st.sampled_from("ab"),
                st.sampled_from(["", "p"]),
                st.sampled_from([("", ""), ("north", ""), ("north", "d-1"), ("south", "")]),
            ),
            unique=True,
            max_size=5,
        )
    )
    lines = []
    for sku, project, (partner, dispute) in keys:
        exact = draw(st.decimals("-50", "50", places=4))
        percent = draw(st.decimals("0", "100", places=2)) if partner else None
        minor = int((exact * 100).to_integral_value("ROUND_HALF_UP"))
        quantity = Decimal(draw(st.integers(0, 1000)))
        lines.append(
            RatedLine(
                sku,
                project,
                quantity,
                exact,
                Money("USD", minor),
                partner,
                percent,
                sku.encode(),
                dispute,
            )
        )
    return Rating(tuple(lines), "USD", "plan", 1, "1:1:")


def settled(charge: Charge) -> Charge:
    return replace(charge, status=ChargeStatus.SETTLED)


def key_of(line: Line) -> Key:
    rated = line.rated
    return rated.sku, rated.project_id, rated.partner_id, rated.dispute_id


def sums(*charges: Charge) -> dict[Key, tuple[Decimal, Decimal, int, int]]:
    """What was billed by SKU, project, partner and dispute; nothing of what comes to nothing."""
    found: dict[Key, tuple[Decimal, Decimal, int, int]] = {}
    for charge in charges:
        for line in charge.lines:
            rated = line.rated
            key = key_of(line)
            quantity, exact, amount, share = found.get(key, (Decimal(0), Decimal(0), 0, 0))
            found[key] = (
                quantity + rated.quantity,
                exact + rated.exact_amount,
                amount + rated.amount.minor_units,
                share + line.partner_amount.minor_units,
            )
    return {key: value for key, value in found.items() if any(value)}


@given(st.lists(ratings(), min_size=1, max_size=4))
def test_however_often_it_is_adjusted_what_is_billed_is_what_the_last_rating_says(
    rated: list[Rating],
) -> None:
    first, *later = rated
    base = settled(freeze("c0", "acme", PERIOD, first, NOW))
    billed = Billed(base)
    for number, rating in enumerate(later, start=1):
        wanted = freeze("", "acme", PERIOD, rating, NOW)
        try:
            made = adjusted(f"c{number}", billed, rating, NOW)
        except NothingToAdjust:
            assert sums(*billed.charges) == sums(wanted)
            continue
        assert (made.kind, made.adjusts_charge_id) == (ChargeKind.ADJUSTMENT, "c0")
        assert made.correction_no == billed.next_no
        assert sums(*billed.charges) != sums(wanted)
        assert sums(*billed.charges, made) == sums(wanted)
        assert made.total.minor_units == sum(line.rated.amount.minor_units for line in made.lines)
        by_place = {
            (each.sku, each.project_id): each.amount.minor_units
            for each in totals_after(billed, made)
        }
        for total in totals_of(wanted):
            place = (total.sku, total.project_id)
            assert by_place.get(place, 0) == total.amount.minor_units
        billed = Billed(base, (*billed.corrections, settled(made)))
    made = reversed_by("r", billed, "typing error", NOW)
    assert sums(*billed.charges, made) == {}
    assert (made.kind, made.cause) == (ChargeKind.REVERSAL, "typing error")


@given(ratings())
def test_a_line_of_a_correction_says_what_it_stands_between(rating: Rating) -> None:
    base = settled(freeze("c0", "acme", PERIOD, rating, NOW))
    made = reversed_by("r", Billed(base), "why", NOW)
    before = {key_of(each): each for each in base.lines}
    for line in made.lines:
        was = before[key_of(line)]
        assert line.amount_before == was.rated.amount
        assert line.quantity_before == was.rated.quantity
        assert line.partner_amount_before == was.partner_amount
        assert line.rated.amount + was.rated.amount == Money("USD", 0)
        assert line.net + line.partner_amount == line.rated.amount
        assert line.rated.proof == was.rated.proof


def test_a_partner_that_changed_gives_back_what_it_earned_and_the_other_earns_its_own() -> None:
    def rating(partner: str, percent: str) -> Rating:
        line = RatedLine(
            "a", "p", Decimal(5), Decimal(10), Money("USD", 1000), partner, Decimal(percent), b""
        )
        return Rating((line,), "USD", "plan", 1, "")

    base = settled(freeze("c0", "acme", PERIOD, rating("north", "10"), NOW))
    made = adjusted("c1", Billed(base), rating("south", "12.5"), NOW)
    assert [
        (line.rated.partner_id, line.rated.amount.minor_units, line.partner_amount.minor_units)
        for line in made.lines
    ] == [("north", -1000, -100), ("south", 1000, 125)]
    assert (made.total.minor_units, made.partner_total.minor_units) == (0, 25)


def test_what_takes_no_correction_is_refused_and_says_what_to_do() -> None:
    base = freeze("c0", "acme", PERIOD, Rating((), "USD", "plan", 1, ""), NOW)
    correction = replace(base, charge_id="c1", adjusts_charge_id="c0", kind=ChargeKind.ADJUSTMENT)
    taken_back = replace(base, status=ChargeStatus.REVERSED, reversed_by_charge_id="c9")
    for charge, why in ((correction, "IS_CORRECTION"), (taken_back, "REVERSED")):
        with pytest.raises(ChargeNotCorrectable) as refused:
            check_correctable(charge)
        assert refused.value.metadata["why"] == why
    with pytest.raises(ChargeNotCorrectable) as refused:
        adjusted("c1", Billed(base), Rating((), "EUR", "plan", 1, ""), NOW)
    assert refused.value.metadata["why"] == "CURRENCY_CHANGED"
    with pytest.raises(NothingToAdjust):
        adjusted("c1", Billed(base), Rating((), "USD", "plan", 1, ""), NOW)


def test_a_correction_takes_effect_when_it_is_made() -> None:
    base = freeze("c0", "acme", PERIOD, Rating((), "USD", "plan", 1, ""), NOW)
    assert effective_at(base) < PERIOD.end_at
    assert effective_at(reversed_by("r", Billed(base), "why", NOW)) == NOW


def part(proof: bytes, cents: int) -> RatedLine:
    amount = Money("USD", cents)
    return RatedLine("a", "", Decimal(1), Decimal(cents) / 100, amount, "", None, proof)


def in_parts(*lines: RatedLine) -> Rating:
    return Rating(lines, "USD", "plan", 1, "1:1:")


def proofs(charge: Charge) -> list[tuple[bytes, ...]]:
    return [(*line.rated.earlier_proofs, line.rated.proof) for line in charge.lines]


def test_a_correction_has_the_proofs_of_all_parts_that_it_comes_to() -> None:
    base = freeze("chg_base", "acme", PERIOD, in_parts(part(b"1", 30), part(b"2", 50)), NOW)
    assert proofs(base) == [(b"1",), (b"2",)]
    assert proofs(reversed_by("chg_back", Billed(base), "x", NOW)) == [(b"1", b"2")]
    three = in_parts(part(b"3", 10), part(b"4", 20), part(b"5", 40))
    first = adjusted("chg_1", Billed(base), three, NOW)
    assert proofs(first) == [(b"3", b"4", b"5")]
    # What was stored is read as one proof.
    (line,) = first.lines
    read = replace(line, rated=replace(line.rated, proof=b"345", earlier_proofs=()))
    billed = Billed(base, (replace(first, lines=(read,)),))
    assert proofs(reversed_by("chg_back", billed, "x", NOW)) == [(b"345",)]
    one = adjusted("chg_2", billed, in_parts(part(b"6", 10)), NOW)
    assert proofs(one) == [(b"6",)]
