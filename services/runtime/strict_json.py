"""JSON of outside producers: read strictly, so that it means the same to every reader.

A document with two readings (a name that stands twice, NaN, half a surrogate pair) is refused. No number passes
through a float: a fraction becomes the decimal that its text says.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

DEPTH_MAX = 64
# A few characters can name a number that fills any memory once it is compared.
NUMBER_CHARS_MAX = 1000
EXPONENT_MAX = 1000


def pointer(path: Sequence[str | int]) -> str:
    """Return a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def explain(error: Exception) -> str:
    """Say what is wrong with a text that does not read."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not valid UTF-8 at byte {error.start}"
    if isinstance(error, UnicodeError):
        return "it has an escape, such as \\ud800, that is only half of a surrogate pair"
    if isinstance(error, RecursionError):
        return f"it is nested deeper than {DEPTH_MAX}"
    if isinstance(error, json.JSONDecodeError):
        return f"it isn't valid JSON at line {error.lineno}, column {error.colno}"
    return str(error)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = next(name for name in times if times[name] > 1)
        raise ValueError(f"the name {twice[:100]!r} appears twice in one object")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def _whole(text: str) -> int:
    _refuse_long(text)
    return int(text)


def _fraction(text: str) -> Decimal:
    _refuse_long(text)
    try:
        value = Decimal(text)
    except InvalidOperation:  # an exponent beyond what any Decimal has
        value = None
    if value is None or abs(value.adjusted()) > EXPONENT_MAX:
        raise ValueError(
            f"the number {text[:40]} is larger than 1e{EXPONENT_MAX} or smaller than 1e-{EXPONENT_MAX}"
        )
    return value


def _refuse_long(text: str) -> None:
    if len(text) > NUMBER_CHARS_MAX:
        raise ValueError(
            f"the number {text[:20]}… has {len(text)} characters; the limit is {NUMBER_CHARS_MAX}"
        )


DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_whole, parse_float=_fraction, parse_constant=_refuse
)
