"""What is wrong with a recipe is found when it is stored, and told with its place."""

from __future__ import annotations

from typing import Any

import pytest

from services.ledger.domain.recipes.checks import check, faults
from services.ledger.domain.recipes.errors import RecipeInvalid
from services.runtime.errors import InvalidField
from tests.support.ledger.posting_recipes import account, moving, parameter, recipe

AMOUNT = parameter("amount", "AMOUNT")
MOVED = {"name": "moved", "debit": "to", "credit": "from", "amount": "amount"}
LINES = parameter("lines", "LIST", group=[parameter("price", "AMOUNT"), parameter("sku", "NAME")])
LINE = {"currency": "{price.currency}", "type": "ACCOUNT_TYPE_ASSET"}
HALVES = [{"name": "a", "percent": "50"}, {"name": "b", "percent": "50"}]


def of_legs(*legs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return moving(legs=list(legs), **more)


def of_parameters(*parameters: dict[str, Any]) -> dict[str, Any]:
    """The smallest recipe with more parameters, all of them used."""
    metadata = {item["name"]: f"{{{item['name']}}}" for item in parameters}
    return of_legs({**MOVED, "metadata": metadata}, parameters=[AMOUNT, *parameters])


def split(**changes: Any) -> dict[str, Any]:
    """A recipe that splits its amount in two halves."""
    allocation = {"name": "s", "of": "amount", "residual_owner": "a", "parts": HALVES, **changes}
    legs = [
        {**MOVED, "name": part["name"], "amount": f"s.{part['name']}"}
        for part in allocation["parts"]
    ]
    return moving(allocations=[allocation], legs=legs)


def with_account(**changes: Any) -> dict[str, Any]:
    return moving(accounts=[account("from"), account("to", **changes)])


def holding(**more: Any) -> dict[str, Any]:
    return {"name": "end", "kind": "KIND_POST_PENDING", **more}


FROM_SOURCES = {"name": "moved", "credit": "from", "amount": "amount"}

UNSOUND: dict[str, tuple[dict[str, Any], str, str]] = {
    "a name twice": (
        moving(parameters=[AMOUNT, AMOUNT]),
        "parameters",
        "'amount' stands 2 times",
    ),
    "an account twice": (
        moving(accounts=[account("from"), account("to"), account("to")]),
        "accounts",
        "'to' stands 2 times",
    ),
    "a leg twice": (of_legs(MOVED, MOVED), "legs", "'moved' stands 2 times"),
    "a value of a group named as a parameter": (
        of_parameters(parameter("rows", "LIST", group=[AMOUNT])),
        "parameters[1].group",
        "is the name of a parameter of the recipe too",
    ),
    "a parameter named reference": (
        of_parameters(parameter("reference", "TEXT")),
        "parameters[1].name",
        "stands for the reference",
    ),
    "a list without a group": (
        of_parameters(parameter("rows", "LIST")),
        "parameters[1].group",
        "a list says what its groups hold",
    ),
    "a text with a group": (
        of_parameters(parameter("note", "TEXT", group=[parameter("x", "TEXT")])),
        "parameters[1].group",
        "a list says what its groups hold",
    ),
    "a list in a list": (
        of_parameters(parameter("rows", "LIST", group=[parameter("x", "LIST")])),
        "parameters[1].group[0].type",
        "holds no lists",
    ),
    "a text that agrees in its currency": (
        of_parameters(parameter("note", "TEXT", same_currency_as="amount")),
        "parameters[1].same_currency_as",
        "only amounts and currencies",
    ),
    "an amount that agrees with nothing": (
        of_parameters(parameter("fee", "AMOUNT", same_currency_as="price")),
        "parameters[1].same_currency_as",
        "there is no other parameter 'price'",
    ),
    "an amount that agrees with itself": (
        of_parameters(parameter("fee", "AMOUNT", same_currency_as="fee")),
        "parameters[1].same_currency_as",
        "there is no other parameter 'fee'",
    ),
    "an amount that agrees with a text": (
        of_parameters(
            parameter("note", "TEXT"), parameter("fee", "AMOUNT", same_currency_as="note")
        ),
        "parameters[2].same_currency_as",
        "neither an amount nor a currency",
    ),
    "an amount that agrees with one that agrees": (
        of_parameters(
            parameter("fee", "AMOUNT", same_currency_as="amount"),
            parameter("tip", "AMOUNT", same_currency_as="fee"),
        ),
        "parameters[2].same_currency_as",
        "name that one",
    ),
    "a parameter that nothing uses": (
        moving(parameters=[AMOUNT, parameter("note", "TEXT")]),
        "parameters[1]",
        "nothing uses parameter 'note'",
    ),
    "a value of a group that nothing uses": (
        moving(
            parameters=[AMOUNT, LINES],
            accounts=[
                account("from"),
                account("to"),
                {"name": "shelf", "account_id": "shelf", **LINE},
                {"name": "sold", "account_id": "sold", **LINE},
            ],
            legs=[
                MOVED,
                {
                    "name": "line",
                    "for_each": "lines",
                    "debit": "shelf",
                    "credit": "sold",
                    "amount": "price",
                },
            ],
        ),
        "parameters[1].group[1]",
        "nothing uses parameter 'sku'",
    ),
    "an account that nobody uses": (
        moving(accounts=[account("from"), account("to"), account("spare")]),
        "accounts[2]",
        "no leg uses account 'spare'",
    ),
    "a part that nobody takes": (
        moving(
            allocations=[{"name": "s", "of": "amount", "residual_owner": "a", "parts": HALVES}],
            legs=[{**MOVED, "amount": "s.a"}],
        ),
        "allocations[0].parts",
        "nobody takes part 'b'",
    ),
    "an account with an unknown parameter": (
        with_account(account_id="to:{who}"),
        "accounts[1].account_id",
        "there is no parameter 'who'",
    ),
    "an account with an amount in its name": (
        with_account(account_id="to:{amount}"),
        "accounts[1].account_id",
        "is of type AMOUNT",
    ),
    "an account with an odd character": (
        with_account(account_id="to me"),
        "accounts[1].account_id",
        "other characters",
    ),
    "an account with a lonely brace": (
        with_account(account_id="to:{amount.currency"),
        "accounts[1].account_id",
        "a brace that belongs to no",
    ),
    "an account whose name can grow too long": (
        with_account(
            account_id="to:{reference.id}:{reference.part}:{reference.kind}:{amount.currency}"
        ),
        "accounts[1].account_id",
        "can become 201 characters long",
    ),
    "an account of suspense whose name can grow too long": (
        {
            **with_account(account_id="x" * 192),
            "on_refusal": "ON_REFUSAL_SUSPENSE",
        },
        "accounts[1].account_id",
        "191 is the limit",
    ),
    "an owner of two parts": (
        with_account(owner="{reference.id}{reference.part}"),
        "accounts[1].owner",
        "64 is the limit",
    ),
    "an unknown part of the reference": (
        with_account(account_id="to:{reference.name}"),
        "accounts[1].account_id",
        "is none of",
    ),
    "an unknown part of an amount": (
        with_account(account_id="to:{amount.code}"),
        "accounts[1].account_id",
        "is not known",
    ),
    "a currency that is no place": (
        with_account(currency="USD"),
        "accounts[1].currency",
        "must be one parameter in braces",
    ),
    "the currency of a reference": (
        with_account(currency="{reference.id}"),
        "accounts[1].currency",
        "a reference has no currency",
    ),
    "the amount as a currency": (
        with_account(currency="{amount}"),
        "accounts[1].currency",
        "is no currency",
    ),
    "both sides bounded": (
        with_account(
            flags={"debits_must_not_exceed_credits": True, "credits_must_not_exceed_debits": True}
        ),
        "",
        "",
    ),
    "a closed account": (
        with_account(flags={"closed": True}),
        "accounts[1].flags",
        "takes no leg",
    ),
    "metadata of a list": (
        of_legs({**MOVED, "metadata": {"all": "{lines}"}}, parameters=[AMOUNT, LINES]),
        "legs[0].metadata['all']",
        "is a list",
    ),
    "metadata of an unknown parameter": (
        of_legs({**MOVED, "metadata": {"who": "{who}"}}),
        "legs[0].metadata['who']",
        "there is no parameter 'who'",
    ),
    "an allocation of nothing": (split(of="price"), "allocations[0].of", "there is no parameter"),
    "an allocation of a circle": (
        moving(
            allocations=[
                {"name": "s", "of": "t.c", "residual_owner": "a", "parts": HALVES},
                {
                    "name": "t",
                    "of": "s.a",
                    "residual_owner": "c",
                    "parts": [{"name": "c", "rest": True}],
                },
            ],
            legs=[{**MOVED, "amount": "s.b"}],
        ),
        "allocations[0].of",
        "goes round in a circle: s of t of s",
    ),
    "an allocation of an unknown list": (
        split(for_each="rows"),
        "allocations[0].for_each",
        "there is no list 'rows'",
    ),
    "an allocation without a residual owner": (
        split(residual_owner=""),
        "allocations[0].residual_owner",
        "is required",
    ),
    "an allocation with a foreign residual owner": (
        split(residual_owner="c"),
        "allocations[0].residual_owner",
        "there is no part 'c'",
    ),
    "percents over a hundred": (
        split(parts=[HALVES[0], {"name": "b", "percent": "50.1"}]),
        "allocations[0].parts",
        "add up to 100.1, more than 100",
    ),
    "percents under a hundred": (
        split(parts=[HALVES[0], {"name": "b", "percent": "49.9"}]),
        "allocations[0].parts",
        "one of them must be the rest",
    ),
    "no percent at all": (
        split(parts=[HALVES[0], {"name": "b", "percent": "0"}]),
        "allocations[0].parts[1]",
        "above 0",
    ),
    "two rests": (
        split(parts=[{"name": "a", "rest": True}, {"name": "b", "rest": True}]),
        "allocations[0].parts",
        "only one part can be the rest",
    ),
    "a leg for each group of no list": (
        of_legs({**MOVED, "for_each": "amount"}),
        "legs[0].for_each",
        "there is no list 'amount'",
    ),
    "a condition on nothing": (
        of_legs({**MOVED, "when": "who"}),
        "legs[0].when",
        "there is no parameter 'who'",
    ),
    "a leg without an amount": (
        of_legs({"name": "moved", "debit": "to", "credit": "from"}),
        "legs[0].amount",
        "is required",
    ),
    "a leg of a text": (
        of_legs({**MOVED, "amount": "note"}, parameters=[AMOUNT, parameter("note", "TEXT")]),
        "legs[0].amount",
        "is no amount",
    ),
    "a leg of an unknown allocation": (
        of_legs({**MOVED, "amount": "s.a"}),
        "legs[0].amount",
        "there is no allocation 's'",
    ),
    "a leg of an unknown part": (
        {**split(), "legs": [{**MOVED, "amount": "s.c"}]},
        "legs[0].amount",
        "has no part 'c'",
    ),
    "a leg without a side": (
        of_legs({"name": "moved", "debit": "to", "amount": "amount"}),
        "legs[0].credit",
        "is required",
    ),
    "a leg to an unknown account": (
        of_legs({**MOVED, "debit": "there"}),
        "legs[0].debit",
        "there is no account 'there'",
    ),
    "a leg from an account to itself": (
        of_legs({**MOVED, "debit": "from"}),
        "legs[0].credit",
        "must be another account",
    ),
    "a leg to an account of another currency": (
        moving(
            parameters=[AMOUNT, parameter("price", "AMOUNT")],
            accounts=[account("from"), account("to", currency="{price.currency}")],
        ),
        "legs[0].debit",
        "can differ from that of the amount",
    ),
    "a leg to an account that it does not see": (
        moving(
            parameters=[AMOUNT, LINES],
            accounts=[account("from"), account("to", account_id="to:{sku}")],
        ),
        "legs[0].debit",
        "needs sku, which the leg does not see",
    ),
    "a leg that needs what may be missing": (
        moving(
            parameters=[AMOUNT, parameter("who", "PARTY", optional=True)],
            accounts=[account("from"), account("to", account_id="to:{who}")],
        ),
        "legs[0].when",
        "must name 'who'",
    ),
    "a timeout of what is no hold": (
        of_legs({**MOVED, "timeout": "5s"}),
        "legs[0].kind",
        "only a hold has a timeout",
    ),
    "the end of no hold": (
        of_legs(MOVED, holding()),
        "legs[1].hold",
        "is required",
    ),
    "the end of a hold between accounts": (
        of_legs(MOVED, {**holding(hold={"recipe": "r", "leg": "l"}), "debit": "to"}),
        "legs[1].hold",
        "gives the accounts",
    ),
    "the end of a hold where nothing is refused": (
        of_legs(MOVED, holding(hold={"recipe": "r", "leg": "l"}), on_refusal="ON_REFUSAL_SUSPENSE"),
        "legs[1].kind",
        "cannot be refused",
    ),
    "a signed end of a hold": (
        of_legs(
            MOVED,
            holding(hold={"recipe": "r", "leg": "l"}, amount="part"),
            parameters=[AMOUNT, parameter("part", "SIGNED_AMOUNT")],
        ),
        "legs[1].amount",
        "may be negative",
    ),
    "a hold that is ended by a leg that moves": (
        of_legs({**MOVED, "hold": {"recipe": "r", "leg": "l"}}),
        "legs[0].hold",
        "ends none",
    ),
    "a reversal without accounts where nothing is refused": (
        of_legs(
            MOVED,
            {"name": "back", "amount": "amount", "reverses": {"recipe": "r", "leg": "l"}},
            on_refusal="ON_REFUSAL_SUSPENSE",
        ),
        "legs[1].debit",
        "is required",
    ),
    "sources beside an account": (
        of_legs({**MOVED, "debit_from": [{"account": "to"}]}),
        "legs[0].debit_from",
        "beside debit",
    ),
    "sources on both sides": (
        of_legs(
            {
                "name": "moved",
                "amount": "amount",
                "debit_from": [{"account": "to"}],
                "credit_from": [{"account": "from"}],
            }
        ),
        "legs[0].credit_from",
        "one side only",
    ),
    "a source behind one that takes all": (
        of_legs(
            {
                **FROM_SOURCES,
                "debit_from": [{"account": "to", "unbounded": True}, {"account": "more"}],
            },
            accounts=[account("from"), account("to"), account("more")],
        ),
        "legs[0].debit_from[0]",
        "is ever reached",
    ),
    "a source twice": (
        of_legs({**FROM_SOURCES, "debit_from": [{"account": "to"}, {"account": "to"}]}),
        "legs[0].debit_from",
        "stands twice",
    ),
    "sources of a signed amount": (
        of_legs(
            {**FROM_SOURCES, "debit_from": [{"account": "to"}]},
            parameters=[parameter("amount", "SIGNED_AMOUNT")],
        ),
        "legs[0].amount",
        "cannot be taken from sources",
    ),
    "sources that can run out where nothing is refused": (
        of_legs(
            {**FROM_SOURCES, "debit_from": [{"account": "to"}]}, on_refusal="ON_REFUSAL_SUSPENSE"
        ),
        "legs[0].debit_from",
        "must be unbounded",
    ),
    "a cap in another currency": (
        of_legs(
            {**FROM_SOURCES, "debit_from": [{"account": "to", "up_to": "cap"}]},
            parameters=[AMOUNT, parameter("cap", "AMOUNT")],
        ),
        "legs[0].debit_from[0].up_to",
        "currency can differ",
    ),
    "a cap that may be missing": (
        of_legs(
            {**FROM_SOURCES, "debit_from": [{"account": "to", "up_to": "cap"}]},
            parameters=[
                AMOUNT,
                parameter("cap", "AMOUNT", same_currency_as="amount", optional=True),
            ],
        ),
        "legs[0].debit_from[0].up_to",
        "a cap needs a size",
    ),
}
# What the rules of the message refuse before.
BY_THE_MESSAGE = {"both sides bounded"}


@pytest.mark.parametrize("name", sorted(UNSOUND.keys() - BY_THE_MESSAGE))
def test_what_is_not_sound_is_told_with_its_place(name: str) -> None:
    document, place, words = UNSOUND[name]
    found = faults(recipe(document))
    at_place = [fault.description for fault in found if fault.place == place]
    assert any(words in description for description in at_place), found


@pytest.mark.parametrize("name", sorted(BY_THE_MESSAGE))
def test_the_message_itself_has_rules(name: str) -> None:
    with pytest.raises(InvalidField):
        recipe(UNSOUND[name][0])


def test_a_type_of_account_that_there_is_not_is_refused_by_the_message() -> None:
    with pytest.raises(InvalidField, match="ACCOUNT_TYPE_ASSET"):
        recipe(with_account(type="ACCOUNT_TYPE_CASH"))


def test_the_smallest_recipe_is_sound() -> None:
    check(recipe(moving()))


def test_every_fault_is_told_at_once() -> None:
    document = moving(
        parameters=[AMOUNT, parameter("note", "TEXT")], accounts=[account("from"), account("x")]
    )
    with pytest.raises(RecipeInvalid) as refused:
        check(recipe(document))
    assert [field.field for field in refused.value.fields] == [
        "recipe.legs[0].debit",
        "recipe.accounts[1]",
        "recipe.parameters[1]",
    ]
    assert refused.value.metadata["recipe"] == "move"
    assert refused.value.metadata["place"] == "legs[0].debit"


def test_a_bad_amount_hides_no_other_fault() -> None:
    leg = {
        "name": "moved",
        "debit": "nowhere",
        "credit_from": [
            {"account": "from", "unbounded": True},
            {"account": "from", "up_to": "ghost"},
        ],
        "amount": "note",
    }
    document = moving(
        parameters=[AMOUNT, parameter("note", "TEXT")],
        accounts=[account("from")],
        legs=[leg, {**leg, "name": "other", "for_each": "rows"}],
        allocations=[
            {
                "name": "parts",
                "of": "note",
                "parts": [{"name": "a", "rest": True}, {"name": "b", "rest": True}],
                "residual_owner": "c",
            }
        ],
        on_refusal="ON_REFUSAL_SUSPENSE",
    )
    places = [fault.place for fault in faults(recipe(document))]
    of_amount = ["amount", "credit_from[0]", "credit_from[1].up_to", "credit_from"]
    assert places == [
        "allocations[0].of",
        "allocations[0].residual_owner",
        "allocations[0].parts",
        "legs[0].debit",
        "legs[0].credit_from",
        *(f"legs[0].{field}" for field in of_amount),
        "legs[1].for_each",
        "legs[1].debit",
        "legs[1].credit_from",
        *["allocations[0].parts"] * 2,
    ]


SHARE = parameter("fee", "AMOUNT", same_currency_as="amount")
IN_PARTS = [{"name": "a", "rest": True}, {"name": "b", "amount": "fee"}]


@pytest.mark.parametrize(
    ("kind", "share", "words"),
    [
        ("amount", parameter("fee", "AMOUNT"), "the currency of 'fee' can differ"),
        ("amount", {**SHARE, "optional": True}, "may be missing"),
        ("amount", parameter("fee", "TEXT"), "is no amount"),
        ("rate", SHARE, "is no rate"),
        ("amount", parameter("tip", "AMOUNT"), "there is no parameter 'fee'"),
    ],
)
def test_a_part_needs_a_size_that_is_always_there(
    kind: str, share: dict[str, Any], words: str
) -> None:
    document = split(parts=[{"name": "a", "rest": True}, {"name": "b", kind: "fee"}])
    document["parameters"] = [AMOUNT, share]
    found = {fault.place: fault.description for fault in faults(recipe(document))}
    assert words in found["allocations[0].parts[1]"]


def test_a_fixed_part_owns_no_residue() -> None:
    document = split(parts=IN_PARTS, residual_owner="b")
    document["parameters"] = [AMOUNT, SHARE]
    (fault,) = faults(recipe(document))
    assert (fault.place, "takes nothing more" in fault.description) == (
        "allocations[0].residual_owner",
        True,
    )
