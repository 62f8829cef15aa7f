"""Examples of the OpenAPI description: calls that were really made, with what differs from run to run made stable."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.support.http.rest import REPOSITORY, Reply, Rest

FOLDER = REPOSITORY / "services" / "gateway" / "examples"
DESCRIPTION_FILE = REPOSITORY / "gen" / "openapi" / "tollmesh.openapi.json"
ERRORS = "errors"

# What a run writes is of these days; moments that a scenario names itself are older.
_RECENT = timedelta(days=60)
_STABLE_TIME = "2026-03-02T09:30:00Z"
_TIME = re.compile(r"\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z")
_UUID = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_ULID = re.compile(r"\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b")
_KEY = re.compile(r"\btmk_[0-9a-f]+_[A-Za-z0-9_-]+")
_SIGNING = re.compile(r"\b(whsec|whsk|whpk)_[A-Za-z0-9+/=]+")
_LOCAL = re.compile(r"http://127\.0\.0\.1:\d+")
_TENANT = re.compile(r"\bt-[0-9a-f]{12}\b")
_SPAN = re.compile(r"(?<=-)[0-9a-f]{16}(?=-)")
_FINGERPRINT = re.compile(r"\b[0-9a-f]{32,64}\b")
_TOKENS = {"next_page_token", "next_cursor", "cursor", "page_token", "after"}
# Counted by machines: of a run, not of what it shows.
_MEASURES: dict[str, Any] = {
    "latency_ms": 12,
    "lag_ms": "12",
    "usage_snapshot": "796:796:",
    "recorded_at_us": "1772443800000000",
    "effective_at_us": "1772443800000000",
}


@functools.cache
def description() -> dict[str, Any]:
    """The committed description."""
    found: dict[str, Any] = json.loads(DESCRIPTION_FILE.read_text())
    return found


def operations() -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Method, path and operation by operation id."""
    return {
        operation["operationId"]: (method.upper(), path, operation)
        for path, verbs in description()["paths"].items()
        for method, operation in verbs.items()
    }


def operation_of(method: str, path: str) -> tuple[str, dict[str, str]]:
    """The operation that a call reaches, and what its path says.

    Raises:
        LookupError: there is none.
    """
    found: list[tuple[int, str, dict[str, str]]] = []
    for name, (verb, template, _) in operations().items():
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+?)", re.escape(template))
        match = re.fullmatch(pattern, path) if verb == method else None
        if match:
            # Read as an id, `x:test` would be another resource's.
            found.append((len(re.sub(r"\{\w+\}", "", template)), name, match.groupdict()))
    if not found:
        raise LookupError(f"{method} {path} is not described")
    _, name, variables = max(found)
    return name, {key: unquote(value) for key, value in variables.items()}


class Stable:
    """Puts something lasting in the place of what each run makes anew; the same for the same, in all examples."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def __call__(self, value: Any, name: str = "") -> Any:
        """Return a JSON value made stable; `name` is that of its field."""
        if isinstance(value, dict):
            return {key: self(member, key) for key, member in value.items()}
        if isinstance(value, list):
            return [self(item, name) for item in value]
        if name in _MEASURES and value:
            return type(value)(_MEASURES[name])
        if not isinstance(value, str):
            return value
        if name in _TOKENS and value:
            return "eyJwb3NpdGlvbiI6MX0"
        for pattern, make in (
            (_KEY, lambda _count, _text: "tmk_0a1b2c3d_shown-only-once"),
            (_SIGNING, lambda _count, text: f"{text.partition('_')[0]}_c2hvd24gb25seSBvbmNl"),
            (_LOCAL, lambda _count, _text: "https://partner.example"),
            (_UUID, lambda count, _text: f"019ca1d0-0000-7000-8000-{count:012x}"),
            (_ULID, lambda count, _text: f"01KK{count:022d}"),
            (_TENANT, lambda _count, _text: "acme-platform"),
            (_SPAN, lambda count, _text: f"{count:016x}"),
            (_FINGERPRINT, lambda count, text: f"{count:0{len(text)}x}"),
            (_TIME, _stable_time),
        ):
            value = pattern.sub(functools.partial(self._replaced, make), value)
        return value

    def _replaced(self, make: Callable[[int, str], str], match: re.Match[str]) -> str:
        text = match[0]
        if text not in self._seen:
            self._seen[text] = made = make(len(self._seen) + 1, text)
            self._seen[made] = made
        return self._seen[text]


def _stable_time(_count: int, text: str) -> str:
    is_recent = abs(datetime.fromisoformat(text) - datetime.now(UTC)) < _RECENT
    return _STABLE_TIME if is_recent else text


class Recorder:
    """Makes calls and keeps the first that succeeded of each operation."""

    def __init__(self, rest: Rest) -> None:
        self.rest = rest
        self.stable = Stable()
        self.calls: dict[str, dict[str, Any]] = {}
        self.errors: dict[str, Any] = {}

    async def play(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Make a call that succeeds; gives its answer."""
        reply = await self.rest.acall(method, path, body, headers)
        assert reply.status < 300, (method, path, reply.body)
        self.keep(method, path, body, reply.json())
        return reply.json()

    def keep(
        self, method: str, target: str, body: Any, answer: Any, *, event_stream: str = ""
    ) -> None:
        """Keep a call as the example of its operation, unless it has one."""
        url = urlsplit(target)
        name, variables = operation_of(method, url.path)
        if name in self.calls:
            return
        example: dict[str, Any] = {"response": answer}
        parameters: dict[str, Any] = dict(variables)
        schemas = parameter_schemas(operations()[name][2])
        for key, value in parse_qsl(url.query):
            if schemas.get(key, {}).get("type") == "array":
                parameters.setdefault(key, []).append(value)
            else:
                # Whole numbers of 64 bits are texts, as in JSON.
                is_text = schemas.get(key, {}).get("type") == "string"
                is_json = not is_text and (value.isdigit() or value in {"true", "false"})
                parameters[key] = json.loads(value) if is_json else value
        if parameters:
            example["parameters"] = parameters
        if body is not None:
            example["request"] = json.loads(body) if isinstance(body, bytes) else body
        if event_stream:
            example["event_stream"] = event_stream
        self.calls[name] = self.stable(example)

    def keep_error(self, reply: Reply, status: int) -> None:
        """Keep an error as the example of its status."""
        assert reply.status == status, reply.body
        self.errors[str(status)] = self.stable(reply.json())

    def write(self, folder: Path = FOLDER) -> None:
        """Write the examples where the description takes them from."""
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.json"):
            old.unlink()
        for name, example in {**self.calls, ERRORS: self.errors}.items():
            text = json.dumps(example, indent=2, sort_keys=True, ensure_ascii=False)
            (folder / f"{name}.json").write_text(f"{text}\n")


def shape(value: Any) -> Any:
    """What a JSON value is built of: names and types, lists by all that stands in them."""
    if isinstance(value, dict):
        return {key: shape(member) for key, member in value.items()}
    if isinstance(value, list):
        whole: Any = None
        for item in value:
            whole = _joined(whole, shape(item))
        return [whole]
    return type(value).__name__


def _joined(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() | other.keys()
        return {name: _joined(one.get(name), other.get(name)) for name in names}
    if isinstance(one, list) and isinstance(other, list):
        return [_joined(one[0], other[0])]
    return one if other is None else other


def faults(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """Where a value does not fit a schema of the description."""
    root = "urn:tollmesh"
    resource = DRAFT202012.create_resource(description())
    registry: Registry[Any] = Registry().with_resource(root, resource)
    absolute = json.loads(json.dumps(schema).replace('"#/components/', f'"{root}#/components/'))
    validator = Draft202012Validator(
        absolute, registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]


def parameter_schemas(operation: Mapping[str, Any]) -> dict[str, Any]:
    """Schemas of an operation's parameters by name."""
    return {
        item["name"]: item["schema"] for item in operation.get("parameters", []) if "name" in item
    }


def request_schema(operation: Mapping[str, Any]) -> Any:
    """The schema of an operation's JSON body, or None."""
    content = operation.get("requestBody", {}).get("content", {})
    return content.get("application/json", {}).get("schema")


def answer_of(operation: Mapping[str, Any]) -> dict[str, Any]:
    """The content in JSON of an operation's success."""
    (code,) = (code for code in operation["responses"] if code.startswith("2"))
    found: dict[str, Any] = operation["responses"][code]["content"]["application/json"]
    return found
