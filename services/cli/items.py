"""Items in files that people write: a list of them, an object that holds it, one item, or one per line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO, TypeVar

from google.protobuf.message import Message

from services.cli import streams, strict_json
from services.cli.documents import parse_document
from services.cli.errors import EXIT_USAGE, CliError
from services.runtime import documents
from services.runtime.edge import json_messages

# A payload of an event may weigh 1 MiB; the event around it needs room.
ITEM_CHARS_MAX = 2 * 1024 * 1024
_HEAD_CHARS = 4_096
_YAML = frozenset({".yaml", ".yml"})

# A text that may be too long, and where it starts.
_Placed = tuple[str | None, strict_json.Place]
_MessageT = TypeVar("_MessageT", bound=Message)


@dataclass(frozen=True, slots=True)
class ItemText:
    """An item of a file.

    Attributes:
        body: its text, unchanged.
        line: where it starts, from 1.
        problem: why it is not used; empty when it can be.
    """

    body: bytes
    line: int
    problem: str = ""


def texts(stream: IO[str] | streams.Ahead, name: str) -> Iterator[ItemText]:
    """Split a text of JSON into items; each keeps its text.

    Args:
        stream: the text.
        name: key under which an object holds the list, e.g. `events`.

    Raises:
        CliError: it isn't valid JSON, or is cut off.
    """
    try:
        yield from map(_checked, _texts(stream, name))
    except streams.Damaged as error:
        raise CliError(f"the file isn't valid JSON: {error}", exit_code=EXIT_USAGE) from error


def messages(file: str, name: str, kind: type[_MessageT]) -> Iterator[_MessageT]:
    """Read the messages of a file: YAML, JSON or JSON Lines, optionally gzipped.

    JSON is read item by item, whatever its length. YAML is what starts with neither a brace nor a bracket, or whose
    name says so.

    Args:
        file: its name; - for standard input.
        name: key under which an object holds the list, e.g. `transfers`.
        kind: what its items are.

    Raises:
        CliError: it cannot be read; an item is none, whose place is named, and those before it were given.
    """
    with _opened(file) as stream:
        start = _start_of(stream)
        whole = streams.Ahead(start, stream)
        is_named_yaml = PurePath(file).suffix.lower() in _YAML
        if is_named_yaml or start[-1:] not in ("{", "["):
            content = whole.read(documents.BYTES_MAX + 1).encode(errors="surrogateescape")
            yield from _of_document(parse_document(content, file), file, name, kind)
            return
        for text in texts(whole, name):
            place = f"line {text.line}"
            if text.problem:
                raise CliError(f"{place} {text.problem}", exit_code=EXIT_USAGE)
            try:
                document = documents.read(text.body)
            except documents.DocumentUnfit as error:
                raise CliError(f"{place} cannot be read: {error}", exit_code=EXIT_USAGE) from error
            yield message_of(document, place, kind)


@contextmanager
def _opened(file: str) -> Iterator[IO[str]]:
    try:
        with streams.opened(file) as stream:
            yield stream
    except streams.Damaged as error:
        raise CliError(f"cannot read {file}: {error}", exit_code=EXIT_USAGE) from error


def _start_of(stream: IO[str]) -> str:
    """Read up to the first character that is no space."""
    start = ""
    while (character := stream.read(1)).isspace() and len(start) < _HEAD_CHARS:
        start += character
    return start + character


def _of_document(
    document: object, file: str, name: str, kind: type[_MessageT]
) -> Iterator[_MessageT]:
    found = document
    if isinstance(document, dict):
        found = document[name] if [*document] == [name] else [document]
    if not isinstance(found, list):
        raise CliError(
            f"{'standard input' if file == '-' else file} holds no {name}",
            f"write a list of them, or {name}: with a list below it",
            exit_code=EXIT_USAGE,
        )
    for at, item in enumerate(found):
        yield message_of(item, f"{name}[{at}]", kind)


def message_of(document: object, place: str, kind: type[_MessageT]) -> _MessageT:
    """Turn a plain document into a message. Raises CliError, which names the place."""
    what = kind.DESCRIPTOR.name
    try:
        return json_messages.parse(document, kind())
    except json_messages.NumberForText as error:
        raise CliError(
            f"{place} is not a valid {what}: {error.place} is the number {error.number}, which may have lost digits",
            f'ids, amounts and quantities are strings: write "{error.number}", with the quotes',
            exit_code=EXIT_USAGE,
        ) from error
    except json_messages.NotThisMessage as error:
        raise CliError(f"{place} is not a valid {what}: {error}", exit_code=EXIT_USAGE) from error


def _texts(stream: IO[str] | streams.Ahead, name: str) -> Iterator[_Placed]:
    start = strict_json.START
    while (first := stream.read(1)).isspace():
        start = start.behind(first)
    if first == "[":
        return streams.elements(stream, ITEM_CHARS_MAX, start=start.behind(first))
    if first != "{":
        raise streams.Damaged("it starts with neither { nor [")
    head = first + stream.read(_HEAD_CHARS)
    if found := re.match(rf'\{{\s*"{re.escape(name)}"\s*:\s*\[', head):
        rest = streams.Ahead(head[found.end() :], stream)
        start = start.behind(found[0])
        return streams.elements(rest, ITEM_CHARS_MAX, behind="}", start=start)
    return _lines_or_one(streams.Ahead(head, stream), start)


def _lines_or_one(stream: streams.Ahead, start: strict_json.Place) -> Iterator[_Placed]:
    """Give one item per line, or a single item that spans several lines."""
    begun = stream.readline(ITEM_CHARS_MAX + 1)
    if not _is_json(begun):
        begun += stream.read(ITEM_CHARS_MAX + 1 - len(begun))
        if _is_json(begun):
            yield begun, start
            return
    yield from _lines(streams.Ahead(begun, stream), start)


def _lines(stream: streams.Ahead, start: strict_json.Place) -> Iterator[_Placed]:
    lines = streams.Lines(stream, before=start.line - 1, chars_max=ITEM_CHARS_MAX)
    for number, line in lines.numbered():
        at = strict_json.Place(number, start.column if number == start.line else 1)
        if line is None:
            yield None, at
        else:
            yield line.strip(), at.behind(line[: len(line) - len(line.lstrip())])


def _is_json(text: str) -> bool:
    try:
        # Its numbers are the services' to judge, item by item.
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def _checked(placed: _Placed) -> ItemText:
    text, place = placed
    if text is None:
        return ItemText(b"", place.line, f"is longer than {ITEM_CHARS_MAX:,} characters")
    try:
        strict_json.decode(text, place)
        return ItemText(text.encode(), place.line)
    except UnicodeEncodeError:
        return ItemText(b"", place.line, "has bytes that aren't UTF-8")
    except ValueError as error:
        return ItemText(b"", place.line, f"is not valid JSON: {error}")
