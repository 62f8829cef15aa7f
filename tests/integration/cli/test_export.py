"""`tollmesh export`: every table, in every format, with the values that the services give."""

from __future__ import annotations

import csv
import io
import json
import time
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from pyarrow import parquet

from services.cli.errors import EXIT_DENIED, EXIT_REFUSED, EXIT_UNAVAILABLE, EXIT_USAGE
from tests.integration.cli.conftest import Done, Tollmesh
from tests.integration.cli.test_commands import AT, DAY, catalog_of, used

pytestmark = pytest.mark.xdist_group("cli")
SEEN_WITHIN_S = 20.0


@pytest.fixture
def org_id(tollmesh: Tollmesh) -> str:
    """An organisation with a charge of three uses."""
    made = f"org-{uuid4()}"
    assert tollmesh("catalog", "apply", "-", stdin=catalog_of(made)).exit_code == 0
    used(tollmesh, made, 3)
    assert tollmesh("charge", made, "--period", DAY).exit_code == 0
    return made


def rows(done: Done) -> list[dict[str, str]]:
    assert done.exit_code == 0, done.err
    return list(csv.DictReader(io.StringIO(done.out, newline="")))


def test_usage_charges_entries_and_payments_agree(tollmesh: Tollmesh, org_id: str) -> None:
    usage = rows(tollmesh("export", "usage", "--org", org_id, "--period", "2025-12-20/2026-02-02"))
    (day,) = usage
    assert (day["org_id"], day["sku"], day["value"], day["event_count"]) == (
        *(org_id, "calls", "3", "3"),
    )
    assert day["window_start_at"] == f"{DAY}T00:00:00.000000Z"

    (line,) = rows(tollmesh("export", "charges", "--org", org_id))
    assert line["quantity"] == "3"
    assert Decimal(line["exact_amount"]) == Decimal("0.75")
    assert (line["total_minor"], line["amount_gross_minor"], line["currency_code"]) == (
        *("75", "75", "USD"),
    )
    assert line["charge_status"] == "settled"
    assert rows(tollmesh("export", "charges", "--org", org_id, "--period", "2026-02")) == []

    account = f"receivable:{org_id}:USD"
    (entry,) = rows(tollmesh("export", "entries", "--account", account))
    assert entry["direction"] == "debit"
    assert (entry["amount_minor"], entry["balance_after_minor"], entry["seq"]) == ("75", "75", "1")
    shown = tollmesh("ledger", "entries", account, "-o", "json").json()["entries"][0]
    assert entry["transfer_id"] == shown["transfer_id"]
    assert rows(tollmesh("export", "entries", "--account", account, "--period", "2020-01")) == []
    every = rows(tollmesh("export", "entries"))
    assert sum(row["direction"] == "debit" for row in every) * 2 == len(every)
    assert entry in every

    paid = tollmesh(
        *("pay", "--merchant", "shop", "--currency", "USD", "--amount", "12.34"),
        *("--order", f"o-{org_id}", "-o", "json"),
    ).json()
    found = {row["payment_id"]: row for row in rows(tollmesh("export", "payments"))}
    payment = found[paid["payment_id"]]
    assert (payment["amount_minor"], payment["processed_minor"], payment["status"]) == (
        *("1234", "1234", "succeeded"),
    )
    assert paid["payment_id"] in {
        row["payment_id"] for row in rows(tollmesh("export", "payments", "--status", "succeeded"))
    }
    none = tollmesh("export", "payments", "--merchant", "shop", "--period", "2020-01")
    assert rows(none) == []


def test_every_format_holds_the_same_rows(tollmesh: Tollmesh, org_id: str, tmp_path: Path) -> None:
    for ending in ("csv", "jsonl", "parquet"):
        out = tmp_path / f"charges.{ending}"
        done = tollmesh("export", "charges", "--org", org_id, "--out", str(out), "-o", "json")
        assert done.json() == {
            **{"table": "charges", "rows": 1, "file": str(out), "format": ending},
        }
    (as_csv,) = csv.DictReader(io.StringIO((tmp_path / "charges.csv").read_text(), newline=""))
    as_json = json.loads((tmp_path / "charges.jsonl").read_text())
    (as_parquet,) = parquet.read_table(tmp_path / "charges.parquet").to_pylist()
    assert list(as_csv) == list(as_parquet)
    for name, text in as_csv.items():
        assert (as_json[name] or "") == text
    assert as_parquet["amount_gross_minor"] == 75
    assert as_parquet["exact_amount"] == Decimal(as_csv["exact_amount"])
    assert as_parquet["period_start_at"].isoformat() == f"{DAY}T00:00:00+00:00"


def test_events_go_on_from_a_cursor(tollmesh: Tollmesh, org_id: str) -> None:
    before = tollmesh("export", "events", "--format", "jsonl")
    assert before.exit_code == 0
    cursor = before.err.rpartition("--after ")[2].strip()
    event = {
        "id": f"{org_id}-e",
        "subject": "intake.captured.v2",
        "data": {"intake_id": org_id, "captured_at": AT, "channel": "web"},
    }
    published = tollmesh("events", "publish", "-", stdin=json.dumps(event).encode())
    assert published.exit_code == 0
    # A published event gets its place in the feed a little later.
    give_up_at = time.monotonic() + SEEN_WITHIN_S
    ours = None
    while ours is None:
        assert time.monotonic() < give_up_at
        after = tollmesh("export", "events", "--format", "jsonl", "--after", cursor)
        found = [json.loads(line) for line in after.out.splitlines()]
        ours = next((each for each in found if each["id"] == event["id"]), None)
    assert ours["payload"] == event["data"]
    assert ours["payload_type"] is None
    assert after.err.rpartition("--after ")[2].strip() != cursor
    listed = tollmesh("events", "list", "--limit", "1000", "-o", "json").json()["events"]
    assert [each["id"] for each in listed] == [
        json.loads(line)["id"] for line in (before.out + after.out).splitlines()
    ][: len(listed)]
    messages = tollmesh("export", "events", "--subject", "charge.*", "--format", "jsonl")
    kinds = {json.loads(line)["payload_type"] for line in messages.out.splitlines()}
    assert all(kind.startswith("payments.events.v1.Charge") for kind in kinds)


def test_an_export_that_fails_leaves_nothing(
    tollmesh: Tollmesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "entries.csv"
    missing = tollmesh("export", "entries", "--account", "none", "--out", str(out))
    assert (missing.exit_code, "NOT_FOUND" in missing.err) == (EXIT_REFUSED, True)
    assert tollmesh("export", "events", "--after", "odd").exit_code == EXIT_REFUSED
    for wrong in (
        ("entries", "--account", "a", "--owner", "b"),
        ("payments", "--status", "odd"),
        ("usage", "--org", "o", "--period", "2026-01", "--window", "week"),
        ("usage", "--org", "o", "--period", "2026-01", "--time-zone", "Mars/Base"),
        ("charges", "-o", "json"),
        ("charges", "--format", "xml"),
    ):
        assert tollmesh("export", *wrong).exit_code == EXIT_USAGE, wrong
    monkeypatch.setenv("TOLLMESH_API_KEY", "tmk_nobody")
    assert tollmesh("export", "charges", "--out", str(out)).exit_code == EXIT_DENIED
    monkeypatch.setattr("services.cli.tables.TRIES_MAX", 0)
    monkeypatch.setenv("TOLLMESH_ADDRESS", "127.0.0.1:1")
    assert tollmesh("export", "charges", "--out", str(out)).exit_code == EXIT_UNAVAILABLE
    assert list(tmp_path.iterdir()) == []
