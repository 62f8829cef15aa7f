"""Tables for people, JSON for programs."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import sys
import tempfile
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, tzinfo
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import IO, Annotated, Any, cast

import typer
from google.protobuf import descriptor_pool, json_format
from google.protobuf.any_pb2 import Any as Any_
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import BytesValue
from payments.type.v1 import type_pb2
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from services.cli.asked import document
from services.cli.errors import EXIT_USAGE, CliError
from services.runtime.money import Money, format_money


class Format(StrEnum):
    """How a command prints."""

    TABLE = "table"
    JSON = "json"


# How protobuf says that it cannot write a message as JSON.
_UNSAYABLE = (DecodeError, TypeError, ValueError, json_format.Error)

OutputOption = Annotated[
    Format, typer.Option("--output", "-o", help="table for people, json for programs")
]

# Without a terminal there is no width to keep to; 80 columns would fold ids.
_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="do it without asking")]
LimitOption = Annotated[int, typer.Option("--limit", min=0, help="maximum number; 0 lists all")]

_TEXT_WIDTH_MIN = 16
# What a document or a table of any number of items holds in memory.
_DOCUMENT_BYTES_IN_MEMORY = 4 * 1024 * 1024
_TABLE_ROWS_MAX = 1_000
_COPY_CHARS = 65_536


class ReaderGone(Exception):
    """Who read our standard output has closed it; nothing more can be printed."""


def leave_reader() -> None:
    """Send to nobody what is left for standard output, so that the process ends without a further fault."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let `main` end the command, which Rich would do with an exit code of its own."""
        raise ReaderGone


# Without emoji, because `:warning:` in a value is a text.
console = _Console(width=_WIDTH, emoji=False)
progress_console = Console(stderr=True, emoji=False)


def show_error(error: CliError) -> None:
    """Print an error on standard error: message, reason, and what to do next, a line each.

    To a program that waits for a document it is printed on standard output too, unless the command's result is there.
    """
    _show_error(error)
    if document.wanted and not document.printed:
        try:
            print_json(error.as_dict())
        except ReaderGone:
            leave_reader()


def _show_error(error: CliError) -> None:
    line = Text.assemble(("error:", "bold red"), " ", _as_lines(error.message))
    if error.reason:
        line.append(f" ({printable(error.reason)})", style="dim")
    progress_console.print(line, highlight=False, soft_wrap=True)
    for below in error.lines():
        progress_console.print(Text(f"  {_as_lines(below)}"), highlight=False, soft_wrap=True)


def confirm(what: str, *, yes: bool) -> None:
    """Ask a person whether to do what cannot be undone, unless the command says yes.

    Args:
        what: what is about to happen, a sentence.
        yes: the command line says that it is meant.

    Raises:
        CliError: the answer is no, or there is no terminal to ask at.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and progress_console.is_terminal):
        raise CliError(
            f"{what}: this needs a confirmation, and there is no terminal to ask at",
            "add --yes to the command if it is meant",
            exit_code=EXIT_USAGE,
        )
    progress_console.print(Text(f"{printable(what)}. Continue? [y/N] "), end="", soft_wrap=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CliError("not confirmed: nothing was done")


def note(text: str) -> None:
    """Print on standard error what a person should know and no program needs."""
    progress_console.print(Text(printable(text)), highlight=False, soft_wrap=True, style="dim")


def say(*parts: str | Text, style: str = "") -> None:
    """Print a line. Texts are shown as they are, without markup, and nothing of them reaches the terminal's control."""
    line = Text(style=style)
    for part in parts:
        line.append_text(part if isinstance(part, Text) else Text(printable(part)))
    console.print(line, highlight=False, soft_wrap=True)


def bold(text: str, style: str = "bold") -> Text:
    """Give a part of a line a style of its own."""
    return Text(printable(text), style=style)


def printable(text: str) -> str:
    """Escape what a terminal would obey or not show: control characters, changes of direction, undecoded bytes."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()


def _as_lines(text: str) -> str:
    """Escape a text of several lines; what follows the first cannot be taken for a line of ours."""
    return "\n    ".join(map(printable, text.split("\n")))


def print_json(value: Message | dict[str, Any] | Sequence[Any], *, more: bool = False) -> None:
    """Print one JSON document; messages in the proto's own spelling.

    Args:
        value: what is printed.
        more: it is a line of many, among which an error is one more.
    """
    plain = as_dict(value) if isinstance(value, Message) else value
    document.printed = not more
    try:
        sys.stdout.write(_json(plain) + "\n")
        sys.stdout.flush()
    except UnicodeEncodeError:
        # Under a locale without UTF-8, and for undecoded bytes.
        sys.stdout.write(json.dumps(plain) + "\n")
    except BrokenPipeError as error:
        raise ReaderGone from error


class JsonWriter:
    """One JSON object of any size: lists item by item, and other members. It is printed once it is whole.

    Use as a context manager; a failure inside of it prints nothing. What is more than a few megabytes is kept in a file
    without a name until then.
    """

    def __init__(self) -> None:
        self._kept = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed with this
            max_size=_DOCUMENT_BYTES_IN_MEMORY, mode="w+", encoding="utf-8", newline=""
        )
        self._members = 0
        self._is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")

    def __enter__(self) -> JsonWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._kept:
            if kind is None:
                self._print()

    def add_list(self, name: str, items: Iterable[Message | dict[str, Any]]) -> None:
        """Add a member that is a list."""
        self._begin(name)
        self._write("[")
        for number, item in enumerate(items):
            plain = as_dict(item) if isinstance(item, Message) else item
            self._write((", " if number else "") + self._text(plain))
        self._write("]")

    def add(self, name: str, value: Any) -> None:
        """Add a member with a plain value."""
        self._begin(name)
        self._write(self._text(value))

    def _begin(self, name: str) -> None:
        self._write((", " if self._members else "{") + json.dumps(name) + ": ")
        self._members += 1

    def _text(self, plain: Any) -> str:
        return _json(plain) if self._is_unicode else json.dumps(plain)

    def _write(self, text: str) -> None:
        try:
            self._kept.write(text)
        except OSError as error:
            raise no_room(error) from error

    def _print(self) -> None:
        self._write("}\n" if self._members else "{}\n")
        copy_out(self._kept)


def no_room(error: OSError) -> CliError:
    """Return the error of an answer that found no room for its file."""
    return CliError(
        f"cannot keep the answer until it is whole: {error.strerror or error}",
        f"make room in {tempfile.gettempdir()}, or name another folder in TMPDIR",
    )


def copy_out(kept: IO[str]) -> None:
    """Print a text that was kept in a file, as the command's result."""
    document.printed = True
    try:
        kept.seek(0)
        while chunk := kept.read(_COPY_CHARS):
            sys.stdout.write(chunk)
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise ReaderGone from error


def print_line(text: str) -> None:
    """Print a line that holds nothing a terminal would obey, as it is."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except UnicodeEncodeError:  # under a locale without UTF-8
        sys.stdout.write(text.encode("ascii", "backslashreplace").decode() + "\n")
    except BrokenPipeError as error:
        raise ReaderGone from error


def _json(plain: Any) -> str:
    """Write JSON that means the same to programs, and that no terminal obeys."""
    text = json.dumps(plain, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def as_dict(
    message: Message, *, zeros: bool = True, pool: DescriptorPool | None = None
) -> dict[str, Any]:
    """Render a message as JSON does, with the proto's field names and, unless told otherwise, every scalar field.

    What an Any holds of a later release, or that JSON cannot say, is rendered as its bytes:
    `{"@type": …, "value": <Base64>}`. What stands in an Any is looked up in `pool`; in this release's unless given.
    """
    known = pool or descriptor_pool.Default()
    render = partial(
        json_format.MessageToDict,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=zeros,
    )
    try:
        return render(message, descriptor_pool=known)
    except _UNSAYABLE:
        copied = copy.deepcopy(message)
        urls = {found.type_url for found in _any_messages(copied) if _is_opaque(found, known)}
        opaque = _Opaque(urls, known)
        for found in _any_messages(copied):
            if found.type_url in opaque.urls:
                found.value = BytesValue(value=found.value).SerializeToString()
        return render(copied, descriptor_pool=cast("DescriptorPool", opaque))


class _Opaque:
    """Descriptors by name, for which an opaque type is a message of bytes."""

    def __init__(self, urls: set[str], known: DescriptorPool) -> None:
        self.urls, self._known = urls, known
        self._names = {url.rpartition("/")[2] for url in urls}

    def FindMessageTypeByName(self, name: str) -> Any:  # noqa: N802 - as protobuf calls it
        if name in self._names:
            return BytesValue.DESCRIPTOR
        return self._known.FindMessageTypeByName(name)


def _is_opaque(found: Any_, known: DescriptorPool) -> bool:
    try:
        json_format.MessageToDict(found, descriptor_pool=known)
    except _UNSAYABLE:
        return True
    return False


def _any_messages(message: Message) -> Iterator[Any_]:
    # By its name: a server's own description makes classes of its own.
    if message.DESCRIPTOR.full_name == Any_.DESCRIPTOR.full_name:
        yield cast("Any_", message)
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            is_message = field.message_type.fields_by_name["value"].message_type is not None
            items = list(value.values()) if is_message else []
        else:
            items = value if field.is_repeated else [value]
        for item in items:
            yield from _any_messages(item)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[str] = (),
    optional: Iterable[str] = (),
) -> None:
    """Print a table; columns named in `right` are numbers. What is too wide is printed cell by cell.

    Columns named in `optional` are left out when all their cells are empty. Without a row it says so: the columns alone
    would leave open whether anything was looked for.
    """
    if title:
        say(title, style="bold")
    shown = [[printable(cell) for cell in row] for row in rows]
    if not shown:
        say("nothing found")
        return
    columns, shown = _without_empty(columns, shown, set(optional))
    # Names and ids keep their line, so that they can be copied; text gives way.
    solid = [not any(" " in row[index] for row in shown) for index in range(len(columns))]
    headings = list(columns)
    if _width_min(headings, shown, solid) > console.width:
        headings = [_folded(column, index, shown) for index, column in enumerate(columns)]
        if _width_min(headings, shown, solid) > console.width:
            _print_records(columns, shown)
            return
    table = Table()
    numbers = set(right)
    for column, heading, whole in zip(columns, headings, solid, strict=True):
        justify: JustifyMethod = "right" if column in numbers else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=whole)
    for row in shown:
        table.add_row(*map(Text, row))
    console.print(table)


def _without_empty(
    columns: Sequence[str], rows: list[list[str]], optional: Collection[str]
) -> tuple[Sequence[str], list[list[str]]]:
    """Leave out the optional columns in which nothing stands."""
    kept = [
        index
        for index, column in enumerate(columns)
        if column not in optional or any(row[index] for row in rows)
    ]
    return [columns[index] for index in kept], [[row[index] for index in kept] for row in rows]


def print_tables(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    optional: Collection[str] = (),
) -> None:
    """Print rows of any number: as one table, or as several when they are many."""
    left = iter(rows)
    shown = list(islice(left, _TABLE_ROWS_MAX))
    print_table("", columns, shown, right=right, optional=optional)
    while shown := list(islice(left, _TABLE_ROWS_MAX)):
        print_table("", columns, shown, right=right, optional=optional)


def _folded(heading: str, index: int, rows: Sequence[Sequence[str]]) -> str:
    """Break a heading where its column would be wider than what stands below it."""
    width = max(cell_len(row[index]) for row in rows)
    return textwrap.fill(heading, max(width, 1), break_long_words=False)


def _width_min(
    headings: Sequence[str], rows: Sequence[Sequence[str]], solid: Sequence[bool]
) -> int:
    """Columns of a terminal below which a table would cut what may not wrap, or squeeze a text."""
    width = 3 * len(headings) + 1
    for index, heading in enumerate(headings):
        widest = max(cell_len(text) for row in rows for text in (row[index], *heading.split("\n")))
        width += widest if solid[index] else min(widest, _TEXT_WIDTH_MIN)
    return width


def _print_records(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a line a cell, for a terminal that is too narrow for the table."""
    for number, row in enumerate(rows):
        if number:
            console.print()
        record = Table.grid("name", "cell", padding=(0, 2))
        for column, cell in zip(columns, row, strict=True):
            if cell:
                record.add_row(Text(column, style="bold"), Text(cell))
        record.columns[0].no_wrap = True
        record.columns[1].overflow = "fold"
        console.print(record, highlight=False)


def money(amount: type_pb2.Money) -> str:
    """Write an amount with its currency: `56.84 USD`; `-` when there is none."""
    if not amount.currency_code:
        return "-"
    return f"{plain_money(amount)} {amount.currency_code}"


def plain_money(amount: type_pb2.Money) -> str:
    """Write an amount as a decimal string: `56.84`."""
    return format_money(Money(amount.currency_code, amount.minor_units))


def when(timestamp: Timestamp) -> str:
    """Write a time in UTC, to the second; empty when unset."""
    if not timestamp.seconds and not timestamp.nanos:
        return ""
    return f"{timestamp.ToDatetime():%Y-%m-%d %H:%M:%S}"


def when_in(zone: tzinfo, timestamp: Timestamp) -> str:
    """Write a time in a zone, with the zone's offset then: `2026-03-29 00:00:00+01:00`."""
    moment = timestamp.ToDatetime(tzinfo=UTC)
    with contextlib.suppress(OverflowError):  # at the ends of the calendar
        moment = moment.astimezone(zone)
    return moment.isoformat(" ")


def enum_name(message: Message, field: str) -> str:
    """Return the value of an enum field in lower case, without the prefix that the enum's values share."""
    descriptor = message.DESCRIPTOR.fields_by_name[field].enum_type
    assert descriptor is not None, f"{field} is no enum"
    number = getattr(message, field)
    value = descriptor.values_by_number.get(number)
    if value is None:
        return f"unknown ({number})"
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(value.name).removeprefix(prefix).lower()
