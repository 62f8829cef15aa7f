"""Partners' dataclasses and the services' messages are one format: bytes cross over both ways."""

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any

import betterproto2
import payments
import payments_sdk.payments
import pytest
from google.protobuf import (
    any_pb2,
    descriptor_pool,
    duration_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
)
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payments.type.v1 import type_pb2
from payments_sdk.message_pool import default_message_pool

DEPTH_MAX = 3
SECONDS_MIN = -62_135_596_800  # 0001-01-01
SECONDS_MAX = 253_402_300_799  # 9999-12-31
DURATION_SECONDS_MAX = 315_576_000_000
NANOS_PER_MICRO = 1_000  # the dataclasses hold datetimes: microseconds, as all our timestamps do


def import_all(package: Any) -> None:
    """Import every module below a package, so that its messages are registered."""
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("_grpc"):
            importlib.import_module(module.name)


import_all(payments)
import_all(payments_sdk.payments)

SDK_TYPES: dict[str, type[betterproto2.Message]] = {
    url.rpartition("/")[2]: cls for url, cls in default_message_pool.url_to_type.items()
}
POOL = descriptor_pool.Default()


def our_messages() -> list[str]:
    """Full names of all messages of ours that the dataclasses declare."""
    return sorted(name for name in SDK_TYPES if name.startswith("payments."))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
MICROS = st.integers(0, 999_999)

SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: TEXT,
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=8),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False, allow_infinity=False),
}


@st.composite
def timestamps(draw: st.DrawFn) -> timestamp_pb2.Timestamp:
    seconds = draw(st.integers(SECONDS_MIN, SECONDS_MAX))
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=draw(MICROS) * NANOS_PER_MICRO)


@st.composite
def durations(draw: st.DrawFn) -> duration_pb2.Duration:
    sign = draw(st.sampled_from([-1, 1]))
    seconds = draw(st.integers(0, DURATION_SECONDS_MAX - 1))
    nanos = draw(MICROS) * NANOS_PER_MICRO
    return duration_pb2.Duration(seconds=sign * seconds, nanos=sign * nanos)


# Made once, as all strategies here: Hypothesis looks each through before the first draw from it.
OBJECTS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    TEXT,
    st.recursive(
        st.one_of(st.none(), st.booleans(), TEXT, SCALARS[FieldDescriptor.TYPE_DOUBLE]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


@st.composite
def structs(draw: st.DrawFn) -> struct_pb2.Struct:
    message = struct_pb2.Struct()
    message.update(draw(OBJECTS))
    return message


@st.composite
def anys(draw: st.DrawFn) -> any_pb2.Any:
    packed = any_pb2.Any()
    money = type_pb2.Money(currency_code=draw(TEXT), minor_units=draw(st.integers(-9, 9)))
    packed.Pack(money)
    return packed


WELL_KNOWN: dict[str, st.SearchStrategy[Message]] = {
    "google.protobuf.Timestamp": timestamps(),
    "google.protobuf.Duration": durations(),
    "google.protobuf.Struct": structs(),
    "google.protobuf.Any": anys(),
}
IS_FILLED = st.booleans()


@cache
def values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    """Values of one element of a field."""
    if field.message_type is not None:
        return messages(field.message_type, depth + 1)
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    return SCALARS[field.type]


@cache
def lists(field: FieldDescriptor, depth: int) -> st.SearchStrategy[list[Any]]:
    """Values of a repeated field."""
    return st.lists(values(field, depth), max_size=2)


@cache
def maps(field: FieldDescriptor, depth: int) -> st.SearchStrategy[dict[Any, Any]]:
    """Values of a map."""
    assert field.message_type is not None
    key, value = field.message_type.fields_by_name.values()
    return st.dictionaries(values(key, depth), values(value, depth), max_size=2)


def fill(draw: st.DrawFn, message: Message, field: FieldDescriptor, depth: int) -> None:
    """Give a field a drawn value."""
    target = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _, value = field.message_type.fields_by_name.values()
        for name, item in draw(maps(field, depth)).items():
            if value.message_type is not None:
                target[name].CopyFrom(item)
            else:
                target[name] = item
    elif field.is_repeated:
        target.extend(draw(lists(field, depth)))
    elif field.message_type is not None:
        target.CopyFrom(draw(values(field, depth)))
    else:
        setattr(message, field.name, draw(values(field, depth)))


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> Message:
    """Any message of a type: each field absent or filled, one member of each oneof at most."""
    if descriptor.full_name in WELL_KNOWN:
        return draw(WELL_KNOWN[descriptor.full_name])
    message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.message_type is not None and depth >= DEPTH_MAX:
            continue
        taken = field.containing_oneof and message.WhichOneof(field.containing_oneof.name)
        if not taken and draw(IS_FILLED):
            fill(draw, message, field, depth)
    return message


def canonical(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", our_messages())
def test_bytes_cross_over_both_ways(name: str) -> None:
    descriptor = POOL.FindMessageTypeByName(name)
    ours = message_factory.GetMessageClass(descriptor)
    theirs = SDK_TYPES[name]

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(messages(descriptor))
    def crosses(original: Message) -> None:
        parsed = theirs.parse(original.SerializeToString())
        back = ours.FromString(bytes(parsed))
        assert canonical(back) == canonical(original)
        assert bytes(theirs.parse(bytes(parsed))) == bytes(parsed)

    crosses()


def test_every_message_of_the_services_has_its_dataclass() -> None:
    for name in our_messages():
        assert POOL.FindMessageTypeByName(name).full_name == name
    assert "payments.type.v1.Money" in our_messages()


@given(structs())
@settings(max_examples=50, deadline=None)
def test_structs_keep_every_value(original: struct_pb2.Struct) -> None:
    theirs = SDK_TYPES["google.protobuf.Struct"]
    back = struct_pb2.Struct.FromString(bytes(theirs.parse(original.SerializeToString())))
    assert canonical(back) == canonical(original)


@given(anys())
def test_any_keeps_its_type_and_bytes(original: any_pb2.Any) -> None:
    theirs = SDK_TYPES["google.protobuf.Any"].parse(original.SerializeToString())
    back = any_pb2.Any.FromString(bytes(theirs))
    assert (back.type_url, back.value) == (original.type_url, original.value)
    unpack: Callable[[], betterproto2.Message] = theirs.unpack  # type: ignore[attr-defined]
    assert type(unpack()) is SDK_TYPES["payments.type.v1.Money"]
