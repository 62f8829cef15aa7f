"""The product's own recipes: sound, never changed once they are released, and saying what was booked before them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import services.ledger
from services.billing.domain.charges import Line, RatedLine
from services.ledger.app.recipes import Recipes
from services.ledger.bootstrap import product_recipes
from services.ledger.domain.accounts import AccountType
from services.ledger.domain.recipes.errors import RecipeInvalid, RecipeRefused
from services.ledger.domain.recipes.evaluation import EarlierPosting, Posted
from services.ledger.domain.recipes.parameters import Value
from services.ledger.domain.recipes.recipe import Recipe
from services.ledger.domain.recipes.templates import named
from services.ledger.domain.transfers import Reference
from services.ledger.messages import recipes as messages
from services.runtime.money import MINOR_UNITS_MAX, Money
from tests.support.ledger.posting_recipes import books, moves, post, transfers

# The newest version of each.
PRODUCT = {
    recipe.name: recipe
    for recipe in sorted(product_recipes(), key=lambda each: (each.name, each.version))
}
FOLDER = Path(next(iter(services.ledger.__path__))) / "recipes"
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=80)
# A version never changes: what it says from now on is a new one, in a file beside it.
RELEASED: dict[tuple[str, int], str] = {
    ("cash-received", 1): "6c1c28172ee62801",
    ("cash-refunded", 1): "d573083cce52ae06",
    ("charge", 1): "f104b931dc9e15ef",
    ("charge", 2): "0def06cf48bdb78b",
    ("charge", 3): "5e57a2a848d9bbf5",
    ("chargeback", 1): "7a496c1fa523193e",
    ("chargeback-lost", 1): "b42af86970c8a180",
    ("chargeback-won", 1): "103da82249976e07",
    ("check-received", 1): "61594e14b3cafe82",
    ("check-refunded", 1): "03e9fe6cfed3c3c4",
    ("credit-grant", 1): "3828e8b5e84e1663",
    ("credit-use", 1): "d27ef438d3919a01",
    ("credits-consumed", 1): "fb97fe2dd66d854a",
    ("credits-issued", 1): "c989f3fd235ae5b9",
    ("credits-lapsed", 1): "e26ff25c482f46db",
    ("credits-reversed", 1): "d64fc8f53be1a573",
    ("deposit", 1): "ca7506e438de6a1b",
    ("fx", 1): "74138f34a7ba88a0",
    ("invoice", 1): "766549c9340a203e",
    ("payment-received", 1): "51a2b6eb62a9f0d3",
    ("payment-refunded", 1): "6f2b0a74381b6cc7",
    ("payment-refunded", 2): "4ac1c6da75bd094c",
    ("payout-claim", 1): "d450f554550a8eaa",
    ("payout-paid", 1): "5c725affe5c06ddb",
    ("payout-returned", 1): "0b7f0634b84ceaed",
    ("processor-fee", 1): "343dfe1623976f66",
    ("tax", 1): "b835cb9f1a5ad49e",
    ("write-off", 1): "6a87c9512da05753",
}


def digest(recipe: Recipe) -> str:
    """Name the content of a recipe, but what is for people alone."""
    document = messages.document(replace(recipe, description=""))
    for item in document["parameters"]:
        item.pop("description", None)
        for inner in item.get("group", []):
            inner.pop("description", None)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def test_each_file_is_named_after_its_recipe() -> None:
    found = {path.stem for path in FOLDER.iterdir()}
    assert found == {
        recipe.name if recipe.version == 1 else f"{recipe.name}-{recipe.version}"
        for recipe in product_recipes()
    }


def test_all_are_sound_and_the_products() -> None:
    Recipes(product_recipes())
    assert all(recipe.is_product and recipe.version > 0 for recipe in product_recipes())


def test_one_that_is_not_sound_keeps_the_service_from_starting() -> None:
    odd = replace(PRODUCT["charge"], accounts=())
    with pytest.raises(RecipeInvalid):
        Recipes([odd])


def test_a_version_never_changes() -> None:
    found = {(recipe.name, recipe.version): digest(recipe) for recipe in product_recipes()}
    assert found == RELEASED, "a version that says something else is another version"


def test_codes_tell_legs_apart() -> None:
    codes = [leg.code for recipe in PRODUCT.values() for leg in recipe.legs]
    assert len(set(codes)) == len(codes)
    assert all(codes)


# ---- What was booked before there were recipes


@given(
    *[TEXTS] * 5,
    st.one_of(st.just(""), TEXTS),
    st.integers(1, MINOR_UNITS_MAX),
    st.integers(1, 100),
)
def test_a_payment_and_its_refund_go_between_processor_and_debtor(
    processor: str,
    payment: str,
    attempt: str,
    order: str,
    person: str,
    org: str,
    amount: int,
    back: int,
) -> None:
    values: dict[str, Value] = {
        "processor": processor,
        "debtor": org or person,
        "amount": Money("USD", amount),
        "payment": payment,
        "attempt": attempt,
        "order": order,
        "person": person,
        "org": org,
    }
    on = books()
    reference = Reference("payment", payment, attempt)
    judged = post(PRODUCT["payment-received"], values, on, reference=reference)
    (received,) = transfers(judged)
    clearing, receivable = (
        f"{kind}:{named(party)}:USD"
        for kind, party in (("clearing", processor), ("receivable", org or person))
    )
    metadata = {
        "payment_id": payment,
        "attempt_id": attempt,
        "order_id": order,
        "person_id": person,
        **({"org_id": org} if org else {}),
    }
    assert same(received) == (clearing, receivable, amount, "USD", 2001, metadata)
    assert [(each.account_id, each.owner, each.type) for each in judged.missing] == [
        (clearing, named(processor), AccountType.ASSET),
        (receivable, named(org or person), AccountType.ASSET),
    ]
    refund = {
        **values,
        "attempt": "back",
        "refund_of": attempt,
        "amount": Money("USD", max(1, amount * back // 100)),
    }
    earlier: Posted = {(EarlierPosting("payment-received", reference), "received", 0): received}
    given_back = post(
        PRODUCT["payment-refunded"],
        refund,
        on,
        reference=Reference("payment", payment, "back"),
        posted=earlier,
    )
    (refunded,) = transfers(given_back)
    amount_minor = max(1, amount * back // 100)
    names = metadata | {"attempt_id": "back", "refund_of": attempt}
    assert same(refunded) == (receivable, clearing, amount_minor, "USD", 2002, names)


def same(transfer: Any) -> tuple[Any, ...]:
    return (
        transfer.debit_account_id,
        transfer.credit_account_id,
        transfer.amount_minor,
        transfer.currency_code,
        transfer.code,
        dict(transfer.metadata),
    )


@st.composite
def lines(draw: st.DrawFn, currency: str = "USD") -> Line:
    """Draw a line of a charge, with or without a partner; amounts of either sign, and none."""
    name = st.from_regex(r"\A[A-Za-z0-9._:-]{1,20}\Z")
    amount = Money(currency, draw(st.integers(-(10**6), 10**6)))
    partner = draw(st.one_of(st.just(""), name))
    share = Money(currency, draw(st.integers(-(10**6), 10**6)) if partner else 0)
    rated = RatedLine(
        draw(name),
        "p",
        Decimal(1),
        Decimal(1),
        amount,
        partner,
        Decimal(1) if partner else None,
        b"",
        draw(st.one_of(st.just(""), name)) if partner else "",
    )
    return Line(draw(name), rated, share, amount - share)


@settings(max_examples=60)
@given(
    st.lists(lines(), max_size=6, unique_by=lambda line: line.line_id),
    st.lists(st.tuples(st.sampled_from(["CA", "CA-QC"]), st.integers(-(10**6), 10**6)), max_size=4),
)
def test_what_a_charge_moves(charged: list[Line], taxes: list[tuple[str, int]]) -> None:
    """Of each line what is owed becomes revenue, and the partner's share an expense: owed to the partner, or held.

    Each tax is owed by the organisation and to its authority.
    """
    values: dict[str, Value] = {"org": "acme", "lines": tuple(group(line) for line in charged)}
    if taxes:
        values["taxes"] = tuple(
            {"line": "1", "tax": "GST", "authority": authority, "amount": Money("USD", minor)}
            for authority, minor in taxes
        )
    judged = post(PRODUCT["charge"], values, reference=Reference("charge", "chg_1"))
    wanted = [moved for line in charged for moved in moves_of(line)]
    metadata = {"charge_id": "chg_1", "line_id": "1", "tax": "GST"}
    wanted += [
        moved
        for authority, minor in taxes
        for moved in moved_by(
            [("receivable:acme:USD", f"tax:{authority}:USD", Money("USD", minor), 1004)], metadata
        )
    ]
    assert [same(transfer) for transfer in transfers(judged)] == wanted
    kinds = {
        "receivable": ("ASSET", "acme"),
        "revenue": ("INCOME", ""),
        "commission": ("EXPENSE", ""),
    }
    for account in judged.missing:
        head, *rest = account.account_id.split(":")
        # Taxes are owed to who the account names, and so are shares of partners.
        partner = "" if head == "held" else ":".join(rest[head != "tax" : -1])
        assert (account.type.name, account.owner) == kinds.get(head, ("LIABILITY", partner))
    named = {name for move in wanted for name in move[:2]}
    assert {account.account_id for account in judged.missing} == named


def moves_of(line: Line) -> list[tuple[Any, ...]]:
    """What a line moves: nothing for zero, and the other way for less."""
    rated, metadata = line.rated, {"charge_id": "chg_1", "line_id": line.line_id}
    legs = [("receivable:acme:USD", f"revenue:{rated.sku}:USD", rated.amount, 1001)]
    if rated.dispute_id:
        held = f"held:commission:{rated.dispute_id}:USD"
        legs.append(("commission:USD", held, line.partner_amount, 1003))
    elif rated.partner_id:
        payable = f"payable:partner:{rated.partner_id}:USD"
        legs.append(("commission:USD", payable, line.partner_amount, 1002))
    return moved_by(legs, metadata)


def moved_by(
    legs: list[tuple[str, str, Money, int]], metadata: dict[str, str]
) -> list[tuple[Any, ...]]:
    return [
        (
            *((debit, credit) if amount.minor_units > 0 else (credit, debit)),
            *(abs(amount.minor_units), "USD", code, metadata),
        )
        for debit, credit, amount, code in legs
        if amount.minor_units
    ]


def group(line: Line) -> dict[str, Value]:
    shared: dict[str, Value] = {"partner": line.rated.partner_id, "share": line.partner_amount}
    if line.rated.dispute_id:
        shared = {"dispute": line.rated.dispute_id, "held": line.partner_amount}
    return {
        "line": line.line_id,
        "sku": line.rated.sku,
        "gross": line.rated.amount,
        **(shared if line.rated.partner_id else {}),
    }


# ---- The others, by what they move


USD5 = Money("USD", 500)
CLEARING = "clearing:card:USD"
CASES: dict[str, tuple[dict[str, Value], list[tuple[str, str, str, int]]]] = {
    "processor-fee": (
        {"processor": "card", "amount": USD5},
        [("fee", "fees:card:USD", CLEARING, 500)],
    ),
    "chargeback": (
        {"processor": "card", "debtor": "acme", "amount": USD5, "fee": Money("USD", 15)},
        [
            ("disputed", "disputed:acme:USD", CLEARING, 500),
            ("fee", "fees:card:USD", CLEARING, 15),
        ],
    ),
    "chargeback-won": (
        {"processor": "card", "debtor": "acme", "amount": USD5},
        [("won", CLEARING, "disputed:acme:USD", 500)],
    ),
    "chargeback-lost": (
        {"debtor": "acme", "amount": USD5},
        [("lost", "losses:chargeback:USD", "disputed:acme:USD", 500)],
    ),
    "credit-grant": (
        {"org": "acme", "amount": USD5},
        [("granted", "credits-granted:USD", "credit:acme:USD", 500)],
    ),
    "credits-issued": (
        {"owner": "acme", "amount": USD5, "bought": True},
        [("sold", "receivable:acme:USD", "credit-balance:acme:USD", 500)],
    ),
    "credits-reversed": (
        {"owner": "acme", "amount": USD5, "bought": True},
        [("unsold", "credit-balance:acme:USD", "receivable:acme:USD", 500)],
    ),
    "credits-lapsed": (
        {"owner": "acme", "amount": USD5},
        [("lapsed", "credit-balance:acme:USD", "breakage:USD", 500)],
    ),
    "credits-consumed": (
        {"owner": "acme", "amount": USD5},
        [("consumed", "credit-balance:acme:USD", "revenue-from-credits:USD", 500)],
    ),
    "deposit": (
        {"org": "acme", "processor": "card", "amount": USD5},
        [("deposited", CLEARING, "deposit:acme:USD", 500)],
    ),
    "invoice": (
        {
            "org": "acme",
            "lines": (
                {
                    "line": "1",
                    "item": "seat",
                    "net": USD5,
                    "tax": Money("USD", 95),
                    "authority": "DE",
                },
                {"line": "2", "item": "seat", "net": Money("USD", -100)},
            ),
        },
        [
            ("net", "receivable:acme:USD", "revenue:seat:USD", 500),
            ("tax", "receivable:acme:USD", "tax:DE:USD", 95),
            ("net", "revenue:seat:USD", "receivable:acme:USD", 100),
        ],
    ),
    "tax": (
        {"org": "acme", "authority": "DE", "amount": USD5, "rate": Decimal("0.19")},
        [("tax", "receivable:acme:USD", "tax:DE:USD", 500)],
    ),
    "write-off": (
        {"debtor": "acme", "amount": USD5},
        [("written_off", "losses:bad-debt:USD", "receivable:acme:USD", 500)],
    ),
    "fx": (
        {"processor": "card", "sold": USD5, "bought": Money("EUR", 460)},
        [
            ("sold", "liquidity:USD", CLEARING, 500),
            ("bought", "clearing:card:EUR", "liquidity:EUR", 460),
        ],
    ),
    "cash-received": (
        {"debtor": "acme", "till": "berlin", "amount": USD5},
        [("received", "cash:berlin:USD", "receivable:acme:USD", 500)],
    ),
    "check-received": (
        {"debtor": "acme", "bank": "first", "amount": USD5},
        [("received", "checks:first:USD", "receivable:acme:USD", 500)],
    ),
    "cash-refunded": (
        {"debtor": "acme", "till": "berlin", "amount": USD5},
        [("refunded", "receivable:acme:USD", "cash:berlin:USD", 500)],
    ),
    "check-refunded": (
        {"debtor": "acme", "bank": "first", "amount": USD5},
        [("refunded", "receivable:acme:USD", "checks:first:USD", 500)],
    ),
    "payout-claim": (
        {"party": "north", "amount": USD5},
        [("claim", "payable:partner:north:USD", "transit:payout:north:USD", 500)],
    ),
    "payout-paid": (
        {"party": "north", "amount": USD5},
        [("paid", "transit:payout:north:USD", "bank:payouts:USD", 500)],
    ),
    "payout-returned": (
        {"party": "north", "amount": USD5, "paid": True},
        [
            ("back", "bank:payouts:USD", "transit:payout:north:USD", 500),
            ("owed", "transit:payout:north:USD", "payable:partner:north:USD", 500),
        ],
    ),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_it_moves_what_it_says(name: str) -> None:
    values, expected = CASES[name]
    recipe = PRODUCT[name]
    on = books()
    if name.startswith("credits-") and name != "credits-issued":
        # No more is taken of credits than was given.
        post(PRODUCT["credits-issued"], {"owner": "acme", "amount": USD5}, on)
    judged = post(recipe, values, on, reference=Reference(recipe.reference_kind or "order", "1"))
    assert moves(judged) == expected


def test_credits_that_nobody_bought_are_our_expense_until_they_are_taken_back() -> None:
    on = books()
    given: dict[str, Value] = {"owner": "acme", "amount": USD5}
    issued = post(PRODUCT["credits-issued"], given, on)
    assert moves(issued) == [("given", "credits-granted:USD", "credit-balance:acme:USD", 500)]
    back = post(PRODUCT["credits-reversed"], given, on)
    assert moves(back) == [("withdrawn", "credit-balance:acme:USD", "credits-granted:USD", 500)]


@pytest.mark.parametrize("name", ["credits-consumed", "credits-lapsed", "credits-reversed"])
def test_no_more_is_taken_of_credits_than_was_given(name: str) -> None:
    on = books()
    post(PRODUCT["credits-issued"], {"owner": "acme", "amount": Money("USD", 499)}, on)
    with pytest.raises(RecipeRefused, match="EXCEEDS_CREDITS"):
        post(PRODUCT[name], {"owner": "acme", "amount": USD5}, on)


def test_a_chargeback_that_is_collected_is_owed_again() -> None:
    values = {**CASES["chargeback-lost"][0], "collect": True}
    judged = post(PRODUCT["chargeback-lost"], values, reference=Reference("dispute", "1"))
    assert moves(judged) == [("owed", "receivable:acme:USD", "disputed:acme:USD", 500)]


def test_credits_are_used_before_deposits() -> None:
    on = books()
    post(PRODUCT["credit-grant"], {"org": "acme", "amount": Money("USD", 200)}, on)
    post(PRODUCT["deposit"], {"org": "acme", "processor": "card", "amount": USD5}, on)
    judged = post(PRODUCT["credit-use"], {"org": "acme", "amount": USD5}, on)
    assert moves(judged) == [
        ("used", "credit:acme:USD", "receivable:acme:USD", 200),
        ("used", "deposit:acme:USD", "receivable:acme:USD", 300),
    ]


def test_every_recipe_is_tried_here() -> None:
    tried = {*CASES, "charge", "payment-received", "payment-refunded", "credit-use"}
    assert tried == PRODUCT.keys()
