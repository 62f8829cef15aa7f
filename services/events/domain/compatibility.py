"""What may change within a version of a schema: fields are added, and lists of known values grow. Nothing else.

Two laws follow. What was a good payload stays one, so no producer has to change. And what a consumer
relied on stays: required fields stay required, no field goes, no type changes. Values added to a list of known ones
are safe, since consumers ignore what they do not know. Source of the rule: seed 004, "Versioning Rules".
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.events.domain import payloads
from services.runtime import strict_json
from services.runtime.errors import Code, DomainError

Schema = Mapping[str, Any]

# They say nothing about which payloads are good.
_ANNOTATIONS = frozenset(
    {
        "$id",
        "$schema",
        "$comment",
        "$defs",
        "title",
        "description",
        "examples",
        "default",
        "deprecated",
        "readOnly",
        "writeOnly",
    }
)
# Limits, and when a new one is no narrower than the old.
_LIMITS: Mapping[str, Callable[[Any, Any], bool]] = {
    **dict.fromkeys(
        ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), operator.ge
    ),
    **dict.fromkeys(
        ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), operator.le
    ),
}
_COMPARED = _ANNOTATIONS | _LIMITS.keys() | {"properties", "required", "enum", "items"}
_LOCAL = "#"


class SchemaBreaking(DomainError):
    """A change that needs the next version."""

    code = Code.FAILED_PRECONDITION
    reason = "EVENT_SCHEMA_BREAKING"
    state_dependent = True
    pointer: str


def check_additive(before: Schema, after: Schema) -> None:
    """Refuse a change that is more than additive.

    Raises:
        SchemaBreaking: names the first place that breaks, in the new schema.
    """
    _Comparison(before, after).schemas(before, after, ())


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Compares two documents part by part; each pair of references once, so that recursion ends."""

    before: Schema
    after: Schema
    seen: set[tuple[str, str]] = field(default_factory=set)

    def schemas(self, before: Any, after: Any, path: tuple[str, ...]) -> None:
        old, new = _object(before), _object(after)
        pair = (_reference(old), _reference(new))
        if any(pair):
            if pair in self.seen:
                return
            self.seen.add(pair)
            old, new = _followed(old, self.before), _followed(new, self.after)
        self._fields(old, new, path)
        self._values(old, new, path)
        self._rest(old, new, path)

    def _fields(self, old: Schema, new: Schema, path: tuple[str, ...]) -> None:
        had, has = old.get("properties", {}), new.get("properties", {})
        for name in sorted(had.keys() - has.keys()):
            _break(f"the field {name!r} was removed", *path, "properties", name)
        must_before, must_now = set(old.get("required", ())), set(new.get("required", ()))
        for name in sorted(must_now - must_before):
            _break(f"the field {name!r} is required now", *path, "required")
        for name in sorted(must_before - must_now):
            _break(f"the field {name!r} is no longer required", *path, "required")
        for name in sorted(had):
            self.schemas(had[name], has[name], (*path, "properties", name))
        if "items" in old or "items" in new:
            self.schemas(old.get("items", True), new.get("items", True), (*path, "items"))

    def _values(self, old: Schema, new: Schema, path: tuple[str, ...]) -> None:
        for name, no_narrower in _LIMITS.items():
            if name in new and not (name in old and no_narrower(new[name], old[name])):
                _break(f"{name} is narrower than before", *path, name)
        if "enum" in new:
            lost = "enum" not in old or _texts(old["enum"]) - _texts(new["enum"])
            if lost:
                _break("values that were valid are no longer valid", *path, "enum")

    def _rest(self, old: Schema, new: Schema, path: tuple[str, ...]) -> None:
        """All other keywords must stay as they are, and so must what they refer to."""
        for name in sorted((old.keys() | new.keys()) - _COMPARED):
            was, now = _keyword(old, name), _keyword(new, name)
            # A closed object may be opened: consumers ignore fields that they do not know.
            opened = name == "additionalProperties" and now is True
            if _differ(was, now) and not opened:
                _break(f"{name} has changed", *path, name)
            if _refers(now) and _differ(self.before.get("$defs"), self.after.get("$defs")):
                _break(f"{name} refers to parts that have changed", *path, name)


def _keyword(schema: Schema, name: str) -> Any:
    value = schema.get(name, True if name == "additionalProperties" else None)
    if name == "type" and isinstance(value, list):
        return sorted(value)
    return value


def _object(schema: Any) -> Schema:
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    found: Schema = schema
    return found


def _reference(schema: Schema) -> str:
    """Return where a schema that is nothing but a reference leads."""
    if set(schema) - _ANNOTATIONS == {"$ref"} and str(schema["$ref"]).startswith(_LOCAL):
        return str(schema["$ref"])
    return ""


def _followed(schema: Schema, document: Schema) -> Schema:
    seen = set()
    while reference := _reference(schema):
        if reference in seen:
            return {}
        seen.add(reference)
        schema = _object(_at(document, reference))
    return schema


def _at(document: Any, reference: str) -> Any:
    found = document
    for part in reference.removeprefix(_LOCAL).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = found[int(name)] if isinstance(found, list) else found[name]
    return found


def _refers(value: Any) -> bool:
    if isinstance(value, dict):
        return "$ref" in value or "$dynamicRef" in value or any(map(_refers, value.values()))
    return isinstance(value, list) and any(map(_refers, value))


def _differ(one: Any, other: Any) -> bool:
    # Python holds 1, 1.0 and True for equal.
    return payloads.canonical(one) != payloads.canonical(other)


def _texts(values: list[Any]) -> set[bytes]:
    return {payloads.canonical(value) for value in values}


def _break(what: str, *path: str) -> None:
    where = strict_json.pointer(path)
    raise SchemaBreaking(
        f"{what}; within a version, fields may only be added: register this as the next version",
        pointer=where,
    )
