"""Every command, used right and used wrong."""

from __future__ import annotations

import gzip
import json
import socket
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from pyarrow import parquet

from services.cli.errors import (
    EXIT_DENIED,
    EXIT_INCOMPLETE,
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
)
from tests.integration.cli.conftest import Tollmesh
from tests.support.mesh.process import MeshProcess

pytestmark = pytest.mark.xdist_group("cli")

DAY = "2026-01-15"
AT = f"{DAY}T12:00:00Z"
HEADER = "request_id,org_id,project_id,sku,quantity,event_time\n"

CATALOG = """
skus:
  - {sku: calls, type: SKU_TYPE_ACTION, unit: call, aggregation: AGGREGATION_SUM}
plans:
  - plan_id: basic
    name: %(name)s
    currency_code: USD
    status: STATUS_ACTIVE
    prices: [{sku: calls, price: {per_unit: {unit_amount: "%(price)s"}}}]
entitlements:
%(entitlements)s
"""


def catalog_of(*org_ids: str, name: str = "Basic", price: str = "0.25") -> bytes:
    entitlements = "\n".join(
        f'  - {{org_id: {org_id}, plan_id: basic, effective_at: "2020-01-01T00:00:00Z"}}'
        for org_id in org_ids
    )
    return (CATALOG % {"name": name, "price": price, "entitlements": entitlements}).encode()


@pytest.fixture
def org_id(tollmesh: Tollmesh) -> str:
    """An organisation of the test's own, on the plan."""
    made = f"org-{uuid4()}"
    applied = tollmesh("catalog", "apply", "-", stdin=catalog_of(made))
    assert applied.exit_code == 0, applied.err
    return made


def used(tollmesh: Tollmesh, org_id: str, count: int) -> None:
    rows = "".join(f"{org_id}-{n},{org_id},p,calls,1,{AT}\n" for n in range(count))
    sent = tollmesh("ingest", "-", "--format", "csv", stdin=(HEADER + rows).encode())
    assert sent.exit_code == 0, sent


# ---- Catalogue


def test_a_dry_run_shows_the_diff_and_changes_nothing(tollmesh: Tollmesh, org_id: str) -> None:
    wanted = catalog_of(org_id, name="Better", price="0.5")
    for _ in range(2):
        shown = tollmesh("catalog", "apply", "-", "--dry-run", stdin=wanted)
        assert shown.exit_code == 0
        assert "~ plan basic\n" in shown.out
        assert "    name: Basic -> Better\n" in shown.out
        assert "prices[calls].price.per_unit.unit_amount: 0.25 -> 0.5\n" in shown.out
        assert "0 would be created, 1 would be updated, 2 unchanged" in shown.out
    again = tollmesh("catalog", "apply", "-", stdin=catalog_of(org_id))
    assert again.out == "0 created, 0 updated, 3 unchanged\n"
    kinds = tollmesh("catalog", "apply", "-", "-o", "json", stdin=catalog_of(org_id)).json()
    assert {change["kind"] for change in kinds["changes"]} == {"KIND_UNCHANGED"}


def test_an_amount_without_quotes_is_named(tollmesh: Tollmesh) -> None:
    wrong = catalog_of("o").replace(b'"0.25"', b"0.25")
    done = tollmesh("catalog", "apply", "-", stdin=wrong)
    assert done.exit_code == EXIT_USAGE
    assert "plans[0].prices[0].price.per_unit.unit_amount is the number 0.25" in done.err
    assert 'write "0.25", with the quotes' in done.err


# ---- Ingest and usage


def test_right_rows_are_stored_and_wrong_ones_named(
    tollmesh: Tollmesh, org_id: str, tmp_path: Path
) -> None:
    late = (datetime.now(UTC) + timedelta(days=400)).isoformat()
    rows = [
        f"{org_id}-1,{org_id},p,calls,1,{AT}",  # 2
        f"{org_id}-2,{org_id},p,calls,-1,{AT}",  # 3
        f"{org_id}-3,{org_id},p,calls,{'9' * 30},{AT}",  # 4
        f"{org_id}-4,{org_id},p,none,1,{AT}",  # 5
        f"{org_id}-5,{org_id},p,calls,1,1999-01-01T00:00:00Z",  # 6
        f"{org_id}-6,{org_id},p,calls,1,{late}",  # 7
        f"{org_id}-7,{org_id},p,calls,1,noon",  # 8
        f"{org_id}-8,{org_id}",  # 9
        f'"{org_id}-9,{org_id},p,calls,1,{AT}',  # 10
        f"{org_id}-1,{org_id},p,calls,1,{AT}",  # 11: the same again
        f"{org_id}-1,{org_id},p,calls,2,{AT}",  # 12: the same id, other content
        f"{org_id}-10,{org_id},p,calls,2.5,{AT}",  # 13
    ]
    file = tmp_path / "usage.csv"
    content = (HEADER + "\n".join(rows)).encode()
    file.write_bytes(content + f"\n{org_id}-\xff,{org_id},p,calls,1,{AT}\n".encode("latin-1"))  # 14
    done = tollmesh("ingest", str(file), "--output", "json")
    assert done.exit_code == EXIT_INCOMPLETE
    counted = done.json()
    verdicts = ("accepted", "duplicate", "conflict", "rejected", "malformed")
    assert [counted[name] for name in verdicts] == [2, 1, 1, 5, 4]
    told = {item["row"]: item["problem"] for item in counted["problems"]}
    assert list(told) == [3, 4, 5, 6, 7, 8, 9, 10, 12, 14]
    for row, part in {
        3: "not negative",
        4: "at most 15 digits",
        5: "UNKNOWN_SKU",
        6: "EVENT_TOO_OLD",
        7: "EVENT_TOO_NEW",
        8: "'noon' is not a time",
        9: "2 columns",
        10: "malformed CSV",
        12: "EVENT_CONFLICT",
        14: "UTF-8",
    }.items():
        assert part in told[row]
    assert "error: 10 rows were not stored" in done.err
    table = tollmesh("ingest", str(file))
    assert table.exit_code == EXIT_INCOMPLETE
    assert "UNKNOWN_SKU (1 row)\n  row 5: " in table.out
    reasons = {item["reason"]: item for item in counted["reasons"]}
    assert reasons["UNKNOWN_SKU"] == {"reason": "UNKNOWN_SKU", "count": 1, "rows": [5]}
    assert sum(item["count"] for item in reasons.values()) == 10
    usage = tollmesh("usage", org_id, "--period", DAY, "-o", "json").json()
    assert [row["value"] for row in usage["rows"]] == ["3.5"]


def test_json_lines_come_from_standard_input(tollmesh: Tollmesh, org_id: str) -> None:
    event = {"request_id": f"{org_id}-a", "org_id": org_id, "sku": "calls", "time": AT}
    line = json.dumps(event)[:-1] + ', "quantity": 0.1234567890123456789}\n'
    done = tollmesh("ingest", "-", "--format", "jsonl", stdin=line.encode())
    assert (done.exit_code, "INVALID_FIELD" in done.out) == (EXIT_INCOMPLETE, True)
    line = line.replace("0.1234567890123456789", "0.123456789012345678")
    assert tollmesh("ingest", "-", "--format", "jsonl", stdin=line.encode()).exit_code == 0
    usage = tollmesh("usage", org_id, "--period", DAY, "-o", "json").json()
    assert [row["value"] for row in usage["rows"]] == ["0.123456789012345678"]


def test_long_labels_do_not_make_a_batch_too_large(tollmesh: Tollmesh, org_id: str) -> None:
    label = {f"key-{n}": "x" * 256 for n in range(16)}
    event = {"org_id": org_id, "sku": "calls", "quantity": 1, "time": AT, "metadata": label}
    lines = [json.dumps({**event, "request_id": f"{org_id}-{n}"}) for n in range(1_100)]
    lines.insert(7, json.dumps({**event, "request_id": f"{org_id}-x", "project_id": "p" * 900_000}))
    packed = gzip.compress("\n".join(lines).encode(), 1)
    done = tollmesh("ingest", "-", "--format", "jsonl", "-o", "json", stdin=packed)
    assert done.exit_code == EXIT_INCOMPLETE
    assert (done.json()["accepted"], done.json()["rejected"]) == (1_100, 1)


def test_parquet_is_read_with_mapped_columns(
    tollmesh: Tollmesh, org_id: str, tmp_path: Path
) -> None:
    file = tmp_path / "usage.parquet"
    times = pa.array([datetime(2026, 1, 15, 12, tzinfo=UTC)] * 2, pa.timestamp("ns", "UTC"))
    amounts = pa.array([Decimal("1.100000"), Decimal("2.200000")], pa.decimal128(20, 6))
    parquet.write_table(
        pa.table({"id": [f"{org_id}-1", f"{org_id}-2"], "n": amounts, "at": times}), file
    )
    mapped = ("--map", "request_id=id", "--map", "quantity=n", "--map", "event_time=at")
    constant = ("--set", f"org_id={org_id}", "--set", "sku=calls")
    done = tollmesh("ingest", str(file), *mapped, *constant, "-o", "json")
    assert (done.exit_code, done.json()["accepted"]) == (0, 2)
    (row,) = tollmesh("usage", org_id, "--period", "2026-01", "-o", "json").json()["rows"]
    assert Decimal(row["value"]) == Decimal("3.3")


def test_usage_comes_in_windows(tollmesh: Tollmesh, org_id: str) -> None:
    used(tollmesh, org_id, 3)
    shown = tollmesh("usage", org_id, "--period", DAY, "--window", "hour", "--aggregation", "count")
    assert shown.exit_code == 0
    assert f"{DAY} 12:00:00" in shown.out
    zoned = ("--window", "day", "--time-zone", "Asia/Kathmandu")
    shown = tollmesh("usage", org_id, "--period", "2026-01", *zoned)
    assert f"usage of {org_id}, Asia/Kathmandu" in shown.out
    assert "2026-01-15 00:00:00+05:45" in shown.out
    assert "2026-01-16 00:00:00+05:45" in shown.out
    wrong = tollmesh("usage", org_id, "--period", DAY, "--window", "week")
    assert (wrong.exit_code, "none, hour, day" in wrong.err) == (EXIT_USAGE, True)


# ---- Charges


def test_a_charge_is_made_once_listed_and_explained(tollmesh: Tollmesh, org_id: str) -> None:
    used(tollmesh, org_id, 5)
    estimate = tollmesh("estimate", org_id, "--sku", "calls=2", "--leads", "3", "-o", "json").json()
    assert estimate["grand_total"] == {"currency_code": "USD", "minor_units": "150"}
    made = tollmesh("charge", org_id, "--period", DAY, "--output", "json").json()
    assert made["total"]["minor_units"] == "125"
    again = tollmesh("charge", org_id, "--period", DAY)
    assert f"{org_id}: 1.25 USD  ({made['charge_id']}, settled)" in again.out
    listed = tollmesh("charges", org_id)
    assert made["charge_id"] in listed.out, "ids are not folded"
    explained = tollmesh("explain", made["charge_id"])
    assert f"posted 1.25 USD: receivable:{org_id}:USD → revenue:calls:USD" in explained.out
    told = tollmesh("explain", made["charge_id"], "-o", "json").json()
    posting = f"posted by recipe charge, version 3: posting {told['posting_id']}"
    assert posting in explained.out
    entries = tollmesh("ledger", "entries", f"receivable:{org_id}:USD", "-o", "json").json()
    assert [entry["amount"]["minor_units"] for entry in entries["entries"]] == ["125"]


def test_a_charge_of_an_open_period_is_closed_at_the_call(tollmesh: Tollmesh, org_id: str) -> None:
    open_period = ("--period", "2026-01-01/2100-01-01")
    refused = tollmesh("charge", org_id, *open_period)
    assert (refused.exit_code, "PERIOD_NOT_ENDED" in refused.err) == (EXIT_REFUSED, True)
    made = tollmesh("charge", org_id, *open_period, "--allow-open")
    assert "the next one starts there" in made.out
    again = tollmesh("charge", org_id, *open_period, "--allow-open")
    assert again.out == made.out
    ahead = tollmesh("charge", org_id, "--period", "2099-01", "--allow-open")
    assert (ahead.exit_code, "PERIOD_NOT_ENDED" in ahead.err) == (EXIT_REFUSED, True)


def late_usage(tollmesh: Tollmesh, org_id: str) -> list[dict[str, Any]]:
    listed = tollmesh("usage", "late", org_id, "--period", DAY, "-o", "json").json()
    late_events: list[dict[str, Any]] = listed["late_events"]
    return late_events


def test_late_usage_is_listed(tollmesh: Tollmesh, org_id: str) -> None:
    assert tollmesh("charge", org_id, "--period", DAY).exit_code == 0
    used(tollmesh, org_id, 2)
    # Metering hears of the charge a moment after it was made.
    give_up_at = time.monotonic() + 30
    while not (found := late_usage(tollmesh, org_id)) and time.monotonic() < give_up_at:
        time.sleep(0.1)
    assert [item["org_id"] for item in found] == [org_id] * 2
    shown = tollmesh("usage", "late", org_id)
    assert (shown.exit_code, found[0]["charge_id"] in shown.out) == (0, True)
    first = tollmesh("usage", "late", org_id, "--limit", "1", "-o", "json").json()
    assert first == {"late_events": found[:1], "more": True}
    assert tollmesh("usage", "late", f"{org_id}-other", "-o", "json").json()["late_events"] == []
    assert tollmesh("usage", "late", f"{org_id}-no").out == "nothing found\n"
    # As it was called at first; and an organisation may be called as the command is.
    assert tollmesh("late-usage", org_id).out == shown.out
    for named in (("usage", "show", "late"), ("usage", "--period", DAY, "show")):
        own = tollmesh(*named, *(() if "--period" in named else ("--period", DAY)))
        assert (own.exit_code, "has no such usage" in own.out) == (0, True)


def test_what_cannot_exist_is_refused_and_what_has_nothing_says_so(
    tollmesh: Tollmesh, org_id: str
) -> None:
    for arguments, part in (
        (("usage", org_id, "--period", DAY, "--sku", "calls2"), "UNKNOWN_SKU"),
        (("usage", org_id, "--period", DAY, "--time-zone", "Mars/Base"), "UNKNOWN_TIME_ZONE"),
        (("violations", "--contract", "router/timeot"), "NOT_FOUND"),
        (("violations", "--severity", "BAD"), "LOW, MEDIUM, HIGH, CRITICAL"),
        (("events", "list", "--subject", "none.such"), "EVENT_TYPE_UNKNOWN"),
        (("events", "tail", "--subject", "paymnt.*"), "EVENT_TYPE_UNKNOWN"),
        (("webhooks", "create", "https://example.com", "--subject", "none.such"), "EVENT_TYPE"),
    ):
        done = tollmesh(*arguments)
        assert (done.exit_code, part in done.err) == (EXIT_REFUSED, True), done
    assert "has no such usage" in tollmesh("usage", "nobody", "--period", DAY).out
    assert "nobody has no charges" in tollmesh("charges", "nobody").out


def test_what_cannot_be_charged_is_refused(tollmesh: Tollmesh, org_id: str) -> None:
    for arguments, code, part in (
        (("charge", "nobody", "--period", DAY), EXIT_REFUSED, "NO_PLAN"),
        (("charge", org_id, "--period", "tomorrow"), EXIT_USAGE, "is not a period"),
        (("charge", org_id, "--period", DAY, "--request-id", "x"), EXIT_REFUSED, "request_id"),
        (("explain", "chg_none"), EXIT_REFUSED, "NOT_FOUND"),
        (("estimate", org_id, "--sku", "calls", "--leads", "1"), EXIT_USAGE, "sku=uses"),
        (("estimate", org_id, "--sku", "none=1", "--leads", "1"), EXIT_REFUSED, "SKU_NOT_PRICED"),
    ):
        done = tollmesh(*arguments)
        assert done.exit_code == code, done
        assert part in done.err
        assert done.out == ""


def test_what_the_mesh_refuses_is_a_document_with_its_reason(
    tollmesh: Tollmesh, org_id: str
) -> None:
    missing = tollmesh("explain", "chg_none", "-o", "json")
    assert missing.exit_code == EXIT_REFUSED
    error = missing.json()["error"]
    assert (error["code"], error["reason"]) == ("NOT_FOUND", "NOT_FOUND")
    assert error["metadata"] == {"resource": "charge", "id": "chg_none"}
    assert error["message"] in missing.err
    odd = tollmesh("charge", "not an org", "--period", DAY, "-o", "json").json()["error"]
    assert (odd["reason"], odd["fields"][0]["field"]) == ("INVALID_FIELD", "org_id")
    used(tollmesh, org_id, 1)
    repeated = f"{HEADER}{org_id}-0,{org_id},p,none,1,{AT}\n".encode()
    counted = tollmesh("ingest", "-", "--format", "csv", "-o", "json", stdin=repeated)
    assert (counted.exit_code, "error" in counted.json()) == (EXIT_INCOMPLETE, False)


# ---- Payments


def test_payments_are_made_shown_and_listed(tollmesh: Tollmesh) -> None:
    order = f"order-{uuid4()}"
    request_id = str(uuid4())
    assert tollmesh("payments", "--order", order).out == f"{order} has no payments\n"
    asked = ("pay", "--merchant", "shop", "--order", order, "--person", "p", "--amount", "7.25")
    made = tollmesh(*asked, "--request-id", request_id, "-o", "json").json()
    assert made["status"] == "PAYMENT_STATUS_SUCCEEDED"
    again = tollmesh(*asked, "--request-id", request_id, "-o", "json").json()
    assert again["payment_id"] == made["payment_id"]
    shown = tollmesh("payment", made["payment_id"])
    assert "p pays 7.25 USD: succeeded" in shown.out
    listed = tollmesh("payments", "--order", order, "-o", "json").json()
    assert [item["payment_id"] for item in listed["payments"]] == [made["payment_id"]]


def test_the_same_command_pays_once(tollmesh: Tollmesh, tmp_path: Path) -> None:
    order = f"order-{uuid4()}"
    asked = ("pay", "--merchant", "shop", "--order", order, "--amount", "7.25", "-o", "json")
    made, again = tollmesh(*asked), tollmesh(*asked)
    assert again.json() == made.json()
    assert made.err == ""
    assert "this is the payment made" in again.err
    assert "--again" in again.err
    others = {tollmesh(*asked, "--again").json()["payment_id"] for _ in range(2)}
    other_amount = tollmesh(*asked[:-3], "7.26", "-o", "json").json()
    ids = {made.json()["payment_id"], other_amount["payment_id"], *others}
    listed = tollmesh("payments", "--order", order, "-o", "json").json()
    assert {item["payment_id"] for item in listed["payments"]} == ids
    assert len(ids) == 4
    for spelt in ("007.25", "7.26"):
        same = tollmesh(*asked[:-3], spelt, "-o", "json")
        assert same.json()["payment_id"] in ids and "--again makes another" in same.err, spelt
    whole = [tollmesh(*asked[:-3], spelt, "-o", "json").json() for spelt in ("5", "5.00", "05.0")]
    assert len({made["payment_id"] for made in whole}) == 1
    both = tollmesh(*asked, "--again", "--request-id", str(uuid4()))
    assert both.exit_code == EXIT_USAGE

    # A file is the payment that it asks for, unless it brings a key of its own.
    file, copy, keyed = (tmp_path / name for name in ("one.json", "copy.json", "keyed.json"))
    body = {"merchant_id": "shop", "order_id": order, "amount": "1.50", "currency": "USD"}
    file.write_text(json.dumps(body))
    copy.write_text(json.dumps(body))
    keyed.write_text(json.dumps(body | {"Idempotency-Key": f"k-{order}"}))
    first, second, third = (tollmesh("pay", str(f), "-o", "json") for f in (file, copy, keyed))
    assert second.json() == first.json()
    assert third.json()["payment_id"] != first.json()["payment_id"]
    keyed.write_text(json.dumps(body | {"Idempotency-Key": f"k-{order}"}, indent=1))
    assert "REQUEST_ID_REUSED" in tollmesh("pay", str(keyed)).err
    # What an editor changes when it saves the file makes no other payment of it.
    saved = (
        json.dumps(body) + "\n",
        json.dumps(body, indent=2).replace("\n", "\r\n"),
        "\ufeff" + json.dumps(dict(reversed(body.items()))),
    )
    for text in saved:
        copy.write_text(text, newline="")
        refused = tollmesh("pay", str(copy))
        assert (refused.exit_code, "--again" in refused.err) == (EXIT_REFUSED, True), refused.err
    copy.write_text(json.dumps(body | {"amount": 1.5}))
    assert tollmesh("pay", str(copy)).exit_code == 0, "a number is no text"


@pytest.mark.parametrize(
    "more",
    [
        b'"metadata": {"a": "1", "a": "2"}',
        b'"note": "caf\xe9"',
        b'"idempotency_key": "  "',
        b'"idempotency_key": true',
        b'"idempotency_key": {"id": "k"}',
        b'"request_id": "' + b"k" * 201 + b'"',
        b'"note": NaN',
        b'"note": "tab\there"',
        b'"note": ' + b"[" * 600 + b"]" * 600,
    ],
)
def test_a_file_that_is_saved_anew_pays_once_whatever_it_holds(
    tollmesh: Tollmesh, tmp_path: Path, more: bytes
) -> None:
    order = f"order-{uuid4()}"
    file = tmp_path / "payment.json"
    body = b'{"merchant_id": "shop", "order_id": "%s", "amount": "2.50", "currency": "USD", %s}'
    written = body % (order.encode(), more)
    for saved in (written, written.replace(b", ", b",\n  "), written + b"\r\n"):
        file.write_bytes(saved)
        tollmesh("pay", str(file))
    listed = tollmesh("payments", "--order", order, "-o", "json").json().get("payments", [])
    paid = [item for item in listed if item["status"] == "PAYMENT_STATUS_SUCCEEDED"]
    assert len(paid) <= 1, "the same payment, or refused"


def test_a_request_id_in_any_spelling_shows_what_it_paid(tollmesh: Tollmesh, org_id: str) -> None:
    usage = HEADER + f"{uuid4()},{org_id},p,calls,40,{AT}\n"
    assert tollmesh("ingest", "-", "--format", "csv", stdin=usage.encode()).exit_code == 0
    charge_id = tollmesh("charge", org_id, "--period", DAY, "-o", "json").json()["charge_id"]
    asked = ("pay", "--merchant", "shop", "--order", charge_id, "--amount", "4.00", "--request-id")
    for key in (f"key of {org_id}", str(uuid4()).upper()):
        assert tollmesh(*asked, key).exit_code == 0
        repeated = tollmesh(*asked, key)
        assert (repeated.exit_code, "this is the payment made" in repeated.err) == (0, True)
    assert "2.00 USD of 10.00 USD is open" in tollmesh(*asked, "another key").err


def test_a_charge_is_never_paid_beyond_what_is_open(
    tollmesh: Tollmesh, org_id: str, tmp_path: Path
) -> None:
    usage = HEADER + f"{uuid4()},{org_id},p,calls,40,{AT}\n"
    assert tollmesh("ingest", "-", "--format", "csv", stdin=usage.encode()).exit_code == 0
    charge_id = tollmesh("charge", org_id, "--period", DAY, "-o", "json").json()["charge_id"]
    asked = ("pay", "--merchant", "shop", "--order", charge_id, "--person", org_id, "--amount")
    assert tollmesh(*asked, "10.01").exit_code == EXIT_REFUSED
    assert tollmesh(*asked, "6.00").exit_code == 0
    too_much = tollmesh(*asked, "6.00", "--again")
    assert too_much.exit_code == EXIT_REFUSED
    assert f"4.00 USD of 10.00 USD is open on {charge_id}" in too_much.err
    assert tollmesh(*asked, "4.00").exit_code == 0
    for amount in ("6.00", "4.00"):
        repeated = tollmesh(*asked, amount)
        assert repeated.exit_code == 0, "what is paid in full is still the same payment"
        assert "this is the payment made" in repeated.err
    file = tmp_path / "more.json"
    file.write_text(
        json.dumps({"merchant_id": "shop", "order": charge_id, "amount": "0.01", "currency": "USD"})
    )
    assert "0.00 USD of 10.00 USD is open" in tollmesh("pay", str(file)).err


def test_the_debt_of_an_organisation_is_paid_whoever_pays(tollmesh: Tollmesh, org_id: str) -> None:
    usage = HEADER + f"{uuid4()},{org_id},p,calls,40,{AT}\n"
    assert tollmesh("ingest", "-", "--format", "csv", stdin=usage.encode()).exit_code == 0
    charge_id = tollmesh("charge", org_id, "--period", DAY, "-o", "json").json()["charge_id"]
    person = f"meier-{uuid4()}"
    asked = ("pay", "--merchant", "shop", "--order", charge_id, "--person", person, "--org", org_id)
    for amount in ("6.00", "4.00"):
        paid = tollmesh(*asked, "--amount", amount)
        assert f"{org_id} pays {amount} USD: succeeded" in paid.out
    listed = tollmesh("payments", "--order", charge_id, "-o", "json").json()["payments"]
    assert {(item["person_id"], item["org_id"]) for item in listed} == {(person, org_id)}
    assert {item["context"]["org_id"] for item in listed} == {org_id}
    give_up_at = time.monotonic() + 60
    account = f"receivable:{org_id}:USD"
    while len(told := tollmesh("ledger", "entries", account, "-o", "json").json()["entries"]) < 3:
        assert time.monotonic() < give_up_at, "the payments do not reach the books"
        time.sleep(0.1)
    assert sorted(entry["amount"]["minor_units"] for entry in told) == ["1000", "400", "600"]
    (owed,) = tollmesh("ledger", "balances", "--owner", org_id, "-o", "json").json()["accounts"]
    assert owed["account_id"] == account
    assert owed["balances"]["debits_posted"] == owed["balances"]["credits_posted"] == "1000"
    nothing = tollmesh("ledger", "balances", "--owner", person, "-o", "json").json()
    assert not nothing.get("accounts")


def test_a_key_in_the_body_does_not_open_a_charge_again(
    tollmesh: Tollmesh, org_id: str, tmp_path: Path
) -> None:
    usage = HEADER + f"{uuid4()},{org_id},p,calls,40,{AT}\n"
    assert tollmesh("ingest", "-", "--format", "csv", stdin=usage.encode()).exit_code == 0
    charge_id = tollmesh("charge", org_id, "--period", DAY, "-o", "json").json()["charge_id"]
    body = {"merchant_id": "shop", "order_id": charge_id, "amount": "10.00", "currency": "USD"}
    file = tmp_path / "keyed.json"
    for key, refused in (
        (f"k-{org_id}", False),
        (f"k-{org_id}", False),
        ("k-2", True),
        (7, True),
        (None, True),
    ):
        file.write_text(json.dumps(body | {"idempotency_key": key}))
        told = tollmesh("pay", str(file)).err
        assert ("0.00 USD of 10.00 USD is open" in told) == refused, (key, told)


def test_a_charge_is_not_paid_past_what_guards_it(
    tollmesh: Tollmesh, org_id: str, tmp_path: Path
) -> None:
    usage = HEADER + f"{uuid4()},{org_id},p,calls,40,{AT}\n"
    assert tollmesh("ingest", "-", "--format", "csv", stdin=usage.encode()).exit_code == 0
    charge_id = tollmesh("charge", org_id, "--period", DAY, "-o", "json").json()["charge_id"]
    asked = ("pay", "--merchant", "shop", "--person", org_id, "--order")
    euros = tollmesh(*asked, charge_id, "--amount", "1.00", "--currency", "EUR")
    assert euros.exit_code == EXIT_REFUSED
    assert "is a charge in USD: it cannot be paid in EUR" in euros.err
    misspelt = tollmesh(*asked, charge_id[:-1], "--amount", "1.00")
    assert misspelt.exit_code == EXIT_REFUSED
    assert f"charge {charge_id[:-1]} does not exist" in misspelt.err
    # A body with a key of its own, and one whose key is empty.
    for number, own in enumerate((f"k-{charge_id}", "")):
        file = tmp_path / f"{number}.json"
        body = {"merchant_id": "shop", "order_id": charge_id, "amount": "10.00", "currency": "USD"}
        file.write_text(json.dumps(body | {"idempotency_key": own}))
        paid = tollmesh("pay", str(file))
        if number:
            assert "0.00 USD of 10.00 USD is open" in paid.err
        else:
            assert paid.exit_code == 0
            assert "this is the payment made" in tollmesh("pay", str(file)).err
    listed = tollmesh("payments", "--order", charge_id, "-o", "json").json()
    assert len(listed["payments"]) == 1


def test_an_equal_webhook_is_made_on_purpose_only(tollmesh: Tollmesh) -> None:
    url = f"http://127.0.0.1:9/{uuid4()}"
    asked = ("webhooks", "create", url, "--subject", "payment.*", "--subject", "usage.*")
    made = tollmesh(*asked, "-o", "json").json()["endpoint"]["endpoint_id"]
    twin = tollmesh(*asked)
    assert (twin.exit_code, made in twin.err, "--again" in twin.err) == (EXIT_REFUSED, True, True)
    assert tollmesh("webhooks", "create", url, "--subject", "payment.*").exit_code == 0
    assert tollmesh(*asked, "--again").exit_code == 0
    for endpoint in tollmesh("webhooks", "list", "-o", "json").json()["endpoints"]:
        if endpoint["url"] == url:
            assert tollmesh("webhooks", "delete", endpoint["endpoint_id"], "--yes").exit_code == 0
    assert tollmesh(*asked).exit_code == 0, "what was deleted can be made again"


def test_a_payment_that_is_not_made_is_an_error_with_its_reasons(
    tollmesh: Tollmesh, tmp_path: Path
) -> None:
    odd = tmp_path / "odd.json"
    odd.write_bytes(b'\xff{"merchant_id": "shop", "amount": 0.1')
    refused = tollmesh("pay", str(odd))
    assert refused.exit_code == EXIT_REFUSED
    assert "error: payment refused" in refused.err
    as_json = tollmesh("pay", str(odd), "-o", "json")
    assert as_json.exit_code == EXIT_REFUSED
    assert as_json.json()["status"] == "PAYMENT_STATUS_REFUSED"
    in_doubt = ("pay", "--merchant", "shop", "--currency", "EUR", "--amount", "1.080")
    thousands = tollmesh(*in_doubt)
    assert thousands.exit_code == EXIT_REFUSED
    assert "three digits after the point" in " ".join((thousands.out + thousands.err).split())
    found = tollmesh(*in_doubt, "-o", "json").json()["context"]["validation_errors"]
    assert [issue["code"] for issue in found] == ["AMOUNT_AMBIGUOUS"]
    assert tollmesh("pay").exit_code == EXIT_USAGE
    assert tollmesh("pay", str(tmp_path / "none")).exit_code == EXIT_USAGE
    assert tollmesh("payment", "pay_none").exit_code == EXIT_REFUSED


# ---- Ledger, events, violations


def test_the_books_are_shown(tollmesh: Tollmesh, org_id: str) -> None:
    used(tollmesh, org_id, 2)
    assert tollmesh("charge", org_id, "--period", DAY).exit_code == 0
    assert f"receivable:{org_id}:USD" in tollmesh("ledger", "balances").out
    assert "trial balance USD: difference 0.00" in tollmesh("ledger", "trial-balance").out
    (dollars,) = tollmesh("ledger", "trial-balance", "-o", "json").json()["currencies"]
    assert dollars["difference"]["minor_units"] == "0"
    missing = tollmesh("ledger", "entries", "none")
    assert (missing.exit_code, "NOT_FOUND" in missing.err) == (EXIT_REFUSED, True)


def test_the_feed_starts_at_its_beginning_and_goes_on_from_a_cursor(
    tollmesh: Tollmesh, org_id: str
) -> None:
    for name in ("One", "Two"):
        # Three events at least, whatever ran before.
        tollmesh("catalog", "apply", "-", stdin=catalog_of(org_id, name=name))
    listed = tollmesh("events", "list", "--limit", "3", "-o", "json").json()["events"]
    tailed = tollmesh("events", "tail", "--from-start", "--limit", "3", "-o", "json")
    assert tailed.exit_code == 0
    lines = [json.loads(line) for line in tailed.out.splitlines()]
    assert [line["event"]["id"] for line in lines] == [event["id"] for event in listed]
    rest = tollmesh("events", "tail", "--limit", "1", "--after", lines[0]["cursor"], "-o", "json")
    assert rest.json()["event"]["id"] == listed[1]["id"]
    people = tollmesh("events", "tail", "--from-start", "--subject", "plan.*", "--limit", "1")
    assert "plan.created  basic" in people.out
    for arguments in (("--after", "nonsense"), ("--subject", "no subject")):
        assert tollmesh("events", "list", *arguments).exit_code == EXIT_REFUSED
    assert tollmesh("events", "tail", "--from-start", "--after", "x").exit_code == EXIT_USAGE


def test_events_of_outside_are_published(tollmesh: Tollmesh, org_id: str, tmp_path: Path) -> None:
    def event(event_id: str, **fields: object) -> str:
        data = {"intake_id": org_id, "captured_at": AT, "channel": "web", **fields}
        return json.dumps({"id": event_id, "subject": "intake.captured.v2", "data": data})

    one, bad = event(f"{org_id}-1"), event(f"{org_id}-2", captured_at="soon")
    done = tollmesh("events", "publish", "-", stdin=one.encode())
    assert (done.exit_code, "ACCEPTED" in done.out) == (0, True), done
    file = tmp_path / "events.jsonl"
    for text in (f"{one}\n\n{bad}\n", f"[{one}, {bad}]", f'{{"events": [{one}, {bad}]}}'):
        file.write_text(text)
        done = tollmesh("events", "publish", str(file), "-o", "json")
        assert done.exit_code == EXIT_INCOMPLETE
        known, refused = done.json()["results"]
        assert known["outcome"] == "OUTCOME_DUPLICATE"
        assert (refused["index"], refused["pointer"]) == (1, "/captured_at")
        assert "1 event was not published" in done.err
    assert tollmesh("events", "publish", "-", stdin=b"nothing").exit_code == EXIT_USAGE
    assert tollmesh("events", "publish", "-", stdin=b'{"events": 1}').exit_code == EXIT_INCOMPLETE
    listed = tollmesh("events", "list", "--subject", "intake.captured.v2")
    assert f'"intake_id": "{org_id}"' in listed.out


def test_consumers_are_shown_and_handle_again(tollmesh: Tollmesh, org_id: str) -> None:
    shown = tollmesh("events", "lag")
    assert shown.exit_code == 0
    assert "monitoring.violations" in shown.out and "contract.violated" in shown.out
    listed = tollmesh("events", "lag", "-o", "json").json()["consumers"]
    (found,) = [item for item in listed if item["consumer"] == "monitoring.violations"]
    assert found["replayable"] and found["dead_letter_count"] == "0"

    assert tollmesh("events", "dead-letters", "--consumer", "monitoring.violations").exit_code == 0
    letters = tollmesh("events", "dead-letters", "--limit", "1", "-o", "json").json()
    assert letters == {"dead_letters": [], "more": False}

    replay = ("events", "replay", "monitoring.violations")
    again = tollmesh(*replay, "--from", "2020-01-01", "-o", "json").json()
    assert again["generation"] >= 1
    said = tollmesh(*replay, "--from", "2020-01-01", "--to", "2020-01-02")
    assert said.exit_code == 0 and "0 events queued again" in said.out
    assert tollmesh(*replay, "--dead-letters", "-o", "json").json()["replayed_count"] == 0

    assert tollmesh(*replay).exit_code == EXIT_USAGE
    mistyped = tollmesh(*replay, "--from", "2020-01-01", "--subject", "contract.vioalted")
    assert mistyped.exit_code == EXIT_REFUSED and "contract.violated" in mistyped.err
    none = tollmesh(*replay, "--dead-letters", "--event", "01KK0000000000000000000000")
    assert none.exit_code == EXIT_REFUSED and "does not exist" in none.err
    after = tollmesh(*replay, "--from", "2020-01-01", "--to", "2020-01-02", "-o", "json").json()
    assert after["generation"] == again["generation"] + 2, "what is refused uses no generation"
    nobody = tollmesh("events", "replay", "nobody", "--dead-letters")
    assert nobody.exit_code == EXIT_REFUSED
    assert "consumer nobody does not exist" in nobody.err


def test_types_of_events_are_shown(tollmesh: Tollmesh) -> None:
    assert "order.updated" in tollmesh("events", "types").out
    shown = tollmesh("events", "types", "order.created")
    assert '"amount_total_cents"' in shown.out
    (found,) = tollmesh("events", "types", "intake.captured", "-o", "json").json()["event_types"]
    assert [version["version"] for version in found["versions"]] == [1, 2]
    assert tollmesh("events", "types", "nobody.knows").exit_code == EXIT_REFUSED


def test_violations_are_listed(tollmesh: Tollmesh) -> None:
    assert tollmesh("usage", "not an org", "--period", DAY).exit_code == EXIT_REFUSED
    seen = tollmesh("violations", "--contract", "mesh/request-validation", "-o", "json")
    assert seen.exit_code == 0
    assert all(v["contract_id"] == "mesh/request-validation" for v in seen.json()["violations"])


# ---- Keys


def test_a_key_does_what_its_scopes_say_until_it_is_revoked(
    tollmesh: Tollmesh, mesh: MeshProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tollmesh("keys", "create", "reader", "--scope", "ledger:read", "-o", "json").json()
    key_id = made["api_key"]["key_id"]
    assert key_id in tollmesh("keys", "list").out
    monkeypatch.setenv("TOLLMESH_API_KEY", made["secret"])
    assert tollmesh("ledger", "balances").exit_code == 0
    for arguments in (("charges",), ("ingest", "-", "--format", "csv"), ("events", "list")):
        stdin = f"{HEADER}a,o,p,calls,1,{AT}\n".encode()
        denied = tollmesh(*arguments, stdin=stdin)
        assert denied.exit_code == EXIT_DENIED
        assert "SCOPE_MISSING" in denied.err
    monkeypatch.setenv("TOLLMESH_API_KEY", mesh.ready["api_key"])
    ended = tollmesh("keys", "revoke", key_id, "--yes")
    assert (ended.exit_code, ended.out.strip()) == (0, f"{key_id} revoked")
    monkeypatch.setenv("TOLLMESH_API_KEY", made["secret"])
    give_up_at = time.monotonic() + 20
    while (revoked := tollmesh("ledger", "balances")).exit_code == 0:
        assert time.monotonic() < give_up_at, "a revoked key works on"
        time.sleep(0.2)
    assert (revoked.exit_code, "revoked" in revoked.err) == (EXIT_DENIED, True)


def test_a_revoked_key_takes_what_it_made_with_it(
    mesh: MeshProcess, tollmesh: Tollmesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    makes = ("keys", "create", "made", "--scope", "*", "-o", "json")
    for keep in (False, True):
        monkeypatch.setenv("TOLLMESH_API_KEY", mesh.ready["api_key"])
        maker = tollmesh(*makes).json()
        monkeypatch.setenv("TOLLMESH_API_KEY", maker["secret"])
        made = tollmesh(*makes).json()["api_key"]["key_id"]
        monkeypatch.setenv("TOLLMESH_API_KEY", mesh.ready["api_key"])
        maker_id = maker["api_key"]["key_id"]
        told = tollmesh("keys", "revoke", maker_id, "--yes", *(["--keep-made"] if keep else [])).out
        assert told.strip() == f"{maker_id} revoked" + ("" if keep else ", and 1 created with it")
        listed = {k["key_id"]: k for k in tollmesh("keys", "list", "-o", "json").json()["api_keys"]}
        assert listed[made].get("revoked_with_key_id", "") == ("" if keep else maker_id)


@pytest.mark.parametrize("key", ["", "wrong", "tmk_12345678_none", "with\nbreak", "é"])
@pytest.mark.parametrize("command", ["charges", "ingest"])
def test_wrong_keys_are_denied(
    tollmesh: Tollmesh,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: str,
    key: str,
) -> None:
    monkeypatch.setenv("TOLLMESH_API_KEY", key)
    monkeypatch.setenv("TOLLMESH_DATA_DIR", str(tmp_path))
    arguments = ("-", "--format", "csv") if command == "ingest" else ()
    done = tollmesh(command, *arguments, stdin=f"{HEADER}a,o,p,calls,1,{AT}\n".encode())
    assert done.exit_code == EXIT_DENIED
    assert "TOLLMESH_API_KEY" in done.err
    assert key not in done.err or not key


# ---- The mesh itself


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("127.0.0.1:1", EXIT_UNAVAILABLE),
        ("nonsense", EXIT_USAGE),
        ("http://127.0.0.1:7443", EXIT_USAGE),
    ],
)
def test_a_mesh_that_is_not_there_is_said(
    tollmesh: Tollmesh, monkeypatch: pytest.MonkeyPatch, address: str, code: int
) -> None:
    monkeypatch.setenv("TOLLMESH_ADDRESS", address)
    for arguments in (("charges",), ("events", "tail")):
        done = tollmesh(*arguments)
        assert done.exit_code == code
        assert address in done.err
        assert "TOLLMESH_ADDRESS" in done.err


def test_an_ingest_that_stops_half_way_says_how_to_go_on(
    tollmesh: Tollmesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLMESH_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr("services.cli.sender.RECONNECTS_MAX", 1)
    rows = f"{HEADER}a,o,p,calls,1,{AT}\n".encode()
    done = tollmesh("ingest", "-", "--format", "csv", stdin=rows)
    assert done.exit_code == EXIT_UNAVAILABLE
    assert "send the file again" in done.err


def test_rows_before_the_damage_of_a_file_are_told_of(tollmesh: Tollmesh, org_id: str) -> None:
    rows = f"{HEADER}a,{org_id},p,calls,1,{AT}\nb,{org_id},p,nope,1,{AT}\nc\n".encode()
    packed = gzip.compress(rows) + b"damage"
    done = tollmesh("ingest", "-", "--format", "csv", "--output", "json", stdin=packed)
    assert done.exit_code == EXIT_INCOMPLETE
    told = json.loads(done.out)
    assert (told["accepted"], told["rejected"], told["malformed"]) == (1, 1, 1)
    assert [problem["row"] for problem in told["problems"]] == [3, 4]
    assert "cannot read - after row 4" in done.err


def test_commands_find_the_mesh_that_up_started(
    tollmesh: Tollmesh, mesh: MeshProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOLLMESH_ADDRESS")
    monkeypatch.delenv("TOLLMESH_API_KEY")
    monkeypatch.setenv("TOLLMESH_DATA_DIR", str(mesh.data_dir))
    assert tollmesh("charges").exit_code == 0
    assert (mesh.data_dir / "session.json").stat().st_mode & 0o077 == 0


def test_doctor_and_version(
    tollmesh: Tollmesh, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def doctor(*arguments: str) -> dict[str, tuple[bool, str]]:
        checks = tollmesh("doctor", "-o", "json", *arguments).json()["checks"]
        return {check["name"]: (check["ok"], check["detail"]) for check in checks}

    assert tollmesh("version", "-o", "json").json()["postgres"] == "18"
    found = doctor()
    assert all(ok for ok, _ in found.values()), found
    assert found["API key"] == (True, "valid")
    assert found["postgres programs"][1].startswith("postgres (PostgreSQL) 18")
    with monkeypatch.context() as changed:
        changed.setenv("TOLLMESH_API_KEY", "tmk_wrong")
        found = doctor()
        assert (found["mesh"][0], found["API key"][0]) == (True, False)
    with monkeypatch.context() as changed, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        changed.setattr("services.cli.doctor.PORTS", (("gRPC port", port, "--grpc-port"),))
        changed.setenv("TOLLMESH_ADDRESS", "127.0.0.1:1")
        # A program of another release, one that does not run, and a disk that has not so much room.
        (tmp_path / "old").write_text("#!/bin/sh\necho 0.0.9\n")
        (tmp_path / "old").chmod(0o755)
        (tmp_path / "none").write_text("")
        for program, told in (("old", "is 0.0.9, this is"), ("none", "does not run")):
            changed.setenv("TOLLMESH_GATEWAY", str(tmp_path / program))
            assert told in doctor()["rest gateway"][1]
        changed.setattr("services.cli.doctor.storage.FLOOR_BYTES", 2**80)
        found = doctor("--data-dir", str(tmp_path / "old" / "data"))
        assert {name for name, (ok, _) in found.items() if not ok} == {
            *("data directory", "disk room", "rest gateway", "gRPC port", "mesh")
        }
        assert "no mesh answers" in found["mesh"][1]
        assert "choose another with --grpc-port" in found["gRPC port"][1]
        ill = tollmesh("doctor")
    assert ill.exit_code == EXIT_UNAVAILABLE
    assert "not in order: disk room, rest gateway, gRPC port, mesh" in ill.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("usage", "o", "--period", DAY),
        ("charges",),
        ("payments",),
        ("ledger", "balances"),
        ("ledger", "trial-balance"),
        ("events", "list", "--subject", "order.cancelled"),
        ("events", "types"),
        ("violations", "--limit", "1"),
        ("keys", "list"),
        ("usage", "late"),
        ("catalog", "get"),
        ("skus", "list"),
        ("plans", "list"),
        ("entitlements", "list"),
        ("merchants", "list"),
        ("accounts", "list"),
        ("settings", "get"),
        ("doctor",),
        ("version",),
    ],
    ids=" ".join,
)
def test_programs_get_one_document_and_nothing_else(
    tollmesh: Tollmesh, arguments: tuple[str, ...]
) -> None:
    done = tollmesh(*arguments, "--output", "json")
    assert done.exit_code == 0
    assert isinstance(done.json(), dict)
    assert done.err == ""
    people = tollmesh(*arguments)
    assert people.exit_code == 0
    assert not people.out.startswith("{")


@pytest.mark.parametrize(
    "arguments",
    [
        ("charges", "--limit", "0"),
        ("keys", "create", "name"),
        ("nonsense",),
        ("up", "--grpc-port", "70000"),
        ("up", "--rest-port", "-1"),
        ("up", "--tenant", "not a tenant"),
        ("ingest",),
        ("ingest", "-"),
        ("ingest", "-", "--format", "parquet"),
        ("ingest", "-", "--format", "csv", "--map", "x"),
        ("usage", "o", "--period", "9999-12-31"),
        ("usage", "\udcff", "--period", DAY),
        ("catalog", "apply", "\udcff"),
        ("violations", "--contract=\udcff"),
    ],
    ids=lambda words: ascii(" ".join(words)),
)
def test_wrong_usage_is_said_before_anything_is_done(
    tollmesh: Tollmesh, arguments: tuple[str, ...]
) -> None:
    done = tollmesh(*arguments)
    assert done.exit_code == EXIT_USAGE
    assert done.err
    assert done.out == ""
