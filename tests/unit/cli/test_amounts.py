"""Amounts of the command line: what is written counts, zeros too."""

from __future__ import annotations

import pytest

from services.cli import amounts
from services.cli.amounts import Range
from services.cli.errors import EXIT_USAGE, CliError


@pytest.mark.parametrize(
    ("amount", "currency", "minor_units"),
    [("10.50", "USD", 1050), ("10.5", "USD", 1050), ("10", "USD", 1000), ("1000", "JPY", 1000)],
)
def test_an_amount_is_read_in_major_units(amount: str, currency: str, minor_units: int) -> None:
    assert amounts.parse("--amount", amount, currency).minor_units == minor_units


@pytest.mark.parametrize(
    ("amount", "currency"),
    [("1.000", "JPY"), ("5.0", "JPY"), ("1.080", "EUR"), ("10.500", "USD"), ("0", "USD")],
)
def test_places_that_the_currency_does_not_have_are_refused(amount: str, currency: str) -> None:
    with pytest.raises(CliError, match=f"--amount {amount} is not an amount of {currency}"):
        amounts.parse("--amount", amount, currency)


@pytest.mark.parametrize(
    ("allowed", "amount", "minor_units"),
    [
        (Range.POSITIVE, "0.01", 1),
        (Range.POSITIVE, "92233720368547758.07", 2**63 - 1),
        (Range.NOT_NEGATIVE, "0.00", 0),
        (Range.NOT_POSITIVE, "-0.00", 0),
        (Range.NOT_POSITIVE, "-500", -50_000),
        (Range.NOT_POSITIVE, "-92233720368547758.08", -(2**63)),
    ],
)
def test_an_option_takes_the_amounts_of_its_range(
    allowed: Range, amount: str, minor_units: int
) -> None:
    found = amounts.parse("--x", amount, "USD", allowed)
    assert (found.currency_code, found.minor_units) == ("USD", minor_units)


@pytest.mark.parametrize(
    ("allowed", "amount"),
    [
        (Range.POSITIVE, "-0.01"),
        (Range.POSITIVE, "92233720368547758.08"),
        (Range.NOT_NEGATIVE, "-0.01"),
        (Range.NOT_POSITIVE, "0.01"),
        (Range.NOT_POSITIVE, "-92233720368547758.09"),
    ],
)
def test_an_option_takes_no_other_amounts(allowed: Range, amount: str) -> None:
    with pytest.raises(CliError, match=f"--x {amount} .*: {allowed.value[0]}") as refused:
        amounts.parse("--x", amount, "USD", allowed)
    assert refused.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(("amount", "currency"), [("1e3", "USD"), ("x", "USD"), ("1", "XXQ")])
def test_what_is_no_amount_is_refused(amount: str, currency: str) -> None:
    with pytest.raises(CliError, match=f"--floor {amount} {currency}: "):
        amounts.parse("--floor", amount, currency, Range.NOT_POSITIVE)
