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
        (("a", "--type", "asset", "--floor", "0.01"), EXIT_USAGE),
        (("a", "--type", "asset", "--ceiling", "-0.01"), EXIT_USAGE),
        (("a", "--type", "asset", "--ceiling", "1.50", "--currency", "JPY"), EXIT_USAGE),
    ):
        assert tollmesh("accounts", "create", *arguments).exit_code == code, arguments
    assert tollmesh("accounts", "get", "none").exit_code == EXIT_REFUSED


def test_an_account_with_limits_shows_and_keeps_them(tollmesh: Tollmesh, tmp_path: Path) -> None:
    owner = f"o-{uuid4()}"
    wallet, line = f"{owner}:wallet", f"{owner}:line"
    create = ("accounts", "create", wallet, "--type", "liability", "--owner", owner)
    for told in ("created", "exists already"):
        made = tollmesh(*create, "--floor", "-5.00", "--ceiling", "100")
        assert made.out == f"{wallet} {told}\n"
    other = tollmesh(*create, "--floor", "-5.01", "--ceiling", "100")
    assert (other.exit_code, "exists_with_different_limits" in other.err) == (EXIT_REFUSED, True)
    file = tmp_path / "accounts.yaml"
    file.write_text(
        f"- {{account_id: '{line}', currency_code: USD, type: ACCOUNT_TYPE_ASSET, owner: {owner},"
        " limits: {ceiling: {currency_code: USD, minor_units: 500}}}\n"
    )
    assert tollmesh("accounts", "create", "--file", str(file)).exit_code == 0
    for command in (("accounts", "list"), ("ledger", "balances")):
        shown = tollmesh(*command, "--owner", owner).out
        assert "floor -5.00, ceiling 100.00" in shown and "ceiling 5.00 " in shown
        assert "pending" not in shown, "nothing is held"
    found = tollmesh("accounts", "get", wallet, "-o", "json").json()["limits"]
    assert found["floor"] == {"currency_code": "USD", "minor_units": "-500"}
    move = ("ledger", "post", "--debit", wallet, "--credit", line, "--amount")
    assert tollmesh(*move, "5").exit_code == 0
    below = tollmesh(*move, "0.01")
    assert (below.exit_code, below.out) == (EXIT_REFUSED, "")
    assert "not posted: debit_account_below_floor" in below.err
    assert f"tollmesh accounts get {wallet}" in below.err
    back = ("ledger", "post", "--debit", line, "--credit", wallet, "--amount", "10.01")
    assert "not posted: debit_account_above_ceiling" in tollmesh(*back).err


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
    for move in (("ledger", "post", *one), ("ledger", "hold", *one)):
        for amount, currency, reason in (
            ("1.080", "EUR", "AMOUNT_AMBIGUOUS"),
            ("1.000", "JPY", "AMOUNT_AMBIGUOUS"),
            ("5.0", "JPY", "AMOUNT_PRECISION"),
        ):
            told = tollmesh(*move, "--amount", amount, "--currency", currency, "-o", "json")
            assert (told.exit_code, told.json()["error"]["reason"]) == (EXIT_USAGE, reason)
    opened = ("accounts", "create", f"{wallet}x", "--type", "liability", "--currency", "USD")
    told = tollmesh(*opened, "--floor", "-1.080", "-o", "json")
    assert told.json()["error"]["reason"] == "AMOUNT_AMBIGUOUS"
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


# ---- Holds


def hold_of(tollmesh: Tollmesh, wallet: str, amount: str, *more: str) -> str:
    """Hold an amount of a wallet and return the id of the hold."""
    asked = ("ledger", "hold", "--debit", wallet, "--credit", "bank", "--amount", amount, *more)
    (made,) = tollmesh(*asked, "-o", "json").json()["results"]
    assert made["result"] == "TRANSFER_RESULT_OK"
    return str(made["transfer_id"])


def sums(tollmesh: Tollmesh, account_id: str) -> tuple[int, ...]:
    """Debits and credits posted, debits and credits pending."""
    found = tollmesh("accounts", "get", account_id, "-o", "json").json()["balances"]
    names = ("debits_posted", "credits_posted", "debits_pending", "credits_pending")
    return tuple(int(found[name]) for name in names)


@pytest.fixture
def funded(tollmesh: Tollmesh, wallet: str) -> str:
    """A wallet with 50.00 USD."""
    filled = tollmesh("ledger", "post", "--debit", "bank", "--credit", wallet, "--amount", "50")
    assert filled.exit_code == 0
    return wallet


def test_a_hold_is_made_once_and_captured_in_part(tollmesh: Tollmesh, funded: str) -> None:
    asked = ("ledger", "hold", "--debit", funded, "--credit", "bank", "--amount", "30")
    made = tollmesh(*asked, "--timeout", "7d")
    assert (made.exit_code, made.err) == (0, "")
    assert f"held 30.00 USD for 7d: {funded} → bank" in made.out
    again = tollmesh(*asked, "--timeout", "7d")
    assert (again.exit_code, again.out) == (0, made.out)
    assert "nothing more was held" in again.err
    assert sums(tollmesh, funded) == (0, 5000, 3000, 0)
    shown = tollmesh("accounts", "get", funded).out
    assert "pending debits" in shown and "│     20.00 │" in shown
    refused = tollmesh(*asked, "--amount", "20.01")
    assert (refused.exit_code, refused.out) == (EXIT_REFUSED, "")
    assert "not held: exceeds_credits" in refused.err
    hold = made.out.rpartition("(")[2].rstrip(")\n")
    part = ("ledger", "capture", hold, "--amount", "12.50")
    too_much = tollmesh("ledger", "capture", hold, "--amount", "30.01")
    assert "not captured: exceeds_pending_transfer_amount" in too_much.err
    assert f"tollmesh ledger transfer {hold}" in too_much.err
    assert "expires at, UTC" in tollmesh("ledger", "transfer", hold).out
    for told in ("", "nothing more was captured"):
        done = tollmesh(*part)
        assert (done.exit_code, told in done.err) == (0, True)
        assert f"captured 12.50 USD of hold {hold}" in done.out
    assert sums(tollmesh, funded) == (1250, 5000, 0, 0)
    ended = tollmesh("ledger", "void", hold)
    assert (ended.exit_code, ended.out) == (EXIT_REFUSED, "")
    assert "not voided: pending_transfer_already_posted" in ended.err
    assert "--multi-capture" in ended.err


def test_a_hold_is_captured_in_several_parts_and_voided(tollmesh: Tollmesh, funded: str) -> None:
    hold = hold_of(tollmesh, funded, "30", "--multi-capture")
    part = ("ledger", "capture", hold, "--amount", "10")
    assert tollmesh(*part).exit_code == tollmesh(*part, "--again").exit_code == 0
    assert sums(tollmesh, funded) == (2000, 5000, 1000, 0)
    stands = tollmesh("ledger", "transfer", hold).out
    assert "│ open" in stands and "│ 10.00 USD │" in stands and "expires" not in stands
    for told in ("", "there was nothing to do"):
        done = tollmesh("ledger", "void", hold.upper())
        assert (done.exit_code, told in done.err) == (0, True)
        assert f"voided hold {hold}" in done.out
    assert sums(tollmesh, funded) == (2000, 5000, 0, 0)
    assert "already_voided" in tollmesh("ledger", "capture", hold).err
    rest = hold_of(tollmesh, funded, "30")
    captured = tollmesh("ledger", "capture", rest, "--metadata", "order=o-1").out
    assert "all that was left of hold" in captured
    part_id = captured.partition("(")[2].partition(")")[0]
    shown = tollmesh("ledger", "transfer", part_id)
    assert "post-pending" in shown.out and rest in shown.out and "order: o-1\n" in shown.out
    assert "left" not in shown.out, "it is no hold"
    as_json = tollmesh("ledger", "transfer", part_id, "-o", "json").json()
    assert as_json["transfer"]["amount"] == {"currency_code": "USD", "minor_units": "3000"}
    assert tollmesh("ledger", "transfer", str(uuid4())).exit_code == EXIT_REFUSED
    assert tollmesh("ledger", "transfer", "x").exit_code == EXIT_USAGE
    assert sums(tollmesh, funded) == (5000, 5000, 0, 0)


def test_the_forms_of_post_are_those_of_the_short_commands(tollmesh: Tollmesh, funded: str) -> None:
    sides = ("--debit", funded, "--credit", "bank", "--amount", "8")
    hold = hold_of(tollmesh, funded, "8", "--timeout", "1h", "--multi-capture", "--code", "3")
    long = tollmesh(
        *("ledger", "post", "--kind", "pending", *sides, "--timeout", "60m", "--multi-capture"),
        *("--code", "3"),
    )
    assert (long.exit_code, f"({hold})" in long.out) == (0, True)
    assert "nothing more was held" in long.err
    assert tollmesh("ledger", "capture", hold, "--amount", "3").exit_code == 0
    capture = ("ledger", "post", "--kind", "post-pending", "--pending-id", hold)
    assert "captured before" in tollmesh(*capture, "--amount", "3").err
    void = tollmesh("ledger", "post", "--kind", "void-pending", "--pending-id", hold)
    assert (void.exit_code, void.err) == (0, "")
    assert sums(tollmesh, funded) == (300, 5000, 0, 0)
    for arguments, told in (
        (("--pending-id", hold), "pending_id_must_be_zero"),
        (("--timeout", "1h"), "--timeout goes with --kind pending"),
        (("--closing-debit",), "closing_transfer_must_be_pending"),
        (("--multi-capture",), "flags_are_mutually_exclusive"),
    ):
        refused = tollmesh("ledger", "post", *sides, *arguments)
        assert (refused.exit_code, told in refused.err) == (EXIT_REFUSED, True), arguments
    nobody = str(uuid4())
    unknown = tollmesh("ledger", "capture", nobody)
    assert "pending_transfer_not_found" in unknown.err
    assert "will not capture it later either" in unknown.err
    assert "refused before" in tollmesh("ledger", "capture", nobody).err
    for command in (
        ("post", "--kind", "void-pending"),
        ("post", "--kind", "pending", *sides[:4]),
        ("post", "-", "--balancing-debit"),
        ("post", "-", "--kind", "pending"),
        ("capture", "x"),
        ("capture", ""),
        ("capture", hold, "--amount", "0"),
        ("void", hold, "--again", "--request-id", nobody),
        ("hold", *sides, "--timeout", "soon"),
        ("hold", *sides[:5], "0"),
        ("hold", *sides[:5], ""),
        ("hold", *sides[:4]),
    ):
        done = tollmesh("ledger", *command)
        assert (done.exit_code, done.out) == (EXIT_USAGE, ""), command
    assert sums(tollmesh, funded) == (300, 5000, 0, 0)


def test_an_account_is_emptied_closed_and_opened(tollmesh: Tollmesh, funded: str) -> None:
    sides = ("--debit", funded, "--credit", "bank")
    most = tollmesh("ledger", "post", *sides, "--amount", "20", "--balancing-debit")
    assert f"posted up to 20.00 USD: {funded} → bank" in most.out
    everything = tollmesh("ledger", "post", *sides, "--balancing-debit")
    assert f"posted what balances: {funded} → bank" in everything.out
    moved = everything.out.partition("(")[2].partition(")")[0]
    assert f"tollmesh ledger transfer {moved}" in everything.out
    assert "│ 30.00 USD │" in tollmesh("ledger", "transfer", moved).out
    assert sums(tollmesh, funded) == (5000, 5000, 0, 0)
    nothing = tollmesh("ledger", "post", *sides, "--balancing-debit", "--again")
    assert "exceeds_credits" in nothing.err
    closed = tollmesh("ledger", "hold", *sides, "--amount", "0", "--closing-debit")
    assert f"{funded} is closed until the hold is voided or expires\n" in closed.out
    assert "│ no overdraft, closed" in tollmesh("accounts", "get", funded).out
    fill = ("ledger", "post", "--debit", "bank", "--credit", funded, "--amount", "1")
    refused = tollmesh(*fill)
    assert "not posted: credit_account_closed" in refused.err
    assert "opens once that is voided" in refused.err
    hold = closed.out.partition("(")[2].partition(")")[0]
    assert tollmesh("ledger", "void", hold).exit_code == 0
    assert tollmesh(*fill, "--again").exit_code == 0
    assert sums(tollmesh, funded) == (5000, 5100, 0, 0)


def test_holds_of_a_file_are_made_and_ended_once(
    tollmesh: Tollmesh, funded: str, tmp_path: Path
) -> None:
    own = [str(uuid4()) for _ in range(2)]
    usd = "{currency_code: USD, minor_units: 1000}"
    held = (
        f"kind: KIND_PENDING, debit_account_id: '{funded}', credit_account_id: bank, amount: {usd}"
    )
    file = tmp_path / "holds.yaml"
    file.write_text(
        f"- {{transfer_id: {own[0]}, {held}, timeout: 3600s, multi_capture: true}}\n"
        f"- {{transfer_id: {own[1]}, {held}}}\n"
        f"- {{kind: KIND_POST_PENDING, pending_id: {own[0]}, amount: {{currency_code: USD, minor_units: 400}}}}\n"
        f"- {{kind: KIND_POST_PENDING, pending_id: {own[0]}, amount: {{currency_code: USD, minor_units: 400}}}}\n"
        f"- {{kind: KIND_VOID_PENDING, pending_id: {own[1]}}}\n"
        f"- {{debit_account_id: '{funded}', credit_account_id: bank, balancing_debit: true}}\n"
        f"- {{kind: KIND_POST_PENDING, pending_id: {own[1]}}}\n"
    )
    names = [*["OK"] * 6, "PENDING_TRANSFER_ALREADY_VOIDED"]
    for expected in (names, [name.replace("OK", "EXISTS") for name in names]):
        done = tollmesh("ledger", "post", str(file), "-o", "json")
        assert done.exit_code == EXIT_INCOMPLETE
        results = [item["result"] for item in done.json()["results"]]
        assert [name.removeprefix("TRANSFER_RESULT_") for name in results] == expected
        # 8.00 captured, 2.00 still held, and all others moved.
        assert sums(tollmesh, funded) == (4800, 5000, 200, 0)


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


def charged(tollmesh: Tollmesh, org_id: str, price: str = "") -> str:
    """A charge of 40 calls, or, at another price, what puts it right."""
    catalog = catalog_of(org_id)
    if price:
        own = f'overrides: [{{sku: calls, price: {{per_unit: {{unit_amount: "{price}"}}}}}}], '
        catalog = catalog.replace(b"effective_at", own.encode() + b"effective_at")
    applied = tollmesh("catalog", "apply", "-", stdin=catalog)
    assert applied.exit_code == 0, applied
    usage = f"{HEADER}{org_id},{org_id},p,calls,40,{AT}\n".encode()
    assert tollmesh("ingest", "-", "--format", "csv", stdin=usage).exit_code == 0
    made = tollmesh("charge", org_id, "--period", DAY, "-o", "json").json()["charge_id"]
    if not price:
        return str(made)
    return str(tollmesh("adjust", made, "-o", "json").json()["charge_id"])


def test_a_correction_comes_off_what_is_paid(tollmesh: Tollmesh) -> None:
    org_id = f"org-{uuid4()}"
    charge_id = charged(tollmesh, org_id)
    lower = charged(tollmesh, org_id, "0.20")
    nothing = tollmesh("pay", "--charge", lower, "--merchant", "shop")
    assert (nothing.exit_code, "its total is -2.00 USD" in nothing.err) == (EXIT_REFUSED, True)
    pay = ("pay", "--charge", charge_id, "--merchant", "shop")
    whole = tollmesh(*pay, "--amount", "10.00")
    assert (whole.exit_code, "8.00 USD of 10.00 USD is open" in whole.err) == (EXIT_REFUSED, True)
    assert "with corrections, 8.00 USD is owed for its period" in whole.err
    made = tollmesh(*pay, "-o", "json").json()
    assert made["plan"]["total_amount"]["minor_units"] == "800"
    assert tollmesh(*pay, "-o", "json").json()["payment_id"] == made["payment_id"]

    higher = charged(tollmesh, org_id, "0.30")
    assert tollmesh(*pay, "-o", "json").exit_code == EXIT_REFUSED, "its own 2.00 is not one payment"
    rest = tollmesh(*pay, "--amount", "2.00")
    assert rest.exit_code == 0, rest
    more = tollmesh("pay", "--charge", higher, "--merchant", "shop", "--amount", "3.00")
    assert (more.exit_code, "2.00 USD of 4.00 USD is open" in more.err) == (EXIT_REFUSED, True)
    last = tollmesh("pay", "--charge", higher, "--merchant", "shop", "--amount", "2.00")
    assert last.exit_code == 0, last


def test_what_was_reversed_is_not_paid(tollmesh: Tollmesh) -> None:
    org_id = f"org-{uuid4()}"
    charge_id = charged(tollmesh, org_id)
    reversal = tollmesh("reverse", charge_id, "--reason", "wrong plan", "-o", "json").json()
    pay = ("pay", "--charge", charge_id, "--merchant", "shop")
    for more in ((), ("--amount", "1.00")):
        refused = tollmesh(*pay, *more)
        assert refused.exit_code == EXIT_REFUSED
        assert f"it was reversed by {reversal['charge_id']}" in refused.err
    by_order = tollmesh("pay", "--order", charge_id, "--merchant", "shop", "--amount", "1.00")
    assert (by_order.exit_code, "0.00 USD of 10.00 USD" in by_order.err) == (EXIT_REFUSED, True)


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


def test_a_transfer_is_reversed_once(tollmesh: Tollmesh) -> None:
    name = f"r{uuid4().hex[:8]}"
    for side in ("from", "to"):
        created = tollmesh("accounts", "create", f"{name}:{side}", "--type", "asset")
        assert created.exit_code == 0, created.err
    post = ("ledger", "post", "--debit", f"{name}:from", "--credit", f"{name}:to")
    posted = tollmesh(*post, "--amount", "3.00", "-o", "json")
    assert posted.exit_code == 0, posted.err
    transfer_id = posted.json()["results"][0]["transfer_id"]
    reverse = ("ledger", "reverse", transfer_id, "--reason")
    made = tollmesh(*reverse, "typing error", "-o", "json")
    assert made.exit_code == 0, made.err
    assert made.json()["reverses_transfer_id"] == transfer_id
    assert tollmesh(*reverse, "typing error", "-o", "json").json() == made.json()
    other = tollmesh(*reverse, "another reason")
    assert other.exit_code == EXIT_REFUSED and "TRANSFER_ALREADY_REVERSED" in other.err
    shown = tollmesh("ledger", "transfer", transfer_id, "-o", "json").json()
    assert shown["reversed_by_transfer_id"] == made.json()["transfer"]["transfer_id"]
    assert "reversed by" in tollmesh("ledger", "transfer", transfer_id).out


def test_what_failed_beside_it_has_no_refund_given_twice(tollmesh: Tollmesh) -> None:
    request = {
        "merchant_id": "shop",
        "order_id": f"o-{uuid4()}",
        "person_id": "p",
        "capture": "manual",
    }
    request |= {
        "amount": "50.00",
        "currency": "USD",
        "method": "card",
        "token": "tok_void_declined",
    }
    made = tollmesh("pay", "-", "-o", "json", stdin=json.dumps(request).encode()).json()
    payment_id = made["payment_id"]
    captured = tollmesh("payment", "capture", payment_id, "--amount", "20.00", "--keep-open")
    assert captured.exit_code == 0, captured.err
    refund = ("payment", "refund", payment_id, "--amount", "5.00", "-o", "json")
    first = tollmesh(*refund).json()
    void = ("payment", "void", payment_id, "-o", "json")
    voids = [tollmesh(*void) for _ in range(2)]
    assert [each.exit_code for each in voids] == [EXIT_REFUSED] * 2
    # What failed is asked for anew, what went well is not.
    assert len({each.json()["instruction"]["instruction_id"] for each in voids}) == 2
    second = tollmesh(*refund)
    assert second.json()["instruction"] == first["instruction"]
    assert "nothing more was done" in second.err
    assert second.json()["payment"]["amounts"]["refunded"]["minor_units"] == "500"


def test_who_cannot_see_what_is_open_pays_no_charge(
    tollmesh: Tollmesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge_id = charged(tollmesh, f"org-{uuid4()}")
    scopes = ("--scope", "orchestration:read", "--scope", "orchestration:write")
    made = tollmesh("keys", "create", "payer", *scopes, "-o", "json").json()
    monkeypatch.setenv("TOLLMESH_API_KEY", made["secret"])
    pay = ("pay", "--merchant", "shop", "--amount", "900.00")
    blind = tollmesh(*pay, "--order", charge_id)
    assert (blind.exit_code, "billing:read" in blind.err) == (EXIT_DENIED, True)
    assert "so nothing was paid" in blind.err
    assert tollmesh(*pay, "--order", f"o-{uuid4()}").exit_code == 0, "no charge, no limit"
