"""Splits an amount by an allocation: the parts sum to the whole, always."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from services.ledger.domain.recipes.recipe import Allocation, Part, ShareKind
from services.ledger.domain.recipes.templates import Scope
from services.runtime.errors import InvalidField
from services.runtime.money import CONTEXT, Money, allocate

_WHOLE = Decimal(100)


def split(allocation: Allocation, whole: Money, scope: Scope) -> Mapping[str, Money]:
    """Return the parts by name.

    Percents are of the whole, and largest remainder gives out what they leave, with ties to the residual owner. Fixed
    amounts come off the rest.

    Raises:
        InvalidField: the parts that parameters give are more than the whole, or go the other way.
    """
    fixed = {part.name: _fixed(part, scope) for part in _of(allocation, ShareKind.AMOUNT)}
    percents = {
        part.name: _percent(allocation, part, scope)
        for part in allocation.parts
        if part.kind in (ShareKind.PERCENT, ShareKind.RATE)
    }
    left = _WHOLE - sum(percents.values(), Decimal(0))
    if left < 0:
        raise _too_much(allocation, f"the shares are {_WHOLE - left} % of it")
    rest = next((part.name for part in _of(allocation, ShareKind.REST)), "")
    if rest:
        percents[rest] = left
    parts = _shared(whole, percents, allocation.residual_owner)
    if rest:
        for amount in fixed.values():
            parts[rest] -= amount
    parts |= fixed
    if any(part.minor_units * (-1 if whole.minor_units < 0 else 1) < 0 for part in parts.values()):
        raise _too_much(allocation, "the fixed parts are more than the shares leave of it")
    return parts


def _of(allocation: Allocation, kind: ShareKind) -> list[Part]:
    return [part for part in allocation.parts if part.kind is kind]


def _fixed(part: Part, scope: Scope) -> Money:
    value = scope.value(part.share)
    assert isinstance(value, Money), "checked when the recipe was stored"
    return value


def _percent(allocation: Allocation, part: Part, scope: Scope) -> Decimal:
    if part.kind is ShareKind.PERCENT:
        return Decimal(part.share)
    rate = scope.value(part.share)
    assert isinstance(rate, Decimal), "checked when the recipe was stored"
    if not 0 <= rate <= 1:
        raise InvalidField.one(
            f"parameters.{part.share}",
            f"must be between 0 and 1: it is a share of allocation {allocation.name!r}",
        )
    return CONTEXT.multiply(rate, _WHOLE)


def _shared(whole: Money, percents: Mapping[str, Decimal], owner: str) -> dict[str, Money]:
    # The owner comes last: that is who wins ties.
    names = sorted(percents, key=lambda name: name == owner)
    return dict(zip(names, allocate(whole, [percents[name] for name in names]), strict=True))


def _too_much(allocation: Allocation, why: str) -> InvalidField:
    return InvalidField.one(
        "parameters", f"allocation {allocation.name!r} does not sum to {allocation.of!r}: {why}"
    )
