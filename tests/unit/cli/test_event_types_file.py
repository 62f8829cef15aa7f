"""Types of events as people write them in YAML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from payments.events.v1 import events_pb2

from services.cli.commands.event_types import event_types
from services.cli.documents import read_document
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
      properties: {share: {maximum: 0.5}, on: {const: 2026-01-01}}
  - version: 2
    cutover_at: 2026-12-24T18:00:00+01:00
    json_schema: '{"type": "object"}'
"""


def read(tmp_path: Path, content: str) -> list[events_pb2.EventType]:
    file = tmp_path / "types.yaml"
    file.write_text(content, encoding="utf-8")
    return event_types(read_document(str(file)), "types.yaml")


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


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_json_is_read_as_json(tmp_path: Path, indent: int | str | None) -> None:
    schema = {"maximum": 1e300, "title": "😀", "enum": ["yes", 10, 0.5, None, True]}
    version = {"version": 1, "json_schema": schema}
    document = {"event_types": [{"subject": "a.b", "owner": "o", "versions": [version]}]}
    (found,) = read(tmp_path, json.dumps(document, indent=indent))
    assert json.loads(found.versions[0].json_schema) == schema


def test_quotes_are_advised_where_a_number_stands_for_a_text(tmp_path: Path) -> None:
    for content, is_advised in (("subject: 5", True), ("subject: []", False)):
        with pytest.raises(CliError, match="subject must be a string") as refused:
            read(tmp_path, content)
        assert ("quotes" in refused.value.hints[0]) is is_advised


def test_scalars_of_yaml_are_those_of_json(tmp_path: Path) -> None:
    enum = "[yes, no, on, 12:30, 010, 0x1F, 1_000, 2026-01-01, 1e3, 12, -0.5, true, null, ~, '']"
    (found,) = read(tmp_path, f"{{subject: a.b, versions: [{{json_schema: {{enum: {enum}}}}}]}}")
    assert json.loads(found.versions[0].json_schema)["enum"] == [
        *("yes", "no", "on", "12:30", "010", "0x1F", "1_000", "2026-01-01"),
        *(1000, 12, -0.5, True, None, None, ""),
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "holds no event types"),
        ("5", "holds no event types"),
        ("[]", "holds no event types"),
        ("event_types: 5", "holds no event types"),
        ("event_types: []", "holds no event types"),
        ("{event_types: [{subject: a.b}], subject: a.c}", "holds no event types"),
        ("[5]", r"event_types\[0\] is not an event type"),
        ("- ", r"event_types\[0\] is not an event type"),
        ("[{subject: a.b}, {subject: 5}]", r"event_types\[1\] is not a valid event type"),
        ("subject: a.b\ncolour: red", "colour"),
        ("subject: a.b\nversions: 5", "is not a valid event type"),
        ("subject: a.b\nversions: [5]", r"versions\[0\] is not a version"),
        ("subject: a.b\nversions: [{version: 1, cutover_at: 2026-12-24 18:00}]", "is not a valid event type"),
        ('[{"subject": "a.b", "versions": [{"json_schema": {"const": NaN}}]}]', "NaN is not a JSON number"),
        ("subject: a.b\nversions: [{json_schema: {maximum: 0.12345678901234567890}}]", "quotes, in line 2"),
        ("subject: a.b\nversions: [{json_schema: {? [1] : x}}]", "isn't valid YAML"),
        ("subject: a.b\nowner: x\nowner: y", "'owner' appears twice, in lines 2 and 3"),
        ('{"subject": "a.b",\n"owner": "x",\n"owner": "y"}', "'owner' appears twice, in lines 2 and 3"),
        ('{"subject": "a.b", "versions": [{"json_schema":\n{"a": {},\n"a": {}}}]}', "in lines 2 and 3"),
        ('!!int ""', "isn't valid YAML"),
        ("!!bool x", "isn't valid YAML"),
        ("!!timestamp x", "isn't valid YAML"),
        ("[" * 100_000, "nested too deeply|isn't valid YAML"),
    ],
)  # fmt: skip
def test_what_is_no_type_says_where_and_what_would_be(
    tmp_path: Path, content: str, told: str
) -> None:
    with pytest.raises(CliError, match=told) as refused:
        read(tmp_path, content)
    assert refused.value.exit_code == EXIT_USAGE
