"""`tollmesh ledger head` and `ledger verify`: a head that was kept, and what is told of books that were changed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from services.cli.errors import EXIT_DIFFERENT, EXIT_USAGE
from services.local.postgres.server import SUPERUSER
from tests.integration.cli.conftest import Tollmesh
from tests.support.mesh.process import MeshProcess

pytestmark = pytest.mark.xdist_group("cli")
SETTLES_WITHIN_S = 30.0


@pytest.fixture
def account(tollmesh: Tollmesh) -> str:
    """An account with one transfer, which is in a block."""
    name = f"proof:{uuid4()}"
    for each in (name, f"{name}:other"):
        assert tollmesh("accounts", "create", each, "--type", "asset").exit_code == 0
    sides = ("--debit", name, "--credit", f"{name}:other")
    assert tollmesh("ledger", "post", *sides, "--amount", "1.00").exit_code == 0
    give_up_at = time.monotonic() + SETTLES_WITHIN_S
    while True:
        verified = tollmesh("ledger", "verify", "--check", "transfers", "-o", "json").json()
        head = tollmesh("ledger", "head", "-o", "json")
        if head.exit_code == 0:
            count = int(head.json()["transfer_count"])
            if count == verified["looked_at"]["transfers"]:
                return name
        assert time.monotonic() < give_up_at, head.err
        time.sleep(0.2)


@pytest.fixture
def owner(mesh: MeshProcess) -> psycopg.Connection:
    """Who may change what was posted."""
    password = (mesh.data_dir / "superuser-password").read_text()
    url = psycopg.conninfo.make_conninfo(
        mesh.ready["database_url"], user=SUPERUSER, password=password
    )
    return psycopg.connect(url, autocommit=True)


def test_a_head_is_kept_and_the_books_are_compared_with_it(
    tollmesh: Tollmesh, account: str, owner: psycopg.Connection, tmp_path: Path
) -> None:
    assert account
    file = tmp_path / "head.json"
    done = tollmesh("ledger", "head", "--out", str(file))
    assert (done.exit_code, f"written to {file}" in done.out) == (0, True), done
    kept = json.loads(file.read_text())
    assert kept["hash"] in done.out
    fine = tollmesh("ledger", "verify", "--head", str(file))
    assert fine.exit_code == 0, fine
    assert "nothing was found" in fine.out
    assert f"the {int(kept['transfer_count']):,} transfers up to the head of" in fine.out
    change = "UPDATE ledger.balance SET debits_posted = debits_posted + %s WHERE account_id = %s"
    with owner:
        owner.execute(change, [1, account])
        damaged = tollmesh("ledger", "verify", "--head", str(file))
        as_json = tollmesh("ledger", "verify", "--head", str(file), "-o", "json")
        only = tollmesh("ledger", "verify", "--check", "chain", "--check", "HEADS")
        owner.execute(change, [-1, account])
    assert damaged.exit_code == as_json.exit_code == EXIT_DIFFERENT
    assert "balances" in damaged.out
    assert account in damaged.out
    assert "not as they must be" in damaged.err
    found = as_json.json()["findings"]
    assert {each["integrity_check"] for each in found} == {
        "INTEGRITY_CHECK_BALANCES",
        "INTEGRITY_CHECK_CURRENCY_SUMS",
    }
    assert only.exit_code == 0


def test_a_file_that_is_no_head_or_was_changed_is_refused(
    tollmesh: Tollmesh, account: str, tmp_path: Path
) -> None:
    assert account
    file = tmp_path / "head.json"
    assert tollmesh("ledger", "head", "--out", str(file)).exit_code == 0
    kept = json.loads(file.read_text())
    for name, value in (("hash", "0" * 64), ("signed_text", kept["signed_text"] + " ")):
        file.write_text(json.dumps({**kept, name: value}))
        done = tollmesh("ledger", "verify", "--head", str(file))
        assert (done.exit_code, "was changed" in done.err) == (EXIT_DIFFERENT, True), done
    for text in ("{}", "[1]", '{"hash": 1}', "head"):
        file.write_text(text)
        done = tollmesh("ledger", "verify", "--head", str(file))
        assert (done.exit_code, "is no head" in done.err) == (EXIT_USAGE, True), (text, done)
    missing = tollmesh("ledger", "verify", "--head", str(tmp_path / "none"))
    assert missing.exit_code == EXIT_USAGE
    unknown = tollmesh("ledger", "verify", "--check", "everything")
    assert (unknown.exit_code, "currency-sums" in unknown.err) == (EXIT_USAGE, True)
