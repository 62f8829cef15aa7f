"""What the verifier says of files: hostile ones, older ones, unfinished ones; and that it stands alone."""

from __future__ import annotations

import ast
import copy
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from payments.pricing.v1 import pricing_pb2
from typer.testing import CliRunner

from services.billing.domain.charges import Charge, ChargeStatus, Rating
from services.billing.domain.corrections import Billed
from services.cli.app import app
from services.cli.errors import EXIT_DIFFERENT, EXIT_INCOMPLETE, EXIT_USAGE
from services.pricing.domain.catalog import Aggregation
from services.pricing.domain.models.graduated import Graduated
from services.pricing.domain.models.matrix import Matrix
from services.pricing.domain.models.per_unit import PerUnit
from services.pricing.domain.models.percentage import Percentage
from services.pricing.domain.models.tiers import Tier
from services.pricing.domain.prices import Price
from services.runtime.money import EXPONENTS
from tests.support.billing import exported
from tests.support.billing.alone import copied, verify_alone
from tests.support.billing.exported import Catalogue, Used
from tollmesh_verify import FORMAT, Refused, Report, Verdict, seal, verify
from tollmesh_verify.lines import places_of
from tollmesh_verify.reading import BYTES_MAX

ROOT = Path(__file__).parents[3]
D = Decimal
CARD = Percentage(
    D(2),
    D("0.30"),
    free_events=3,
    free_amount=D(50),
    minimum_per_event=D("0.5"),
    maximum_per_event=D(3),
)
CATALOGUE = Catalogue(
    {
        "card": Price(percentage=CARD),
        "calls": Price(matrix=Matrix("region", {"eu": D("0.25")}, D("0.75"))),
        "sms": Price(graduated=Graduated((Tier(D(100), D("0.05")), Tier(None, D("0.0333"))))),
    },
    partner_id="north",
    partner_pcts={"": D("12.5")},
)
USED = [
    Used("card", "p", tuple((D(amount), "") for amount in ("20", "0", "25", "30", "5", "0.5"))),
    Used("card", "q", tuple((D(amount), "") for amount in ("1000", "130", "12.25"))),
    Used("calls", "p", ((D(7), "eu"), (D("3.5"), "us"))),
    Used("sms", "p", ((D(120), ""),)),
    Used("sms", "q", ((D(41), ""),)),
]


def charge() -> Charge:
    return exported.charge(exported.rating(CATALOGUE, USED))


def family() -> dict[str, Any]:
    """A charge, an adjustment and its reversal."""
    billed = Billed(charge())
    more = [*USED[:3], Used("sms", "p", ((D(130), ""),)), USED[4]]
    billed = Billed(
        billed.base, (exported.adjustment(billed, exported.rating(CATALOGUE, more, "2:2:")),)
    )
    return exported.tree(*billed.charges, exported.reversal(billed))


def sealed(document: dict[str, Any]) -> bytes:
    """Write a changed document with a seal that fits."""
    document["seal"] = seal(document["charges"])
    return exported.content(document)


def report_of(document: dict[str, Any]) -> Report:
    return verify(sealed(document))


def line(document: dict[str, Any], number: int, of_charge: int = 0) -> Any:
    return document["charges"][of_charge]["lines"][number]["line"]


def test_a_charge_an_adjustment_and_a_reversal_are_verified_line_by_line() -> None:
    found = verify(exported.content(family()))
    assert found.verdict is Verdict.VERIFIED, [*found.lines_of_text()]
    told = [*found.lines_of_text()]
    assert (found.charges, found.lines) == (3, 11)
    assert told[0] == "charge chg_base: acme, total 19.67 USD: verified"
    assert (
        "charge chg_adjust_1, line 1 (sms of p): 10 units, exactly 0.333 USD, 0.33 USD: verified"
        in told
    )
    assert told[-1].startswith("verified: 3 charges, 11 lines, ")


# ---- What is changed, though the seal was made anew


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], str, str, str]] = {
    "rounding": (
        lambda document: line(document, 3)["amount_gross"].update(minor_units="568"),
        "line.amount_gross.minor_units",
        "568",
        "567",
    ),
    "price": (
        lambda document: line(document, 3)["proof"]["price"]["graduated"]["tiers"][1].update(
            unit_amount="0.0334"
        ),
        "line.proof.unrounded",
        "5.666",
        "5.668",
    ),
    "prior": (
        lambda document: line(document, 4)["proof"].update(prior_quantity="121"),
        "line.proof.prior_quantity",
        "121",
        "120",
    ),
    "part": (
        lambda document: line(document, 4)["proof"].update(part_no=3),
        "line.proof.part_no",
        "3",
        "2",
    ),
    "events before": (
        lambda document: line(document, 2)["proof"].update(prior_event_count="4"),
        "line.proof.prior_event_count",
        "4",
        "5",
    ),
    "group": (
        lambda document: line(document, 2)["proof"]["price"]["percentage"].update(
            maximum_per_event="2.5"
        ),
        "line.proof.events.charged.largest",
        "130",
        "what must cost what charged events cost",
    ),
    "commission": (
        lambda document: line(document, 3).update(partner_pct="14.5"),
        "line.partner_amount.minor_units",
        "71",
        "82",
    ),
    "account": (
        lambda document: document["charges"][0]["lines"][0]["postings"][0].update(
            debit_account_id="receivable:other:USD"
        ),
        "postings[0].debit_account_id",
        "receivable:other:USD",
        "receivable:acme:USD",
    ),
    "total": (
        lambda document: document["charges"][0]["total"].update(minor_units="1544"),
        "total.minor_units",
        "1544",
        "1967",
    ),
    "billed before": (
        lambda document: line(document, 0, 1)["correction"]["amount_before"].update(
            minor_units="600"
        ),
        "line.correction.amount_before.minor_units",
        "600",
        "567",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_is_named_though_the_file_was_sealed_anew(name: str) -> None:
    change, field, written, recomputed = CHANGES[name]
    document = family()
    change(document)
    found = report_of(document)
    assert found.verdict is Verdict.DIFFERENT
    named = [(item.field, item.written, item.recomputed) for item in found.findings]
    assert (field, written, recomputed) in named, named


def aggregated(aggregation: Aggregation, *events: str) -> dict[str, Any]:
    """A charge of one SKU."""
    catalogue = Catalogue({"disk": Price(per_unit=PerUnit(D(1)))}, aggregation=aggregation)
    used = [Used("disk", "p", tuple((D(amount), "") for amount in events))]
    return exported.tree(exported.charge(exported.rating(catalogue, used)))


@pytest.mark.parametrize("aggregation", Aggregation)
def test_a_quantity_of_every_aggregation_is_verified_and_one_that_cannot_be_is_named(
    aggregation: Aggregation,
) -> None:
    made = aggregated(aggregation, "7", "5", "7", "0.1")
    assert report_of(made).verdict is Verdict.VERIFIED
    proof = line(made, 0)["proof"]
    assert proof["event_count"] == "4"
    proof["event_count"] = "0"
    del proof["first_event_at"], proof["last_event_at"]
    # Only a level holds without an event of the period.
    is_level = aggregation is Aggregation.WEIGHTED_SUM
    assert report_of(made).verdict is (Verdict.VERIFIED if is_level else Verdict.DIFFERENT)


def test_a_number_of_distinct_quantities_is_whole_and_not_above_that_of_events() -> None:
    made = aggregated(Aggregation.UNIQUE, "7", "5", "7")
    assert line(made, 0)["proof"]["quantity"] == "2"
    line(made, 0)["proof"]["event_count"] = "1"
    fields = {finding.field: finding.recomputed for finding in report_of(made).findings}
    assert fields == {"line.proof.quantity": "a whole number from 1 to 1"}


def test_a_level_that_held_before_the_period_is_verified() -> None:
    made = aggregated(Aggregation.WEIGHTED_SUM)
    assert report_of(made).verdict is Verdict.VERIFIED
    # 3 units over the 744 hours of October.
    assert line(made, 0)["quantity"] == "2232"


def test_a_fact_that_nothing_is_computed_from_is_named_by_the_seal() -> None:
    document = exported.tree(charge())
    line(document, 0)["proof"]["plan_id"] = "another"
    found = verify(exported.content(document))
    assert found.findings[0].field == "line.proof.plan_id"
    assert "its check value is" in found.findings[0].recomputed


def test_a_line_that_is_left_out_is_missed() -> None:
    document = family()
    del document["charges"][2]["lines"][1]
    found = report_of(document)
    assert {"total.minor_units", "lines", "line.line_id"} <= {item.field for item in found.findings}


# ---- What cannot be verified is never called verified


def of_an_earlier_release(made: Charge) -> Charge:
    """Proofs without what is told of them since."""

    def dated(proof: bytes) -> bytes:
        message = pricing_pb2.LineProof.FromString(proof)
        for name in ("quantity", "part_no", "events"):
            message.ClearField(name)
        return message.SerializeToString()

    lines = tuple(
        replace(each, rated=replace(each.rated, proof=dated(each.rated.proof)))
        for each in made.lines
    )
    return replace(made, lines=lines)


def test_a_charge_of_an_earlier_release_is_read_and_not_called_verified() -> None:
    billed = Billed(of_an_earlier_release(charge()))
    document = exported.tree(*billed.charges, exported.reversal(billed))
    found = verify(exported.content(document))
    assert found.verdict is Verdict.INCOMPLETE, [*found.lines_of_text()]
    assert len({item.place for item in found.gaps}) == 10
    told = [*found.lines_of_text()]
    assert told[-1].startswith("not verified: ")
    assert (
        "charge chg_base, line 1 (calls of p): 10.5 units, exactly 4.375 USD, 4.38 USD: not verified"
        in told
    )
    # What can be computed all the same is.
    line(document, 3)["amount_gross"]["minor_units"] = "568"
    assert report_of(document).verdict is Verdict.DIFFERENT


@pytest.mark.parametrize(
    ("change", "gap"),
    [
        (
            lambda made: replace(made, status=ChargeStatus.PENDING, transfers=(), posting=None),
            "not posted",
        ),
        (
            lambda made: replace(made, posting=replace(made.posting, version=4)),
            "version 4 of recipe",
        ),
        (lambda made: replace(made, posting=None), "no recipe"),
    ],
)
def test_postings_that_are_not_known_are_told(change: Callable[[Any], Charge], gap: str) -> None:
    found = verify(exported.content(exported.tree(change(charge()))))
    assert found.verdict is Verdict.INCOMPLETE
    assert all(gap in item.what for item in found.gaps)


def test_a_field_or_a_name_of_a_later_release_is_told() -> None:
    document = exported.tree(charge())
    line(document, 0)["proof"]["surcharge"] = "1"
    line(document, 0)["proof"]["aggregation"] = "AGGREGATION_P42"
    found = report_of(document)
    assert found.verdict is Verdict.INCOMPLETE
    assert [item.what.split(":")[0] for item in found.gaps] == [
        "lines[0].line.proof.aggregation",
        "lines[0].line.proof.surcharge",
    ]


def test_a_correction_without_what_it_corrects_is_not_called_verified() -> None:
    document = family()
    document["charges"] = document["charges"][1:2]
    found = report_of(document)
    assert found.verdict is Verdict.INCOMPLETE, [*found.lines_of_text()]
    assert "does not hold the charge" in found.gaps[0].what


# ---- Hostile files


def hostile() -> dict[str, bytes | Callable[[], bytes]]:
    plain = exported.tree(charge())
    text = exported.content(plain)

    def without(*path: Any) -> Callable[[], bytes]:
        def made() -> bytes:
            document = copy.deepcopy(plain)
            place: Any = document
            for key in path[:-1]:
                place = place[key]
            del place[path[-1]]
            return sealed(document) if path[0] != "seal" else exported.content(document)

        return made

    def with_value(value: Any, *path: Any) -> Callable[[], bytes]:
        def made() -> bytes:
            document = copy.deepcopy(plain)
            place: Any = document
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            return sealed(document)

        return made

    of_line = ("charges", 0, "lines", 0, "line")
    return {
        "it is empty": b" \n",
        "it is not UTF-8": b"\xff\xfe{}",
        "it is not JSON": b"{'format': 1}",
        "it holds no JSON object": b"[]",
        "nested too deeply": b"[" * 100_000,
        "nested deeper than": b'{"a":' * 60 + b"1" + b"}" * 60,
        "a number of": b'{"format": ' + b"9" * 1_000_000 + b"}",
        "NaN, which is no number": b'{"format": NaN}',
        "-Infinity, which is no number": b'{"format": -Infinity}',
        "are texts here": b'{"format": 1e999999999}',
        "the number -0": b'{"format": -0}',
        "stands twice": text.replace(b'"total":', b'"org_id":', 1),
        "half of a surrogate pair": b'{"format": "\\ud800"}',
        "its format is": b'{"format": "tollmesh.explanation.v2"}',
        "it has no charges": json.dumps({"format": FORMAT, "charges": [], "seal": {}}).encode(),
        "is no charge": json.dumps({"format": FORMAT, "charges": [1], "seal": {}}).encode(),
        "it has no seal": without("seal"),
        "its seal is incomplete": without("seal", "sha256"),
        "which no export has": b'{"format": "' + FORMAT.encode() + b'", "x": 1}',
        "larger than 32 MiB": b" " * (BYTES_MAX + 1),
        "more lists and objects": b"[" + b"[]," * 2_100_000 + b"1]",
        "more values": b"[" + b"1," * 4_100_000 + b"1]",
        "amount_gross is missing": without(*of_line, "amount_gross"),
        "proof is missing": without(*of_line, "proof"),
        "price is missing": without(*of_line, "proof", "price"),
        "quantity: 1e5 must be a decimal": with_value("1e5", *of_line, "quantity"),
        "quantity: NaN must be a decimal": with_value("NaN", *of_line, "quantity"),
        "must be a decimal": with_value("9" * 401, *of_line, "quantity"),
        "unrounded: 5 must be a decimal": with_value(5, *of_line, "proof", "unrounded"),
        "minor_units: true must be": with_value(True, *of_line, "net", "minor_units"),
        "part_no: true must be a whole number": with_value(True, *of_line, "proof", "part_no"),
        "steps: {} must be a list": with_value({}, *of_line, "proof", "steps"),
        "must be an object": with_value([], *of_line, "proof"),
        "must be a time": with_value("2024-05-01", *of_line, "proof", "first_event_at"),
    }


HOSTILE = hostile()


@pytest.mark.parametrize("words", HOSTILE)
def test_a_hostile_file_is_refused_in_plain_words(words: str) -> None:
    content = HOSTILE[words]
    with pytest.raises(Refused) as refusal:
        verify(content if isinstance(content, bytes) else content())
    assert words in str(refusal.value)
    assert len(str(refusal.value)) < 300
    assert str(refusal.value).isprintable()


def test_nothing_of_a_file_reaches_the_terminal() -> None:
    document = exported.tree(charge())
    document["charges"][0]["org_id"] = "acme\x1b[2Jverified\n"
    assert all(text.isprintable() for text in report_of(document).lines_of_text())


# ---- It stands alone


def test_it_imports_nothing_but_the_standard_library_and_itself() -> None:
    for path in (ROOT / "tollmesh_verify").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            for name in names:
                root = name.partition(".")[0]
                assert root in {"tollmesh_verify", *sys.stdlib_module_names}, f"{path}: {name}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copied(tmp_path)


def test_it_verifies_alone_and_ends_with_the_documented_codes(folder: Path) -> None:
    document = family()
    files = {
        "verified": exported.content(document),
        "dated": exported.content(exported.tree(of_an_earlier_release(charge()))),
        "refused": b"{}",
    }
    line(document, 3)["quantity"] = "121"
    files["different"] = exported.content(document)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    done = verify_alone(folder, "verified")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("verified: 3 charges, 11 lines, ")
    done = verify_alone(folder, "different")
    assert done.returncode == 7
    assert (
        "different: charge chg_base, line 4 (sms of p): line.quantity: written 121, recomputed 120"
        in done.stdout.splitlines()
    )
    done = verify_alone(folder, "dated", "--json")
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (6, "incomplete")
    for name in ("refused", "nowhere"):
        done = verify_alone(folder, name)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
    assert verify_alone(folder).returncode == 2
    assert "exit codes" in verify_alone(folder, "--help").stdout


def test_the_command_line_verifies_the_same_without_a_mesh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLMESH_TARGET", "127.0.0.1:1")
    document = family()
    path = tmp_path / "explained.json"
    run = CliRunner()
    path.write_bytes(exported.content(document))
    done = run.invoke(app, ["explain", "--verify", str(path), "--output", "json"])
    assert (done.exit_code, json.loads(done.stdout)["verdict"]) == (0, "verified")
    line(document, 3)["quantity"] = "121"
    path.write_bytes(exported.content(document))
    done = run.invoke(app, ["explain", "--verify", str(path)])
    assert done.exit_code == EXIT_DIFFERENT
    assert "written 121, recomputed 120" in done.stdout
    path.write_bytes(exported.content(exported.tree(of_an_earlier_release(charge()))))
    assert run.invoke(app, ["explain", "--verify", str(path)]).exit_code == EXIT_INCOMPLETE
    for arguments in (
        [],
        ["chg_1", "--verify", str(path)],
        ["--verify", str(path), "--export", "x"],
    ):
        refusal: Any = run.invoke(app, ["explain", *arguments]).exception
        assert refusal.exit_code == EXIT_USAGE
    path.write_bytes(b"{}")
    refusal = run.invoke(app, ["explain", "--verify", str(path)]).exception
    assert refusal.exit_code == EXIT_USAGE
    assert "is no export: its format is" in str(refusal)


# ---- What it knows by itself


def test_it_knows_the_places_of_every_currency() -> None:
    assert {code: places_of(code) for code in EXPONENTS} == EXPONENTS


def test_the_proof_of_a_line_is_as_small_with_many_events_as_with_few() -> None:
    def size(count: int) -> int:
        events = tuple((D(number) / 8, "") for number in range(count))
        rated: Rating = exported.rating(
            Catalogue({"card": Price(percentage=CARD)}), [Used("card", "p", events)]
        )
        return len(rated.lines[0].proof)

    assert size(20_000) < size(200) + 128


def test_no_line_no_posting_and_nothing_to_verify() -> None:
    made = exported.charge(exported.rating(Catalogue({"a": Price(per_unit=PerUnit(D(1)))}), []))
    found = verify(exported.content(exported.tree(made)))
    assert (found.verdict, found.lines) == (Verdict.VERIFIED, 0)
