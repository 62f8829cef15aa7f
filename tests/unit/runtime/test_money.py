"""Laws of money."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.errors import AmountOverflow, CurrencyMismatch, InvalidField, UnknownCurrency
from services.runtime.money import (
    EXPONENTS,
    MINOR_UNITS_MAX,
    MINOR_UNITS_MIN,
    Money,
    allocate,
    exponent,
    format_decimal,
    format_exact,
    format_money,
    parse_decimal,
    round_to_minor,
    share,
    to_decimal,
)

minor_units = st.integers(MINOR_UNITS_MIN, MINOR_UNITS_MAX)
weights = st.lists(
    st.decimals(0, 10**6, places=6, allow_nan=False, allow_infinity=False), min_size=1, max_size=20
).filter(any)


@given(st.integers(-(10**17), 10**17), weights)
def test_parts_of_an_allocation_sum_to_the_whole(units: int, shares: list[Decimal]) -> None:
    parts = allocate(Money("USD", units), shares)
    assert sum(part.minor_units for part in parts) == units


@given(st.integers(0, 10**15), weights)
def test_no_part_is_a_unit_away_from_its_exact_share(units: int, shares: list[Decimal]) -> None:
    total = sum(shares)
    for part, weight in zip(allocate(Money("USD", units), shares), shares, strict=True):
        exact = Decimal(units) * weight / total
        assert abs(Decimal(part.minor_units) - exact) < 1


@given(st.integers(-(10**15), 10**15), weights)
def test_allocation_of_a_negative_amount_mirrors_the_positive(
    units: int, shares: list[Decimal]
) -> None:
    mirrored = [-part for part in allocate(Money("USD", -units), shares)]
    assert allocate(Money("USD", units), shares) == mirrored


def test_a_tie_goes_to_the_residual_owner() -> None:
    # 10 % of 50.15 is 5.015: half a cent each way.
    assert share(Money("USD", 5015), Decimal(10)) == (Money("USD", 501), Money("USD", 4514))


@pytest.mark.parametrize("shares", [[], [Decimal(0)], [Decimal(-1), Decimal(2)]])
def test_allocation_refuses_weights_without_meaning(shares: list[Decimal]) -> None:
    with pytest.raises(ValueError, match="weights"):
        allocate(Money("USD", 1), shares)


@pytest.mark.parametrize("percent", ["-0.01", "100.01"])
def test_share_refuses_percents_out_of_range(percent: str) -> None:
    with pytest.raises(ValueError, match="percent"):
        share(Money("USD", 1), Decimal(percent))


@given(minor_units)
def test_decimal_and_minor_units_go_both_ways(units: int) -> None:
    for code in ("JPY", "USD", "KWD", "CLF"):
        money = Money(code, units)
        assert round_to_minor(to_decimal(money), code) == money
        assert Decimal(format_money(money)) == to_decimal(money)


@pytest.mark.parametrize(
    ("amount", "code", "expected"),
    [
        ("0.005", "USD", 1),
        ("-0.005", "USD", -1),
        ("0.0049999999999999999", "USD", 0),
        # By way of 18 places this would become 0.005 and then 0.01.
        ("0.004999999999999999995", "USD", 0),
        ("0.5", "JPY", 1),
        ("1.0005", "KWD", 1001),
    ],
)
def test_rounding_is_half_up_and_happens_once(amount: str, code: str, expected: int) -> None:
    assert round_to_minor(Decimal(amount), code) == Money(code, expected)


@pytest.mark.parametrize("units", [MINOR_UNITS_MAX + 1, MINOR_UNITS_MIN - 1])
def test_amounts_beyond_64_bits_are_refused(units: int) -> None:
    with pytest.raises(AmountOverflow):
        Money("USD", units)
    with pytest.raises(AmountOverflow):
        round_to_minor(Decimal(units).scaleb(-2), "USD")


def test_sums_overflow_with_a_typed_error() -> None:
    with pytest.raises(AmountOverflow):
        _ = Money("USD", MINOR_UNITS_MAX) + Money("USD", 1)
    with pytest.raises(AmountOverflow):
        _ = Money("USD", MINOR_UNITS_MIN) - Money("USD", 1)
    with pytest.raises(AmountOverflow):
        _ = -Money("USD", MINOR_UNITS_MIN)


def test_currencies_do_not_mix() -> None:
    with pytest.raises(CurrencyMismatch) as caught:
        _ = Money("USD", 1) + Money("EUR", 1)
    assert caught.value.metadata == {"left": "USD", "right": "EUR"}


def test_unknown_currencies_are_refused() -> None:
    for code in ("usd", "XXQ", "", "USDT"):
        with pytest.raises(UnknownCurrency):
            exponent(code)


def test_exponents_are_those_of_iso_4217() -> None:
    assert {code: exponent(code) for code in ("JPY", "USD", "KWD", "CLF", "ISK", "HUF")} == {
        "JPY": 0,
        "USD": 2,
        "KWD": 3,
        "CLF": 4,
        "ISK": 0,
        "HUF": 2,
    }
    assert len(EXPONENTS) > 150


decimals = st.decimals(
    min_value=-(10**19), max_value=10**19, places=18, allow_nan=False, allow_infinity=False
)


@given(decimals)
def test_decimal_strings_go_both_ways(value: Decimal) -> None:
    text = format_decimal(value)
    assert "e" not in text.lower()
    assert parse_decimal(text) == value


@pytest.mark.parametrize(
    "text", ["", "1e5", "1.", ".5", "+1", "1,0", "NaN", "٣", "1" * 21, "0." + "1" * 19, " 1", "1\n"]
)
def test_texts_that_are_no_decimals_are_refused(text: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse_decimal(text, "quantity")
    assert caught.value.fields[0].field == "quantity"


def test_exact_amounts_print_18_places() -> None:
    assert format_exact(Decimal("20.149935")) == "20.149935000000000000"
    assert format_exact(Decimal("1e-19") * 5) == "0.000000000000000001"
