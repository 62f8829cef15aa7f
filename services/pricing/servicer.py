"""CatalogService and PricingService: proto to use case and back. Protobuf types stop here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from payments.pricing.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    pricing_pb2,
    pricing_service_pb2,
    pricing_service_pb2_grpc,
)
from payments.type.v1 import type_pb2
from pydantic import TypeAdapter

from services.pricing import app
from services.pricing.domain.catalog import Catalog, entity_id
from services.pricing.domain.changes import Change, ChangeKind
from services.pricing.domain.prices import Price, Step
from services.pricing.domain.rating import EstimateLine, Line
from services.pricing.domain.values import BEGINNING, document
from services.runtime.database import Database, UnitOfWork
from services.runtime.edge.paging import clamp_page_size, decode_token, encode_token
from services.runtime.errors import FieldViolation, InvalidField
from services.runtime.idempotency import Idempotency
from services.runtime.money import (
    Money,
    exponent,
    format_decimal,
    format_exact,
    parse_decimal,
    round_to_minor,
)

_CATALOG = TypeAdapter(Catalog)
_PRICE = TypeAdapter(Price)
# The answer shows a change twice, before and after, each several times larger than it came.
CATALOG_BYTES_MAX = 512 * 1024
# One page of plans and entitlements carries their price lists.
_WITH_PRICES_MAX = 200

MessageT = TypeVar("MessageT", bound=Message)


class CatalogServicer(catalog_service_pb2_grpc.CatalogServiceServicer):
    """Answers CatalogService."""

    def __init__(self, database: Database, idempotency: Idempotency, pricing: app.Pricing) -> None:
        self._database = database
        self._idempotency = idempotency
        self._pricing = pricing

    async def ApplyCatalog(
        self, request: catalog_service_pb2.ApplyCatalogRequest, context: Any
    ) -> catalog_service_pb2.ApplyCatalogResponse:
        """Make the catalogue contain the declaration, or say what that would change."""
        catalog = await asyncio.to_thread(_catalog, request.catalog)

        async def handler(work: UnitOfWork) -> catalog_service_pb2.ApplyCatalogResponse:
            return await asyncio.to_thread(_applied, await app.apply_catalog(work, catalog))

        if request.validate_only:
            async with self._database.read() as work:
                changes = await app.preview_catalog(work, catalog)
            return await asyncio.to_thread(_applied, changes)
        if request.request_id:
            return await self._idempotency.once(
                "pricing.apply_catalog",
                request,
                catalog_service_pb2.ApplyCatalogResponse,
                handler,
            )
        async with self._database.unit_of_work("pricing.apply_catalog") as work:
            return await handler(work)

    async def GetPlan(
        self, request: catalog_service_pb2.GetPlanRequest, context: Any
    ) -> catalog_service_pb2.GetPlanResponse:
        """Read a plan."""
        plan = await self._pricing.plan(request.plan_id, request.version)
        written = await asyncio.to_thread(_message, plan, pricing_pb2.Plan)
        return catalog_service_pb2.GetPlanResponse(plan=written)

    async def ListPlans(
        self, request: catalog_service_pb2.ListPlansRequest, context: Any
    ) -> catalog_service_pb2.ListPlansResponse:
        """Give a page of plans."""
        scope = f"pricing.list_plans:{request.model_id}"
        after = decode_token(request.page_token, scope, {"plan_id": str})
        size = clamp_page_size(request.page_size, maximum=_WITH_PRICES_MAX)
        plans, more = await self._pricing.plans(request.model_id, after.get("plan_id", ""), size)
        written = await asyncio.to_thread(_messages, plans, pricing_pb2.Plan)
        response = catalog_service_pb2.ListPlansResponse(plans=written)
        if more:
            response.next_page_token = encode_token({"plan_id": plans[-1].plan_id}, scope)
        return response

    async def ListSkus(
        self, request: catalog_service_pb2.ListSkusRequest, context: Any
    ) -> catalog_service_pb2.ListSkusResponse:
        """Give a page of SKUs."""
        scope = f"pricing.list_skus:{','.join(sorted(request.skus))}"
        after = decode_token(request.page_token, scope, {"sku": str})
        size = clamp_page_size(request.page_size)
        skus, more = await self._pricing.skus(request.skus, after.get("sku", ""), size)
        response = catalog_service_pb2.ListSkusResponse(
            skus=[_message(sku, pricing_pb2.Sku) for sku in skus]
        )
        if more:
            response.next_page_token = encode_token({"sku": skus[-1].sku}, scope)
        return response

    async def ListEntitlements(
        self, request: catalog_service_pb2.ListEntitlementsRequest, context: Any
    ) -> catalog_service_pb2.ListEntitlementsResponse:
        """Give a page of entitlements."""
        scope = f"pricing.list_entitlements:{request.org_id}"
        token = decode_token(request.page_token, scope, {"org_id": str, "at": datetime})
        start = token.get("at", BEGINNING)
        size = clamp_page_size(request.page_size, maximum=_WITH_PRICES_MAX)
        found, more = await self._pricing.entitlements(
            request.org_id, (token.get("org_id", ""), start), size
        )
        response = catalog_service_pb2.ListEntitlementsResponse(
            entitlements=await asyncio.to_thread(_messages, found, pricing_pb2.Entitlement)
        )
        if more:
            last = {"org_id": found[-1].org_id, "at": found[-1].effective_at.isoformat()}
            response.next_page_token = encode_token(last, scope)
        return response


class PricingServicer(pricing_service_pb2_grpc.PricingServiceServicer):
    """Answers PricingService."""

    def __init__(self, pricing: app.Pricing) -> None:
        self._pricing = pricing

    async def EvaluatePrice(
        self, request: pricing_service_pb2.EvaluatePriceRequest, context: Any
    ) -> pricing_service_pb2.EvaluatePriceResponse:
        """Apply a price to a quantity."""
        price = _price(request.price)
        quantity = parse_decimal(request.input.quantity)
        prior = parse_decimal(request.input.prior_quantity or "0")
        evaluation = price.evaluate(quantity, prior)
        return pricing_service_pb2.EvaluatePriceResponse(
            exact_amount=format_exact(evaluation.exact),
            amount=_money(round_to_minor(evaluation.exact, request.currency_code)),
            billable_quantity=format_decimal(evaluation.billable),
            lines=[_step(step) for step in evaluation.steps],
        )

    async def Estimate(
        self, request: pricing_service_pb2.EstimateRequest, context: Any
    ) -> pricing_service_pb2.EstimateResponse:
        """Preview a period."""
        uses = {sku: parse_decimal(text) for sku, text in request.skus.items()}
        base, lines = await self._pricing.estimate(
            request.org_id, uses, parse_decimal(request.leads)
        )
        grand_total = base
        for line in lines:
            grand_total += line.total
        return pricing_service_pb2.EstimateResponse(
            base=_money(base),
            lines=[_estimate_line(line) for line in lines],
            grand_total=_money(grand_total),
        )

    async def RateUsage(
        self, request: pricing_service_pb2.RateUsageRequest, context: Any
    ) -> pricing_service_pb2.RateUsageResponse:
        """Say what a charge for the period would be."""
        period = request.period
        rated = await self._pricing.rate_usage(
            request.org_id, _time(period.start_at), _time(period.end_at)
        )
        return pricing_service_pb2.RateUsageResponse(
            lines=[_line(rated, line, period) for line in rated.lines],
            total=_money(rated.total),
            plan_id=rated.terms.plan_id,
            plan_version=rated.terms.plan_version,
            usage_snapshot=rated.usage_snapshot,
        )


def _dictionary(message: Message) -> dict[str, Any]:
    written = json_format.MessageToDict(message, preserving_proto_field_name=True)
    assert isinstance(written, dict)
    return written


def _catalog(message: catalog_service_pb2.Catalog) -> Catalog:
    if message.ByteSize() > CATALOG_BYTES_MAX:
        raise InvalidField.one(
            "catalog",
            f"weighs {message.ByteSize()} bytes, {CATALOG_BYTES_MAX} are the most; apply it in parts, "
            "what others name first",
        )
    catalog: Catalog = _CATALOG.validate_python(_dictionary(message))
    return catalog


def _messages(values: Iterable[object], message_type: type[MessageT]) -> list[MessageT]:
    return [_message(value, message_type) for value in values]


def _message(value: object, message_type: type[MessageT]) -> MessageT:
    return json_format.ParseDict(document(value), message_type())


def _price(message: pricing_pb2.Price) -> Price:
    price: Price = _PRICE.validate_python(_dictionary(message))
    faults = [FieldViolation(f"price.{path}", problem) for path, problem in price.problems()]
    if faults:
        raise InvalidField.of(faults)
    return price


def _applied(changes: list[Change]) -> catalog_service_pb2.ApplyCatalogResponse:
    return catalog_service_pb2.ApplyCatalogResponse(changes=[_change(item) for item in changes])


def _change(change: Change) -> catalog_service_pb2.CatalogChange:
    message = catalog_service_pb2.CatalogChange(
        kind=catalog_service_pb2.CatalogChange.Kind.Value(change.kind.value),
        entity=change.after.entity,
        id=entity_id(change.after),
    )
    if change.kind is ChangeKind.UNCHANGED:
        return message
    if change.before is not None:
        message.before.update(document(change.before))
    message.after.update(document(change.after))
    return message


def _line(rated: app.Rated, line: Line, period: type_pb2.Period) -> pricing_pb2.RatedLine:
    return pricing_pb2.RatedLine(
        sku=line.usage.sku,
        project_id=line.usage.project_id,
        quantity=format_decimal(line.quantity),
        exact_amount=format_exact(line.evaluation.exact),
        amount=_money(line.amount),
        partner_id=line.partner_id,
        partner_pct="" if line.partner_pct is None else format_decimal(line.partner_pct),
        proof=_proof(rated, line, period),
    )


def _proof(rated: app.Rated, line: Line, period: type_pb2.Period) -> pricing_pb2.LineProof:
    terms, evaluation = rated.terms, line.evaluation
    return pricing_pb2.LineProof(
        period=period,
        aggregation=type_pb2.Aggregation.Value(line.term.aggregation.value),
        usage_snapshot=rated.usage_snapshot,
        event_count=line.usage.event_count,
        first_event_at=_stamp(line.usage.first_event_at),
        last_event_at=_stamp(line.usage.last_event_at),
        plan_source=pricing_pb2.LineProof.PlanSource.Value(terms.source.value),
        plan_id=terms.plan_id,
        plan_version=terms.plan_version,
        entitlement_effective_at=_stamp(terms.entitlement_at),
        overridden=line.term.overridden,
        price=_message(line.term.price, pricing_pb2.Price),
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
        kind=pricing_pb2.PriceStep.Kind.Value(step.kind.value),
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
        total=_money(line.total),
    )


def _money(money: Money) -> type_pb2.Money:
    return type_pb2.Money(currency_code=money.currency_code, minor_units=money.minor_units)


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def _stamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
