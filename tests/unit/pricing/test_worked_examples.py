"""Every worked example of `docs/reference/pricing.md` is what the product computes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from payments.pricing.v1 import catalog_service_pb2, pricing_pb2, pricing_service_pb2

from services.pricing import messages
from services.pricing.app.pricing import evaluate
from services.pricing.domain.catalog import Aggregation
from services.pricing.domain.models.table import MODELS
from services.pricing.domain.pairs import TAKES
from services.pricing.domain.prices import Price
from services.pricing.domain.tax_table import TaxPolicy
from services.pricing.domain.taxes import (
    TaxDocument,
    TaxItem,
    TaxRules,
    included,
    on_top,
    taxed,
    totals,
)
from services.runtime import documents
from services.runtime.money import Money, format_money, round_to_minor
from tests.support.pricing.taxing import QUEBEC, SINCE

PAGE = (Path(__file__).parents[3] / "docs/reference/pricing.md").read_text()
TAXES = "Taxes"
CHARTED = ("graduated", "volume", "package")


@dataclass(frozen=True)
class Example:
    """A price and a row of its table."""

    section: str
    price: dict[str, Any]
    used: str
    before: str
    exact: str
    rounded: str


def examples() -> Iterator[Example]:
    """Read the page: each price, and the rows of the table behind it."""
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        name = section.split("\n", 1)[0]
        if name == TAXES:
            continue
        for text, table in re.findall(r"```yaml\n(.*?)```\n+((?:\|[^\n]*\n)+)", section, re.DOTALL):
            for line in table.splitlines()[2:]:
                used, before, exact, rounded, _ = (cell.strip() for cell in line[1:-1].split("|"))
                yield Example(name, documents.read(text.encode()), used, before, exact, rounded)


EXAMPLES = [*examples()]


def read_price(written: dict[str, Any]) -> Price:
    return messages.price(json_format.ParseDict(written, pricing_pb2.Price()))


def given(used: str, before: str) -> pricing_service_pb2.PriceInput:
    """Write what a row says as the message of a caller."""
    told: dict[str, Any] = {}
    if used.startswith("events"):
        told["amounts"] = used.split()[1:]
    elif "=" in used:
        told["quantities"] = dict(part.split("=") for part in used.split())
    else:
        told["quantity"] = used
    if before.startswith("events"):
        earlier = [Decimal(amount) for amount in before.split()[1:]]
        told["prior_quantity"] = f"{sum(earlier):f}"
        told["prior_event_count"] = sum(1 for amount in earlier if amount)
    elif "=" in before:
        told["prior_quantities"] = dict(part.split("=") for part in before.split())
    elif before:
        told["prior_quantity"] = before
    return json_format.ParseDict(told, pricing_service_pb2.PriceInput())


@pytest.mark.parametrize(
    "example", EXAMPLES, ids=[f"{item.section}:{item.used}:{item.before}" for item in EXAMPLES]
)
def test_a_worked_example_is_what_is_computed(example: Example) -> None:
    price = read_price(example.price)
    found = evaluate(price, "USD", messages.price_input(given(example.used, example.before)))
    assert found.evaluation.exact == Decimal(example.exact)
    assert format_money(found.amount) == example.rounded
    assert sum((step.amount for step in found.evaluation.steps), Decimal(0)) == Decimal(
        example.exact
    )


def test_the_page_has_examples_of_every_model() -> None:
    assert set(MODELS) <= {example.section for example in EXAMPLES}


def test_the_chart_is_drawn_from_the_prices_beside_it() -> None:
    chart = re.search(r"xychart-beta(.*?)```", PAGE, re.DOTALL)
    assert chart
    axis, *lines = (
        [Decimal(number) for number in found.split(",")]
        for found in re.findall(r"\[([^\]]*)\]", chart[1])
    )
    assert len(lines) == len(CHARTED)
    for name, line in zip(CHARTED, lines, strict=True):
        written = next(item.price for item in EXAMPLES if item.section == name)
        assert line == [read_price(written).evaluate(units).exact for units in axis]


def test_the_page_tells_which_aggregation_a_price_takes() -> None:
    table = PAGE.split("## Which aggregation")[1]
    told = {
        cells[0].strip(): cells[1].split()
        for cells in (line[1:].split("|") for line in table.splitlines() if line.startswith("| "))
        if cells[0].strip() in MODELS
    }
    assert told.keys() == TAKES.keys() == MODELS.keys()
    for name, takes in TAKES.items():
        every = takes == frozenset(Aggregation)
        names = sorted(item.value.removeprefix("AGGREGATION_") for item in takes)
        assert told[name] == (["any"] if every else names)


def tax_examples() -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Read the section of taxes: each table of taxes, and the rows of the table behind it."""
    section = PAGE.split(f"## {TAXES}\n")[1].split("\n## ")[0]
    for text, table in re.findall(r"```yaml\n(.*?)```\n+((?:\|[^\n]*\n)+)", section, re.DOTALL):
        for line in table.splitlines()[2:]:
            yield documents.read(text.encode()), [cell.strip() for cell in line[1:-1].split("|")]


@pytest.mark.parametrize(("declared", "row"), [*tax_examples()])
def test_a_worked_example_of_taxes_is_what_is_computed(
    declared: dict[str, Any], row: list[str]
) -> None:
    catalog = messages.catalog(json_format.ParseDict(declared, catalog_service_pb2.Catalog()))
    policies = [*catalog.tax_policies, TaxPolicy()]
    rules = TaxRules.of(QUEBEC, policies[0], catalog.tax_rates)
    items = []
    for written in row[0].split():
        code, _, text = written.rpartition(":")
        items.append(TaxItem(code, round_to_minor(Decimal(text), "CAD")))
    found = taxed(TaxDocument("acme", QUEBEC, SINCE, items), rules)
    lines = [tax for taxes in found for tax in taxes]
    told = " ".join(f"{each.tax} {format_money(each.amount)}" for each in totals(lines))
    amount = sum(item.amount.minor_units for item in items)
    without, owed = amount - included(lines), amount + on_top(lines)
    assert sorted(pairs(told)) == sorted(pairs(row[1]))
    assert [format_money(Money("CAD", minor)) for minor in (without, owed)] == row[2:4]


def pairs(told: str) -> list[tuple[str, str]]:
    words = told.split()
    return [*zip(words[::2], words[1::2], strict=True)]


def test_the_page_has_examples_of_taxes() -> None:
    assert len([*tax_examples()]) > 10
