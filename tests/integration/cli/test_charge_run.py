"""`tollmesh charge --all`: every organisation on a plan, as often as it is repeated."""

from __future__ import annotations

from uuid import uuid4

from services.cli.errors import EXIT_INCOMPLETE, EXIT_REFUSED, EXIT_USAGE
from tests.integration.cli.conftest import Tollmesh
from tests.integration.cli.test_commands import HEADER, catalog_of

DAY = "2026-03-07"
ALL = ("charge", "--all", "--period", DAY)


def test_every_organisation_is_charged_once_and_who_cannot_be_is_told(tollmesh: Tollmesh) -> None:
    orgs = [f"run-{uuid4()}" for _ in range(5)]
    applied = tollmesh("catalog", "apply", "-", stdin=catalog_of(*orgs))
    assert applied.exit_code == 0, applied.err
    odd = f"run-{uuid4()}"
    later = catalog_of(odd).replace(b"2020-01-01", b"2026-03-07").replace(b"T00:00", b"T12:00")
    assert tollmesh("catalog", "apply", "-", stdin=later).exit_code == 0
    stray = f"run-{uuid4()}"
    users = [*orgs, stray]
    rows = "".join(f"{each},{each},p,calls,4,{DAY}T10:00:00Z\n" for each in users)
    sent = tollmesh("ingest", "-", "--format", "csv", stdin=(HEADER + rows).encode())
    assert sent.exit_code == 0, sent

    made = tollmesh(*ALL, "-o", "json")
    assert made.exit_code == EXIT_INCOMPLETE
    told = made.json()
    ours = {each["org_id"]: each for each in told["charges"] if each["org_id"] in orgs}
    assert {each["total"]["minor_units"] for each in ours.values()} == {"100"}
    assert set(ours) == set(orgs)
    (refusal,) = [each for each in told["refusals"] if each["org_id"] == odd]
    assert told["refused"][refusal["error"]["reason"]] >= 1
    assert int(told["totals"]["USD"]) >= 500
    assert f"{odd}: " in made.err
    assert stray in told["without_plan"]
    assert not {*orgs, odd} & {*told["without_plan"]}
    assert "used something in the period and on no plan" in made.err

    again = tollmesh(*ALL, "--jobs", "1", "-o", "json").json()
    assert {each["charge_id"] for each in again["charges"]} >= {
        each["charge_id"] for each in ours.values()
    }
    assert again["totals"] == told["totals"]
    assert again["totals_with_tax"] == told["totals_with_tax"] == told["totals"]
    for org_id in orgs[:2]:
        entries = tollmesh("ledger", "entries", f"receivable:{org_id}:USD", "-o", "json").json()
        assert [entry["amount"]["minor_units"] for entry in entries["entries"]] == ["100"]

    ids = tollmesh(*ALL, "--quiet").out.split()
    assert ids == [each["charge_id"] for each in again["charges"]]
    shown = tollmesh(*ALL)
    assert f"{len(ids)} charged: " in shown.out
    assert all(charge_id in shown.out for charge_id in ids)


def test_what_all_cannot_be_charged_for_is_refused_at_once(tollmesh: Tollmesh) -> None:
    org_id = f"run-{uuid4()}"
    assert tollmesh("catalog", "apply", "-", stdin=catalog_of(org_id)).exit_code == 0
    ahead = tollmesh("charge", "--all", "--period", "2026-01-01/2100-01-01")
    assert (ahead.exit_code, "PERIOD_NOT_ENDED" in ahead.err) == (EXIT_REFUSED, True)
    for arguments, part in (
        ((*ALL, "acme"), "or all of them with --all"),
        (("charge", "--period", DAY), "or all of them with --all"),
        ((*ALL, "--preview"), "--preview cannot"),
        ((*ALL, "--request-id", str(uuid4())), "--request-id cannot"),
        ((*ALL, "--jobs", "0"), "--jobs"),
    ):
        wrong = tollmesh(*arguments)
        assert (wrong.exit_code, part in wrong.err) == (EXIT_USAGE, True), wrong
