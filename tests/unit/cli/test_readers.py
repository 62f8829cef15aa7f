"""Usage events out of files: right rows are read, wrong ones are named, and no bytes make a reader fail oddly."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payments.metering.v1 import metering_pb2
from pyarrow import parquet

from services.cli import parquet_rows, readers, streams
from services.cli.columns import ColumnMapping
from services.cli.errors import EXIT_INCOMPLETE, EXIT_USAGE, CliError
from services.cli.readers import BadRow, FileFormat, GoodRow, parse_event_time
from services.cli.streams import Meter

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
    assert problems[3] == "has 3 columns, but the header has 5"
    assert "malformed CSV" in problems[5]
    assert problems[8] == "has no request_id"
    assert problems[9] == "event_time: 'yesterday' is not a time like 2026-01-15T12:00:00Z"


def test_a_field_may_hold_line_breaks(file: Path) -> None:
    content = f'"a\nb",o,s,1,{AT}\nc,o,s,1,{AT}\n'
    rows = read(file, (HEADER + content).encode(), FileFormat.CSV)
    assert good(rows) == {3: "a\nb", 4: "c"}


@pytest.mark.parametrize("inner", ["short", "long"])
def test_what_stands_in_quotes_is_data_however_long_it_is(
    file: Path, monkeypatch: pytest.MonkeyPatch, inner: str
) -> None:
    monkeypatch.setattr(streams, "LINE_CHARS_MAX", 100)
    lines = [f"in{number},o,s,1,{AT}" for number in range(20)]
    if inner == "long":
        lines[3] = '""' + "x" * 300 + '""'
    quoted = "\n".join(lines)
    content = f'a,o,s,1,{AT}\n"{quoted}",o,s,1,{AT}\nb,o,s,1,{AT}\n'
    rows = read(file, (HEADER + content).encode(), FileFormat.CSV)
    assert good(rows) == {2: "a", 23: "b"}
    (problem,) = bad(rows).values()
    assert "longer than 100 characters" in problem


def test_a_field_may_be_long(file: Path) -> None:
    content = f'a,o,s,1,{AT}\n"{"b" * 200_000}",o,s,1,{AT}\nc,o,s,1,{AT}\n'
    rows = read(file, (HEADER + content).encode(), FileFormat.CSV)
    assert list(good(rows)) == [2, 3, 4]


def test_quotes_that_are_not_closed_guess_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LINE_CHARS_MAX", 100)
    content = f'a,o,s,1,{AT}\n"b,o,s,1,{AT}\n' + f"c,o,s,1,{AT}\n" * 10
    with pytest.raises(CliError, match="after row 2: a quote opened in line 3 is never closed"):
        read(file, (HEADER + content).encode(), FileFormat.CSV)


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
    assert bad(rows) == {first + 1: "has bytes that aren't UTF-8"}


def test_a_line_without_end_is_not_kept_in_memory(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LINE_CHARS_MAX", 100)
    content = f"a,o,s,1,{AT}\n{'x' * 1_000}\nb,o,s,1,{AT}\n"
    rows = read(file, (HEADER + content).encode(), FileFormat.CSV)
    assert good(rows) == {2: "a", 4: "b"}
    assert bad(rows) == {3: "the line is longer than 100 characters"}


def test_a_byte_order_mark_is_no_part_of_the_first_column(file: Path) -> None:
    content = f"{HEADER}a,o,s,1,{AT}\n".encode("utf-8-sig")
    assert good(read(file, content, FileFormat.CSV)) == {2: "a"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no header"),
        (b"\n", "no header"),
        (b"\xff\x00", "UTF-8"),
        (b"\xff\xfea\x00", "is UTF-16"),
        (b"\xfe\xff\x00a", "is UTF-16"),
        (b'"a', "malformed CSV"),
        (b"request_id,request_id\n", "more than one column named request_id"),
        (b"request_id,org_id\n", "no column sku, quantity, event_time"),
    ],
)
def test_a_header_that_cannot_be_one_is_refused(file: Path, content: bytes, told: str) -> None:
    with pytest.raises(CliError, match=told) as refused:
        read(file, content, FileFormat.CSV)
    assert refused.value.exit_code == EXIT_USAGE


def only(rows: list[GoodRow | BadRow]) -> metering_pb2.UsageEvent:
    (row,) = rows
    assert isinstance(row, GoodRow), row
    return row.event


@pytest.mark.parametrize(
    "header",
    [
        "REQUEST_ID,ORG_ID,SKU,QUANTITY,EVENT_TIME,METADATA.env",
        "RequestId,orgId,Sku,quantity,Time,Metadata.env",
        " request_id , org_id,sku , quantity, event_time , metadata.env ",
    ],
)
@pytest.mark.parametrize("file_format", [FileFormat.CSV, FileFormat.JSONL, FileFormat.PARQUET])
def test_columns_are_found_however_they_are_spelt(
    file: Path, header: str, file_format: FileFormat
) -> None:
    names, cells = header.split(","), ["a", "o", "s", "1", AT, "prod"]
    record = dict(zip(names, cells, strict=True))
    if file_format is FileFormat.PARQUET:
        parquet.write_table(pa.Table.from_pylist([record]), file)
        event = only(list(readers.read(str(file), file_format, PLAIN)))
    else:
        csv_text = f"{header}\n{','.join(cells)}\n"
        text = csv_text if file_format is FileFormat.CSV else json.dumps(record)
        event = only(read(file, text.encode(), file_format))
    assert (event.request_id, event.event_time.ToJsonString()) == ("a", AT)
    assert dict(event.metadata) == {"env": "prod"}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("SKU", "has sku in two columns, 'sku' and 'SKU': .* --map sku="),
        ("time", "has event_time in two columns"),
        ("metadata.a,Metadata.a", "has metadata.a in two columns"),
        ("metadata,Metadata", "has metadata in two columns"),
        ("sku", "more than one column named sku"),
    ],
)
def test_columns_that_say_the_same_are_not_chosen_among(file: Path, more: str, told: str) -> None:
    columns = f"{HEADER.strip()},{more}"
    with pytest.raises(CliError, match=told):
        read(file, columns.encode(), FileFormat.CSV)


def test_a_mapping_chooses_among_columns(file: Path) -> None:
    content = f"{HEADER.strip()},SKU\na,o,s,1,{AT},t\n".encode()
    for column, sku in (("SKU", "t"), ("sku", "s")):
        mapping = ColumnMapping.parse([f"sku={column}"], [])
        assert only(read(file, content, FileFormat.CSV, mapping)).sku == sku
    rows = list(read(file, content, FileFormat.CSV, ColumnMapping.parse([], ["sku=u"])))
    assert only(rows).sku == "u"


def test_metadata_of_csv_come_from_columns_or_from_an_object(file: Path) -> None:
    content = (
        f'{HEADER.strip()},metadata,metadata.env\na,o,s,1,{AT},"{{""model"": ""m"", ""n"": 1.50}}",dev\n'
        f"b,o,s,1,{AT},,\n"
        f"c,o,s,1,{AT},[1],\n"
        f"d,o,s,1,{AT},oops,\n"
        f'e,o,s,1,{AT},"{{""env"": ""prod""}}",dev\n'
    ).encode()
    rows = read(file, content, FileFormat.CSV)
    found = {r.event.request_id: dict(r.event.metadata) for r in rows if isinstance(r, GoodRow)}
    assert found == {"a": {"model": "m", "n": "1.50", "env": "dev"}, "b": {}}
    problems = bad(rows)
    assert sorted(problems) == [4, 5, 6]
    assert "a list" in problems[4]
    assert problems[5] == "metadata is not valid JSON: a value is expected at character 1"
    assert "differs between metadata and column" in problems[6]


@pytest.mark.parametrize(
    ("constants", "columns", "expected"),
    [
        (["metadata.team=x"], [], {"env": "dev", "model": "m", "team": "x"}),
        (["metadata.env=prod"], [], {"env": "prod", "model": "m"}),
        ([], ["metadata.env=region"], {"env": "eu", "model": "m"}),
        (["metadata.env=prod"], ["metadata.at=region"], {"env": "prod", "model": "m", "at": "eu"}),
        ([], ["metadata.env=none"], {"env": "dev", "model": "m"}),
    ],
)
def test_metadata_of_the_command_line_join_those_of_the_row_and_win(
    file: Path, constants: list[str], columns: list[str], expected: dict[str, str]
) -> None:
    own = {"env": "dev", "model": "m"}
    event = {"request_id": "a", "org_id": "o", "sku": "s", "quantity": 1, "time": AT}
    line = json.dumps({**event, "metadata": own, "region": "eu", "none": None})
    mapping = ColumnMapping.parse(columns, constants)
    assert dict(only(read(file, line.encode(), FileFormat.JSONL, mapping)).metadata) == expected


@pytest.mark.parametrize("name", ["project_id=nope", "metadata.env=nope", "quantity=nope"])
@pytest.mark.parametrize("file_format", [FileFormat.CSV, FileFormat.JSON, FileFormat.JSONL])
def test_a_mapping_to_a_column_that_is_not_there_is_refused(
    file: Path, name: str, file_format: FileFormat
) -> None:
    event = {"request_id": "a", "org_id": "o", "sku": "s", "quantity": 1, "event_time": AT}
    text = f"{HEADER}a,o,s,1,{AT}" if file_format is FileFormat.CSV else json.dumps(event)
    with pytest.raises(CliError, match="no column nope"):
        read(file, text.encode(), file_format, ColumnMapping.parse([name], []))


def test_rows_of_json_may_lack_a_mapped_column(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event = {"request_id": "a", "org_id": "o", "sku": "s", "quantity": 1, "event_time": AT}
    lines = [json.dumps(event)] * 3 + [json.dumps({**event, "p": "project"})]
    mapping = ColumnMapping.parse(["project_id=p"], [])
    for ahead in (1, 2, 1_000):
        monkeypatch.setattr(readers, "ROWS_AHEAD", ahead)
        rows = read(file, "\n".join(lines).encode(), FileFormat.JSONL, mapping)
        found = [row.event.project_id for row in rows if isinstance(row, GoodRow)]
        assert found == ["", "", "", "project"]
    monkeypatch.setattr(readers, "ROWS_AHEAD", 2)
    file.write_text("\n".join(lines[:3]))
    given = readers.read(str(file), FileFormat.JSONL, mapping)
    assert [next(given).row for _ in range(3)] == [1, 2, 3]
    with pytest.raises(CliError, match="no column p"):
        next(given)


def test_columns_that_fill_no_field_are_told(file: Path) -> None:
    told: list[str] = []
    file.write_text(f"{HEADER.strip()},projct_id,note\na,o,s,1,{AT},p,n\n")
    assert list(readers.read(str(file), FileFormat.CSV, PLAIN, told.extend))
    assert told == ["projct_id", "note"]


def test_keys_of_json_that_fill_no_field_are_told_once(file: Path) -> None:
    told: list[list[str]] = []
    event = {"request_id": "a", "org_id": "o", "sku": "s", "quantity": 1, "event_time": AT}
    lines = [
        *({**event, "labels": {"env": "x"}} for _ in range(2)),
        {**event, "metadata": {"env": "x"}, "labels": {}, "projct": "p"},
    ]
    for file_format, text in (
        (FileFormat.JSONL, "\n".join(map(json.dumps, lines))),
        (FileFormat.JSON, json.dumps(lines)),
    ):
        file.write_text(text)
        rows = readers.read(str(file), file_format, PLAIN, lambda names: told.append(list(names)))
        assert len(good(list(rows))) == 3
        assert told == [["labels"], ["projct"]]
        told.clear()


def test_a_byte_order_mark_within_a_file_is_named(file: Path) -> None:
    part = f"{HEADER}a,o,s,1,{AT}\n".encode("utf-8-sig")
    rows = read(file, part + part, FileFormat.CSV)
    assert good(rows) == {2: "a", 4: "a"}
    assert "byte order mark" in bad(rows)[3]


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
        (["quantity"], [], "is not of the form field=value"),
        (["nonsense=x"], [], "is not of the form field=value"),
        (["sku=a", "sku=b"], [], "sku is given more than once"),
        (["sku=a"], ["sku=b"], "sku is given more than once"),
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
        ("1e3", "1000"),
        ("1.50E-2", "0.0150"),
        ("-0", "-0"),
        # No quantity has this; the service says so, and nothing is rounded here.
        ("1e1000000000000000000", "1e1000000000000000000"),
        ("9" * 5_000, "9" * 5_000),
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
    assert problems[3] == "is a list, not a JSON object"
    half = "it has an escape that is only half of a surrogate pair, such as \\ud800"
    assert problems[4] == f"is not valid JSON: {half}"
    assert problems[5] == "source: 'FAX' is not one of FORM_SUBMIT, BACKEND, REPLAY"


@pytest.mark.parametrize(
    "name", ["request_id", "org_id", "sku", "project_id", "quantity", "source"]
)
@pytest.mark.parametrize(
    ("value", "told"), [(True, "is true"), (False, "is false"), ([], "a list"), ({}, "an object")]
)
def test_what_has_no_text_is_named_and_not_guessed(
    file: Path, name: str, value: object, told: str
) -> None:
    event = {"request_id": "a", "org_id": "o", "sku": "s", "quantity": 1, "event_time": AT}
    rows = read(file, json.dumps({**event, name: value}).encode(), FileFormat.JSONL)
    assert f"{name} " in bad(rows)[1] and told in bad(rows)[1]


def test_metadata_of_json_keep_their_text(file: Path) -> None:
    start = f'{{"request_id": "a", "org_id": "o", "sku": "s", "quantity": 1, "time": "{AT}", '
    own = '{"yes": true, "no": false, "n": 1.50, "e": 1E5, "big": 123456789012345678901, "none": null, "t": ""}'
    event = only(read(file, f'{start}"metadata": {own}}}'.encode(), FileFormat.JSONL))
    assert dict(event.metadata) == {
        **{"yes": "true", "no": "false", "n": "1.50", "e": "1E5"},
        **{"big": "123456789012345678901", "t": ""},
    }
    for wrong in ('{"a": [1]}', '{"a": {}}', "[]", '"{}x"', "true", "5"):
        rows = read(file, f'{start}"metadata": {wrong}}}'.encode(), FileFormat.JSONL)
        assert "metadata" in bad(rows)[1]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ('"sku": "t"', "the key 'sku' appears twice"),
        ('"metadata": {"a": 1, "a": 2}', "the key 'a' appears twice"),
        ('"other": [{"a": 1, "\\u0061": 2}]', "the key 'a' appears twice"),
        ('"SKU": "t"', "has sku in two columns"),
        ('"event_time": "2026-01-15"', "has event_time in two columns"),
        ('"orgId": "p"', "has org_id in two columns"),
        ('"x": NaN', "NaN is not a JSON number"),
        ('"x": -Infinity', "-Infinity is not a JSON number"),
    ],
)
def test_what_has_two_readings_is_named(file: Path, more: str, told: str) -> None:
    line = (
        f'{{"request_id": "a", "org_id": "o", "sku": "s", "quantity": 1, "time": "{AT}", {more}}}'
    )
    for file_format, text in ((FileFormat.JSONL, line), (FileFormat.JSON, f"[{line}]")):
        assert told in bad(read(file, text.encode(), file_format))[1]


@pytest.mark.parametrize("time", ["20260115", "1768478400", "1768478400123", "1.5e9"])
def test_a_number_is_no_time(file: Path, time: str) -> None:
    line = f'{{"request_id": "a", "org_id": "o", "sku": "s", "quantity": 1, "event_time": {time}}}'
    assert "event_time is a number" in bad(read(file, line.encode(), FileFormat.JSONL))[1]


# ---- Arrays


def json_event(request_id: str, **more: object) -> str:
    event = {"request_id": request_id, "org_id": "o", "sku": "s", "quantity": 1, "time": AT}
    return json.dumps({**event, **more})


@pytest.mark.parametrize("chunk", [1, 2, 7, 65_536])
def test_each_element_of_an_array_is_a_row(
    file: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_CHUNK", chunk)
    tricky = json_event("b", metadata={"k": 'a"]},{[\\', "é😀": "\\\\"})
    elements = [json_event("a"), tricky, "5", '{"x": }', "[[1], 2]", json_event("c")]
    content = " \n [ " + " ,\r\n ".join(elements) + "\n]\n\n"
    rows = read(file, content.encode(), FileFormat.JSON)
    assert good(rows) == {1: "a", 2: "b", 6: "c"}
    assert sorted(bad(rows)) == [3, 4, 5]


@pytest.mark.parametrize("chunk", [1, 2, 7, 65_536])
@pytest.mark.parametrize(
    ("file_format", "content", "row", "told"),
    [
        (FileFormat.JSONL, "{}\n{x\n", 2, "a name in double quotes is expected at line 2, column 2"),
        (FileFormat.JSONL, "{}\r\noops", 2, "a value is expected at line 2, column 1"),
        (FileFormat.JSON, "\n  {,\n{}", 2, "is expected at line 2, column 4"),
        (FileFormat.JSON, "\n [{},\n\n  {}, oops]", 3, "a value is expected at line 4, column 7"),
        (FileFormat.JSON, '[{},{"a":\n\n {"b" 1}}]', 2, "a colon is expected at line 3, column 7"),
        (FileFormat.JSON, "[{}, ]", 2, "it is empty"),
        (FileFormat.JSON, "[{} {}]", 1, "something follows after its end at line 1, column 5"),
        (FileFormat.JSON, '[{"a": "b\n"}]', 1, "a string has an unescaped control character"),
        (FileFormat.JSON, '[{"a": "\\x"}]', 1, "a string has a backslash that is not a valid escape"),
        (FileFormat.JSON, '[{"a": 1 "b": 2}]', 1, "a comma, or the end of a list or an object, is"),
    ],
)  # fmt: skip
def test_where_json_is_wrong_is_told_by_the_lines_of_the_file(
    file: Path,
    chunk: int,
    file_format: FileFormat,
    content: str,
    row: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "_CHUNK", chunk)
    problem = bad(read(file, content.encode(), file_format))[row]
    assert problem.startswith("is not valid JSON: ")
    assert told in problem


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3), max_size=5))
def test_any_array_is_cut_into_its_elements(values: list[dict[str, str]]) -> None:
    text = json.dumps(values, ensure_ascii=False)
    stream = io.StringIO(text[1:])
    cut = [json.loads(element or "") for element, _ in streams.elements(stream)]
    assert cut == values


@pytest.mark.parametrize(
    ("content", "rows", "told"),
    [
        ("[]", 0, ""),
        ("", 0, ""),
        ("[%s", 0, "ends inside the array"),
        ("[%s,", 1, "ends inside the array"),
        ('[%s,{"a', 1, "ends inside the array"),
        ("[%s]]", 1, "follows after the array"),
        ("[%s]\n[%s]", 1, "follows after the array"),
        ("[%s}", 1, "the wrong bracket"),
    ],
)
def test_an_array_that_is_none_is_told_after_what_was_right(
    file: Path, content: str, rows: int, told: str
) -> None:
    file.write_text(content.replace("%s", json_event("a")))
    given = readers.read(str(file), FileFormat.JSON, PLAIN)
    assert len([next(given) for _ in range(rows)]) == rows
    if told:
        with pytest.raises(CliError, match=told) as refused:
            next(given)
        assert refused.value.exit_code == EXIT_INCOMPLETE
    else:
        assert list(given) == []


def test_an_empty_place_of_an_array_is_named(file: Path) -> None:
    content = f"[{json_event('a')},,{json_event('b')},]"
    rows = read(file, content.encode(), FileFormat.JSON)
    assert (good(rows), sorted(bad(rows))) == ({1: "a", 3: "b"}, [2, 4])


def test_json_that_is_no_array_is_a_value_a_line(file: Path) -> None:
    content = f"\n \n{json_event('a')}\n{{\n{json_event('b')}\n"
    rows = read(file, content.encode(), FileFormat.JSON)
    assert (good(rows), sorted(bad(rows))) == ({3: "a", 5: "b"}, [4])


def test_an_element_without_end_is_not_kept_in_memory(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LINE_CHARS_MAX", 100)
    monkeypatch.setattr(streams, "_CHUNK", 30)
    content = f"[{json_event('a')}, {json.dumps('x' * 1_000)}, {json_event('b')}]"
    rows = read(file, content.encode(), FileFormat.JSON)
    assert (good(rows), bad(rows)) == ({1: "a", 3: "b"}, {2: "is longer than 100 characters"})


# ---- Gzip


@pytest.mark.parametrize(
    ("file_format", "content"),
    [
        (FileFormat.CSV, f"{HEADER}a,o,s,1,{AT}\nb,o,s,1,{AT}\n"),
        (FileFormat.JSONL, f"{json_event('a')}\n{json_event('b')}\n"),
        (FileFormat.JSON, f"[{json_event('a')},\n{json_event('b')}]"),
    ],
)
def test_what_gzip_packed_is_unpacked(file: Path, file_format: FileFormat, content: str) -> None:
    """In one piece or in several, as programs write that append; with and without a byte order mark."""
    whole = content.encode("utf-8-sig")
    for packed in (gzip.compress(whole), gzip.compress(whole[:50]) + gzip.compress(whole[50:])):
        assert list(good(read(file, packed, file_format)).values()) == ["a", "b"]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda packed: packed[:-9], "ends in the middle"),
        (lambda packed: packed[:40], "ends in the middle"),
        (lambda packed: packed[:-8] + b"\0" * 8, "is damaged: its checksum doesn't match"),
        (lambda packed: packed + b"more", "is damaged: it is followed by data"),
        (lambda packed: packed[:10] + b"\xff" * 30, "is damaged: it cannot be unpacked"),
    ],
)
def test_gzip_that_is_cut_or_damaged_is_told_after_what_was_right(
    file: Path, damage: Callable[[bytes], bytes], told: str
) -> None:
    rows = "".join(f"{n},o,s,1,{AT}\n" for n in range(500))
    file.write_bytes(damage(gzip.compress((HEADER + rows).encode(), 1)))
    given: list[GoodRow | BadRow] = []
    with pytest.raises(CliError, match=told) as refused:
        given.extend(readers.read(str(file), FileFormat.CSV, PLAIN))
    assert refused.value.exit_code == EXIT_INCOMPLETE
    # Never half a row.
    assert all(isinstance(row, GoodRow) and row.event.sku == "s" for row in given)


def test_a_gzip_bomb_fills_no_memory_and_ends(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "GIVEN_UP_CHARS", 8_000_000)
    file.write_bytes(gzip.compress(HEADER.encode()) + gzip.compress(b"x" * 32_000_000, 1))
    tracemalloc.start()
    try:
        with pytest.raises(CliError, match="line 2 does not end"):
            list(readers.read(str(file), FileFormat.CSV, PLAIN))
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("file_format", [FileFormat.CSV, FileFormat.JSON, FileFormat.JSONL])
def test_memory_does_not_grow_with_the_file(file: Path, file_format: FileFormat) -> None:
    rows, filler = 1_000, "x" * 8_000
    if file_format is FileFormat.CSV:
        content = f"{HEADER.strip()},note\n" + f"a,o,s,1,{AT},{filler}\n" * rows
    else:
        content = ",\n".join([json_event("a", note=filler)] * rows)
        content = f"[{content}]" if file_format is FileFormat.JSON else content.replace(",\n", "\n")
    file.write_bytes(gzip.compress(content.encode(), 1))
    size = len(content)
    tracemalloc.start()
    try:
        assert sum(1 for _ in readers.read(str(file), file_format, PLAIN)) == rows
        assert tracemalloc.get_traced_memory()[1] < size / 4
    finally:
        tracemalloc.stop()


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


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([0.1, 16777216.0], pa.float32(), ["0.1", "16777216"]),
        ([1e-7, 67108872.0], pa.float32(), ["0.0000001", "67108872"]),
        ([123456792.0, 134217744.0], pa.float32(), ["123456792", "134217744"]),
        ([3.4e38, 1e9], pa.float32(), ["339999995214436424907732413799364296704", "1000000000"]),
        ([0.1, 1.001], pa.float16(), ["0.1", "1.001"]),
        ([8208.0, 65504.0], pa.float16(), ["8208", "65504"]),
        ([2**64 - 1, 0], pa.uint64(), [str(2**64 - 1), "0"]),
        ([Decimal("1" * 70 + ".25"), Decimal(0)], pa.decimal256(76, 2), ["1" * 70 + ".25", "0.00"]),
    ],
)
def test_numbers_of_parquet_are_read_as_what_they_stand_for(
    file: Path, values: list[object], kind: pa.DataType, expected: list[str]
) -> None:
    parquet_file(file, quantity=pa.array(values, kind), event_time=pa.array([AT, AT]))
    rows = list(readers.read(str(file), FileFormat.PARQUET, PLAIN))
    assert [row.event.quantity for row in rows if isinstance(row, GoodRow)] == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(width=32, allow_infinity=False, allow_nan=False), min_size=20))
def test_a_float32_has_the_text_that_names_it(values: list[float]) -> None:
    array = pa.array(values, pa.float32())
    ours = parquet_rows._cells(array)
    assert pa.array(map(float, ours), pa.float32()).equals(array)
    # A whole number is itself. A fraction is as short as another program writes it; which of several as short is
    # another matter.
    theirs = [Decimal(text) for text in array.cast(pa.string()).to_pylist()]
    for own, value, text in zip(ours, array.to_pylist(), theirs, strict=True):
        if value.is_integer():
            assert own == Decimal(value)
        else:
            assert len(own.normalize().as_tuple().digits) == len(text.normalize().as_tuple().digits)


def labels(file: Path, **columns: pa.Array) -> list[dict[str, str] | str]:
    """Metadata of the rows of a file, or their problems."""
    constant = {"quantity": pa.array([1, 1]), "event_time": pa.array([AT, AT])}
    parquet_file(file, **constant, **columns)
    rows = readers.read(str(file), FileFormat.PARQUET, PLAIN)
    return [dict(row.event.metadata) if isinstance(row, GoodRow) else row.problem for row in rows]


def test_maps_and_structs_of_parquet_are_metadata(file: Path) -> None:
    text_map = pa.map_(pa.string(), pa.string())
    assert labels(file, metadata=pa.array([[("a", "1"), ("b", None)], None], text_map)) == [
        {"a": "1"},
        {},
    ]
    struct = pa.array([{"env": "x", "n": None}, {"env": None, "n": 0.1}])
    struct = struct.cast(pa.struct([("env", pa.string()), ("n", pa.float32())]))
    assert labels(file, metadata=struct) == [{"env": "x"}, {"n": "0.1"}]
    texts = pa.array(['{"a": 1.50}', "oops"])
    assert labels(file, metadata=texts)[0] == {"a": "1.50"}
    assert "is not valid JSON" in labels(file, metadata=texts)[1]
    (twice, fine) = labels(file, metadata=pa.array([[("a", "1"), ("a", "2")], []], text_map))
    assert (twice, fine) == ("metadata has the key 'a' twice", {})
    keyed = pa.array([[(True, "1")], []], pa.map_(pa.bool_(), pa.string()))
    assert labels(file, metadata=keyed) == ["metadata has keys that aren't strings", {}]
    (nested, _) = labels(file, metadata=pa.array([{"a": [1]}, None]))
    assert "metadata.a is of type list<" in nested


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pa.array([True, False]), ["true", "false"]),
        (pa.array(["x", ""]).dictionary_encode(), ["x", ""]),
        (pa.array(["x", None], pa.large_string()), ["x", None]),
        (pa.array([b"x", b"\xc3\xa9"]), ["x", "é"]),
        (pa.array([b"\x01" * 16] * 2, pa.binary(16)).cast(pa.uuid()), ["01010101-" + "0101-" * 3 + "01" * 6] * 2),
        (pa.array([1_700_000_000_123_456_789, 0], pa.timestamp("ns", "UTC")),
         ["2023-11-14T22:13:20.123456789Z", "1970-01-01T00:00:00Z"]),
        (pa.array([-1, 1], pa.timestamp("ms")), ["1969-12-31T23:59:59.999", "1970-01-01T00:00:00.001"]),
        (pa.array([0, 19_000], pa.date32()), ["1970-01-01", "2022-01-08"]),
        (pa.array([float("nan"), 1.5]), ["is nan, which is not a number", "1.5"]),
        (pa.array([float("inf"), 1.5], pa.float32()), ["is inf, which is not a number", "1.5"]),
        (pa.array([[1], None]), ["is of type list<", None]),
        (pa.array([5, None], pa.duration("ns")), ["is of type duration[ns]", None]),
        (pa.array([5, None], pa.time64("ns")), ["is of type time64[ns]", None]),
        (pa.array([10**8, 0], pa.int32()).cast(pa.date32()), ["outside the years", "1970-01-01"]),
        (pa.array([2**60, 0], pa.timestamp("us")), ["outside the years", "1970-01-01T00:00:00"]),
    ],
)  # fmt: skip
def test_each_cell_of_parquet_is_read_exactly_or_named(
    file: Path, cells: pa.Array, expected: list[str | None]
) -> None:
    for found, wanted in zip(labels(file, **{"metadata.x": cells}), expected, strict=True):
        if isinstance(found, str):
            assert wanted is not None and found.startswith("metadata.x ") and wanted in found
        else:
            assert found == ({} if wanted is None else {"x": wanted})


def test_bytes_of_parquet_that_are_not_utf8_cost_their_row(file: Path) -> None:
    wrong = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"\xffa")]
    )
    assert labels(file, **{"metadata.x": wrong}) == ["has bytes that aren't UTF-8", {"x": "a"}]


def test_parquet_with_two_columns_of_one_name_is_refused(file: Path) -> None:
    columns = [pa.array(["a"])] * 2
    parquet.write_table(pa.Table.from_arrays(columns, names=["sku", "sku"]), file)
    with pytest.raises(CliError, match="more than one column named sku"):
        list(readers.read(str(file), FileFormat.PARQUET, PLAIN))


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
        ("a.json", FileFormat.JSON),
        ("a.JSON.gz", FileFormat.JSON),
        ("a.csv.gz", FileFormat.CSV),
        ("a.jsonl.GZ", FileFormat.JSONL),
        ("a.parquet", FileFormat.PARQUET),
    ],
)
def test_the_ending_tells_the_format(name: str, expected: FileFormat) -> None:
    assert readers.detect(name, None) is expected
    assert readers.detect(name, FileFormat.JSONL) is FileFormat.JSONL


@pytest.mark.parametrize("name", ["-", "a", "a.txt", "a.gz", "a.csv.zst"])
def test_a_format_that_nothing_tells_is_asked_for(name: str) -> None:
    with pytest.raises(CliError) as refused:
        readers.detect(name, None)
    assert "--format" in refused.value.hints[0]


@pytest.mark.parametrize("file_format", FileFormat)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, file_format: FileFormat) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(CliError, match="cannot read"):
            list(readers.read(str(path), file_format, PLAIN))


def test_parquet_within_gzip_is_refused() -> None:
    with pytest.raises(CliError, match="gzipped Parquet"):
        readers.detect("a.parquet.gz", None)


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
        ("2026-01-15T12:00z", "2026-01-15T12:00:00+00:00"),
        ("2026-01-15 12:00:00.5+02", "2026-01-15T12:00:00.500000+02:00"),
        ("2026-01-15 12:00:00 +0230", "2026-01-15T12:00:00+02:30"),
    ],
)
def test_times_are_cut_to_microseconds_and_are_utc_without_a_zone(text: str, expected: str) -> None:
    assert parse_event_time(text).isoformat() == expected


@pytest.mark.parametrize(
    "text",
    [
        "1764012341234",  # milliseconds of 2025, and 1764-01-23T12:34 to ISO 8601
        "20260115",
        "2026-W01-1",
        "2026W011",
        "2026-01-15x12:00:00Z",
        "2026-01-15T12",
        "2026-01-15T12:00.5",
        "2026-01-15T12:00:00,5Z",
        "2026-01-15T12:00:00+02:00:30",
        "2026-01-15T12:00:00+24:00",
        "2026-01-15T24:00:00Z",
        "2026-01-15T12:00:00Z\n",
        "\u0662026-01-15",
    ],
)
def test_what_could_be_another_time_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        parse_event_time(text)


# ---- How much was read


def test_the_meter_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    lines = "".join(f'{{"request_id": "r-{n}"}}\n' for n in range(5_000)).encode()
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    plain.write_bytes(lines)
    packed.write_bytes(gzip.compress(lines))
    table = tmp_path / "a.parquet"
    names = [f"r-{n}" for n in range(25_000)]
    columns = {name: names for name in ("request_id", "org_id", "sku", "quantity", "event_time")}
    parquet.write_table(pa.table(columns), table)
    for file, kind, total in (
        (plain, FileFormat.JSONL, len(lines)),
        (packed, FileFormat.JSONL, packed.stat().st_size),
        (table, FileFormat.PARQUET, 25_000),
    ):
        meter = Meter()
        rows = readers.read(str(file), kind, PLAIN, meter=meter)
        next(rows)
        assert meter.total == total
        assert 0 < meter.done <= total
        for _ in rows:
            pass
        assert meter.done == total
