"""What commands print: tables for people, JSON for programs, errors on standard error."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from payments.billing.v1 import billing_pb2
from payments.events.v1 import billing_events_pb2, events_service_pb2, pricing_events_pb2
from payments.type.v1 import type_pb2

from services.cli import __main__, asked, output
from services.cli.errors import (
    EXIT_DENIED,
    EXIT_FAULT,
    EXIT_INCOMPLETE,
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    CliError,
)

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def as_for_people() -> Iterator[None]:
    """No test is asked for JSON because the one before was."""
    yield
    asked.begin(())


def usd(minor_units: int) -> type_pb2.Money:
    return type_pb2.Money(currency_code="USD", minor_units=minor_units)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (usd(5684), "56.84 USD"),
        (usd(-1), "-0.01 USD"),
        (type_pb2.Money(currency_code="JPY", minor_units=500), "500 JPY"),
        (type_pb2.Money(currency_code="KWD", minor_units=1), "0.001 KWD"),
        (type_pb2.Money(), "-"),
    ],
)
def test_money_has_the_places_of_its_currency(amount: type_pb2.Money, shown: str) -> None:
    assert output.money(amount) == shown


def test_enums_and_times_are_words() -> None:
    charge = billing_pb2.Charge(status=billing_pb2.CHARGE_STATUS_SETTLED)
    assert output.enum_name(charge, "status") == "settled"
    charge.status = 99  # type: ignore[assignment]
    assert output.enum_name(charge, "status") == "unknown (99)"
    assert output.when(Timestamp()) == ""
    assert output.when(Timestamp(seconds=1_700_000_000)) == "2023-11-14 22:13:20"


def test_what_an_older_command_does_not_know_is_shown_as_bytes() -> None:
    page = events_service_pb2.ListEventsResponse()
    known, later, beyond = (page.events.add(id=name) for name in ("known", "later", "beyond"))
    known.message.Pack(pricing_events_pb2.PlanCreated(plan_id="p"))
    url = "type.googleapis.com/payments.events.v1.OfALaterRelease"
    later.message.type_url, later.message.value = url, b"\x0a\x05\xff"
    moment = billing_events_pb2.ChargeCreated()
    moment.created_at.seconds = 2**60
    beyond.message.Pack(moment)
    before = page.SerializeToString()
    shown = [event["message"] for event in output.as_dict(page)["events"]]
    assert shown[0]["plan_id"] == "p"
    assert shown[1] == {"@type": url, "value": "CgX/"}
    assert base64.b64decode(shown[2]["value"]) == moment.SerializeToString()
    assert output.as_dict(later.message, zeros=False) == shown[1]
    assert page.SerializeToString() == before
    with pytest.raises(ValueError, match="Timestamp is not valid"):
        output.as_dict(Timestamp(seconds=2**60))


def test_json_is_one_document_in_the_protos_spelling(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json(billing_pb2.Charge(charge_id="chg_é", total=usd(5684)))
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert json.loads(printed) | {"created_at": None} == {
        "charge_id": "chg_é",
        "total": {"currency_code": "USD", "minor_units": "5684"},
        "created_at": None,
        **{"org_id": "", "lines": [], "status": "CHARGE_STATUS_UNSPECIFIED", "transfer_ids": []},
        **{"usage_snapshot": "", "plan_id": "", "plan_version": 0},
        **{"kind": "CHARGE_KIND_UNSPECIFIED", "adjusts_charge_id": "", "correction_no": 0},
        **{"reason": "", "reversed_by_charge_id": "", "taxes": []},
    }


def test_a_table_shows_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither markup nor what a terminal would obey."""
    output.print_table(
        "[b]title", ("name", "amount"), [("[red]x[/red]", "1\x1b[2J")], right=["amount"]
    )
    printed = capsys.readouterr().out
    assert "[b]title" in printed
    assert "[red]x[/red]" in printed
    assert "\x1b" not in printed


def test_an_optional_column_is_left_out_when_it_is_empty(
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns = ("name", "held", "note")
    for cells, shown in ((("", ""), False), (("", "5"), True)):
        rows = [("a", cells[0], ""), ("b", cells[1], "")]
        output.print_table("", columns, rows, right=["held"], optional=["held"])
        printed = capsys.readouterr().out
        assert ("held" in printed) == shown
        assert "note" in printed


# What a terminal obeys, hides or turns round: CSI in 7 and 8 bits, OSC, BEL, DEL, line breaks, bidi, half a pair.
CONTROLS = [
    "\x1b",
    "\x9b",
    "\x9d",
    "\x07",
    "\x7f",
    "\r",
    "\n",
    "\t",
    "\u202e",
    "\u2066",
    "\u200b",
    "\u2028",
    "\udcff",
]


@pytest.mark.parametrize("control", CONTROLS)
def test_no_value_reaches_the_control_of_a_terminal(
    control: str, capsys: pytest.CaptureFixture[str]
) -> None:
    value = f"a{control}b"
    escaped = value.encode("unicode_escape", "surrogatepass").decode()
    output.print_table(value, ("name",), [(value,)])
    output.say(value, " ", output.bold(value))
    output.note(value)
    shown = capsys.readouterr()
    for line in (*shown.out.split("\n"), *shown.err.split("\n")):
        assert line.isprintable()
    assert shown.out.count(escaped) == 4
    assert shown.err == f"{escaped}\n"
    output.show_error(CliError(value, value, reason=value))
    errors = capsys.readouterr().err
    assert all(line.isprintable() for line in errors.split("\n"))
    # A further line of a message is not taken for one of ours.
    assert sum(line.startswith("error:") for line in errors.split("\n")) == 1
    assert all(line.startswith(("error: ", "  ")) for line in errors.splitlines())


@pytest.mark.parametrize("control", CONTROLS)
def test_json_is_exact_and_harmless(control: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"name": f"é{control}b\U000e0001"})
    printed = capsys.readouterr().out
    assert printed.removesuffix("\n").isprintable()
    assert json.loads(printed) == {"name": f"é{control}b\U000e0001"}
    assert "é" in printed


@pytest.mark.parametrize("value", ["[/bold]x", "[red]", ":warning:", "\\", "x\\[b]", "[link=x]y"])
def test_values_are_no_markup(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.say("is ", output.bold(value), f" {value}")
    output.print_table(value, ("name",), [(value,)])
    output.show_error(CliError(value))
    shown = capsys.readouterr()
    assert f"is {value} {value}\n" in shown.out
    assert f"│ {value} " in shown.out
    assert shown.err == f"error: {value}\n"


@pytest.mark.parametrize(
    ("seconds", "zone", "shown"),
    [
        (1_774_738_800, "Europe/Berlin", "2026-03-29 00:00:00+01:00"),
        (1_774_821_600, "Europe/Berlin", "2026-03-30 00:00:00+02:00"),
        (1_774_738_800, "Asia/Kathmandu", "2026-03-29 04:45:00+05:45"),
        (1_774_738_800, "UTC", "2026-03-28 23:00:00+00:00"),
        (0, "UTC", "1970-01-01 00:00:00+00:00"),
        (-62_135_596_800, "America/New_York", "0001-01-01 00:00:00+00:00"),
    ],
)
def test_a_time_is_written_in_its_zone(seconds: int, zone: str, shown: str) -> None:
    assert output.when_in(ZoneInfo(zone), Timestamp(seconds=seconds)) == shown


def test_commands_print_by_way_of_one_place() -> None:
    """What they print otherwise would reach the terminal as it is."""
    folder = REPOSITORY / "services" / "cli"
    printing = re.compile(r"console\.print\(|(?<!\w)print\(|typer\.(echo|secho)|click\.echo")
    found = [
        path.name
        for path in folder.rglob("*.py")
        if printing.search(path.read_text(encoding="utf-8"))
    ]
    assert found == ["output.py"]


def test_ids_are_never_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text gives way to them, and where that is not enough every cell gets a line."""
    monkeypatch.setattr(output.console, "width", 80)
    endpoint = "whe_01a1f92a-0d32-741f-ac9d-9da84158ea0b"
    output.print_table("", ("endpoint", "error"), [(endpoint, "word " * 30)])
    table = capsys.readouterr().out
    assert endpoint in table and "│" in table
    output.print_table(
        "", ("endpoint", "url", "error"), [(endpoint, "https://" + "a" * 30, "")] * 2
    )
    records = capsys.readouterr().out
    assert "│" not in records
    first = [f"endpoint  {endpoint}", "url       https://" + "a" * 30]
    assert [line.rstrip() for line in records.splitlines()] == [*first, "", *first]


def test_an_error_says_what_is_wrong_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_error(CliError("no [mesh]", "start one", reason="UNAVAILABLE"))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "error: no [mesh] (UNAVAILABLE)\n  start one\n"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("charges -o json", True),
        ("charges -ojson --limit 5", True),
        ("--output json", True),
        ("charges --output=json acme", True),
        ("charges -o table", False),
        ("charges json -o", False),
        ("events publish -- -o json", False),
        ("", False),
    ],
)
def test_a_program_that_waits_for_json_gets_the_error_as_its_document(
    arguments: str, wanted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked.begin(arguments.split()) is wanted
    error = CliError(
        "amount: must be more than zero",
        "give more",
        code="INVALID_ARGUMENT",
        reason="INVALID_FIELD",
        metadata={"fields": "amount,code"},
        fields=[("amount", "must be more than zero"), ("code", "is too large")],
        retry_after_ms=250,
    )
    output.show_error(error)
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "error: amount: must be more than zero (INVALID_FIELD)",
        "  code: is too large",
        "  give more",
    ]
    if not wanted:
        assert shown.out == ""
        return
    assert json.loads(shown.out) == {
        "error": {
            "code": "INVALID_ARGUMENT",
            "reason": "INVALID_FIELD",
            "message": "amount: must be more than zero",
            "metadata": {"fields": "amount,code"},
            "fields": [
                {"field": "amount", "description": "must be more than zero"},
                {"field": "code", "description": "is too large"},
            ],
            "what_to_do": ["give more"],
            "exit_code": EXIT_REFUSED,
            "retry_after_ms": 250,
        }
    }
    # A result is the document, whatever is said after it; of many lines an error is one more.
    asked.begin(arguments.split())
    output.print_json({"event": 1}, more=True)
    output.show_error(CliError("broke"))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [next(iter(line)) for line in lines] == ["event", "error"]
    asked.begin(arguments.split())
    output.print_json({"accepted": 1})
    output.show_error(CliError("2 rows were not stored"))
    assert json.loads(capsys.readouterr().out) == {"accepted": 1}


@pytest.mark.parametrize(
    ("exit_code", "code"),
    [
        (EXIT_FAULT, "INTERNAL"),
        (EXIT_USAGE, "INVALID_ARGUMENT"),
        (EXIT_UNAVAILABLE, "UNAVAILABLE"),
        (EXIT_REFUSED, "FAILED_PRECONDITION"),
        (EXIT_DENIED, "PERMISSION_DENIED"),
        (EXIT_INCOMPLETE, "FAILED_PRECONDITION"),
    ],
)
def test_every_error_has_a_code(exit_code: int, code: str) -> None:
    assert CliError("no", exit_code=exit_code).as_dict()["error"]["code"] == code


@pytest.mark.parametrize(
    ("arguments", "told", "where"),
    [
        (("charges", "--limit", "0"), "'--limit'", "tollmesh charges"),
        (("ledger", "entries"), "account_id", "tollmesh ledger entries"),
        (("nonsense",), "nonsense", "tollmesh"),
    ],
)
def test_wrong_usage_is_an_error_like_any_other(
    arguments: tuple[str, ...], told: str, where: str
) -> None:
    plain = tollmesh(*arguments)
    assert (plain.returncode, plain.stdout) == (EXIT_USAGE, "")
    assert told in plain.stderr
    shown = tollmesh(*arguments, "-o", "json")
    assert shown.returncode == EXIT_USAGE
    error = json.loads(shown.stdout)["error"]
    assert told in error["message"]
    assert error["what_to_do"] == [f"see {where} --help"]
    assert error["exit_code"] == EXIT_USAGE


def test_the_version_is_an_option_too() -> None:
    shown = tollmesh("--version")
    assert (shown.returncode, shown.stdout) == (0, f"tollmesh {metadata.version('tollmesh')}\n")


def test_a_fault_is_one_sentence_and_not_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert __main__._explain(RuntimeError("odd")) == 1
    shown = capsys.readouterr().err
    assert "internal error: RuntimeError: odd" in shown
    assert "TOLLMESH_TRACEBACK=1" in shown
    assert "Traceback" not in shown
    monkeypatch.setenv("TOLLMESH_TRACEBACK", "1")
    __main__._explain(RuntimeError("odd"))
    assert "RuntimeError: odd" in capsys.readouterr().err


def tollmesh(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "TERM": "dumb", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_command_and_exit_code() -> None:
    shown = tollmesh("--help", COLUMNS="200")
    assert shown.returncode == 0
    for command in (
        *("up", "demo", "ingest", "usage", "catalog", "estimate", "charge", "explain", "pay"),
        *("payment", "ledger", "events", "violations", "keys", "doctor", "version"),
        *("skus", "plans", "entitlements", "merchants", "accounts", "settings"),
    ):
        assert f"│ {command} " in shown.stdout
    assert "6 done in part: some rows or events were not accepted" in shown.stdout
    assert "7 there are differences" in shown.stdout
    assert "TOLLMESH_ADDRESS" in shown.stdout
    assert "late-usage" not in shown.stdout, "it is called `usage late` now"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str) -> None:
    # typer asks the parent process which shell it is; this is how one says it.
    shown = tollmesh("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert shown.returncode == 0, shown.stderr
    assert f"_TOLLMESH_COMPLETE=complete_{shell}" in shown.stdout


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("tollmesh led", ["ledger"]),
        ("tollmesh export en", ["entries"]),
        ("tollmesh completion z", ["zsh"]),
    ],
)
def test_what_is_begun_is_completed(words: str, completed: list[str]) -> None:
    at = str(len(words.split()) - 1)
    given = {"_TOLLMESH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": at}
    assert tollmesh(**given).stdout.split() == completed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell: str) -> None:
    shown = tollmesh("completion", shell)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"_TOLLMESH_COMPLETE=complete_{shell}" in shown.stdout
    if shell == "bash":
        assert (
            subprocess.run(["bash", "-n"], input=shown.stdout, text=True, check=False).returncode
            == 0
        )
    assert tollmesh("completion", "tcsh").returncode == EXIT_USAGE


@pytest.mark.parametrize(
    "given", [{}, {"_TOLLMESH_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "tollmesh "}]
)
def test_help_and_the_first_word_load_no_command(given: dict[str, str]) -> None:
    """So that they take a third of a second of CPU, not two thirds."""
    probe = (
        "import atexit, sys; sys.argv = ['tollmesh', *sys.argv[1:]]\n"
        "loaded = lambda: {'grpc', 'google.protobuf', 'pyarrow', 'keyring'} & sys.modules.keys()\n"
        "atexit.register(lambda: print('loaded', sorted(loaded()), file=sys.stderr))\n"
        "from services.cli.__main__ import main; main()"
    )
    shown = subprocess.run(
        [sys.executable, "-c", probe, *([] if given else ["--help"])],
        cwd=REPOSITORY,
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "trial" not in shown.stdout and "ledger" in shown.stdout
    assert shown.stderr == "loaded []\n"


def test_who_stops_reading_ends_the_command_in_peace() -> None:
    """As `tollmesh version | true` does."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        run = subprocess.run(
            [sys.executable, "-m", "services.cli", "version"],
            cwd=REPOSITORY,
            stdout=gone,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (run.returncode, run.stderr) == (0, b"")
