"""Laws of all recipes: a sound one balances whatever its parameters are, and sums to what came in."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.ledger.domain.accounts import AccountType
from services.ledger.domain.balance import Balance
from services.ledger.domain.recipes.checks import check
from services.ledger.domain.recipes.errors import RecipeRefused
from services.ledger.domain.recipes.judging import Judged, OpenBooks
from services.ledger.domain.recipes.parameters import Value
from services.ledger.domain.recipes.recipe import Recipe
from services.ledger.messages import recipes as messages
from services.runtime.errors import InvalidField
from services.runtime.money import EXPONENTS, Money
from tests.support.ledger.posting_recipes import (
    account,
    balance,
    books,
    moving,
    parameter,
    post,
    recipe,
    transfers,
)

CURRENCIES = st.sampled_from(sorted(EXPONENTS))
SIGNED = st.integers(-(10**15), 10**15)
NAMES = st.text("abcdefgh", min_size=1, max_size=6)


@st.composite
def allocations(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a split of the amount: percents with up to three places, rates, a fixed part, the rest."""
    left = Decimal(100)
    parts: list[dict[str, Any]] = []
    for at in range(draw(st.integers(0, 4))):
        percent = Decimal(draw(st.integers(1, int(left * 1000) or 1))) / 1000
        if percent > left:
            break
        left -= percent
        parts.append({"name": f"p{at}", "percent": f"{percent:f}"})
    for at in range(draw(st.integers(0, 2))):
        parts.append({"name": f"r{at}", "rate": f"rate{at}"})
    if draw(st.booleans()):
        parts.append({"name": "f", "amount": "fixed"})
    parts.insert(draw(st.integers(0, len(parts))), {"name": "rest", "rest": True})
    owners = [part["name"] for part in parts if "amount" not in part]
    return {
        "name": "s",
        "of": "amount",
        "parts": parts,
        "residual_owner": draw(st.sampled_from(owners)),
    }


@st.composite
def splits(draw: st.DrawFn) -> Recipe:
    """Draw a sound recipe that posts a leg for each part of an allocation, some to accounts of their own."""
    allocation = draw(allocations())
    parts = allocation["parts"]
    own = {part["name"] for part in parts if draw(st.booleans())}
    legs = [
        {
            "name": part["name"],
            "debit": "to",
            "credit": part["name"] if part["name"] in own else "from",
            "amount": f"s.{part['name']}",
        }
        for part in draw(st.permutations(parts))
    ]
    used = [leg["credit"] for leg in legs]
    return recipe(
        moving(
            parameters=[
                parameter("amount", "SIGNED_AMOUNT"),
                *(parameter(part["rate"], "RATE") for part in parts if "rate" in part),
                *(
                    parameter("fixed", "SIGNED_AMOUNT", same_currency_as="amount")
                    for part in parts
                    if "amount" in part
                ),
            ],
            accounts=[account("to"), *(account(name) for name in sorted(set(used)))],
            allocations=[allocation],
            legs=legs,
        )
    )


@st.composite
def facts(draw: st.DrawFn, made_by: Recipe) -> dict[str, Value]:
    """Draw parameters that a recipe takes."""
    currency = draw(CURRENCIES)
    values: dict[str, Value] = {}
    for each in made_by.parameters:
        if each.name.startswith("rate"):
            values[each.name] = Decimal(draw(st.integers(0, 10**6))) / 10**6
        else:
            values[each.name] = Money(currency, draw(SIGNED))
    return values


def assert_balanced(judged: Judged, on: OpenBooks) -> None:
    """Debits equal credits in each currency, and each transfer is between accounts of its own."""
    sums: dict[str, int] = defaultdict(int)
    for each in on.balances.values():
        sums[each.currency_code] += each.debits_posted - each.credits_posted
    assert not any(sums.values())
    for transfer in transfers(judged):
        assert transfer.amount_minor is not None
        assert transfer.amount_minor > 0
        for name in (transfer.debit_account_id, transfer.credit_account_id):
            assert on.balances[name].currency_code == transfer.currency_code
    ids = [transfer.transfer_id for transfer in transfers(judged)]
    assert len(set(ids)) == len(ids)
    assert [transfer.linked for transfer in transfers(judged)][-1:] in ([], [False])
    assert all(transfer.linked for transfer in transfers(judged)[:-1])


@settings(max_examples=150)
@given(st.data())
def test_parts_sum_to_the_whole_whatever_it_is(data: st.DataObject) -> None:
    made_by = data.draw(splits())
    check(made_by)
    values = data.draw(facts(made_by))
    on = books()
    try:
        judged = post(made_by, values, on)
    except InvalidField as refused:
        # Only parameters can be more than the whole.
        assert len(made_by.parameters) > 1, refused
        assume(False)
    assert_balanced(judged, on)
    whole = values["amount"]
    assert isinstance(whole, Money)
    into = on.balances.get(f"to:{whole.currency_code}")
    assert (into.debits_posted - into.credits_posted if into else 0) == whole.minor_units
    again = post(made_by, values)
    assert transfers(again) == transfers(judged), "the same fact makes the same transfers"


@settings(max_examples=100)
@given(splits())
def test_a_recipe_is_read_back_as_it_was_stored(made_by: Recipe) -> None:
    assert messages.stored_recipe_of(messages.document(made_by)) == made_by
    assert messages.recipe_of(messages.recipe(made_by)) == made_by


@settings(max_examples=200)
@given(
    st.integers(1, 10**6),
    st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.booleans()),
        min_size=1,
        max_size=5,
    ),
)
def test_sources_give_the_whole_or_nothing_and_none_more_than_it_has(
    asked: int, held: list[tuple[int, int, bool]]
) -> None:
    names = [f"w{at}" for at in range(len(held))]
    caps = [parameter(f"cap_{name}", "AMOUNT", same_currency_as="amount") for name in names]
    made_by = recipe(
        moving(
            parameters=[parameter("amount", "AMOUNT"), *caps],
            accounts=[
                account("owed"),
                *(account(name, type="ACCOUNT_TYPE_LIABILITY") for name in names),
            ],
            legs=[
                {
                    "name": "paid",
                    "credit": "owed",
                    "amount": "amount",
                    "debit_from": [
                        {"account": name, "up_to": f"cap_{name}", "unbounded": unbounded}
                        for name, (_, _, unbounded) in zip(names, held, strict=True)
                    ],
                }
            ],
        )
    )
    check(made_by)
    on = books(
        *(
            balance(f"{name}:USD", AccountType.LIABILITY, credits_posted=has)
            for name, (has, _, _) in zip(names, held, strict=True)
        )
    )
    values: dict[str, Value] = {"amount": Money("USD", asked)}
    values |= {
        f"cap_{name}": Money("USD", cap) for name, (_, cap, _) in zip(names, held, strict=True)
    }
    offered = [cap if unbounded else min(has, cap) for has, cap, unbounded in held]
    try:
        post(made_by, values, on)
    except RecipeRefused as refused:
        assert refused.metadata["result"] == "SOURCES_EXHAUSTED"
        assert sum(offered) < asked
        assert all(not each.debits_posted for each in on.balances.values())
        return
    assert sum(offered) >= asked
    left = asked
    for name, most in zip(names, offered, strict=True):
        taken = on.balances[f"{name}:USD"].debits_posted
        assert taken == min(left, most), "in their order, each as far as it goes"
        left -= taken
    assert left == 0


REFUSALS = st.sampled_from(["open", "closed", "type", "missing"])


def standing(name: str, how: str) -> list[Balance]:
    if how == "missing":
        return []
    kind = AccountType.LIABILITY if how == "type" else AccountType.ASSET
    return [balance(name, kind, closed=how == "closed")]


@given(st.tuples(*[REFUSALS] * 4), st.integers(-100, 100))
def test_what_has_happened_is_booked_however_its_accounts_stand(
    how: tuple[str, ...], amount: int
) -> None:
    made_by = recipe(
        moving(parameters=[parameter("amount", "SIGNED_AMOUNT")], on_refusal="ON_REFUSAL_SUSPENSE")
    )
    names = ("to:USD", "suspense:to:USD", "from:USD", "suspense:from:USD")
    on = books(
        *(each for name, state in zip(names, how, strict=True) for each in standing(name, state))
    )
    judged = post(made_by, {"amount": Money("USD", amount)}, on)
    assert sum(made.resolved.amount_minor or 0 for made in judged.made) == abs(amount)
    assert_balanced(judged, on)
    refuses = [state in ("closed", "type") for state in how]
    assert len(judged.suspended) == (refuses[0] + refuses[2] if amount else 0)


@given(NAMES, st.integers(1, 10**9), CURRENCIES)
def test_a_fact_below_zero_is_the_opposite_of_one_above(name: str, amount: int, code: str) -> None:
    made_by = recipe(moving(name=f"r{name}", parameters=[parameter("amount", "SIGNED_AMOUNT")]))
    on = books()
    post(made_by, {"amount": Money(code, amount)}, on)
    post(made_by, {"amount": Money(code, -amount)}, on)
    assert {each.debits_posted - each.credits_posted for each in on.balances.values()} == {0}
