"""The cells of Parquet files, each as exact as it is stored. Loading this takes a quarter of a second, for pyarrow."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from services.cli.errors import EXIT_USAGE, CliError
from services.cli.streams import Meter

BATCH_ROWS = 10_000
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DIGITS_MAX = {"e": 5, "f": 9}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = "is outside the years 1 to 9999"

Columns = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A cell that has no text; `problem` says what it is."""

    problem: str


def records(path: str, columns: Columns, meter: Meter | None = None) -> Iterator[Mapping[str, Any]]:
    """Give the records of a file.

    Args:
        path: the file.
        columns: of the names of all columns, which are read.
        meter: counts the rows.

    Raises:
        CliError: the file cannot be read. What was given before is right.
    """
    try:
        # Legacy times of 96 bits wrap around beyond the year 2262 when they are read to the nanosecond.
        with parquet.ParquetFile(path, coerce_int96_timestamp_unit="us") as file:
            wanted = list(columns(list(file.schema_arrow.names)))
            meter = meter or Meter()
            meter.total = file.metadata.num_rows
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
                read = [_cells(column) for column in batch.columns]
                meter.done += batch.num_rows
                for number in range(batch.num_rows):
                    yield {
                        name: cells[number]
                        for name, cells in zip(batch.schema.names, read, strict=True)
                    }
    # A damaged file may name a type or a codec that there is not.
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise CliError(f"cannot read {path} as Parquet: {reason}", exit_code=EXIT_USAGE) from error


def _cells(array: Any) -> list[Any]:
    """Return the values of a column: None, texts and what has one text, mappings, or Unreadable."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        is_uuid = isinstance(kind, pa.UuidType)
        return (
            [_or_none(str, cell) for cell in array.to_pylist()]
            if is_uuid
            else _cells(array.storage)
        )
    for is_kind, read in _READERS:
        if is_kind(kind):
            return read(array)
    problem = Unreadable(f"is of type {kind}, which cannot be used here")
    return [problem if there else None for there in array.is_valid().to_pylist()]


def _or_none(read: Callable[[Any], Any], cell: Any) -> Any:
    return None if cell is None else read(cell)


def _plain(array: Any) -> list[Any]:
    cells: list[Any] = array.to_pylist()
    return cells


def _texts(array: Any) -> list[str | None]:
    # By way of bytes: a text that is no UTF-8 would fail the whole batch.
    cells = array.cast(pa.large_binary()).to_pylist()
    return [None if cell is None else cell.decode(errors="surrogateescape") for cell in cells]


def _of_dictionary(array: Any) -> list[Any]:
    values = _cells(array.dictionary)
    return [None if index is None else values[index] for index in array.indices.to_pylist()]


def _floats(array: Any) -> list[Any]:
    form = "e" if pa.types.is_float16(array.type) else "f"
    return [_or_none(lambda cell: _shortest(cell, form), cell) for cell in array.to_pylist()]


def _shortest(value: float, form: str) -> Decimal | float:
    """Return the decimal that a number of less than 64 bits stands for.

    A whole number is itself. A fraction is the shortest decimal that names it: 0.1, not 0.10000000149011612.
    """
    if not math.isfinite(value):
        return value
    if value.is_integer():
        return Decimal(value)
    texts = (f"{value:.{digits}g}" for digits in range(1, _DIGITS_MAX[form] + 1))
    return Decimal(next(text for text in texts if _same(text, value, form)))


def _same(text: str, value: float, form: str) -> bool:
    try:
        return bool(struct.unpack(form, struct.pack(form, float(text)))[0] == value)
    except OverflowError:
        return False


def _times(array: Any) -> list[Any]:
    per_second = _PER_SECOND[array.type.unit]
    zone = "Z" if array.type.tz else ""
    digits = len(str(per_second)) - 1

    def read(ticks: int) -> str | Unreadable:
        seconds, rest = divmod(ticks, per_second)
        try:
            moment = _EPOCH + timedelta(seconds=seconds)
        except OverflowError:
            return Unreadable(_YEARS)
        fraction = f".{rest:0{digits}}" if rest else ""
        return f"{moment.replace(tzinfo=None).isoformat()}{fraction}{zone}"

    return [_or_none(read, cell) for cell in array.cast(pa.int64()).to_pylist()]


def _dates(array: Any) -> list[Any]:
    def read(days: int) -> str | Unreadable:
        try:
            return (_EPOCH.date() + timedelta(days=days)).isoformat()
        except OverflowError:
            return Unreadable(_YEARS)

    days = array.cast(pa.date32(), safe=False).cast(pa.int32())
    return [_or_none(read, cell) for cell in days.to_pylist()]


def _structs(array: Any) -> list[Any]:
    names = [field.name for field in array.type]
    valid = array.is_valid().to_pylist()
    if len(set(names)) < len(names):
        problem = Unreadable("has two fields with the same name")
        return [problem if there else None for there in valid]
    fields = [_cells(field) for field in array.flatten()]
    rows = zip(*fields, strict=True) if fields else [()] * len(array)
    return [
        dict(zip(names, row, strict=True)) if there else None
        for there, row in zip(valid, rows, strict=True)
    ]


def _maps(array: Any) -> list[Any]:
    keys, values = _cells(array.keys), _cells(array.items)
    offsets = array.offsets.to_pylist()
    # Those of a slice start where it does.
    first = offsets[0] if len(keys) < offsets[-1] else 0
    found: list[Any] = []
    for there, start, end in zip(
        array.is_valid().to_pylist(), offsets[:-1], offsets[1:], strict=True
    ):
        part = slice(start - first, end - first)
        found.append(_mapping(keys[part], values[part]) if there else None)
    return found


def _mapping(keys: list[Any], values: list[Any]) -> dict[str, Any] | Unreadable:
    names = [str(key) for key in keys]
    # A bool is an int in Python, and its text there is none of JSON's.
    if not all(isinstance(key, str | int) and not isinstance(key, bool) for key in keys):
        return Unreadable("has keys that aren't strings")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        return Unreadable(f"has the key {twice[:100]!r} twice")
    return dict(zip(names, values, strict=True))


_KINDS = pa.types
_READERS: tuple[tuple[Callable[[Any], bool], Callable[[Any], list[Any]]], ...] = (
    (_KINDS.is_dictionary, _of_dictionary),
    (lambda kind: _KINDS.is_string(kind) or _KINDS.is_large_string(kind), _texts),
    (lambda kind: _KINDS.is_string_view(kind) or _KINDS.is_binary_view(kind), _texts),
    (lambda kind: _KINDS.is_binary(kind) or _KINDS.is_large_binary(kind), _texts),
    (_KINDS.is_fixed_size_binary, _texts),
    (lambda kind: _KINDS.is_float16(kind) or _KINDS.is_float32(kind), _floats),
    (_KINDS.is_timestamp, _times),
    (_KINDS.is_date, _dates),
    (_KINDS.is_struct, _structs),
    (_KINDS.is_map, _maps),
    (lambda kind: _KINDS.is_integer(kind) or _KINDS.is_decimal(kind), _plain),
    (lambda kind: _KINDS.is_boolean(kind) or _KINDS.is_null(kind), _plain),
    (_KINDS.is_float64, _plain),
)
