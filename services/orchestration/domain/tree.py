"""A JSON text as a tree that hides nothing: duplicate keys and the digits of numbers survive.

Total: any bytes give a tree or a finding, never an exception.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from services.orchestration.domain.issues import Findings

BYTES_MAX = 256 * 1024
DEPTH_MAX = 32
# A text of more digits than this is no amount; the limit also keeps conversions cheap.
NUMBER_DIGITS_MAX = 600
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number, by its text. `NaN`, `Infinity` and `-Infinity` are possible.

    Attributes:
        written: False when the text is ours, since the sender's digits were lost on the way.
        rounded: True when it is a whole number that may have been another one before.
    """

    text: str
    written: bool = True
    rounded: bool = False


@dataclass(frozen=True, slots=True)
class Object:
    """A JSON object with every pair in the order of the text, duplicates included."""

    pairs: tuple[tuple[str, Tree], ...]


Tree = Object | list["Tree"] | Number | str | bool | None


def read(data: bytes, findings: Findings) -> Object | None:
    """Read a JSON object from bytes; None, and a finding that refuses, when there is none."""
    if len(data) > BYTES_MAX:
        findings.refuse(
            "",
            "REQUEST_TOO_LARGE",
            f"the request has {len(data)} bytes; the limit is {BYTES_MAX}",
        )
        return None
    text = _text(data, findings)
    if depth(text) > DEPTH_MAX:
        findings.refuse(
            "", "NESTED_TOO_DEEP", f"the request is nested deeper than {DEPTH_MAX} levels"
        )
        return None
    tree = _parse(text, findings)
    if tree is not None and not isinstance(tree, Object):
        findings.refuse("", "NOT_AN_OBJECT", "the request is JSON but no object")
        return None
    return tree


def depth(text: str) -> int:
    """Return how deep the brackets outside of strings nest."""
    level = deepest = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        if match[0] in "[{":
            level += 1
            deepest = max(deepest, level)
        elif match[0] in "]}":
            level -= 1
    return deepest


def _text(data: bytes, findings: Findings) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        findings.warn(
            "",
            "NOT_UTF8",
            f"byte {error.start} is not valid UTF-8; unreadable characters became U+FFFD",
        )
        text = data.decode("utf-8", errors="replace")
    if text.startswith("\ufeff"):
        findings.info("", "BYTE_ORDER_MARK", "the request starts with a byte order mark")
        text = text[1:]
    return text


def _parse(text: str, findings: Findings) -> Tree:
    if not text.strip():
        findings.refuse("", "EMPTY_REQUEST", "the request is empty")
        return None
    try:
        tree: Tree = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_number,
            parse_float=_number,
            parse_constant=_number,
        )
    except (ValueError, RecursionError) as error:
        where = ""
        if isinstance(error, json.JSONDecodeError):
            where = f" at line {error.lineno}, column {error.colno}"
        findings.refuse("", "MALFORMED_JSON", f"the request isn't valid JSON{where}")
        return None
    if tree is None:
        findings.refuse("", "NOT_AN_OBJECT", "the request is JSON but no object")
    return tree


def _object(pairs: list[tuple[str, Tree]]) -> Object:
    return Object(tuple(pairs))


def _number(text: str) -> Number:
    # Truncating changes the value, but a text this long is refused as an amount for its length alone.
    return Number(text[:NUMBER_DIGITS_MAX])
