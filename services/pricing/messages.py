"""The catalogue, prices and what they come to, as messages and back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from payments.pricing.v1 import catalog_service_pb2, pricing_pb2, pricing_service_pb2
from payments.type.v1 import type_pb2
from pydantic import TypeAdapter

from services.pricing.domain.catalog import Catalog, entity_id
from services.pricing.domain.changes import Change, ChangeKind
from services.pricing.domain.prices import Price, Step, StepKind
from services.pricing.domain.rating import (
    EstimatedPeriod,
    EstimateLine,
    Evaluated,
    Line,
    PlanSource,
    Rated,
)
from services.pricing.domain.values import document
from services.runtime.edge import values as edge
from services.runtime.errors import FieldViolation, InvalidField
from services.runtime.money import exponent, format_decimal, format_exact

# The answer shows a change twice, before and after, each several times larger than it came.
CATALOG_BYTES_MAX = 512 * 1024

MessageT = TypeVar("MessageT", bound=Message)

_CATALOG = TypeAdapter(Catalog)
_PRICE = TypeAdapter(Price)
_CHANGES = edge.Names(ChangeKind, catalog_service_pb2.CatalogChange.Kind, "KIND_")
_STEPS = edge.Names(StepKind, pricing_pb2.PriceStep.Kind, "KIND_")
_SOURCES = edge.Names(PlanSource, pricing_pb2.LineProof.PlanSource, "PLAN_SOURCE_")


def _dictionary(message: Message) -> dict[str, Any]:
    found = json_format.MessageToDict(message, preserving_proto_field_name=True)
    assert isinstance(found, dict)
    return found


def catalog(message: catalog_service_pb2.Catalog) -> Catalog:
    """Read a declaration. Raises InvalidField."""
    if message.ByteSize() > CATALOG_BYTES_MAX:
        raise InvalidField.one(
            "catalog",
            f"has {message.ByteSize()} bytes; the limit is {CATALOG_BYTES_MAX}; apply it in parts, "
            "starting with what other entries refer to",
        )
    catalog: Catalog = _CATALOG.validate_python(_dictionary(message))
    return catalog


def documents(values: Iterable[object], message_type: type[MessageT]) -> list[MessageT]:
    """Write entities of the catalogue."""
    return [written(value, message_type) for value in values]


def written(value: object, message_type: type[MessageT]) -> MessageT:
    """Write an entity of the catalogue."""
    return json_format.ParseDict(document(value), message_type())


def price(message: pricing_pb2.Price) -> Price:
    """Read a price. Raises InvalidField."""
    price: Price = _PRICE.validate_python(_dictionary(message))
    faults = [FieldViolation(f"price.{path}", problem) for path, problem in price.problems()]
    if faults:
        raise InvalidField.of(faults)
    return price


async def applied(changes: list[Change]) -> catalog_service_pb2.ApplyCatalogResponse:
    """Return the result message of a declaration; in a thread, because a large one takes long."""
    return await asyncio.to_thread(_applied, changes)


def _applied(changes: list[Change]) -> catalog_service_pb2.ApplyCatalogResponse:
    response = catalog_service_pb2.ApplyCatalogResponse()
    # Each in its place: to copy all of them at once is one long step.
    for change in changes:
        _write_change(response.changes.add(), change)
    return response


def _write_change(message: catalog_service_pb2.CatalogChange, change: Change) -> None:
    message.kind = _CHANGES.write(change.kind)
    message.entity = change.after.entity
    message.id = entity_id(change.after)
    if change.kind is ChangeKind.UNCHANGED:
        return
    if change.before is not None:
        message.before.update(document(change.before))
    message.after.update(document(change.after))


def _line(rated: Rated, line: Line, period: type_pb2.Period) -> pricing_pb2.RatedLine:
    return pricing_pb2.RatedLine(
        sku=line.usage.sku,
        project_id=line.usage.project_id,
        quantity=format_decimal(line.quantity),
        exact_amount=format_exact(line.evaluation.exact),
        amount=edge.money(line.amount),
        partner_id=line.partner_id,
        partner_pct="" if line.partner_pct is None else format_decimal(line.partner_pct),
        proof=_proof(rated, line, period),
    )


def _proof(rated: Rated, line: Line, period: type_pb2.Period) -> pricing_pb2.LineProof:
    terms, evaluation = rated.terms, line.evaluation
    return pricing_pb2.LineProof(
        period=period,
        aggregation=type_pb2.Aggregation.Value(line.term.aggregation.value),
        usage_snapshot=rated.usage_snapshot,
        event_count=line.usage.event_count,
        first_event_at=edge.stamp_or_none(line.usage.first_event_at),
        last_event_at=edge.stamp_or_none(line.usage.last_event_at),
        plan_source=_SOURCES.write(terms.source),
        plan_id=terms.plan_id,
        plan_version=terms.plan_version,
        entitlement_effective_at=edge.stamp_or_none(terms.entitlement_at),
        overridden=line.term.overridden,
        price=written(line.term.price, pricing_pb2.Price),
        prior_quantity=format_decimal(line.prior),
        included_qty_used=format_decimal(evaluation.included_used),
        billable_quantity=format_decimal(evaluation.billable),
        steps=[_step(step) for step in evaluation.steps],
        unrounded=format_decimal(evaluation.exact),
        rounding=pricing_pb2.ROUNDING_HALF_UP,
        rounding_places=exponent(terms.currency_code),
    )


def _step(step: Step) -> pricing_pb2.PriceStep:
    return pricing_pb2.PriceStep(
        kind=_STEPS.write(step.kind),
        from_quantity=format_decimal(step.start),
        to_quantity=format_decimal(step.end),
        units=format_decimal(step.units),
        unit_amount=format_decimal(step.unit_amount),
        flat_amount=format_decimal(step.flat_amount),
        amount=format_decimal(step.amount),
    )


def _estimate_line(line: EstimateLine) -> pricing_service_pb2.EstimateLine:
    return pricing_service_pb2.EstimateLine(
        sku=line.sku,
        included=format_decimal(line.included),
        overage=format_decimal(line.overage),
        total=edge.money(line.total),
    )


def evaluated(answer: Evaluated) -> pricing_service_pb2.EvaluatePriceResponse:
    """Write what a price comes to."""
    evaluation = answer.evaluation
    return pricing_service_pb2.EvaluatePriceResponse(
        exact_amount=format_exact(evaluation.exact),
        amount=edge.money(answer.amount),
        billable_quantity=format_decimal(evaluation.billable),
        lines=[_step(step) for step in evaluation.steps],
    )


def estimated(answer: EstimatedPeriod) -> pricing_service_pb2.EstimateResponse:
    """Write what a period would cost."""
    return pricing_service_pb2.EstimateResponse(
        base=edge.money(answer.base),
        lines=[_estimate_line(line) for line in answer.lines],
        grand_total=edge.money(answer.grand_total),
    )


def rated(answer: Rated, period: type_pb2.Period) -> pricing_service_pb2.RateUsageResponse:
    """Write what a charge for the period would be."""
    return pricing_service_pb2.RateUsageResponse(
        lines=[_line(answer, line, period) for line in answer.lines],
        total=edge.money(answer.total),
        plan_id=answer.terms.plan_id,
        plan_version=answer.terms.plan_version,
        usage_snapshot=answer.usage_snapshot,
    )
