"""Write docs/reference/recipes from the product's own recipes, each with a worked example, or check that it is so."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

if __package__ in (None, ""):  # run as a script: our own folder's parent is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from services.ledger.bootstrap import product_recipes
from services.ledger.domain.accounts import AccountType
from services.ledger.domain.balance import Balance
from services.ledger.domain.recipes.evaluation import EarlierPosting, Fact, Posted, bound, evaluate
from services.ledger.domain.recipes.judging import Judged, OpenBooks, judge
from services.ledger.domain.recipes.parameters import Value
from services.ledger.domain.recipes.recipe import Leg, OnRefusal, Recipe
from services.ledger.domain.transfers import Reference, moved
from services.runtime.money import Money, format_money
from tools import pages

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "docs/reference/recipes"
WRITTEN = """\
<!-- Written by tools/recipe_pages.py from services/ledger/recipes; the product's own evaluation works the examples.
     `make generate` writes it again; `make lint` fails when it is stale. -->
"""
AT = datetime(2026, 3, 31, tzinfo=UTC)


@dataclass(frozen=True)
class Step:
    """A fact that is posted."""

    recipe: str
    reference: Reference
    values: Mapping[str, Value]


def usd(major: str) -> Money:
    """An amount of an example."""
    return Money("USD", int(Decimal(major) * 100))


_CASH = Step(
    "cash-received",
    Reference("receipt", "r_1"),
    {"debtor": "acme", "till": "berlin", "amount": usd("35.30")},
)
_CREDITS = Step(
    "credits-issued",
    Reference("credit", "cre_1"),
    {"owner": "acme", "amount": usd("50"), "bought": True, "grant": "gra_1"},
)
_CHECK = Step(
    "check-received",
    Reference("receipt", "r_2"),
    {"debtor": "acme", "bank": "first", "amount": usd("35.30")},
)
_CHARGE = Step(
    "charge",
    Reference("charge", "chg_1"),
    {
        "org": "acme",
        "lines": (
            {
                "line": "line-1",
                "sku": "llm.requests",
                "gross": usd("33.10"),
                "partner": "p1",
                "share": usd("3.31"),
            },
            {"line": "line-2", "sku": "storage", "gross": usd("2.20")},
        ),
    },
)
_PAYMENT = {
    "processor": "card-one",
    "debtor": "acme",
    "payment": "pay_1",
    "order": "chg_1",
    "person": "ada@example.com",
    "org": "acme",
}
_PAID = Step(
    "payment-received",
    Reference("payment", "pay_1", "att_1"),
    {**_PAYMENT, "amount": usd("35.30"), "attempt": "att_1"},
)
_DISPUTE = Reference("dispute", "dp_1")
_DISPUTED = Step(
    "chargeback",
    _DISPUTE,
    {"processor": "card-one", "debtor": "acme", "amount": usd("35.30"), "fee": usd("15.00")},
)
_GRANT = Step("credit-grant", Reference("credit", "cr_1"), {"org": "acme", "amount": usd("20.00")})
_DEPOSIT = Step(
    "deposit",
    Reference("deposit", "dep_1"),
    {"org": "acme", "processor": "card-one", "amount": usd("50.00")},
)
_PAYOUT = Reference("payout", "po_1")
_EARNED: Mapping[str, Value] = {"party": "p1", "amount": usd("3.31")}
_CLAIMED = Step("payout-claim", _PAYOUT, _EARNED)
_PAID_OUT = Step("payout-paid", _PAYOUT, {**_EARNED, "note": "E2E-2031"})
# The steps that lead to each example, and itself at the end.
EXAMPLES: Mapping[str, tuple[Step, ...]] = {
    "charge": (_CHARGE,),
    "payment-received": (_CHARGE, _PAID),
    "payment-refunded": (
        _CHARGE,
        _PAID,
        Step(
            "payment-refunded",
            Reference("payment", "pay_1", "att_2"),
            {**_PAYMENT, "amount": usd("10.00"), "attempt": "att_2", "refund_of": "att_1"},
        ),
    ),
    "processor-fee": (
        _PAID,
        Step(
            "processor-fee",
            Reference("payment", "pay_1"),
            {"processor": "card-one", "amount": usd("1.32")},
        ),
    ),
    "chargeback": (_CHARGE, _PAID, _DISPUTED),
    "chargeback-won": (
        _DISPUTED,
        Step(
            "chargeback-won",
            _DISPUTE,
            {"processor": "card-one", "debtor": "acme", "amount": usd("35.30")},
        ),
    ),
    "chargeback-lost": (
        _DISPUTED,
        Step("chargeback-lost", _DISPUTE, {"debtor": "acme", "amount": usd("35.30")}),
    ),
    "credit-grant": (_GRANT,),
    "deposit": (_DEPOSIT,),
    "credit-use": (
        _CHARGE,
        _GRANT,
        _DEPOSIT,
        Step("credit-use", Reference("charge", "chg_1"), {"org": "acme", "amount": usd("35.30")}),
    ),
    "invoice": (
        Step(
            "invoice",
            Reference("invoice", "inv_1"),
            {
                "org": "acme",
                "lines": (
                    {
                        "line": "1",
                        "item": "seats",
                        "net": usd("100.00"),
                        "tax": usd("19.00"),
                        "authority": "DE",
                    },
                ),
            },
        ),
    ),
    "payout-claim": (_CHARGE, _CLAIMED),
    "payout-paid": (_CHARGE, _CLAIMED, _PAID_OUT),
    "payout-returned": (
        _CHARGE,
        _CLAIMED,
        _PAID_OUT,
        Step("payout-returned", _PAYOUT, {**_EARNED, "paid": True, "note": "R03"}),
    ),
    "tax": (
        Step(
            "tax",
            Reference("invoice", "inv_1"),
            {
                "org": "acme",
                "authority": "DE",
                "amount": usd("19.00"),
                "rate": Decimal("0.19"),
            },
        ),
    ),
    "write-off": (
        _CHARGE,
        Step("write-off", Reference("charge", "chg_1"), {"debtor": "acme", "amount": usd("35.30")}),
    ),
    "fx": (
        Step(
            "fx",
            Reference("conversion", "fx_1"),
            {"processor": "bank-one", "sold": usd("108.00"), "bought": Money("EUR", 10_000)},
        ),
    ),
    "cash-received": (_CHARGE, _CASH),
    "credits-issued": (_CREDITS,),
    "credits-consumed": (
        _CREDITS,
        Step(
            "credits-consumed",
            Reference("credit", "cre_2"),
            {"owner": "acme", "amount": usd("20"), "grant": "gra_1"},
        ),
    ),
    "credits-lapsed": (
        _CREDITS,
        Step(
            "credits-lapsed",
            Reference("credit", "cre_2"),
            {"owner": "acme", "amount": usd("20"), "grant": "gra_1"},
        ),
    ),
    "credits-reversed": (
        _CREDITS,
        Step(
            "credits-reversed",
            Reference("credit", "cre_2"),
            {"owner": "acme", "amount": usd("20"), "bought": True, "grant": "gra_1"},
        ),
    ),
    "cash-refunded": (
        _CASH,
        Step(
            "cash-refunded",
            Reference("order_refund", "ext_2"),
            {"debtor": "acme", "till": "berlin", "amount": usd("5.30"), "refund_of": "ext_1"},
        ),
    ),
    "check-refunded": (
        _CHECK,
        Step(
            "check-refunded",
            Reference("order_refund", "ext_4"),
            {"debtor": "acme", "bank": "first", "amount": usd("5.30"), "number": "1042"},
        ),
    ),
    "check-received": (_CHARGE, _CHECK),
}


def main() -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when stale")
    check = parser.parse_args().check
    return pages.write_or_check(ROOT, texts(), check=check, as_what="the recipes declare them")


def texts() -> dict[str, str]:
    """Return the pages by their paths."""
    newest: dict[str, Recipe] = {}
    for recipe in product_recipes():
        if recipe.name not in newest or newest[recipe.name].version < recipe.version:
            newest[recipe.name] = recipe
    assert newest.keys() == EXAMPLES.keys(), "each recipe has an example"
    ordered = [newest[name] for name in EXAMPLES]
    found = {f"{FOLDER}/{recipe.name}.md": "\n".join(_page(recipe, newest)) for recipe in ordered}
    return {f"{FOLDER}/README.md": "\n".join(_index(ordered)), **found}


def _index(recipes: list[Recipe]) -> Iterator[str]:
    yield "# The chart of accounts, and what moves money in it\n"
    yield WRITTEN
    yield "Every movement of money in the product is one of these recipes, posted by the owner of the fact. An arrow"
    yield "goes from the account that is credited to the one that is debited: the way that the value goes.\n"
    yield "```mermaid\nflowchart LR"
    for name, kind in sorted(_kinds(recipes).items()):
        yield f'  {_node(name)}["{name}<br/><i>{kind}</i>"]'
    for recipe in recipes:
        for debit, credit in sorted({pair for leg in recipe.legs for pair in _sides(recipe, leg)}):
            yield f"  {_node(credit)} -- {recipe.name} --> {_node(debit)}"
    yield "```\n"
    yield "| recipe | posted for | what it says |\n|---|---|---|"
    for recipe in recipes:
        reference = f"`{recipe.reference_kind}`" if recipe.reference_kind else "any"
        text = pages.cell(" ".join(recipe.description.split()))
        yield f"| [{recipe.name}]({recipe.name}.md) | {reference} | {text} |"
    yield ""


def _page(recipe: Recipe, recipes: Mapping[str, Recipe]) -> Iterator[str]:
    yield f"# {recipe.name}, version {recipe.version}\n"
    yield WRITTEN
    yield " ".join(recipe.description.split()) + "\n"
    yield "## Accounts\n\n| account | type | grows by | owner |\n|---|---|---|---|"
    for account in recipe.accounts:
        side = "debits" if account.type.grows_by_debit else "credits"
        owner = f"`{account.owner}`" if account.owner else ""
        yield f"| `{account.account_id}` | {account.type.name.lower()} | {side} | {owner} |"
    yield "\n## Journal\n\n| leg | debit | credit | amount | code | when |\n|---|---|---|---|---|---|"
    for leg in recipe.legs:
        debits, credits = _named(leg, is_debit=True), _named(leg, is_debit=False)
        yield f"| {leg.name} | {debits} | {credits} | {leg.amount} | {leg.code} | {_when(leg)} |"
    yield ""
    if recipe.on_refusal is OnRefusal.SUSPENSE:
        yield "It has happened, so no account can refuse it: one that is closed, full or of another type is replaced by"
        yield "`suspense:` and its name, and the contract `ledger/payment-in-suspense` tells of it.\n"
    else:
        yield "An account that is closed, or at its limit, refuses it: then nothing is posted.\n"
    yield from _example(EXAMPLES[recipe.name], recipes)


def _example(steps: tuple[Step, ...], recipes: Mapping[str, Recipe]) -> Iterator[str]:
    books = OpenBooks({}, {}, "example", AT)
    posted: Posted = {}
    for step in steps[:-1]:
        posted = {**posted, **_legs(step, _post(step, recipes, books, posted))}
    before = {name: _balance(balance) for name, balance in books.balances.items()}
    step = steps[-1]
    judged = _post(step, recipes, books, posted)
    yield "## Worked example\n"
    for earlier in steps[:-1]:
        yield f"After [{earlier.recipe}]({earlier.recipe}.md) for {earlier.reference}."
    yield f"{'' if len(steps) == 1 else chr(10)}Posted for {step.reference}:\n"
    yield "| account | debit | credit |\n|---|---:|---:|"
    debits = credits = 0
    for made in judged.made:
        transfer = made.resolved
        minor = moved(transfer)
        amount = _text(Money(transfer.currency_code, minor))
        yield f"| {transfer.debit_account_id} | {amount} | |"
        yield f"| &emsp;{transfer.credit_account_id} | | {amount} |"
        debits, credits = debits + minor, credits + minor
    assert debits == credits
    yield "\n| balance of | before | after |\n|---|---:|---:|"
    touched = sorted(
        {
            name
            for made in judged.made
            for name in (made.resolved.debit_account_id, made.resolved.credit_account_id)
        }
    )
    for name in touched:
        balance = books.balances[name]
        was = before.get(name, Money(balance.currency_code, 0))
        kind, now = balance.type.name.lower(), _balance(balance)
        yield f"| {name} ({kind}) | {_text(was)} | {_text(now)} |"
    yield "\nDebits and credits are equal in each currency, leg by leg.\n"


def _post(step: Step, recipes: Mapping[str, Recipe], books: OpenBooks, posted: Posted) -> Judged:
    recipe = recipes[step.recipe]
    fact = Fact(step.recipe, 0, step.values, step.reference)
    return judge(evaluate(recipe, fact, bound(recipe, fact), posted), books, 0)


def _legs(step: Step, judged: Judged) -> Posted:
    earlier = EarlierPosting(step.recipe, step.reference)
    return {(earlier, made.leg, made.group): made.resolved for made in judged.made}


def _text(money: Money) -> str:
    return f"{format_money(money)} {money.currency_code}"


def _balance(balance: Balance) -> Money:
    net = balance.type.balance(balance.debits_posted - balance.credits_posted)
    return Money(balance.currency_code, net)


def _templates(recipe: Recipe) -> dict[str, tuple[str, AccountType]]:
    """Accounts of a recipe by their names in it: how their ids begin, and the type."""
    return {
        account.name: (account.account_id.split(":{")[0], account.type)
        for account in recipe.accounts
    }


def _kinds(recipes: list[Recipe]) -> dict[str, str]:
    return {
        head: kind.name.lower() for recipe in recipes for head, kind in _templates(recipe).values()
    }


def _sides(recipe: Recipe, leg: Leg) -> Iterator[tuple[str, str]]:
    names = _templates(recipe)
    debits = [leg.debit] if leg.debit else [source.account for source in leg.debit_from]
    credits = [leg.credit] if leg.credit else [source.account for source in leg.credit_from]
    for debit in debits:
        for credit in credits:
            yield names[debit][0], names[credit][0]


def _named(leg: Leg, *, is_debit: bool) -> str:
    name = leg.debit if is_debit else leg.credit
    sources = leg.debit_from if is_debit else leg.credit_from
    return name or ", then ".join(source.account for source in sources)


def _when(leg: Leg) -> str:
    parts = [
        f"for each of {leg.for_each}" if leg.for_each else "",
        f"{leg.when} is given" if leg.when else "",
        f"not {leg.unless}" if leg.unless else "",
    ]
    return ", ".join(part for part in parts if part)


def _node(name: str) -> str:
    return name.replace(":", "_").replace("-", "_")


if __name__ == "__main__":
    sys.exit(main())
