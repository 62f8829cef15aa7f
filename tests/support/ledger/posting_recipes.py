"""Recipes as people write them, and what they make of facts on books in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from services.ledger.domain.accounts import AccountType, Flags
from services.ledger.domain.balance import Balance
from services.ledger.domain.recipes.evaluation import Fact, Posted, bound, evaluate
from services.ledger.domain.recipes.judging import Judged, OpenBooks, judge
from services.ledger.domain.recipes.parameters import Value
from services.ledger.domain.recipes.recipe import Recipe
from services.ledger.domain.transfers import Reference, Transfer
from services.ledger.messages.recipes import recipe_of_document
from services.runtime.money import Money

NOW = datetime(2026, 3, 1, tzinfo=UTC)
REFERENCE = Reference("order", "o-1")
TENANT = "t"


def usd(minor_units: int) -> Money:
    """An amount in dollars."""
    return Money("USD", minor_units)


def account(name: str, **more: Any) -> dict[str, Any]:
    """Write a template of an account in the currency of `amount`."""
    return {
        "name": name,
        "account_id": f"{name}:{{amount.currency}}",
        "currency": "{amount.currency}",
        "type": "ACCOUNT_TYPE_ASSET",
        **more,
    }


def parameter(name: str, kind: str, **more: Any) -> dict[str, Any]:
    """Write a parameter."""
    return {"name": name, "type": f"PARAMETER_TYPE_{kind}", **more}


def moving(**changes: Any) -> dict[str, Any]:
    """Write the smallest recipe, with changes: an amount goes from one account to another."""
    return {
        "name": "move",
        "parameters": [parameter("amount", "AMOUNT")],
        "accounts": [account("from"), account("to")],
        "legs": [{"name": "moved", "debit": "to", "credit": "from", "amount": "amount"}],
        **changes,
    }


def recipe(document: Mapping[str, Any]) -> Recipe:
    """Read a recipe, sound or not."""
    return recipe_of_document(dict(document))


def books(*balances: Balance) -> OpenBooks:
    """Open books of these accounts."""
    return OpenBooks({each.account_id: each for each in balances}, {}, TENANT, NOW)


def balance(
    account_id: str, kind: AccountType = AccountType.ASSET, *, closed: bool = False, **sums: Any
) -> Balance:
    """A locked account in dollars."""
    flags = sums.pop("flags", Flags(closed=closed))
    return Balance(account_id, "USD", kind, flags, closed=closed, **sums)


def post(
    made_by: Recipe,
    values: Mapping[str, Value],
    on: OpenBooks | None = None,
    *,
    reference: Reference = REFERENCE,
    posted: Posted | None = None,
) -> Judged:
    """Post a fact on books in memory."""
    fact = Fact(made_by.name, 0, values, reference)
    plan = evaluate(made_by, fact, bound(made_by, fact), posted or {})
    return judge(plan, books() if on is None else on, 0)


def moves(judged: Judged) -> list[tuple[str, str, str, int]]:
    """Name leg, debited account, credited account and amount of each transfer."""
    return [
        (
            made.leg,
            made.resolved.debit_account_id,
            made.resolved.credit_account_id,
            made.resolved.amount_minor or 0,
        )
        for made in judged.made
    ]


def transfers(judged: Judged) -> list[Transfer]:
    """The transfers as they are posted."""
    return [made.asked for made in judged.made]


def net(balances: Iterable[Balance]) -> dict[str, int]:
    """Debits less credits of accounts, by name."""
    return {each.account_id: each.debits_posted - each.credits_posted for each in balances}
