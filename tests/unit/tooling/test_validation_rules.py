"""Validation only ever widens: the check itself, on planted changes, and ours against the release."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tools import check_breaking, validation_rules

ROOT = Path(__file__).resolve().parents[3]

SCHEMA = """
syntax = "proto3";
package payments.probe.v1;
import "buf/validate/validate.proto";

message Probe {
  option (buf.validate.message).cel = {
    id: "probe.order" message: "low must not exceed high" expression: "this.low <= this.high"
  };
  string name = 1 [(buf.validate.field).string.max_len = 64];
  string code = 2 [(buf.validate.field).string.pattern = "^[a-z]*$"];
  int32 low = 3 [(buf.validate.field).int32 = {gte: 0, lt: 100}];
  int32 high = 4;
  repeated string tags = 5 [(buf.validate.field).repeated = {
    max_items: 10
    items: {string: {max_len: 16}}
  }];
  string kind = 6 [(buf.validate.field).string = {in: ["", "a", "b"]}];
  map<string, string> labels = 7 [(buf.validate.field).map.max_pairs = 8];
  string note = 8;
  string id = 9 [(buf.validate.field) = {string: {uuid: true}, ignore: IGNORE_IF_ZERO_VALUE}];
  oneof choice {
    string left = 10;
    string right = 11;
  }
}
"""

Change = tuple[str, str]

TIGHTER: dict[str, Change] = {
    "string.max_len": ("max_len = 64", "max_len = 63"),
    "string.pattern": ("^[a-z]*$", "^[a-y]*$"),
    "int32.lower": ("gte: 0", "gt: 0"),
    "int32.upper": ("lt: 100", "lt: 99"),
    "int32.lower of a new rule": (
        "int32 high = 4",
        "int32 high = 4 [(buf.validate.field).int32.gte = 0]",
    ),
    "repeated.max_items": ("max_items: 10", "max_items: 9"),
    "repeated.items.string.max_len": ("{max_len: 16}", "{max_len: 15}"),
    "string.in": ('["", "a", "b"]', '["", "a"]'),
    "map.max_pairs": ("max_pairs = 8", "max_pairs = 7"),
    "required": ("string note = 8", "string note = 8 [(buf.validate.field).required = true]"),
    "string.min_len": (
        "string note = 8",
        "string note = 8 [(buf.validate.field).string.min_len = 1]",
    ),
    "ignore": (", ignore: IGNORE_IF_ZERO_VALUE", ""),
    "cel[probe.order]": ("this.low <= this.high", "this.low < this.high"),
    "oneof choice.required": (
        "oneof choice {",
        "oneof choice {\n    option (buf.validate.oneof).required = true;",
    ),
    "string.uuid_empty": (
        "string note = 8;",
        "string note = 8;\n  string key = 12 [(buf.validate.field).string.uuid = true];",
    ),
}

WIDER: dict[str, Change] = {
    "longer": ("max_len = 64", "max_len = 65"),
    "no pattern": (' [(buf.validate.field).string.pattern = "^[a-z]*$"]', ""),
    "inclusive": ("lt: 100", "lte: 100"),
    "more items": ("max_items: 10", "max_items: 11"),
    "another value": ('["", "a", "b"]', '["", "a", "b", "c"]'),
    "ignored": ("IGNORE_IF_ZERO_VALUE", "IGNORE_ALWAYS"),
    "an optional field": (
        "string note = 8;",
        "string note = 8;\n  string key = 12 [(buf.validate.field).string.max_len = 9];",
    ),
}

Build = Callable[[str], bytes]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compile a schema, beside the vendored rules, into an image."""

    def compile_schema(text: str) -> bytes:
        root = tmp_path_factory.mktemp("schema")
        (root / "proto").mkdir()
        (root / "proto/buf").symlink_to(ROOT / "proto/buf")
        (root / "proto/probe.proto").write_text(text)
        (root / "buf.yaml").write_text("version: v2\nmodules:\n  - path: proto\n")
        check_breaking.build_image(root, root / "image.binpb")
        return (root / "image.binpb").read_bytes()

    return compile_schema


@pytest.fixture(scope="session")
def released(build: Build) -> bytes:
    return build(SCHEMA)


def changed(change: Change) -> str:
    before, after = change
    assert before in SCHEMA
    return SCHEMA.replace(before, after, 1)


@pytest.mark.parametrize("rule", TIGHTER)
def test_a_tightened_rule_is_caught(rule: str, build: Build, released: bytes) -> None:
    found = validation_rules.tightenings(released, build(changed(TIGHTER[rule])))
    assert [item.rule for item in found] == [rule.split(" of ", maxsplit=1)[0]]


@pytest.mark.parametrize("case", WIDER)
def test_a_widened_rule_passes(case: str, build: Build, released: bytes) -> None:
    assert validation_rules.tightenings(released, build(changed(WIDER[case]))) == []


def test_our_rules_accept_what_the_last_release_accepted(tmp_path: Path) -> None:
    release = check_breaking.release_image(ROOT)
    assert release is not None, "no release is recorded: make release-image"
    current = tmp_path / "current.binpb"
    check_breaking.build_image(ROOT, current)
    assert validation_rules.tightenings_since(release, current) == []
