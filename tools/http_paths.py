"""Find what REST callers would miss: `buf breaking` does not look at HTTP annotations.

Works on OpenAPI v2 as protoc-gen-openapiv2 writes it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Description = dict[str, Any]


def operations(description: Description) -> dict[tuple[str, str], Description]:
    """Every operation by (path, method)."""
    return {
        (path, method): operation
        for path, methods in description.get("paths", {}).items()
        for method, operation in methods.items()
    }


def parameters(operation: Description) -> dict[tuple[str, str], Description]:
    """Parameters of an operation by (place, name)."""
    return {(item["in"], item["name"]): item for item in operation.get("parameters", [])}


def lost(before: Description, after: Description) -> Iterator[str]:
    """What a caller written against `before` does not find in `after`, one sentence each.

    An operation that is gone or became another RPC, a parameter that is gone, one that became required,
    an answer of another shape.
    """
    current = operations(after)
    for (path, method), operation in operations(before).items():
        name = f"{method.upper()} {path}"
        now = current.get((path, method))
        if now is None:
            yield f"{name} is gone"
            continue
        if now.get("operationId") != operation.get("operationId"):
            yield f"{name} is now {now.get('operationId')}"
        yield from (f"{name}: {problem}" for problem in lost_parameters(operation, now))
        yield from (f"{name}: {problem}" for problem in lost_answers(operation, now))


def lost_parameters(before: Description, after: Description) -> Iterator[str]:
    """Parameters that are gone or have become required."""
    old, new = parameters(before), parameters(after)
    yield from (f"parameter {name} is gone" for place, name in old.keys() - new.keys())
    for key, item in new.items():
        if item.get("required") and not old.get(key, {}).get("required"):
            yield f"parameter {key[1]} became required"


def lost_answers(before: Description, after: Description) -> Iterator[str]:
    """Status codes whose answer has another schema."""
    new = after.get("responses", {})
    for status, answer in before.get("responses", {}).items():
        if new.get(status, {}).get("schema") != answer.get("schema"):
            yield f"answer {status} has another schema"


def load(path: Path) -> Description:
    """Read a description."""
    description: Description = json.loads(path.read_text())
    return description
