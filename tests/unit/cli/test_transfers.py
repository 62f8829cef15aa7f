"""Amounts of `tollmesh ledger post`: what is written counts, zeros too."""

from __future__ import annotations

import pytest

from services.cli.commands import transfers
from services.cli.errors import CliError


@pytest.mark.parametrize(
    ("amount", "currency", "minor_units"),
    [("10.50", "USD", 1050), ("10.5", "USD", 1050), ("10", "USD", 1000), ("1000", "JPY", 1000)],
)
def test_an_amount_is_read_in_major_units(amount: str, currency: str, minor_units: int) -> None:
    assert transfers._money(amount, currency).minor_units == minor_units


@pytest.mark.parametrize(
    ("amount", "currency"),
    [("1.000", "JPY"), ("5.0", "JPY"), ("1.080", "EUR"), ("10.500", "USD"), ("0", "USD")],
)
def test_places_that_the_currency_does_not_have_are_refused(amount: str, currency: str) -> None:
    with pytest.raises(CliError, match=f"{amount} is not an amount of {currency}"):
        transfers._money(amount, currency)
