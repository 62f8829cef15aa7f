"""Charges of a running mesh, exported by the command and verified by an interpreter that has nothing of the product."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from services.cli.errors import EXIT_DIFFERENT, EXIT_REFUSED, EXIT_USAGE
from tests.integration.cli.conftest import Tollmesh
from tests.support.billing.alone import copied, verify_alone

pytestmark = pytest.mark.xdist_group("cli")

DAY = "2026-01-16"
# Every model that looks at sums or at quantities by value, and what stands around one.
PRICES: dict[str, dict[str, Any]] = {
    "flat": {"flat": {"amount": "9.99"}, "discount_percent": "12.5"},
    "per_unit": {
        "per_unit": {"unit_amount": "2"},
        "unit_conversion": {
            "operation": "OPERATION_DIVIDE",
            "factor": "1000",
            "rounding": "ROUNDING_CEILING",
        },
        "included_qty": "1",
        "discount_percent": "25",
        "minimum_amount": "4",
        "maximum_amount": "7",
    },
    "graduated": {
        "graduated": {
            "tiers": [
                {"up_to": "10", "unit_amount": "0.333", "flat_amount": "1"},
                {"unit_amount": "0.0005"},
            ]
        }
    },
    "volume": {"volume": {"tiers": [{"up_to": "10", "unit_amount": "2"}, {"unit_amount": "0.5"}]}},
    "package": {"package": {"package_size": "10", "package_amount": "12"}},
    "percentage": {"percentage": {"rate_percent": "2.9", "free_amount": "5"}},
    "graduated_percentage": {
        "graduated_percentage": {
            "tiers": [
                {"up_to": "10", "rate_percent": "3"},
                {"rate_percent": "1", "flat_amount": "2"},
            ]
        }
    },
    "stairstep": {
        "stairstep": {"steps": [{"limits": {"quantity": "10"}, "amount": "49"}, {"amount": "149"}]}
    },
    "stairstep_units": {
        "stairstep": {
            "dimension": "region",
            "steps": [{"limits": {"eu": "10", "": "5"}, "amount": "20"}, {"amount": "60"}],
        }
    },
    "matrix": {
        "matrix": {"dimension": "region", "cells": {"eu": "0.02"}, "default_unit_amount": "0.035"}
    },
    "dynamic": {"dynamic": {}},
}


def applied(tollmesh: Tollmesh, org_id: str) -> None:
    prices = [{"sku": f"{org_id}.{name}", "price": price} for name, price in PRICES.items()]
    catalog = {
        "skus": [
            {"sku": each["sku"], "type": "SKU_TYPE_ACTION", "aggregation": "AGGREGATION_SUM"}
            for each in prices
        ],
        "plans": [{"plan_id": org_id, "name": "All", "currency_code": "USD", "prices": prices}],
        "entitlements": [{"org_id": org_id, "plan_id": org_id}],
        "partners": [{"partner_id": f"{org_id}-p", "tier": org_id}],
        "partners_of_record": [{"org_id": org_id, "partner_id": f"{org_id}-p"}],
        "commission_rates": [{"partner_tier": org_id, "pct": "12.5"}],
    }
    done = tollmesh("catalog", "apply", "-", stdin=json.dumps(catalog).encode())
    assert done.exit_code == 0, done.err


def used(tollmesh: Tollmesh, org_id: str, quantity: str, *projects: str) -> None:
    rows = [
        {
            "request_id": f"{org_id}-{name}-{project}-{quantity}-{region}",
            "org_id": org_id,
            "project_id": project,
            "sku": f"{org_id}.{name}",
            "quantity": quantity,
            "event_time": f"{DAY}T12:00:00Z",
            "metadata": {"region": region} if region else {},
        }
        for name in PRICES
        if name != "flat"
        for project in projects
        for region in ("", "eu")
    ]
    lines = "\n".join(map(json.dumps, rows)).encode()
    sent = tollmesh("ingest", "-", "--format", "jsonl", stdin=lines)
    assert sent.exit_code == 0, sent


def test_every_line_of_a_charge_an_adjustment_and_a_reversal_is_verified_offline(
    tollmesh: Tollmesh, tmp_path: Path
) -> None:
    org_id = f"org-{uuid4()}"
    place = copied(tmp_path)
    applied(tollmesh, org_id)
    used(tollmesh, org_id, "3.75", "p", "q")
    base = tollmesh("charge", org_id, "--period", DAY, "--quiet").out.strip()
    used(tollmesh, org_id, "2.5", "p", "r")
    made = tollmesh("adjust", base, "-o", "json").json()["charge_id"]
    taken = tollmesh("reverse", base, "--reason", "wrong plan", "-o", "json").json()["charge_id"]
    for charge_id, charges in ((base, 1), (made, 2), (taken, 3)):
        path = tmp_path / f"{charge_id}.json"
        told = tollmesh("explain", charge_id, "--export", str(path), "-o", "json").json()
        assert (told["file"], told["charges"]) == (str(path), charges)
        done = verify_alone(place, str(path), "--json")
        assert done.returncode == 0, done.stdout
        found = json.loads(done.stdout)
        assert found["verdict"] == "verified"
        assert (found["sha256"], found["lines"]) == (told["sha256"], told["lines"])
        assert json.loads(path.read_text())["charges"][-1]["charge_id"] == charge_id
        again = tollmesh("explain", "--verify", str(path))
        assert again.exit_code == 0
        assert again.out.splitlines()[-1].startswith("verified: ")
    skus = {
        line["line"]["sku"].removeprefix(f"{org_id}.")
        for line in json.loads(path.read_text())["charges"][0]["lines"]
    }
    assert skus == set(PRICES)


# Of 1, 4, 4 and 10 at 6, 12, 18 and 18 hours, with a level of 2 from the days before.
AGGREGATES = {
    "SUM": "19",
    "COUNT": "4",
    "MAX": "10",
    "MIN": "1",
    "AVG": "4.75",
    "LATEST": "10",
    "UNIQUE": "3",
    "P50": "4",
    "P95": "10",
    "P99": "10",
    # 2 for 6 hours, 1 for 6, 4 for 6, 10 for the rest.
    "WEIGHTED_SUM": "102",
}


def test_usage_of_every_aggregation_is_billed_adjusted_and_verified_offline(
    tollmesh: Tollmesh, tmp_path: Path
) -> None:
    org_id = f"org-{uuid4()}"
    price = {"per_unit": {"unit_amount": "1"}}
    catalog = {
        "skus": [
            {"sku": f"{org_id}.{name}", "aggregation": f"AGGREGATION_{name}"} for name in AGGREGATES
        ],
        "plans": [
            {
                "plan_id": org_id,
                "name": "All",
                "currency_code": "USD",
                "prices": [{"sku": f"{org_id}.{name}", "price": price} for name in AGGREGATES],
            }
        ],
        "entitlements": [{"org_id": org_id, "plan_id": org_id}],
    }
    done = tollmesh("catalog", "apply", "-", stdin=json.dumps(catalog).encode())
    assert done.exit_code == 0, done.err

    def sent(*events: tuple[str, str, str]) -> None:
        rows = [
            {
                "request_id": f"{org_id}-{name}-{project}-{at}-{quantity}-{number}",
                "org_id": org_id,
                "project_id": project,
                "sku": f"{org_id}.{name}",
                "quantity": quantity,
                "event_time": at,
            }
            for name in AGGREGATES
            for number, (project, at, quantity) in enumerate(events)
        ]
        lines = "\n".join(map(json.dumps, rows)).encode()
        assert tollmesh("ingest", "-", "--format", "jsonl", stdin=lines).exit_code == 0

    def billed(charge_id: str) -> dict[tuple[str, str], str]:
        path = tmp_path / f"{charge_id}.json"
        assert tollmesh("explain", charge_id, "--export", str(path)).exit_code == 0
        found = tollmesh("explain", "--verify", str(path))
        assert found.exit_code == 0, found.out
        charges = json.loads(path.read_text())["charges"]
        (charge,) = [each for each in charges if each["charge_id"] == charge_id]
        return {
            (each["line"]["sku"].removeprefix(f"{org_id}."), each["line"].get("project_id", "")): (
                each["line"]["quantity"]
            )
            for each in charge["lines"]
        }

    sent(
        ("p", "2026-01-14T00:00:00Z", "2"),
        ("idle", "2026-01-13T12:00:00Z", "5"),
        ("p", f"{DAY}T06:00:00Z", "1"),
        ("p", f"{DAY}T12:00:00Z", "4"),
        ("p", f"{DAY}T18:00:00Z", "4"),
        ("p", f"{DAY}T18:00:00Z", "10"),
    )
    base = tollmesh("charge", org_id, "--period", DAY, "--quiet").out.strip()
    expected = {(name, "p"): quantity for name, quantity in AGGREGATES.items()}
    # There is no event in this project, only what was set before.
    expected["WEIGHTED_SUM", "idle"] = "120"
    assert billed(base) == expected
    # The level is 3 less over 24 hours, and it is known only now that it was.
    sent(("idle", "2026-01-15T00:00:00Z", "2"))
    assert billed(tollmesh("adjust", base, "-o", "json").json()["charge_id"]) == {
        ("WEIGHTED_SUM", "idle"): "-72"
    }


def test_a_changed_line_is_named_and_what_cannot_be_exported_is_told(
    tollmesh: Tollmesh, tmp_path: Path
) -> None:
    org_id = f"org-{uuid4()}"
    applied(tollmesh, org_id)
    used(tollmesh, org_id, "7", "p")
    base = tollmesh("charge", org_id, "--period", DAY, "--quiet").out.strip()
    path = tmp_path / "explained.json"
    done = tollmesh("explain", base, "--export", str(path))
    assert done.out.splitlines()[0] == f"1 charge with 11 lines written to {path}"
    document = json.loads(path.read_text())
    line = document["charges"][0]["lines"][0]["line"]
    line["amount_gross"]["minor_units"] = "1"
    path.write_text(json.dumps(document))
    found = tollmesh("explain", "--verify", str(path), "-o", "json")
    assert found.exit_code == EXIT_DIFFERENT
    assert {
        "charge_id": base,
        "line_id": "1",
        "field": "line.amount_gross.minor_units",
        "written": "1",
        "recomputed": "1400",
    } in found.json()["findings"]
    assert tollmesh("explain", "chg_none", "--export", str(path)).exit_code == EXIT_REFUSED
    nowhere = tmp_path / "none" / "explained.json"
    assert tollmesh("explain", base, "--export", str(nowhere)).exit_code == EXIT_USAGE
    assert not nowhere.exists()
