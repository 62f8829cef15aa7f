"""Types of events as people write them in YAML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from payments.events.v1 import events_pb2

from services.cli.commands.event_types import event_types
from services.cli.documents import read_yaml
from services.cli.errors import EXIT_USAGE, CliError

SCHEMA = {
    "type": "object",
    "properties": {"share": {"maximum": 0.5}, "on": {"const": "2026-01-01"}},
}
ONE = """
subject: stock.moved
owner: depot
key_field: sku
versions:
  - version: 1
    json_schema:
      type: object
      properties: {share: {maximum: 0.5}, "on": {const: "2026-01-01"}}
  - version: 2
    cutover_at: 2026-12-24T18:00:00+01:00
    json_schema: '{"type": "object"}'
"""


def read(tmp_path: Path, content: str) -> list[events_pb2.EventType]:
    file = tmp_path / "types.yaml"
    file.write_text(content, encoding="utf-8")
    return event_types(read_yaml(str(file)), "types.yaml")


def indented(text: str) -> str:
    first, *rest = text.strip().splitlines()
    return "\n".join([f"  - {first}", *(f"    {line}" for line in rest)])


@pytest.mark.parametrize(
    "content", [ONE, indented(ONE), f"event_types:\n{indented(ONE)}"], ids=["one", "list", "named"]
)
def test_schemas_stand_as_they_are_or_as_texts(tmp_path: Path, content: str) -> None:
    (found,) = read(tmp_path, content)
    assert (found.subject, found.owner, found.key_field) == ("stock.moved", "depot", "sku")
    assert json.loads(found.versions[0].json_schema) == SCHEMA
    assert found.versions[1].json_schema == '{"type": "object"}'
    assert found.versions[1].cutover_at.ToJsonString() == "2026-12-24T17:00:00Z"


def test_json_is_yaml(tmp_path: Path) -> None:
    (found,) = read(tmp_path, json.dumps({"event_types": [{"subject": "a.b", "owner": "o"}]}))
    assert found.subject == "a.b"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "holds no types"),
        ("5", "holds no types"),
        ("[]", "holds no types"),
        ("event_types: 5", "holds no types"),
        ("event_types: []", "holds no types"),
        ("{event_types: [{subject: a.b}], subject: a.c}", "holds no types"),
        ("[5]", r"event_types\[0\] is no type"),
        ("[{subject: a.b}, {subject: 5}]", r"event_types\[1\] is no type"),
        ("subject: a.b\ncolour: red", "colour"),
        ("subject: a.b\nversions: 5", "is no type"),
        ("subject: a.b\nversions: [5]", "is no type"),
        ("subject: a.b\nversions: [{version: 1, json_schema: {const: .nan}}]", "is no type"),
        ("subject: a.b\nversions: [{json_schema: {const: 2026-01-01}}]", r"const is 2026-01-01"),
        ("subject: a.b\nversions: [{json_schema: {properties: {on: {}}}}]", "a key is True"),
        ("subject: a.b\nversions: [{json_schema: {enum: [[1, {2: x}]]}}]", r"enum\[0\]\[1\]: a key is 2"),
    ],
)  # fmt: skip
def test_what_is_no_type_says_where_and_what_would_be(
    tmp_path: Path, content: str, told: str
) -> None:
    with pytest.raises(CliError, match=told) as refused:
        read(tmp_path, content)
    assert refused.value.exit_code == EXIT_USAGE
    assert refused.value.hints
