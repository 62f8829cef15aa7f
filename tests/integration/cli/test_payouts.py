"""Payouts, commissions, sweeps and policies from the command line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from services.cli.errors import EXIT_REFUSED, EXIT_USAGE
from tests.integration.cli.conftest import Tollmesh

pytestmark = pytest.mark.xdist_group("cli")

SETTLES_WITHIN_S = 60.0


@pytest.fixture
def partner(tollmesh: Tollmesh, tmp_path: Path) -> str:
    """A partner that earned 20.00 AUD on one line of a charge, and 3.00 on another."""
    name = f"p-{uuid4()}"
    price = {"per_unit": {"unit_amount": "1"}}
    catalog = {
        "skus": [{"sku": f"{name}.{each}", "unit": "call"} for each in "ab"],
        "plans": [
            {
                "plan_id": name,
                "currency_code": "AUD",
                "prices": [{"sku": f"{name}.{each}", "price": price} for each in "ab"],
            }
        ],
        "entitlements": [{"org_id": name, "plan_id": name}],
        "partners": [{"partner_id": name, "name": name, "tier": name}],
        "partners_of_record": [{"org_id": name, "partner_id": name}],
        "commission_rates": [{"partner_tier": name, "pct": "10"}],
    }
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    assert tollmesh("catalog", "apply", str(tmp_path / "catalog.json")).exit_code == 0
    put = ("payouts", "put-policy", name, "--threshold", "15.00:AUD", "--minimum", "2.00:AUD")
    assert tollmesh(*put).exit_code == 0
    used = "".join(
        json.dumps(
            {
                "request_id": f"{name}-{each}",
                "org_id": name,
                "project_id": "web",
                "sku": f"{name}.{each}",
                "quantity": quantity,
                "event_time": "2025-03-04T09:00:00Z",
            }
        )
        + "\n"
        for each, quantity in (("a", 200), ("b", 30))
    )
    (tmp_path / "usage.jsonl").write_text(used)
    assert tollmesh("ingest", str(tmp_path / "usage.jsonl")).exit_code == 0
    assert tollmesh("charge", name, "--period", "2025-03").exit_code == 0
    return name


def payouts_of(tollmesh: Tollmesh, partner: str, status: str) -> list[dict[str, Any]]:
    """Wait until a partner has payouts that came so far."""
    give_up_at = time.monotonic() + SETTLES_WITHIN_S
    listed = ("payouts", "list", "--party", partner, "--status", status, "-o", "json")
    while not (found := tollmesh(*listed).json()["payouts"]):
        assert time.monotonic() < give_up_at, "no payout came so far"
        time.sleep(0.1)
    return list(found)


def test_from_a_charge_to_the_money_and_back(
    tollmesh: Tollmesh, partner: str, tmp_path: Path
) -> None:
    (payout,) = payouts_of(tollmesh, partner, "claimed")
    assert payout["amount"] == {"currency_code": "AUD", "minor_units": "2000"}
    shown = tollmesh("payouts", "get", payout["payout_id"]).out
    assert "payout-claim: posting " in shown
    assert "20.00 AUD" in shown
    balances = tollmesh("commissions", "balances", "--party", partner).out
    assert all(amount in balances for amount in ("23.00 AUD", "20.00 AUD", "3.00 AUD"))
    assert "realtime" in shown
    lines = tollmesh("commissions", "list", "--party", partner, "-o", "json").json()["commissions"]
    assert [line["line_id"] for line in lines] == ["2", "1"]
    too_much = ("payouts", "create", partner, "--amount", "3.01", "--yes")
    refused = tollmesh(*too_much)
    assert (refused.exit_code, "PAYOUT_EXCEEDS_BALANCE" in refused.err) == (EXIT_REFUSED, True)
    assert tollmesh("payouts", "paid", payout["payout_id"], "--reference", "E2E-1").exit_code == 0
    back = ("payouts", "returned", payout["payout_id"], "--code", "R03", "-o", "json")
    assert tollmesh(*back).json()["status"] == "PAYOUT_STATUS_RETURNED"
    swept = tollmesh("sweep", "--yes")
    assert (swept.exit_code, "done" in swept.out) == (0, True)
    listed = ("payouts", "list", "--party", partner, "-o", "json")
    found = tollmesh(*listed).json()["payouts"]
    assert [each["amount"]["minor_units"] for each in found] == ["2300", "2000"]
    assert "schedule" in tollmesh("commissions", "sweeps").out
    for table in ("commissions", "payouts"):
        out = tmp_path / f"{table}.csv"
        assert tollmesh("export", table, "--party", partner, "--out", str(out)).exit_code == 0
        assert len(out.read_text().splitlines()) == 3
    payouts_of(tollmesh, partner, "claimed")
    assert " 0 differ" in tollmesh("commissions", "verify").out


def test_a_payout_is_made_once_unless_it_is_asked_for_again(
    tollmesh: Tollmesh, partner: str
) -> None:
    payouts_of(tollmesh, partner, "claimed")
    create = ("payouts", "create", partner, "--amount", "1.00", "--yes", "-o", "json")
    first, second = tollmesh(*create), tollmesh(*create)
    assert (first.err, second.json()["payout_id"]) == ("", first.json()["payout_id"])
    assert "nothing more was paid; --again" in second.err
    other = tollmesh(*create, "--destination", "giro").json()["payout_id"]
    again = tollmesh(*create, "--again").json()["payout_id"]
    assert len({first.json()["payout_id"], other, again}) == 3
    wrong = tollmesh(*create, "--again", "--request-id", str(uuid4()))
    assert (wrong.exit_code, "--again makes its own" in wrong.err) == (EXIT_USAGE, True)
    give_up_at = time.monotonic() + SETTLES_WITHIN_S
    back = ("payouts", "returned", first.json()["payout_id"], "--code", "R03")
    while tollmesh(*back).exit_code:
        assert time.monotonic() < give_up_at, "the payout was not claimed"
        time.sleep(0.1)
    anew = tollmesh(*create)
    assert anew.json()["payout_id"] not in {first.json()["payout_id"], other, again}
    assert tollmesh(*create).json()["payout_id"] == anew.json()["payout_id"]


def test_policies_are_shown_with_what_they_leave_out(tollmesh: Tollmesh, partner: str) -> None:
    shown = tollmesh("payouts", "policy", partner).out
    assert "15.00 AUD" in shown
    assert "0 0 * * 1 in UTC" in shown
    wrong = tollmesh("payouts", "put-policy", "--threshold", "15.00")
    assert (wrong.exit_code, "50.00:AUD" in wrong.err) == (EXIT_USAGE, True)
    wrong = tollmesh("payouts", "put-policy", "--sweep", "weekly")
    assert "SCHEDULE_INVALID" in wrong.err
