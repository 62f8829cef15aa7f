"""What is in the books on the command line: lists, a view, statements; and files of rows that are posted."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from uuid import uuid4

import pytest

from services.cli.errors import EXIT_INCOMPLETE, EXIT_REFUSED, EXIT_USAGE
from tests.integration.cli.conftest import Tollmesh

pytestmark = pytest.mark.xdist_group("cli")

ALWAYS = "2000-01-01/2100-01-01"
ROWS = """\
debit_account_id,credit_account_id,amount,currency_code,code,effective_at,reference_kind,reference_id,reference_part
{cash},{fees},12.50,USD,7,2026-01-10,order,{order},line-1
{cash},{fees},0.01,USD,7,2026-03-01,order,{order},
{fees},{cash},2.00,USD,9,,payment,p-1,
"""


class Books:
    """Two accounts of a test's own, and a file of three transfers between them."""

    def __init__(self, tollmesh: Tollmesh, folder: Path) -> None:
        self.tollmesh = tollmesh
        self.prefix = f"books:{uuid4()}"
        self.cash, self.fees = f"{self.prefix}:cash", f"{self.prefix}:fees"
        self.order = f"o {uuid4()}"
        for name, kind in ((self.cash, "asset"), (self.fees, "income")):
            assert tollmesh("accounts", "create", name, "--type", kind).exit_code == 0
        self.file = folder / "transfers.csv"
        self.file.write_text(ROWS.format(cash=self.cash, fees=self.fees, order=self.order))

    def post(self) -> None:
        """Post the file."""
        done = self.tollmesh("ledger", "post", str(self.file), "-o", "json")
        results = [item["result"] for item in done.json()["results"]]
        assert results == ["TRANSFER_RESULT_OK"] * 3


@pytest.fixture
def books(tollmesh: Tollmesh, tmp_path: Path) -> Books:
    made = Books(tollmesh, tmp_path)
    made.post()
    return made


# ---- Files of rows


def test_a_file_of_rows_is_posted_once(books: Books) -> None:
    again = books.tollmesh("ledger", "post", str(books.file))
    assert again.exit_code == 0
    assert "3 transfers were posted before" in again.err
    content = books.file.read_bytes()
    piped = books.tollmesh("ledger", "post", "-", "--format", "csv", "-o", "json", stdin=content)
    assert [item["result"] for item in piped.json()["results"]] == ["TRANSFER_RESULT_EXISTS"] * 3


def test_rows_with_faults_post_nothing_and_what_the_ledger_refuses_is_named_by_row(
    books: Books,
) -> None:
    header, first, *_ = books.file.read_text().splitlines()
    wrong = first.replace("12.50", "12.505")
    books.file.write_text("\n".join((header, first.replace("12.50", "99.00"), "", wrong)))
    done = books.tollmesh("ledger", "post", str(books.file))
    assert (done.exit_code, done.out) == (EXIT_USAGE, "")
    assert "row 4: amount 12.505 is not an amount of USD" in done.err
    listed = books.tollmesh("ledger", "entries", books.cash, "-o", "json").json()["entries"]
    assert len(listed) == 3
    # What the ledger itself would not take for a transfer is found first as well.
    nameless = first.replace(books.fees, "no account")
    books.file.write_text("\n".join((header, first.replace("12.50", "98.00"), nameless)))
    done = books.tollmesh("ledger", "post", str(books.file))
    assert (done.exit_code, done.out) == (EXIT_USAGE, "")
    assert "row 3: credit_account_id" in done.err
    assert "nothing was posted" in done.err
    listed = books.tollmesh("ledger", "entries", books.cash, "-o", "json").json()["entries"]
    assert len(listed) == 3
    messages = books.file.with_suffix(".jsonl")
    messages.write_text('{"debit_account_id": 5}')
    done = books.tollmesh("ledger", "post", str(messages))
    assert (done.exit_code, done.out) == (EXIT_USAGE, "")  # nothing was looked for
    assert "line 1 is not a valid Transfer" in done.err
    nobody = first.replace(books.fees, "nobody")
    books.file.write_text("\n".join((header, "", first.replace("12.50", "1.00"), nobody)))
    done = books.tollmesh("ledger", "post", str(books.file))
    assert done.exit_code == EXIT_INCOMPLETE
    assert "row 4, " in done.out
    assert "credit_account_not_found" in done.out


def test_options_of_rows_need_rows(books: Books) -> None:
    for given in (
        ("post", "--debit", "a", "--credit", "b", "--amount", "1", "--map", "amount=x"),
        ("post", "x.yaml", "--set", "code=1"),
        ("post", str(books.file), "--reference", "order:1"),
    ):
        done = books.tollmesh("ledger", *given)
        assert done.exit_code == EXIT_USAGE, done.err


def test_a_transfer_is_posted_with_its_reference(books: Books) -> None:
    order = f"order:{uuid4()}#line-9"
    done = books.tollmesh(
        *("ledger", "post", "--debit", books.cash, "--credit", books.fees),
        *("--amount", "3.00", "--reference", order, "-o", "json"),
    )
    made = done.json()["results"][0]["transfer_id"]
    shown = books.tollmesh("ledger", "transfer", made)
    assert order in shown.out
    for reference, count in ((order, 1), (order.replace("#line-9", ""), 1), (f"{order[:-2]}", 0)):
        found = books.tollmesh("ledger", "transfers", "--reference", reference, "-o", "json").json()
        assert len(found["transfers"]) == count, reference


def test_a_transfer_that_is_scheduled_twice_waits_once_and_the_second_time_that_is_said(
    books: Books,
) -> None:
    later = ("--amount", "4.00", "--not-before", "2100-01-31T09:00:00Z")
    command = ("ledger", "schedule", "--debit", books.cash, "--credit", books.fees, *later)
    first = books.tollmesh(*command)
    assert first.exit_code == 0
    assert "before" not in first.err
    again = books.tollmesh(*command)
    assert (again.exit_code, again.out) == (0, first.out)
    assert "was scheduled before and still waits: nothing more was scheduled" in again.err
    (result,) = books.tollmesh(*command, "-o", "json").json()["results"]
    assert result["result"] == result["original_result"] == "TRANSFER_RESULT_SCHEDULED"
    listed = books.tollmesh("ledger", "scheduled", "list", "-o", "json").json()
    found = [item["transfer"] for item in listed["scheduled_transfers"]]
    assert [each["debit_account_id"] for each in found].count(books.cash) == 1


# ---- Lists


def test_lists_are_filtered(books: Books) -> None:
    def amounts(*options: str) -> list[str]:
        found = books.tollmesh("ledger", *options, "-o", "json").json()
        items = found.get("transfers") or [
            {"transfer": {"amount": item["amount"]}} for item in found.get("entries", ())
        ]
        return [item["transfer"]["amount"]["minor_units"] for item in items]

    order = f"order:{books.order}"
    assert amounts("transfers", "--reference", order) == ["1", "1250"]
    assert amounts("transfers", "--reference", f"{order}#") == ["1"]
    assert amounts("transfers", "--reference", f"{order}#line-1") == ["1250"]
    assert amounts("transfers", "--account", books.cash, "--code", "9") == ["200"]
    assert amounts("transfers", "--account", books.cash, "--period", "2001-01") == []
    assert amounts("transfers", "--account", books.cash, "--oldest-first", "--limit", "2") == [
        "1250",
        "1",
    ]
    assert amounts("entries", books.cash, "--effective", "2026-01") == ["1250"]
    assert amounts("entries", books.cash, "--code", "7", "--oldest-first") == ["1250", "1"]
    assert amounts("entries", "--prefix", books.prefix, "--period", ALWAYS) == [
        *("200", "1", "1250"),
        *("200", "1", "1250"),
    ]
    assert amounts("entries", "--prefix", f"{books.prefix}:f", "--limit", "1") == ["200"]
    more = books.tollmesh("ledger", "entries", books.cash, "--limit", "2")
    assert "there are more than 2: raise --limit" in more.out
    table = books.tollmesh("ledger", "entries", "--prefix", books.prefix).out
    assert table.count(books.fees) == 6, "three of its own, and three as the other account"
    for command in ("ledger", "accounts"):
        name = "accounts" if command == "ledger" else "list"
        found = books.tollmesh(command, name, "--prefix", books.prefix, "-o", "json").json()
        assert [item["account_id"] for item in found["accounts"]] == [books.cash, books.fees]
    both = books.tollmesh("ledger", "entries", books.cash, "--prefix", "x")
    assert both.exit_code == EXIT_USAGE


def test_a_view_shows_how_the_balance_went(books: Books) -> None:
    shown = books.tollmesh("ledger", "view", books.cash).out
    assert "balance 10.51 USD · debits 12.51 · credits 2.00" in shown
    assert "▇█▁  10.51 to 12.51" in shown
    assert shown.index("12.50 USD") < shown.index("2.00 USD"), "the newest comes last"
    last = books.tollmesh("ledger", "view", books.cash, "--limit", "1", "-o", "json").json()
    assert [item["seq"] for item in last["entries"]] == ["3"]
    empty = f"{books.prefix}:empty"
    books.tollmesh("accounts", "create", empty, "--type", "asset")
    assert "nothing found" in books.tollmesh("ledger", "view", empty).out
    assert books.tollmesh("ledger", "view", "nobody").exit_code == EXIT_REFUSED


# ---- Statements


def test_a_statement_is_made_again_byte_for_byte(books: Books, tmp_path: Path) -> None:
    command = ("ledger", "statement", books.cash, "--period", "2026", "--by", "effective")
    wrong = books.tollmesh(*command)
    assert wrong.exit_code == EXIT_USAGE, "a year is no period"
    command = (*command[:4], "2026-01/2026-04", *command[5:])
    assert books.tollmesh(*command).exit_code == EXIT_USAGE
    command = (*command[:4], "2026-01-01/2026-04-01", *command[5:])
    first = books.tollmesh(*command, "--format", "json").json()
    assert (first["opening"]["minor_units"], first["closing"]["minor_units"]) == ("0", "1251")
    assert [item["balance"]["minor_units"] for item in first["entries"]] == ["1250", "1251"]
    point = ("--as-of", first["recorded_at"], "--last-seq", first["last_seq"])
    before = {}
    for ending in ("csv", "json", "html"):
        file = tmp_path / f"before.{ending}"
        done = books.tollmesh(*command, *point, "--out", str(file))
        assert done.exit_code == 0, done.err
        assert "to make it again: --as-of " in done.err
        before[ending] = file.read_bytes()
        assert before[ending]
    books.file.write_text(books.file.read_text().replace("line-1", "line-3"))
    assert books.tollmesh("ledger", "post", str(books.file)).exit_code == 0
    for ending, content in before.items():
        file = tmp_path / f"after.{ending}"
        assert books.tollmesh(*command, *point, "--out", str(file)).exit_code == 0
        assert file.read_bytes() == content
        printed = books.tollmesh(*command, *point, "--format", ending)
        assert printed.out.encode() == content
    now = books.tollmesh(*command, "--format", "json").json()
    assert now["closing"]["minor_units"] == "2501"


def test_a_statement_is_a_table_a_spreadsheet_and_a_page(books: Books, tmp_path: Path) -> None:
    command = ("ledger", "statement", books.fees, "--period", ALWAYS)
    table = books.tollmesh(*command)
    assert table.exit_code == 0
    assert "opening balance" in table.out
    assert "closing balance: 10.51 USD" in table.out
    assert "income; a balance is credits less debits" in table.out
    file = tmp_path / "statement.csv"
    assert books.tollmesh(*command, "--out", str(file)).exit_code == 0
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [(row["line"], row["balance_minor"]) for row in rows] == [
        ("opening", "0"),
        ("entry", "1250"),
        ("entry", "1251"),
        ("entry", "1051"),
        ("closing", "1051"),
    ]
    assert rows[1]["reference_id"] == books.order
    page = books.tollmesh(*command, "--format", "html").out
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")
    assert "10.51" in page
    refused = books.tollmesh(*command, "--out", str(tmp_path / "x"))
    assert (refused.exit_code, "a table is for the terminal" in refused.err) == (EXIT_USAGE, True)
    beyond = books.tollmesh(*command, "--last-seq", "99")
    assert (beyond.exit_code, "has 3 entries, not 99" in beyond.err) == (EXIT_REFUSED, True)
    assert books.tollmesh(*command, "--as-of", "soon").exit_code == EXIT_USAGE


def test_a_statement_of_many_pages_is_whole(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cli.statements.LINES_PER_PAGE", 1)
    command = ("ledger", "statement", books.cash, "--period", ALWAYS)
    found = books.tollmesh(*command, "--format", "json").json()
    assert [item["entry"]["seq"] for item in found["entries"]] == ["1", "2", "3"]
    assert json.dumps(found).count("entry_count") == 1
