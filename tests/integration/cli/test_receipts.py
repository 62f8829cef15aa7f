"""From usage to a bill, with receipts that are kept and verified where nothing of the product is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.cli.errors import EXIT_DIFFERENT, EXIT_REFUSED, EXIT_USAGE
from tests.integration.cli.conftest import Tollmesh
from tests.support.billing.alone import copied, verify_alone

pytestmark = pytest.mark.xdist_group("cli")

MONTH = "2026-02"
ORG = "keeps-receipts"


def applied(tollmesh: Tollmesh) -> None:
    price = {"sku": f"{ORG}.calls", "price": {"per_unit": {"unit_amount": "0.5"}}}
    catalog = {
        "skus": [
            {"sku": price["sku"], "type": "SKU_TYPE_ACTION", "aggregation": "AGGREGATION_SUM"}
        ],
        "plans": [{"plan_id": ORG, "name": "All", "currency_code": "USD", "prices": [price]}],
        "entitlements": [{"org_id": ORG, "plan_id": ORG}],
    }
    done = tollmesh("catalog", "apply", "-", stdin=json.dumps(catalog).encode())
    assert done.exit_code == 0, done.err


def sent(tollmesh: Tollmesh, **quantities: str) -> str:
    """Send usage; returns the id of its receipt."""
    events = [
        {
            "request_id": f"{ORG}-{name}",
            "org_id": ORG,
            "sku": f"{ORG}.calls",
            "quantity": quantity,
            "time": f"{MONTH}-03T10:00:00Z",
        }
        for name, quantity in quantities.items()
    ]
    asked = (
        "api",
        "payments.metering.v1.MeteringService/IngestEvents",
        json.dumps({"events": events}),
    )
    done = tollmesh(*asked)
    assert done.exit_code == 0, done.err
    answer = json.loads(done.out)
    assert not answer.get("problems"), answer
    return str(answer["receipt_id"])


def test_receipts_are_kept_and_the_bill_is_of_them(tollmesh: Tollmesh, tmp_path: Path) -> None:
    applied(tollmesh)
    first, second = sent(tollmesh, a="10", b="2"), sent(tollmesh, c="4")
    kept = [str(tmp_path / name) for name in ("first.json", "second.json", "cancelled.json")]
    assert tollmesh("receipts", "get", first, "--out", kept[0]).exit_code == 0
    got = tollmesh("receipts", "get", second, "--out", kept[1], "-o", "json")
    assert (got.exit_code, got.json()["accepted"]) == (0, 1)
    cancelled = tollmesh("usage", "cancel", f"{ORG}-c", "--reason", "a test", "-o", "json").json()
    charged = tollmesh("charge", ORG, "--period", MONTH, "-o", "json").json()
    bill = str(tmp_path / "bill.json")
    exported = tollmesh("explain", charged["charge_id"], "--export", bill)
    assert exported.exit_code == 0, exported.err
    proof = json.loads(Path(bill).read_text())["charges"][0]["lines"][0]["line"]["proof"]
    size = proof["usage_ordinal"]
    head = tollmesh("receipts", "head", "--tree-size", size, "-o", "json").json()
    assert head["root_hash"] == proof["usage_log_root"]
    # Who was not shown that an event was cancelled sees that it is not in the bill.
    unshown = tollmesh("receipts", "verify", *kept[:2], "--charge", bill)
    assert unshown.exit_code == EXIT_DIFFERENT
    assert "at least 16, what the receipts say" in unshown.out
    sizes = [
        json.loads(Path(each).read_text())["receipt"]["head"]["tree_size"] for each in kept[:2]
    ]
    asked = ("receipts", "get", cancelled["receipt_id"], "--tree-size", size, "--out", kept[2])
    assert tollmesh(*asked).exit_code == 0
    proofs = []
    for older in sorted({each for each in sizes if each != size}):
        proofs.append(str(tmp_path / f"{older}.json"))
        done = tollmesh("receipts", "consistency", older, size, "--out", proofs[-1])
        assert done.exit_code == 0, done.err
    done = tollmesh("receipts", "verify", *kept, *proofs, "--charge", bill)
    assert done.exit_code == 0, done.out
    assert done.out.splitlines()[-1] == "verified: 3 receipts, 4 events, 1 charge"
    assert "2 events held in the bill, 1 elsewhere or no more" in done.out
    alone = verify_alone(copied(tmp_path), "receipts", *kept, *proofs, "--charge", bill)
    assert (alone.returncode, alone.stdout) == (0, done.out)

    # Somebody who wants to have used less.
    document = json.loads(Path(kept[0]).read_text())
    document["events"][0]["event"]["quantity"] = "1"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document))
    found = tollmesh("receipts", "verify", str(other), "-o", "json")
    assert found.exit_code == EXIT_DIFFERENT
    assert "events[0].event.quantity" in {each["field"] for each in found.json()["findings"]}


def test_the_log_is_shown_and_computed_again(tollmesh: Tollmesh) -> None:
    applied(tollmesh)
    receipt = sent(tollmesh, shown="1")
    assert tollmesh("receipts", "get", receipt).exit_code == 0
    heads = tollmesh("receipts", "heads", "--limit", "2", "-o", "json").json()["heads"]
    assert int(heads[0]["tree_size"]) > int(heads[1]["tree_size"])
    assert tollmesh("receipts", "head").exit_code == 0
    found = tollmesh("receipts", "audit", "-o", "json")
    assert (found.exit_code, found.json()["findings"]) == (0, [])
    assert found.json()["receipts"] >= int(heads[0]["tree_size"])
    assert "nothing was found" in tollmesh("receipts", "audit").out


def test_what_is_no_receipt_is_refused(tollmesh: Tollmesh, tmp_path: Path) -> None:
    nobody = "rcp_0198c5a2-7d1e-7c55-9f3e-3d2b8a0c4e11"
    assert tollmesh("receipts", "get", nobody).exit_code == EXIT_REFUSED
    (tmp_path / "none.json").write_text("{}")
    refused = tollmesh("receipts", "verify", str(tmp_path / "none.json"))
    assert (refused.exit_code, "its format is" in refused.err) == (EXIT_USAGE, True)
