"""JSON Schemas of payloads: JSON Schema 2020-12, formats checked, closed in themselves."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import jsonschema_rs

from services.events.domain import payloads
from services.runtime.errors import Code, DomainError

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# Compiled ones; a schema of the largest size takes about a hundred kilobytes.
_CACHED_MAX = 512
MESSAGE_CHARS_MAX = 500


class SchemaInvalid(DomainError):
    """A text is no JSON Schema that payloads can be checked by."""

    code = Code.INVALID_ARGUMENT
    reason = "EVENT_SCHEMA_INVALID"
    state_dependent = False


def read(text: str) -> dict[str, Any]:
    """Read a schema.

    Raises:
        SchemaInvalid: it is no JSON object, of another dialect, breaks the dialect, or leads out of itself.
    """
    try:
        schema = json.loads(text)
        payloads.read(text.encode())
    except (ValueError, RecursionError, payloads.PayloadInvalid) as error:
        raise SchemaInvalid(f"the schema is no JSON: {error}", pointer="") from error
    if not isinstance(schema, dict):
        raise SchemaInvalid("a schema of a payload is a JSON object", pointer="")
    if schema.get("$schema", DIALECT) != DIALECT:
        raise SchemaInvalid(f"$schema must be {DIALECT}", pointer="/$schema")
    _compiled(text)
    return schema


def check(text: str, payload: Any) -> None:
    """Refuse a payload that is not what a schema asks for.

    Raises:
        PayloadInvalid: names the first fault, the deepest part of the payload first in its order.
    """
    for fault in _compiled(text).iter_errors(payload):
        raise payloads.PayloadInvalid(
            f"{fault.message[:MESSAGE_CHARS_MAX]}", pointer=payloads.pointer(_place(fault))
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
        where = payloads.pointer(list(error.instance_path))
        raise SchemaInvalid(error.message[:MESSAGE_CHARS_MAX], pointer=where) from error
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise SchemaInvalid(str(error)[:MESSAGE_CHARS_MAX], pointer="") from error
