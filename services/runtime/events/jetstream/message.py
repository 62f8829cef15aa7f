"""An event as a message: subject, headers, and the payload's bytes as the body.

Headers follow the NATS binding of CloudEvents (binary mode, `ce-…`), so that readers outside of the mesh need no
code of ours; what CloudEvents has no word for is called `Tollmesh-…`. Values are percent-encoded.

Subjects are `ev.<site>.<lane>.<tenant>.<subject of the event>`. A token of NATS holds neither dots nor spaces
nor wildcards, so a tenant's are percent-encoded as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from google.protobuf.message import DecodeError

from services.runtime import moments
from services.runtime.edge import wellformed
from services.runtime.events.lanes import LANES
from services.runtime.events.relay import Delivery
from services.runtime.outbox import registry
from services.runtime.outbox.publish import IDENTITY_BYTES, PAYLOAD_BYTES_MAX, identity_hash
from services.runtime.outbox.registry import KEY_CHARS_MAX
from services.runtime.outbox.subjects import split_version, with_version

MESSAGE_ID = "Nats-Msg-Id"
NUMBER = "Tollmesh-Number"
_PREFIX = "ev"
_SPEC_VERSION = "1.0"
_SCHEMAS = "https://tollmesh.dev/schemas/"
_JSON, _PROTOBUF = "application/json", "application/protobuf"
_EVENT_ID_CHARS_MAX = 128
_TENANT_CHARS_MAX = 64
_TRAIL_CHARS_MAX = 128
_NAME_CHARS_MAX = 200
_VERSION_MAX = 9999
# What int and bigint hold in Postgres.
_GENERATION_MAX = 2**31 - 1
_NUMBER_MAX = 2**63 - 1
# What stays as it is in a header: every printable character of ASCII but the percent sign, quotes and space.
_SAFE = "!#$&'()*+,-./:;<=>?@[]^_`{|}~"
_is_safe = re.compile(f"[A-Za-z0-9{re.escape(_SAFE)}]*").fullmatch
_is_name = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*").fullmatch
# What one character may become, and what all headers weigh beside their texts.
_ENCODED_BYTES_MAX = 12
_FIXED_BYTES_MAX = 1024


class Unreadable(Exception):
    """A NATS message is not a valid Tollmesh event. The message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event on its way between two databases; its attributes are the columns of the log.

    Attributes:
        fingerprint: 16 bytes that tell one content from another.
        generation: 0, or the number of the replay that sent it again.
        site: where it was born.
    """

    tenant_id: str
    event_id: str
    subject: str
    schema_version: int
    key: str
    message_name: str
    payload: bytes
    correlation_id: str
    causation_id: str
    traceparent: str
    created_at: datetime
    fingerprint: bytes
    generation: int
    site: str

    @property
    def id_hash(self) -> bytes:
        """What its id is known by in `mesh.event_identity`."""
        return identity_hash(self.event_id.encode())

    @property
    def identity(self) -> tuple[str, str, int]:
        """Tenant, id and generation."""
        return self.tenant_id, self.event_id, self.generation


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message of a lane that was read.

    Attributes:
        event: what it carries.
        lane: the lane that it came in.
        number: its place in the lane, counted from 1 without gaps.
    """

    event: Event
    lane: int
    number: int


def of_delivery(delivery: Delivery, site: str, fingerprint: bytes | None) -> Event:
    """Return the event of a delivery; without a fingerprint its payload's bytes are its content."""
    payload = bytes(delivery.payload)
    return Event(
        tenant_id=delivery.tenant_id,
        event_id=delivery.event_id,
        subject=delivery.subject,
        schema_version=delivery.schema_version,
        key=delivery.key,
        message_name=delivery.message_name,
        payload=payload,
        correlation_id=delivery.correlation_id,
        causation_id=delivery.causation_id,
        traceparent=delivery.traceparent,
        created_at=delivery.created_at,
        fingerprint=fingerprint or identity_hash(payload),
        generation=delivery.generation,
        site=site,
    )


def stream_of(site: str) -> str:
    """Name of the stream that a site's sink writes."""
    return f"tollmesh-{site}"


def subjects_of(site: str, lane: int | None = None) -> str:
    """Return the filter of all events of a site, or of one of its lanes."""
    return f"{_PREFIX}.{site}.>" if lane is None else f"{_PREFIX}.{site}.{lane}.>"


def subject_of(event: Event, lane: int) -> str:
    """Return the subject that an event travels under."""
    return f"{_PREFIX}.{event.site}.{lane}.{_token(event.tenant_id)}.{event.subject}"


def headers_of(event: Event, number: int) -> dict[str, str]:
    """Return the headers of the message that carries an event, `number` in its lane."""
    texts = {
        MESSAGE_ID: message_id(event),
        "ce-specversion": _SPEC_VERSION,
        "ce-id": event.event_id,
        "ce-source": f"/tollmesh/{event.tenant_id}",
        "ce-type": event.subject,
        "ce-subject": event.key,
        "ce-time": event.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "ce-datacontenttype": _PROTOBUF if event.message_name else _JSON,
        "ce-dataschema": f"{_SCHEMAS}{event.message_name}" if event.message_name else "",
        "ce-correlationid": event.correlation_id,
        "ce-causationid": event.causation_id,
        "ce-traceparent": event.traceparent,
        "Tollmesh-Site": event.site,
        "Tollmesh-Tenant": event.tenant_id,
        "Tollmesh-Schema-Version": str(event.schema_version),
        "Tollmesh-Fingerprint": event.fingerprint.hex(),
        "Tollmesh-Generation": str(event.generation),
        NUMBER: str(number),
    }
    return {name: _value(text) for name, text in texts.items() if text}


def weight(event: Event, limit: int) -> int:
    """Return the bytes of an event's message: exactly from a limit on; below it, what they are at most."""
    texts = (event.event_id, event.tenant_id, event.key, event.subject, event.message_name)
    trail = (event.correlation_id, event.causation_id, event.traceparent)
    bound = len(event.payload) + _FIXED_BYTES_MAX
    bound += 2 * _ENCODED_BYTES_MAX * sum(map(len, (*texts, *trail)))
    if bound <= limit:
        return bound
    headers = headers_of(event, 2**63)
    return len(event.payload) + sum(len(name) + len(text) + 4 for name, text in headers.items())


def message_id(event: Event) -> str:
    """Return what a stream knows the event by; ids are unique within a site's tenant only.

    The site is part of it because a stream with several sites as its sources drops the second of two equal ids, and
    tells nobody.
    """
    texts = (event.site, _token(event.tenant_id), _token(event.event_id), str(event.generation))
    return "/".join(texts)


def identity_of(headers: Mapping[str, str] | None) -> tuple[str, str, int] | None:
    """Return tenant, id and generation of a message, or None when it is none of ours."""
    found = headers or {}
    try:
        tenant_id = unquote(found["Tollmesh-Tenant"], errors="strict")
        event_id = unquote(found["ce-id"], errors="strict")
        generation = _whole(found["Tollmesh-Generation"], 0, _GENERATION_MAX)
    except (KeyError, ValueError):
        return None
    return None if "\0" in tenant_id + event_id else (tenant_id, event_id, generation)


def number_of(headers: Mapping[str, str] | None) -> int:
    """Return a message's place in its lane; 0 when it tells none."""
    try:
        return _whole((headers or {}).get(NUMBER, ""), 1, _NUMBER_MAX)
    except ValueError:
        return 0


def lane_of(subject: str) -> int:
    """Return the lane that a subject names. Raises ValueError or IndexError when it names none."""
    return _whole(subject.split(".")[2], 0, LANES - 1)


def read(subject: str, headers: Mapping[str, str] | None, body: bytes) -> Arrived:
    """Read a message.

    Raises:
        Unreadable: it is no event of ours.
    """
    try:
        texts = {
            name: unquote(text, errors="strict")
            for name, text in (headers or {}).items()
            if name.startswith(("ce-", "Tollmesh-"))
        }
        event = _event(texts, body)
        lane = lane_of(subject)
        number = _whole(texts[NUMBER], 1, _NUMBER_MAX)
    except KeyError as error:
        raise Unreadable(f"it has no header {error.args[0]}") from error
    except (ValueError, IndexError) as error:
        raise Unreadable(str(error)) from error
    _check(event)
    _check_payload(event)
    if subject != subject_of(event, lane):
        raise Unreadable(
            "its NATS subject and its headers name different sites, tenants or subjects"
        )
    return Arrived(event, lane, number)


def _event(texts: Mapping[str, str], body: bytes) -> Event:
    if texts["ce-specversion"] != _SPEC_VERSION:
        raise Unreadable(f"CloudEvents {texts['ce-specversion']!r} is not supported")
    created_at = moments.read(texts["ce-time"])
    return Event(
        tenant_id=texts["Tollmesh-Tenant"],
        event_id=texts["ce-id"],
        subject=texts["ce-type"],
        schema_version=_whole(texts["Tollmesh-Schema-Version"], 1, _VERSION_MAX),
        key=texts["ce-subject"],
        message_name=texts.get("ce-dataschema", "").removeprefix(_SCHEMAS),
        payload=body,
        correlation_id=texts.get("ce-correlationid", ""),
        causation_id=texts.get("ce-causationid", ""),
        traceparent=texts.get("ce-traceparent", ""),
        created_at=created_at,
        fingerprint=bytes.fromhex(texts["Tollmesh-Fingerprint"]),
        generation=_whole(texts["Tollmesh-Generation"], 0, _GENERATION_MAX),
        site=texts["Tollmesh-Site"],
    )


def _check(event: Event) -> None:
    """Refuse what the log could not hold. Raises Unreadable."""
    name, version = split_version_of(event.subject)
    trail = (event.correlation_id, event.causation_id, event.traceparent)
    for what, sound in (
        ("tenant", 0 < len(event.tenant_id) <= _TENANT_CHARS_MAX),
        ("id", 0 < len(event.event_id) <= _EVENT_ID_CHARS_MAX),
        ("key", 0 < len(event.key) <= KEY_CHARS_MAX),
        (
            "version",
            event.subject == with_version(name, version) and event.schema_version == version,
        ),
        ("fingerprint", len(event.fingerprint) == IDENTITY_BYTES),
        ("payload", len(event.payload) <= PAYLOAD_BYTES_MAX),
        ("trail", all(len(text) <= _TRAIL_CHARS_MAX for text in trail)),
        ("message's name", _may_name_a_message(event.message_name)),
    ):
        if not sound:
            raise Unreadable(f"its {what} is out of bounds")
    if any("\0" in text for text in (event.tenant_id, event.event_id, event.key, *trail)):
        raise Unreadable("a string in it contains the character NUL")


def _may_name_a_message(name: str) -> bool:
    return not name or (len(name) <= _NAME_CHARS_MAX and _is_name(name) is not None)


def _check_payload(event: Event) -> None:
    """Refuse what no reader of the log could read. Raises Unreadable.

    A message of a name that this release does not know may be of a later one: it is taken in as it is.
    """
    name = event.message_name
    try:
        if not name:
            _JSON_READER.decode(event.payload.decode())
        elif name in registry.all_types():
            message = registry.unpack(name, event.payload)
            for fault in wellformed.faults(message, nul_too=False):
                raise Unreadable(f"its payload's {fault.field} {fault.description}")
    except DecodeError as error:
        raise Unreadable(f"its payload is not a valid {name}") from error
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"its payload isn't valid JSON: {error}") from error


def split_version_of(subject: str) -> tuple[str, int]:
    """Return subject and version. Raises Unreadable when the text breaks the grammar."""
    try:
        return split_version(subject)
    except ValueError as error:
        raise Unreadable(str(error)) from error


def _whole(text: str, least: int, most: int) -> int:
    """Read a number as `str` writes it. Raises ValueError when it is none, or out of bounds."""
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    if not digits or not least <= int(text) <= most:
        raise ValueError(f"{text[:40]!r} is not a number from {least} to {most}")
    return int(text)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


# Its numbers are only looked at: whoever needs them reads them.
_JSON_READER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse)


def _value(text: str) -> str:
    # Nearly all are what they were.
    return text if _is_safe(text) else quote(text, safe=_SAFE)


def _token(text: str) -> str:
    # `quote` leaves the dot alone.
    return quote(text, safe="").replace(".", "%2E")
