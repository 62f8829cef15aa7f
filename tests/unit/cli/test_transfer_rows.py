"""Transfers out of rows: exact amounts, references, and each fault with its row."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payments.ledger.v1 import ledger_pb2
from pyarrow import parquet

from services.cli import transfer_rows
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.transfer_rows import MAPPING, RowFormat, TransferRow, format_of
from services.runtime.money import EXPONENTS, Money, format_money

HEADER = "debit_account_id,credit_account_id,amount,currency_code"
SHARED_FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "transfers"


def read(
    file: Path, content: str, kind: RowFormat = RowFormat.CSV, **constants: str
) -> list[TransferRow]:
    file.write_text(content)
    mapping = MAPPING.parsed([], [f"{name}={value}" for name, value in constants.items()])
    transfer_rows.checked(str(file), kind, mapping, lambda _: None)
    return list(transfer_rows.transfers(str(file), kind, mapping))


def fault(file: Path, content: str, kind: RowFormat = RowFormat.CSV) -> list[str]:
    with pytest.raises(CliError) as refused:
        read(file, content, kind)
    assert refused.value.exit_code == EXIT_USAGE
    assert refused.value.hints[-1].startswith("nothing was posted")
    return [*refused.value.hints[:-1]]


def test_a_row_says_all_that_a_transfer_can(file: Path) -> None:
    columns = {
        "transfer_id": "0190c1de-0000-7000-8000-000000000001",
        "Debit": "a",
        "creditAccountId": "b",
        "amount": "12.50",
        "Currency": "USD",
        "code": "7",
        "kind": "pending",
        "timeout": "7d",
        "effective_at": "2026-01-15T12:00:00+01:00",
        "reference_kind": "charge",
        "reference_id": "chg_1, of May",
        "reference_part": "line-2",
        "linked": "TRUE",
        "multi_capture": "true",
        "closing_debit": "false",
        "metadata.order": "o-1",
    }
    cells = ",".join(f'"{value}"' for value in columns.values())
    (row,) = read(file, ",".join(columns) + "\n" + cells + "\n")
    assert row.row == 2
    expected = ledger_pb2.Transfer(
        transfer_id=columns["transfer_id"],
        debit_account_id="a",
        credit_account_id="b",
        code=7,
        kind=ledger_pb2.KIND_PENDING,
        linked=True,
        multi_capture=True,
        metadata={"order": "o-1"},
        reference=ledger_pb2.Reference(kind="charge", id="chg_1, of May", part="line-2"),
    )
    expected.amount.currency_code, expected.amount.minor_units = "USD", 1250
    expected.timeout.seconds = 7 * 86_400
    expected.effective_at.FromDatetime(datetime(2026, 1, 15, 11, tzinfo=UTC))
    assert row.transfer == expected


@SHARED_FILE
@given(
    amounts=st.lists(
        st.tuples(st.sampled_from(sorted(EXPONENTS)), st.integers(1, 2**63 - 1)), min_size=1
    ),
    kind=st.sampled_from((RowFormat.CSV, RowFormat.JSONL, RowFormat.PARQUET)),
    is_minor=st.booleans(),
)
def test_every_amount_is_read_exactly(
    file: Path, amounts: list[tuple[str, int]], kind: RowFormat, is_minor: bool
) -> None:
    name = "amount_minor" if is_minor else "amount"
    records: list[dict[str, Any]] = [
        {
            "debit_account_id": "a",
            "credit_account_id": "b",
            name: str(minor) if is_minor else format_money(Money(code, minor)),
            "currency_code": code,
        }
        for code, minor in amounts
    ]
    if kind is RowFormat.PARQUET:
        value: Any = int if is_minor else Decimal
        typed = pa.int64() if is_minor else pa.decimal128(38, 6)
        columns = {key: [record[key] for record in records] for key in records[0]}
        columns[name] = pa.array([value(text) for text in columns[name]], typed)
        parquet.write_table(pa.table(columns), file)
        transfer_rows.checked(str(file), kind, MAPPING, lambda _: None)
        found = list(transfer_rows.transfers(str(file), kind, MAPPING))
    elif kind is RowFormat.JSONL:
        # As numbers, which no float may touch.
        lines = [
            f'{{"debit": "a", "credit": "b", "{name}": {record[name]}, "currency": "{record["currency_code"]}"}}'
            for record in records
        ]
        found = read(file, "\n".join(lines), kind)
    else:
        rows = [",".join(record.values()) for record in records]
        found = read(file, "\n".join([",".join(records[0]), *rows]))
    assert [(r.transfer.amount.currency_code, r.transfer.amount.minor_units) for r in found] == (
        amounts
    )


def test_each_fault_is_named_by_its_row_and_nothing_is_given(file: Path) -> None:
    rows = (
        "a,b,1.00,USD",
        "a,b,1.005,USD",
        "a,b,-1,USD",
        "a,b,1,",
        "a,b,1,XXQ",
        "a,b,,",
        "a,b,1.00",
        "a,b,1.000,JPY",
        "a,b,1e2,USD",
    )
    told = fault(file, "\n".join((HEADER, *rows)))
    assert [line.split(":")[0] for line in told] == [f"row {n}" for n in range(3, 11)]
    assert "three digits after the point, but USD has 2" in told[0]
    assert "without currency_code" in told[2]
    assert "XXQ" in told[3]
    assert "amount: is required" in told[4]
    assert "has 3 columns, but the header has 4" in told[5]


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("code", "70000", "code: '70000' is not a whole number from 0 to 65,535"),
        ("kind", "gift", "is not one of posted, pending, post_pending, void_pending"),
        ("timeout", "soon", "is not a duration"),
        ("effective_at", "yesterday", "is not a time like"),
        ("effective_at", 1764012341234, "effective_at"),
        ("linked", "maybe", "is neither true nor false"),
        ("reference_kind", "charge", "has a reference without reference_id"),
        ("reference_part", "line-1", "has a reference without reference_kind, reference_id"),
        ("amount_minor", "5", "has both amount and amount_minor"),
        ("transfer_id", ["x"], "transfer_id is a list, not a string"),
        ("debit_account_id", True, "debit_account_id is true, not a string"),
    ],
)
def test_a_value_that_is_none_of_its_field_is_named(
    file: Path, field: str, value: object, told: str
) -> None:
    record = {"debit_account_id": "a", "credit_account_id": "b", "amount": "1"}
    line = json.dumps({**record, "currency_code": "USD", field: value})
    (found,) = fault(file, line, RowFormat.JSONL)
    assert found.startswith("row 1: ")
    assert told in found


@pytest.mark.parametrize("text", ["1.5", "-1", "1_000", "٣", "9223372036854775808", "9" * 99])
def test_minor_units_are_whole(file: Path, text: str) -> None:
    (found,) = fault(file, f"debit,credit,amount_minor,currency\na,b,{text},USD\n")
    assert "is not a whole number of minor units" in found


def test_floats_of_parquet_are_no_amounts(file: Path) -> None:
    table = pa.table({"debit": ["a"], "credit": ["b"], "amount": [0.1], "currency": ["USD"]})
    parquet.write_table(table, file)
    with pytest.raises(CliError) as refused:
        transfer_rows.checked(str(file), RowFormat.PARQUET, MAPPING, lambda _: None)
    assert "row 1: amount is a floating-point number" in refused.value.hints[0]


def test_many_faults_are_counted_and_the_first_are_told(file: Path) -> None:
    told = fault(file, "\n".join((HEADER, *["a,b,x,USD"] * 50)))
    assert len(told) == transfer_rows.FAULTS_SHOWN + 1
    assert told[-1] == "… and 30 more"


def test_columns_are_mapped_and_set(file: Path) -> None:
    file.write_text("from,to,sum,spare\na,b,2.50,x\n")
    mapping = MAPPING.parsed(
        ["debit_account_id=from", "credit_account_id=to", "amount=sum"],
        ["currency_code=EUR", "metadata.batch=may"],
    )
    unread: list[str] = []
    transfer_rows.checked(str(file), RowFormat.CSV, mapping, unread.extend)
    assert unread == ["spare"]
    (row,) = transfer_rows.transfers(str(file), RowFormat.CSV, mapping)
    assert (row.transfer.amount.currency_code, row.transfer.amount.minor_units) == ("EUR", 250)
    assert dict(row.transfer.metadata) == {"batch": "may"}
    with pytest.raises(CliError, match="the fields are transfer_id"):
        MAPPING.parsed(["sku=x"], [])


@SHARED_FILE
@given(content=st.binary(max_size=300), kind=st.sampled_from(RowFormat))
def test_any_bytes_give_transfers_or_one_error(file: Path, content: bytes, kind: RowFormat) -> None:
    file.write_bytes(content)
    try:
        transfer_rows.checked(str(file), kind, MAPPING, lambda _: None)
    except CliError as error:
        assert error.message
        assert not any("were sent" in hint for hint in error.hints)
    else:
        assert all(row.row >= 1 for row in transfer_rows.transfers(str(file), kind, MAPPING))


def test_a_cut_off_file_posts_nothing(file: Path) -> None:
    packed = gzip.compress("\n".join((HEADER, *["a,b,1.00,USD"] * 5_000)).encode())
    file.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(CliError) as refused:
        transfer_rows.checked(str(file), RowFormat.CSV, MAPPING, lambda _: None)
    assert refused.value.hints == ["nothing was posted"]


@pytest.mark.parametrize("row", ["a,b,oops,USD", "a,no account,1.00,USD"])
def test_a_file_that_changed_since_it_was_checked_is_not_read_on(file: Path, row: str) -> None:
    read(file, f"{HEADER}\na,b,1.00,USD\n")
    file.write_text(f"{HEADER}\na,b,1.00,USD\n{row}\n")
    with pytest.raises(CliError, match=r"row 3: (amount oops|credit_account_id)") as refused:
        list(transfer_rows.transfers(str(file), RowFormat.CSV, MAPPING))
    (hint,) = refused.value.hints
    assert hint.startswith("the file has changed since it was read: rows before this one may have")


def test_what_the_ledger_would_not_take_for_a_transfer_is_found_before_anything_is_posted(
    file: Path,
) -> None:
    header = f"{HEADER},transfer_id,kind,pending_id,reference_kind,reference_id,metadata.note"
    rows = [
        "a,b,1.00,USD,,,,,,",
        "a,no account,1.00,USD,,,,,,",
        "a,b,1.00,USD,mine,,,,,",
        "a,b,1.00,USD,,,,Bad Kind,1,",
        f"a,b,1.00,USD,,,,,,{'x' * 513}",
        "a,,1.00,USD,,,,,,",
        "a,b,,,,,,,,",
        ",,,,,void-pending,here,,,",
        ",,,,,void-pending,0190c1de-0000-7000-8000-000000000001,,,",
    ]
    told = fault(file, "\n".join((header, *rows)))
    assert [line.split(": ")[:2] for line in told] == [
        ["row 3", "credit_account_id"],
        ["row 4", "transfer_id"],
        ["row 5", "reference.kind"],
        ["row 6", "metadata[note]"],
        ["row 7", "credit_account_id"],
        ["row 8", "amount"],
        ["row 9", "pending_id"],
    ]


def test_what_cannot_be_sent_is_told_before_anything_is_and_behind_bad_rows(file: Path) -> None:
    def prepared(found: Iterable[ledger_pb2.Transfer]) -> Iterator[ledger_pb2.Transfer]:
        for number, transfer in enumerate(found):
            if number:
                raise CliError("too many", exit_code=EXIT_USAGE)
            yield transfer

    file.write_text(f"{HEADER}\n" + "a,b,1.00,USD\n" * 3)
    with pytest.raises(CliError, match="too many") as refused:
        transfer_rows.checked(str(file), RowFormat.CSV, MAPPING, lambda _: None, prepared)
    assert refused.value.hints == ["nothing was posted"]
    file.write_text(f"{HEADER}\n" + "a,b,1.00,USD\n" * 3 + "a,b,oops,USD\n")
    with pytest.raises(CliError, match="1 row is no transfer"):
        transfer_rows.checked(str(file), RowFormat.CSV, MAPPING, lambda _: None, prepared)


def test_a_pipe_is_kept_to_be_read_twice(file: Path) -> None:
    content = f"{HEADER}\na,b,1.00,USD\n".encode()
    os.mkfifo(file)
    writer = threading.Thread(target=file.write_bytes, args=(content,))
    writer.start()
    with transfer_rows.readable_twice(str(file)) as kept:
        for _ in range(2):
            assert Path(kept).read_bytes() == content
    writer.join()
    assert not Path(kept).exists()


def test_standard_input_is_kept_to_be_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    content = f"{HEADER}\na,b,1.00,USD\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    with transfer_rows.readable_twice("-") as kept:
        for _ in range(2):
            assert Path(kept).read_bytes() == content
    assert not Path(kept).exists()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("t.csv", RowFormat.CSV),
        ("T.CSV.gz", RowFormat.CSV),
        ("t.parquet", RowFormat.PARQUET),
        ("t.jsonl", None),
        ("t.yaml", None),
        ("-", None),
    ],
)
def test_the_ending_tells_whether_a_file_has_rows(name: str, found: RowFormat | None) -> None:
    assert format_of(name, None) is found
    assert format_of(name, RowFormat.JSONL) is RowFormat.JSONL
