"""The independent bill agrees with sums made by hand."""

from __future__ import annotations

import gzip
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load() -> ModuleType:
    """Load the calculator that lies beside this file; tests are no package."""
    path = Path(__file__).with_name("independent_bill.py")
    spec = importlib.util.spec_from_file_location("independent_bill", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


independent = load()


@pytest.mark.parametrize(
    ("rows", "amounts", "total", "commission"),
    [
        ([], ["0.00", "0.00", "0.00"], "0.00", "0.00"),
        ([(1_000_000, 100_001)], ["3.00", "0.00", "0.50"], "3.50", "0.35"),
        ([(9_999_999, 0), (2, 0)], ["30.00", "0.00", "0.50"], "30.50", "3.05"),
        ([(10_000, 200)] * 1001, ["30.03", "1.50", "1.00"], "32.53", "3.25"),
        ([(30_000_000, 0)], ["75.00", "0.00", "0.50"], "75.50", "7.55"),
        # The sums of the two traces, as their publishers' rows add up.
        (
            [(0, 0)] * 8_818 + [(18_059_974, 245_896)],
            ["50.15", "2.19", "4.50"],
            "56.84",
            "5.68",
        ),
        (
            [(0, 0)] * 19_365 + [(22_361_870, 4_088_665)],
            ["59.72", "59.83", "10.00"],
            "129.55",
            "12.95",
        ),
    ],
)
def test_bills(
    rows: list[tuple[int, int]], amounts: list[str], total: str, commission: str
) -> None:
    found = independent.bill(rows)
    assert [line.amount for line in found.lines] == amounts
    assert (found.total, found.commission) == (total, commission)
    assert [line.quantity for line in found.lines] == [
        sum(received for received, _ in rows),
        sum(generated for _, generated in rows),
        len(rows),
    ]


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz"])
def test_traces_are_read_compressed_or_not(tmp_path: Path, name: str) -> None:
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,4808,10\n"
        "2023-11-16 18:17:04.0319600,3180,8\n"
    )
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    assert list(independent.read_trace(path)) == [(4808, 10), (3180, 8)]


@pytest.mark.parametrize(
    ("name", "requests", "total"),
    [("llm-inference-code", 8_819, "56.84"), ("llm-inference-conversation", 19_366, "129.55")],
)
def test_the_traces_that_the_demo_ships(name: str, requests: int, total: str) -> None:
    path = Path(__file__).parents[3] / "services" / "cli" / "data" / f"{name}.csv.gz"
    found = independent.bill(independent.read_trace(path))
    assert (found.lines[2].quantity, found.total) == (requests, total)
