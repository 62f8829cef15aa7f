"""Requests that are almost right: of the right shape, with ids that exist, and one field that holds something odd.

Driven by the descriptors alone, so that a new RPC or field is fuzzed as soon as it is there. All dice are the caller's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from random import Random
from typing import Any
from uuid import UUID

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)

TEXTS = (
    *("", " ", "\0", "a\0b", "\x7f\x1b[31m", "\ufeff", "\ufffd", "\uffff", "\U0001f4b6", "ß" * 40),
    *("0", "-0", "-1", "1e5", "1.", ".5", "NaN", "Infinity", "1" * 20, "9" * 400, "0." + "0" * 40),
    *("true", "null", "[]", "{}", '"', "\\", "'; --", "%", "%ff", "%00", "../..", "a/b", "a:b"),
    *("UTC", "Europe/Berlin", "Mars/Olympus", "/etc/passwd", "../UTC", "posixrules", "Factory"),
    *(
        "* * * * *",
        "*/0 * * * *",
        "0 0 31 2 *",
        "@daily",
        "60 * * * *",
        "0 0 * * 1#9",
        "* * * * * *",
    ),
    *(
        "*",
        "*.*",
        ">",
        "a.*",
        "a..b",
        ".",
        "payments.",
        "a.b.v0",
        "a.b.v1",
        "a.b.v99999999999999999999",
    ),
    *("USD", "usd", "XXX", "JPY", "", "EURO", "receivable:x:USD", "cash:USD"),
    *(
        "https://[::1",
        "http://a",
        "https://a:99999999/",
        "https://\0/",
        "https://u:p@a/?q#f",
        "https://ü.example",
    ),
    *("2026-01-31T12:00:00Z", "2026-13-01", "0000-00-00T00:00:00Z", "9999-12-31T23:59:60Z"),
    *("00000000-0000-0000-0000-000000000000", "{6f9619ff-8b86-4011-b42d-00c04fc964ff}", "g" * 36),
    *("x" * 65, "x" * 129, "x" * 257, "x" * 5_000, "\u0301" * 70),
)
BODIES = (
    *(
        b"",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"{",
        b"[",
        b"null",
        b"true",
        b"7",
        b'"text"',
        b"[[[]]]",
    ),
    *(b'{"a": 1e999}', b'{"a": NaN}', b'{"a": "\\ud800"}', b'{"\\udfff": 1}', b'{"a": 1, "a": 2}'),
    *(b'{"a": ' + b"9" * 5000 + b"}", b'{"a": 1e1000000000000000000}', b"[" * 2000, b'{"a":' * 200),
    *("{}".encode("utf-16"), "{}".encode("utf-32"), b'{"a": "\\u0000"}', b"{}" + b" " * 9 + b"{}"),
)
MOMENTS = (
    *((0, 0), (0, -1), (0, 10**9), (0, -(2**31)), (0, 2**31 - 1), (1, 1), (-1, 999_999_999)),
    *((INT64_MAX, 0), (INT64_MIN, 0), (INT64_MIN, -1), (10**12, 5)),
    *(
        (-62_135_596_800, 0),
        (-62_135_596_801, 0),
        (253_402_300_799, 999_999_999),
        (253_402_300_800, 0),
    ),
    *((1_767_225_600, 1), (1_767_225_600, 999), (4_102_444_800, 0), (-1, 0)),
)
SPANS = (
    *((0, 0), (0, -1), (1, -1), (-1, 1), (-1, -1), (0, 10**9), (0, -(2**31))),
    *(
        (INT64_MAX, 0),
        (INT64_MIN, 0),
        (315_576_000_000, 0),
        (315_576_000_001, 0),
        (-315_576_000_000, -1),
    ),
    *((86_400, 0), (10**10, 0), (10**11, 0), (1, 999)),
)
TYPE_URLS = (
    *("", "x", "/", "type.googleapis.com/", "type.googleapis.com/no.such.Type", "\0"),
    *("type.googleapis.com/google.protobuf.Timestamp", "type.googleapis.com/google.protobuf.Any"),
)
_NUMBERS: dict[int, tuple[int, int]] = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (INT64_MIN, INT64_MAX),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_DOUBLES = (
    0.0,
    -0.0,
    0.1,
    1e308,
    -1e308,
    5e-324,
    float("inf"),
    float("-inf"),
    float("nan"),
    2.0**53,
)
_DEPTH_MAX = 6

Known = dict[str, list[Any]]


def known_values(messages: Iterable[Message]) -> Known:
    """Collect what the texts of good requests hold, by the name of their field: ids that exist."""
    found: Known = {}
    for message in messages:
        _collect(message, found)
    return found


def _collect(message: Message, found: Known) -> None:
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        for item in value if field.is_repeated else (value,):
            if isinstance(item, Message):
                _collect(item, found)
            elif isinstance(item, str) and item not in found.setdefault(field.name, []):
                found[field.name].append(item)


def mutate(dice: Random, message: Any, known: Known, depth: int = 0) -> str:
    """Put something odd somewhere into a message; returns the path of what was changed."""
    fields = list(message.DESCRIPTOR.fields)
    if not fields:
        return ""
    field = dice.choice(fields)
    if _is_map(field):
        return _mutate_map(dice, message, field, known)
    if field.is_repeated:
        return _mutate_list(dice, message, field, known, depth)
    if field.message_type is None:
        _set(message, field, _scalar(dice, field, known))
        return str(field.name)
    if dice.random() < 0.1:
        message.ClearField(field.name)
        return str(field.name)
    inside = getattr(message, field.name)
    inside.SetInParent()
    return f"{field.name}.{_odd_message(dice, inside, known, depth)}"


def _mutate_list(
    dice: Random, message: Any, field: FieldDescriptor, known: Known, depth: int
) -> str:
    items = getattr(message, field.name)
    choice = dice.random()
    if choice < 0.05:
        message.ClearField(field.name)
    elif choice < 0.1 and items:
        items.extend(list(items) * dice.choice((1, 2, 60)))
    elif field.message_type is None:
        if items and choice < 0.6:
            items[dice.randrange(len(items))] = _scalar(dice, field, known)
        else:
            items.append(_scalar(dice, field, known))
    else:
        if not items or choice < 0.15:
            items.add()
        index = dice.randrange(len(items))
        return f"{field.name}[{index}].{_odd_message(dice, items[index], known, depth)}"
    return str(field.name)


def _mutate_map(dice: Random, message: Any, field: FieldDescriptor, known: Known) -> str:
    entry = field.message_type
    assert entry is not None
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    held = getattr(message, field.name)
    for _ in range(dice.choice((1, 1, 1, 40))):
        is_text = key.cpp_type == FieldDescriptor.CPPTYPE_STRING
        name = f"k{dice.randrange(99)}" if is_text and dice.random() < 0.5 else None
        name = _scalar(dice, key, known) if name is None else name
        if value.message_type is None:
            held[name] = _scalar(dice, value, known)
        else:
            _odd_message(dice, held[name], known, _DEPTH_MAX)
    return str(field.name)


def _odd_message(dice: Random, message: Any, known: Known, depth: int) -> str:
    name = message.DESCRIPTOR.full_name
    if name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
        message.seconds, message.nanos = dice.choice(MOMENTS if "Timestamp" in name else SPANS)
    elif name == "google.protobuf.Any":
        message.type_url, message.value = dice.choice(TYPE_URLS), dice.choice(BODIES)
    elif name == "google.protobuf.Struct":
        _fill_struct(dice, message)
    elif depth < _DEPTH_MAX:
        return mutate(dice, message, known, depth + 1)
    return ""


def _fill_struct(dice: Random, struct: Any) -> None:
    value = struct.fields[
        dice.choice(("amount", "currency", "order_id", "payment_methods", "x", ""))
    ]
    for _ in range(dice.choice((0, 0, 1, 3, 28))):
        value = (
            value.struct_value.fields["a"] if dice.random() < 0.5 else value.list_value.values.add()
        )
    choice = dice.randrange(5)
    if choice == 0:
        value.number_value = dice.choice(_DOUBLES)
    elif choice == 1:
        value.string_value = dice.choice(TEXTS)
    elif choice == 2:
        value.bool_value = True
    elif choice == 3:
        value.null_value = 0


def _scalar(dice: Random, field: FieldDescriptor, known: Known) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return dice.choice(BODIES)
    if field.type == FieldDescriptor.TYPE_STRING:
        own = known.get(field.name, ())
        return dice.choice(own) if own and dice.random() < 0.3 else dice.choice(TEXTS)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return dice.random() < 0.5
    if field.enum_type is not None:
        numbers = [value.number for value in field.enum_type.values]
        return dice.choice([*numbers, 99, -1, 2**31 - 1])
    if field.cpp_type in _NUMBERS:
        least, most = _NUMBERS[field.cpp_type]
        near = (0, 1, 2, 1000, 1001, 8191, 2**31 - 1, 2**53 + 1, least, most, -1)
        return dice.choice([number for number in near if least <= number <= most])
    return dice.choice(_DOUBLES)


def _set(message: Any, field: FieldDescriptor, value: Any) -> None:
    setattr(message, field.name, value)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def damaged(dice: Random, data: bytes) -> bytes:
    """Return the bytes of a message, some of them others."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8))):
        where = dice.randrange(len(changed) + 1)
        match dice.randrange(4):
            case 0:
                del changed[where : where + dice.choice((1, 4, 4000))]
            case 1:
                changed[where:where] = dice.randbytes(dice.choice((1, 3, 30)))
            case 2 if where < len(changed):
                changed[where] = dice.randrange(256)
            case _:
                changed[where:where] = dice.choice(
                    (b"\xff\xff\xff\xff\x0f", b"\x0b", b"\x0c", b"\xc0\x80")
                )
    return bytes(changed)


# ---- Page tokens


def forged_token(dice: Random, token: str, seal: Callable[[bytes, str], bytes]) -> str:
    """Return a token with another position inside; `seal` is that of a server that tells no scopes apart.

    Half of them hold a seed alone, from which that server draws a position of the form that it reads.
    """
    if dice.random() < 0.5:
        body = json.dumps({"any": dice.randrange(2**32)}).encode()
        return base64.urlsafe_b64encode(seal(body, "") + body).decode().rstrip("=")
    try:
        position = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))[8:])
    except ValueError:
        position = {}
    names = [*position, "after", "seq"]
    odd: tuple[Any, ...] = (
        *(
            None,
            True,
            1.5,
            -1,
            0,
            2**31,
            2**63,
            -(2**63),
            10**30,
            "",
            "\0",
            "\ud800",
            [],
            {},
            "x" * 9000,
        ),
        *(
            "2026",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
        ),
        *("not a time", str(UUID(int=0)), "z" * 40),
    )
    position[dice.choice(names)] = dice.choice(odd)
    body = dice.choice(
        (json.dumps(position).encode(), json.dumps(position).encode(), *BODIES, b'{"after": NaN}')
    )
    return base64.urlsafe_b64encode(seal(body, "") + body).decode().rstrip("=")
