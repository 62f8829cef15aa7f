"""What a caller gives a price to be applied to."""

from __future__ import annotations

from decimal import Decimal

import pytest

from services.pricing.domain import inputs
from services.pricing.domain.errors import PriceInputMissing
from services.pricing.domain.inputs import PriceInput
from services.pricing.domain.models.dynamic import Dynamic
from services.pricing.domain.models.matrix import Matrix
from services.pricing.domain.models.per_unit import PerUnit
from services.pricing.domain.models.percentage import Percentage
from services.pricing.domain.prices import Price
from services.runtime.errors import InvalidField

D = Decimal
UNITS = Price(per_unit=PerUnit(D(2)))
CARD = Price(percentage=Percentage(D(1), D("0.30"), free_events=2))
GRID = Price(matrix=Matrix("region", {"eu": D(1), "us": D(2)}))
CARRIED = Price(dynamic=Dynamic())


def amount(price: Price, given: PriceInput) -> Decimal:
    return price.apply(*inputs.read(price, given)).exact


def test_each_price_is_given_what_it_reads() -> None:
    assert amount(UNITS, PriceInput(D(3))) == 6
    assert amount(CARRIED, PriceInput(amounts=(D(1), D(2)))) == 3
    assert amount(GRID, PriceInput(quantities={"eu": D(3), "us": D(1)})) == 5
    assert amount(CARD, PriceInput(amounts=(D(1), D(1), D(100)))) == D("1.30")
    assert amount(CARD, PriceInput(amounts=(D(100),), prior=D(2), prior_event_count=2)) == D("1.30")
    assert amount(CARD, PriceInput(amounts=(D(100),), prior=D(2), prior_event_count=1)) == 0
    # A sum may be said beside what it is of.
    assert amount(GRID, PriceInput(D(4), quantities={"eu": D(3), "us": D(1)})) == 5
    assert amount(CARD, PriceInput(D(0))) == amount(GRID, PriceInput()) == 0


@pytest.mark.parametrize(
    ("price", "given", "field"),
    [
        (UNITS, PriceInput(), "input.quantity"),
        (UNITS, PriceInput(D(1), amounts=(D(1),)), "input.amounts"),
        (UNITS, PriceInput(D(1), quantities={"eu": D(1)}), "input.quantities"),
        (UNITS, PriceInput(D(1), prior_quantities={"eu": D(1)}), "input.prior_quantities"),
        (UNITS, PriceInput(D(1), prior_event_count=1), "input.prior_event_count"),
        (CARRIED, PriceInput(D(2), amounts=(D(1),)), "input.quantity"),
        (GRID, PriceInput(amounts=(D(1),)), "input.amounts"),
        (GRID, PriceInput(D(9), quantities={"eu": D(1)}), "input.quantity"),
        (GRID, PriceInput(prior=D(9), prior_quantities={"eu": D(1)}), "input.prior_quantity"),
        (CARD, PriceInput(amounts=(D(1),), prior=D(1)), "input.prior_event_count"),
        (CARD, PriceInput(amounts=(D(1),), prior_event_count=1), "input.prior_event_count"),
        (CARD, PriceInput(D(9), amounts=(D(1),)), "input.quantity"),
    ],
)
def test_what_a_price_does_not_read_is_refused(price: Price, given: PriceInput, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        inputs.read(price, given)
    assert [fault.field for fault in caught.value.fields] == [field]


@pytest.mark.parametrize("price", [CARD, GRID])
def test_a_bare_quantity_is_not_spread(price: Price) -> None:
    with pytest.raises(PriceInputMissing):
        amount(price, PriceInput(D(5)))
