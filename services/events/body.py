"""Reads JSON bodies, those of PublishEvents and of CloudEvents, without touching the text of the payloads.

The envelope around a payload is read as any message; what stands under `data` is cut out of the body, so that its
bytes are those that the producer wrote, and no number of it passes through a float.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from payments.events.v1 import events_pb2

from services.events.domain import payloads
from services.runtime.errors import DomainError, InvalidField

EVENTS_MAX = 1000

_SPACE = re.compile(r"[ \t\n\r]*")
_DATA = "data"


@dataclass(frozen=True, slots=True)
class Fault:
    """An event of a body that does not read; `event_id` is empty when not even that does."""

    event_id: str
    error: DomainError


def read(body: bytes) -> list[events_pb2.Event | Fault]:
    """Read `{"events": […]}` or the bare array; payloads come as `json`, byte for byte.

    Raises:
        InvalidField: the body is no such JSON.
    """
    text, spans = _spans(body, _events, '{"events": […]}')
    return [_event(text[start:end]) for start, end in spans]


@dataclass(frozen=True, slots=True)
class Cut:
    """A CloudEvent of a body: its attributes, and its data byte for byte; None without any."""

    attributes: Mapping[str, Any]
    data: bytes | None


def read_cloud_events(body: bytes, *, batch: bool) -> list[Cut | Fault]:
    """Read a CloudEvent in JSON, or a batch of them.

    Raises:
        InvalidField: the body is no such JSON.
    """
    form = "an array of CloudEvents" if batch else "a CloudEvent"
    text, spans = _spans(body, _array if batch else _object, form)
    return [_cut(text[start:end]) for start, end in spans]


Spans = list[tuple[int, int]]


def _spans(
    body: bytes, places: Callable[[str], Iterator[tuple[int, int]]], form: str
) -> tuple[str, Spans]:
    """Return a body as text, and where its events stand. Raises InvalidField."""
    try:
        text = body.decode()
        payloads.checked(payloads.DECODER.decode(text))
        return text, list(places(text))
    except (ValueError, RecursionError) as error:
        raise InvalidField.one(
            "raw_request", f"the body must be {form}: {payloads.said(error)}"
        ) from error


def _array(text: str) -> Iterator[tuple[int, int]]:
    start = _skip(text, 0)
    if text[start] != "[":
        raise ValueError("it is no array")
    return _elements(text, start)


def _object(text: str) -> Iterator[tuple[int, int]]:
    start = _skip(text, 0)
    if text[start] != "{":
        raise ValueError("it is no object")
    return iter([(start, len(text))])


def _cut(text: str) -> Cut | Fault:
    if not text.startswith("{"):
        return Fault("", InvalidField.one("event", "it must be an object"))
    members = dict(_members(text, 0))
    data = members.pop(_DATA, None)
    attributes = {name: json.loads(text[start:end]) for name, (start, end) in members.items()}
    return Cut(attributes, None if data is None else text[slice(*data)].encode())


def _events(text: str) -> Iterator[tuple[int, int]]:
    """Give where each event stands. Raises ValueError."""
    start = _skip(text, 0)
    if text[start] == "[":
        return _elements(text, start)
    members = dict(_members(text, start)) if text[start] == "{" else {}
    found = members.pop("events", None)
    if found is None or members or text[found[0]] != "[":
        raise ValueError("an object with nothing but the list `events`, or that list")
    return _elements(text, found[0])


def _event(text: str) -> events_pb2.Event | Fault:
    if not text.startswith("{"):
        return Fault("", InvalidField.one("event", "it must be an object"))
    members = dict(_members(text, 0))
    data = members.pop(_DATA, None)
    envelope = {name: json.loads(text[start:end]) for name, (start, end) in members.items()}
    event_id = envelope.get("id")
    shown_id = event_id[:128] if isinstance(event_id, str) else ""
    try:
        event = json_format.ParseDict(envelope, events_pb2.Event())
    except json_format.ParseError as error:
        return Fault(shown_id, InvalidField.one("event", str(error)[:500]))
    if data is not None:
        if event.WhichOneof("payload"):
            return Fault(shown_id, InvalidField.one("data", "an event has one payload, not two"))
        event.json = text[slice(*data)].encode()
    return event


def _members(text: str, start: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Give name and place of each member of an object that is known to be sound."""
    at = _skip(text, start + 1)
    while text[at] != "}":
        name, at = payloads.DECODER.raw_decode(text, at)
        value_at = _skip(text, _skip(text, at) + 1)
        _, end = payloads.DECODER.raw_decode(text, value_at)
        yield name, (value_at, end)
        at = _next(text, end)


def _elements(text: str, start: int) -> Iterator[tuple[int, int]]:
    """Give the place of each element of an array that is known to be sound."""
    at = _skip(text, start + 1)
    while text[at] != "]":
        _, end = payloads.DECODER.raw_decode(text, at)
        yield at, end
        at = _next(text, end)


def _next(text: str, at: int) -> int:
    at = _skip(text, at)
    return _skip(text, at + 1) if text[at] == "," else at


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()
