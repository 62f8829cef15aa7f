"""Writes exported tables as CSV, JSON Lines or Parquet, each value exact, and a file whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import secrets
import signal
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Protocol

from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import ReaderGone
from services.cli.tables import Kind, Page, Table

# Without a zone, because all is UTC: thus it writes three times as fast.
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
# A group of rows of a Parquet file ends with either.
_GROUP_ROWS = 65_536
_GROUP_BYTES = 32 * 1024 * 1024
_BUFFER_BYTES = 1024 * 1024
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class FileFormat(StrEnum):
    """Formats that can be written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class Writer(Protocol):
    """Writes the rows of one table."""

    def write(self, columns: Sequence[Sequence[Any]]) -> None:
        """Write some rows, given by column."""

    def close(self) -> None:
        """Write what is left; the file underneath stays open."""

    def abandon(self) -> None:
        """Give up; the file underneath stays open."""


def format_of(chosen: FileFormat | None, path: str) -> FileFormat:
    """Return the format by choice, else by the ending of the file's name, else CSV."""
    endings = {
        ".jsonl": FileFormat.JSONL,
        ".ndjson": FileFormat.JSONL,
        ".parquet": FileFormat.PARQUET,
    }
    return chosen or endings.get(Path(path.lower()).suffix, FileFormat.CSV)


def export(
    table: Table,
    pages: Iterable[Page],
    file_format: FileFormat,
    path: str,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write all pages; returns the number of rows.

    Args:
        path: the file, which appears whole at the end and replaces one of the same name; empty for standard output.
        progress: told the number of rows after each page.

    Raises:
        CliError: the mesh failed, the file cannot be written, or a value does not fit the format. A file was not
            touched then.
    """
    if not path and file_format is FileFormat.PARQUET and sys.stdout.isatty():
        raise CliError(
            "Parquet is no text for a terminal", "name a file with --out", exit_code=EXIT_USAGE
        )
    rows = 0
    with opened(path) as file:
        writer = _WRITERS[file_format](file, table)
        try:
            for page in pages:
                writer.write(table.take(page))
                rows += len(page)
                progress(rows)
            writer.close()
        except BaseException:
            writer.abandon()
            raise
    return rows


# ---- Where to


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """Give a file that appears whole at the end or not at all; standard output for an empty name. Raises CliError."""
    if not path:
        try:
            yield sys.stdout.buffer
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise ReaderGone from error
        except OSError as error:
            raise CliError(f"cannot write: {error.strerror}", exit_code=EXIT_USAGE) from error
        except CliError as error:
            error.hints = [
                *error.hints,
                "what was printed is not all of it; --out writes all or nothing",
            ]
            raise
        return
    try:
        # A pipe or a device has no name that could be replaced; one in /dev/fd leads to no path at all.
        if Path(path).exists() and not stat.S_ISREG(Path(path).stat().st_mode):
            with _ended_by_sigterm(), _poured(path) as file:
                yield file
            return
        # What a symbolic link leads to is replaced, not the link.
        with _ended_by_sigterm(), _whole(Path(path).resolve()) as file:
            yield file
    except OSError as error:
        raise CliError(
            f"cannot write {path}: {error.strerror or error}",
            "nothing was written; make room or choose another place with --out",
            exit_code=EXIT_USAGE,
        ) from error


@contextlib.contextmanager
def _poured(path: str) -> Iterator[IO[bytes]]:
    """Give what is no file, such as a pipe: what is written is gone at once. Raises ReaderGone: nobody reads it."""
    try:
        with Path(path).open("wb") as file:
            yield file
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        raise CliError(
            f"cannot write {path}: {error.strerror or error}",
            "it is no file, so what was written before stays written",
            exit_code=EXIT_USAGE,
        ) from error


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[IO[bytes]]:
    """Give a file that takes its name only once all is in it and on the disk."""
    new = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
    # As any program would make it: the mode of the user's choice, or that of the file it replaces.
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb", buffering=_BUFFER_BYTES) as file:
            if target.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        new.replace(target)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end it as Ctrl-C does, so that nothing half written stays behind."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# ---- As what


def written_time(micros: int) -> str:
    """Write microseconds since 1970 as RFC 3339 in UTC, always with six places."""
    return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds") + "Z"


def _times_as_text(table: Table, columns: Sequence[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    for column, values in zip(table.columns, columns, strict=True):
        if column.kind is Kind.TIME:
            yield [None if value is None else written_time(value) for value in values]
        else:
            yield values


class _Csv:
    """RFC 4180 with a header, UTF-8, a line feed behind each row; what is absent is an empty cell."""

    def __init__(self, file: IO[bytes], table: Table) -> None:
        self._table = table
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=False)
        self._rows = csv.writer(self._text, lineterminator="\n")
        self._rows.writerow([column.name for column in table.columns])

    def write(self, columns: Sequence[Sequence[Any]]) -> None:
        self._rows.writerows(zip(*_times_as_text(self._table, columns), strict=True))

    def close(self) -> None:
        self._text.flush()
        self._text.detach()

    def abandon(self) -> None:
        with contextlib.suppress(ValueError, OSError):
            self._text.detach()


class _JsonLines:
    """An object a line; integers of 64 bits and decimals are strings, as everywhere in our JSON; absent is null."""

    def __init__(self, file: IO[bytes], table: Table) -> None:
        self._file, self._table = file, table
        names = [(index, column.name) for index, column in enumerate(table.columns)]
        is_json = [column.kind is Kind.JSON for column in table.columns]
        self._flat = [each for each in names if not is_json[each[0]]]
        self._nested = [each for each in names if is_json[each[0]]]
        self._integers = [
            index for index, column in enumerate(table.columns) if column.kind is Kind.INTEGER
        ]

    def write(self, columns: Sequence[Sequence[Any]]) -> None:
        shown = list(_times_as_text(self._table, columns))
        for index in self._integers:
            shown[index] = [None if value is None else str(value) for value in shown[index]]
        lines = map(self._line, zip(*shown, strict=True))
        self._file.write("".join(lines).encode("utf-8", "replace"))

    def _line(self, row: Sequence[Any]) -> str:
        flat = _ENCODE({name: row[index] for index, name in self._flat})
        # Their texts stand in it as they are, numbers with all their digits; only what would break the line goes.
        nested = (
            f',"{name}":{(row[index] or "null")}'.replace("\r", " ").replace("\n", " ")
            for index, name in self._nested
        )
        return f"{flat[:-1]}{''.join(nested)}}}\n"

    def close(self) -> None:
        """Nothing is held."""

    def abandon(self) -> None:
        """Nothing is held."""


class _Parquet:
    """Integers of 64 bits, decimals of 38 digits with 18 places, times in UTC to the microsecond, texts in UTF-8."""

    def __init__(self, file: IO[bytes], table: Table) -> None:
        # Imported here: it takes a quarter of a second, which only Parquet files should pay.
        import pyarrow as pa  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415

        self._pa, self._table = pa, table
        kinds = {
            Kind.TEXT: pa.string(),
            Kind.JSON: pa.string(),
            Kind.INTEGER: pa.int64(),
            Kind.DECIMAL: pa.decimal128(38, 18),
            Kind.TIME: pa.timestamp("us", tz="UTC"),
        }
        self._schema = pa.schema(
            [
                pa.field(column.name, kinds[column.kind], metadata={"description": column.about})
                for column in table.columns
            ]
        )
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._batches: list[Any] = []
        self._rows = self._bytes = 0

    def write(self, columns: Sequence[Sequence[Any]]) -> None:
        arrays = [
            self._array(column.name, column.kind, values, kind.type)
            for column, values, kind in zip(self._table.columns, columns, self._schema, strict=True)
        ]
        batch = self._pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._flush()

    def _array(self, name: str, kind: Kind, values: Sequence[Any], arrow: Any) -> Any:
        if kind is not Kind.DECIMAL:
            return self._pa.array(values, arrow)
        try:
            return self._pa.array(values, self._pa.string()).cast(arrow)
        except self._pa.ArrowException as error:
            raise CliError(
                f"a value of {name} does not fit a decimal of 38 digits with 18 places: {error}",
                "use --format csv or jsonl, which hold every number as it is",
            ) from error

    def _flush(self) -> None:
        if self._batches:
            self._writer.write_table(self._pa.Table.from_batches(self._batches, self._schema))
        self._batches, self._rows, self._bytes = [], 0, 0

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        # Closed, it would write the end that makes the part a whole file.
        self._writer.is_open = False


_WRITERS: dict[FileFormat, Callable[[IO[bytes], Table], Writer]] = {
    FileFormat.CSV: _Csv,
    FileFormat.JSONL: _JsonLines,
    FileFormat.PARQUET: _Parquet,
}
