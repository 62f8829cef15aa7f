"""Good payloads of every outside event of the catalogue, made from its schema; and ways to break them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from services.events.store import catalogue

_UUID7 = "0190c1de-7d3a-7abc-8def-0123456789ab"
_BY_PATTERN = {
    "^ord_": f"ord_{_UUID7}",
    "^per_": f"per_{_UUID7}",
    "^org_": f"org_{_UUID7}",
    "^[A-Z]": "USD",
    "^-?[0": "12.50",
}


def schema_of(subject: str, version: int = 0) -> dict[str, Any]:
    """Return the schema of a version of an outside event; without a version, of the newest."""
    versions = catalogue.entries()[subject].type.versions
    found: dict[str, Any] = json.loads(versions[version - 1].json_schema)
    return found


def payload_of(subject: str) -> dict[str, Any]:
    """Return a payload with every field that the schema knows."""
    schema = schema_of(subject)
    found: dict[str, Any] = _value(schema, schema)
    return found


def _value(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    if "$ref" in schema:
        return _value(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    kind = schema["type"][0] if isinstance(schema["type"], list) else schema["type"]
    match kind:
        case "object":
            return {name: _value(item, root) for name, item in schema["properties"].items()}
        case "array":
            return [_value(schema["items"], root)]
        case "integer":
            return schema.get("minimum", 0) + 7
        case "boolean":
            return True
    return _text(schema)


def _text(schema: dict[str, Any]) -> str:
    if "pattern" in schema:
        return next(
            text for start, text in _BY_PATTERN.items() if schema["pattern"].startswith(start)
        )
    return {"date-time": "2026-11-20T10:00:00Z", "uuid": _UUID7}.get(
        schema.get("format", ""), "some-text"
    )


def faults(subject: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Give each way to break a payload once: what is broken, the payload, and the JSON pointer of the fault."""
    schema = schema_of(subject)
    yield from _broken(schema, schema, payload_of(subject), "")


def _broken(
    schema: dict[str, Any], root: dict[str, Any], good: Any, place: str
) -> Iterator[tuple[str, Any, str]]:
    """Break a value by each rule of its schema; a rule that nobody breaks here is a fault of the test."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    assert set(schema) <= _BROKEN_HERE, f"{place}: nothing breaks {set(schema) - _BROKEN_HERE}"
    name = place or "the payload"
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    yield f"{name} of another type", True if "boolean" not in kinds else "yes", place
    if "null" not in kinds:
        yield f"{name} null", None, place
    for what, bad in _bad_values(schema, good):
        yield f"{name} {what}", bad, place
    if isinstance(good, dict):
        yield from _broken_object(schema, root, good, place)
    if isinstance(good, list):
        yield from _in_its_place(_broken(schema["items"], root, good[0], f"{place}/0"), good, 0)


def _broken_object(
    schema: dict[str, Any], root: dict[str, Any], good: dict[str, Any], place: str
) -> Iterator[tuple[str, Any, str]]:
    assert schema["additionalProperties"] is False, place
    yield f"{place} with a field too much", {**good, "surplus": 1}, f"{place}/surplus"
    for name in schema["required"]:
        less = {key: value for key, value in good.items() if key != name}
        yield f"without {place}/{name}", less, f"{place}/{name}"
    for name, item in schema["properties"].items():
        inner = _broken(item, root, good[name], f"{place}/{name}")
        yield from _in_its_place(inner, good, name)


def _in_its_place(
    inner: Iterator[tuple[str, Any, str]], good: Any, name: Any
) -> Iterator[tuple[str, Any, str]]:
    for what, bad, pointer in inner:
        whole = copy.copy(good)
        whole[name] = bad
        yield what, whole, pointer


def _bad_values(schema: dict[str, Any], good: Any) -> Iterator[tuple[str, Any]]:
    if "pattern" in schema:
        yield "against its pattern", "x-" + good + "-é"
        yield "with a line too much", good + "\n"
    if "format" in schema:
        yield "against its format", "soon"
    if schema.get("minLength"):
        yield "too short", "x" * (schema["minLength"] - 1)
    if "maxLength" in schema:
        yield "too long", "x" * (schema["maxLength"] + 1)
    if "maxItems" in schema:
        yield "with too many items", good * (schema["maxItems"] + 1)
    if "minimum" in schema:
        yield "too small", schema["minimum"] - 1
    if schema["type"] == "integer":
        yield "a fraction", good + 0.5


# What `_broken` breaks, and what breaks nothing.
_BROKEN_HERE = {
    "type", "required", "properties", "additionalProperties", "items", "pattern", "format", "minLength",
    "maxLength", "maxItems", "minimum", "$schema", "$id", "$defs", "title",
}  # fmt: skip
