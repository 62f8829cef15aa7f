"""Base of the generated messages: refuses what does not fit its field, before it leaves.

betterproto2 encodes what it is given: an integer beyond its field wraps, half a second backwards comes out as half a
second forwards, `5.7` in JSON becomes 5. Money must not change on its way out, so each message is checked before it is
encoded, and JSON is read exactly. `make generate` writes this module into the package from `tools/sdk_checked.py`.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import struct
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any, TypeVar

import betterproto2
from betterproto2 import FieldMetadata
from betterproto2.casing import safe_snake_case
from typing_extensions import Self  # noqa: UP035 - Python 3.10, which the package supports, has none in typing

_INTEGERS = {
    **dict.fromkeys(("int32", "sint32", "sfixed32", "enum"), (-(2**31), 2**31 - 1)),
    **dict.fromkeys(("int64", "sint64", "sfixed64"), (-(2**63), 2**63 - 1)),
    **dict.fromkeys(("uint32", "fixed32"), (0, 2**32 - 1)),
    **dict.fromkeys(("uint64", "fixed64"), (0, 2**64 - 1)),
}
_OF_64_BITS = ("int64", "sint64", "sfixed64", "uint64", "fixed64")
# Bounds of google.protobuf.Duration and Timestamp: about 10,000 years, and the years 1 to 9999.
DURATION_SECONDS_MAX = 315_576_000_000
TIMESTAMP_SECONDS_MIN = -62_135_596_800
TIMESTAMP_SECONDS_MAX = 253_402_300_799
NANOS_MAX = 999_999_999

# What the generator writes into Duration, and gets wrong for what is negative.
_OF_DURATION = (
    "from_timedelta",
    "to_timedelta",
    "delta_to_json",
    "from_wrapped",
    "to_wrapped",
    "from_dict",
    "to_dict",
)
_WRAPPED = {"Timestamp": "a datetime", "Duration": "a timedelta"}
_DIGITS_MAX = 40
# Of a decimal that a double gives back as it was.
_EXACT_DIGITS = 15
_MICROSECOND = timedelta(microseconds=1)
# Python 3.10 has no datetime.UTC.
_UTC = timezone.utc  # noqa: UP017
_EPOCH = datetime(1970, 1, 1, tzinfo=_UTC)
_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_DURATION = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s")
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)

_TimeT = TypeVar("_TimeT", bound="CheckedDuration | CheckedTimestamp")


class FieldMisfit(ValueError):
    """A value that does not fit its field. It says which field, and nothing was sent."""


class CheckedMessage(betterproto2.Message):
    """A generated message. `bytes(message)`, `to_dict` and `to_json` raise FieldMisfit for what does not fit.

    Attributes:
        json_names: fields that the proto gives a name of their own in JSON.
    """

    # Without an annotation, which betterproto2 would evaluate among the names of each generated module.
    json_names = MappingProxyType[str, str]({})

    def __setattr__(self, name: str, value: object) -> None:
        # A misspelt field would be dropped without a word.
        if name not in self.__dataclass_fields__ and not name.startswith("_"):  # type: ignore[attr-defined] # each message is a dataclass
            raise AttributeError(f"{type(self).__name__} has no field {name}")
        super().__setattr__(name, value)

    def __bytes__(self) -> bytes:
        self.check()
        return super().__bytes__()

    def check(self) -> None:
        """Check the fields of this message; those of messages within are checked as they are encoded.

        Raises:
            FieldMisfit: a value is of another type than its field or out of its range, or two members of a oneof are
                set.
        """
        of = type(self)
        meta: Any = of._betterproto  # type: ignore[arg-type] # a property of the class
        for name, field in meta.meta_by_field_name.items():
            value = getattr(self, name)
            if value is None:
                if field.repeated or not _may_be_absent(field):
                    raise FieldMisfit(f"{of.__name__}.{name}: it may not be None")
                continue
            _check_field(f"{of.__name__}.{name}", field, meta.cls_by_field, name, value)
        for group, fields in meta.oneof_field_by_group.items():
            taken = sorted(field.name for field in fields if getattr(self, field.name) is not None)
            if len(taken) > 1:
                raise FieldMisfit(
                    f"{of.__name__}.{group}: only one of {', '.join(taken)} may be set"
                )

    def to_dict(self, **options: Any) -> dict[str, Any]:
        """Return the message as protobuf's JSON, or as Python values. Raises FieldMisfit."""
        self.check()
        tree = super().to_dict(**options)
        casing = options.get("casing", betterproto2.Casing.CAMEL)
        if casing is betterproto2.Casing.CAMEL:
            for name, own in self.json_names.items():
                if (written := casing(name)) in tree:
                    tree[own] = tree.pop(written)
        return tree

    @classmethod
    def from_json(cls, value: str | bytes, *, ignore_unknown_fields: bool = False) -> Self:
        """Read protobuf's JSON exactly.

        Raises:
            FieldMisfit: a value does not fit its field, or stands twice.
            KeyError: a field is unknown.
            json.JSONDecodeError: the text is no JSON.
        """
        try:
            tree = json.loads(
                value,
                parse_float=_Written,
                parse_int=_whole,
                parse_constant=_constant,
                object_pairs_hook=_pairs,
            )
            return cls.from_dict(tree, ignore_unknown_fields=ignore_unknown_fields)
        except RecursionError as error:
            raise FieldMisfit(f"{cls.__name__}: the text nests too deeply") from error

    @classmethod
    def _from_dict_init(
        cls, mapping: Mapping[str, Any] | Any, *, ignore_unknown_fields: bool
    ) -> Mapping[str, Any]:
        if not isinstance(mapping, Mapping):
            raise FieldMisfit(f"{cls.__name__}: an object is needed, not {_shown(mapping)}")
        meta: Any = cls._betterproto  # type: ignore[arg-type] # a property of the class
        fields: Mapping[str, FieldMetadata] = meta.meta_by_field_name
        exact: dict[str, Any] = {}
        own = {written: name for name, written in cls.json_names.items()}
        for key, value in mapping.items():
            name = own.get(key) or safe_snake_case(key)
            field = fields.get(name)
            if field is None:
                exact[key] = value
                continue
            place = f"{cls.__name__}.{name}"
            if name in exact:
                raise FieldMisfit(f"{place}: it stands twice, in two spellings")
            exact[name] = None if value is None else _read_field(place, field, value)
        return super()._from_dict_init(exact, ignore_unknown_fields=ignore_unknown_fields)


class CheckedDuration(CheckedMessage):
    """google.protobuf.Duration, with one sign for seconds and nanos. Takes the place of the generated methods."""

    seconds: int
    nanos: int

    def __init_subclass__(cls) -> None:
        for name in _OF_DURATION:
            delattr(cls, name)

    def check(self) -> None:
        """Raise FieldMisfit beyond about 10,000 years, or for two signs."""
        super().check()
        if not (abs(self.seconds) <= DURATION_SECONDS_MAX and abs(self.nanos) <= NANOS_MAX):
            raise FieldMisfit(f"Duration: {self.seconds} s and {self.nanos} ns are out of range")
        if self.seconds * self.nanos < 0:
            raise FieldMisfit("Duration: seconds and nanos have different signs")

    @classmethod
    def from_timedelta(cls, delta: timedelta) -> Self:
        """Return the same span of time."""
        sign = -1 if delta < timedelta(0) else 1
        seconds, micros = divmod(abs(delta) // _MICROSECOND, 1_000_000)
        return _built(cls, sign * seconds, sign * micros * 1000)

    def to_timedelta(self) -> timedelta:
        """Return the same span of time, nanoseconds cut off."""
        micros = abs(self.nanos) // 1000
        return timedelta(seconds=self.seconds, microseconds=-micros if self.nanos < 0 else micros)

    @classmethod
    def from_wrapped(cls, wrapped: timedelta) -> Self:
        """Return the message of a value of a field."""
        return cls.from_timedelta(wrapped)

    def to_wrapped(self) -> timedelta:
        """Return the value that a field holds."""
        return self.to_timedelta()

    @classmethod
    def from_dict(cls, value: Any, *, ignore_unknown_fields: bool = False) -> Self:
        """Read `"-1.5s"`. Raises FieldMisfit."""
        found = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise FieldMisfit(f"Duration: {_shown(value)} is not written like 1.5s")
        sign = -1 if found[1] else 1
        message = _built(cls, sign * int(found[2]), sign * _nanos("Duration", value, found[3]))
        message.check()
        return message

    def to_dict(self, **options: Any) -> Any:
        """Return `"-1.500s"`."""
        self.check()
        sign = "-" if self.seconds < 0 or self.nanos < 0 else ""
        return f"{sign}{abs(self.seconds)}{_fraction(abs(self.nanos))}s"


class CheckedTimestamp(CheckedMessage):
    """google.protobuf.Timestamp, read from RFC 3339 and nothing else. Takes the place of the generated methods."""

    seconds: int
    nanos: int

    def __init_subclass__(cls) -> None:
        for name in ("from_dict", "to_dict"):
            delattr(cls, name)

    def check(self) -> None:
        """Raise FieldMisfit outside the years 1 to 9999."""
        super().check()
        if not TIMESTAMP_SECONDS_MIN <= self.seconds <= TIMESTAMP_SECONDS_MAX:
            raise FieldMisfit(f"Timestamp: {self.seconds} s are outside the years 1 to 9999")
        if not 0 <= self.nanos <= NANOS_MAX:
            raise FieldMisfit(f"Timestamp: {self.nanos} ns are out of range")

    @classmethod
    def from_dict(cls, value: Any, *, ignore_unknown_fields: bool = False) -> Self:
        """Read `"2026-01-31T12:00:00.123456Z"`. Raises FieldMisfit."""
        found = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise FieldMisfit(
                f"Timestamp: {_shown(value)} is not written like 2026-01-31T12:00:00Z (RFC 3339)"
            )
        nanos = _nanos("Timestamp", value, found[2])
        try:
            second = datetime.fromisoformat(f"{found[1]}{found[3]}".upper()).astimezone(_UTC)
        except (ValueError, OverflowError) as error:
            raise FieldMisfit(f"Timestamp: {_shown(value)} is no time of a calendar") from error
        elapsed = second - _EPOCH
        return _built(cls, elapsed // timedelta(seconds=1), nanos)

    def to_dict(self, **options: Any) -> Any:
        """Return `"2026-01-31T12:00:00.123456Z"`, with all digits that there are."""
        self.check()
        second = (_EPOCH + timedelta(seconds=self.seconds)).replace(tzinfo=None)
        return f"{second.isoformat()}{_fraction(self.nanos)}Z"


def _built(cls: type[_TimeT], seconds: int, nanos: int) -> _TimeT:
    message = cls()
    message.seconds, message.nanos = seconds, nanos
    return message


# ---- before a message leaves


def _may_be_absent(field: FieldMetadata) -> bool:
    return bool(field.optional or field.group or field.proto_type == betterproto2.TYPE_MESSAGE)


def _check_field(
    place: str, field: FieldMetadata, types: Mapping[str, type], name: str, value: object
) -> None:
    if field.map_meta is not None:
        if not isinstance(value, Mapping):
            raise FieldMisfit(f"{place}: a dict is needed, not {_shown(value)}")
        for key, item in value.items():
            _check_one(f"{place} (key)", field.map_meta[0], object, key)
            _check_one(f"{place}[{key!r}]", field.map_meta[1], types[f"{name}.value"], item)
    elif field.repeated:
        if not isinstance(value, list | tuple):
            raise FieldMisfit(f"{place}: a list is needed, not {_shown(value)}")
        for index, item in enumerate(value):
            _check_one(f"{place}[{index}]", field, types[name], item)
    else:
        _check_one(place, field, types[name], value)


def _check_one(place: str, field: FieldMetadata, of: type, value: object) -> None:
    kind = field.proto_type
    if kind in _INTEGERS:
        low, high = _INTEGERS[kind]
        # True is an int in Python, but no amount.
        if not isinstance(value, int) or isinstance(value, bool):
            raise FieldMisfit(f"{place}: an integer is needed, not {_shown(value)}")
        if isinstance(value, Enum) and not isinstance(value, of):
            raise FieldMisfit(f"{place}: {of.__name__} is needed, not {_shown(value)}")
        if not low <= value <= high:
            raise FieldMisfit(f"{place}: {value} does not fit {kind} ({low} to {high})")
    elif kind in ("double", "float"):
        _check_float(place, kind, value)
    elif kind == "string":
        _check_text(place, value)
    elif kind == "message":
        _check_message(place, field, of, value)
    elif not isinstance(value, bool if kind == "bool" else bytes | bytearray):
        raise FieldMisfit(f"{place}: {kind} is needed, not {_shown(value)}")


def _check_float(place: str, kind: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise FieldMisfit(f"{place}: a number is needed, not {_shown(value)}")
    try:
        (kept,) = struct.unpack("<d", struct.pack("<d", value))
        struct.pack("<d" if kind == "double" else "<f", value)
    except (struct.error, OverflowError) as error:
        raise FieldMisfit(f"{place}: {_shown(value)} does not fit {kind}") from error
    if place == "Value.number_value" and not math.isfinite(value):
        raise FieldMisfit(f"{place}: {value} is no number of JSON")
    if isinstance(value, int) and kept != value:
        raise FieldMisfit(f"{place}: {value} would lose digits as {kind}; send it as text")


def _check_text(place: str, value: object) -> None:
    if not isinstance(value, str):
        raise FieldMisfit(f"{place}: a text is needed, not {_shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise FieldMisfit(f"{place}: the text holds half a surrogate pair") from error


def _check_message(place: str, field: FieldMetadata, of: type, value: object) -> None:
    if field.unwrap is None:
        if not isinstance(value, of):
            raise FieldMisfit(f"{place}: {of.__name__} is needed, not {_shown(value)}")
        return
    wrapper: Any = field.unwrap()
    if isinstance(value, datetime) and value.utcoffset() is None:
        raise FieldMisfit(f"{place}: {_shown(value)} has no time zone")
    try:
        wrapped = wrapper.from_wrapped(value)
    except (TypeError, AttributeError) as error:
        kind = _WRAPPED.get(wrapper.__name__, "another value")
        raise FieldMisfit(f"{place}: {kind} is needed, not {_shown(value)}") from error
    except (ValueError, OverflowError) as error:
        raise FieldMisfit(f"{place}: {_shown(value)} does not fit: {error}") from error
    try:
        wrapped.check()
    except FieldMisfit as error:
        raise FieldMisfit(f"{place}: {error}") from error


# ---- JSON


class _Written(float):
    """A number of JSON that keeps the digits that were written."""

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        if math.isinf(number):
            raise FieldMisfit(f"{text[:64]}: no double is that large")
        # Digits beyond those that a double has are lost, unless they are those of the very double.
        if len(text) > _EXACT_DIGITS:
            written, kept = Decimal(text), float(number)
            if (
                written not in (Decimal(repr(kept)), Decimal(kept))
                and _digits(written) > _EXACT_DIGITS
            ):
                raise FieldMisfit(f"{text[:64]}: it would lose digits as a double; send it as text")
        return number

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


def _digits(number: Decimal) -> int:
    return len(number.normalize().as_tuple().digits)


def _whole(text: str) -> int:
    if len(text) > _DIGITS_MAX:
        raise FieldMisfit(f"{text[:16]}…: no field holds an integer of {len(text)} digits")
    return int(text)


def _constant(text: str) -> float:
    raise FieldMisfit(f"{text} is no number of JSON")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise FieldMisfit(f"{twice[:64]}: it stands twice in one object")
    return tree


def _read_field(place: str, field: FieldMetadata, value: Any) -> Any:
    """Return a value of JSON in the form that betterproto2 reads without a loss."""
    if field.map_meta is not None:
        if not isinstance(value, Mapping):
            raise FieldMisfit(f"{place}: an object is needed, not {_shown(value)}")
        key_field, value_field = field.map_meta
        return {
            _read_key(f"{place} (key)", key_field, key): _read_one(place, value_field, item)
            for key, item in value.items()
        }
    if field.repeated:
        if not isinstance(value, list | tuple):
            raise FieldMisfit(f"{place}: a list is needed, not {_shown(value)}")
        return [_read_one(f"{place}[{index}]", field, item) for index, item in enumerate(value)]
    return _read_one(place, field, value)


def _read_key(place: str, field: FieldMetadata, key: Any) -> Any:
    if field.proto_type == "bool" and key in ("true", "false"):
        return key == "true"
    return _read_one(place, field, key)


def _read_one(place: str, field: FieldMetadata, value: Any) -> Any:
    kind = field.proto_type
    if kind == "enum":
        return _read_enum(place, value)
    if kind in _INTEGERS:
        written = getattr(value, "text", value)
        # To many people 5.000 is five thousand.
        if isinstance(written, str) and "." in written and kind in _OF_64_BITS:
            raise FieldMisfit(f"{place}: an integer is written without a point, not {written[:64]}")
        return _read_integer(place, value)
    if kind == "bytes":
        return _read_bytes(place, value)
    if kind in ("double", "float"):
        return _read_float(place, value)
    if kind == "message":
        return value
    if not isinstance(value, bool if kind == "bool" else str):
        raise FieldMisfit(f"{place}: {kind} is needed, not {_shown(value)}")
    return value


def _read_enum(place: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise FieldMisfit(f"{place}: the name of an enum value is needed, not {_shown(value)}")
    return value


def _read_integer(place: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, _Written):
        value = value.text
    elif isinstance(value, Decimal):
        value = str(value)
    elif isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        number = Decimal(value)
        # An exponent of three digits is bounded, so the integer that it stands for is too.
        if number == number.to_integral_value():
            return int(number)
    raise FieldMisfit(f"{place}: an integer is needed, not {_shown(value)}")


def _read_float(place: str, value: Any) -> Any:
    if isinstance(value, str) and (
        value in ("NaN", "Infinity", "-Infinity") or _NUMBER.fullmatch(value)
    ):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise FieldMisfit(f"{place}: a number is needed, not {_shown(value)}")


def _read_bytes(place: str, value: Any) -> str:
    if isinstance(value, str):
        standard = value.rstrip("=").replace("-", "+").replace("_", "/")
        standard += "=" * (-len(standard) % 4)
        try:
            base64.b64decode(standard, validate=True)
        except (binascii.Error, ValueError):
            pass
        else:
            return standard
    raise FieldMisfit(f"{place}: Base64 is needed, not {_shown(value)}")


def _nanos(kind: str, text: str, fraction: str | None) -> int:
    nanos = int((fraction or "").ljust(9, "0"))
    if nanos % 1000:
        raise FieldMisfit(f"{kind}: of {_shown(text)} only microseconds can be kept")
    return nanos


def _fraction(nanos: int) -> str:
    """Return no digits or 3, 6 or 9 of them, as protobuf's JSON writes them."""
    if nanos == 0:
        return ""
    digits = f"{nanos:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f".{digits}"


def _shown(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 64 else text[:61] + '...'}"
