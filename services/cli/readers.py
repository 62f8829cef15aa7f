"""Usage events out of CSV, JSON Lines and Parquet files. A row that is no event is named, never dropped in silence."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from payments.metering.v1 import metering_pb2

from services.cli.errors import EXIT_USAGE, CliError

FIELDS = ("request_id", "org_id", "project_id", "sku", "quantity", "event_time", "source")
REQUIRED = ("request_id", "org_id", "sku", "quantity", "event_time")
METADATA_PREFIX = "metadata."
PARQUET_BATCH_ROWS = 10_000
LINE_CHARS_MAX = 1_048_576
NOT_UTF8 = "holds bytes that are not UTF-8"
SOURCES = tuple(name.removeprefix("SOURCE_") for name in metering_pb2.Source.keys()[1:])
_FRACTION = re.compile(r"(\.\d{6})\d+")


class FileFormat(StrEnum):
    """Formats that can be read."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is no event.

    Attributes:
        row: its number: the line of the file, or the record of a Parquet file, from 1.
        problem: what is wrong with it.
    """

    row: int
    problem: str


@dataclass(frozen=True, slots=True)
class GoodRow:
    """A row that is an event; whether the event is accepted is the service's word."""

    row: int
    event: metering_pb2.UsageEvent


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Where each field of an event comes from.

    Attributes:
        columns: field to column; a field that is not named comes from the column of its own name.
        constants: field to the value that every event gets.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, columns: list[str], constants: list[str]) -> ColumnMapping:
        """Read `field=column` and `field=value` pairs.

        Raises:
            CliError: a pair has no `=`, the field is none of an event's, or it is given twice.
        """
        pairs = [*map(_pair, columns), *map(_pair, constants)]
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise CliError(f"{', '.join(twice)} is given twice", exit_code=EXIT_USAGE)
        return cls(dict(pairs[: len(columns)]), dict(pairs[len(columns) :]))

    def reads(self, column: str) -> bool:
        """True when a column may hold something of an event."""
        return column in (*FIELDS, "time", "metadata") or column in self.columns.values()

    def value(self, record: Mapping[str, Any], name: str) -> str:
        """Return a field of a record as text; empty when it has none."""
        if name in self.constants:
            return self.constants[name]
        value = record.get(self.columns.get(name, name))
        if value is None and name == "event_time":
            value = record.get("time")
        return _text(value)

    def metadata(self, record: Mapping[str, Any]) -> dict[str, str]:
        """Return the metadata that the pairs `metadata.<key>=…` ask for, or the record's own."""
        pairs = {
            name.removeprefix(METADATA_PREFIX): self.value(record, name)
            for name in (*self.columns, *self.constants)
            if name.startswith(METADATA_PREFIX)
        }
        own = record.get("metadata")
        if not pairs and isinstance(own, Mapping):
            return {str(key): _text(value) for key, value in own.items()}
        return pairs


def detect(path: str, chosen: FileFormat | None) -> FileFormat:
    """Return the format of a file by choice or by its ending.

    Raises:
        CliError: neither tells.
    """
    if chosen is not None:
        return chosen
    endings = {".csv": FileFormat.CSV, ".parquet": FileFormat.PARQUET}
    endings |= dict.fromkeys((".jsonl", ".ndjson", ".json"), FileFormat.JSONL)
    found = endings.get(Path(path).suffix.lower())
    if found is None:
        raise CliError(
            f"cannot tell the format of {path}",
            "give it with --format csv, jsonl or parquet",
            exit_code=EXIT_USAGE,
        )
    return found


def read(path: str, file_format: FileFormat, mapping: ColumnMapping) -> Iterator[GoodRow | BadRow]:
    """Read the events of a file, one row at a time; `-` is standard input (not for Parquet).

    Raises:
        CliError: the file cannot be opened, or its columns cannot be those of events.
    """
    if file_format is FileFormat.PARQUET:
        yield from _parquet(path, mapping)
        return
    with _opened(path) as stream:
        lines = _Lines(stream)
        try:
            yield from (
                _csv(lines, mapping) if file_format is FileFormat.CSV else _jsonl(lines, mapping)
            )
        except OSError as error:
            raise CliError(f"cannot read {path}: {error.strerror}", exit_code=EXIT_USAGE) from error


@contextmanager
def _opened(path: str) -> Iterator[IO[str]]:
    """Open a text file; bytes that are not UTF-8 become surrogates, which name their row later."""
    try:
        raw = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}", exit_code=EXIT_USAGE) from error
    text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield text
    finally:
        if path == "-":
            text.detach()
        else:
            text.close()


class _LineTooLong(csv.Error):
    """A line that no event has; it was read over."""


class _Lines(Iterator[str]):
    """The lines of a stream, by number, of bounded length; lines can be put back.

    Attributes:
        number: the line that was given last, from 1.
        taken: the lines given since `mark`.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._put_back: deque[str] = deque()
        self.number = 0
        self.taken: list[str] = []

    def __next__(self) -> str:
        line = self._put_back.popleft() if self._put_back else self._read()
        self.number += 1
        self.taken.append(line)
        if len(line) > LINE_CHARS_MAX:
            raise _LineTooLong(f"the line is longer than {LINE_CHARS_MAX:,} characters")
        return line

    def mark(self) -> None:
        """Begin a record."""
        self.taken = []

    def only_first(self) -> None:
        """Let the record be its first line alone, and give the others again."""
        self._put_back.extendleft(reversed(self.taken[1:]))
        self.number -= len(self.taken) - 1
        self.taken = self.taken[:1]

    def _read(self) -> str:
        line = self._stream.readline(LINE_CHARS_MAX + 1)
        if not line:
            raise StopIteration
        if len(line) > LINE_CHARS_MAX:
            while (rest := self._stream.readline(LINE_CHARS_MAX)) and not rest.endswith(
                ("\n", "\r")
            ):
                pass
        return line


def parse_event_time(text: str) -> datetime:
    """Read an ISO 8601 time, cut to microseconds; one without a zone is UTC. Raises ValueError."""
    parsed = datetime.fromisoformat(_FRACTION.sub(r"\1", text))
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed


def _csv(lines: _Lines, mapping: ColumnMapping) -> Iterator[GoodRow | BadRow]:
    header = _header(lines)
    _check_columns(header, mapping)
    while True:
        lines.mark()
        try:
            values = next(csv.reader(lines, strict=True))
        except StopIteration:
            return
        except csv.Error as error:
            # A quote that is never closed would swallow the rows below it.
            lines.only_first()
            yield BadRow(lines.number, f"malformed CSV: {error}")
            continue
        row = lines.number
        if not values:
            continue
        if len(values) != len(header):
            yield BadRow(row, f"has {len(values)} columns, the header {len(header)}")
        elif _undecoded("".join(values)):
            yield BadRow(row, NOT_UTF8)
        else:
            yield _row(row, dict(zip(header, values, strict=True)), mapping)


def _header(lines: _Lines) -> list[str]:
    try:
        header = next(csv.reader(lines, strict=True), [])
    except csv.Error as error:
        raise CliError(f"the header is malformed CSV: {error}", exit_code=EXIT_USAGE) from error
    if not header:
        raise CliError("the file has no header line", exit_code=EXIT_USAGE)
    if _undecoded("".join(header)):
        raise CliError("the file is not UTF-8 text", exit_code=EXIT_USAGE)
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise CliError(f"the file has two columns {', '.join(twice)}", exit_code=EXIT_USAGE)
    return header


def _jsonl(lines: _Lines, mapping: ColumnMapping) -> Iterator[GoodRow | BadRow]:
    while True:
        lines.mark()
        try:
            line = next(lines)
            if not line.strip():
                continue
            # Numbers stay text: a float would round quantities.
            record = json.loads(line, parse_float=str, parse_int=str)
        except StopIteration:
            return
        except (ValueError, RecursionError, csv.Error) as error:
            yield BadRow(lines.number, f"malformed JSON: {error}")
            continue
        if _undecoded(line):
            yield BadRow(lines.number, NOT_UTF8)
        elif not isinstance(record, dict):
            yield BadRow(lines.number, "is not a JSON object")
        else:
            yield _row(lines.number, record, mapping)


def _undecoded(text: str) -> bool:
    """True when the text holds bytes that were not UTF-8."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _parquet(path: str, mapping: ColumnMapping) -> Iterator[GoodRow | BadRow]:
    if path == "-":
        raise CliError(
            "Parquet cannot be read from standard input: its index is at the end",
            "give the file, or convert it to CSV",
            exit_code=EXIT_USAGE,
        )
    # Imported here: it takes a quarter of a second, which only Parquet files should pay.
    import pyarrow  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    try:
        with parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            _check_columns(names, mapping)
            wanted = [name for name in names if mapping.reads(name)]
            row = 0
            for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=wanted):
                for record in _plain_times(batch).to_pylist():
                    row += 1
                    yield _row(row, record, mapping)
    # A damaged file may name a type or a codec that there is not, or text that is none.
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise CliError(f"cannot read {path} as Parquet: {reason}", exit_code=EXIT_USAGE) from error


def _plain_times(batch: Any) -> Any:
    """Cut times to microseconds, which is what Python's have."""
    import pyarrow  # noqa: PLC0415

    for index, column in enumerate(batch.schema):
        if pyarrow.types.is_timestamp(column.type) and column.type.unit == "ns":
            micros = pyarrow.timestamp("us", column.type.tz)
            cut = batch.column(index).cast(micros, safe=False)
            batch = batch.set_column(index, column.name, cut)
    return batch


def _row(row: int, record: Mapping[str, Any], mapping: ColumnMapping) -> GoodRow | BadRow:
    try:
        return _event(row, record, mapping)
    except (ValueError, OverflowError) as error:
        return BadRow(row, str(error))


def _event(row: int, record: Mapping[str, Any], mapping: ColumnMapping) -> GoodRow:
    """Raises ValueError: the record is no event."""
    values = {name: mapping.value(record, name) for name in FIELDS}
    missing = [name for name in REQUIRED if not values[name]]
    if missing:
        raise ValueError(f"has no {', '.join(missing)}")
    try:
        event = metering_pb2.UsageEvent(
            request_id=values["request_id"],
            org_id=values["org_id"],
            project_id=values["project_id"],
            sku=values["sku"],
            quantity=values["quantity"],
            metadata=mapping.metadata(record),
        )
    except UnicodeEncodeError as error:  # an escaped surrogate in JSON
        raise ValueError(NOT_UTF8) from error
    time = values["event_time"]
    try:
        event.event_time.FromDatetime(parse_event_time(time))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"event_time: {time[:64]!r} is no time as ISO 8601 writes it") from error
    source = values["source"].upper().removeprefix("SOURCE_")
    if source and source not in SOURCES:
        raise ValueError(f"source: {source[:64]!r} is none of {', '.join(SOURCES)}")
    if source:
        event.source = metering_pb2.Source.Value(f"SOURCE_{source}")
    return GoodRow(row, event)


def _check_columns(header: list[str], mapping: ColumnMapping) -> None:
    asked = [mapping.columns.get(name, name) for name in REQUIRED if name not in mapping.constants]
    missing = [name for name in asked if name not in header]
    if "event_time" in missing and "time" in header:
        missing.remove("event_time")
    if missing:
        raise CliError(
            f"the file has no column {', '.join(missing)}; it has {', '.join(header[:30])}",
            "say which column holds a field with --map field=column, or give one value with --set field=value",
            exit_code=EXIT_USAGE,
        )


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or (name not in FIELDS and not name.startswith(METADATA_PREFIX)):
        raise CliError(
            f"{text!r} is not field=value with a field of {', '.join(FIELDS)}, metadata.<key>",
            exit_code=EXIT_USAGE,
        )
    return name, value


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float):
        # A double of a Parquet file: the shortest text that reads back the same, without an exponent.
        return format(Decimal(repr(value)), "f").removesuffix(".0")
    return str(value)
