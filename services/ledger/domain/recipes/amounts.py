"""Amounts that legs, parts and sources name: a parameter, or a part of an allocation."""

from __future__ import annotations

from dataclasses import dataclass

from services.ledger.domain.recipes.parameters import Parameter, ParameterType
from services.ledger.domain.recipes.recipe import Allocation, Recipe


@dataclass(frozen=True, slots=True)
class AmountKind:
    """What is known of a named amount before any value is.

    Attributes:
        currency: a key that is the same for amounts whose currencies always agree.
        root: the parameter that it comes from.
        is_signed: it may be below zero.
    """

    currency: str
    root: str
    is_signed: bool


def currency_key(parameter: Parameter) -> str:
    """Return a key that is the same for parameters whose currencies always agree."""
    return parameter.same_currency_as or parameter.name


def allocation_of(amount: str) -> str:
    """Return the allocation that `allocation.part` names; an empty text for a parameter."""
    return amount.partition(".")[0] if "." in amount else ""


def amount_kind(recipe: Recipe, amount: str, for_each: str) -> AmountKind | str:
    """Return what is known of a named amount, or what is wrong with the name.

    `for_each` is the list whose groups it is used for. Allocations must not go round in circles.
    """
    name, _, part = amount.partition(".")
    if part:
        return _part_kind(recipe, name, part, for_each)
    parameter = recipe.in_scope(for_each).get(name)
    if parameter is None:
        return f"there is no parameter {name!r} here"
    if not parameter.type.is_amount:
        return f"{name!r} is no amount"
    is_signed = parameter.type is ParameterType.SIGNED_AMOUNT
    return AmountKind(currency_key(parameter), parameter.name, is_signed)


def _part_kind(recipe: Recipe, name: str, part: str, for_each: str) -> AmountKind | str:
    allocation = _allocation(recipe, name)
    if allocation is None:
        return f"there is no allocation {name!r}"
    if part not in {each.name for each in allocation.parts}:
        return f"allocation {name!r} has no part {part!r}"
    if allocation.for_each not in ("", for_each):
        return f"allocation {name!r} is made for each group of {allocation.for_each!r}"
    return amount_kind(recipe, allocation.of, allocation.for_each)


def _allocation(recipe: Recipe, name: str) -> Allocation | None:
    return next((each for each in recipe.allocations if each.name == name), None)
