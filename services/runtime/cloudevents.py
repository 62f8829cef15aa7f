"""CloudEvents 1.0 as they come in: out of a body by the modes of HTTP, and their attributes.

The library checks attributes. The JSON around a payload is cut open here, because the library reads a payload into
Python's floats and would change its numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.v1.event import CloudEvent

from services.runtime import json_cuts, moments, strict_json
from services.runtime.errors import Code, DomainError, InvalidField
from services.runtime.json_cuts import Fault, Place

SPEC_VERSION = "1.0"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
JSON = "application/json"
HEADER_PREFIX = "ce-"

# What one event may bring beside its payload.
ATTRIBUTES_MAX = 40
NAME_CHARS_MAX = 64
VALUE_CHARS_MAX = 1024
# What an event has a place of its own for.
_CHARS_MAX = {
    "id": 128,
    "type": 200,
    "subject": 200,
    "partitionkey": 200,
    "correlationid": 128,
    "causationid": 128,
}
_INTEGER = range(-(2**31), 2**31)
_REQUIRED = ("specversion", "id", "source", "type")
_TEXTS = frozenset({*_REQUIRED, "subject", "datacontenttype", "dataschema"})
_NAME = re.compile(r"[a-z0-9]+")
_MEDIA_TYPE_OF_JSON = re.compile(r"(application|text)/([a-z0-9.!#$&^_-]+\+)?json", re.IGNORECASE)
_URIS = {
    name: jsonschema_rs.Draft202012Validator({"format": form}, validate_formats=True)
    for name, form in (("source", "uri-reference"), ("dataschema", "uri"))
}
_NOT_TO_BE_KEPT = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")

Value = str | int | bool
_PAYLOADS = frozenset({"json", "data_base64"})


class CloudEventInvalid(DomainError):
    """An attribute is not what CloudEvents 1.0 asks for; the pointer names it."""

    code = Code.INVALID_ARGUMENT
    reason = "CLOUD_EVENT_INVALID"
    state_dependent = False
    pointer: str


class CloudEventUnsupported(DomainError):
    """A CloudEvent that the mesh does not carry; the pointer names why."""

    code = Code.INVALID_ARGUMENT
    reason = "CLOUD_EVENT_UNSUPPORTED"
    state_dependent = False
    pointer: str


class ContentTypeUnknown(DomainError):
    """A call is in none of the three modes of CloudEvents over HTTP."""

    code = Code.INVALID_ARGUMENT
    reason = "CLOUD_EVENTS_CONTENT_TYPE"
    state_dependent = False
    content_type: str


# ---- Attributes


def is_json(media_type: str) -> bool:
    """True for `application/json` and its kin, whatever parameters follow."""
    return _MEDIA_TYPE_OF_JSON.fullmatch(media_type.partition(";")[0].strip()) is not None


@dataclass(frozen=True, slots=True)
class Read:
    """The attributes of a CloudEvent that came in.

    Attributes:
        event_id: its id.
        source: which system it is of; id and source together are its own.
        type: what kind of thing happened.
        subject: what it is about; empty without one.
        key: what orders it; empty when neither `partitionkey` nor `subject` says.
        created_at: its time, to the microsecond; None without one.
        correlation_id: of the extension `correlationid`.
        causation_id: of the extension `causationid`.
        traceparent: of the extension of that name.
        kept: all that an event has no other place for, to go out again as it came.
    """

    event_id: str
    source: str
    type: str
    subject: str
    key: str
    created_at: datetime | None
    correlation_id: str
    causation_id: str
    traceparent: str
    kept: Mapping[str, Value]


def read(given: Mapping[str, Any]) -> Read:
    """Read the attributes of a CloudEvent, without its data; what is null counts as left out.

    Raises:
        CloudEventInvalid: an attribute breaks a rule of the specification, or a limit of ours.
        CloudEventUnsupported: another version of the specification, or data that is no JSON.
    """
    found = {name: value for name, value in given.items() if value is not None}
    if "data_base64" in found:
        raise CloudEventUnsupported(
            "data_base64 is not read here, whatever it holds: events carry JSON, send it as data",
            pointer="/data_base64",
        )
    version = found.get("specversion", SPEC_VERSION)
    if version != SPEC_VERSION:
        raise CloudEventUnsupported(
            f"specversion {str(version)[:20]!r} is not supported; use CloudEvents {SPEC_VERSION}",
            pointer="/specversion",
        )
    for name in _REQUIRED:
        if name not in found:
            raise CloudEventInvalid(f"{name!r} is missing", pointer=f"/{name}")
    _refuse_unfit(found)
    moment = _moment(found["time"]) if "time" in found else None
    _refuse_invalid(found, moment)
    media_type = found.pop("datacontenttype", JSON)
    if not is_json(media_type):
        raise CloudEventUnsupported(
            f"datacontenttype {media_type[:100]!r} is not JSON; events carry JSON",
            pointer="/datacontenttype",
        )
    return _read(found, media_type, moment)


def _read(found: dict[str, Any], media_type: str, moment: datetime | None) -> Read:
    subject, partition_key = found.get("subject", ""), found.get("partitionkey", "")
    key = canonical(partition_key) or subject
    taken = {"specversion", "id", "type", "time", "correlationid", "causationid", "traceparent"}
    kept = {name: value for name, value in found.items() if name not in taken}
    if subject == key:
        kept.pop("subject", None)
    if media_type != JSON:
        kept["datacontenttype"] = media_type
    return Read(
        event_id=found["id"],
        source=found["source"],
        type=found["type"],
        subject=subject,
        key=key,
        created_at=moment,
        correlation_id=canonical(found.get("correlationid", "")),
        causation_id=canonical(found.get("causationid", "")),
        traceparent=canonical(found.get("traceparent", "")),
        kept=kept,
    )


def header_value(text: str) -> str:
    """Read the value of a `ce-` header, which is percent-encoded and may be quoted. Raises ValueError."""
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    return unquote(text, errors="strict")


def _refuse_unfit(found: Mapping[str, Any]) -> None:
    """Refuse what no attribute may be, before the library looks for what each must be."""
    if len(found) > ATTRIBUTES_MAX:
        raise CloudEventInvalid(
            f"{len(found)} attributes; an event has at most {ATTRIBUTES_MAX}", pointer=""
        )
    for name, value in found.items():
        fault = _name_fault(name) or _value_fault(value, _CHARS_MAX.get(name, VALUE_CHARS_MAX))
        if name in _TEXTS and not fault and not (isinstance(value, str) and value):
            fault = "it must be a non-empty string"
        if fault:
            place = name[:NAME_CHARS_MAX].replace("~", "~0").replace("/", "~1")
            raise CloudEventInvalid(f"{name[:NAME_CHARS_MAX]!r}: {fault}", pointer=f"/{place}")


def _name_fault(name: str) -> str:
    if not _NAME.fullmatch(name) or len(name) > NAME_CHARS_MAX:
        return f"attribute names are 1 to {NAME_CHARS_MAX} characters of a-z and 0-9"
    return ""


def _value_fault(value: object, chars_max: int) -> str:
    if isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return "" if value in _INTEGER else "integer attributes are limited to 32 bits"
    if not isinstance(value, str):
        return "attribute values are strings, integers or booleans"
    if len(value) > chars_max:
        return f"it has {len(value)} characters; the limit is {chars_max}"
    return _text_fault(value)


def _text_fault(text: str) -> str:
    found = _NOT_TO_BE_KEPT.search(text)
    if found is None:
        return ""
    is_half = "\ud800" <= found[0] <= "\udfff"
    held = "half a surrogate pair" if is_half else "a control character"
    return f"the attribute contains {held}"


def _refuse_invalid(found: Mapping[str, Any], moment: datetime | None) -> None:
    # The library gives a time to an event that has none.
    asked = dict(found) if moment is None else {**found, "time": moment}
    try:
        CloudEvent(asked)
    except CloudEventValidationError as error:
        name = next(iter(error.errors))
        message = f"{name!r} does not conform to CloudEvents {SPEC_VERSION}"
        raise CloudEventInvalid(message, pointer=f"/{name}") from error
    for name, form in _URIS.items():
        if not form.is_valid(found.get(name, "x:")):
            raise CloudEventInvalid(f"{name!r} is not a URI of RFC 3986", pointer=f"/{name}")


def _moment(text: object) -> datetime:
    try:
        return moments.read(text if isinstance(text, str) else "")
    except ValueError as error:
        raise CloudEventInvalid(f"'time' must be {moments.HOW}", pointer="/time") from error


def canonical(value: Value) -> str:
    """Spell a value as the type system of the specification does; Python's `True` is none."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---- Bodies


@dataclass(frozen=True, slots=True)
class Cut:
    """A CloudEvent of a body: its attributes, and its data byte for byte; None without any."""

    attributes: Mapping[str, Any]
    data: bytes | None


class Mode(StrEnum):
    """How CloudEvents travel over HTTP."""

    STRUCTURED = "structured"
    BATCH = "batch"
    BINARY = "binary"


def mode_of(content_type: str, headers: Mapping[str, str]) -> Mode:
    """Tell the mode of an HTTP request.

    Args:
        headers: those that start with `ce-`; only binary mode has any.

    Raises:
        ContentTypeUnknown: it is none of the modes.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == STRUCTURED:
        return Mode.STRUCTURED
    if media_type == BATCH:
        return Mode.BATCH
    if headers and not media_type.startswith("application/cloudevents"):
        return Mode.BINARY
    raise ContentTypeUnknown(
        f"send {STRUCTURED}, {BATCH}, or JSON with ce- headers", content_type=content_type
    )


def binary(content_type: str, headers: Mapping[str, str], body: bytes) -> Cut:
    """Return the event of a request in binary mode, whose body is the data.

    Raises:
        InvalidField: a header is not what it should be.
    """
    return Cut(_of_headers(content_type, headers), body or None)


def _of_headers(content_type: str, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the attributes that headers hold; the content type is the data's."""
    found = {name.lower(): value for name, value in headers.items()}
    named = {name: value for name, value in found.items() if name.startswith(HEADER_PREFIX)}
    if len(named) < len(headers):
        raise InvalidField.one(
            "headers", f"a name doesn't start with {HEADER_PREFIX}, or appears twice"
        )
    try:
        attributes = {
            name.removeprefix(HEADER_PREFIX): header_value(value) for name, value in named.items()
        }
    except ValueError as error:
        raise InvalidField.one("headers", "a value is not percent-encoded UTF-8") from error
    # As the HTTP binding has it, the content type of the data is no header of its own.
    attributes.pop("datacontenttype", None)
    given = content_type.strip()
    return attributes | ({"datacontenttype": given} if given else {})


def cut(body: bytes, *, batch: bool, events_max: int) -> list[Cut | Fault]:
    """Read a CloudEvent in JSON, or a batch of them, which may be empty.

    Raises:
        InvalidField: the body is no such JSON.
        BatchTooLarge: it lists more than `events_max` events; what stands behind them was not looked at.
    """
    try:
        places = json_cuts.bounded(
            json_cuts.array(body) if batch else json_cuts.an_object(body), events_max
        )
    except ValueError as error:
        form = "an array of CloudEvents" if batch else "a CloudEvent"
        raise json_cuts.refusal(form, error) from error
    return [_cut(body[start:end]) for start, end in places]


def _cut(text: bytes) -> Cut | Fault:
    members: dict[str, Place] = {}
    try:
        members = json_cuts.members_of(text)
        data = members.pop("data", None)
        return Cut(
            json_cuts.decoded(text, members, _PAYLOADS),
            None if data is None else text[slice(*data)],
        )
    except DomainError as error:
        return Fault(json_cuts.id_of(text, members), error)
    except (ValueError, RecursionError) as error:
        return Fault(
            json_cuts.id_of(text, members), InvalidField.one("event", strict_json.explain(error))
        )


@dataclass(frozen=True, slots=True)
class ReadCloudEvent:
    """A CloudEvent of a body: its attributes, read, and its data byte for byte; None without any."""

    read: Read
    data: bytes | None


def read_attributes(cut: Cut | Fault) -> ReadCloudEvent | Fault:
    """Read the attributes of a CloudEvent that was cut out of its body."""
    if isinstance(cut, Fault):
        return cut
    try:
        return ReadCloudEvent(read(cut.attributes), cut.data)
    except DomainError as error:
        event_id = cut.attributes.get("id")
        return Fault(event_id[:128] if isinstance(event_id, str) else "", error)
