"""Whether a recipe is sound: all that it names is there, all that it declares is used, and it always balances.

What balances is each leg by itself: one amount, between two accounts of its own currency. So what has to be shown is
that the currencies agree whatever the parameters are, and that the parts of an allocation always sum to the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from services.ledger.domain.recipes import check_allocations, check_legs, check_templates
from services.ledger.domain.recipes.amounts import allocation_of
from services.ledger.domain.recipes.errors import Fault, RecipeInvalid
from services.ledger.domain.recipes.parameters import Parameter, ParameterType
from services.ledger.domain.recipes.recipe import Leg, Recipe
from services.ledger.domain.recipes.templates import REFERENCE, places

_T = ParameterType


def check(recipe: Recipe) -> None:
    """Raises RecipeInvalid, with every fault and its place, unless the recipe is sound."""
    found = faults(recipe)
    if found:
        raise RecipeInvalid.of(recipe.name, found)


def faults(recipe: Recipe) -> list[Fault]:
    """List what is wrong with a recipe, in the order of its parts."""
    found = [*_names(recipe), *_parameters(recipe)]
    circles = list(check_allocations.circles(recipe))
    if found or circles:
        # What names things twice, or in circles, cannot be judged any further.
        return found + circles
    return [
        *check_templates.faults(recipe),
        *check_allocations.faults(recipe),
        *check_legs.faults(recipe),
        *_unused(recipe),
    ]


# ---- Names


def _names(recipe: Recipe) -> Iterator[Fault]:
    yield from _twice("parameters", (item.name for item in recipe.parameters))
    yield from _twice("accounts", (item.name for item in recipe.accounts))
    yield from _twice("allocations", (item.name for item in recipe.allocations))
    yield from _twice("legs", (item.name for item in recipe.legs))
    for at, allocation in enumerate(recipe.allocations):
        yield from _twice(f"allocations[{at}].parts", (part.name for part in allocation.parts))
    own = {item.name for item in recipe.parameters}
    for at, parameter in enumerate(recipe.parameters):
        place = f"parameters[{at}].group"
        yield from _twice(place, (item.name for item in parameter.group))
        for item in parameter.group:
            if item.name in own:
                yield Fault(place, f"{item.name!r} is the name of a parameter of the recipe too")


def _twice(place: str, names: Iterable[str]) -> Iterator[Fault]:
    for name, count in Counter(names).items():
        if count > 1:
            yield Fault(place, f"the name {name!r} stands {count} times")


# ---- Parameters


def _parameters(recipe: Recipe) -> Iterator[Fault]:
    own = {item.name: item for item in recipe.parameters}
    for at, parameter in enumerate(recipe.parameters):
        place = f"parameters[{at}]"
        yield from _parameter(parameter, place, own)
        if (parameter.type is _T.LIST) != bool(parameter.group):
            yield Fault(f"{place}.group", "a list says what its groups hold, and nothing else does")
        seen = own | {item.name: item for item in parameter.group}
        for inner, item in enumerate(parameter.group):
            yield from _parameter(item, f"{place}.group[{inner}]", seen)
            if item.type is _T.LIST:
                yield Fault(f"{place}.group[{inner}].type", "a list holds no lists")


def _parameter(parameter: Parameter, place: str, seen: dict[str, Parameter]) -> Iterator[Fault]:
    if parameter.name == REFERENCE:
        yield Fault(f"{place}.name", f"{REFERENCE!r} stands for the reference of the posting")
    other_name = parameter.same_currency_as
    if not other_name:
        return
    other = seen.get(other_name)
    place = f"{place}.same_currency_as"
    if not (parameter.type.is_amount or parameter.type is _T.CURRENCY):
        yield Fault(place, "only amounts and currencies have a currency")
    elif other is None or other is parameter:
        yield Fault(place, f"there is no other parameter {other_name!r} here")
    elif not (other.type.is_amount or other.type is _T.CURRENCY):
        yield Fault(place, f"{other_name!r} is neither an amount nor a currency")
    elif other.same_currency_as:
        yield Fault(place, f"{other_name!r} refers to {other.same_currency_as!r}: name that one")


# ---- What nobody uses


def _unused(recipe: Recipe) -> Iterator[Fault]:
    accounts = {name for leg in recipe.legs for name in leg.accounts}
    for at, account in enumerate(recipe.accounts):
        if account.name not in accounts:
            yield Fault(f"accounts[{at}]", f"no leg uses account {account.name!r}")
    amounts = set(_amounts(recipe))
    for at, allocation in enumerate(recipe.allocations):
        for part in allocation.parts:
            if f"{allocation.name}.{part.name}" not in amounts:
                yield Fault(
                    f"allocations[{at}].parts",
                    f"nobody takes part {part.name!r}: the legs would not sum to the whole",
                )
    used = _used_parameters(recipe)
    for at, parameter in enumerate(recipe.parameters):
        if parameter.name not in used:
            yield Fault(f"parameters[{at}]", f"nothing uses parameter {parameter.name!r}")
        for inner, item in enumerate(parameter.group):
            if item.name not in used:
                yield Fault(
                    f"parameters[{at}].group[{inner}]", f"nothing uses parameter {item.name!r}"
                )


def _amounts(recipe: Recipe) -> Iterator[str]:
    for leg in recipe.legs:
        yield leg.amount
        yield from (source.up_to for source in leg.sources)
    yield from (allocation.of for allocation in recipe.allocations)


def _used_parameters(recipe: Recipe) -> set[str]:
    used = {amount for amount in _amounts(recipe) if not allocation_of(amount)}
    for allocation in recipe.allocations:
        used.add(allocation.for_each)
        used.update(part.share for part in allocation.parts)
    for template in _templates(recipe):
        used.update(place.name for place in places(template))
    for leg in recipe.legs:
        used.update((leg.for_each, leg.when, leg.unless))
    for parameter in recipe.parameters:
        used.add(parameter.same_currency_as)
        used.update(item.same_currency_as for item in parameter.group)
    return used


def _templates(recipe: Recipe) -> Iterator[str]:
    for account in recipe.accounts:
        yield from (account.account_id, account.currency, account.owner)
        yield from account.metadata.values()
    for leg in recipe.legs:
        yield from leg.metadata.values()
        yield from _earlier_parts(leg)


def _earlier_parts(leg: Leg) -> Iterator[str]:
    for each in (leg.hold, leg.reverses):
        if each is not None:
            yield from (each.part, each.transfer)
