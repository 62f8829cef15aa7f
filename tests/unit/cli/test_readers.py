"""Usage events out of files: right rows are read, wrong ones are named, and no bytes make a reader fail oddly."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payments.metering.v1 import metering_pb2
from pyarrow import parquet

from services.cli import readers
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.readers import BadRow, ColumnMapping, FileFormat, GoodRow, parse_event_time

HEADER = "request_id,org_id,sku,quantity,event_time\n"
PLAIN = ColumnMapping()
AT = "2026-01-15T12:00:00Z"
# One file a test run is enough: each example overwrites it.
SHARED_FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def read(
    path: Path, content: bytes, file_format: FileFormat, mapping: ColumnMapping = PLAIN
) -> list[GoodRow | BadRow]:
    path.write_bytes(content)
    return list(readers.read(str(path), file_format, mapping))


def good(rows: list[GoodRow | BadRow]) -> dict[int, str]:
    """Ids of the events by row."""
    return {row.row: row.event.request_id for row in rows if isinstance(row, GoodRow)}


def bad(rows: list[GoodRow | BadRow]) -> dict[int, str]:
    """Problems by row."""
    return {row.row: row.problem for row in rows if isinstance(row, BadRow)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events"


# ---- Whatever the bytes are


@SHARED_FILE
@given(content=st.binary(max_size=400), file_format=st.sampled_from(FileFormat))
def test_any_bytes_give_rows_or_one_error(
    file: Path, content: bytes, file_format: FileFormat
) -> None:
    try:
        rows = read(file, content, file_format)
    except CliError as error:
        assert error.exit_code == EXIT_USAGE
        assert error.message
    else:
        assert all(row.row >= 1 for row in rows)


@SHARED_FILE
@given(
    lines=st.lists(
        st.one_of(st.just(f"id,o,s,1,{AT}"), st.text(alphabet='",\r\n\x00aé😀', max_size=12)),
        max_size=12,
    )
)
def test_no_text_below_a_header_stops_the_reader(file: Path, lines: list[str]) -> None:
    """Every plain row is read, whatever stands around it; unless a quoted field holds it, as fields may."""
    rows = read(file, (HEADER + "\n".join(lines)).encode(), FileFormat.CSV)
    assert [row.row for row in rows] == sorted({row.row for row in rows})
    if not any('"' in line for line in lines):
        plain = sum(line == f"id,o,s,1,{AT}" for line in lines)
        assert len(good(rows)) == plain


@SHARED_FILE
@given(lines=st.lists(st.text(max_size=30), max_size=10))
def test_any_json_lines_are_rows_or_named(file: Path, lines: list[str]) -> None:
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    rows = read(file, content, FileFormat.JSONL)
    assert not good(rows)


# ---- CSV

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20)


@SHARED_FILE
@given(
    rows=st.lists(
        st.tuples(NAMES, NAMES, NAMES, st.decimals(0, 10**9, places=6, allow_nan=False)),
        min_size=1,
        max_size=20,
    )
)
def test_what_a_csv_writer_writes_is_read_back(
    file: Path, rows: list[tuple[str, str, str, Decimal]]
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(HEADER.strip().split(","))
    for request_id, org_id, sku, quantity in rows:
        writer.writerow([request_id, org_id, sku, format(quantity, "f"), AT])
    found = read(file, out.getvalue().encode(), FileFormat.CSV)
    events = [row.event for row in found if isinstance(row, GoodRow)]
    assert [(e.request_id, e.org_id, e.sku, e.quantity) for e in events] == [
        (request_id, org_id, sku, format(quantity, "f"))
        for request_id, org_id, sku, quantity in rows
    ]


def test_each_wrong_row_is_named_and_costs_no_other(file: Path) -> None:
    content = (
        f"a,o,s,1,{AT}\n"  # 2
        "b,o,s\n"  # 3
        f"c,o,s,1,{AT},more\n"  # 4
        f'"d,o,s,1,{AT}\n'  # 5: a quote that nobody closes
        f"e,o,s,1,{AT}\n"  # 6
        f'f,o,"s"x,1,{AT}\n'  # 7
        f",o,s,1,{AT}\n"  # 8
        "g,o,s,1,yesterday\n"  # 9
        "\n"  # 10
        f"h,o,s,1,{AT}"  # 11
    )
    rows = read(file, (HEADER + content).encode(), FileFormat.CSV)
    assert good(rows) == {2: "a", 6: "e", 11: "h"}
    problems = bad(rows)
    assert sorted(problems) == [3, 4, 5, 7, 8, 9]
    assert problems[3] == "has 3 columns, the header 5"
    assert "malformed CSV" in problems[5]
    assert problems[8] == "has no request_id"
    assert problems[9] == "event_time: 'yesterday' is no time as ISO 8601 writes it"


def test_a_field_may_hold_line_breaks(file: Path) -> None:
    content = f'"a\nb",o,s,1,{AT}\nc,o,s,1,{AT}\n'
    rows = read(file, (HEADER + content).encode(), FileFormat.CSV)
    assert good(rows) == {3: "a\nb", 4: "c"}


@pytest.mark.parametrize("file_format", [FileFormat.CSV, FileFormat.JSONL])
def test_bytes_that_are_not_utf8_cost_their_row(file: Path, file_format: FileFormat) -> None:
    if file_format is FileFormat.CSV:
        row = f"%s,o,s,1,{AT}\n".encode()
        head = HEADER.encode()
    else:
        event = {"org_id": "o", "sku": "s", "quantity": 1, "event_time": AT}
        row = json.dumps({"request_id": "ID", **event}).encode().replace(b"ID", b"%s") + b"\n"
        head = b""
    rows = read(file, head + row % b"a" + row % b"\xff" + row % b"c", file_format)
    first = 2 if head else 1
    assert good(rows) == {first: "a", first + 2: "c"}
    assert bad(rows) == {first + 1: "holds bytes that are not UTF-8"}


def test_a_line_without_end_is_not_kept_in_memory(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "LINE_CHARS_MAX", 100)
    content = f"a,o,s,1,{AT}\n{'x' * 1_000}\nb,o,s,1,{AT}\n"
    rows = read(file, (HEADER + content).encode(), FileFormat.CSV)
    assert good(rows) == {2: "a", 4: "b"}
    assert bad(rows) == {3: "malformed CSV: the line is longer than 100 characters"}


def test_a_byte_order_mark_is_no_part_of_the_first_column(file: Path) -> None:
    content = f"{HEADER}a,o,s,1,{AT}\n".encode("utf-8-sig")
    assert good(read(file, content, FileFormat.CSV)) == {2: "a"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no header"),
        (b"\n", "no header"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b'"a', "malformed CSV"),
        (b"request_id,request_id\n", "two columns request_id"),
        (b"request_id,org_id\n", "no column sku, quantity, event_time"),
    ],
)
def test_a_header_that_cannot_be_one_is_refused(file: Path, content: bytes, told: str) -> None:
    with pytest.raises(CliError, match=told) as refused:
        read(file, content, FileFormat.CSV)
    assert refused.value.exit_code == EXIT_USAGE


def test_columns_are_mapped_and_values_set(file: Path) -> None:
    mapping = ColumnMapping.parse(
        ["request_id=id", "quantity=tokens", "metadata.model=model"],
        ["org_id=acme", "sku=llm", "source=replay", "metadata.by=test"],
    )
    content = f"id,tokens,model,time\na,12.50,large,{AT}\n".encode()
    (row,) = read(file, content, FileFormat.CSV, mapping)
    assert isinstance(row, GoodRow)
    event = row.event
    assert (event.request_id, event.org_id, event.sku, event.quantity) == (
        *("a", "acme", "llm"),
        "12.50",
    )
    assert dict(event.metadata) == {"model": "large", "by": "test"}
    assert event.source == metering_pb2.SOURCE_REPLAY
    assert event.event_time.ToJsonString() == AT


@pytest.mark.parametrize(
    ("columns", "constants", "told"),
    [
        (["quantity"], [], "is not field=value"),
        (["nonsense=x"], [], "is not field=value"),
        (["sku=a", "sku=b"], [], "sku is given twice"),
        (["sku=a"], ["sku=b"], "sku is given twice"),
    ],
)
def test_wrong_mappings_are_refused(columns: list[str], constants: list[str], told: str) -> None:
    with pytest.raises(CliError, match=told):
        ColumnMapping.parse(columns, constants)


# ---- JSON Lines


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("0.1", "0.1"),
        ("12345678901234567890.123456789012345678", "12345678901234567890.123456789012345678"),
        ("100000000000000000001", "100000000000000000001"),
        ('"1.50"', "1.50"),
        ("1e3", "1e3"),  # the service says what it makes of it; nothing is rounded here
    ],
)
def test_numbers_in_json_stay_what_was_written(file: Path, written: str, expected: str) -> None:
    line = (
        f'{{"request_id": "a", "org_id": "o", "sku": "s", "quantity": {written}, "time": "{AT}"}}'
    )
    (row,) = read(file, line.encode(), FileFormat.JSONL)
    assert isinstance(row, GoodRow)
    assert row.event.quantity == expected


def test_json_lines_that_are_no_events_are_named(file: Path) -> None:
    event = {"request_id": "a", "org_id": "o", "sku": "s", "quantity": 1, "event_time": AT}
    surrogate = json.dumps({**event, "sku": "\ud800"})
    odd_source = json.dumps({**event, "source": "fax"})
    deep = "[" * 200_000
    lines = [json.dumps(event), "{", "[]", surrogate, odd_source, deep, "", json.dumps(event)]
    rows = read(file, "\n".join(lines).encode(), FileFormat.JSONL)
    assert sorted(good(rows)) == [1, 8]
    problems = bad(rows)
    assert sorted(problems) == [2, 3, 4, 5, 6]
    assert problems[3] == "is not a JSON object"
    assert problems[4] == "holds bytes that are not UTF-8"
    assert problems[5] == "source: 'FAX' is none of FORM_SUBMIT, BACKEND, REPLAY"


# ---- Parquet


def parquet_file(path: Path, **columns: pa.Array) -> Path:
    constant = {"request_id": ["a", "b"], "org_id": ["o", "o"], "sku": ["s", "s"]}
    parquet.write_table(pa.table({**constant, **columns}), path)
    return path


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (
            [Decimal("1.500000"), Decimal("0.000001")],
            pa.decimal128(38, 6),
            ["1.500000", "0.000001"],
        ),
        ([1, 2**53 + 1], pa.int64(), ["1", "9007199254740993"]),
        ([0.1, 1e-7], pa.float64(), ["0.1", "0.0000001"]),
        ([1.0, 1e22], pa.float64(), ["1", "10000000000000000000000"]),
        (["2.50", "3"], pa.string(), ["2.50", "3"]),
    ],
)
def test_quantities_of_parquet_are_exact(
    file: Path, values: list[object], kind: pa.DataType, expected: list[str]
) -> None:
    times = pa.array([datetime(2026, 1, 15, 12, tzinfo=UTC)] * 2, pa.timestamp("us", "UTC"))
    parquet_file(file, quantity=pa.array(values, kind), event_time=times)
    rows = list(readers.read(str(file), FileFormat.PARQUET, PLAIN))
    assert [row.event.quantity for row in rows if isinstance(row, GoodRow)] == expected


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_times_of_parquet_are_read_to_the_microsecond(
    file: Path, unit: str, zone: str | None
) -> None:
    nanos = 1_768_478_400_123_456_789
    scale = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    stored = pa.array([nanos // scale] * 2, pa.int64()).cast(pa.timestamp(unit, zone))
    parquet_file(file, quantity=pa.array([1, 1]), event_time=stored)
    rows = list(readers.read(str(file), FileFormat.PARQUET, PLAIN))
    micros = nanos // max(scale, 1000) * max(scale, 1000) // 1000
    assert [row.event.event_time.ToMicroseconds() for row in rows if isinstance(row, GoodRow)] == [
        micros,
        micros,
    ]


def test_parquet_rows_without_a_value_are_named(file: Path) -> None:
    parquet_file(file, quantity=pa.array([1, None]), event_time=pa.array([AT, AT]))
    rows = list(readers.read(str(file), FileFormat.PARQUET, PLAIN))
    assert good(rows) == {1: "a"}
    assert bad(rows) == {2: "has no quantity"}


def test_other_columns_of_parquet_are_not_even_read(file: Path) -> None:
    odd = pa.array([[{"x": 1}], None])
    parquet_file(file, quantity=pa.array([1, 2]), event_time=pa.array([AT, AT]), odd=odd)
    assert len(good(list(readers.read(str(file), FileFormat.PARQUET, PLAIN)))) == 2


def test_a_cut_parquet_file_is_refused(file: Path) -> None:
    parquet_file(file, quantity=pa.array([1, 2]), event_time=pa.array([AT, AT]))
    content = file.read_bytes()
    with pytest.raises(CliError, match="as Parquet"):
        read(file, content[: len(content) // 2], FileFormat.PARQUET)


# ---- Files and formats


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", FileFormat.CSV),
        ("a.CSV", FileFormat.CSV),
        ("a.jsonl", FileFormat.JSONL),
        ("a.ndjson", FileFormat.JSONL),
        ("a.parquet", FileFormat.PARQUET),
    ],
)
def test_the_ending_tells_the_format(name: str, expected: FileFormat) -> None:
    assert readers.detect(name, None) is expected
    assert readers.detect(name, FileFormat.JSONL) is FileFormat.JSONL


@pytest.mark.parametrize("name", ["-", "a", "a.txt"])
def test_a_format_that_nothing_tells_is_asked_for(name: str) -> None:
    with pytest.raises(CliError) as refused:
        readers.detect(name, None)
    assert "--format" in refused.value.hints[0]


@pytest.mark.parametrize("file_format", FileFormat)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, file_format: FileFormat) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(CliError, match="cannot read"):
            list(readers.read(str(path), file_format, PLAIN))


def test_parquet_is_not_read_from_a_pipe() -> None:
    with pytest.raises(CliError, match="standard input"):
        list(readers.read("-", FileFormat.PARQUET, PLAIN))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-11-16 18:17:03.9799600", "2023-11-16T18:17:03.979960+00:00"),
        ("2026-01-15T12:00:00.123456789Z", "2026-01-15T12:00:00.123456+00:00"),
        ("2026-01-15T12:00:00+02:00", "2026-01-15T12:00:00+02:00"),
        ("2026-01-15", "2026-01-15T00:00:00+00:00"),
    ],
)
def test_times_are_cut_to_microseconds_and_are_utc_without_a_zone(text: str, expected: str) -> None:
    assert parse_event_time(text).isoformat() == expected
