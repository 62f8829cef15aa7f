"""Which price can be applied to what which aggregation makes of usage.

A percentage is a share of money: it takes what money adds up to, or a balance, and no number of things. Prices that
look at single events, or add up what events carry, need the sum. A matrix prices the parts of a quantity, so these
must add up to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from services.pricing.domain.catalog import Aggregation
from services.pricing.domain.errors import AggregationNotPriceable
from services.pricing.domain.prices import Price

_ANY = frozenset(Aggregation)
_COUNTS = frozenset({Aggregation.COUNT, Aggregation.UNIQUE})
_SUM = frozenset({Aggregation.SUM})
_PARTS_ADD_UP = frozenset({Aggregation.SUM, Aggregation.COUNT})

TAKES: Mapping[str, frozenset[Aggregation]] = MappingProxyType(
    {
        "flat": _ANY,
        "per_unit": _ANY,
        "graduated": _ANY,
        "volume": _ANY,
        "package": _ANY,
        "percentage": _SUM,
        "graduated_percentage": _ANY - _COUNTS,
        "stairstep": _ANY,
        "matrix": _PARTS_ADD_UP,
        "dynamic": _SUM,
    }
)


def check_pair(sku: str, aggregation: Aggregation, price: Price, where: str) -> None:
    """Refuse a price that cannot be applied to an aggregation; `where` names its place for people.

    Raises:
        AggregationNotPriceable
    """
    takes = TAKES[price.model_name]
    if aggregation not in takes:
        names = ", ".join(sorted(_short(item) for item in takes))
        raise AggregationNotPriceable(
            f"{where} has a {price.model_name} price for {sku}, whose aggregation is {_short(aggregation)}: it takes "
            f"{names}; use another model, or another SKU over the same events",
            sku=sku,
            aggregation=_short(aggregation),
            model=price.model_name,
        )


def _short(aggregation: Aggregation) -> str:
    return aggregation.value.removeprefix("AGGREGATION_")
