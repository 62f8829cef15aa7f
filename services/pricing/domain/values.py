"""How values of the catalogue are written down.

The document form of a thing is the JSON form of its message: decimals as plain strings, times in RFC 3339, what is
empty left out. The store, the audit log, the answers and the comparison of contents all use it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, TypeAdapter

from services.runtime.money import format_decimal, parse_decimal

# What an unset point in time means: from the beginning. An unset Timestamp reads as the same instant.
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

ZERO = Decimal(0)
ONE = Decimal(1)


def _decimal(value: object) -> object:
    return parse_decimal(value) if isinstance(value, str) else value


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


def _write_time(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


Dec = Annotated[
    Decimal, BeforeValidator(_decimal), PlainSerializer(format_decimal, when_used="json")
]
Time = Annotated[datetime, AfterValidator(_utc), PlainSerializer(_write_time, when_used="json")]


def document(value: Any) -> dict[str, Any]:
    """Return the document form of a value of the domain."""
    kind: Any = type(value)
    dumped = _adapter(kind).dump_python(value, mode="json")
    pruned = _pruned(dumped)
    assert isinstance(pruned, dict)
    return pruned


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _is_empty(key: str, item: Any) -> bool:
    # A price whose model has nothing to say still names the model.
    return item in (None, "", [], {}) and not (key == "dynamic" and item == {})


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        # Free notes stay as they are: an empty note is a note.
        kept = {key: item if key == "metadata" else _pruned(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if not _is_empty(key, item)}
    if isinstance(value, list):
        return [_pruned(item) for item in value]
    return value
