"""Reads a file strictly: what is ambiguous, or larger than an export can be, is refused before it is worked on."""

from __future__ import annotations

import json
import re
from typing import Any, Never

FORMAT = "tollmesh.explanation.v1"

BYTES_MAX = 32 * 1024 * 1024
# Brackets and braces that open; an export of the largest size has a tenth of it.
CONTAINERS_MAX = 2_000_000
VALUES_MAX = 4_000_000
DEPTH_MAX = 24
_DIGITS_MAX = 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Refused(Exception):
    """A file is no export that can be verified; the message says why, in plain words."""


def parse(content: bytes) -> dict[str, Any]:
    """Read an export.

    Raises:
        Refused: it is none.
    """
    _measure(content)
    try:
        tree = _DECODER.decode(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Refused(f"it is not UTF-8 at byte {error.start + 1}") from error
    except RecursionError as error:
        raise Refused("it is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise Refused(
            f"it is not JSON: {_words(error.msg)} at line {error.lineno}, column {error.colno}"
        ) from error
    if not isinstance(tree, dict):
        raise Refused("it holds no JSON object")
    _check_depth(tree)
    return tree


def shown(value: object) -> str:
    """Write a value of a file for people: short, and with nothing that a terminal would obey."""
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) > 80:
        text = f"{text[:77]}..."
    return printable(text)


def printable(text: str) -> str:
    """Escape what a terminal would obey."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def path_below(path: str, key: str) -> str:
    """Return the path of a value of an object."""
    if _NAME.fullmatch(key):
        return f"{path}.{key}" if path else key
    return f"{path}[{json.dumps(key)}]"


def _measure(content: bytes) -> None:
    if len(content) > BYTES_MAX:
        raise Refused(f"it is larger than {BYTES_MAX // 1024 // 1024} MiB")
    if not content.strip():
        raise Refused("it is empty")
    if content.count(b"[") + content.count(b"{") > CONTAINERS_MAX:
        raise Refused("it has more lists and objects than any export")
    if content.count(b",") > VALUES_MAX:
        raise Refused("it has more values than any export")


def _words(message: str) -> str:
    return message[:1].lower() + message[1:]


def _whole(text: str) -> int:
    if len(text) > _DIGITS_MAX:
        raise Refused(f"it has a number of {len(text)} characters: {shown(text)}")
    if text == "-0":
        raise Refused("it has the number -0")
    return int(text)


def _no_float(text: str) -> Never:
    raise Refused(
        f"it has the number {shown(text)}: numbers with a point or an exponent are texts here"
    )


def _no_constant(text: str) -> Never:
    raise Refused(f"it has {text}, which is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Refused(f"the key {shown(key)!r} stands twice in one object")
            seen.add(key)
    for key, value in pairs:
        for text in (key, value):
            if isinstance(text, str):
                _check_text(text)
    return found


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused("it has half of a surrogate pair") from error


def _check_depth(tree: object) -> None:
    level = [tree]
    for _ in range(DEPTH_MAX):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list):
                below += item
                for each in item:
                    if isinstance(each, str):
                        _check_text(each)
        if not below:
            return
        level = below
    raise Refused(f"it is nested deeper than {DEPTH_MAX} levels")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_whole, parse_float=_no_float, parse_constant=_no_constant
)
