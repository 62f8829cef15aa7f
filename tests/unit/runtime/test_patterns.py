"""A pattern that a text does not match is told in words, never as a regular expression."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from payments.access.v1 import access_service_pb2
from payments.config.v1 import config_pb2
from payments.metering.v1 import metering_pb2

from services.runtime.edge import patterns, validation

PROTO = Path(__file__).parents[3] / "proto"


def rules_of(rules: validate_pb2.FieldRules) -> Iterator[str]:
    if rules.string.pattern:
        yield rules.string.pattern
    if rules.HasField("repeated"):
        yield from rules_of(rules.repeated.items)
    if rules.HasField("map"):
        yield from rules_of(rules.map.keys)
        yield from rules_of(rules.map.values)


def fields() -> Iterator[FieldDescriptor]:
    for path in (PROTO / "payments").rglob("*.proto"):
        __import__(f"{path.relative_to(PROTO).with_suffix('')}_pb2".replace("/", "."))
        file = descriptor_pool.Default().FindFileByName(str(path.relative_to(PROTO)))
        waiting = list(file.message_types_by_name.values())
        while waiting:
            message = waiting.pop()
            waiting += message.nested_types
            yield from message.fields


def test_every_pattern_of_the_protos_has_words() -> None:
    every = {
        pattern
        for field in fields()
        for pattern in rules_of(field.GetOptions().Extensions[validate_pb2.field])
    }
    assert len(every) > 15
    for pattern in every:
        told = patterns.reworded(f"does not match regex pattern `{pattern}`")
        assert told != patterns.UNKNOWN, pattern
        assert not set(told) & set("^$[]{}\\"), told


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        (r"^[^\x00]{1,128}$", "must be 1 to 128 characters, none of them NUL"),
        (r"^[^\x00]{0,256}$", "must be at most 256 characters, none of them NUL"),
        ("^[A-Za-z0-9._:-]{1,64}$", "must be 1 to 64 letters, digits or . _ : -"),
        ("^[A-Za-z0-9._:/-]{1,128}$", "must be 1 to 128 letters, digits or . _ : / -"),
        ("^[A-Za-z_-]{0,32}$", "must be at most 32 letters or _ -"),
        ("^[A-Z]{3}$", "must be 3 capital letters"),
        ("^([A-Z]{3})?$", "must be 3 capital letters, or empty"),
        ("^([0-9a-f]{64})?$", "must be 64 digits or small letters a to f, or empty"),
        (
            "^key_[0-9a-f-]{36}$",
            "must be key_ and then 36 digits, small letters a to f or -",
        ),
        (
            "^[a-z0-9][a-z0-9_-]{0,63}$",
            "must be 1 to 64 small letters, digits or _ -, the first a small letter or digit",
        ),
        (
            "^[a-z][a-z0-9_]{0,31}$",
            "must be 1 to 32 small letters, digits or _, the first a small letter",
        ),
        ("^(a|b)+$", patterns.UNKNOWN),
    ],
)
def test_a_pattern_says_how_many_characters_of_which_kind(pattern: str, told: str) -> None:
    assert patterns.reworded(f"does not match regex pattern `{pattern}`") == told


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (metering_pb2.UsageEvent(request_id="x" * 129), "request_id"),
        (config_pb2.MerchantConfig(merchant_id="no spaces"), "merchant_id"),
        (access_service_pb2.RevokeApiKeyRequest(key_id="key_1"), "key_id"),
    ],
)
def test_no_violation_shows_a_regular_expression(message: Message, field: str) -> None:
    found = {item.field: item.description for item in validation.violations(message)}
    assert found[field].startswith("must be ")
    assert not any("regex" in told for told in found.values())
