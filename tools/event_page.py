"""Write docs/reference/events.md from the event catalogue, or check that it is what the catalogue gives."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: our own folder's parent is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


from services.events.domain.types import Version
from services.events.store import catalogue
from services.events.store.catalogue import Entry
from services.runtime.outbox import registry
from services.runtime.outbox.subjects import with_version
from tools import pages

ROOT = Path(__file__).resolve().parent.parent
PAGE = "docs/reference/events.md"

HEAD = """\
# Events

<!-- Written by tools/event_page.py from services/events/registry and the messages of proto/payments/events/v1.
     `make generate` writes it again; `make lint` fails when it is stale. -->

Every kind of event that comes with this release. `tollmesh events types` shows the same, and what was
registered besides.
A subject is `<resource>.<verb>[.<modifier>]`; from the second version of its payload on the version stands behind it
(`intake.captured.v2`), the first is implied. Who made a schema:

* **mesh**: a protobuf message of ours. A service of the mesh publishes it and nobody else may.
* **producer**: the JSON Schema of the producer that publishes it, rule for rule.
* **us**: only the name is known from outside, so the JSON Schema is of our own design.

Values such as a status or a payment method are open: readers ignore those that they do not know.
"""

TITLES = {
    "mesh.yaml": "Published by the mesh",
    "billing.yaml": "Billing",
    "orders-and-lessons.yaml": "Orders and lessons",
    "coaching-and-credits.yaml": "Coaching and credits",
    "people-and-places.yaml": "People and places",
}


def main() -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail when it is stale"
    )
    check = parser.parse_args().check
    return pages.write_or_check(
        ROOT, {PAGE: page()}, check=check, as_what="the catalogue gives them"
    )


def page() -> str:
    """Return the page."""
    entries = sorted(catalogue.entries().values(), key=lambda entry: _order(entry.file))
    parts = [HEAD]
    for file, group in groupby(entries, key=lambda entry: entry.file):
        parts.append(f"\n## {TITLES.get(file, file)}\n")
        parts += [_section(entry) for entry in group]
    return "".join(parts)


def _order(file: str) -> tuple[int, str]:
    known = list(TITLES)
    return (known.index(file) if file in known else len(known), file)


def _section(entry: Entry) -> str:
    type_ = entry.type
    lines = [
        f"\n### `{type_.subject}`\n",
        f"\n{type_.description}\n\n",
        f"Owner: {type_.owner} · readers: {', '.join(type_.consumers)} · ordered by: "
        f"`{type_.key_field}` · schema by: {entry.schema_by}\n",
    ]
    for version in type_.versions:
        lines.append(
            f"\n| `{with_version(type_.subject, version.version)}` | type | rule |\n| --- | --- | --- |\n"
        )
        lines += [f"| {' | '.join(row)} |\n" for row in _rows(version)]
    return "".join(lines)


def _rows(version: Version) -> Iterator[tuple[str, str, str]]:
    if version.protobuf_message:
        kind = registry.all_types()[version.protobuf_message]
        for field in kind.message_class.DESCRIPTOR.fields:
            yield f"`{field.name}`", _proto_type(field), ""
        return
    schema = json.loads(version.json_schema)
    for name, item in schema["properties"].items():
        rule = "required" if name in schema["required"] else "optional"
        yield f"`{name}`", _json_type(item), f"{rule}{_limits(item)}"


def _proto_type(field: Any) -> str:
    names = {value: name for name, value in vars(type(field)).items() if name.startswith("TYPE_")}
    name = field.message_type.name if field.message_type else names[field.type][5:].lower()
    return f"repeated {name}" if field.is_repeated else str(name)


def _json_type(item: dict[str, Any]) -> str:
    if "$ref" in item:
        return str(item["$ref"].rpartition("/")[2])
    kinds = item["type"] if isinstance(item["type"], list) else [item["type"]]
    return " or ".join(kinds)


def _limits(item: dict[str, Any]) -> str:
    said = [
        f"{name} `{str(item[name]).replace('|', chr(92) + '|')}`"
        for name in (
            "format",
            "pattern",
            "minLength",
            "maxLength",
            "minimum",
            "maximum",
            "maxItems",
        )
        if name in item
    ]
    return "".join(f", {text}" for text in said)


if __name__ == "__main__":
    sys.exit(main())
