"""The main job by its command, as programs run it: twice on the same data, and once for people."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from payments.billing.v1 import charge_service_pb2, charge_service_pb2_grpc

from services.local.postgres.server import EmbeddedPostgres
from tests.support.billing import demo_job
from tests.support.billing.alone import copied, verify_alone
from tests.support.billing.demo_job import EVENTS, REPOSITORY, TRACES
from tests.support.mesh.process import start
from tests.support.processes.forked import program

pytestmark = pytest.mark.xdist_group("demo")

WITHIN_S = 300
TOTALS = {"code-assist": "56.84", "chat": "129.55"}

# What the owner of the database sees of the books, and of everything that could have been made twice.
_BOOKS = """
SELECT (SELECT count(*) FROM metering.usage_event),
       (SELECT count(*) FROM ledger.transfer),
       (SELECT count(*) FROM ledger.entry),
       (SELECT sum(amount_minor)::bigint FROM ledger.entry),
       (SELECT string_agg(transfer_id::text, ',' ORDER BY transfer_id) FROM ledger.transfer),
       (SELECT count(*) FROM billing.charge),
       (SELECT count(*) FROM orchestration.payment)
"""


def run(data_dir: Path, *arguments: str) -> str:
    """Run the demo; it keeps standard output for its result."""
    environment = {key: text for key, text in os.environ.items() if not key.startswith("TOLLMESH_")}
    done = subprocess.run(
        [program("services.cli"), "demo", "--data-dir", str(data_dir), *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def books(data_dir: Path) -> tuple[Any, ...]:
    with EmbeddedPostgres(data_dir) as server, psycopg.connect(server.admin_url("tollmesh")) as sql:
        row = sql.execute(_BOOKS).fetchone()
    assert row is not None
    return row


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "data"


@pytest.fixture(scope="module")
def first(data_dir: Path) -> Iterator[tuple[dict[str, Any], tuple[Any, ...]]]:
    """What the first run printed, and the books after it."""
    printed = run(data_dir, "--output", "json")
    assert printed.count("\n") == 1, "standard output holds one document and nothing else"
    yield json.loads(printed), books(data_dir)


def test_every_event_is_accepted(first: tuple[dict[str, Any], Any]) -> None:
    story, found = first
    assert (story["events"]["accepted"], story["events"]["duplicate"]) == (EVENTS, 0)
    assert story["events"]["seconds"] > 0
    assert found[0] == EVENTS


def test_the_bill_is_that_of_the_independent_calculation(first: tuple[dict[str, Any], Any]) -> None:
    story, _ = first
    assert {charge["org_id"]: charge["total"] for charge in story["charges"]} == TOTALS
    assert list(TRACES) == [charge["org_id"] for charge in story["charges"]]
    for charge in story["charges"]:
        expected = demo_job.independent_bill(charge["org_id"])
        lines = [(line["sku"], line["quantity"], line["amount"]) for line in charge["lines"]]
        assert sorted(lines) == [
            (line.sku, str(line.quantity), line.amount) for line in expected.lines
        ]
    assert story["commissions"] == demo_job.independent_bill("code-assist").commission == "5.68"


def test_each_payment_is_split_and_saved_by_its_fallback(
    first: tuple[dict[str, Any], Any],
) -> None:
    story, _ = first
    assert [payment["org_id"] for payment in story["payments"]] == list(TRACES)
    for payment in story["payments"]:
        total = TOTALS[payment["org_id"]]
        assert (payment["status"], payment["total_processed"]) == ("SUCCEEDED", total)
        rest = demo_job.cents(total) - demo_job.WALLET_MINOR_MAX
        attempts = [
            (item["processor_id"], item["success"], demo_job.cents(item["amount"]))
            for item in payment["attempts"]
        ]
        assert attempts == [
            ("sandbox-wallet", True, demo_job.WALLET_MINOR_MAX),
            ("sandbox-card-down", False, rest),
            ("sandbox-card", True, rest),
        ]


def test_the_books_balance_and_no_promise_was_broken(first: tuple[dict[str, Any], Any]) -> None:
    story, found = first
    assert story["trial_balance"] == {"USD": "0.00"}
    assert story["violations"] == 0
    transfers, entries = found[1:3]
    assert entries == 2 * transfers
    # Three lines an organisation, three commissions, and two steps of each payment.
    assert transfers == 6 + 3 + 4


def test_a_second_run_stores_nothing_and_prints_the_same_bill(
    first: tuple[dict[str, Any], tuple[Any, ...]], data_dir: Path
) -> None:
    story, found = first
    again = json.loads(run(data_dir, "--output", "json"))
    assert (again["events"]["accepted"], again["events"]["duplicate"]) == (0, EVENTS)
    for part in ("charges", "commissions", "payments", "trial_balance", "violations"):
        assert again[part] == story[part], part
    assert books(data_dir) == found


def test_a_mesh_on_the_same_data_shows_what_was_billed(first: Any, data_dir: Path) -> None:
    assert first
    with start(data_dir) as mesh, mesh.client() as client:
        stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
        listed = client.call(stub.ListCharges, charge_service_pb2.ListChargesRequest()).charges
    assert {charge.org_id for charge in listed} == set(TRACES)


def test_each_line_of_the_bill_is_verified_offline(
    first: tuple[dict[str, Any], tuple[Any, ...]], data_dir: Path, tmp_path: Path
) -> None:
    """Exported by the command, verified with nothing of the product; the books stay as they were."""
    story, found = first
    place = copied(tmp_path)
    environment = {key: text for key, text in os.environ.items() if not key.startswith("TOLLMESH_")}
    with start(data_dir) as mesh:
        environment |= {
            "TOLLMESH_ADDRESS": mesh.ready["grpc"],
            "TOLLMESH_API_KEY": mesh.ready["api_key"],
        }
        with mesh.client() as client:
            stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
            listed = client.call(stub.ListCharges, charge_service_pb2.ListChargesRequest()).charges
        ids = {charge.org_id: charge.charge_id for charge in listed}
        for org_id, charge_id in ids.items():
            exported = str(tmp_path / f"{org_id}.json")
            subprocess.run(
                [program("services.cli"), "explain", charge_id, "--export", exported],
                cwd=REPOSITORY,
                env=environment,
                check=True,
                capture_output=True,
            )
    for charge in story["charges"]:
        charge_id = ids[charge["org_id"]]
        path = tmp_path / f"{charge['org_id']}.json"
        done = verify_alone(place, str(path))
        assert done.returncode == 0, done.stdout
        told = done.stdout.splitlines()
        total = f"{charge['org_id']}, total {TOTALS[charge['org_id']]} USD: verified"
        assert told[0] == f"charge {charge_id}: {total}"
        for number, line in enumerate(charge["lines"], start=1):
            begin = f"charge {charge_id}, line {number} ({line['sku']}"
            end = f", {line['amount']} USD: verified"
            assert told[number].startswith(begin)
            assert told[number].endswith(end)
        assert told[-1].startswith("verified: 1 charge, 3 lines, ")
        written = path.read_text()
        changed = written.replace(
            f'"minor_units": "{demo_job.cents(charge["total"])}"', '"minor_units": "1"', 1
        )
        assert changed != written
        path.write_text(changed)
        done = verify_alone(place, str(path))
        assert done.returncode == 7
        named = f"total.minor_units: written 1, recomputed {demo_job.cents(charge['total'])}"
        assert f"different: charge {charge_id}: {named}" in done.stdout
    assert books(data_dir) == found


def test_people_are_told_the_story(first: tuple[dict[str, Any], Any], data_dir: Path) -> None:
    """With `--keep` the mesh serves on, until it is asked to end."""
    assert first
    environment = {key: text for key, text in os.environ.items() if not key.startswith("TOLLMESH_")}
    command = [str(program("services.cli")), "demo", "--keep", "--data-dir", str(data_dir)]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True
    )
    told = ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            told += line
            if line.startswith("serving"):
                break
        assert process.poll() is None
        charges = subprocess.run(
            [program("services.cli"), "charges", "--output", "json"],
            cwd=REPOSITORY,
            env=environment | {"TOLLMESH_DATA_DIR": str(data_dir)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert {item["org_id"] for item in json.loads(charges.stdout)["charges"]} == set(TRACES)
    finally:
        asked_at = time.monotonic()
        process.terminate()
        assert process.wait(60) == 0
        assert process.stdout is not None
        process.stdout.close()
    assert time.monotonic() - asked_at < 30
    for step in range(1, 6):
        assert f"{step}/5" in told
    for part in ("56.84 USD", "129.55 USD", "84,555 duplicates", "trial balance USD: 0.00"):
        assert part in told, told
    for line in ("tollmesh explain chg_", "tollmesh api GET /v1/", "curl -H"):
        assert line in told, told
