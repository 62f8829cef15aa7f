"""Tables for people, JSON for programs."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, tzinfo
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, cast

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

from services.cli.errors import CliError
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

_TEXT_WIDTH_MIN = 16


class ReaderGone(Exception):
    """Who read our standard output has closed it; nothing more can be printed."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let `main` end the command, which Rich would do with an exit code of its own."""
        raise ReaderGone


# Without emoji, because `:warning:` in a value is a text.
console = _Console(width=_WIDTH, emoji=False)
progress_console = Console(stderr=True, emoji=False)


def show_error(error: CliError) -> None:
    """Print an error on standard error: message, reason, and what to do next, a line each."""
    line = Text.assemble(("error:", "bold red"), " ", _as_lines(error.message))
    if error.reason:
        line.append(f" ({printable(error.reason)})", style="dim")
    progress_console.print(line, highlight=False, soft_wrap=True)
    for hint in error.hints:
        progress_console.print(Text(f"  {_as_lines(hint)}"), highlight=False, soft_wrap=True)


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


def print_json(value: Message | dict[str, Any] | Sequence[Any]) -> None:
    """Print one JSON document; messages in the proto's own spelling."""
    plain = as_dict(value) if isinstance(value, Message) else value
    try:
        sys.stdout.write(_json(plain) + "\n")
        sys.stdout.flush()
    except UnicodeEncodeError:
        # Under a locale without UTF-8, and for undecoded bytes.
        sys.stdout.write(json.dumps(plain) + "\n")
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
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()
) -> None:
    """Print a table; columns named in `right` are numbers. What is too wide is printed cell by cell.

    Without a row it says so: the columns alone would leave open whether anything was looked for.
    """
    if title:
        say(title, style="bold")
    shown = [[printable(cell) for cell in row] for row in rows]
    if not shown:
        say("nothing found")
        return
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
