"""Rows out of CSV, JSON, JSON Lines and Parquet files. What is read is read exactly, or its row is named.

The rows are usage events, or what else a maker makes of a record.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import IO, Any, Generic, Protocol, TypeVar
from uuid import UUID

from payments.metering.v1 import metering_pb2

from services.cli import streams, strict_json
from services.cli.columns import (
    FIELDS,
    METADATA_PREFIX,
    REQUIRED,
    ColumnMapping,
    ColumnsUnclear,
    Places,
    no_column,
)
from services.cli.errors import EXIT_INCOMPLETE, EXIT_USAGE, CliError

NOT_UTF8 = "has bytes that aren't UTF-8"
SOURCES = tuple(name.removeprefix("SOURCE_") for name in metering_pb2.Source.keys()[1:])
# Rows of JSON that are read before the first is sent, where a column that `--map` names is not seen yet.
ROWS_AHEAD = 1_000
# Kinds of records whose columns are remembered. Most files have one.
KINDS_KEPT = 256
# What databases and libraries write for a moment. ISO 8601 has more, in which a count of milliseconds such as
# 1764012341234 would be a time of the year 1764.
_TIME = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ](?P<clock>[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.(?P<fraction>[0-9]{1,100}))?)?)"
    r"(?: ?(?P<zone>[Zz]|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?))?)?"
)
_MICROSECOND_DIGITS = 6
_EXPONENT_MAX = 40


class FileFormat(StrEnum):
    """Formats that can be read."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"


_ENDINGS = {
    ".csv": FileFormat.CSV,
    ".json": FileFormat.JSON,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".parquet": FileFormat.PARQUET,
}


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is not a valid event.

    Attributes:
        row: its number: the line of the file, or the record of an array or of a Parquet file, from 1.
        problem: what is wrong with it.
    """

    row: int
    problem: str


@dataclass(frozen=True, slots=True)
class GoodRow:
    """A row that is an event; whether the event is accepted is the service's word."""

    row: int
    event: metering_pb2.UsageEvent


RowT = TypeVar("RowT", bound="Numbered")
Rows = Iterator[GoodRow | BadRow]
Unread = Callable[[Sequence[str]], None]
# Makes a row of its number, a record, where its values stand, and those that every row gets. Raises ValueError.
Make = Callable[[int, Mapping[str, Any], Places, Mapping[str, str]], RowT]


class Numbered(Protocol):
    """A row; its number is as in BadRow."""

    @property
    def row(self) -> int:
        """Its number."""


def detect(path: str, chosen: FileFormat | None) -> FileFormat:
    """Return the format of a file by choice or by its ending, before `.gz`.

    Raises:
        CliError: neither tells, or it is Parquet that gzip packed.
    """
    name = Path(path.lower())
    is_packed = name.suffix == ".gz"
    found = chosen or _ENDINGS.get(name.with_suffix("").suffix if is_packed else name.suffix)
    if found is None:
        raise CliError(
            f"cannot tell the format of {path} from its name",
            f"use --format with one of {', '.join(FileFormat)}",
            exit_code=EXIT_USAGE,
        )
    if found is FileFormat.PARQUET and is_packed:
        raise CliError(f"{path} is gzipped Parquet", "unpack it with gunzip", exit_code=EXIT_USAGE)
    return found


def read(
    path: str,
    file_format: FileFormat,
    mapping: ColumnMapping,
    unread: Unread = lambda _: None,
    meter: streams.Meter | None = None,
) -> Rows:
    """Read the events of a file, one row at a time; `-` is standard input (not for Parquet).

    Args:
        path: the file; text that gzip packed is unpacked.
        file_format: its format.
        mapping: which column fills which field.
        unread: told the columns, or the keys of JSON, that fill no field; each once.
        meter: knows how much of the file was read.

    Raises:
        CliError: the file cannot be opened, its columns cannot be those of events, or it ends before its end. The
            rows that were given before are right.
    """
    yield from read_rows(path, file_format, mapping, _made, unread, meter)


def read_rows(
    path: str,
    file_format: FileFormat,
    mapping: ColumnMapping,
    make: Make[RowT],
    unread: Unread = lambda _: None,
    meter: streams.Meter | None = None,
) -> Iterator[RowT | BadRow]:
    """Read what `make` makes of the records of a file; all else as `read` does. Raises CliError."""
    records = _Records(mapping, make, unread)
    if file_format is FileFormat.PARQUET:
        yield from _parquet(path, records, meter)
        return
    readers = {FileFormat.CSV: _csv, FileFormat.JSON: _json, FileFormat.JSONL: _json_lines}
    row = 0
    with streams.opened(path, meter) as stream:
        try:
            for item in readers[file_format](stream, records):
                row = item.row
                yield item
        except streams.Damaged as error:
            place = f"after row {row:,}" if row else "at its start"
            raise CliError(
                f"cannot read {path} {place}: {error}",
                "the rows before were sent; fix the file and send it again",
                exit_code=EXIT_INCOMPLETE,
            ) from error


def parse_event_time(text: str) -> datetime:
    """Read a day or a time of ISO 8601 in full, cut to microseconds; UTC without a zone. Raises ValueError."""
    parts = _TIME.fullmatch(text)
    if parts is None:
        raise ValueError("not of the form 2026-01-15T12:00:00Z")
    clock = parts["clock"] or "00:00"
    if fraction := parts["fraction"]:
        micros = fraction[:_MICROSECOND_DIGITS].ljust(_MICROSECOND_DIGITS, "0")
        clock = f"{clock.partition('.')[0]}.{micros}"
    return datetime.fromisoformat(f"{parts['day']}T{clock}{(parts['zone'] or 'Z').upper()}")


# ---- Formats


def _csv(stream: IO[str], records: _Records[RowT]) -> Iterator[RowT | BadRow]:
    # Records are bounded by their lines; the module's own bound ends in the middle of a field.
    csv.field_size_limit(2 * streams.LINE_CHARS_MAX)
    lines = streams.Lines(stream)
    header = _header(lines)
    records.has_header(header)
    while True:
        lines.mark()
        try:
            values = next(csv.reader(lines, strict=True))
        except StopIteration:
            return
        except streams.LineTooLong as error:
            row = lines.number
            lines.read_over_quoted()
            yield BadRow(row, str(error))
            continue
        except csv.Error as error:
            # A quote that is never closed would swallow the rows below it.
            lines.only_first()
            yield BadRow(lines.number, f"malformed CSV: {_of_csv(error)}")
            continue
        row = lines.number
        if not values:
            continue
        if len(values) != len(header):
            yield BadRow(row, f"has {len(values)} columns, but the header has {len(header)}")
        elif problem := _problem_of_text("".join(values), values[0]):
            yield BadRow(row, problem)
        else:
            # An empty cell is no value.
            cells = (value or None for value in values)
            yield records.row(row, dict(zip(header, cells, strict=True)))


def _header(lines: streams.Lines) -> list[str]:
    try:
        header = next(csv.reader(lines, strict=True), [])
    except csv.Error as error:
        raise CliError(f"the header is malformed CSV: {error}", exit_code=EXIT_USAGE) from error
    if not header:
        raise CliError("the file has no header line", exit_code=EXIT_USAGE)
    if _undecoded("".join(header)):
        raise CliError("the file is not UTF-8 text", exit_code=EXIT_USAGE)
    return header


def _json(stream: IO[str], records: _Records[RowT]) -> Iterator[RowT | BadRow]:
    """Read an array, or else a value a line."""
    start = strict_json.START
    while (first := stream.read(1)).isspace():
        start = start.behind(first)
    if first != "[":
        return _lines(streams.Lines(stream, first, start.line - 1), records, start.column)
    rows = enumerate(streams.elements(stream, start=start.behind(first)), start=1)
    return records.ahead((row, _document(text, place)) for row, (text, place) in rows)


def _json_lines(stream: IO[str], records: _Records[RowT]) -> Iterator[RowT | BadRow]:
    return _lines(streams.Lines(stream), records)


def _lines(
    lines: streams.Lines, records: _Records[RowT], column: int = 1
) -> Iterator[RowT | BadRow]:
    """Read a value a line; `column` is where the first one begins."""
    begun = lines.number + 1
    return records.ahead(
        (row, _document(text, strict_json.Place(row, column if row == begun else 1)))
        for row, text in lines.numbered()
    )


def _document(text: str | None, place: strict_json.Place) -> Mapping[str, Any] | str:
    """Return a record, or what is wrong with its text."""
    if text is None:
        return f"is longer than {streams.LINE_CHARS_MAX:,} characters"
    if _undecoded(text):
        return NOT_UTF8
    try:
        found = strict_json.decode(text, place)
    except ValueError as error:
        return f"is not valid JSON: {error}"
    if not isinstance(found, dict):
        return f"is {strict_json.name_of(found)}, not a JSON object"
    return found


def _parquet(
    path: str, records: _Records[RowT], meter: streams.Meter | None
) -> Iterator[RowT | BadRow]:
    if path == "-":
        raise CliError(
            "Parquet cannot be read from standard input, because its index is at the end",
            "pass the file's name, or convert it to CSV",
            exit_code=EXIT_USAGE,
        )
    # Imported here: it takes a quarter of a second, which only Parquet files should pay.
    from services.cli import parquet_rows  # noqa: PLC0415

    def columns(names: Sequence[str]) -> list[str]:
        used = records.has_header(names).used()
        return [name for name in names if name in used]

    for row, record in enumerate(parquet_rows.records(path, columns, meter), start=1):
        yield records.row(row, record)


def _of_csv(error: csv.Error) -> str:
    """Say what is wrong with a line: the module's own words show quotes in quotes."""
    found = str(error)
    return "a closing quote is not followed by a comma" if "expected after" in found else found


def _problem_of_text(text: str, first: str) -> str:
    if first.startswith(streams.BYTE_ORDER_MARK):
        return "begins with a byte order mark: were files concatenated?"
    return NOT_UTF8 if _undecoded(text) else ""


def _undecoded(text: str) -> bool:
    """True when the text holds bytes that were not UTF-8."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


# ---- Records


class _Records(Generic[RowT]):
    """Makes rows of the records of a file."""

    def __init__(self, mapping: ColumnMapping, make: Make[RowT], unread: Unread) -> None:
        self._mapping, self._make, self._unread = mapping, make, unread
        self._header: Places | None = None
        self._kinds: dict[tuple[str, ...], Places] = {}
        self._told: set[str] = set()

    def has_header(self, names: Sequence[str]) -> Places:
        """Say that every record has these columns. Raises CliError: they cannot be those of rows."""
        self._header = self._mapping.check_header(names)
        self._tell_unread(names, self._header)
        return self._header

    def row(self, number: int, record: Mapping[str, Any]) -> RowT | BadRow:
        """Make a row of a record."""
        try:
            return self._make(number, record, self._places(record), self._mapping.constants)
        except (ValueError, OverflowError) as error:
            return BadRow(number, str(error))

    def ahead(
        self, records: Iterator[tuple[int, Mapping[str, Any] | str]]
    ) -> Iterator[RowT | BadRow]:
        """Make rows of records that need not have the same columns; a text in place of one is its problem.

        Raises:
            CliError: no record has a column that `--map` names. Nothing was given then, unless the file is long.
        """
        held: list[tuple[int, Mapping[str, Any] | str]] = []
        unseen = set(self._mapping.columns.values())
        names: Sequence[str] | None = None
        for item in records:
            held.append(item)
            if not isinstance(item[1], str):
                names = names or list(item[1])
                unseen &= self._absent(item[1])
            if not unseen or len(held) == ROWS_AHEAD:
                break
        else:
            if unseen and names is not None:
                raise no_column(sorted(unseen), names)
        for number, record in chain(held, records):
            if isinstance(record, str):
                yield BadRow(number, record)
                continue
            if unseen:
                unseen &= self._absent(record)
            yield self.row(number, record)
        if unseen and names is not None:
            raise no_column(sorted(unseen), names)

    def _absent(self, record: Mapping[str, Any]) -> set[str]:
        try:
            return set(self._mapping.absent(self._mapping.places(list(record))))
        except ColumnsUnclear:
            return set(self._mapping.columns.values())

    def _places(self, record: Mapping[str, Any]) -> Places:
        if self._header is not None:
            return self._header
        names = tuple(name for name, value in record.items() if value is not None)
        places = self._kinds.get(names)
        if places is None:
            places = self._mapping.places(names)
            if len(self._kinds) < KINDS_KEPT:
                self._kinds[names] = places
                self._tell_unread(names, places)
        return places

    def _tell_unread(self, names: Sequence[str], places: Places) -> None:
        """Tell each column that fills no field once."""
        used = places.used()
        if others := [name for name in names if name not in used and name not in self._told]:
            self._told.update(others)
            self._unread(others)


def _made(
    number: int, record: Mapping[str, Any], places: Places, constants: Mapping[str, str]
) -> GoodRow:
    """Raises ValueError: the record is not a valid event."""
    return GoodRow(number, _event(record, places, constants))


def _event(
    record: Mapping[str, Any], places: Places, constants: Mapping[str, str]
) -> metering_pb2.UsageEvent:
    """Raises ValueError: the record is not a valid event."""
    values = {name: field_text(name, record.get(column)) for name, column in places.fields.items()}
    values |= {name: value for name, value in constants.items() if name in FIELDS}
    missing = [name for name in REQUIRED if not values.get(name)]
    if missing:
        raise ValueError(f"has no {', '.join(missing)}")
    time, source = values["event_time"], values.get("source", "")
    try:
        event = metering_pb2.UsageEvent(
            request_id=values["request_id"],
            org_id=values["org_id"],
            project_id=values.get("project_id", ""),
            sku=values["sku"],
            quantity=values["quantity"],
            metadata=metadata_of(record, places, constants),
        )
    except UnicodeEncodeError as error:  # bytes in Parquet
        raise ValueError(NOT_UTF8) from error
    try:
        event.event_time.FromDatetime(parse_event_time(time))
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"event_time: {time[:64]!r} is not a time like 2026-01-15T12:00:00Z"
        ) from error
    name = source.upper().removeprefix("SOURCE_")
    if name and name not in SOURCES:
        raise ValueError(f"source: {name[:64]!r} is not one of {', '.join(SOURCES)}")
    if name:
        event.source = metering_pb2.Source.Value(f"SOURCE_{name}")
    return event


def metadata_of(
    record: Mapping[str, Any], places: Places, constants: Mapping[str, str]
) -> dict[str, str]:
    """Return the row's own metadata, overridden by `--map`, which `--set` overrides."""
    found = {
        key: text
        for key, value in _container(record, places).items()
        if (text := _label(key, value)) is not None
    }
    for key, column in places.own.items():
        text = _label(key, record.get(column))
        if text is not None and found.setdefault(key, text) != text:
            raise ValueError(f"metadata.{key} differs between metadata and column {column!r}")
    for key, column in places.mapped.items():
        text = _label(key, record.get(column))
        if text is not None:
            found[key] = text
    for name, value in constants.items():
        if name.startswith(METADATA_PREFIX):
            found[name.removeprefix(METADATA_PREFIX)] = value
    return found


def _container(record: Mapping[str, Any], places: Places) -> Mapping[str, Any]:
    value = None if places.container is None else record.get(places.container)
    if value is None:
        return {}
    if isinstance(value, str) and not isinstance(value, strict_json.Number):
        # CSV and most writers of Parquet have no other way to hold an object.
        try:
            value = strict_json.decode(value, None)
        except ValueError as error:
            raise ValueError(f"metadata is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"metadata {_problem(value) or 'is not a JSON object'}")
    return value


# ---- Values


def field_text(name: str, value: Any) -> str:
    """Return a value as the text of a field; empty for null. Raises ValueError: it cannot be text."""
    if value is None:
        return ""
    problem = f"{_is(value)}, not a string" if isinstance(value, bool) else _problem(value)
    if problem:
        raise ValueError(f"{name} {problem}")
    if name == "event_time" and _is_number(value):
        raise ValueError("event_time is a number: write it like 2026-01-15T12:00:00Z")
    if name == "quantity" and isinstance(value, strict_json.Number):
        return _without_exponent(value)
    return _text(value)


def _label(key: str, value: Any) -> str | None:
    """Return a value of the metadata as text; None for null. Raises ValueError: it cannot be text."""
    if value is None:
        return None
    if problem := _problem(value):
        raise ValueError(f"metadata.{key} {problem}")
    return strict_json.name_of(value) if isinstance(value, bool) else _text(value)


def _problem(value: Any) -> str:
    """Return why a value cannot be text; empty if it can."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {value}, which is not a number"
    if isinstance(value, list | dict):
        return f"{_is(value)}, not a string"
    return str(getattr(value, "problem", ""))


def _is(value: Any) -> str:
    return f"is {strict_json.name_of(value)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, strict_json.Number | int | float | Decimal)


def _text(value: str | int | float | Decimal | date | UUID) -> str:
    if isinstance(value, float):
        # The shortest text that reads back the same, without an exponent.
        return format(Decimal(repr(value)), "f").removesuffix(".0")
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _without_exponent(number: strict_json.Number) -> str:
    """Write 1e-7 as 0.0000001, as programs do not; what no quantity is stays, for the service to refuse."""
    if "e" not in number.lower():
        return str(number)
    try:
        value = Decimal(number)
    except InvalidOperation:
        return str(number)
    is_small = -_EXPONENT_MAX <= value.adjusted() <= _EXPONENT_MAX
    return format(value, "f") if is_small and len(number) <= _EXPONENT_MAX else str(number)
