"""What a caller gives a price to be applied to, made into what the price takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from services.pricing.domain.models.parts import EXACT, Source, summed
from services.pricing.domain.models.percentage import Tallying
from services.pricing.domain.prices import Before, Price, Use
from services.pricing.domain.values import ZERO
from services.runtime.errors import InvalidField


@dataclass(frozen=True, slots=True)
class PriceInput:
    """A part of a period, as a caller tells of it.

    Attributes:
        quantity: units; None: not said.
        prior: units of the period before it.
        amounts: amounts of its events, in their order.
        quantities: units by value of the price's dimension.
        prior_event_count: events above zero before it.
        prior_quantities: units before it, by value.
    """

    quantity: Decimal | None = None
    prior: Decimal = ZERO
    amounts: tuple[Decimal, ...] = ()
    quantities: Mapping[str, Decimal] = field(default_factory=dict)
    prior_event_count: int = 0
    prior_quantities: Mapping[str, Decimal] = field(default_factory=dict)


def read(price: Price, given: PriceInput) -> tuple[Use, Before]:
    """Return what a price is applied to, and what came before it.

    Raises:
        InvalidField: something is given that the price does not read, missing, or not what it sums to.
    """
    if price.source is Source.QUANTITIES:
        return _by_value(given)
    _refuse("quantities", given.quantities, "this price has no dimension")
    _refuse("prior_quantities", given.prior_quantities, "this price has no dimension")
    if price.source is Source.AMOUNTS:
        return _by_event(price, given)
    _refuse("prior_event_count", given.prior_event_count, "this price does not look at events")
    if price.model_name not in {"percentage", "graduated_percentage", "dynamic"}:
        _refuse("amounts", given.amounts, "this price does not look at events")
    if given.quantity is None and not given.amounts:
        raise InvalidField.one("input.quantity", "must be given")
    quantity = _sum_of("amounts", given, _total(given.amounts)) if given.amounts else given.quantity
    assert quantity is not None
    return Use(quantity), Before(given.prior, opened=given.prior > ZERO)


def _by_value(given: PriceInput) -> tuple[Use, Before]:
    _refuse("amounts", given.amounts, "this price looks at quantities by value")
    _refuse("prior_event_count", given.prior_event_count, "this price does not look at events")
    prior = summed(given.prior_quantities)
    if given.prior not in (ZERO, prior):
        raise InvalidField.one("input.prior_quantity", "must be what prior_quantities sum to")
    before = Before(prior, given.prior_quantities, opened=prior > ZERO)
    if not given.quantities and given.quantity:
        return Use(given.quantity), before
    return Use(_sum_of("quantities", given, summed(given.quantities)), given.quantities), before


def _by_event(price: Price, given: PriceInput) -> tuple[Use, Before]:
    if (given.prior > ZERO) != (given.prior_event_count > 0):
        text = "prior_quantity is the sum of the amounts of so many events above zero"
        raise InvalidField.one("input.prior_event_count", text)
    before = Before(
        given.prior, event_count=given.prior_event_count, opened=given.prior_event_count > 0
    )
    if not given.amounts and given.quantity:
        return Use(given.quantity), before
    assert price.percentage is not None, "the only model of events"
    tallying = Tallying(price.percentage, given.prior_event_count, given.prior)
    tallying.add(given.amounts)
    return Use(_sum_of("amounts", given, _total(given.amounts)), tally=tallying.close()), before


def _total(amounts: tuple[Decimal, ...]) -> Decimal:
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def _sum_of(name: str, given: PriceInput, total: Decimal) -> Decimal:
    if given.quantity not in (None, total):
        raise InvalidField.one(
            "input.quantity", f"must be left out, or be what {name} sum to: {total:f}"
        )
    return total


def _refuse(name: str, given: object, why: str) -> None:
    if given:
        raise InvalidField.one(f"input.{name}", f"must be left out: {why}")
