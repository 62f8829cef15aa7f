"""Catalogue, merchants and settings: shown, compared, exported, and put back."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import jsonschema
import pytest

from services.cli.errors import EXIT_DENIED, EXIT_DIFFERENT, EXIT_REFUSED, EXIT_USAGE
from services.runtime import documents
from tests.integration.cli.conftest import Tollmesh

pytestmark = pytest.mark.xdist_group("cli")

SHIPPED = Path(__file__).parents[3] / "services" / "cli" / "data" / "merchant-config.yaml"

# Every model of prices, texts that look like something else, and references of every kind.
RICH = """
skus:
  - {sku: %(id)s.a, type: SKU_TYPE_ACTION, unit: "1e5", cost: "0.001", metadata: {note: "a: b\\n#c \\x85", "<<": "no"}}
  - {sku: %(id)s.b, aggregation: AGGREGATION_COUNT, tax_code: "010"}
  - {sku: %(id)s.c}
  - {sku: %(id)s.d}
  - {sku: %(id)s.e}
  - {sku: %(id)s.f}
  - {sku: %(id)s.g}
  - {sku: %(id)s.h}
business_models:
  - {model_id: %(id)s, currency_code: USD, default_plan_id: %(id)s-1}
plans:
  - plan_id: %(id)s-1
    model_id: %(id)s
    name: "Größe: 12:30"
    currency_code: USD
    notes: "one\\ntwo"
    prices:
      - sku: %(id)s.a
        price: {graduated: {tiers: [{up_to: "10", unit_amount: "0.5", flat_amount: "1"}, {unit_amount: "%(price)s"}]}}
      - sku: %(id)s.b
        price: {package: {package_size: "10", package_amount: "2", rounding: ROUNDING_FLOOR}, included_qty: "5"}
      - sku: %(id)s.c
        price:
          volume: {tiers: [{up_to: "10", unit_amount: "2"}, {unit_amount: "1"}]}
          unit_conversion: {operation: OPERATION_DIVIDE, factor: "1024", rounding: ROUNDING_HALF_UP, precision: 2}
          discount_percent: "12.5"
          minimum_amount: "1"
          maximum_amount: "20"
      - sku: %(id)s.d
        price:
          percentage:
            rate_percent: "1.5"
            fixed_per_event: "0.30"
            free_events: 3
            free_amount: "100"
            minimum_per_event: "0.50"
            maximum_per_event: "10"
      - sku: %(id)s.e
        price: {graduated_percentage: {tiers: [{up_to: "100", rate_percent: "3", flat_amount: "1"}, {}]}}
      - sku: %(id)s.f
        price:
          stairstep:
            dimension: resource
            steps: [{limits: {cpu: "2", disk: "50"}, amount: "20"}, {amount: "60"}]
      - sku: %(id)s.g
        price: {matrix: {dimension: region, cells: {eu: "0.02", "": "1"}, default_unit_amount: "0.03"}}
      - {sku: %(id)s.h, price: {dynamic: {}}}
  - plan_id: %(id)s-2
    currency_code: JPY
    status: %(status)s
    prices: [{sku: %(id)s.b, price: {flat: {amount: "100"}}, tax_code: "0020"}]
  - {plan_id: %(id)s-3, currency_code: EUR, status: STATUS_DRAFT, effective_at: "2030-01-01T00:00:00Z"}
org_business_models:
  - {org_id: %(id)s-o, model_id: %(id)s, assigned_by: eve, assigned_at: "2026-01-02T03:04:05.000006Z", notes: "no: 7"}
  - {org_id: %(id)s-n, model_id: %(id)s, plan_id: %(id)s-1}
entitlements:
  - {org_id: %(id)s-p, plan_id: %(id)s-1, plan_version: 1, effective_at: "2025-01-01T00:00:00Z"}
  - {org_id: %(id)s, plan_id: %(id)s-1, overrides: [{sku: %(id)s.b, price: {per_unit: {unit_amount: "0.1"}}}]}
  - {org_id: %(id)s, plan_id: %(id)s-2, effective_at: "2024-02-29T12:30:00.123456Z"}
partners: [{partner_id: %(id)s, name: P, tier: gold}]
partners_of_record:
  - {org_id: %(id)s, partner_id: %(id)s, end_at: "2026-01-01T00:00:00Z"}
  - {org_id: %(id)s, partner_id: %(id)s, start_at: "2026-02-01T00:00:00Z", end_at: "2026-02-09T00:00:00Z",
     status: STATUS_DISPUTED}
  - org_id: %(id)s
    partner_id: %(id)s
    start_at: "2026-03-01T00:00:00Z"
    status: STATUS_DISPUTED
    dispute:
      dispute_id: %(id)s-d
      opened_at: "2026-03-02T00:00:00Z"
      reason: "two claim it: A, B"
      evidence: [{reference: "https://docs.example/7", submitted_by: A, note: "signed\nin March"}, {reference: "8"}]
      resolution: {partner_id: %(id)s, resolved_at: "2026-04-01T00:00:00.000001Z", reason: older contract}
commission_rates: [{partner_tier: %(id)s, pct: "12.5"}, {partner_tier: %(id)s, sku: %(id)s.a, pct: "0"}]
"""


def rich(name: str, price: str = "0.25", status: str = "STATUS_ACTIVE") -> bytes:
    return (RICH % {"id": name, "price": price, "status": status}).encode()


def test_what_is_exported_applies_again_without_a_change(
    tollmesh: Tollmesh, tmp_path: Path
) -> None:
    name = f"c{uuid4().hex[:8]}"
    for content in (rich(name), rich(name, price="0.2"), rich(name, status="STATUS_DEPRECATED")):
        assert tollmesh("catalog", "apply", "-", stdin=content).exit_code == 0
    file = tmp_path / "catalog.yaml"
    file.write_text("what was there")
    written = tollmesh("catalog", "export", "--to", str(file))
    assert (written.exit_code, written.out) == (0, "")
    assert "skus: " in written.err
    printed = tollmesh("catalog", "export")
    assert printed.out == file.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.yaml"]
    as_json = tollmesh("catalog", "get", "-o", "json")
    whole = as_json.json()
    for text in (printed.out, as_json.out):
        applied = tollmesh("catalog", "apply", "-", "-o", "json", stdin=text.encode()).json()
        assert {change["kind"] for change in applied["changes"]} == {"KIND_UNCHANGED"}
        assert len(applied["changes"]) == sum(map(len, whole.values()))
    own = [
        sku for sku in documents.read(printed.out.encode())["skus"] if sku["sku"].startswith(name)
    ]
    assert own[0]["metadata"] == {"note": "a: b\n#c \x85", "<<": "no"}
    assert (own[0]["unit"], own[1]["tax_code"]) == ("1e5", "010")

    shown = tollmesh("catalog", "get").out
    assert all(f"│ {name}" in shown for name in (f"{name}.a", f"{name}-3", f"{name}-o", name))
    assert all(told in shown for told in ("all others", "disputed", "draft", "eve"))
    plan = tollmesh("plans", "get", f"{name}-1").out
    assert "│ graduated" in plan and "2 per 10" in plan and "no end" in plan
    for told in ("volume", "percentage", "stairstep", "matrix", "dynamic", "region=eu", "at least"):
        assert told in plan, told
    first = tollmesh("plans", "get", f"{name}-1", "--version", "1", "-o", "json").json()
    tiers = first["prices"][0]["price"]["graduated"]["tiers"]
    assert (first["version"], tiers[1]["unit_amount"]) == (1, "0.25")
    of_model = tollmesh("plans", "list", "--model", name, "-o", "json").json()
    assert [plan["plan_id"] for plan in of_model["plans"]] == [f"{name}-1"]
    of_org = tollmesh("entitlements", "list", "--org", name, "-o", "json").json()
    assert [item["plan_id"] for item in of_org["entitlements"]] == [f"{name}-1", f"{name}-2"]
    assert tollmesh("plans", "get", "none").exit_code == EXIT_REFUSED
    unwritable = tollmesh("catalog", "export", "--to", str(tmp_path / "none" / "c.yaml"))
    assert (unwritable.exit_code, "cannot write" in unwritable.err) == (EXIT_USAGE, True)


def test_plans_are_published_migrated_and_archived(tollmesh: Tollmesh) -> None:
    name = f"c{uuid4().hex[:8]}"
    assert tollmesh("catalog", "apply", "-", stdin=rich(name)).exit_code == 0
    # A plan of the same currency as the first one.
    target = f"{name}-4"
    draft = f"plans: [{{plan_id: {target}, currency_code: USD, status: STATUS_DRAFT}}]"
    assert tollmesh("catalog", "apply", "-", stdin=draft.encode()).exit_code == 0
    refused = tollmesh("plans", "migrate", f"{name}-1", target, "--effective-at", "2023-01")
    assert (refused.exit_code, "a draft" in refused.err or "nobody new" in refused.err) == (
        EXIT_REFUSED,
        True,
    )
    shown = tollmesh("plans", "publish", target, "--effective-at", "2020-01-01")
    assert (shown.exit_code, f"│ {target}" in shown.out) == (0, True)
    published = tollmesh("plans", "publish", target, "-o", "json").json()
    assert (published["version"], published["effective_at"]) == (1, "2020-01-01T00:00:00Z")
    used = tollmesh("plans", "archive", f"{name}-1")
    assert (used.exit_code, "is in use by" in used.err) == (EXIT_REFUSED, True)
    moving = ("plans", "migrate", f"{name}-1", target, "--effective-at", "2023-01")
    assert "1 would be moved, 3 more" in tollmesh(*moving, "--batch", "1", "--dry-run").out
    moved = tollmesh(*moving, "--batch", "1", "--drop-overrides", "-o", "json").json()
    assert [move["org_id"] for move in moved["moves"]] == [
        name,
        f"{name}-n",
        f"{name}-o",
        f"{name}-p",
    ]
    assert moved["moves"][0]["after"] == {
        "org_id": name,
        "plan_id": target,
        "overrides": [],
        "effective_at": "2023-01-01T00:00:00Z",
        "plan_version": 0,
    }
    assert "0 moved" in tollmesh(*moving).out
    ended = tollmesh("plans", "archive", f"{name}-2")
    assert ended.exit_code == EXIT_REFUSED
    away = tollmesh("plans", "archive", f"{name}-3", "-o", "json").json()
    assert away["status"] == "STATUS_ARCHIVED"


def test_organisations_are_put_on_business_models(tollmesh: Tollmesh) -> None:
    name = f"c{uuid4().hex[:8]}"
    assert tollmesh("catalog", "apply", "-", stdin=rich(name)).exit_code == 0
    put = ("catalog", "assign", "fresh", name, "--plan", f"{name}-1", "--notes", "by contract")
    assigned = tollmesh(*put, "-o", "json").json()
    assert (assigned["plan_id"], assigned["notes"]) == (f"{name}-1", "by contract")
    assert assigned["assigned_by"].startswith("key_")
    assert assigned["assigned_at"]
    shown = tollmesh(*put)
    assert (shown.exit_code, "by contract" in shown.out) == (0, True)
    assert tollmesh("catalog", "assign", "fresh", "none").exit_code == EXIT_REFUSED


def test_the_schema_of_a_catalogue_takes_what_is_exported(tollmesh: Tollmesh) -> None:
    name = f"c{uuid4().hex[:8]}"
    assert tollmesh("catalog", "apply", "-", stdin=rich(name)).exit_code == 0
    schema = tollmesh("catalog", "schema")
    assert schema.exit_code == 0
    validator = jsonschema.Draft202012Validator(json.loads(schema.out))
    exported = tollmesh("catalog", "export").out
    assert list(validator.iter_errors(documents.read(exported.encode()))) == []
    assert list(validator.iter_errors(documents.read(rich(name)))) == []


def test_what_was_changed_is_listed(tollmesh: Tollmesh) -> None:
    name = f"c{uuid4().hex[:8]}"
    assert tollmesh("catalog", "apply", "-", stdin=rich(name)).exit_code == 0
    assert tollmesh("catalog", "apply", "-", stdin=rich(name, price="0.3")).exit_code == 0
    found = tollmesh(
        "audit", "list", "--kind", "plan", "--subject", f"{name}-1", "-o", "json"
    ).json()
    newest, oldest = found["entries"]
    assert newest["before"] == oldest["after"]
    assert newest["actor"].startswith("key_")
    shown = tollmesh("audit", "list", "--subject", f"{name}-1", "--fields").out
    assert "updated by key_" in shown
    assert f"    prices[{name}.a].price.graduated.tiers[1].unit_amount: 0.25 -> 0.3\n" in shown
    table = tollmesh("audit", "list", "--kind", "plan", "--limit", "1")
    assert (table.exit_code, "updated" in table.out or "created" in table.out) == (0, True)
    none = tollmesh("audit", "list", "--period", "2020-01", "-o", "json").json()
    assert none["entries"] == []


def test_a_diff_of_the_catalogue_changes_nothing(tollmesh: Tollmesh) -> None:
    name = f"c{uuid4().hex[:8]}"
    diff = ("catalog", "diff", "-")
    new = tollmesh(*diff, "--exit-code", stdin=rich(name))
    assert (new.exit_code, f"+ sku {name}.a" in new.out) == (EXIT_DIFFERENT, True)
    assert tollmesh("catalog", "apply", "-", stdin=rich(name)).exit_code == 0
    same = tollmesh(*diff, "--exit-code", stdin=rich(name))
    assert (same.exit_code, same.err) == (0, "")
    changed = tollmesh(*diff, stdin=rich(name, price="0.3"))
    assert changed.exit_code == 0
    path = f"prices[{name}.a].price.graduated.tiers[1].unit_amount"
    assert f"    {path}: 0.25 -> 0.3\n" in changed.out
    assert tollmesh(*diff, "--exit-code", stdin=rich(name)).exit_code == 0
    kinds = tollmesh(*diff, "--exit-code", "-o", "json", stdin=rich(name, price="0.3"))
    assert kinds.exit_code == EXIT_DIFFERENT
    assert {c["kind"] for c in kinds.json()["changes"]} == {"KIND_UNCHANGED", "KIND_UPDATED"}


def test_a_catalogue_beyond_one_call_is_applied_and_listed_whole(tollmesh: Tollmesh) -> None:
    name = f"z{uuid4().hex[:8]}"
    skus = [{"sku": f"{name}.{number:04}"} for number in range(1_050)]
    prices = [{"sku": skus[0]["sku"], "price": {"flat": {"amount": "1"}}}]
    plans = [{"plan_id": name, "currency_code": "USD", "prices": prices}]
    content = json.dumps({"plans": plans, "skus": skus}).encode()
    checked = tollmesh("catalog", "diff", "-", stdin=content)
    assert (checked.exit_code, "in parts" in checked.err) == (EXIT_REFUSED, True)
    applied = tollmesh("catalog", "apply", "-", stdin=content)
    assert "1051 created, 0 updated, 0 unchanged" in applied.out
    assert "1051 unchanged" in tollmesh("catalog", "diff", "-", stdin=content).out
    listed = tollmesh("skus", "list", "-o", "json").json()
    found = [item["sku"] for item in listed["skus"] if item["sku"].startswith(name)]
    assert (found, listed["more"]) == ([item["sku"] for item in skus], False)
    assert tollmesh("skus", "list").out.count(f"│ {name}.") == 1_050
    part = tollmesh("skus", "list", "--limit", "2", "-o", "json").json()
    assert (len(part["skus"]), part["more"]) == (2, True)
    broken = json.dumps({"skus": skus, "plans": [plans[0] | {"currency_code": "XXQ"}]}).encode()
    refused = tollmesh("catalog", "apply", "-", stdin=broken)
    assert refused.exit_code == EXIT_REFUSED
    assert "the first 1,000 entries are applied" in refused.err


def test_merchants_are_put_compared_and_listed(tollmesh: Tollmesh, tmp_path: Path) -> None:
    name = f"m-{uuid4()}"
    file = tmp_path / "merchant.yaml"
    short = f"merchant_id: {name}\nmethods: [{{method: card, processor_id: sandbox-card}}]\n"
    file.write_text(short)
    diff = ("merchants", "diff", str(file))
    new = tollmesh(*diff, "--exit-code")
    assert (new.exit_code, "a new merchant" in new.out) == (EXIT_DIFFERENT, True)
    assert tollmesh("merchants", "get", name).exit_code == EXIT_REFUSED
    assert (
        f"{name}: version 1 is in force from now on" in tollmesh("merchants", "put", str(file)).out
    )
    # What it leaves open, and a span in other words, are the same to the mesh and to the diff.
    open_ = (
        "retry_policy: {}\ntimeouts: {call_timeout: 5.0004s}\npartial_allowed: false\nversion: 7\n"
    )
    for content in (short, short + open_):
        file.write_text(content)
        assert tollmesh(*diff, "--exit-code").out == f"{name}: version 1 is the same\n"
        assert "version 1 is in force already" in tollmesh("merchants", "put", str(file)).out

    file.write_text(
        f"merchant_id: {name}\npartial_allowed: true\ntimeouts: {{call_timeout: 2s}}\nmethods:\n"
        "- {method: wallet, processor_id: sandbox-wallet, max_amount: {currency_code: USD, minor_units: 5000}}\n"
        "- {method: card, processor_id: sandbox-card-down, fallback_processor_ids: [sandbox-card]}\n"
    )
    told = tollmesh(*diff, "-o", "json").json()
    assert told["version"] == 1
    assert "methods[0].method: card -> wallet" in told["changes"]
    assert "timeouts.call_timeout: 5s -> 2s" in told["changes"]
    put = tollmesh("merchants", "put", str(file), "-o", "json").json()
    assert put == {"merchant_id": name, "version": 2, "changes": told["changes"]}
    shown = tollmesh("merchants", "get", name).out
    assert "50.00 USD" in shown and "up to 2 times, each time for up to 2s" in shown
    first = tollmesh("merchants", "get", name, "--version", "1", "-o", "json")
    back = tollmesh("merchants", "put", "-", stdin=first.out.encode())
    assert "version 3 is in force from now on" in back.out
    versions = tollmesh("merchants", "list", name, "-o", "json").json()
    assert [config["version"] for config in versions["configs"]] == [3, 2, 1]
    current = tollmesh("merchants", "list", "-o", "json").json()["configs"]
    assert {c["merchant_id"]: c["version"] for c in current}.items() >= {name: 3, "shop": 1}.items()
    assert name in tollmesh("merchants", "list").out
    assert "tollmesh-demo: a new merchant" in tollmesh("merchants", "diff", str(SHIPPED)).out


def test_what_is_no_merchant_is_refused(tollmesh: Tollmesh) -> None:
    for content, code, part in (
        (b"methods: [{method: card, processor_id: a, processor_id: b}]", EXIT_USAGE, "twice"),
        (b"merchant: a", EXIT_USAGE, "standard input is not a valid MerchantConfig: 'merchant'"),
        (b"merchant_id: 5", EXIT_USAGE, "with the quotes"),
        (b"{merchant_id: a b, methods: []}", EXIT_REFUSED, "INVALID_FIELD"),
        (
            b"{merchant_id: a, methods: [{method: card, processor_id: no}]}",
            EXIT_REFUSED,
            "UNKNOWN_",
        ),
    ):
        done = tollmesh("merchants", "put", "-", stdin=content)
        assert (done.exit_code, part in done.err, done.out) == (code, True, ""), done
    missing = tollmesh("merchants", "list", "nobody", "-o", "json")
    assert missing.json()["error"]["metadata"]["id"] == "nobody"


def test_settings_are_changed_one_by_one(
    tollmesh: Tollmesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stand() -> list[str]:
        found = tollmesh("settings", "get", "-o", "json").json()
        return [found["accept_past"], found["accept_future"]]

    before = stand()
    try:
        told = tollmesh("settings", "set", "--accept-future", "90m")
        assert "│ 90m " in told.out and "│ 3660d " in told.out
        assert stand() == [before[0], "5400s"]
        assert tollmesh("settings", "set", "--accept-past", "3661d").exit_code == 0
        assert stand() == [f"{3661 * 86_400}s", "5400s"]
    finally:
        tollmesh("settings", "set", "--accept-past", "3660d", "--accept-future", "5m")
    assert stand() == before
    for arguments, code in (
        ((), EXIT_USAGE),
        (("--accept-past", "soon"), EXIT_USAGE),
        (("--accept-future", "32d"), EXIT_REFUSED),
        # `any` and `none` are no keys: beside others they say two things at once.
        (("--metadata", "region", "--metadata", "any"), EXIT_USAGE),
        (("--rollup-key", "none", "--rollup-key", "region"), EXIT_USAGE),
    ):
        assert tollmesh("settings", "set", *arguments).exit_code == code, arguments
    assert stand() == before
    reader = tollmesh("keys", "create", "r", "--scope", "metering:read", "-o", "json").json()
    monkeypatch.setenv("TOLLMESH_API_KEY", reader["secret"])
    assert tollmesh("settings", "get").exit_code == 0
    assert tollmesh("settings", "set", "--accept-past", "1d").exit_code == EXIT_DENIED
