"""`tollmesh ledger recipes` and `tollmesh ledger post-recipe`."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from services.cli.errors import EXIT_REFUSED, EXIT_USAGE
from tests.integration.cli.conftest import Tollmesh

pytestmark = pytest.mark.xdist_group("cli")

SALE = """
name: {name}
description: A sale at a market, ten percent of it ours.
reference_kind: order
parameters:
  - {{name: seller, type: PARAMETER_TYPE_PARTY}}
  - {{name: price, type: PARAMETER_TYPE_AMOUNT, description: what was paid}}
  - {{name: gift, type: PARAMETER_TYPE_FLAG, optional: true}}
accounts:
  - name: escrow
    account_id: "escrow:{{price.currency}}"
    currency: "{{price.currency}}"
    type: ACCOUNT_TYPE_LIABILITY
  - name: seller
    account_id: "{name}:{{seller}}:{{price.currency}}"
    currency: "{{price.currency}}"
    type: ACCOUNT_TYPE_LIABILITY
    owner: "{{seller}}"
  - {{name: fees, account_id: "{name}:fees", currency: "{{price.currency}}", type: ACCOUNT_TYPE_INCOME}}
allocations:
  - name: split
    of: price
    residual_owner: seller
    parts: [{{name: fee, percent: "10"}}, {{name: seller, rest: true}}]
legs:
  - {{name: seller, debit: escrow, credit: seller, amount: split.seller, code: 7}}
  - {{name: fee, unless: gift, debit: escrow, credit: fees, amount: split.fee}}
  - {{name: waived, when: gift, debit: escrow, credit: seller, amount: split.fee}}
"""


@pytest.fixture
def name() -> str:
    return f"sale-{uuid4().hex[:8]}"


@pytest.fixture
def file(tmp_path: Path, name: str) -> str:
    path = tmp_path / "sale.yaml"
    path.write_text(SALE.format(name=name))
    return str(path)


def test_a_recipe_is_checked_stored_shown_and_listed(
    tollmesh: Tollmesh, name: str, file: str
) -> None:
    checked = tollmesh("ledger", "recipes", "check", file)
    assert (checked.exit_code, checked.out) == (0, f"{name} is sound: it would be version 1\n")
    assert tollmesh("ledger", "recipes", "show", name).exit_code == EXIT_REFUSED
    for _ in range(2):
        assert tollmesh("ledger", "recipes", "put", file).out == f"{name} version 1\n"
    shown = tollmesh("ledger", "recipes", "show", name).out
    for words in (
        "A sale at a market",
        "what was paid",
        "escrow:{price.currency}",
        "split of price, ties to seller",
        "10 %",
        "the rest",
        "split.seller",
        "unless gift",
        "when an account refuses: refuse",
    ):
        assert words in shown
    content = tollmesh("ledger", "recipes", "show", name, "-o", "json").json()
    assert (content["name"], content["version"]) == (name, 1)
    listed = tollmesh("ledger", "recipes", "list", "-o", "json").json()["recipes"]
    assert {name, "charge", "payment-received"} <= {item["name"] for item in listed}
    assert "payment-refunded" in tollmesh("ledger", "recipes", "list").out


def test_a_recipe_of_the_product_is_shown_with_its_lists(tollmesh: Tollmesh) -> None:
    shown = tollmesh("ledger", "recipes", "show", "charge").out
    assert "lines[].gross" in shown
    assert "signed amount" in shown
    refunded = tollmesh("ledger", "recipes", "show", "payment-refunded").out
    assert "when an account refuses: suspense" in refunded
    used = tollmesh("ledger", "recipes", "show", "credit-use").out
    assert "credit, then deposit" in used


def test_a_recipe_that_is_not_sound_is_refused_with_its_place(
    tollmesh: Tollmesh, name: str, tmp_path: Path
) -> None:
    odd = tmp_path / "odd.yaml"
    odd.write_text(SALE.format(name=name).replace("residual_owner: seller", "residual_owner: them"))
    for command in ("check", "put"):
        refused = tollmesh("ledger", "recipes", command, str(odd))
        assert (refused.exit_code, "there is no part 'them'" in refused.err) == (EXIT_REFUSED, True)
    odd.write_text("name: x\nlegs: none\n")
    wrong = tollmesh("ledger", "recipes", "put", str(odd))
    assert (wrong.exit_code, "is not a recipe: legs" in wrong.err) == (EXIT_USAGE, True)


def test_a_fact_is_posted_once_and_its_legs_are_shown(
    tollmesh: Tollmesh, name: str, file: str
) -> None:
    assert tollmesh("ledger", "recipes", "put", file).exit_code == 0
    order = f"order:{uuid4()}"
    recipe = ("ledger", "post-recipe", name, "--reference")
    values = ("--param", "price=19.99 USD", "--param", "seller=ada")
    post = (*recipe, order, *values)
    shown = tollmesh(*post, "--dry-run")
    assert "would be posting" in shown.out
    assert tollmesh("accounts", "get", f"{name}:ada:USD").exit_code == EXIT_REFUSED
    posted = tollmesh(*post)
    assert f"{name} version 1: posting" in posted.out
    for words in ("seller", f"{name}:ada:USD", "17.99 USD", f"{name}:fees", "2.00 USD"):
        assert words in posted.out
    assert tollmesh(*post).out == posted.out
    document = tollmesh(*post, "-o", "json").json()
    assert [leg["leg"] for leg in document["legs"]] == ["seller", "fee"]
    other = tollmesh(*post, "--param", "gift=true")
    assert (other.exit_code, "another fact needs another reference" in other.err) == (
        EXIT_REFUSED,
        True,
    )
    gift = (*recipe, f"{order}:gift", *values, "--param", "gift=true")
    assert "waived" in tollmesh(*gift, "--effective-at", "2026-01-01T00:00:00Z").out
    nothing = (*recipe, f"{order}:none", "--param", "price=0 USD", "--param", "seller=ada")
    assert "nothing moves" in tollmesh(*nothing).out


def test_lists_come_as_text_or_from_a_file(tollmesh: Tollmesh, tmp_path: Path) -> None:
    org, lines = f"o-{uuid4().hex[:8]}", '[{line: "1", sku: calls, gross: "-1.50 USD"}]'
    file = tmp_path / "lines.yaml"
    file.write_text(lines)
    for number, given in enumerate((lines, f"@{file}")):
        reference = f"charge:{uuid4()}"
        done = tollmesh(
            *("ledger", "post-recipe", "charge", "--reference", reference),
            *("--param", f"org={org}", "--param", f"lines={given}"),
        )
        assert (done.exit_code, "1.50 USD" in done.out) == (0, True), number
    account = tollmesh("accounts", "get", f"receivable:{org}:USD", "-o", "json").json()
    assert account["balances"]["credits_posted"] == "300"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--param", "amount=5"), "an amount and its currency"),
        (("--param", "amount=-5 USD"), "zero or more"),
        (("--param", "amount"), "is not of the form key=value"),
        (("--param", "colour=red"), "takes no parameter 'colour'"),
        (("--reference", "order"), "kind:id"),
        (("--reference", "order:#p1"), "kind:id#part"),
        (("--effective-at", "soon"), "is not a time"),
    ],
)
def test_what_cannot_be_read_is_told(
    tollmesh: Tollmesh, arguments: tuple[str, ...], words: str
) -> None:
    post = ("ledger", "post-recipe", "write-off", "--reference", "order:1")
    done = tollmesh(*post, *arguments)
    assert (done.exit_code, words in done.err) == (EXIT_USAGE, True), done


def test_a_list_that_is_none_is_told(tollmesh: Tollmesh) -> None:
    post = ("ledger", "post-recipe", "charge", "--reference", "charge:1", "--param")
    for given, words in (
        ("lines=5", "a list of mappings"),
        ("lines=[{line: 1}]", "a text, in quotes"),
        ("lines=[{colour: red}]", "takes no parameter 'colour'"),
        ("lines=@/nothing/there", "cannot read"),
    ):
        done = tollmesh(*post, given)
        assert (done.exit_code, words in done.err) == (EXIT_USAGE, True), done
