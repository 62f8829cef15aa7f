"""Usage events out of CSV, JSON Lines and Parquet files. A row that is no event is named, never dropped in silence."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from payments.metering.v1 import metering_pb2

from services.cli.errors import EXIT_USAGE, CliError

FIELDS = ("request_id", "org_id", "project_id", "sku", "quantity", "event_time", "source")
REQUIRED = ("request_id", "org_id", "sku", "quantity", "event_time")
METADATA_PREFIX = "metadata."
PARQUET_BATCH_ROWS = 10_000
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
            CliError: a pair has no `=`, or the field is none of an event's.
        """
        return cls(dict(map(_pair, columns)), dict(map(_pair, constants)))

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
        rows = _csv(stream, mapping) if file_format is FileFormat.CSV else _jsonl(stream, mapping)
        try:
            yield from rows
        except UnicodeDecodeError as error:
            raise CliError(
                f"{path} is not UTF-8 at byte {error.start}", exit_code=EXIT_USAGE
            ) from error


def _opened(path: str) -> IO[str]:
    if path == "-":
        return sys.stdin
    try:
        return Path(path).open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}", exit_code=EXIT_USAGE) from error


def parse_event_time(text: str) -> datetime:
    """Read an ISO 8601 time, cut to microseconds; one without a zone is UTC. Raises ValueError."""
    parsed = datetime.fromisoformat(_FRACTION.sub(r"\1", text))
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed


def _csv(stream: IO[str], mapping: ColumnMapping) -> Iterator[GoodRow | BadRow]:
    reader = csv.DictReader(stream, strict=True)
    header = reader.fieldnames
    if not header:
        raise CliError("the file has no header line", exit_code=EXIT_USAGE)
    _check_columns(list(header), mapping)
    while True:
        row = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(row, f"malformed CSV: {error}")
            continue
        row = reader.line_num
        if None in record or None in record.values():
            yield BadRow(row, f"has not the {len(header)} columns of the header")
            continue
        yield _row(row, record, mapping)


def _jsonl(stream: IO[str], mapping: ColumnMapping) -> Iterator[GoodRow | BadRow]:
    for row, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            # Numbers stay text: a float would round quantities.
            record = json.loads(line, parse_float=str, parse_int=str)
        except (ValueError, RecursionError) as error:
            yield BadRow(row, f"malformed JSON: {error}")
            continue
        if not isinstance(record, dict):
            yield BadRow(row, "is not a JSON object")
            continue
        yield _row(row, record, mapping)


def _parquet(path: str, mapping: ColumnMapping) -> Iterator[GoodRow | BadRow]:
    # Imported here: it takes a quarter of a second, which only Parquet files should pay.
    import pyarrow  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    try:
        file = parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise CliError(f"cannot read {path} as Parquet: {error}", exit_code=EXIT_USAGE) from error
    with file:
        _check_columns(list(file.schema_arrow.names), mapping)
        row = 0
        for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS):
            for record in batch.to_pylist():
                row += 1
                yield _row(row, record, mapping)


def _row(row: int, record: Mapping[str, Any], mapping: ColumnMapping) -> GoodRow | BadRow:
    missing = [name for name in REQUIRED if not mapping.value(record, name)]
    if missing:
        return BadRow(row, f"has no {', '.join(missing)}")
    event = metering_pb2.UsageEvent(
        request_id=mapping.value(record, "request_id"),
        org_id=mapping.value(record, "org_id"),
        project_id=mapping.value(record, "project_id"),
        sku=mapping.value(record, "sku"),
        quantity=mapping.value(record, "quantity"),
        metadata=mapping.metadata(record),
    )
    try:
        event.event_time.FromDatetime(parse_event_time(mapping.value(record, "event_time")))
        source = mapping.value(record, "source").upper()
        if source:
            event.source = metering_pb2.Source.Value(f"SOURCE_{source.removeprefix('SOURCE_')}")
    except ValueError as error:
        return BadRow(row, str(error))
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
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        # Parquet's doubles: the shortest text that reads back the same, never an exponent.
        return format(value, ".15f").rstrip("0").rstrip(".") if value else "0"
    return str(value)
