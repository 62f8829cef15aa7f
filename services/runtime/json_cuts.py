"""Cuts the JSON of a body into its events without touching the text of what stands in them.

A body is cut by its brackets and texts alone, so that an event that does not read (a number that no memory holds, half
a surrogate pair, bytes that are no UTF-8) is told by itself and takes no other with it. The work grows with the body:
it belongs into a process of its own (`workers`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from services.runtime import strict_json
from services.runtime.errors import BatchTooLarge, DomainError, InvalidField
from services.runtime.strict_json import DECODER

# More than any event has, so that what lies beyond is told without being read.
MEMBERS_MAX = 100
MEMBER_BYTES_MAX = 64 * 1024

_SPACE = re.compile(rb"[ \t\n\r]*")
# All of these take what they took: none tries again with less, so that each is linear.
TEXT = re.compile(rb'"(?>[^"\\]+|\\.)*+"', re.DOTALL)
_PLAIN = re.compile(rb'[^"\[\]{},: \t\n\r]++')
_TO_BRACKET = re.compile(rb'(?>[^"\[\]{}]++|"(?>[^"\\]++|\\.)*+")*+[\[\]{}]', re.DOTALL)
# Finds where values end, whatever their numbers say.
_PLACES = json.JSONDecoder(parse_int=str, parse_float=str)
_OPENING = frozenset(b"[{")
_SHOWN_MAX = 128

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Fault:
    """An event of a body that does not read; `event_id` is empty when not even that does."""

    event_id: str
    error: DomainError


class NotThisForm(ValueError):
    """A body is not what it should be; the text says why."""


def bounded(places: Iterator[Place], events_max: int) -> list[Place]:
    """List the places of the events, up to the first that is too much. Raises BatchTooLarge."""
    found: list[Place] = []
    for place in places:
        if len(found) == events_max:
            raise BatchTooLarge(
                f"more than {events_max} events in one call; send at most {events_max}",
                items=f"more than {events_max}",
                items_max=events_max,
            )
        found.append(place)
    return found


def refusal(form: str, error: ValueError) -> InvalidField:
    """Say that a body is not of a form, and why."""
    return InvalidField.one("raw_request", f"the body must be {form}: {strict_json.explain(error)}")


def array(body: bytes) -> Iterator[Place]:
    """Give the places of the elements of a body that is an array. Raises NotThisForm."""
    start = skip(body, 0)
    if body[start : start + 1] != b"[":
        raise NotThisForm("it is not an array")
    yield from whole_array(body, start)


def an_object(body: bytes) -> Iterator[Place]:
    """Give the place of the one object that a body is. Raises NotThisForm."""
    start = skip(body, 0)
    if body[start : start + 1] != b"{":
        raise NotThisForm("it is not an object")
    end = _end(body, start)
    refuse_more(body, end)
    yield start, end


def whole_array(body: bytes, start: int) -> Iterator[Place]:
    """Give the places of the elements of an array behind which nothing stands. Raises NotThisForm."""
    elements = Elements(body, start)
    yield from elements
    refuse_more(body, elements.end)


class Elements(Iterator[Place]):
    """The places of the elements of the array that starts at a place; `end` is behind it, once they are through."""

    def __init__(self, body: bytes, start: int) -> None:
        self._body = body
        self._at = skip(body, start + 1)
        self._is_first = True
        self.end = -1

    def __next__(self) -> Place:
        if self.end >= 0:
            raise StopIteration
        if self._body[self._at : self._at + 1] == b"]":
            self.end = self._at + 1
            raise StopIteration
        if not self._is_first:
            self._at = skip(self._body, after(self._body, self._at, b","))
        self._is_first = False
        start, end = self._at, _end(self._body, self._at)
        self._at = skip(self._body, end)
        return start, end


def decoded(
    text: bytes, members: Mapping[str, Place], payloads: Collection[str] = ()
) -> dict[str, Any]:
    """Read what stands around a payload; members of `payloads` may be large. Raises ValueError, InvalidField."""
    for name, (start, end) in members.items():
        if end - start > MEMBER_BYTES_MAX and name not in payloads:
            raise InvalidField.one(
                name[:100],
                f"is {end - start:,} bytes long; only a payload may have more than {MEMBER_BYTES_MAX:,}",
                strict_json.pointer([name[:100]]),
            )
    return {name: DECODER.decode(text[s:e].decode()) for name, (s, e) in members.items()}


def members_of(text: bytes) -> dict[str, Place]:
    """Return the place of each member's value, by name. Raises ValueError."""
    if text[:1] != b"{":
        raise ValueError("it must be an object")
    found: dict[str, Place] = {}
    at = skip(text, 1)
    while text[at : at + 1] != b"}":
        if found:
            at = skip(text, after(text, at, b","))
        name = TEXT.match(text, at)
        if name is None:
            raise NotThisForm(f"it isn't valid JSON at byte {at}")
        start = skip(text, after(text, skip(text, name.end()), b":"))
        end = _end(text, start)
        known = name_of(name[0])
        if known in found:
            raise ValueError(f"the name {known[:100]!r} appears twice in one object")
        if len(found) == MEMBERS_MAX:
            raise ValueError(f"it has more than {MEMBERS_MAX} members, more than an event can have")
        found[known] = (start, end)
        at = skip(text, end)
    return found


def id_of(text: bytes, members: Mapping[str, Place]) -> str:
    """Return the id of an event that does not read, as far as it does itself."""
    if "id" not in members:
        return ""
    start, end = members["id"]
    try:
        found = DECODER.decode(text[start:end].decode())
        if not isinstance(found, str):
            return ""
        found.encode()  # half a surrogate pair is no text that an answer can carry
    except (ValueError, RecursionError):
        return ""
    return found[:_SHOWN_MAX]


def _end(text: bytes, start: int) -> int:
    """Return where the value that starts at a place ends. Raises NotThisForm."""
    try:
        # Byte for byte a character, so that places are the same; the marks of JSON are ASCII.
        return _PLACES.raw_decode(_characters(text), start)[1]
    except (ValueError, RecursionError):
        return _end_by_brackets(text, start)


def _end_by_brackets(text: bytes, start: int) -> int:
    """Return where a value ends that is no JSON, told by brackets and quotes. Raises NotThisForm."""
    first = text[start : start + 1]
    if first in (b"[", b"{"):
        level, at = 0, start
        while True:
            found = _TO_BRACKET.match(text, at)
            if found is None:
                raise NotThisForm(f"the value that begins at byte {start} does not end")
            at = found.end()
            level += 1 if text[at - 1] in _OPENING else -1
            if level == 0:
                return at
    found = (TEXT if first == b'"' else _PLAIN).match(text, start)
    if found is None:
        raise NotThisForm(f"it isn't valid JSON at byte {start}")
    return found.end()


@lru_cache(maxsize=2)
def _characters(text: bytes) -> str:
    return text.decode("latin-1")


def name_of(text: bytes) -> str:
    """Read the name of a member. Raises ValueError."""
    found = str(json.loads(text.decode()))
    found.encode()
    return found


def after(text: bytes, at: int, mark: bytes) -> int:
    """Return the place behind a mark. Raises NotThisForm."""
    at = skip(text, at)
    if text[at : at + 1] != mark:
        raise NotThisForm(f"it isn't valid JSON at byte {at}: {mark.decode()!r} is expected")
    return at + 1


def skip(text: bytes, at: int) -> int:
    """Return the next place without white space."""
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def refuse_more(body: bytes, at: int) -> None:
    """Refuse what stands behind the end of a body. Raises NotThisForm."""
    at = skip(body, at)
    if at < len(body):
        raise NotThisForm(f"something follows after its end, at byte {at}")
