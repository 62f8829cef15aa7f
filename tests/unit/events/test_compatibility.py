"""What may change within a version: the laws, and every change that breaks one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.events.domain.compatibility import SchemaBreaking, check_additive
from services.events.domain.types import (
    CUTOVER_AFTER,
    EventType,
    SubjectOwned,
    TypeUnknown,
    Version,
    VersionRetired,
    register,
)
from services.runtime.errors import InvalidField

BASE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "window"],
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 20, "pattern": "^[a-z]+$"},
        "status": {"type": "string", "enum": ["OPEN", "PAID"]},
        "count": {"type": ["integer", "null"], "minimum": 0, "maximum": 9},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        "window": {"$ref": "#/$defs/window"},
    },
    "$defs": {
        "window": {
            "type": "object",
            "required": ["start"],
            "properties": {"start": {"type": "string", "format": "date-time"}},
        }
    },
}
Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> dict[str, Any]:
    schema = copy.deepcopy(BASE)
    change(schema)
    return schema


ADDITIVE: dict[str, Change] = {
    "nothing": lambda s: None,
    "a field": lambda s: s["properties"].update(more={"type": "string"}),
    "a nested field": lambda s: s["$defs"]["window"]["properties"].update(end={}),
    "a known value": lambda s: s["properties"]["status"]["enum"].append("ON_HOLD"),
    "open values": lambda s: s["properties"]["status"].pop("enum"),
    "a wider limit": lambda s: s["properties"]["id"].update(maxLength=30),
    "no limit": lambda s: s["properties"]["tags"].pop("maxItems"),
    "types in another order": lambda s: s["properties"]["count"].update(type=["null", "integer"]),
    "words": lambda s: s["properties"]["id"].update(description="The id.", title="Id"),
    "open": lambda s: s.update(additionalProperties=True),
    "a definition in place": lambda s: s["properties"].update(window=s["$defs"]["window"]),
}
BREAKING: dict[str, tuple[Change, str]] = {
    "a field less": (lambda s: s["properties"].pop("count"), "/properties/count"),
    "a required field more": (lambda s: s["required"].append("status"), "/required"),
    "a new required field": (
        lambda s: (s["properties"].update(more={}), s["required"].append("more")),
        "/required",
    ),
    "a required field less": (lambda s: s["required"].remove("id"), "/required"),
    "another type": (
        lambda s: s["properties"]["id"].update(type="integer"),
        "/properties/id/type",
    ),
    "null as well": (
        lambda s: s["properties"]["id"].update(type=["string", "null"]),
        "/properties/id/type",
    ),
    "another pattern": (
        lambda s: s["properties"]["id"].update(pattern="^[a-z0-9]+$"),
        "/properties/id/pattern",
    ),
    "a lower maximum": (
        lambda s: s["properties"]["count"].update(maximum=8),
        "/properties/count/maximum",
    ),
    "a higher minimum": (
        lambda s: s["properties"]["count"].update(minimum=1),
        "/properties/count/minimum",
    ),
    "a new limit": (
        lambda s: s["properties"]["tags"].update(minItems=1),
        "/properties/tags/minItems",
    ),
    "a value less": (
        lambda s: s["properties"]["status"].update(enum=["OPEN"]),
        "/properties/status/enum",
    ),
    "values of a closed list": (
        lambda s: s["properties"]["id"].update(enum=["a"]),
        "/properties/id/enum",
    ),
    "other items": (
        lambda s: s["properties"]["tags"].update(items={"type": "integer"}),
        "/properties/tags/items/type",
    ),
    "another format behind a reference": (
        lambda s: s["$defs"]["window"]["properties"]["start"].update(format="date"),
        "/properties/window/properties/start/format",
    ),
    "a new condition": (lambda s: s.update(oneOf=[{"minProperties": 3}]), "/oneOf"),
    "one and true differ": (
        lambda s: s["properties"]["id"].update({"const": True}),
        "/properties/id/const",
    ),
    "closed inside": (
        lambda s: s["$defs"]["window"].update(additionalProperties=False),
        "/properties/window/additionalProperties",
    ),
}


@pytest.mark.parametrize("name", ADDITIVE)
def test_additions_pass(name: str) -> None:
    check_additive(BASE, changed(ADDITIVE[name]))


@pytest.mark.parametrize("name", BREAKING)
def test_anything_else_needs_the_next_version(name: str) -> None:
    change, pointer = BREAKING[name]
    with pytest.raises(SchemaBreaking) as caught:
        check_additive(BASE, changed(change))
    assert caught.value.metadata["pointer"] == pointer


def test_what_a_condition_refers_to_must_stay() -> None:
    before = {"oneOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "string"}}}
    after = {"oneOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "integer"}}}
    check_additive(before, copy.deepcopy(before))
    with pytest.raises(SchemaBreaking):
        check_additive(before, after)


def test_a_schema_that_contains_itself_ends() -> None:
    tree = {"properties": {"child": {"$ref": "#"}}}
    check_additive(tree, copy.deepcopy(tree))
    loop = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    check_additive(loop, loop)


PLAIN = st.fixed_dictionaries(
    {"type": st.sampled_from(["string", "integer", "boolean"])},
    optional={"minimum": st.integers(0, 3), "maxLength": st.integers(1, 5)},
)
NAMES = st.sampled_from("abcd")
OBJECTS = st.builds(
    lambda fields, required: {
        "type": "object",
        "additionalProperties": False,
        "properties": fields,
        "required": sorted(required & fields.keys()),
    },
    st.dictionaries(NAMES, PLAIN, max_size=4),
    st.sets(NAMES),
)
PAYLOADS = st.dictionaries(
    NAMES, st.integers(-2, 6) | st.text("xyz", max_size=7) | st.booleans(), max_size=4
)


def is_good(schema: dict[str, Any], payload: object) -> bool:
    return jsonschema_rs.Draft202012Validator(schema).is_valid(payload)


@given(OBJECTS, OBJECTS, st.lists(PAYLOADS, max_size=20))
def test_what_was_good_stays_good_and_what_was_relied_on_stays(
    before: dict[str, Any], after: dict[str, Any], sent: list[dict[str, Any]]
) -> None:
    try:
        check_additive(before, after)
    except SchemaBreaking:
        return
    assert all(is_good(after, payload) for payload in sent if is_good(before, payload))
    for payload in (item for item in sent if is_good(after, item)):
        for name in before["required"]:
            assert name in payload
        for name in before["properties"].keys() & payload.keys():
            kind = {"type": before["properties"][name]["type"]}
            assert is_good(kind, payload[name])


@given(OBJECTS, st.dictionaries(st.sampled_from("wxyz"), PLAIN, max_size=3))
def test_fields_can_always_be_added(before: dict[str, Any], more: dict[str, Any]) -> None:
    after = {**before, "properties": {**before["properties"], **more}}
    check_additive(before, after)
    check_additive(before, before)


# ---- Versions

NOW = datetime(2026, 11, 20, tzinfo=UTC)
TEXT = json.dumps(BASE)
OTHER = json.dumps({"type": "object"})


def declared(*versions: Version, **fields: Any) -> EventType:
    said = {"owner": "shop", "consumers": (), "description": "", "key_field": "", **fields}
    return EventType("stock.moved", versions=versions, **said)


def test_a_first_version_stands_alone() -> None:
    found = register(None, declared(Version(1, TEXT)), NOW)
    assert found.type.versions == (Version(1, TEXT, published_at=NOW),)
    assert not found.is_same


def test_the_next_version_takes_over_after_fourteen_days() -> None:
    first = register(None, declared(Version(1, TEXT)), NOW).type
    both = register(first, declared(Version(2, OTHER)), NOW).type
    cutover_at = both.versions[1].cutover_at
    assert cutover_at == NOW + CUTOVER_AFTER == NOW + timedelta(days=14)
    just_before = cutover_at - timedelta(microseconds=1)
    assert both.publishable(1, just_before).json_schema == TEXT
    assert both.publishable(2, NOW).json_schema == OTHER
    with pytest.raises(VersionRetired):
        both.publishable(1, cutover_at)
    assert both.publishable(2, cutover_at).json_schema == OTHER
    with pytest.raises(TypeUnknown):
        both.publishable(3, NOW)


def test_the_same_again_changes_nothing() -> None:
    first = register(None, declared(Version(1, TEXT)), NOW).type
    spelled = json.dumps(BASE, indent=4, sort_keys=True)
    again = register(first, declared(Version(1, spelled)), NOW + timedelta(days=1))
    assert again.is_same
    assert again.type == first
    assert not register(first, declared(description="More."), NOW).is_same


def test_a_breaking_change_needs_the_next_version() -> None:
    first = register(None, declared(Version(1, TEXT)), NOW).type
    with pytest.raises(SchemaBreaking):
        register(first, declared(Version(1, OTHER)), NOW)
    assert register(first, declared(Version(2, OTHER)), NOW).type.versions[0] == first.versions[0]


def test_a_cutover_can_be_moved_until_it_was() -> None:
    first = register(None, declared(Version(1, TEXT)), NOW).type
    later = NOW + timedelta(days=30)
    both = register(first, declared(Version(2, OTHER, cutover_at=later)), NOW).type
    assert both.versions[1].cutover_at == later
    sooner = NOW + timedelta(days=3)
    moved = register(both, declared(Version(2, OTHER, cutover_at=sooner)), NOW)
    assert moved.type.versions[1].cutover_at == sooner
    assert [item.version for item in moved.changed] == [2]
    with pytest.raises(InvalidField):
        register(moved.type, declared(Version(2, OTHER, cutover_at=later)), sooner)


@pytest.mark.parametrize(
    ("versions", "pointer"),
    [
        ((), "/versions"),
        ((Version(2, TEXT),), "/versions/0/version"),
        ((Version(1, TEXT), Version(3, TEXT)), "/versions/1/version"),
        ((Version(1, TEXT), Version(1, TEXT)), "/versions"),
        (
            (Version(1, protobuf_message="payments.events.v1.PlanCreated"),),
            "/versions/0/json_schema",
        ),
        ((Version(1, TEXT, cutover_at=NOW),), "/versions/0/cutover_at"),
        (
            (Version(1, TEXT), Version(2, TEXT, cutover_at=NOW - timedelta(days=1))),
            "/versions/1/cutover_at",
        ),
    ],
)
def test_versions_are_without_gaps(versions: tuple[Version, ...], pointer: str) -> None:
    with pytest.raises(InvalidField) as caught:
        register(None, declared(*versions), NOW)
    assert caught.value.metadata["pointer"] == pointer


def test_what_the_mesh_publishes_is_not_registered() -> None:
    ours = declared(Version(1, protobuf_message="payments.events.v1.PlanCreated"))
    with pytest.raises(SubjectOwned):
        register(ours, declared(Version(2, TEXT)), NOW)
    with pytest.raises(SubjectOwned):
        ours.publishable(1, NOW)
