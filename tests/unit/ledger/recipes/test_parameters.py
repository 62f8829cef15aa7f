"""Parameters are what the recipe takes, or are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest

from services.ledger.domain.recipes.parameters import Parameter, ParameterType, Value, bind
from services.runtime.errors import InvalidField
from services.runtime.money import MINOR_UNITS_MIN, Money
from tests.support.ledger.posting_recipes import usd

T = ParameterType
RULES = (
    Parameter("party", T.PARTY),
    Parameter("name", T.NAME, optional=True),
    Parameter("currency", T.CURRENCY, optional=True),
    Parameter("note", T.TEXT, optional=True),
    Parameter("amount", T.AMOUNT),
    Parameter("signed", T.SIGNED_AMOUNT, optional=True, same_currency_as="amount"),
    Parameter("rate", T.RATE, optional=True),
    Parameter("flag", T.FLAG, optional=True),
    Parameter(
        "lines",
        T.LIST,
        optional=True,
        group=(
            Parameter("sku", T.NAME),
            Parameter("price", T.AMOUNT, optional=True, same_currency_as="amount"),
        ),
    ),
)
LEAST: dict[str, Value] = {"party": "Ada Lovelace", "amount": usd(0)}
ALL: dict[str, Value] = {
    **LEAST,
    "name": "a.b_c:d-9",
    "currency": "JPY",
    "note": "",
    "signed": usd(-1),
    "rate": Decimal("0.1"),
    "flag": False,
    "lines": ({"sku": "a", "price": usd(1)}, {"sku": "b"}),
}


def refused(given: Mapping[str, Value]) -> dict[str, str]:
    with pytest.raises(InvalidField) as error:
        bind(RULES, given)
    return {field.field: field.description for field in error.value.fields}


def test_values_of_their_types_are_taken() -> None:
    assert bind(RULES, LEAST) == LEAST
    # A text that is empty is one that is not given.
    assert bind(RULES, ALL) == {name: value for name, value in ALL.items() if name != "note"}


def test_a_text_that_need_not_be_optional_may_be_empty() -> None:
    rules = (Parameter("note", T.TEXT),)
    assert bind(rules, {"note": ""}) == {"note": ""}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("party", "", "must not be empty"),
        ("party", usd(1), "must be a text"),
        ("party", True, "must be a text"),
        ("name", "a b", "1 to 64 letters"),
        ("name", "x" * 65, "1 to 64 letters"),
        ("currency", "usd", "ISO 4217"),
        ("amount", usd(-1), "must not be negative"),
        ("amount", "1.00", "must be an amount"),
        ("signed", usd(MINOR_UNITS_MIN), "out of range"),
        ("signed", Money("EUR", 1), "must be in USD, the currency of amount"),
        ("rate", "0.1", "must be a decimal"),
        ("flag", "true", "must be a flag"),
        ("lines", "a", "must be a list"),
        ("unknown", "a", "takes no such parameter"),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: Value, words: str) -> None:
    assert words in refused({**LEAST, name: value})[f"parameters.{name}"]


def test_what_is_missing_is_named() -> None:
    assert refused({}) == {
        "parameters.party": "is required by the recipe",
        "parameters.amount": "is required by the recipe",
    }


def test_faults_of_groups_are_named_with_their_places() -> None:
    lines = ({"sku": "a"}, {"price": Money("EUR", 1)}, {"sku": "c", "colour": "red"})
    assert refused({**LEAST, "lines": lines}) == {
        "parameters.lines[1].sku": "is required by the recipe",
        "parameters.lines[1].price": "must be in USD, the currency of amount",
        "parameters.lines[2].colour": "the recipe takes no such parameter",
    }
