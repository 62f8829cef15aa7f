"""Strict JSON: numbers keep their text, and anything ambiguous is refused."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, Never

from services.runtime import documents


class Number(str):
    """A number, as it was written."""

    __slots__ = ()


class Place(NamedTuple):
    """Position of a text in its file; line and column count from 1."""

    line: int = 1
    column: int = 1

    def behind(self, text: str) -> Place:
        """Return the place behind a text that starts here."""
        lines = text.count("\n")
        if not lines:
            return Place(self.line, self.column + len(text))
        return Place(self.line + lines, len(text) - text.rindex("\n"))


START = Place()
_HALF_A_PAIR = "it has an escape that is only half of a surrogate pair, such as \\ud800"
_MAYBE_HALF = re.compile(r"\\u[dD][89a-fA-F]")
# How Python's messages begin, and how we word them.
_WORDS = {
    "Expecting value": "a value is expected",
    "Expecting property name": "a name in double quotes is expected",
    "Expecting ':'": "a colon is expected",
    "Expecting ','": "a comma, or the end of a list or an object, is expected",
    "Extra data": "something follows after its end",
    "Unterminated string": "a string without a closing quote begins",
    "Invalid control": "a string has an unescaped control character, such as a line break,",
    "Invalid \\": "a string has a backslash that is not a valid escape",
    "Illegal trailing comma": "there is a trailing comma",
}
_KINDS: dict[type, str] = {
    Number: "a number",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def decode(text: str, start: Place | None = START) -> Any:
    """Read a JSON text.

    Args:
        text: what is read.
        start: where it stands in its file; None for what is a line's own, such as a cell.

    Raises:
        ValueError: it isn't valid, or is ambiguous; the message says what is wrong and, if known, where.
    """
    try:
        value = _DECODER.decode(text)
        if _MAYBE_HALF.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError(_HALF_A_PAIR) from error
    except json.JSONDecodeError as error:
        raise ValueError(_explain(error, text, start)) from error
    return value


def _explain(error: json.JSONDecodeError, text: str, start: Place | None) -> str:
    if not text.strip():
        return "it is empty"
    words = (ours for theirs, ours in _WORDS.items() if error.msg.startswith(theirs))
    what = next(words, "it isn't valid")
    if start is None:
        return f"{what} at character {error.pos + 1}"
    found = start.behind(text[: error.pos])
    return f"{what} at line {found.line}, column {found.column}"


def name_of(value: object) -> str:
    """Return what kind of value it is, for messages."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _KINDS.get(type(value), "null")


def _refuse(constant: str) -> Never:
    raise ValueError(f"{constant} is not a JSON number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=documents.unique, parse_float=Number, parse_int=Number, parse_constant=_refuse
)
