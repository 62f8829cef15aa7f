"""From plain JSON documents to messages: protobuf's own reader, and what it lets pass besides.

protobuf's Python reader takes `2026-1-1T0:0:0Z` and `+99:99` for times, `[]` for an empty message, `"1_000"` for a
thousand, the last of two spellings of a field for the field, and fails with errors of Python on what is of another
type. Go's refuses them, and so do we.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from services.runtime import documents, moments

DEPTH_MAX = 64
_MessageT = TypeVar("_MessageT", bound=Message)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]*|[A-Za-z0-9_-]*)={0,2}")
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,19})")
_REAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|NaN|-?Infinity")
_TIMESTAMP = "google.protobuf.Timestamp"
_ANY = "google.protobuf.Any"
_STRUCT = "google.protobuf.Struct"
_LIST = "google.protobuf.ListValue"
# Their JSON is any JSON.
_MINOR_UNITS = "payments.type.v1.Money.minor_units"
_FREE = frozenset({_STRUCT, _LIST, "google.protobuf.Value"})
# Their JSON is a text, in a form of its own.
_SPAN = re.compile(r"-?(?P<seconds>0|[1-9][0-9]{0,11})(?:\.[0-9]{1,9})?s")
_SPAN_SECONDS_MAX = 315_576_000_000
_MASK = re.compile(r"(?:[a-z][a-zA-Z0-9]*(?:[.,][a-z][a-zA-Z0-9]*)*)?")
_TOO_DEEP = f"it is nested deeper than {DEPTH_MAX}"
_HALF_A_PAIR = "contains half of a surrogate pair, which strings must not contain"


class NotThisMessage(ValueError):
    """A document does not read as its message; the text names the place and what is wrong."""


class NumberForText(NotThisMessage):
    """A number stands where a text has to: it lacks its quotes.

    Attributes:
        place: where it stands.
        number: what stands there, as it was written.
    """

    def __init__(self, place: str, number: float | Decimal) -> None:
        super().__init__(f"{place} must be a string")
        self.place, self.number = place, documents.as_written(number)


def parse(document: Any, message: _MessageT) -> _MessageT:
    """Read a plain document into a message. Null means absent, as in proto3 JSON.

    Raises:
        NotThisMessage: it does not read as this message, or has two readings.
    """
    descriptor = message.DESCRIPTOR
    try:
        plain = _message(document, descriptor, "", 0)
        pool: Any = descriptor.file.pool
        return json_format.ParseDict(plain, message, descriptor_pool=pool)
    except NotThisMessage:
        raise
    except RecursionError as error:
        raise NotThisMessage(_TOO_DEEP) from error
    # What is wrong was told with its place before; the words of the reader, and those of Python, are not ours.
    except (
        *(json_format.ParseError, TypeError, ValueError),
        *(ArithmeticError, AttributeError, LookupError),
    ) as error:
        raise NotThisMessage(f"it is not a valid {descriptor.name}") from error


def _message(value: Any, descriptor: Any, path: str, depth: int) -> Any:
    if descriptor.full_name == _TIMESTAMP:
        return _moment(value, path)
    if descriptor.full_name in _TEXTS:
        return _text(value, path, *_TEXTS[descriptor.full_name])
    if descriptor.full_name in _FREE:
        return _free(value, descriptor.full_name, path, depth)
    if not isinstance(value, Mapping):
        raise NotThisMessage(f"{path or 'it'} must be an object")
    if depth > DEPTH_MAX:
        raise NotThisMessage(_TOO_DEEP)
    if descriptor.full_name == _ANY:
        return _any(value, descriptor.file.pool, path, depth)
    return _fields(value, descriptor, path, depth)


def _any(value: Mapping[str, Any], pool: Any, path: str, depth: int) -> dict[str, Any]:
    url = value.get("@type")
    if not isinstance(url, str):
        raise NotThisMessage(f"{path}.@type must be a string with the name of a message")
    _whole_characters(url, f"{path}.@type")
    try:
        inner = pool.FindMessageTypeByName(url.rpartition("/")[2])
    except KeyError as error:
        message = f"{path}.@type is not a known message: {url[:200]!r}"
        raise NotThisMessage(message) from error
    rest = {name: item for name, item in value.items() if name != "@type"}
    if inner.full_name in (_TIMESTAMP, _ANY, *_TEXTS, *_FREE):
        # Theirs stands under `value`, in a form of its own.
        if set(rest) != {"value"}:
            raise NotThisMessage(f"{path} must have @type and value, and nothing else")
        rest["value"] = _message(rest["value"], inner, f"{path}.value", depth + 1)
    else:
        rest = _fields(rest, inner, path, depth)
    return {"@type": url, **rest}


def _fields(value: Mapping[str, Any], descriptor: Any, path: str, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    seen: dict[str, str] = {}
    chosen: dict[str, str] = {}
    for name, item in value.items():
        field = _field(descriptor, name)
        if field is None:
            place = f"{path}." if path else ""
            raise NotThisMessage(f"{place}{str(name)[:64]!r} is not a field of {descriptor.name}")
        if field.name in seen:
            raise NotThisMessage(
                f"{seen[field.name]!r} and {name!r} are the same field; give only one"
            )
        seen[field.name] = name
        if item is None:
            continue
        if field.containing_oneof is not None:
            other = chosen.setdefault(field.containing_oneof.name, name)
            if other != name:
                raise NotThisMessage(
                    f"{path or 'it'} has both {other!r} and {name!r}; only one is allowed"
                )
        found[name] = _member(item, field, f"{path}.{name}" if path else name, depth)
    return found


def _field(descriptor: Any, name: Any) -> FieldDescriptor | None:
    # protobuf fails with a fault of its own at half a surrogate pair.
    if not isinstance(name, str) or not name.isascii():
        return None
    found: FieldDescriptor | None = descriptor.fields_by_camelcase_name.get(name)
    return found or descriptor.fields_by_name.get(name)


def _member(value: Any, field: FieldDescriptor, path: str, depth: int) -> Any:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        inner = message.fields_by_name["value"]
        if not isinstance(value, Mapping):
            raise NotThisMessage(f"{path} must be an object")
        of_key = message.fields_by_name["key"]
        return {
            _key(name, of_key, path): _member(item, inner, f"{path}.{name}", depth + 1)
            for name, item in value.items()
        }
    if field.is_repeated:
        if not isinstance(value, list):
            raise NotThisMessage(f"{path} must be a list")
        return [_item(item, field, f"{path}[{at}]", depth) for at, item in enumerate(value)]
    return _item(value, field, path, depth)


def _item(value: Any, field: FieldDescriptor, path: str, depth: int) -> Any:
    if field.message_type is not None:
        return _message(value, field.message_type, path, depth + 1)
    fits, what = _SCALARS[field.cpp_type]
    if field.type == FieldDescriptor.TYPE_BYTES:
        fits, what = _is_base64, "Base64"
    elif field.enum_type is not None:
        what = f"one of {', '.join(field.enum_type.values_by_name)}"
    elif field.full_name == _MINOR_UNITS:
        what = "a whole number, written with digits alone; 10.50 USD are 1050"
    if isinstance(value, str):
        _whole_characters(value, path)
    if not fits(value, field):
        is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
        if fits is _is_text and is_number:
            raise NumberForText(path, value)
        raise NotThisMessage(f"{path} must be {what}")
    # An enum's number that is written 2.0 is one to us, and to Go's reader.
    return _plain(value) if fits is not _is_enum or isinstance(value, str) else int(value)


def _key(name: Any, field: FieldDescriptor, path: str) -> str:
    if isinstance(name, str):
        _whole_characters(name, f"a key of {path}")
        if field.type == FieldDescriptor.TYPE_STRING:
            return name
        if field.type == FieldDescriptor.TYPE_BOOL and name in ("true", "false"):
            return name
        if field.cpp_type in _BOUNDS and _is_whole(name, field):
            return name
    what = (
        "true or false" if field.type == FieldDescriptor.TYPE_BOOL else _SCALARS[field.cpp_type][1]
    )
    raise NotThisMessage(f"the key {str(name)[:64]!r} of {path} must be {what}")


def _text(value: Any, path: str, fits: Callable[[str], bool], what: str) -> str:
    if not isinstance(value, str) or not fits(value):
        raise NotThisMessage(f"{path} must be {what}")
    return value


def _is_span(text: str) -> bool:
    found = _SPAN.fullmatch(text)
    return found is not None and int(found["seconds"]) <= _SPAN_SECONDS_MAX


def _is_mask(text: str) -> bool:
    return _MASK.fullmatch(text) is not None


_TEXTS: dict[str, tuple[Callable[[str], bool], str]] = {
    "google.protobuf.Duration": (_is_span, 'a number of seconds with an s, such as "1.5s"'),
    "google.protobuf.FieldMask": (
        _is_mask,
        'names of fields in camelCase, joined by commas, such as "displayName,price.flat"',
    ),
}


def _free(value: Any, kind: str, path: str, depth: int) -> Any:
    """Check what may be any JSON, an object or a list of it."""
    if kind == _STRUCT and not isinstance(value, Mapping):
        raise NotThisMessage(f"{path} must be an object")
    if kind == _LIST and not isinstance(value, list):
        raise NotThisMessage(f"{path} must be a list")
    return _any_json(value, path, depth)


def _any_json(value: Any, path: str, depth: int) -> Any:
    if depth > DEPTH_MAX:
        raise NotThisMessage(_TOO_DEEP)
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise NotThisMessage(f"a key of {path} is not a string")
            _whole_characters(name, f"a key of {path}")
        return {name: _any_json(item, f"{path}.{name}", depth + 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_any_json(item, f"{path}[{at}]", depth + 1) for at, item in enumerate(value)]
    if isinstance(value, str):
        _whole_characters(value, path)
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return _double(value, path)
    elif value is not None and not isinstance(value, bool):
        raise NotThisMessage(f"{path} isn't valid JSON")
    return value


def _double(value: float | Decimal, path: str) -> float:
    if not _within(value, -_DOUBLE_MAX, _DOUBLE_MAX):
        raise NotThisMessage(f"{path} must be a number that fits a double")
    return float(value)


def _whole_characters(text: str, place: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NotThisMessage(f"{place} {_HALF_A_PAIR}") from error


def _is_text(value: Any, _field: FieldDescriptor) -> bool:
    return isinstance(value, str)


def _is_base64(value: Any, _field: FieldDescriptor) -> bool:
    # Python's decoder passes over what does not belong there.
    return (
        isinstance(value, str)
        and _BASE64.fullmatch(value) is not None
        and len(value.rstrip("=")) % 4 != 1
    )


def _is_boolean(value: Any, _field: FieldDescriptor) -> bool:
    return isinstance(value, bool)


def _is_real(value: Any, field: FieldDescriptor) -> bool:
    if isinstance(value, str):
        if not _REAL.fullmatch(value):
            return False
        if value.lstrip("-") in ("NaN", "Infinity"):
            return True
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return False
    is_float = field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT
    # NaN and infinities are written as texts.
    highest = _FLOAT_MAX if is_float else _DOUBLE_MAX
    return _within(value, -highest, highest)


def _is_whole(value: Any, field: FieldDescriptor) -> bool:
    if isinstance(value, str):
        if not _WHOLE.fullmatch(value):
            return False
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return False
    if field.full_name == _MINOR_UNITS and not isinstance(value, int):
        return False  # 1.000 is a thousand to who writes it so
    lowest, highest = _BOUNDS[field.cpp_type]
    # Compared before it is made an integer: 1e1000000000 would be one of a billion digits, and NaN is none.
    return _within(value, lowest, highest) and value == int(value)


def _within(value: float | Decimal, lowest: float, highest: float) -> bool:
    if isinstance(value, Decimal) and value.is_nan():
        return False  # it has no order, and fails instead
    return bool(lowest <= value <= highest)


def _is_enum(value: Any, field: FieldDescriptor) -> bool:
    if isinstance(value, str):
        names = field.enum_type.values_by_name if field.enum_type is not None else ()
        return value.isascii() and value in names
    return _is_whole(value, field)


_FLOAT_MAX = 3.4028234663852886e38
_DOUBLE_MAX = sys.float_info.max
_BOUNDS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_SCALARS: dict[int, tuple[Callable[[Any, FieldDescriptor], bool], str]] = {
    FieldDescriptor.CPPTYPE_STRING: (_is_text, "a string"),
    FieldDescriptor.CPPTYPE_BOOL: (_is_boolean, "true or false"),
    FieldDescriptor.CPPTYPE_ENUM: (_is_enum, "a name"),
    FieldDescriptor.CPPTYPE_FLOAT: (_is_real, "a number"),
    FieldDescriptor.CPPTYPE_DOUBLE: (_is_real, "a number"),
    FieldDescriptor.CPPTYPE_INT32: (_is_whole, "a whole number of 32 bits"),
    FieldDescriptor.CPPTYPE_INT64: (_is_whole, "a whole number of 64 bits"),
    FieldDescriptor.CPPTYPE_UINT32: (_is_whole, "a whole number of 32 bits, not negative"),
    FieldDescriptor.CPPTYPE_UINT64: (_is_whole, "a whole number of 64 bits, not negative"),
}


def _moment(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise NotThisMessage(f"{path} must be {moments.HOW}")
    try:
        return moments.written(moments.read(value))
    except ValueError as error:
        raise NotThisMessage(f"{path}: {error}") from error


def _plain(value: Any) -> Any:
    # Only where the reader of the text kept decimals.
    return float(value) if isinstance(value, Decimal) else value
