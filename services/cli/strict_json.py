"""JSON read without a guess: numbers keep their text, and what has two readings is refused."""

from __future__ import annotations

import json
from typing import Any, Never

from services.runtime import documents


class Number(str):
    """A number, as it was written."""

    __slots__ = ()


_KINDS: dict[type, str] = {
    Number: "a number",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
}


def decode(text: str) -> Any:
    """Read a JSON text.

    Raises:
        ValueError: it is none, or has two readings.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error


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
