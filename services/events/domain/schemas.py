"""JSON Schemas of payloads: JSON Schema 2020-12, formats checked, closed in themselves."""

from __future__ import annotations

import json
from collections import deque
from functools import lru_cache
from typing import Any

import jsonschema_rs

from services.events.domain import expansion, payloads
from services.runtime import strict_json
from services.runtime.errors import Code, DomainError

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# Schemas that one may come to. It is far more than any schema that a person wrote, and a value is held against so many
# within a millisecond.
EXPANDED_MAX = 10_000
# Compiled ones; a schema of the largest size takes about a hundred kilobytes.
_CACHED_MAX = 512
MESSAGE_CHARS_MAX = 500


class SchemaInvalid(DomainError):
    """A text is not a JSON Schema that payloads can be checked against."""

    code = Code.INVALID_ARGUMENT
    reason = "EVENT_SCHEMA_INVALID"
    state_dependent = False
    pointer: str
    schemas_max: int | None = None


def read(text: str) -> dict[str, Any]:
    """Read a schema.

    Raises:
        SchemaInvalid: it is no JSON object, of another dialect, breaks the dialect, leads out of itself, comes to
            too much once its references are followed, or refers to itself without end.
    """
    try:
        # First: it bounds the numbers, which the other reader takes for floats.
        payloads.read(text.encode())
        schema = json.loads(text)
    except (ValueError, RecursionError, payloads.PayloadInvalid) as error:
        raise SchemaInvalid(f"the schema isn't valid JSON: {error}", pointer="") from error
    if not isinstance(schema, dict):
        raise SchemaInvalid("the schema must be a JSON object", pointer="")
    _refuse_other_dialects(schema)
    _compiled(text)
    _refuse_boundless(schema)
    return schema


def _refuse_other_dialects(schema: dict[str, Any]) -> None:
    """A part with an id may name a dialect of its own, whose keywords nobody counts."""
    waiting: deque[tuple[tuple[str | int, ...], Any]] = deque([((), schema)])
    while waiting:
        path, value = waiting.popleft()
        if isinstance(value, dict):
            is_whole = not path or isinstance(value.get("$id", value.get("id")), str)
            if is_whole and value.get("$schema", DIALECT) != DIALECT:
                place = strict_json.pointer((*path, "$schema"))
                raise SchemaInvalid(f"$schema must be {DIALECT}", pointer=place)
            waiting.extend(((*path, name), item) for name, item in value.items())
        elif isinstance(value, list):
            waiting.extend(((*path, at), item) for at, item in enumerate(value))


def _refuse_boundless(schema: dict[str, Any]) -> None:
    found = expansion.expand(schema, EXPANDED_MAX)
    if found.endless is not None:
        raise SchemaInvalid(
            "the schema refers to itself for the same value, which never ends; "
            "put the reference under properties or items, so that it applies to a part of the value",
            pointer=found.endless,
        )
    if found.schemas > EXPANDED_MAX:
        raise SchemaInvalid(
            f"the schema expands to more than {EXPANDED_MAX} schemas when its references are followed; "
            "use fewer references to schemas that contain references",
            pointer="",
            schemas_max=EXPANDED_MAX,
        )


def check(text: str, payload: Any) -> None:
    """Refuse a payload that is not what a schema asks for.

    Raises:
        PayloadInvalid: names the first fault, the deepest part of the payload first in its order.
    """
    for fault in _compiled(text).iter_errors(payload):
        raise payloads.PayloadInvalid(
            f"{fault.message[:MESSAGE_CHARS_MAX]}", pointer=strict_json.pointer(_place(fault))
        )


def _place(fault: jsonschema_rs.ValidationError) -> list[str | int]:
    """Return the path of a fault; what is missing or too much is named itself."""
    path = list(fault.instance_path)
    kind = fault.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        return [*path, str(kind.property)]
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        return [*path, str(kind.unexpected[0])]
    return path


@lru_cache(maxsize=_CACHED_MAX)
def _compiled(text: str) -> jsonschema_rs.Draft202012Validator:
    try:
        return jsonschema_rs.Draft202012Validator(
            text,
            validate_formats=True,
            offline=True,
            # Without look-around and back-references a pattern costs no more than linear time.
            pattern_options=jsonschema_rs.RegexOptions(),
        )
    except jsonschema_rs.ValidationError as error:
        where = strict_json.pointer(list(error.instance_path))
        raise SchemaInvalid(error.message[:MESSAGE_CHARS_MAX], pointer=where) from error
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise SchemaInvalid(str(error)[:MESSAGE_CHARS_MAX], pointer="") from error
