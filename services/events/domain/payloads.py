"""JSON of outside producers: read strictly, so that it means the same to every reader.

A document with two readings (a name that stands twice, NaN, half a surrogate pair) is refused. No number passes
through a float: what is compared and checked is its own text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from services.runtime.errors import Code, DomainError

DEPTH_MAX = 64
# A few characters can name a number that fills any memory once it is compared.
NUMBER_CHARS_MAX = 1000
EXPONENT_MAX = 1000


class PayloadInvalid(DomainError):
    """A payload isn't valid JSON, or doesn't match its schema."""

    code = Code.INVALID_ARGUMENT
    reason = "EVENT_PAYLOAD_INVALID"
    state_dependent = True
    pointer: str


def read(text: bytes) -> Any:
    """Read a JSON document; fractions become decimals.

    Raises:
        PayloadInvalid: it is none, or has two readings, or nests deeper than 64.
    """
    try:
        value = DECODER.decode(text.decode())
        checked(value)
    except (ValueError, RecursionError) as error:
        raise PayloadInvalid(
            f"the payload isn't valid JSON: {explain(error)}", pointer=""
        ) from error
    return value


def checked(value: Any) -> None:
    """Refuse what no reader could take. Raises ValueError."""
    if depth(value) > DEPTH_MAX:
        raise ValueError(f"it is nested deeper than {DEPTH_MAX}")
    canonical(value)


def canonical(value: Any) -> bytes:
    """Return the one text of a document, whatever order and spacing it was written in.

    Raises:
        ValueError: a text holds half a surrogate pair.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_number
    ).encode()


def depth(value: Any) -> int:
    """Return how deep a document nests; a plain value counts 0."""
    deepest, level = 0, [value]
    while level := [child for item in level for child in _children(item)]:
        deepest += 1
        if deepest > DEPTH_MAX:
            break
    return deepest


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


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _number(value: object) -> dict[str, str]:
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} is not a JSON type")
    # An object, so that the text "1.5" and the number 1.5 differ.
    return {"\0number": str(value)}


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
