"""Catalogues as people write them in YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payments.pricing.v1 import catalog_service_pb2

from services.cli.changes import field_changes
from services.cli.commands import catalog
from services.cli.errors import EXIT_USAGE, CliError

SHARED_FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
PRICED = "plans: [{plan_id: p, prices: [{sku: s, price: {flat: {amount: %s}}}]}]"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.yaml"


def read(file: Path, content: bytes) -> catalog_service_pb2.Catalog:
    file.write_bytes(content)
    return catalog.read_catalog(str(file))


def test_what_the_demo_ships_is_a_catalogue() -> None:
    shipped = Path(catalog.__file__).parents[1] / "data" / "catalog.yaml"
    assert len(catalog.read_catalog(str(shipped)).skus) == 3


@pytest.mark.parametrize("value", ["0.60", "1e-3", "-0.5"])
def test_what_yaml_does_not_keep_as_text_is_named_with_its_place(file: Path, value: str) -> None:
    read(file, (PRICED % f'"{value}"').encode())
    with pytest.raises(CliError) as refused:
        read(file, (PRICED % value).encode())
    error = refused.value
    assert error.exit_code == EXIT_USAGE
    assert "plans[0].prices[0].price.flat.amount" in error.message
    assert f'write "{value}", with the quotes' in error.hints[0]


@pytest.mark.parametrize("value", ["010", "12:30", "1_000", "no", "on", "2023-01-01", ".5", "0x10"])
def test_what_only_looks_like_something_else_is_read_as_it_stands(file: Path, value: str) -> None:
    found = read(file, (PRICED % value).encode())
    assert found.plans[0].prices[0].price.flat.amount == value


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("plans: [{plan_id: p, version: 1.5}]", "plans[0].version must be a whole number"),
        ("skus: [{sku: a, type: PAID}]", "skus[0].type must be one of SKU_TYPE_"),
        ("plans: [{plan_id: [p]}]", "plans[0].plan_id must be a string"),
        ("skus: []\nskus: []", "appears twice"),
    ],
)
def test_quotes_are_advised_only_where_they_help(file: Path, content: str, told: str) -> None:
    with pytest.raises(CliError) as refused:
        read(file, content.encode())
    assert told in refused.value.message
    assert not refused.value.hints


def test_times_need_no_quotes_and_merges_bring_what_they_name(file: Path) -> None:
    content = b"""
partners:
  - &first {partner_id: p, name: P}
  - <<: *first
    partner_id: q
entitlements: [{org_id: o, plan_id: b, effective_at: 2020-01-01T00:00:00Z}]
"""
    found = read(file, content)
    assert [(item.partner_id, item.name) for item in found.partners] == [("p", "P"), ("q", "P")]
    assert found.entitlements[0].effective_at.ToJsonString() == "2020-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "content",
    [
        b"skus:\n  - {sku: a}\nplans: []\nskus:\n  - {sku: b}",
        b'{"skus": [{"sku": "a"}],\n\t"plans": [],\n\n"skus": [{"sku": "b"}]}',
    ],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(file: Path, content: bytes) -> None:
    with pytest.raises(CliError, match="'skus' appears twice, in lines 1 and 4") as refused:
        read(file, content)
    assert refused.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a mapping"),
        (b"- 1", "not a mapping"),
        (b"plans: [1", "isn't valid YAML"),
        (b"\xff", "UTF-8"),
        (b"at: 2023-99-99", "valid YAML|not a catalogue"),
        (b"nonsense: 1", "nonsense"),
        (b"skus: [{sku: a, colour: red}]", "colour"),
        (b"skus: 1", "is not a catalogue"),
        (b"plans: [{plan_id: 5}]", "is not a catalogue"),
        (b"!!python/object:os.system x", "isn't valid YAML"),
        (b"[" * 100_000, "isn't valid YAML"),
    ],
)
def test_what_is_no_catalogue_is_refused(file: Path, content: bytes, told: str) -> None:
    with pytest.raises(CliError, match=told) as refused:
        read(file, content)
    assert refused.value.exit_code == EXIT_USAGE


@SHARED_FILE
@given(st.binary(max_size=200))
def test_any_bytes_are_a_catalogue_or_one_error(file: Path, content: bytes) -> None:
    try:
        read(file, content)
    except CliError as error:
        assert error.exit_code == EXIT_USAGE


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(CliError, match="cannot read"):
            catalog.read_catalog(str(path))


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


def test_a_diff_names_what_changes_by_its_path() -> None:
    before = struct(name="A", version=1, prices=[{"sku": "s", "price": {"flat": {"amount": "1"}}}])
    after = struct(
        name="A",
        version=2,
        prices=[{"sku": "s", "price": {"flat": {"amount": "2"}}}, {"sku": "t", "price": {}}],
    )
    assert field_changes(before, after) == [
        "prices[s].price.flat.amount: 1 -> 2",
        "version: 1 -> 2",
        "prices[t].sku: - -> t",
    ]
    assert field_changes(Struct(), struct(name="A")) == ["name: A"]
