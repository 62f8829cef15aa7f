"""JSON read without a guess: numbers keep their text, and what has two readings is refused."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, Never

from services.runtime import documents


class Number(str):
    """A number, as it was written."""

    __slots__ = ()


class Place(NamedTuple):
    """Where a text stands in its file; line and column count from 1."""

    line: int = 1
    column: int = 1

    def behind(self, text: str) -> Place:
        """Return the place behind a text that starts here."""
        lines = text.count("\n")
        if not lines:
            return Place(self.line, self.column + len(text))
        return Place(self.line + lines, len(text) - text.rindex("\n"))


START = Place()
_HALF_A_PAIR = "it has an escape that is half a surrogate pair, such as \\ud800"
_MAYBE_HALF = re.compile(r"\\u[dD][89a-fA-F]")
# What Python's reader says, by how it begins, and what that means.
_WORDS = {
    "Expecting value": "a value should stand",
    "Expecting property name": "a name in double quotes should stand",
    "Expecting ':'": "a colon should stand",
    "Expecting ','": "a comma, or the end of a list or an object, should stand",
    "Extra data": "something follows behind its end",
    "Unterminated string": "a text begins that has no closing quote",
    "Invalid control": "a text holds a control character, such as a line break, that is no escape",
    "Invalid \\": "a text holds a backslash that begins no escape of JSON",
    "Illegal trailing comma": "a comma stands that nothing follows",
}
_KINDS: dict[type, str] = {
    Number: "a number",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
}


def decode(text: str, start: Place | None = START) -> Any:
    """Read a JSON text.

    Args:
        text: what is read.
        start: where it stands in its file; None for what is a line's own, such as a cell.

    Raises:
        ValueError: it is none, or has two readings; says what is wrong and, where that is known, in which line.
    """
    try:
        value = _DECODER.decode(text)
        if _MAYBE_HALF.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError(_HALF_A_PAIR) from error
    except json.JSONDecodeError as error:
        raise ValueError(_said(error, text, start)) from error
    return value


def _said(error: json.JSONDecodeError, text: str, start: Place | None) -> str:
    if not text.strip():
        return "it is empty"
    words = (ours for theirs, ours in _WORDS.items() if error.msg.startswith(theirs))
    what = next(words, "it cannot be read")
    if start is None:
        return f"{what} at its character {error.pos + 1}"
    found = start.behind(text[: error.pos])
    return f"{what} at line {found.line}, column {found.column}"


def name_of(value: object) -> str:
    """Say what a value is, to people."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _KINDS.get(type(value), "null")


def _refuse(constant: str) -> Never:
    raise ValueError(f"{constant} is no JSON number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=documents.unique, parse_float=Number, parse_int=Number, parse_constant=_refuse
)
