"""Reads JSON bodies of PublishEvents, without touching the text of the payloads.

The envelope around a payload is read as any message; what stands under `data` is cut out, so that its bytes are those
that the producer wrote. All of it runs in a process of its own (`checks`).
"""

from __future__ import annotations

from collections.abc import Iterator

from payments.events.v1 import events_pb2

from services.runtime import json_cuts, strict_json
from services.runtime.edge import json_messages
from services.runtime.errors import DomainError, InvalidField
from services.runtime.json_cuts import Fault, NotThisForm, Place

EVENTS_MAX = 1000
_PAYLOADS = frozenset({"json", "data_base64"})


def read(body: bytes) -> list[events_pb2.Event | Fault]:
    """Read `{"events": […]}` or the bare array; payloads come as `json`, byte for byte.

    Raises:
        InvalidField: the body is no such JSON.
        BatchTooLarge: it lists more than 1,000 events; what stands behind them was not looked at.
    """
    try:
        places = json_cuts.bounded(_events(body), EVENTS_MAX)
    except ValueError as error:
        raise json_cuts.refusal('{"events": […]}', error) from error
    return [_event(body[start:end]) for start, end in places]


def _events(body: bytes) -> Iterator[Place]:
    start = json_cuts.skip(body, 0)
    first = body[start : start + 1]
    if first == b"[":
        yield from json_cuts.whole_array(body, start)
        return
    form = "an object with only the list `events`, or that list itself"
    if first != b"{":
        raise NotThisForm(form)
    name_at = json_cuts.skip(body, start + 1)
    name = json_cuts.TEXT.match(body, name_at)
    if name is None or json_cuts.name_of(name[0]) != "events":
        raise NotThisForm(form)
    list_at = json_cuts.skip(body, json_cuts.after(body, name.end(), b":"))
    if body[list_at : list_at + 1] != b"[":
        raise NotThisForm(form)
    elements = json_cuts.Elements(body, list_at)
    yield from elements
    end = json_cuts.skip(body, elements.end)
    if body[end : end + 1] != b"}":
        raise NotThisForm(form)
    json_cuts.refuse_more(body, end + 1)


def _event(text: bytes) -> events_pb2.Event | Fault:
    members: dict[str, Place] = {}
    try:
        members = json_cuts.members_of(text)
        data = members.pop("data", None)
        envelope = json_cuts.decoded(text, members, _PAYLOADS)
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
        return Fault(json_cuts.id_of(text, members), error)
    except (ValueError, RecursionError) as error:
        return Fault(
            json_cuts.id_of(text, members), InvalidField.one("event", strict_json.explain(error))
        )
