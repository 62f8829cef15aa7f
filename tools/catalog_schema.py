"""Write the JSON Schema of the catalogue's YAML for editors, or check that the file is what proto/ would give.

It is the bundle that `tools/generate.py` makes of payments.pricing.v1.Catalog, made fit for people who write: only the
names of the proto, which is all that `tollmesh catalog apply` reads; no numbers for enums; what has to be given is
required, and a price has one model. Which fields have to be given is read from the descriptors' validation rules.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from payments.pricing.v1 import catalog_service_pb2

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = "gen/jsonschema/payments.pricing.v1.Catalog.schema.bundle.json"
TARGET = "services/cli/data/catalog.schema.json"
TITLE = "Catalogue of Tollmesh"

_SUFFIX = ".schema.json"
_IGNORED = {
    validate_pb2.IGNORE_IF_ZERO_VALUE,
    validate_pb2.IGNORE_ALWAYS,
}


def rendered(root: Path = ROOT) -> str:
    """Return the file as it should be."""
    bundle = json.loads((root / BUNDLE).read_text(encoding="utf-8"))
    messages = {message.full_name: message for message in _messages()}
    found = {
        _short(name): _written(schema, messages.get(name.removesuffix(_SUFFIX)))
        for name, schema in bundle["$defs"].items()
    }
    schema = {
        "$schema": bundle["$schema"],
        "title": TITLE,
        "description": "Written from proto/ by `make generate`. `tollmesh catalog apply` reads such a file.",
        "$ref": "#/$defs/Catalog",
        "$defs": dict(sorted(found.items())),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _messages() -> Iterator[Descriptor]:
    waiting = [catalog_service_pb2.Catalog.DESCRIPTOR]
    seen = set()
    while waiting:
        message = waiting.pop()
        if message.full_name in seen:
            continue
        seen.add(message.full_name)
        yield message
        waiting += [field.message_type for field in message.fields if field.message_type]


def _short(name: str) -> str:
    return name.removesuffix(_SUFFIX).rpartition(".")[2]


def _written(schema: dict[str, Any], message: Descriptor | None) -> dict[str, Any]:
    written: dict[str, Any] = _cleaned(schema)
    written.pop("$schema", None)
    # The names that JSON has by default; the catalogue is written with those of the proto.
    written.pop("patternProperties", None)
    if message is None:
        return written
    if message is catalog_service_pb2.Catalog.DESCRIPTOR:
        # Of one call: a larger file is applied in parts.
        for field in written["properties"].values():
            field.pop("maxItems")
    required = sorted(field.name for field in message.fields if _is_required(field))
    if required:
        written["required"] = required
    for oneof in message.oneofs:
        if oneof.GetOptions().Extensions[validate_pb2.oneof].required:
            written["oneOf"] = [{"required": [field.name]} for field in oneof.fields]
    return written


def _cleaned(value: Any) -> Any:
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if not isinstance(value, dict):
        return value
    cleaned = {key: _cleaned(item) for key, item in value.items() if key != "default"}
    if "$ref" in cleaned:
        cleaned["$ref"] = f"#/$defs/{_short(cleaned['$ref'])}"
    if isinstance(cleaned.get("description"), str):
        cleaned["description"] = re.sub(r"\s*\n\s*", " ", cleaned["description"])
    if "anyOf" in cleaned:
        return _narrowed(cleaned)
    return cleaned


def _narrowed(schema: dict[str, Any]) -> dict[str, Any]:
    """Make an enum the list of its names."""
    others = {key: item for key, item in schema.items() if key != "anyOf"}
    for choice in schema["anyOf"]:
        if "enum" in choice:
            return {**others, **choice}
    return schema


def _is_required(field: FieldDescriptor) -> bool:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    if field.containing_oneof or rules.ignore in _IGNORED:
        return False
    if rules.required or rules.repeated.min_items:
        return True
    pattern = rules.string.pattern
    return bool(pattern) and not field.is_repeated and re.search(pattern, "") is None


def main() -> int:
    """Exit 0 when the file is (now) right, 1 when --check found that it is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    arguments = parser.parse_args()
    target = ROOT / TARGET
    wanted = rendered()
    if target.exists() and target.read_text(encoding="utf-8") == wanted:
        return 0
    if arguments.check:
        print(f"{TARGET} is not what proto/ gives: run `make catalog-schema`", file=sys.stderr)
        return 1
    target.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
