"""Event types, read from the descriptors of the payload messages: nothing is said twice.

A message of package `payments.events.v1` with option `payments.options.v1.event` is an event type.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from google.protobuf import symbol_database
from google.protobuf.message import Message
from payments.events import v1 as payload_package
from payments.options.v1 import options_pb2

from services.runtime.outbox.subjects import is_subject

KEY_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class EventType:
    """How events of one payload message travel.

    Attributes:
        subject: what they are called.
        version: version of the payload's schema, from 1.
        owner: the service that publishes them.
        key_field: field of the payload whose value orders them.
        message_name: full name of the payload message.
        message_class: its Python class.
    """

    subject: str
    version: int
    owner: str
    key_field: str
    message_name: str
    message_class: type[Message]

    def key(self, payload: Message) -> str:
        """Return the value that orders this event. Raises ValueError when it is empty or too long."""
        value = getattr(payload, self.key_field)
        key = str(value) if value else ""  # a number that was never set orders nothing
        if not 0 < len(key) <= KEY_CHARS_MAX:
            raise ValueError(
                f"{self.message_name}.{self.key_field} is the ordering key of {self.subject} and needs 1 to "
                f"{KEY_CHARS_MAX} characters, not {len(key)}"
            )
        return key


_known: dict[str, EventType] = {}


def of(message_class: type[Message]) -> EventType:
    """Return the event type of a payload message.

    Raises:
        TypeError: the message carries no event option, or one that names a field it does not have.
    """
    name = message_class.DESCRIPTOR.full_name
    if name not in _known:
        _known[name] = _read(message_class)
    return _known[name]


def _read(message_class: type[Message]) -> EventType:
    descriptor = message_class.DESCRIPTOR
    if not descriptor.GetOptions().HasExtension(options_pb2.event):
        raise TypeError(f"{descriptor.full_name} has no option payments.options.v1.event")
    rule = descriptor.GetOptions().Extensions[options_pb2.event]
    if not is_subject(rule.subject) or rule.version < 1 or not rule.owner:
        raise TypeError(f"{descriptor.full_name}: its event option lacks subject, version or owner")
    if rule.key not in descriptor.fields_by_name:
        raise TypeError(f"{descriptor.full_name} has no field {rule.key!r} to order its events by")
    return EventType(
        rule.subject, rule.version, rule.owner, rule.key, descriptor.full_name, message_class
    )


@cache
def all_types() -> Mapping[str, EventType]:
    """Return every event type by the full name of its message, and link all payload messages.

    Raises:
        TypeError: two messages claim one version of a subject.
    """
    types = {kind.message_name: kind for kind in map(of, _payload_classes())}
    seen: dict[tuple[str, int], str] = {}
    for kind in types.values():
        other = seen.setdefault((kind.subject, kind.version), kind.message_name)
        if other != kind.message_name:
            raise TypeError(f"{other} and {kind.message_name} are both {kind.subject}")
    return types


@cache
def newest(subject: str) -> EventType:
    """Return the newest version of a subject. Raises LookupError when this release has no such event."""
    versions = [kind for kind in all_types().values() if kind.subject == subject]
    if not versions:
        raise LookupError(f"event {subject} is not part of this release")
    return max(versions, key=lambda kind: kind.version)


def unpack(message_name: str, payload: bytes) -> Message:
    """Read a stored payload.

    Raises:
        LookupError: no payload message of that name is linked into this process.
        google.protobuf.message.DecodeError: the bytes are none of it.
    """
    kind = all_types().get(message_name)
    if kind is None:
        raise LookupError(f"payload message {message_name} is not part of this release")
    return kind.message_class.FromString(payload)


def _payload_classes() -> Iterator[type[Message]]:
    database = symbol_database.Default()
    for module in sorted(item.name for item in pkgutil.iter_modules(payload_package.__path__)):
        if not module.endswith("_pb2"):
            continue
        file = importlib.import_module(f"{payload_package.__name__}.{module}").DESCRIPTOR
        for descriptor in file.message_types_by_name.values():
            if descriptor.GetOptions().HasExtension(options_pb2.event):
                yield database.GetSymbol(descriptor.full_name)
