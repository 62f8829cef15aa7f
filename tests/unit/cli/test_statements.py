"""Statements as files: the same bytes for the same statement, and nothing of a value that a reader would obey."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, statement_pb2
from payments.type.v1.type_pb2 import Money

from services.cli import references, statements
from services.cli.commands.statements import _TABLE
from services.cli.errors import CliError
from services.cli.sparkline import sparkline
from services.cli.statements import Read

EVIL = '=HYPERLINK("x")<script>alert(1)</script>\u202e&amp;'


def usd(minor_units: int) -> Money:
    return Money(currency_code="USD", minor_units=minor_units)


def line(seq: int, amount: int, balance: int) -> statement_pb2.StatementEntry:
    found = statement_pb2.StatementEntry(
        entry=ledger_pb2.Entry(
            account_id="cash",
            seq=seq,
            transfer_id="0190c1de-0000-7000-8000-000000000001",
            direction=ledger_pb2.DIRECTION_DEBIT if amount > 0 else ledger_pb2.DIRECTION_CREDIT,
            amount=usd(abs(amount)),
            counter_account_id="-1:other",
            code=7,
            reference=ledger_pb2.Reference(kind="order", id=EVIL),
        ),
        balance=usd(balance),
    )
    found.entry.recorded_at.FromJsonString("2026-01-31T23:59:59.123456Z")
    found.entry.effective_at.FromJsonString("2026-01-30T00:00:00Z")
    return found


def statement() -> Read:
    sums = ledger_service_pb2.GetStatementResponse(
        account_id="cash",
        currency_code="USD",
        type=ledger_pb2.ACCOUNT_TYPE_ASSET,
        owner="shop",
        by=statement_pb2.TIME_RECORDED,
        last_seq=9,
        opening=usd(1000),
        closing=usd(1150),
        debits=usd(200),
        credits=usd(50),
        entry_count=2,
        entries=[line(8, 200, 1200)],
        next_page_token="more",
    )
    sums.period.start_at.FromJsonString("2026-01-01T00:00:00Z")
    sums.period.end_at.FromJsonString("2026-02-01T00:00:00Z")
    sums.recorded_at.FromJsonString("2026-02-03T04:05:06.000007Z")

    def lines() -> Iterator[statement_pb2.StatementEntry]:
        yield line(8, 200, 1200)
        yield line(9, -50, 1150)

    return Read(sums, lines())


class Reader(HTMLParser):
    """Takes a page apart, and says what a browser would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close a tag, which is the last that was opened."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        self.text += data


def page(found: Read) -> str:
    file = io.BytesIO()
    statements.write_html(found, file)
    return file.getvalue().decode()


def test_the_page_is_whole_alone_and_says_what_a_signature_needs() -> None:
    text = page(statement())
    assert text == page(statement()), "the same statement is the same page"
    reader = Reader()
    reader.feed(text)
    assert not reader.open
    assert not {"script", "link", "img", "iframe", "object", "a"} & {*reader.tags}
    assert reader.attributes == {"lang", "charset", "class", "scope", "colspan"}
    assert "url(" not in text
    assert "@import" not in text
    for told in (
        "2026-01-01 to before 2026-02-01 UTC, by when an entry was recorded",
        "10.00 USD",
        "11.50 USD",
        "asset; a balance is debits less credits",
        "2026-02-03T04:05:06.000007Z, up to entry 9 of the account",
        "--as-of 2026-02-03T04:05:06.000007Z --last-seq 9",
        "Approved by, date",
        "<script>alert(1)</script>\\u202e&amp;",
    ):
        assert told in reader.text, told
    assert reader.tags.count("tr") == 1 + 1 + 2 + 1
    assert "@page" in text
    assert "table-header-group" in text, "headings come again on every sheet"


def test_cells_of_the_csv_are_no_formulas() -> None:
    columns = _TABLE.take(list(statements.rows(statement())))
    names = [column.name for column in _TABLE.columns]
    rows = [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]
    assert [row["line"] for row in rows] == ["opening", "entry", "entry", "closing"]
    assert [row["balance_minor"] for row in rows] == [1000, 1200, 1150, 1150]
    assert [row["debit_minor"] for row in rows] == [None, 200, None, 200]
    assert [row["credit_minor"] for row in rows] == [None, None, 50, 50]
    assert rows[1]["reference_id"] == f"'{EVIL}"
    assert rows[1]["counter_account_id"] == "'-1:other"
    assert rows[1]["recorded_at"] == 1769903999123456
    file = io.StringIO()
    csv.writer(file).writerows(zip(*columns, strict=True))
    assert all(
        not cell.startswith(("=", "+", "@", "\t"))
        for row in csv.reader(io.StringIO(file.getvalue()))
        for cell in row
    )


@given(st.text())
def test_a_cell_is_as_it_is_unless_it_looks_like_a_formula(text: str) -> None:
    safe = statements.spreadsheet_safe(text)
    assert safe in (text, f"'{text}")
    assert not safe.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_json_is_one_object_with_all_lines() -> None:
    file = io.BytesIO()
    statements.write_json(statement(), file)
    found = json.loads(file.getvalue())
    assert [item["entry"]["seq"] for item in found["entries"]] == ["8", "9"]
    assert (found["opening"]["minor_units"], found["closing"]["minor_units"]) == ("1000", "1150")
    assert "next_page_token" not in found
    assert found["last_seq"] == "9"
    assert file.getvalue().decode().isascii()


# ---- References and lines


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("charge:chg_1", ("charge", "chg_1", "")),
        ("charge:a:b", ("charge", "a:b", "")),
        ("charge:a#b#c", ("charge", "a", "b#c")),
    ],
)
def test_references_are_read_and_written(text: str, parts: tuple[str, str, str]) -> None:
    found = references.parse(text)
    assert (found.kind, found.id, found.part) == parts
    assert references.written(found) == text


@pytest.mark.parametrize("text", ["", "charge", "charge:", ":x", "Charge:x", "1:x"])
def test_half_a_reference_is_refused(text: str) -> None:
    with pytest.raises(CliError, match="is not a reference"):
        references.parse(text)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=60), st.integers(1, 40))
def test_a_line_is_as_long_as_its_values_and_highest_where_they_are(
    values: list[int], width: int
) -> None:
    drawn = sparkline(values, width)
    assert len(drawn) == min(len(values), width)
    if len(values) <= width:
        assert all(
            (drawn[n] <= drawn[m]) or values[n] > values[m]
            for n in range(len(values))
            for m in range(len(values))
        )
        if min(values) < max(values):
            assert drawn[values.index(max(values))] == "█"
            assert drawn[values.index(min(values))] == "▁"


def test_a_long_line_ends_with_its_last_value() -> None:
    assert sparkline([0] * 99 + [5], 10) == "▁" * 9 + "█"
    assert sparkline([3, 3, 3], 9) == "▄▄▄"
    assert sparkline([], 9) == ""
