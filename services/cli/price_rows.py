"""A price as rows of a table: one a tier, step or cell, then one for each thing that stands around the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from payments.pricing.v1 import pricing_pb2

COLUMNS = ("sku", "model", "included", "up to", "unit amount", "flat amount")

# What stands behind sku, model and included: up to, unit amount, flat amount.
_Cells = tuple[str, str, str]


def of(item: pricing_pb2.PlanPrice) -> Iterator[tuple[str, ...]]:
    """Give the rows of the price of a SKU."""
    price, kind = item.price, item.price.WhichOneof("model") or ""
    tell = _MODELS.get(kind, _unknown)
    cells = [*tell(getattr(price, kind, None)), *_around(price)]
    if item.tax_code:
        cells.append(("", "tax code", item.tax_code))
    for number, row in enumerate(cells):
        named = (item.sku, kind.replace("_", " "), price.included_qty) if number == 0 else ("",) * 3
        yield *named, *row


def _flat(model: pricing_pb2.FlatPrice) -> Iterator[_Cells]:
    yield "", "", model.amount


def _per_unit(model: pricing_pb2.PerUnitPrice) -> Iterator[_Cells]:
    yield "", model.unit_amount, ""


def _tiers(model: Any) -> Iterator[_Cells]:
    for tier in model.tiers:
        yield tier.up_to or "no end", tier.unit_amount or "0", tier.flat_amount


def _package(model: pricing_pb2.PackagePrice) -> Iterator[_Cells]:
    yield "", f"{model.package_amount} per {model.package_size}", ""


def _percentage(model: pricing_pb2.PercentagePrice) -> Iterator[_Cells]:
    fixed = model.fixed_per_event and f"{model.fixed_per_event} an event"
    yield "", f"{model.rate_percent} %", fixed
    if model.free_events or model.free_amount:
        events = f"{model.free_events} events" if model.free_events else ""
        yield " or ".join(filter(None, (events, model.free_amount))), "free", ""
    if model.minimum_per_event:
        yield "", f"at least {model.minimum_per_event} an event", ""
    if model.maximum_per_event:
        yield "", f"at most {model.maximum_per_event} an event", ""


def _percentage_tiers(model: pricing_pb2.GraduatedPercentagePrice) -> Iterator[_Cells]:
    for tier in model.tiers:
        yield tier.up_to or "no end", f"{tier.rate_percent or '0'} %", tier.flat_amount


def _stairs(model: pricing_pb2.StairstepPrice) -> Iterator[_Cells]:
    for step in model.steps:
        limits = [
            f"{limit} {unit}" if model.dimension else limit
            for unit, limit in sorted(step.limits.items())
        ]
        yield ", ".join(limits) or "no end", "", step.amount


def _matrix(model: pricing_pb2.MatrixPrice) -> Iterator[_Cells]:
    for value, amount in sorted(model.cells.items()):
        yield f"{model.dimension}={value}", amount, ""
    if model.default_unit_amount:
        yield f"any other {model.dimension}", model.default_unit_amount, ""


def _dynamic(model: pricing_pb2.DynamicPrice) -> Iterator[_Cells]:
    yield "", "what events carry", ""


def _unknown(model: object) -> Iterator[_Cells]:
    yield "", "see --output json", ""


_MODELS: dict[str, Callable[[Any], Iterator[_Cells]]] = {
    "flat": _flat,
    "per_unit": _per_unit,
    "graduated": _tiers,
    "volume": _tiers,
    "package": _package,
    "percentage": _percentage,
    "graduated_percentage": _percentage_tiers,
    "stairstep": _stairs,
    "matrix": _matrix,
    "dynamic": _dynamic,
}


def _around(price: pricing_pb2.Price) -> Iterator[_Cells]:
    if price.HasField("unit_conversion"):
        conversion = price.unit_conversion
        sign = {1: "x", 2: "/"}.get(conversion.operation, "?")
        rounding = pricing_pb2.Rounding.Name(conversion.rounding).removeprefix("ROUNDING_")
        rounded = f", {rounding.lower().replace('_', ' ')}" if conversion.rounding > 1 else ""
        places = f" to {conversion.precision} places" if conversion.precision else ""
        yield "", f"units {sign} {conversion.factor}{rounded}{places}", ""
    if price.discount_percent:
        yield "", f"less {price.discount_percent} %", ""
    if price.minimum_amount:
        yield "", "at least", price.minimum_amount
    if price.maximum_amount:
        yield "", "at most", price.maximum_amount
