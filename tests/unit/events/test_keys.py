"""What orders an event of an outside producer: its type's `key_field`, as it stands in the payload."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.events.domain import outside
from services.events.domain.types import EventType, Version
from services.runtime.errors import InvalidField

NOW = datetime(2026, 1, 15, tzinfo=UTC)


def key_of(value: str, field: str = "n", own: str = "") -> str:
    """The key of an event whose payload holds a value at `n`."""
    type_ = EventType(
        subject="stock.moved",
        owner="depot",
        consumers=(),
        description="",
        key_field=field,
        versions=(Version(1, json_schema="{}", published_at=NOW),),
        built_in=False,
    )
    payload = f'{{"n": {value}, "other": 2}}'.encode()
    event = outside.Incoming("id", "stock.moved", 1, own, payload, "", "", "", None)
    return outside.checked(event, outside.admitted(event, type_, NOW), type_.key_field).key


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("true", "true"),
        ("false", "false"),
        ("1", "1"),
        ("1.0", "1.0"),
        ("1.50", "1.50"),
        ("1e2", "1e2"),
        ("1E+2", "1E+2"),
        ("-0", "-0"),
        ("-0.0", "-0.0"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('"True"', "True"),
        ('"\\u0061"', "a"),
        (f'"{"x" * 200}"', "x" * 200),
        ("null", "id"),
    ],
)
def test_a_key_is_what_the_payload_says(written: str, key: str) -> None:
    assert key_of(written) == key


def test_where_the_payload_has_no_key_the_event_stands_alone() -> None:
    assert key_of("1", field="absent") == key_of("1", field="") == "id"
    assert key_of("[]", own="own") == "own"


@pytest.mark.parametrize(
    "written", ["[]", "{}", "[1]", '{"a": 1}', '""', f'"{"x" * 201}"', '"\\u0000"', "1" * 201]
)
def test_what_names_nothing_is_refused(written: str) -> None:
    with pytest.raises(InvalidField) as refused:
        key_of(written)
    assert refused.value.metadata["pointer"] == "/key"
    assert "n is the ordering key" in str(refused.value.fields)
