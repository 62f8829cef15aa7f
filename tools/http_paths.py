"""Find what REST callers would miss: `buf breaking` does not look at HTTP annotations.

Works on OpenAPI 3.1, and on the v2 in which earlier releases were described.
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
    """Parameters of an operation by (place, name); its body is one of them."""
    found: dict[tuple[str, str], Description] = {}
    for item in operation.get("parameters", []):
        name = "body" if item["in"] == "body" else item["name"]
        found[item["in"], name] = item
    if "requestBody" in operation:
        found["body", "body"] = operation["requestBody"]
    return found


def resolved(description: Description) -> Description:
    """Return the description with shared parameters and answers put where they are used.

    References to messages stay, by the bare name of the message.
    """
    shared = description.get("components", {})

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [walk(item) for item in value]
        if not isinstance(value, dict):
            return value
        target = value.get("$ref")
        if isinstance(target, str):
            *_, kind, name = target.split("/")
            if kind in {"definitions", "schemas"}:
                return {"$ref": name}
            return walk(shared[kind][name])
        return {key: walk(item) for key, item in value.items()}

    return {"paths": walk(description.get("paths", {}))}


def answer_schema(answer: Description) -> Any:
    """The schema of an answer in JSON."""
    if "content" in answer:
        return answer["content"].get("application/json", {}).get("schema")
    return answer.get("schema")


def lost(before: Description, after: Description) -> Iterator[str]:
    """What a caller written against `before` does not find in `after`, one sentence each.

    An operation that is gone or became another RPC, a parameter that is gone, one that became required,
    an answer of another shape.
    """
    current = operations(resolved(after))
    for (path, method), operation in operations(resolved(before)).items():
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
        if answer_schema(new.get(status, {})) != answer_schema(answer):
            yield f"answer {status} has another schema"


def load(path: Path) -> Description:
    """Read a description."""
    description: Description = json.loads(path.read_text())
    return description
