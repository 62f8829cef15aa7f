"""Whether the allocations of a recipe are sound: their parts sum to the whole, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from services.ledger.domain.recipes.amounts import (
    AmountKind,
    allocation_of,
    amount_kind,
    currency_key,
)
from services.ledger.domain.recipes.errors import Fault
from services.ledger.domain.recipes.parameters import Parameter, ParameterType
from services.ledger.domain.recipes.recipe import Allocation, Part, Recipe, ShareKind

_T = ParameterType
_WHOLE = Decimal(100)


def circles(recipe: Recipe) -> Iterator[Fault]:
    """List the allocations that split, in the end, a part of themselves."""
    split = {each.name: allocation_of(each.of) for each in recipe.allocations}
    for at, allocation in enumerate(recipe.allocations):
        path = [allocation.name]
        while (name := split.get(path[-1], "")) and name not in path:
            path.append(name)
        if name == allocation.name:
            round_trip = " of ".join([*path, name])
            yield Fault(f"allocations[{at}].of", f"goes round in a circle: {round_trip}")


def faults(recipe: Recipe) -> Iterator[Fault]:
    """List what is wrong with the allocations; none of them goes round in circles."""
    for at, allocation in enumerate(recipe.allocations):
        place = f"allocations[{at}]"
        yield from _sizes(recipe, allocation, place)
        yield from _residual(allocation, place)
        yield from _sum(allocation, place)


def _sizes(recipe: Recipe, allocation: Allocation, place: str) -> Iterator[Fault]:
    """What is split, and how large the parts are; for a whole that there is not, what does not hang on it."""
    listed = {each.name: each for each in recipe.parameters}.get(allocation.for_each)
    if allocation.for_each and (listed is None or listed.type is not _T.LIST):
        # Which parameters it sees nobody can tell.
        yield Fault(f"{place}.for_each", f"there is no list {allocation.for_each!r}")
        return
    whole = amount_kind(recipe, allocation.of, allocation.for_each)
    if isinstance(whole, str):
        yield Fault(f"{place}.of", whole)
    known = None if isinstance(whole, str) else whole
    scope = recipe.in_scope(allocation.for_each)
    for inner, part in enumerate(allocation.parts):
        for fault in _part_faults(part, known, scope):
            yield Fault(f"{place}.parts[{inner}]", fault)


def _part_faults(
    part: Part, whole: AmountKind | None, scope: Mapping[str, Parameter]
) -> Iterator[str]:
    if part.kind is ShareKind.REST:
        return
    if part.kind is ShareKind.PERCENT:
        if not 0 < Decimal(part.share) <= _WHOLE:
            yield "must be above 0 and up to 100 percent"
        return
    parameter = scope.get(part.share)
    if parameter is None:
        yield f"there is no parameter {part.share!r} here"
        return
    is_amount = part.kind is ShareKind.AMOUNT
    if parameter.optional:
        yield f"{part.share!r} may be missing: a part needs a size"
    if not is_amount and parameter.type is not _T.RATE:
        yield f"{part.share!r} is no rate"
    elif is_amount and not parameter.type.is_amount:
        yield f"{part.share!r} is no amount"
    elif is_amount and whole and currency_key(parameter) != whole.currency:
        yield (
            f"the currency of {part.share!r} can differ from that of the whole: it needs same_currency_as"
            f" {whole.currency!r}"
        )


def _residual(allocation: Allocation, place: str) -> Iterator[Fault]:
    place = f"{place}.residual_owner"
    if not allocation.residual_owner:
        yield Fault(place, "is required: it says who gets what cannot be split evenly")
        return
    owner = next(
        (each for each in allocation.parts if each.name == allocation.residual_owner), None
    )
    if owner is None:
        yield Fault(place, f"there is no part {allocation.residual_owner!r}")
    elif owner.kind is ShareKind.AMOUNT:
        yield Fault(place, f"part {owner.name!r} is a fixed amount, which takes nothing more")


def _sum(allocation: Allocation, place: str) -> Iterator[Fault]:
    place = f"{place}.parts"
    kinds = [part.kind for part in allocation.parts]
    percents = [Decimal(part.share) for part in allocation.parts if part.kind is ShareKind.PERCENT]
    total = sum(percents, Decimal(0))
    rests = kinds.count(ShareKind.REST)
    if total > _WHOLE:
        yield Fault(place, f"the percents add up to {total}, more than 100")
    elif rests > 1:
        yield Fault(place, "only one part can be the rest")
    elif not rests and (total != _WHOLE or len(percents) != len(kinds)):
        yield Fault(place, "need not sum to the whole: one of them must be the rest")
