"""Values that the wire carries and that are none of their type: a Timestamp in the year 10000, a text with NUL.

Protobuf decodes them without a word, and whoever makes a datetime or a row of them fails far from the cause. Here they
are found by the descriptors alone. What a message type needs looked at is worked out once; most need next to nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from services.runtime.errors import FieldViolation

# 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
_SECONDS_MIN = -62_135_596_800
_SECONDS_MAX = 253_402_300_799
# 10,000 years, as google.protobuf.Duration has it.
_SPAN_SECONDS_MAX = 315_576_000_000
_NANOS_MAX = 999_999_999

_NO_MOMENT = "must be a time in the years 1 to 9999, with nanos from 0 to 999999999"
_NO_SPAN = "must be at most 10,000 years, with nanos up to 999999999 and the same sign as seconds"
_NUL = "contains the character NUL (U+0000), which strings must not contain"

# What a pattern of letters, classes and counts consists of; a dot or a negated class could stand for NUL.
_ESCAPED = re.compile(r"\\[.|*$^/()\[\]{}+?-]|\[[^\]^][^\]]*\]")
_COULD_BE_NUL = re.compile(r"\.|\[\^|\\")

_Found = Sequence[tuple[str, str]]
_Look = Callable[[Any], _Found]


def _moment(stamp: Any) -> _Found:
    good = _SECONDS_MIN <= stamp.seconds <= _SECONDS_MAX and 0 <= stamp.nanos <= _NANOS_MAX
    return () if good else (("", _NO_MOMENT),)


def _span(duration: Any) -> _Found:
    seconds, nanos = duration.seconds, duration.nanos
    good = (
        -_SPAN_SECONDS_MAX <= seconds <= _SPAN_SECONDS_MAX
        and -_NANOS_MAX <= nanos <= _NANOS_MAX
        and (not seconds or not nanos or (seconds < 0) is (nanos < 0))
    )
    return () if good else (("", _NO_SPAN),)


def _text(text: str) -> _Found:
    return (("", _NUL),) if "\0" in text else ()


_LOOKS: dict[str, _Look] = {
    "google.protobuf.Timestamp": _moment,
    "google.protobuf.Duration": _span,
}


class _Plan:
    """What of one message type has to be looked at: fields by name, each with the look that its values need.

    A look gives nothing, or pairs of a path and of what is wrong there; a path is spelled only once there is a fault.
    """

    __slots__ = ("lists", "maps", "messages", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.messages: list[tuple[str, _Look]] = []
        self.lists: list[tuple[str, _Look]] = []
        self.maps: list[tuple[str, _Look | None, _Look | None]] = []

    @property
    def is_empty(self) -> bool:
        return not (self.texts or self.messages or self.lists or self.maps)

    def look(self, message: Any) -> _Found:
        found: list[tuple[str, str]] = []
        for name in self.texts:
            if "\0" in getattr(message, name):
                found.append((name, _NUL))
        for name, look in self.messages:
            if message.HasField(name) and (inside := look(getattr(message, name))):
                found += _under(name, inside)
        for name, look in self.lists:
            for index, item in enumerate(getattr(message, name)):
                if inside := look(item):
                    found += _under(f"{name}[{index}]", inside)
        for name, of_key, of_value in self.maps:
            for key, value in getattr(message, name).items():
                inside = (of_key(key) if of_key else ()) or (of_value(value) if of_value else ())
                if inside:
                    found += _under(f"{name}[{str(key)[:64]!r}]", inside)
        return found


def _under(place: str, inside: _Found) -> list[tuple[str, str]]:
    return [(f"{place}.{path}" if path else place, said) for path, said in inside]


# By name of the type. Those that are being made are here too: a message may hold others of its kind.
_plans: dict[tuple[str, bool], _Plan] = {}
_unfinished: set[tuple[str, bool]] = set()


def faults(message: Message, *, nul_too: bool = True) -> list[FieldViolation]:
    """Return the fields of a message whose value is none of their type.

    Left out are fields that the schema excludes from validation, whose owner judges them item by item, and what is
    inside of Struct and Any.

    Args:
        message: what was decoded.
        nul_too: whether a text with NUL is a fault, or its reader copes with it.
    """
    return [
        FieldViolation(path, said)
        for path, said in _plan_of(message.DESCRIPTOR, nul_too).look(message)
    ]


def _plan_of(descriptor: Any, nul_too: bool) -> _Plan:
    key = (descriptor.full_name, nul_too)
    if key not in _plans:
        _plans[key] = plan = _Plan()
        _unfinished.add(key)
        for field in descriptor.fields:
            _add(plan, field, nul_too)
        _unfinished.remove(key)
    return _plans[key]


def _add(plan: _Plan, field: FieldDescriptor, nul_too: bool) -> None:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    if rules.ignore == validate_pb2.IGNORE_ALWAYS:
        return
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        of_key = _look_at(key, rules.map.keys, nul_too)
        of_value = _look_at(value, rules.map.values, nul_too)
        if of_key or of_value:
            plan.maps.append((field.name, of_key, of_value))
    elif field.is_repeated:
        if look := _look_at(field, rules.repeated.items, nul_too):
            plan.lists.append((field.name, look))
    elif look := _look_at(field, rules, nul_too):
        if field.message_type is None:
            plan.texts.append(field.name)
        else:
            plan.messages.append((field.name, look))


def _look_at(field: FieldDescriptor, rules: validate_pb2.FieldRules, nul_too: bool) -> _Look | None:
    """Return how to look at one value of a field; None for one that cannot be odd."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text if nul_too and not _excludes_nul(rules.string) else None
    if field.message_type is None:
        return None
    name = field.message_type.full_name
    if name.startswith("google.protobuf."):
        return _LOOKS.get(name)
    plan = _plan_of(field.message_type, nul_too)
    return plan.look if (name, nul_too) in _unfinished or not plan.is_empty else None


def _excludes_nul(rules: validate_pb2.StringRules) -> bool:
    """True when the rules of a text let no NUL through, so that nobody needs to look for one."""
    if rules.uuid or getattr(rules, "in"):
        return True
    return bool(rules.pattern) and not _COULD_BE_NUL.search(_ESCAPED.sub("", rules.pattern))
