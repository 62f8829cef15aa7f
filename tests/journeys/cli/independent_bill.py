"""The demo's bill, computed a second time by other means: fractions, and nothing of the product.

It reads the traces that the demo bills and follows the price list as the demo's text states it:

* input tokens: the first 10,000,000 at 0.000003, up to 20,000,000 at 0.0000025, beyond at 0.000002;
* output tokens: 0.000015 each, 100,000 included;
* requests: 0.50 for each 1,000 that are begun;
* a partner earns 10 % of each line; half a cent stays with us.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

CENT = Fraction(1, 100)


@dataclass(frozen=True)
class BillLine:
    """One line: what was used, and what it costs as a decimal with two places."""

    sku: str
    quantity: int
    amount: str


@dataclass(frozen=True)
class Bill:
    """The lines by SKU, their total, and what the partner would earn on them."""

    lines: tuple[BillLine, ...]
    total: str
    commission: str


def read_trace(path: Path) -> Iterator[tuple[int, int]]:
    """Yield (input tokens, output tokens) of each request in a trace, a CSV file, perhaps compressed with gzip."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for row in csv.DictReader(file):
            yield int(row["ContextTokens"]), int(row["GeneratedTokens"])


def bill(rows: Iterable[tuple[int, int]]) -> Bill:
    """Bill the requests of a trace."""
    input_tokens = output_tokens = requests = 0
    for received, generated in rows:
        input_tokens += received
        output_tokens += generated
        requests += 1
    cents = {
        "llm.input_tokens": to_cents(input_price(input_tokens)),
        "llm.output_tokens": to_cents(max(output_tokens - 100_000, 0) * Fraction("0.000015")),
        "llm.requests": to_cents(-(-requests // 1000) * Fraction("0.50")),
    }
    quantities = (input_tokens, output_tokens, requests)
    lines = tuple(
        BillLine(sku, quantity, as_text(amount))
        for (sku, amount), quantity in zip(cents.items(), quantities, strict=True)
    )
    earned = sum(commission(amount) for amount in cents.values())
    return Bill(lines, as_text(sum(cents.values())), as_text(earned))


def input_price(tokens: int) -> Fraction:
    """Price the input tokens of a period: every token pays for the band that it falls into."""
    bands = [
        (0, 10_000_000, Fraction("0.000003")),
        (10_000_000, 20_000_000, Fraction("0.0000025")),
        (20_000_000, max(tokens, 20_000_000), Fraction("0.000002")),
    ]
    return sum(
        (max(min(tokens, high) - low, 0) * each for low, high, each in bands), start=Fraction(0)
    )


def to_cents(amount: Fraction) -> int:
    """Round to the nearest cent, halves up."""
    return int((amount / CENT + Fraction(1, 2)) // 1)


def commission(cents: int) -> int:
    """Take a tenth of an amount, to the nearest cent; half a cent is not the partner's."""
    whole, rest = divmod(cents, 10)
    return whole + 1 if rest > 5 else whole


def as_text(cents: int) -> str:
    """Write cents as a decimal with two places."""
    return f"{cents // 100}.{cents % 100:02}"
