"""Reads JSON bodies, those of PublishEvents and of CloudEvents, without touching the text of the payloads.

A body is cut by its brackets and texts alone, so that an event that does not read (a number that no memory holds, half
a surrogate pair, bytes that are no UTF-8) is told by itself and takes no other with it. The envelope around a payload
is then read as any message; what stands under `data` is cut out, so that its bytes are those that the producer wrote.

All of it runs in a process of its own (`checks`): the work grows with the body, and nothing here may hold up others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from payments.events.v1 import events_pb2

from services.events.domain import cloudevents, payloads
from services.runtime.edge import json_messages
from services.runtime.errors import BatchTooLarge, DomainError, InvalidField

EVENTS_MAX = 1000
# More than any event has, so that what lies beyond is told without being read.
MEMBERS_MAX = 100
MEMBER_BYTES_MAX = 64 * 1024
_PAYLOADS = frozenset({"json", "data_base64"})

_SPACE = re.compile(rb"[ \t\n\r]*")
# All of these take what they took: none tries again with less, so that each is linear.
_TEXT = re.compile(rb'"(?>[^"\\]+|\\.)*+"', re.DOTALL)
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


@dataclass(frozen=True, slots=True)
class Cut:
    """A CloudEvent of a body: its attributes, and its data byte for byte; None without any."""

    attributes: Mapping[str, Any]
    data: bytes | None


class _NotThisForm(ValueError):
    """A body is not what it should be; the text says why."""


def read(body: bytes) -> list[events_pb2.Event | Fault]:
    """Read `{"events": […]}` or the bare array; payloads come as `json`, byte for byte.

    Raises:
        InvalidField: the body is no such JSON.
        BatchTooLarge: it lists more than 1,000 events; what stands behind them was not looked at.
    """
    try:
        places = _bounded(_events(body))
    except ValueError as error:
        raise _refusal('{"events": […]}', error) from error
    return [_event(body[start:end]) for start, end in places]


def read_cloud_events(body: bytes, *, batch: bool) -> list[Cut | Fault]:
    """Read a CloudEvent in JSON, or a batch of them, which may be empty.

    Raises:
        InvalidField: the body is no such JSON.
        BatchTooLarge: it lists more than 1,000 events; what stands behind them was not looked at.
    """
    try:
        places = _bounded(_array(body) if batch else _object(body))
    except ValueError as error:
        form = "an array of CloudEvents" if batch else "a CloudEvent"
        raise _refusal(form, error) from error
    return [_cut(body[start:end]) for start, end in places]


def _refusal(form: str, error: ValueError) -> InvalidField:
    return InvalidField.one("raw_request", f"the body must be {form}: {payloads.explain(error)}")


def _bounded(places: Iterator[Place]) -> list[Place]:
    """List the places of the events, up to the first that is too much."""
    found: list[Place] = []
    for place in places:
        if len(found) == EVENTS_MAX:
            raise BatchTooLarge(
                f"more than {EVENTS_MAX} events in one call; send at most {EVENTS_MAX}",
                items=f"more than {EVENTS_MAX}",
                items_max=EVENTS_MAX,
            )
        found.append(place)
    return found


# ---- Forms of a body


def _array(body: bytes) -> Iterator[Place]:
    start = _skip(body, 0)
    if body[start : start + 1] != b"[":
        raise _NotThisForm("it is not an array")
    yield from _whole_array(body, start)


def _object(body: bytes) -> Iterator[Place]:
    start = _skip(body, 0)
    if body[start : start + 1] != b"{":
        raise _NotThisForm("it is not an object")
    end = _end(body, start)
    _refuse_more(body, end)
    yield start, end


def _events(body: bytes) -> Iterator[Place]:
    start = _skip(body, 0)
    first = body[start : start + 1]
    if first == b"[":
        yield from _whole_array(body, start)
        return
    form = "an object with only the list `events`, or that list itself"
    if first != b"{":
        raise _NotThisForm(form)
    name_at = _skip(body, start + 1)
    name = _TEXT.match(body, name_at)
    if name is None or _name(name[0]) != "events":
        raise _NotThisForm(form)
    list_at = _skip(body, _after(body, name.end(), b":"))
    if body[list_at : list_at + 1] != b"[":
        raise _NotThisForm(form)
    elements = _Elements(body, list_at)
    yield from elements
    end = _skip(body, elements.end)
    if body[end : end + 1] != b"}":
        raise _NotThisForm(form)
    _refuse_more(body, end + 1)


def _whole_array(body: bytes, start: int) -> Iterator[Place]:
    elements = _Elements(body, start)
    yield from elements
    _refuse_more(body, elements.end)


class _Elements(Iterator[Place]):
    """The places of the elements of the array that starts at a place; `end` is behind it, once they are through."""

    def __init__(self, body: bytes, start: int) -> None:
        self._body = body
        self._at = _skip(body, start + 1)
        self._is_first = True
        self.end = -1

    def __next__(self) -> Place:
        if self.end >= 0:
            raise StopIteration
        if self._body[self._at : self._at + 1] == b"]":
            self.end = self._at + 1
            raise StopIteration
        if not self._is_first:
            self._at = _skip(self._body, _after(self._body, self._at, b","))
        self._is_first = False
        start, end = self._at, _end(self._body, self._at)
        self._at = _skip(self._body, end)
        return start, end


# ---- One event


def _event(text: bytes) -> events_pb2.Event | Fault:
    members: dict[str, Place] = {}
    try:
        members = _members(text)
        data = members.pop("data", None)
        envelope = _decoded(text, members)
        if envelope.get("message") is not None:
            raise InvalidField.one(
                "message", "only services of the mesh publish messages; send data"
            )
        event = json_messages.parse(envelope, events_pb2.Event())
        if data is not None:
            if event.WhichOneof("payload"):
                raise InvalidField.one("data", "an event has only one payload")
            # A payload that does not read is told as one, with the events' types.
            event.json = text[slice(*data)]
        return event
    except DomainError as error:
        return Fault(_id_of(text, members), error)
    except (ValueError, RecursionError) as error:
        return Fault(_id_of(text, members), InvalidField.one("event", payloads.explain(error)))


def _cut(text: bytes) -> Cut | Fault:
    members: dict[str, Place] = {}
    try:
        members = _members(text)
        data = members.pop("data", None)
        return Cut(_decoded(text, members), None if data is None else text[slice(*data)])
    except DomainError as error:
        return Fault(_id_of(text, members), error)
    except (ValueError, RecursionError) as error:
        return Fault(_id_of(text, members), InvalidField.one("event", payloads.explain(error)))


def _decoded(text: bytes, members: Mapping[str, Place]) -> dict[str, Any]:
    """Read what stands around a payload. Raises ValueError, InvalidField."""
    for name, (start, end) in members.items():
        if end - start > MEMBER_BYTES_MAX and name not in _PAYLOADS:
            raise InvalidField.one(
                name[:100],
                f"is {end - start:,} bytes long; only a payload may have more than {MEMBER_BYTES_MAX:,}",
                payloads.pointer([name[:100]]),
            )
    return {name: payloads.DECODER.decode(text[s:e].decode()) for name, (s, e) in members.items()}


def _members(text: bytes) -> dict[str, Place]:
    """Return the place of each member's value, by name. Raises ValueError."""
    if text[:1] != b"{":
        raise ValueError("it must be an object")
    found: dict[str, Place] = {}
    at = _skip(text, 1)
    while text[at : at + 1] != b"}":
        if found:
            at = _skip(text, _after(text, at, b","))
        name = _TEXT.match(text, at)
        if name is None:
            raise _NotThisForm(f"it isn't valid JSON at byte {at}")
        start = _skip(text, _after(text, _skip(text, name.end()), b":"))
        end = _end(text, start)
        known = _name(name[0])
        if known in found:
            raise ValueError(f"the name {known[:100]!r} appears twice in one object")
        if len(found) == MEMBERS_MAX:
            raise ValueError(f"it has more than {MEMBERS_MAX} members, more than an event can have")
        found[known] = (start, end)
        at = _skip(text, end)
    return found


def _id_of(text: bytes, members: Mapping[str, Place]) -> str:
    """Return the id of an event that does not read, as far as it does itself."""
    if "id" not in members:
        return ""
    start, end = members["id"]
    try:
        found = payloads.DECODER.decode(text[start:end].decode())
        if not isinstance(found, str):
            return ""
        found.encode()  # half a surrogate pair is no text that an answer can carry
    except (ValueError, RecursionError):
        return ""
    return found[:_SHOWN_MAX]


# ---- Cutting


def _end(text: bytes, start: int) -> int:
    """Return where the value that starts at a place ends. Raises _NotThisForm."""
    try:
        # Byte for byte a character, so that places are the same; the marks of JSON are ASCII.
        return _PLACES.raw_decode(_characters(text), start)[1]
    except (ValueError, RecursionError):
        return _end_by_brackets(text, start)


def _end_by_brackets(text: bytes, start: int) -> int:
    """Return where a value ends that is no JSON, told by brackets and quotes. Raises _NotThisForm."""
    first = text[start : start + 1]
    if first in (b"[", b"{"):
        level, at = 0, start
        while True:
            found = _TO_BRACKET.match(text, at)
            if found is None:
                raise _NotThisForm(f"the value that begins at byte {start} does not end")
            at = found.end()
            level += 1 if text[at - 1] in _OPENING else -1
            if level == 0:
                return at
    found = (_TEXT if first == b'"' else _PLAIN).match(text, start)
    if found is None:
        raise _NotThisForm(f"it isn't valid JSON at byte {start}")
    return found.end()


@lru_cache(maxsize=2)
def _characters(text: bytes) -> str:
    return text.decode("latin-1")


def _name(text: bytes) -> str:
    found = str(json.loads(text.decode()))
    found.encode()
    return found


def _after(text: bytes, at: int, mark: bytes) -> int:
    """Return the place behind a mark. Raises _NotThisForm."""
    at = _skip(text, at)
    if text[at : at + 1] != mark:
        raise _NotThisForm(f"it isn't valid JSON at byte {at}: {mark.decode()!r} is expected")
    return at + 1


def _skip(text: bytes, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _refuse_more(body: bytes, at: int) -> None:
    at = _skip(body, at)
    if at < len(body):
        raise _NotThisForm(f"something follows after its end, at byte {at}")


@dataclass(frozen=True, slots=True)
class ReadCloudEvent:
    """A CloudEvent of a body: its attributes, read, and its data byte for byte; None without any."""

    read: cloudevents.Read
    data: bytes | None


def read_attributes(cut: Cut | Fault) -> ReadCloudEvent | Fault:
    """Read the attributes of a CloudEvent that was cut out of its"""
    if isinstance(cut, Fault):
        return cut
    try:
        return ReadCloudEvent(cloudevents.read(cut.attributes), cut.data)
    except DomainError as error:
        event_id = cut.attributes.get("id")
        return Fault(event_id[:128] if isinstance(event_id, str) else "", error)
