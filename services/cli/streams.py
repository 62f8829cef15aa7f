"""Text out of files and standard input, packed by gzip or not, a bounded piece at a time."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import sys
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from services.cli.errors import EXIT_USAGE, CliError
from services.cli.strict_json import START, Place

LINE_CHARS_MAX = 1_048_576
# A line that never ends is read over, but not for ever: a gzip file of a few kilobytes unpacks to any length.
GIVEN_UP_CHARS = 256 * 1024 * 1024
BYTE_ORDER_MARK = "\ufeff"
_CHUNK = 65_536
_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_OUTSIDE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)
_IN_TEXT = re.compile(r'\\.|"', re.DOTALL)


class Damaged(Exception):
    """A stream cannot be read to its end; what was read before is right."""


class LineTooLong(csv.Error):
    """A line, or lines that belong together, that no event has; what is too much was read over."""


@dataclass(slots=True)
class Meter:
    """How much of a file was read; another thread may look.

    Attributes:
        total: its bytes, or its rows if it is Parquet; None when nothing tells.
        done: how many of them were read.
    """

    total: int | None = None
    done: int = 0


@contextmanager
def opened(path: str, meter: Meter | None = None) -> Iterator[IO[str]]:
    """Open a text file, `-` for standard input; what gzip packed is unpacked, whatever its name.

    `meter` counts the bytes as they are stored, packed or not.

    Bytes that are not UTF-8 become surrogates, which name their row later; a byte order mark is skipped.

    Raises:
        CliError: it cannot be opened, or is UTF-16.
    """
    try:
        raw = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115 - closed below
        meter = meter or Meter()
        # A pipe has no size, nor has what a device holds.
        meter.total = os.fstat(raw.fileno()).st_size or None if path != "-" else None
        try:
            yield _text(raw, path, meter)
        finally:
            if path != "-":
                raw.close()
    except OSError as error:
        raise CliError(
            f"cannot read {path}: {error.strerror or error}", exit_code=EXIT_USAGE
        ) from error


def _text(raw: IO[bytes], path: str, meter: Meter) -> IO[str]:
    # Not `peek`, which gives what a pipe happens to hold.
    head = raw.read(2)
    if head in _UTF16:
        raise CliError(
            f"{path} is UTF-16", "convert it to UTF-8, e.g. with iconv", exit_code=EXIT_USAGE
        )
    source: Any = io.BufferedReader(_Joined(head, raw, meter), _CHUNK)
    if head == _GZIP:
        source = io.BufferedReader(_Unpacked(source), _CHUNK)
    return io.TextIOWrapper(source, encoding="utf-8-sig", errors="surrogateescape", newline="")


class _Joined(io.RawIOBase):
    """The bytes that were looked at, and those after them. Closing it leaves the file open."""

    def __init__(self, head: bytes, rest: IO[bytes], meter: Meter) -> None:
        self._head, self._rest, self._meter = head, rest, meter

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk, self._head = self._head, b""
        if not chunk:
            # A terminal or a pipe gives what it has; a file a whole chunk.
            read = getattr(self._rest, "read1", self._rest.read)
            chunk = read(len(buffer))
        buffer[: len(chunk)] = chunk
        self._meter.done += len(chunk)
        return len(chunk)


class _Unpacked(io.RawIOBase):
    """What gzip packed, member after member."""

    def __init__(self, packed: Any) -> None:
        self._file = gzip.GzipFile(fileobj=packed)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            chunk = self._file.read1(len(buffer))
        except EOFError as error:
            raise Damaged("the packed data ends in the middle") from error
        except gzip.BadGzipFile as error:
            # Its start was looked at: what is no gzip file stands behind the first one.
            what = "its checksum doesn't match"
            if str(error).startswith("Not a gzipped file"):
                what = "it is followed by data that isn't gzip"
            raise Damaged(f"the packed data is damaged: {what}") from error
        except zlib.error as error:
            raise Damaged("the packed data is damaged: it cannot be unpacked") from error
        buffer[: len(chunk)] = chunk
        return len(chunk)


class Lines(Iterator[str]):
    """The numbered lines of a stream, of bounded length; lines can be put back.

    Args:
        stream: the text.
        begun: what was read of its first line.
        before: how many lines were read before that.
        chars_max: length of the longest line that is given; LINE_CHARS_MAX unless set.

    Attributes:
        number: the line that was given last, from 1.
        taken: the lines given since `mark`.
    """

    def __init__(
        self,
        stream: IO[str] | Ahead,
        begun: str = "",
        before: int = 0,
        chars_max: int | None = None,
    ) -> None:
        self._stream, self._begun = stream, begun
        self._chars_max = chars_max or LINE_CHARS_MAX
        self._put_back: deque[str] = deque()
        self._quotes = self._length = 0
        self.number = before
        self.taken: list[str] = []

    def numbered(self) -> Iterator[tuple[int, str | None]]:
        """Give the lines that are not blank with their numbers; None for one that is too long."""
        while True:
            self.mark()
            try:
                line = next(self)
            except StopIteration:
                return
            except LineTooLong:
                yield self.number, None
            else:
                if line.strip():
                    yield self.number, line

    def __next__(self) -> str:
        line = self._put_back.popleft() if self._put_back else self._read()
        if not line:
            raise StopIteration
        self.number += 1
        self.taken.append(line)
        self._quotes += line.count('"')
        self._length += len(line)
        if self._length > self._chars_max:
            what = (
                "line is"
                if len(self.taken) == 1
                else "record, including its quoted line breaks, is"
            )
            raise LineTooLong(f"the {what} longer than {self._chars_max:,} characters")
        return line

    def mark(self) -> None:
        """Begin a record."""
        self.taken = []
        self._quotes = self._length = 0

    def read_over_quoted(self) -> None:
        """Skip to the end of the record; quoted line breaks belong to its data.

        Raises:
            Damaged: its quotes are not closed.
        """
        first, left = self.number - len(self.taken) + 1, GIVEN_UP_CHARS
        while self._quotes % 2:
            line = self._put_back.popleft() if self._put_back else self._read()
            left -= len(line)
            if not line or left < 0:
                raise Damaged(f"a quote opened in line {first} is never closed")
            self.number += 1
            self._quotes += line.count('"')

    def only_first(self) -> None:
        """Let the record be its first line alone, and give the others again."""
        self._put_back.extendleft(reversed(self.taken[1:]))
        self.number -= len(self.taken) - 1
        self.taken = self.taken[:1]

    def _read(self) -> str:
        begun, self._begun = self._begun, ""
        line = begun + self._stream.readline(self._chars_max + 1 - len(begun))
        if len(line) > self._chars_max:
            self._read_over()
        return line

    def _read_over(self) -> None:
        left = GIVEN_UP_CHARS
        while rest := self._stream.readline(LINE_CHARS_MAX):
            self._quotes += rest.count('"')
            if rest.endswith(("\n", "\r")):
                return
            left -= len(rest)
            if left < 0:
                raise Damaged(f"line {self.number + 1} does not end")


class Ahead:
    """A text whose start was read already."""

    def __init__(self, start: str, rest: IO[str] | Ahead) -> None:
        self._start, self._rest = io.StringIO(start, newline=""), rest

    def read(self, size: int) -> str:
        """Return at most so many characters; an empty text at the end."""
        chunk = self._start.read(size)
        return chunk + self._rest.read(size - len(chunk)) if len(chunk) < size else chunk

    def readline(self, size: int) -> str:
        """Return a line with its end, or at most so many characters of it."""
        line = self._start.readline(size)
        if line.endswith("\n") or len(line) == size:
            return line
        return line + self._rest.readline(size - len(line))


def elements(
    stream: IO[str] | Ahead,
    chars_max: int | None = None,
    behind: str = "",
    start: Place = START,
) -> Iterator[tuple[str | None, Place]]:
    """Give the text of each element of a JSON array whose `[` was read, and its place; None for one that is too long.

    An element is cut out by its brackets, and need be no sound JSON for the next ones to be found.

    Args:
        stream: the text.
        chars_max: length of the longest element that is given; LINE_CHARS_MAX unless set.
        behind: what stands behind the array, between spaces.
        start: where the stream goes on in its file.

    Raises:
        Damaged: the text ends before the array does, goes on behind it, or has an element that does not end.
    """
    cut = _Cut(chars_max or LINE_CHARS_MAX, start)
    count = depth = 0
    inside = False
    while chunk := stream.read(_CHUNK):
        # What a backslash escapes belongs to it.
        while _ends_open(chunk) and (more := stream.read(1)):
            chunk += more
        begin = at = 0
        while found := (_IN_TEXT if inside else _OUTSIDE).search(chunk, at):
            mark, at = found[0], found.end()
            if mark == '"':
                inside = not inside
            elif inside or mark[0] == '"':
                continue
            elif mark in "[{":
                depth += 1
            elif depth and mark in "]}":
                depth -= 1
            elif not depth:
                cut.add(chunk[begin : at - 1])
                begin, element = at, cut.take(mark)
                is_end = mark != ","
                if not (is_end and count == 0 and element[0] == ""):
                    count += 1
                    yield element
                if is_end:
                    _check_end(mark, chunk[begin:], stream, behind)
                    return
        cut.add(chunk[begin:])
    raise Damaged("the text ends inside the array")


def _ends_open(chunk: str) -> bool:
    return (len(chunk) - len(chunk.rstrip("\\"))) % 2 == 1


class _Cut:
    """An element of an array as it is read, of bounded length."""

    def __init__(self, chars_max: int, start: Place) -> None:
        self._chars_max = chars_max
        self._parts: list[str] = []
        self._length = 0
        self._start = self._place = start

    def add(self, part: str) -> None:
        self._length += len(part)
        self._place = self._place.behind(part)
        if self._length <= self._chars_max:
            self._parts.append(part)
        elif self._length > GIVEN_UP_CHARS:
            raise Damaged("an element of the array does not end")
        else:
            self._parts.clear()

    def take(self, mark: str) -> tuple[str | None, Place]:
        """Return the element that ends before a mark, and where it starts."""
        text, start = None, self._start
        if self._length <= self._chars_max:
            whole = "".join(self._parts)
            text = whole.strip()
            start = start.behind(whole[: len(whole) - len(whole.lstrip())])
        self._parts, self._length = [], 0
        self._start = self._place = self._place.behind(mark)
        return text, start


def _check_end(mark: str, rest: str, stream: IO[str] | Ahead, behind: str) -> None:
    if mark != "]":
        raise Damaged("the array is closed by the wrong bracket")
    found = rest.strip()
    while len(found) <= len(behind) and (rest := stream.read(_CHUNK)):
        found += rest.strip()
    if found != behind:
        raise Damaged("something follows after the array" if found else "its end is missing")
