"""JSON of outside producers: read strictly, so that it means the same to every reader.

A document with two readings (a name that stands twice, NaN, half a surrogate pair) is refused. No number passes
through a float: what is compared and checked is its own text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from services.runtime.errors import Code, DomainError
from services.runtime.strict_json import DECODER, DEPTH_MAX, explain


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
