"""The schema of the catalogue's file takes what `catalog apply` takes, and finds what it would refuse."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from payments.pricing.v1 import pricing_pb2

from services.cli.commands.catalog import parse_catalog
from services.runtime import documents
from tools import catalog_schema

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = json.loads((ROOT / catalog_schema.TARGET).read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FILES = ["examples/quickstart/catalog.yaml"]

CATALOG: dict[str, Any] = {
    "skus": [{"sku": "calls", "type": "SKU_TYPE_ACTION", "metadata": {"team": "a"}}],
    "business_models": [{"model_id": "m", "currency_code": "USD", "version": 3}],
    "plans": [
        {
            "plan_id": "p",
            "currency_code": "USD",
            "status": "STATUS_DRAFT",
            "proration": "PRORATION_DAY",
            "effective_at": "2026-01-01T00:00:00Z",
            "prices": [
                {"sku": "calls", "tax_code": "T1", "price": {"per_unit": {"unit_amount": "0.5"}}}
            ],
        }
    ],
    "org_business_models": [{"org_id": "acme", "model_id": "m", "plan_id": "p"}],
    "entitlements": [{"org_id": "acme", "plan_id": "p", "plan_version": 1}],
    "partners": [{"partner_id": "n", "tier": "gold"}],
    "partners_of_record": [{"org_id": "acme", "partner_id": "n", "status": "STATUS_ACTIVE"}],
    "commission_rates": [{"partner_tier": "gold", "pct": "12.5"}],
    "tax_rates": [{"jurisdiction": "CA-QC", "tax": "QST", "rate_percent": "9.975"}],
    "tax_profiles": [{"org_id": "acme", "country": "CA", "region": "QC"}],
    "tax_policies": [{"missing": "TAX_MISSING_UNTAXED"}],
}


def faults(catalog: Any) -> list[str]:
    return [error.json_path for error in VALIDATOR.iter_errors(catalog)]


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the catalogue with a value replaced; None removes it."""
    copied = copy.deepcopy(CATALOG)
    *parents, last = path.split(".")
    place: Any = copied
    for step in parents:
        place = place[int(step) if step.isdigit() else step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return copied


def test_it_is_a_schema_and_current() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert catalog_schema.rendered() == (ROOT / catalog_schema.TARGET).read_text()


def test_what_is_applied_is_valid() -> None:
    assert faults(CATALOG) == []
    parse_catalog(CATALOG, "catalogue")
    for file in FILES:
        assert faults(documents.read((ROOT / file).read_bytes())) == [], file


def guide_catalogues() -> Iterator[Any]:
    """Every catalogue that a guide applies."""
    for path in sorted((ROOT / "docs/guides").glob("*.md")):
        lines: list[str] | None = None
        for line in path.read_text().splitlines():
            if line.startswith("$ cat > catalog") and "<<" in line:
                lines = []
            elif line == "> END" and lines is not None:
                yield pytest.param("\n".join(lines), id=f"{path.stem}")
                lines = None
            elif lines is not None:
                lines.append(line.removeprefix("> "))


@pytest.mark.parametrize("text", [*guide_catalogues()])
def test_catalogues_of_the_guides_are_valid(text: str) -> None:
    assert faults(documents.read(text.encode())) == []


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("surprise", [], "$"),
        ("skus.0.sku", "two words", "$.skus[0].sku"),
        ("skus.0.sku", None, "$.skus[0]"),
        ("skus.0.type", "ACTION", "$.skus[0].type"),
        ("skus.0.taxCode", "T", "$.skus[0]"),
        ("plans.0.plan_id", None, "$.plans[0]"),
        ("plans.0.status", "DRAFT", "$.plans[0].status"),
        ("plans.0.status", 3, "$.plans[0].status"),
        ("plans.0.prices.0.price", {}, "$.plans[0].prices[0].price"),
        (
            "plans.0.prices.0.price",
            {"flat": {"amount": "1"}, "dynamic": {}},
            "$.plans[0].prices[0].price",
        ),
        ("plans.0.prices.0.price.per_unit.unit_amount", 0.5, "unit_amount"),
        ("plans.0.prices.0.price", {"graduated": {"tiers": []}}, "tiers"),
        ("commission_rates.0.pct", "101", "$.commission_rates[0].pct"),
        ("tax_rates.0.jurisdiction", "Quebec", "$.tax_rates[0].jurisdiction"),
        ("tax_rates.0.tax", None, "$.tax_rates[0]"),
        ("tax_profiles.0.country", None, "$.tax_profiles[0]"),
        ("tax_policies.0.missing", "UNTAXED", "$.tax_policies[0].missing"),
        ("entitlements.0.plan_version", -1, "$.entitlements[0].plan_version"),
    ],
)
def test_what_would_be_refused_is_found(path: str, value: Any, where: str) -> None:
    found = faults(changed(path, value))
    assert found
    assert any(place.endswith(where) for place in found), found


def test_a_file_may_be_larger_than_one_call() -> None:
    assert (
        faults({"plans": [{"plan_id": f"p{n}", "currency_code": "USD"} for n in range(300)]}) == []
    )


def test_every_model_of_prices_can_be_chosen() -> None:
    models = [field.name for field in pricing_pb2.Price.DESCRIPTOR.oneofs_by_name["model"].fields]
    assert [choice["required"] for choice in SCHEMA["$defs"]["Price"]["oneOf"]] == [
        [name] for name in models
    ]


def test_a_stale_file_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (catalog_schema.BUNDLE, catalog_schema.TARGET):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.setattr(catalog_schema, "ROOT", tmp_path)
    monkeypatch.setattr(catalog_schema.rendered, "__defaults__", (tmp_path,))
    monkeypatch.setattr("sys.argv", ["catalog_schema.py", "--check"])
    assert catalog_schema.main() == 0
    (tmp_path / catalog_schema.TARGET).write_text("{}")
    assert catalog_schema.main() == 1
    assert "make catalog-schema" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["catalog_schema.py"])
    assert catalog_schema.main() == 0
    assert json.loads((tmp_path / catalog_schema.TARGET).read_text()) == SCHEMA
