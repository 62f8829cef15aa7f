"""CloudEvents 1.0: events in the envelope that other systems agree on. Pure.

The library checks attributes and writes HTTP headers. The JSON around a payload is written and cut open here, because
the library reads a payload into Python's floats and would change its numbers.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
from cloudevents.core.bindings.http import to_binary
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from services.runtime import moments
from services.runtime.errors import Code, DomainError

SPEC_VERSION = "1.0"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
JSON = "application/json"
PROTOBUF = "application/protobuf"
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
# As wide as the largest position, so that texts sort as the positions do.
_SEQUENCE_DIGITS = 19

_NAME = re.compile(r"[a-z0-9]+")
_MEDIA_TYPE_OF_JSON = re.compile(r"(application|text)/([a-z0-9.!#$&^_-]+\+)?json", re.IGNORECASE)
_URIS = {
    name: jsonschema_rs.Draft202012Validator({"format": form}, validate_formats=True)
    for name, form in (("source", "uri-reference"), ("dataschema", "uri"))
}
_NOT_TO_BE_KEPT = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")

Value = str | int | bool


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


# ---- Out


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event that is about to be written as a CloudEvent.

    Attributes:
        event_id: its id.
        subject: what happened, with the suffix of its version.
        tenant_id: whose fact it is.
        key: what it is ordered by.
        created_at: when it came to be, UTC.
        data: the payload, as it goes out.
        position: its place in the feed; 0 when it is not known, then there is no `sequence`.
        message_name: full name of the payload's message; empty for JSON of an outside producer.
        media_type: of `data`. What is no JSON goes out in Base64.
        correlation_id: id of the whole chain.
        causation_id: what caused it.
        traceparent: W3C trace context.
        kept: attributes that its producer gave and that an event has no other place for; they win.
    """

    event_id: str
    subject: str
    tenant_id: str
    key: str
    created_at: datetime
    data: bytes
    position: int = 0
    message_name: str = ""
    media_type: str = JSON
    correlation_id: str = ""
    causation_id: str = ""
    traceparent: str = ""
    kept: Mapping[str, Value] = field(default_factory=dict)


def attributes(event: Outgoing) -> dict[str, Value]:
    """Return the context attributes of an event; `time` is a text."""
    ours: dict[str, Value] = {
        "specversion": SPEC_VERSION,
        "id": event.event_id,
        "source": source_of(event.tenant_id),
        "type": event.subject,
        "subject": event.key,
        "time": written(event.created_at),
        "datacontenttype": event.media_type,
        "dataschema": schema_of(event.message_name) if event.message_name else "",
        "sequence": f"{event.position:0{_SEQUENCE_DIGITS}}" if event.position else "",
        "correlationid": event.correlation_id,
        "causationid": event.causation_id,
        "traceparent": event.traceparent,
    }
    return {name: value for name, value in ours.items() if value != ""} | dict(event.kept)


def render(event: Outgoing) -> bytes:
    """Write an event as JSON, in structured mode; a JSON payload stands in it byte for byte."""
    text = json.dumps(attributes(event), ensure_ascii=False, separators=(",", ":")).encode()
    if is_json(event.media_type):
        return text[:-1] + b',"data":' + event.data + b"}"
    return text[:-1] + b',"data_base64":"' + base64.b64encode(event.data) + b'"}'


def render_batch(events: Iterable[Outgoing]) -> bytes:
    """Write events as a JSON batch."""
    return b"[" + b",".join(map(render, events)) + b"]"


def render_binary(event: Outgoing) -> tuple[dict[str, str], bytes]:
    """Write an event in HTTP's binary mode: its headers, and its payload as the body."""
    found: dict[str, Any] = {
        name: _canonical(value) for name, value in attributes(event).items()
    } | {"time": event.created_at}
    message = to_binary(CloudEvent(found, event.data), JSONFormat())
    return dict(message.headers), message.body


def source_of(tenant_id: str) -> str:
    """Return the source of what came to be in the mesh, or was published without one."""
    return f"/tollmesh/{tenant_id}"


def schema_of(message_name: str) -> str:
    """Return the name of a message of ours as a URI; nothing is found under it."""
    return f"https://tollmesh.dev/schemas/{message_name}"


def written(moment: datetime) -> str:
    """Write a moment as RFC 3339 asks for."""
    return moments.written(moment)


def _canonical(value: Value) -> str:
    # As the specification's type system spells them; Python's `True` is none.
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---- In


def is_json(media_type: str) -> bool:
    """True for `application/json` and its kin, whatever parameters follow."""
    return _MEDIA_TYPE_OF_JSON.fullmatch(media_type.partition(";")[0].strip()) is not None


@dataclass(frozen=True, slots=True)
class Read:
    """The attributes of a CloudEvent that came in.

    Attributes:
        event_id: its id.
        type: its type, which is a subject of ours with the suffix of a version.
        key: what orders it; empty when neither `partitionkey` nor `subject` says.
        created_at: its time, to the microsecond; None without one.
        correlation_id: of the extension `correlationid`.
        causation_id: of the extension `causationid`.
        traceparent: of the extension of that name.
        kept: all that an event has no other place for, to go out again as it came.
    """

    event_id: str
    type: str
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
            "data_base64 doesn't hold JSON; events carry JSON: send it as data",
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
    key = _canonical(partition_key) or subject
    taken = {"specversion", "id", "type", "time", "correlationid", "causationid", "traceparent"}
    kept = {name: value for name, value in found.items() if name not in taken}
    if subject == key:
        kept.pop("subject", None)
    if media_type != JSON:
        kept["datacontenttype"] = media_type
    return Read(
        event_id=found["id"],
        type=found["type"],
        key=key,
        created_at=moment,
        correlation_id=_canonical(found.get("correlationid", "")),
        causation_id=_canonical(found.get("causationid", "")),
        traceparent=_canonical(found.get("traceparent", "")),
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
