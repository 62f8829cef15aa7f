"""What a recipe makes of a fact, and what the books say to it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from services.ledger.domain.accounts import AccountType, Flags, Limits
from services.ledger.domain.holds import HoldState
from services.ledger.domain.posting import Books, Evaluation, evaluate
from services.ledger.domain.recipes import judging
from services.ledger.domain.recipes.errors import RecipeRefused
from services.ledger.domain.recipes.evaluation import EarlierPosting, Fact, Posted, bound
from services.ledger.domain.recipes.judging import OpenBooks, Suspended, told
from services.ledger.domain.recipes.parameters import Value
from services.ledger.domain.recipes.postings import posted, transfers_of
from services.ledger.domain.recipes.recipe import Recipe
from services.ledger.domain.transfers import Kind, Reference, Transfer
from services.runtime.errors import InvalidField
from services.runtime.money import MINOR_UNITS_MAX, Money
from tests.support.ledger.posting_recipes import (
    NOW,
    REFERENCE,
    account,
    balance,
    books,
    moves,
    moving,
    net,
    parameter,
    post,
    recipe,
    transfers,
    usd,
)

LIABILITY = AccountType.LIABILITY
AMOUNT = parameter("amount", "AMOUNT")
MOVED = {"name": "moved", "debit": "to", "credit": "from", "amount": "amount"}
FROM_WALLET = {
    "name": "paid",
    "credit": "owed",
    "amount": "amount",
    "debit_from": [{"account": "wallet", "up_to": "cap"}, {"account": "card", "unbounded": True}],
}


def refusal(made_by: Recipe, values: dict[str, Value], on: OpenBooks) -> dict[str, str]:
    before = {name: (each.debits_posted, each.credits_posted) for name, each in on.balances.items()}
    with pytest.raises(RecipeRefused) as refused:
        post(made_by, values, on)
    after = {name: (each.debits_posted, each.credits_posted) for name, each in on.balances.items()}
    assert after == before, "what is refused moves nothing"
    return {key: value for key, value in refused.value.metadata.items() if key != "recipe"}


# ---- Amounts


def test_an_amount_moves_between_accounts_that_are_made_for_it() -> None:
    judged = post(recipe(moving()), {"amount": usd(7)})
    assert moves(judged) == [("moved", "to:USD", "from:USD", 7)]
    assert [each.account_id for each in judged.missing] == ["to:USD", "from:USD"]
    (transfer,) = transfers(judged)
    assert transfer.reference == REFERENCE
    assert transfer.posting_id == judged.posting_id
    assert not transfer.linked


def test_nothing_moves_nothing() -> None:
    judged = post(recipe(moving()), {"amount": usd(0)})
    assert (judged.made, judged.missing) == ((), ())


def test_an_amount_below_zero_moves_the_other_way() -> None:
    signed = recipe(moving(parameters=[parameter("amount", "SIGNED_AMOUNT")]))
    assert moves(post(signed, {"amount": usd(-7)})) == [("moved", "from:USD", "to:USD", 7)]


def test_an_amount_that_is_not_given_moves_nothing() -> None:
    made_by = recipe(moving(parameters=[{**AMOUNT, "optional": True}]))
    assert post(made_by, {}).made == ()


def test_legs_are_made_group_by_group() -> None:
    line = {"currency": "{price.currency}", "type": "ACCOUNT_TYPE_ASSET"}
    lines = parameter(
        "lines",
        "LIST",
        group=[parameter("price", "AMOUNT"), parameter("sku", "NAME")],
    )
    document = {
        "name": "sell",
        "parameters": [lines, parameter("all", "AMOUNT")],
        "accounts": [
            {"name": "shelf", "account_id": "shelf:{sku}", **line},
            {"name": "sold", "account_id": "sold:{sku}", **line},
            account("a", account_id="a", currency="{all.currency}"),
            account("b", account_id="b", currency="{all.currency}"),
        ],
        "legs": [
            {
                "name": "out",
                "for_each": "lines",
                "debit": "sold",
                "credit": "shelf",
                "amount": "price",
            },
            {
                "name": "in",
                "for_each": "lines",
                "debit": "shelf",
                "credit": "sold",
                "amount": "price",
            },
            {"name": "all", "debit": "a", "credit": "b", "amount": "all"},
        ],
    }
    values: dict[str, Value] = {
        "all": usd(3),
        "lines": ({"sku": "x", "price": usd(1)}, {"sku": "y", "price": usd(2)}),
    }
    judged = post(recipe(document), values)
    assert [(made.leg, made.group) for made in judged.made] == [
        ("out", 0),
        ("in", 0),
        ("out", 1),
        ("in", 1),
        ("all", 0),
    ]
    linked = [transfer.linked for transfer in transfers(judged)]
    assert linked == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("kind", "value", "is_met"),
    [
        ("FLAG", True, True),
        ("FLAG", False, False),
        ("TEXT", "x", True),
        ("TEXT", None, False),
        ("AMOUNT", usd(1), True),
        ("AMOUNT", usd(0), False),
        ("AMOUNT", None, False),
        ("RATE", Decimal(0), True),
    ],
)
def test_a_leg_is_made_when_its_condition_is_met(
    kind: str, value: Value | None, is_met: bool
) -> None:
    condition = parameter("given", kind, optional=True)
    values: dict[str, Value] = {"amount": usd(1)} | ({} if value is None else {"given": value})
    for field, expected in (("when", is_met), ("unless", not is_met)):
        made_by = recipe(moving(parameters=[AMOUNT, condition], legs=[{**MOVED, field: "given"}]))
        assert bool(post(made_by, values).made) is expected


# ---- Names


def test_a_party_whose_name_no_account_can_hold_goes_by_another() -> None:
    made_by = recipe(
        moving(
            parameters=[AMOUNT, parameter("who", "PARTY")],
            accounts=[account("from"), account("to", account_id="to:{who}", owner="{who}")],
            legs=[{**MOVED, "metadata": {"who": "{who}", "for": "{reference.id}"}}],
        )
    )
    judged = post(made_by, {"amount": usd(1), "who": "Ada Lovelace"})
    to = judged.missing[0]
    assert to.account_id == f"to:{to.owner}"
    assert to.owner.startswith("other-")
    assert dict(transfers(judged)[0].metadata) == {"who": "Ada Lovelace", "for": "o-1"}
    again = post(made_by, {"amount": usd(1), "who": "Ada Lovelace"})
    assert again.missing[0].account_id == to.account_id


def test_metadata_holds_what_is_given() -> None:
    kinds = {"note": "TEXT", "rate": "RATE", "flag": "FLAG", "currency": "CURRENCY"}
    declared = [parameter(name, kind, optional=True) for name, kind in kinds.items()]
    texts = {name: f"<{{{name}}}>" for name in kinds} | {"amount": "{amount} {amount.currency}"}
    made_by = recipe(moving(parameters=[AMOUNT, *declared], legs=[{**MOVED, "metadata": texts}]))
    values: dict[str, Value] = {
        "amount": usd(1050),
        "note": "x" * 510,
        "rate": Decimal("0.10"),
        "flag": True,
        "currency": "EUR",
    }
    (transfer,) = transfers(post(made_by, values))
    assert dict(transfer.metadata) == {
        "note": f"<{'x' * 510}>",
        "rate": "<0.1>",
        "flag": "<true>",
        "currency": "<EUR>",
        "amount": "10.50 USD USD",
    }
    (transfer,) = transfers(post(made_by, {"amount": usd(1)}))
    assert dict(transfer.metadata) == {"amount": "0.01 USD USD"}
    with pytest.raises(InvalidField) as refused:
        post(made_by, {**values, "note": "x" * 511})
    (field,) = refused.value.fields
    assert field.field == "parameters.note"
    assert "metadata 'note' 513 characters long; 512 is the limit" in field.description


@pytest.mark.parametrize("where", ["legs", "accounts"])
@pytest.mark.parametrize("on_refusal", ["ON_REFUSAL_REFUSE", "ON_REFUSAL_SUSPENSE"])
def test_metadata_that_several_texts_make_too_long_is_refused_and_never_cut(
    where: str, on_refusal: str
) -> None:
    entry = {"metadata": {"both": "{reference.id}{one}{other}"}}
    declared = [AMOUNT, parameter("one", "TEXT"), parameter("other", "TEXT")]
    accounts = [account("from"), {**account("to"), **(entry if where == "accounts" else {})}]
    legs = [{**MOVED, **(entry if where == "legs" else {})}]
    made_by = recipe(
        moving(parameters=declared, accounts=accounts, legs=legs, on_refusal=on_refusal)
    )
    values: dict[str, Value] = {"amount": usd(1), "one": "x" * 209, "other": "y" * 300}
    (made,) = post(made_by, values).made
    filled = f"o-1{'x' * 209}{'y' * 300}"
    assert made.asked.metadata == ({"both": filled} if where == "legs" else {})
    with pytest.raises(InvalidField) as refused:
        post(made_by, {**values, "one": "x" * 210})
    assert [field.field for field in refused.value.fields] == ["parameters.other"]


def test_a_recipe_is_posted_for_references_of_its_kind() -> None:
    made_by = recipe(moving(reference_kind="charge"))
    with pytest.raises(InvalidField, match=r"reference\.kind"):
        post(made_by, {"amount": usd(1)})


def test_ids_hang_on_all_that_names_a_transfer() -> None:
    made_by = recipe(moving())
    values = {"amount": usd(7)}
    (first,) = transfers(post(made_by, values))
    (again,) = transfers(post(made_by, {"amount": usd(8)}))
    assert again.transfer_id == first.transfer_id, "whatever the amount"
    others = [
        post(made_by, values, reference=Reference("order", "o-2")),
        post(made_by, values, reference=Reference("order", "o-1", "p")),
        post(made_by, values, reference=Reference("charge", "o-1")),
        post(recipe(moving(name="other")), values),
        post(recipe(moving(legs=[{**MOVED, "name": "other"}])), values),
        post(made_by, values, OpenBooks({}, {}, "another", NOW)),
    ]
    ids = {transfers(each)[0].transfer_id for each in others} | {first.transfer_id}
    assert len(ids) == len(others) + 1


# ---- Allocations


def split(*parts: dict[str, Any], of: str = "amount", owner: str = "us") -> Recipe:
    legs = [
        {"name": part["name"], "debit": "to", "credit": "from", "amount": f"s.{part['name']}"}
        for part in parts
    ]
    allocation = {"name": "s", "of": of, "residual_owner": owner, "parts": list(parts)}
    used = {part["rate"] for part in parts if "rate" in part}
    fixed = {part["amount"] for part in parts if "amount" in part}
    declared = [
        parameter("amount", "SIGNED_AMOUNT"),
        *(parameter(name, "RATE") for name in sorted(used)),
        *(parameter(name, "SIGNED_AMOUNT", same_currency_as="amount") for name in sorted(fixed)),
    ]
    return recipe(moving(parameters=declared, allocations=[allocation], legs=legs))


def amounts(made_by: Recipe, **values: Value) -> dict[str, int]:
    return {leg: minor for leg, _, _, minor in moves(post(made_by, values))}


def test_a_tie_goes_to_the_residual_owner() -> None:
    halves = ({"name": "us", "percent": "50"}, {"name": "them", "percent": "50"})
    assert amounts(split(*halves), amount=usd(101)) == {"us": 51, "them": 50}
    assert amounts(split(*halves, owner="them"), amount=usd(101)) == {"us": 50, "them": 51}


def test_what_is_left_goes_by_largest_remainder() -> None:
    parts = (
        {"name": "a", "percent": "33.3"},
        {"name": "b", "percent": "33.3"},
        {"name": "us", "rest": True},
    )
    assert amounts(split(*parts), amount=usd(100)) == {"a": 33, "b": 33, "us": 34}
    assert amounts(split(*parts), amount=usd(2)) == {"a": 1, "us": 1}


def test_a_rate_is_a_share_of_the_whole() -> None:
    parts = ({"name": "fee", "rate": "rate"}, {"name": "us", "rest": True})
    made_by = split(*parts)
    assert amounts(made_by, amount=usd(1000), rate=Decimal("0.025")) == {"fee": 25, "us": 975}
    assert amounts(made_by, amount=usd(1000), rate=Decimal(1)) == {"fee": 1000}
    assert amounts(made_by, amount=usd(1000), rate=Decimal(0)) == {"us": 1000}
    for odd in ("1.1", "-0.1"):
        with pytest.raises(InvalidField, match=r"parameters\.rate"):
            amounts(made_by, amount=usd(1000), rate=Decimal(odd))


def test_fixed_parts_come_off_the_rest() -> None:
    parts = (
        {"name": "fee", "percent": "10"},
        {"name": "post", "amount": "post"},
        {"name": "us", "rest": True},
    )
    made_by = split(*parts)
    assert amounts(made_by, amount=usd(100), post=usd(30)) == {"fee": 10, "post": 30, "us": 60}
    assert amounts(made_by, amount=usd(-100), post=usd(-30)) == {"fee": 10, "post": 30, "us": 60}
    for odd in (usd(91), usd(-1)):
        with pytest.raises(InvalidField, match="does not sum to"):
            amounts(made_by, amount=usd(100), post=odd)


def test_rates_over_the_whole_are_refused() -> None:
    parts = (
        {"name": "a", "rate": "one"},
        {"name": "b", "rate": "two"},
        {"name": "us", "rest": True},
    )
    with pytest.raises(InvalidField, match="does not sum to"):
        amounts(split(*parts), amount=usd(9), one=Decimal("0.6"), two=Decimal("0.5"))


def test_a_part_can_be_split_again() -> None:
    document = moving(
        allocations=[
            {
                "name": "net",
                "of": "gross.net",
                "residual_owner": "us",
                "parts": [{"name": "partner", "percent": "25"}, {"name": "us", "rest": True}],
            },
            {
                "name": "gross",
                "of": "amount",
                "residual_owner": "net",
                "parts": [{"name": "tax", "percent": "20"}, {"name": "net", "rest": True}],
            },
        ],
        legs=[
            {**MOVED, "name": "tax", "amount": "gross.tax"},
            {**MOVED, "name": "partner", "amount": "net.partner"},
            {**MOVED, "name": "us", "amount": "net.us"},
        ],
    )
    assert amounts(recipe(document), amount=usd(100)) == {"tax": 20, "partner": 20, "us": 60}


# ---- Sources


def tender(**changes: Any) -> Recipe:
    leg = {**FROM_WALLET, **changes}
    cap = parameter("cap", "AMOUNT", same_currency_as="amount")
    return recipe(
        moving(
            parameters=[AMOUNT, cap],
            accounts=[
                account("wallet", type="ACCOUNT_TYPE_LIABILITY"),
                account("card"),
                account("owed"),
            ],
            legs=[leg],
        )
    )


@pytest.mark.parametrize(
    ("held", "cap", "taken"),
    [
        (100, 1000, {"wallet:USD": 100, "card:USD": 200}),
        (300, 1000, {"wallet:USD": 300}),
        (400, 1000, {"wallet:USD": 300}),
        (400, 50, {"wallet:USD": 50, "card:USD": 250}),
        (0, 50, {"card:USD": 300}),
        (-10, 50, {"card:USD": 300}),
    ],
)
def test_sources_give_what_they_have_in_their_order(
    held: int, cap: int, taken: dict[str, int]
) -> None:
    wallet = balance("wallet:USD", LIABILITY, credits_posted=500, debits_posted=500 - held)
    judged = post(tender(), {"amount": usd(300), "cap": usd(cap)}, books(wallet))
    assert {debit: minor for _, debit, _, minor in moves(judged)} == taken
    assert {made.leg for made in judged.made} == {"paid"}
    assert len({made.asked.transfer_id for made in judged.made}) == len(taken)


def test_what_is_held_cannot_be_taken() -> None:
    wallet = balance("wallet:USD", LIABILITY, credits_posted=300, debits_pending=250)
    judged = post(tender(), {"amount": usd(300), "cap": usd(300)}, books(wallet))
    assert [minor for *_, minor in moves(judged)] == [50, 250]


def test_a_source_that_is_closed_or_not_there_gives_nothing() -> None:
    for wallet in ([balance("wallet:USD", LIABILITY, credits_posted=300, closed=True)], []):
        judged = post(tender(), {"amount": usd(300), "cap": usd(300)}, books(*wallet))
        assert [debit for _, debit, *_ in moves(judged)] == ["card:USD"]


def test_sources_that_run_out_refuse_the_whole() -> None:
    made_by = tender(debit_from=[{"account": "wallet", "up_to": "cap"}, {"account": "card"}])
    wallet = balance("wallet:USD", LIABILITY, credits_posted=100)
    told = refusal(made_by, {"amount": usd(101), "cap": usd(500)}, books(wallet))
    assert told == {"leg": "paid", "account_id": "card:USD", "result": "SOURCES_EXHAUSTED"}


def test_an_account_that_is_credited_gives_up_its_debits() -> None:
    leg = {
        "name": "paid",
        "debit": "owed",
        "amount": "amount",
        "credit_from": [{"account": "wallet", "up_to": "cap"}, {"account": "card"}],
    }
    wallet = balance("wallet:USD", LIABILITY, debits_posted=20)
    card = balance("card:USD", debits_posted=100, credits_posted=10, credits_pending=40)
    made_by = tender(**{**leg, "debit_from": []}, credit="")
    judged = post(made_by, {"amount": usd(60), "cap": usd(15)}, books(wallet, card))
    assert [(credit, minor) for _, _, credit, minor in moves(judged)] == [
        ("wallet:USD", 15),
        ("card:USD", 45),
    ]
    told = refusal(made_by, {"amount": usd(66), "cap": usd(15)}, books(wallet, card))
    assert told["result"] == "SOURCES_EXHAUSTED"


def test_what_an_earlier_leg_brings_can_be_taken() -> None:
    top_up = {"name": "top_up", "debit": "owed", "credit": "wallet", "amount": "amount"}
    cap = parameter("cap", "AMOUNT", same_currency_as="amount")
    made_by = recipe(
        moving(
            parameters=[AMOUNT, cap],
            accounts=[account("wallet", type="ACCOUNT_TYPE_LIABILITY"), account("owed")],
            legs=[
                top_up,
                {
                    "name": "paid",
                    "credit": "owed",
                    "amount": "cap",
                    "debit_from": [{"account": "wallet"}],
                },
            ],
        )
    )
    on = books(balance("wallet:USD", LIABILITY))
    assert len(post(made_by, {"amount": usd(5), "cap": usd(5)}, on).made) == 2
    told = refusal(made_by, {"amount": usd(5), "cap": usd(6)}, on)
    assert told["result"] == "SOURCES_EXHAUSTED"


# ---- Refusals


def test_an_account_that_refuses_is_named() -> None:
    made_by = recipe(moving())
    told = refusal(made_by, {"amount": usd(1)}, books(balance("to:USD", closed=True)))
    assert told == {"leg": "moved", "account_id": "to:USD", "result": "DEBIT_ACCOUNT_CLOSED"}
    told = refusal(made_by, {"amount": usd(1)}, books(balance("from:USD", LIABILITY)))
    assert told["result"] == "EXISTS_WITH_DIFFERENT_TYPE"
    euros = balance("from:USD")
    euros.currency_code = "EUR"
    told = refusal(made_by, {"amount": usd(1)}, books(euros))
    assert told["result"] == "EXISTS_WITH_DIFFERENT_CURRENCY"
    limited = balance("from:USD", flags=Flags(credits_must_not_exceed_debits=True))
    told = refusal(made_by, {"amount": usd(1)}, books(limited))
    assert told["result"] == "EXCEEDS_DEBITS"


def test_an_account_that_exists_with_limits_and_an_owner_of_its_own_serves() -> None:
    own = balance("to:USD")
    own.limits = Limits(None, 10)
    on = books(own)
    assert [
        each.account_id for each in post(recipe(moving()), {"amount": usd(10)}, on).missing
    ] == ["from:USD"]
    assert refusal(recipe(moving()), {"amount": usd(1)}, on)["result"] == (
        "DEBIT_ACCOUNT_ABOVE_CEILING"
    )


def test_templates_that_come_to_the_same_account_are_refused() -> None:
    made_by = recipe(
        moving(
            parameters=[AMOUNT, parameter("a", "NAME"), parameter("b", "NAME")],
            accounts=[account("from", account_id="x:{a}"), account("to", account_id="x:{b}")],
        )
    )
    told = refusal(made_by, {"amount": usd(1), "a": "n", "b": "n"}, books())
    assert told == {"leg": "moved", "account_id": "", "result": "ACCOUNTS_MUST_BE_DIFFERENT"}


def suspending(**changes: Any) -> Recipe:
    return recipe(moving(on_refusal="ON_REFUSAL_SUSPENSE", **changes))


@pytest.mark.parametrize(
    "refusing",
    [
        balance("to:USD", closed=True),
        balance("to:USD", LIABILITY),
        balance("to:USD", flags=Flags(debits_must_not_exceed_credits=True)),
        balance("to:USD", debits_posted=MINOR_UNITS_MAX),
    ],
    ids=["closed", "of another type", "limited", "full"],
)
def test_what_has_happened_is_booked_in_suspense_where_an_account_refuses(refusing: Any) -> None:
    judged = post(suspending(), {"amount": usd(7)}, books(refusing))
    assert moves(judged) == [("moved", "suspense:to:USD", "from:USD", 7)]
    (found,) = judged.suspended
    assert (found.account_id, found.stand_in_id) == ("to:USD", "suspense:to:USD")


def test_every_leg_in_suspense_is_told_of_and_of_very_many_how_many_more() -> None:
    suspended = [Suspended(f"leg-{n}", f"a{n}", f"suspense:a{n}") for n in range(12)]
    first = "leg leg-0 is booked on suspense:a0, since account a0 refused it"
    assert told(suspended[:1]) == first
    assert told(suspended[:2]) == f"{first}; {first.replace('-0', '-1').replace('a0', 'a1')}"
    assert told(suspended).endswith("since account a9 refused it; and 2 more")


def test_the_last_stand_in_is_nobodys_but_this_references() -> None:
    closed = [
        balance(name, closed=True)
        for name in ("to:USD", "suspense:to:USD", "from:USD", "suspense:from:USD")
    ]
    first = post(suspending(), {"amount": usd(7)}, books(*closed))
    other = post(
        suspending(), {"amount": usd(7)}, books(*closed), reference=Reference("order", "o-2")
    )
    sides = [moves(each)[0][1:3] for each in (first, other)]
    assert all(name.startswith("suspense:") for pair in sides for name in pair)
    assert not set(sides[0]) & {"suspense:to:USD", "suspense:from:USD"}
    assert set(sides[0]).isdisjoint(sides[1])


def test_legs_before_the_refusal_stay_where_they_are() -> None:
    second = {**MOVED, "name": "again"}
    limited = balance(
        "from:USD", debits_posted=10, flags=Flags(credits_must_not_exceed_debits=True)
    )
    judged = post(suspending(legs=[MOVED, second]), {"amount": usd(7)}, books(limited))
    assert moves(judged) == [
        ("moved", "to:USD", "from:USD", 7),
        ("again", "to:USD", "suspense:from:USD", 7),
    ]


def judged_transfers(accounts: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Post to so many accounts that all refuse; returns how many transfers were judged for it."""
    made_by = suspending(
        parameters=[
            parameter(
                "lines", "LIST", group=[parameter("to", "NAME"), parameter("price", "AMOUNT")]
            )
        ],
        accounts=[
            account("to", account_id="to:{to}", currency="{price.currency}"),
            account("from", account_id="from", currency="{price.currency}"),
        ],
        legs=[{**MOVED, "for_each": "lines", "amount": "price"}],
    )
    lines: Value = tuple({"to": f"n{at}", "price": usd(1)} for at in range(accounts))
    count = 0

    def counted(batch: Sequence[Transfer], on: Books, contents: Sequence[bytes]) -> Evaluation:
        nonlocal count
        count += len(batch)
        return evaluate(batch, on, contents)

    with monkeypatch.context() as patched:
        patched.setattr(judging, "evaluate", counted)
        closed = [balance(f"to:n{at}", closed=True) for at in range(accounts)]
        judged = post(made_by, {"lines": lines}, books(*closed))
    assert [each.account_id for each in judged.suspended] == [each.account_id for each in closed]
    assert {each.resolved.debit_account_id for each in judged.made} == {
        f"suspense:{each.account_id}" for each in closed
    }
    return count


def test_work_grows_with_the_legs_however_many_accounts_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few, many = (judged_transfers(accounts, monkeypatch) for accounts in (40, 400))
    assert (few, many) == (80, 800), "each leg once for the account, once for its stand-in"


def test_a_refusal_behind_what_was_posted_leaves_the_books_as_they_were() -> None:
    second = {**MOVED, "name": "again"}
    held = post(HOLD, {"amount": usd(10)}, on := books())
    limited = balance(
        "from:USD", credits_pending=10, flags=Flags(debits_must_not_exceed_credits=True)
    )
    on.balances["from:USD"] = limited
    end = {"name": "end", "kind": "KIND_VOID_PENDING", "hold": {"recipe": "hold", "leg": "held"}}
    turned = {**MOVED, "name": "turned", "debit": "from", "credit": "spare", "amount": "large"}
    made_by = recipe(
        moving(
            parameters=[AMOUNT, parameter("large", "AMOUNT", same_currency_as="amount")],
            accounts=[account("to"), account("from"), account("spare")],
            legs=[end, MOVED, second, turned],
        )
    )
    before = deepcopy(on)
    with pytest.raises(RecipeRefused) as refused:
        post(
            made_by,
            {"amount": usd(3), "large": usd(7)},
            on,
            posted=earlier_of(held.made[0].asked),
        )
    assert refused.value.metadata["leg"] == "turned"
    assert on == before


def test_a_source_that_refuses_is_stood_in_for_where_it_is_unbounded() -> None:
    made_by = recipe(
        moving(
            on_refusal="ON_REFUSAL_SUSPENSE",
            parameters=[AMOUNT, parameter("cap", "AMOUNT", same_currency_as="amount")],
            accounts=[
                account("wallet", type="ACCOUNT_TYPE_LIABILITY"),
                account("card"),
                account("owed"),
            ],
            legs=[FROM_WALLET],
        )
    )
    on = books(balance("card:USD", closed=True), balance("wallet:USD", LIABILITY, credits_posted=1))
    judged = post(made_by, {"amount": usd(7), "cap": usd(7)}, on)
    assert moves(judged) == [
        ("paid", "wallet:USD", "owed:USD", 1),
        ("paid", "suspense:card:USD", "owed:USD", 6),
    ]


# ---- Holds and reversals

HOLD = recipe(
    moving(
        name="hold",
        legs=[
            {
                **MOVED,
                "name": "held",
                "kind": "KIND_PENDING",
                "timeout": "60s",
                "multi_capture": True,
            }
        ],
    )
)


def ending(kind: str, **more: Any) -> Recipe:
    earlier = {"recipe": "hold", "leg": "held"}
    end = {"name": "end", "kind": kind, "hold": earlier, **more}
    declared = [AMOUNT] if more else []
    return recipe({"name": "end", "parameters": declared, "legs": [end]})


def earlier_of(transfer: Transfer) -> Posted:
    return {(EarlierPosting("hold", REFERENCE), "held", 0): transfer}


def test_a_hold_is_made_and_posted_in_parts_and_voided() -> None:
    on = books()
    held = post(HOLD, {"amount": usd(10)}, on)
    (made,) = held.made
    assert made.asked.kind is Kind.PENDING
    assert made.hold is not None
    assert (made.hold.state, made.hold.remaining_minor) == (HoldState.OPEN, 10)
    assert made.hold.expires_at == NOW + timedelta(seconds=60)
    earlier = earlier_of(made.asked)
    part = post(
        ending("KIND_POST_PENDING", amount="amount"), {"amount": usd(4)}, on, posted=earlier
    )
    assert moves(part) == [("end", "to:USD", "from:USD", 4)]
    rest = post(ending("KIND_VOID_PENDING"), {}, on, posted=earlier)
    assert [made.resolved.amount_minor for made in rest.made] == [6]
    with pytest.raises(RecipeRefused) as refused:
        post(ending("KIND_POST_PENDING"), {}, on, posted=earlier)
    assert refused.value.metadata["result"] == "PENDING_TRANSFER_ALREADY_VOIDED"
    assert net(on.balances.values()) == {"to:USD": 4, "from:USD": -4}


def test_a_hold_that_is_not_in_the_books_cannot_be_ended() -> None:
    with pytest.raises(RecipeRefused) as refused:
        post(ending("KIND_POST_PENDING"), {})
    assert refused.value.metadata["result"] == "EARLIER_LEG_NOT_FOUND"


@pytest.mark.parametrize("falls_back", [False, True])
def test_a_leg_that_took_from_several_sources_is_not_taken_for_one(falls_back: bool) -> None:
    (several,) = earlier_of(Transfer(uuid4(), "to:USD", "from:USD", "USD", 10))
    back = reversing(**({"debit": "from", "credit": "to"} if falls_back else {}))
    ended = ending("KIND_POST_PENDING")
    for refusing, values in ((back, {"amount": usd(4)}), (ended, {})):
        with pytest.raises(RecipeRefused, match="each of its transfers by itself") as refused:
            post(refusing, values, posted={several: None})
        assert refused.value.metadata["result"] == "EARLIER_LEG_OF_SEVERAL"


@pytest.mark.parametrize(("held", "is_one"), [(300, True), (100, False)])
def test_a_leg_stands_for_one_transfer_or_for_none(held: int, is_one: bool) -> None:
    wallet = balance("wallet:USD", LIABILITY, credits_posted=held)
    judged = post(tender(), {"amount": usd(300), "cap": usd(1000)}, books(wallet))
    ((_, transfer),) = transfers_of(posted(judged, NOW)).items()
    assert transfer == (judged.made[0].resolved if is_one else None)


def reversing(**more: Any) -> Recipe:
    leg = {
        "name": "back",
        "amount": "amount",
        "reverses": {"recipe": "hold", "leg": "held", "part": "{reference.part}"},
    }
    return recipe(moving(name="back", legs=[{**leg, **more}], accounts=more.pop("accounts", [])))


def test_a_reversal_goes_between_the_accounts_that_the_leg_came_to() -> None:
    earlier = earlier_of(Transfer(uuid4(), "suspense:to:USD", "elsewhere", "USD", 10))
    on = books(balance("suspense:to:USD", LIABILITY), balance("elsewhere", AccountType.INCOME))
    judged = post(reversing(), {"amount": usd(4)}, on, posted=earlier)
    assert moves(judged) == [("back", "elsewhere", "suspense:to:USD", 4)]
    assert judged.missing == ()


def test_no_more_is_reversed_than_was_posted() -> None:
    earlier = earlier_of(Transfer(uuid4(), "to:USD", "from:USD", "USD", 10))
    on = books(balance("to:USD"), balance("from:USD"))
    for amount, back in ((7, True), (4, False), (3, True), (1, False)):
        if back:
            post(reversing(), {"amount": usd(amount)}, on, posted=earlier)
            continue
        with pytest.raises(RecipeRefused, match="more than was posted") as refused:
            post(reversing(), {"amount": usd(amount)}, on, posted=earlier)
        assert refused.value.metadata["result"] == "EXCEEDS_EARLIER_LEG"
    assert net(on.balances.values()) == {"to:USD": -10, "from:USD": 10}


def test_legs_of_one_posting_share_what_is_left_and_a_refusal_takes_nothing_of_it() -> None:
    leg = {"amount": "amount", "reverses": {"recipe": "hold", "leg": "held"}}
    legs = [{**leg, "name": "one"}, {**leg, "name": "two"}]
    twice = recipe(moving(name="back", legs=legs, accounts=[]))
    earlier = earlier_of(Transfer(uuid4(), "to:USD", "from:USD", "USD", 10))
    on = books(balance("to:USD"), balance("from:USD"))
    with pytest.raises(RecipeRefused) as refused:
        post(twice, {"amount": usd(6)}, on, posted=earlier)
    assert refused.value.metadata["leg"] == "two"
    assert len(post(twice, {"amount": usd(5)}, on, posted=earlier).made) == 2


def test_what_goes_the_same_way_again_can_be_reversed_again() -> None:
    leg = {"name": "back", "amount": "amount", "reverses": {"recipe": "hold", "leg": "held"}}
    signed = recipe(
        moving(parameters=[parameter("amount", "SIGNED_AMOUNT")], legs=[leg], accounts=[])
    )
    earlier = earlier_of(Transfer(uuid4(), "to:USD", "from:USD", "USD", 10))
    on = books(balance("to:USD"), balance("from:USD"))
    for amount in (10, -4, 4):
        post(signed, {"amount": usd(amount)}, on, posted=earlier)
    with pytest.raises(RecipeRefused):
        post(signed, {"amount": usd(1)}, on, posted=earlier)
    assert net(on.balances.values()) == {"to:USD": -10, "from:USD": 10}


def test_what_was_given_back_beyond_what_was_posted_is_booked_in_suspense() -> None:
    back = suspending(name="back", legs=[{**MOVED, "reverses": {"recipe": "hold", "leg": "held"}}])
    earlier = earlier_of(Transfer(uuid4(), "a", "b", "USD", 10))
    on = books(balance("a"), balance("b"))
    assert moves(post(back, {"amount": usd(8)}, on, posted=earlier)) == [("moved", "b", "a", 8)]
    beyond = post(back, {"amount": usd(3)}, on, posted=earlier)
    assert moves(beyond) == [("moved", "suspense:b", "suspense:a", 3)]
    assert [made.reverses for made in beyond.made] == [None], "nothing of it was taken back"
    assert told(beyond.suspended).startswith(
        "leg moved is booked on suspense:b, since account b is given back more than was posted on it"
    )
    assert moves(post(back, {"amount": usd(2)}, on, posted=earlier)) == [("moved", "b", "a", 2)]


def test_a_reversal_of_nothing_is_refused_or_goes_where_it_says() -> None:
    with pytest.raises(RecipeRefused) as refused:
        post(reversing(), {"amount": usd(4)})
    assert refused.value.metadata["result"] == "EARLIER_LEG_NOT_FOUND"
    named = recipe(
        moving(
            name="back",
            legs=[{**MOVED, "reverses": {"recipe": "hold", "leg": "held"}}],
        )
    )
    assert moves(post(named, {"amount": usd(4)})) == [("moved", "to:USD", "from:USD", 4)]


def test_a_transfer_by_its_id_stands_for_a_leg_that_no_recipe_posted() -> None:
    standing = Transfer(uuid4(), "suspense:to:USD", "elsewhere", "USD", 10)
    reverses = {"recipe": "hold", "leg": "held", "transfer": "{by}"}
    made_by = recipe(
        moving(
            parameters=[AMOUNT, parameter("by", "TEXT", optional=True)],
            accounts=[],
            legs=[{"name": "back", "amount": "amount", "reverses": reverses}],
        )
    )
    on = books(balance("suspense:to:USD", LIABILITY), balance("elsewhere", AccountType.INCOME))
    values: dict[str, Value] = {"amount": usd(4), "by": str(standing.transfer_id)}
    posted: Posted = {standing.transfer_id: standing}
    assert moves(post(made_by, values, on, posted=posted)) == [
        ("back", "elsewhere", "suspense:to:USD", 4)
    ]
    with pytest.raises(RecipeRefused):
        post(made_by, {"amount": usd(4)}, on, posted=posted)


def test_a_reversal_is_in_the_currency_of_what_it_reverses() -> None:
    earlier = earlier_of(Transfer(uuid4(), "a", "b", "USD", 10))
    with pytest.raises(InvalidField, match="must be in USD"):
        post(reversing(), {"amount": Money("EUR", 4)}, posted=earlier)


def test_a_fact_makes_so_many_transfers_at_most() -> None:
    line = {"currency": "{price.currency}", "type": "ACCOUNT_TYPE_ASSET"}
    document = {
        "name": "sell",
        "parameters": [parameter("lines", "LIST", group=[parameter("price", "AMOUNT")])],
        "accounts": [
            {"name": "shelf", "account_id": "shelf", **line},
            {"name": "sold", "account_id": "sold", **line},
        ],
        "legs": [
            {
                "name": "out",
                "for_each": "lines",
                "debit": "sold",
                "credit": "shelf",
                "amount": "price",
            }
        ],
    }
    made_by = recipe(document)
    fact = Fact("sell", 0, {"lines": ({"price": usd(1)},) * 8191}, REFERENCE)
    with pytest.raises(InvalidField, match="more than 8190"):
        post(made_by, bound(made_by, fact))
