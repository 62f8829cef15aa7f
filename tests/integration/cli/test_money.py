"""Accounts, transfers, what pays a charge, and keys that are replaced."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from services.cli.client import Client, Session
from services.cli.commands import keys as key_commands
from services.cli.commands.ledger import get_trial_balance
from services.cli.errors import EXIT_DENIED, EXIT_INCOMPLETE, EXIT_REFUSED, EXIT_USAGE
from tests.integration.cli.conftest import Tollmesh
from tests.integration.cli.test_commands import AT, DAY, HEADER, catalog_of
from tests.support.mesh.process import MeshProcess

pytestmark = pytest.mark.xdist_group("cli")


@pytest.fixture
def wallet(tollmesh: Tollmesh) -> str:
    """A wallet of the test's own beside an account `bank`."""
    name = f"wallet:{uuid4()}"
    assert tollmesh("accounts", "create", "bank", "--type", "asset").exit_code == 0
    made = tollmesh("accounts", "create", name, "--type", "liability", "--no-overdraft")
    assert (made.exit_code, made.out) == (0, f"{name} created\n")
    return name


def balance(tollmesh: Tollmesh, account_id: str) -> tuple[int, int]:
    found = tollmesh("accounts", "get", account_id, "-o", "json").json()["balances"]
    return int(found["debits_posted"]), int(found["credits_posted"])


def transfer(wallet: str, minor_units: int, **more: object) -> dict[str, object]:
    amount = {"currency_code": "USD", "minor_units": str(minor_units)}
    return {"debit_account_id": "bank", "credit_account_id": wallet, "amount": amount, **more}


# ---- Accounts


def test_accounts_are_created_once_shown_and_listed(
    tollmesh: Tollmesh, wallet: str, tmp_path: Path
) -> None:
    create = ("accounts", "create", wallet, "--type", "liability", "--no-overdraft")
    assert tollmesh(*create).out == f"{wallet} exists already\n"
    other = tollmesh(*create[:-1], "--metadata", "a=b")
    assert (other.exit_code, "exists_with_different_flags" in other.err) == (EXIT_REFUSED, True)
    owner = f"o-{uuid4()}"
    file = tmp_path / "accounts.yaml"
    file.write_text(
        f"- {{account_id: '{owner}:1', currency_code: EUR, type: ACCOUNT_TYPE_ASSET, owner: {owner}}}\n"
        f"- {{account_id: '{owner}:2', currency_code: USD, type: ACCOUNT_TYPE_INCOME, owner: {owner},"
        " metadata: {k: v}}\n"
        f"- {{account_id: '{owner}:3', currency_code: XXQ, type: ACCOUNT_TYPE_INCOME}}\n"
    )
    done = tollmesh("accounts", "create", "--file", str(file))
    assert (done.exit_code, "unknown_currency" in done.out) == (EXIT_INCOMPLETE, True)
    assert "1 account was not created" in done.err
    results = tollmesh("accounts", "create", "--file", str(file), "-o", "json").json()["results"]
    assert [item["index"] for item in results] == [0, 1, 2]
    assert {item["result"] for item in results[:2]} == {"ACCOUNT_RESULT_EXISTS"}

    def listed(*filters: str) -> list[str]:
        arguments = ("accounts", "list", "--owner", owner, *filters, "-o", "json")
        return [item["account_id"] for item in tollmesh(*arguments).json()["accounts"]]

    assert listed() == [f"{owner}:1", f"{owner}:2"]
    assert listed("--currency", "EUR") == listed("--type", "asset") == [f"{owner}:1"]
    shown = tollmesh("accounts", "get", f"{owner}:2")
    assert "│ income" in shown.out and "k: v\n" in shown.out
    assert "│ no overdraft" in tollmesh("accounts", "get", wallet).out
    for arguments, code in (
        ((wallet,), EXIT_USAGE),
        ((), EXIT_USAGE),
        ((wallet, "--file", str(file)), EXIT_USAGE),
        ((wallet, "--type", "asset", "--metadata", "x"), EXIT_USAGE),
        (("not an id", "--type", "asset"), EXIT_REFUSED),
        (("a", "--type", "asset", "--no-overdraft", "--no-overpayment"), EXIT_REFUSED),
    ):
        assert tollmesh("accounts", "create", *arguments).exit_code == code, arguments
    assert tollmesh("accounts", "get", "none").exit_code == EXIT_REFUSED


# ---- Transfers


def test_the_same_transfer_is_posted_once(tollmesh: Tollmesh, wallet: str) -> None:
    asked = ("ledger", "post", "--debit", "bank", "--credit", wallet, "--amount")
    made = tollmesh(*asked, "12.5")
    assert (made.exit_code, made.err) == (0, "")
    assert f"posted 12.50 USD: bank → {wallet}" in made.out
    again = tollmesh(*asked, "12.50")
    assert (again.exit_code, again.out) == (0, made.out)
    assert "nothing more was posted" in again.err
    assert balance(tollmesh, wallet) == (0, 1250)
    assert tollmesh(*asked, "12.50", "--again").exit_code == 0
    assert balance(tollmesh, wallet) == (0, 2500)
    own = str(uuid4())
    for _ in range(2):
        (result,) = tollmesh(*asked, "1", "--request-id", own, "-o", "json").json()["results"]
        assert result["transfer_id"] == own
    for more in (("--code", "7"), ("--metadata", "a=b"), ("--effective-at", "2026-01-02")):
        assert tollmesh(*asked, "12.50", *more).err == "", "another transfer"
    assert balance(tollmesh, wallet) == (0, 2500 + 100 + 3 * 1250)


def test_a_transfer_that_was_refused_says_what_helps(tollmesh: Tollmesh, wallet: str) -> None:
    out = ("ledger", "post", "--debit", wallet, "--credit", "bank", "--amount", "3.00")
    refused = tollmesh(*out)
    assert (refused.exit_code, refused.out) == (EXIT_REFUSED, "")
    assert "not posted: exceeds_credits" in refused.err
    assert (
        tollmesh("ledger", "post", "--debit", "bank", "--credit", wallet, "--amount", "3").err == ""
    )
    burnt = tollmesh(*out, "-o", "json")
    assert (burnt.exit_code, "refused before, with exceeds_credits" in burnt.err) == (4, True)
    assert "--again" in burnt.err
    (result,) = burnt.json()["results"]
    assert result["original_result"] == "TRANSFER_RESULT_EXCEEDS_CREDITS"
    assert tollmesh(*out, "--again").exit_code == 0
    assert balance(tollmesh, wallet) == (300, 300)
    missing = tollmesh("ledger", "post", "--debit", "bank", "--credit", "nobody", "--amount", "1")
    assert "tollmesh accounts create nobody" in missing.err
    one = ("--debit", "bank", "--credit", wallet)
    for arguments in (
        one,
        (*one, "--amount", "0"),
        (*one, "--amount", "0.001"),
        (*one, "--amount", "-1"),
        (*one, "--amount", "1e3"),
        (*one, "--amount", "92233720368547758.08"),
        (*one, "--amount", "1", "--currency", "XXQ"),
        (*one, "--amount", "1", "--request-id", "x"),
        (*one, "--amount", "1", "--effective-at", "soon"),
        (*one, "--amount", "1", "--metadata", "a=b", "--metadata", "a=c"),
        (*one, "--amount", "1", "--again", "--request-id", str(uuid4())),
        ("-", "--amount", "1"),
        ("-", "--code", "1"),
        (),
    ):
        done = tollmesh("ledger", "post", *arguments)
        assert (done.exit_code, done.out) == (EXIT_USAGE, ""), arguments
    assert balance(tollmesh, wallet) == (300, 300)


def test_transfers_of_a_file_are_posted_once(
    tollmesh: Tollmesh, wallet: str, tmp_path: Path
) -> None:
    file = tmp_path / "transfers.jsonl"
    own = str(uuid4())
    lines = [
        transfer(wallet, 100),
        transfer(wallet, 100),
        transfer(wallet, 7, transfer_id=own),
        transfer(wallet, 20, linked=True),
        transfer("nobody", 20),
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    done = tollmesh("ledger", "post", str(file), "-o", "json")
    assert done.exit_code == EXIT_INCOMPLETE
    results = done.json()["results"]
    names = ["OK", "OK", "OK", "LINKED_EVENT_FAILED", "CREDIT_ACCOUNT_NOT_FOUND"]
    assert [item["result"].removeprefix("TRANSFER_RESULT_") for item in results] == names
    assert ([item["index"] for item in results], results[2]["transfer_id"]) == (
        [0, 1, 2, 3, 4],
        own,
    )
    assert balance(tollmesh, wallet) == (0, 207)
    # A line in front changes no id of the others.
    file.write_text("\n".join(map(json.dumps, [transfer(wallet, 1), *lines[:3]])))
    again = tollmesh("ledger", "post", str(file))
    assert (again.exit_code, "3 transfers were posted before" in again.err) == (0, True)
    assert balance(tollmesh, wallet) == (0, 208)
    both = [transfer(wallet, 2), transfer("nobody", 2)]
    file.write_text(json.dumps({"transfers": both}))
    partly = tollmesh("ledger", "post", str(file))
    assert partly.exit_code == EXIT_INCOMPLETE
    assert "transfer 2, " in partly.out and "credit_account_not_found" in partly.out
    assert "file of their own with --again" in partly.err
    for _ in range(2):
        salted = ("ledger", "post", str(file), "--request-id", own)
        assert tollmesh(*salted).exit_code == EXIT_INCOMPLETE
    assert balance(tollmesh, wallet) == (0, 212)


def test_a_transfer_that_cannot_be_read_ends_the_file(tollmesh: Tollmesh, wallet: str) -> None:
    lines = [transfer(wallet, 5), transfer(wallet, 6, linked=True), {"debit": "bank"}]
    lines.append(transfer(wallet, 7))
    content = "\n".join(map(json.dumps, lines)).encode()
    done = tollmesh("ledger", "post", "-", stdin=content)
    assert done.exit_code == EXIT_USAGE
    assert "line 3 is not a valid Transfer" in done.err
    assert "nothing is done twice" in done.err
    assert balance(tollmesh, wallet) == (0, 5), (
        "what was before it, without a chain that has no end"
    )
    as_json = tollmesh("ledger", "post", "-", "-o", "json", stdin=content)
    assert as_json.json()["error"]["exit_code"] == EXIT_USAGE
    mended = content.replace(b'{"debit": "bank"}', json.dumps(transfer(wallet, 8)).encode())
    assert tollmesh("ledger", "post", "-", stdin=mended).exit_code == 0
    assert balance(tollmesh, wallet) == (0, 5 + 6 + 8 + 7)


# ---- Charges


def test_a_charge_is_paid_by_its_id(tollmesh: Tollmesh) -> None:
    org_id = f"org-{uuid4()}"
    applied = tollmesh("catalog", "apply", "-", stdin=catalog_of(org_id))
    assert applied.exit_code == 0
    usage = f"{HEADER}{org_id},{org_id},p,calls,40,{AT}\n".encode()
    assert tollmesh("ingest", "-", "--format", "csv", stdin=usage).exit_code == 0
    charge_id = tollmesh("charge", org_id, "--period", DAY, "-o", "json").json()["charge_id"]
    pay = ("pay", "--charge", charge_id, "--merchant", "shop")
    for arguments, part in (
        (pay[:3], "merchants list"),
        ((*pay, "--currency", "USD"), "--currency"),
        ((*pay, "--order", "o", "--org", "o"), "--order, --org"),
        ((*pay, "file.json"), "FILE"),
    ):
        wrong = tollmesh(*arguments)
        assert (wrong.exit_code, part in wrong.err) == (EXIT_USAGE, True), wrong
    made = tollmesh(*pay, "-o", "json").json()
    assert (made["status"], made["order_id"]) == ("PAYMENT_STATUS_SUCCEEDED", charge_id)
    assert (made["org_id"], made["person_id"]) == (org_id, org_id)
    assert made["plan"]["total_amount"] == {"currency_code": "USD", "minor_units": "1000"}
    again = tollmesh(*pay, "-o", "json")
    assert again.json()["payment_id"] == made["payment_id"]
    assert "nothing more was charged" in again.err
    twice = tollmesh(*pay, "--again")
    assert (twice.exit_code, "0.00 USD of 10.00 USD is open" in twice.err) == (EXIT_REFUSED, True)
    missing = tollmesh("pay", "--charge", "chg_none", "--merchant", "shop")
    assert (missing.exit_code, "tollmesh charges" in missing.err) == (EXIT_REFUSED, True)

    empty = tollmesh("charge", org_id, "--period", "2026-01-16", "-o", "json").json()
    nothing = tollmesh("pay", "--charge", empty["charge_id"], "--merchant", "shop")
    assert (nothing.exit_code, "nothing is owed" in nothing.err) == (EXIT_REFUSED, True)


def test_a_part_of_a_charge_leaves_the_rest_open(tollmesh: Tollmesh) -> None:
    org_id = f"org-{uuid4()}"
    tollmesh("catalog", "apply", "-", stdin=catalog_of(org_id))
    usage = f"{HEADER}{org_id},{org_id},p,calls,40,{AT}\n".encode()
    tollmesh("ingest", "-", "--format", "csv", stdin=usage)
    charge_id = tollmesh("charge", org_id, "--period", DAY, "-o", "json").json()["charge_id"]
    pay = ("pay", "--charge", charge_id, "--merchant", "shop", "--person", "meier")
    part = tollmesh(*pay, "--amount", "6")
    assert (part.exit_code, f"{org_id} pays 6.00 USD" in part.out) == (0, True)
    whole = tollmesh(*pay)
    assert whole.exit_code == EXIT_REFUSED
    assert "to pay the rest: --amount 4.00" in whole.err
    assert tollmesh(*pay, "--amount", "4.00").exit_code == 0


# ---- Keys


def works(tollmesh: Tollmesh, monkeypatch: pytest.MonkeyPatch, secret: str) -> bool:
    with monkeypatch.context() as patch:
        patch.setenv("TOLLMESH_API_KEY", secret)
        done = tollmesh("ledger", "trial-balance")
    assert done.exit_code in (0, EXIT_DENIED), done
    return done.exit_code == 0


def test_a_key_is_replaced_by_one_with_its_scopes(
    tollmesh: Tollmesh, mesh: MeshProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    scopes = ("--scope", "ledger:read", "--scope", "billing:read")
    old = tollmesh("keys", "create", "reader", *scopes, "--days", "30", "-o", "json").json()
    old_id = old["api_key"]["key_id"]
    rotate = ("keys", "rotate", old_id)
    asked = tollmesh(*rotate)
    assert (asked.exit_code, "--yes" in asked.err, asked.out) == (EXIT_USAGE, True, "")
    assert tollmesh(*rotate, "--yes", "--overlap", "2d").exit_code == EXIT_USAGE
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        with Client(Session(mesh.ready["grpc"], old["secret"])) as client:
            assert get_trial_balance(client).HasField("recorded_at"), "the old key works meanwhile"

    monkeypatch.setattr(key_commands, "sleep", wait)
    done = tollmesh(*rotate, "--yes", "--overlap", "90s", "-o", "json")
    assert (done.exit_code, waited) == (0, [timedelta(seconds=90).total_seconds()])
    new = done.json()
    assert new["replaces_key_id"] == old_id
    for field in ("name", "scopes"):
        assert new["api_key"][field] == old["api_key"][field]
    assert new["api_key"]["expires_at"] > old["api_key"]["expires_at"]
    listed = tollmesh("keys", "list", "-o", "json").json()["api_keys"]
    (ended,) = [key for key in listed if key["key_id"] == old_id]
    assert "revoked_at" in ended


def test_a_replaced_key_ends_and_what_it_created_stays(
    tollmesh: Tollmesh, mesh: MeshProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ("keys", "create", "maker", "--scope", "*", "-o", "json")
    maker = tollmesh(*create).json()
    with monkeypatch.context() as patch:
        patch.setenv("TOLLMESH_API_KEY", maker["secret"])
        made = tollmesh(*create).json()
        # Neither itself nor, with a key that it created, from below.
        for secret in (maker["secret"], made["secret"]):
            patch.setenv("TOLLMESH_API_KEY", secret)
            before = tollmesh("keys", "list", "-o", "json").json()["api_keys"]
            own = tollmesh("keys", "rotate", maker["api_key"]["key_id"], "--yes")
            assert (own.exit_code, "TOLLMESH_API_KEY" in own.err) == (EXIT_REFUSED, True), own
            assert tollmesh("keys", "list", "-o", "json").json()["api_keys"] == before
    done = tollmesh("keys", "rotate", maker["api_key"]["key_id"], "--yes")
    assert done.exit_code == 0
    secret = done.out.splitlines()[0]
    assert works(tollmesh, monkeypatch, secret)
    assert works(tollmesh, monkeypatch, made["secret"])
    give_up_at = time.monotonic() + 20
    while works(tollmesh, monkeypatch, maker["secret"]):
        assert time.monotonic() < give_up_at, "the old key works on"
        time.sleep(0.2)
    for gone in (maker["api_key"]["key_id"], f"key_{uuid4()}"):
        refused = tollmesh("keys", "rotate", gone, "--yes")
        assert (refused.exit_code, "no key" in refused.err) == (EXIT_REFUSED, True)
    assert mesh.ready["api_key"] not in done.out


def test_what_destroys_asks_first(tollmesh: Tollmesh) -> None:
    made = tollmesh("keys", "create", "k", "--scope", "ledger:read", "-o", "json").json()
    for arguments in (
        ("keys", "revoke", made["api_key"]["key_id"]),
        ("keys", "rotate", made["api_key"]["key_id"]),
        ("webhooks", "delete", "whe_none"),
        ("schedules", "delete", "none"),
    ):
        done = tollmesh(*arguments, "-o", "json")
        assert done.exit_code == EXIT_USAGE
        assert "--yes" in done.json()["error"]["what_to_do"][0]
    listed = tollmesh("keys", "list", "-o", "json").json()["api_keys"]
    (still,) = [key for key in listed if key["key_id"] == made["api_key"]["key_id"]]
    assert "revoked_at" not in still
