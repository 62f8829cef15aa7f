"""Good payloads of every outside event of the catalogue, made from its schema; and ways to break them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from services.events import catalogue

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
    good, schema = payload_of(subject), schema_of(subject)
    for name in schema["required"]:
        yield f"without {name}", {k: v for k, v in good.items() if k != name}, f"/{name}"
    for name, item in schema["properties"].items():
        for what, value in _bad_values(item):
            yield f"{name} {what}", {**good, name: value}, f"/{name}"
    yield "with a field too much", {**good, "surplus": 1}, "/surplus"
    for place in _nested(good):
        for name in good[place]:
            broken = copy.deepcopy(good)
            del broken[place][name]
            yield f"without {place}.{name}", broken, f"/{place}/{name}"
            broken = copy.deepcopy(good)
            broken[place][name] = "soon"
            yield f"{place}.{name} no moment", broken, f"/{place}/{name}"


def _nested(payload: dict[str, Any]) -> list[str]:
    return [name for name, value in payload.items() if isinstance(value, dict)]


def _bad_values(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "of another type", {"$ref": [1], "object": 5}.get(str(schema.get("type")), [{}])
    if "pattern" in schema:
        yield "against its pattern", "x-" + _text(schema) + "-é"
        yield "with a line too much", _text(schema) + "\n"
    if schema.get("format"):
        yield "against its format", "soon"
    if schema.get("minLength"):
        yield "empty", ""
    if "minimum" in schema:
        yield "too small", schema["minimum"] - 1
        yield "a fraction", schema["minimum"] + 0.5
