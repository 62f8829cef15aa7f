"""The catalogue, prices and what they come to, as messages and back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from payments.pricing.v1 import catalog_service_pb2, pricing_pb2, pricing_service_pb2
from payments.type.v1 import type_pb2
from pydantic import TypeAdapter

from services.pricing.domain.catalog import Catalog, OrgBusinessModel, Plan, entity_id
from services.pricing.domain.changes import Change, ChangeKind
from services.pricing.domain.commissions import Commission
from services.pricing.domain.inputs import PriceInput
from services.pricing.domain.models.parts import EventGroup, Step, StepKind, Tally
from services.pricing.domain.moves import Migration, Moves
from services.pricing.domain.prices import Price
from services.pricing.domain.proration import Share
from services.pricing.domain.rating import (
    EstimatedPeriod,
    EstimateLine,
    Evaluated,
    Line,
    LineTax,
    PlanSource,
    Rated,
    RatedPart,
    Span,
)
from services.pricing.domain.readings import carried_skus
from services.pricing.domain.taxes import TaxItem, TaxLine, TaxTotal, included, on_top, totals
from services.pricing.domain.values import ZERO, document
from services.runtime.edge import values as edge
from services.runtime.errors import FieldViolation, InvalidField
from services.runtime.money import Money, exponent, format_decimal, format_exact, parse_decimal

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


def price_input(message: pricing_service_pb2.PriceInput) -> PriceInput:
    """Read what a price is applied to. Raises InvalidField."""
    return PriceInput(
        quantity=parse_decimal(message.quantity) if message.quantity else None,
        prior=parse_decimal(message.prior_quantity or "0"),
        amounts=tuple(map(parse_decimal, message.amounts)),
        quantities=_decimals(message.quantities),
        prior_event_count=message.prior_event_count,
        prior_quantities=_decimals(message.prior_quantities),
    )


def _decimals(texts: Mapping[str, str]) -> dict[str, Decimal]:
    return {value: parse_decimal(text) for value, text in texts.items()}


def _texts(numbers: Mapping[str, Decimal] | None) -> dict[str, str]:
    return {value: format_decimal(number) for value, number in (numbers or {}).items()}


def org_business_model(
    request: catalog_service_pb2.AssignBusinessModelRequest,
) -> OrgBusinessModel:
    """Read what is to be assigned; who does it and when is found out."""
    return OrgBusinessModel(request.org_id, request.model_id, request.plan_id, notes=request.notes)


def migration(request: catalog_service_pb2.MigratePlanRequest) -> Migration:
    """Read what MigratePlan was asked for."""
    return Migration(
        plan_id=request.plan_id,
        version=request.version,
        to_plan_id=request.to_plan_id,
        to_version=request.to_version,
        effective_at=edge.moment_of(request.effective_at),
        drop_overrides=request.drop_overrides,
        limit=request.limit,
    )


async def migrated(moves: Moves) -> catalog_service_pb2.MigratePlanResponse:
    """Write who was moved; in a thread, because overrides may be many."""
    return await asyncio.to_thread(_migrated, moves)


def _migrated(moves: Moves) -> catalog_service_pb2.MigratePlanResponse:
    response = catalog_service_pb2.MigratePlanResponse(remaining=moves.remaining)
    for move in moves.moves:
        written_move = response.moves.add(org_id=move.org_id, later_count=move.later_count)
        if move.before:
            json_format.ParseDict(document(move.before), written_move.before)
        if move.after:
            json_format.ParseDict(document(move.after), written_move.after)
    return response


async def published(plan: Plan) -> catalog_service_pb2.PublishPlanResponse:
    """Write the plan; in a thread, because its list may be long."""
    found = await asyncio.to_thread(written, plan, pricing_pb2.Plan)
    return catalog_service_pb2.PublishPlanResponse(plan=found)


async def archived(plan: Plan) -> catalog_service_pb2.ArchivePlanResponse:
    """Write the plan; in a thread, because its list may be long."""
    found = await asyncio.to_thread(written, plan, pricing_pb2.Plan)
    return catalog_service_pb2.ArchivePlanResponse(plan=found)


def assigned(
    assignment: OrgBusinessModel,
) -> catalog_service_pb2.AssignBusinessModelResponse:
    """Write the assignment."""
    return catalog_service_pb2.AssignBusinessModelResponse(
        org_business_model=written(assignment, pricing_pb2.OrgBusinessModel)
    )


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


def _line(rated: Rated, part: RatedPart, line: Line) -> pricing_pb2.RatedLine:
    return pricing_pb2.RatedLine(
        sku=line.usage.sku,
        project_id=line.usage.project_id,
        quantity=format_decimal(line.quantity),
        exact_amount=format_exact(line.exact),
        amount=edge.money(line.amount),
        partner_id=line.partner_id,
        partner_pct="" if line.partner_pct is None else format_decimal(line.partner_pct),
        proof=_proof(rated, part, line),
        dispute_id=line.dispute_id,
        taxes=map(_tax_line, line.taxes),
    )


def _proof(rated: Rated, part: RatedPart, line: Line) -> pricing_pb2.LineProof:
    terms, evaluation = part.terms, line.evaluation
    proof = pricing_pb2.LineProof(
        period=edge.period(*part.span),
        aggregation=type_pb2.Aggregation.Value(line.term.aggregation.value),
        usage_snapshot=rated.usage_snapshot,
        usage_ordinal=rated.usage_ordinal,
        usage_log_root=rated.usage_log_root,
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
        quantities=_texts(line.use.quantities),
        prior_quantities=_texts(line.before.quantities),
        prior_event_count=line.before.event_count,
        prior_amount=format_decimal(line.before.amount or ZERO),
        quantity=format_decimal(line.use.quantity),
        part_no=line.part_no,
        events=_sorted_events(line.use.tally),
    )
    if terms.share is not None and line.term.whole is not None:
        proof.proration.CopyFrom(_share(terms.share))
        proof.whole_price.CopyFrom(written(line.term.whole, pricing_pb2.Price))
    if line.commission is not None:
        proof.commission.CopyFrom(_commission(line.commission))
    if line.tax is not None:
        proof.tax.CopyFrom(_tax_proof(line.term.tax_code, line.tax))
    return proof


def _tax_proof(tax_code: str, tax: LineTax) -> pricing_pb2.TaxProof:
    proof = pricing_pb2.TaxProof(
        tax_code=tax_code,
        taxed_at=edge.stamp(tax.taxed_at),
        taxes=map(_tax_line, tax.whole),
    )
    if (profile := tax.profile) is not None:
        proof.country, proof.region = profile.country, profile.region
        proof.profile_effective_at.CopyFrom(edge.stamp(profile.effective_at))
        proof.tax_id, proof.reverse_charge = profile.tax_id, profile.reverse_charge
    return proof


def _tax_line(tax: TaxLine) -> pricing_pb2.TaxLine:
    return pricing_pb2.TaxLine(
        jurisdiction=tax.jurisdiction,
        tax=tax.tax,
        tax_code=tax.tax_code,
        authority=tax.authority,
        treatment=pricing_pb2.TaxTreatment.Value(tax.treatment.value),
        rate_percent=format_decimal(tax.rate),
        inclusive=tax.inclusive,
        compound=tax.compound,
        rounding=pricing_pb2.TaxRounding.Value(tax.rounding.value),
        rate_effective_at=edge.stamp(tax.rate_effective_at),
        taxable_amount=edge.money(tax.taxable),
        amount=edge.money(tax.amount),
        prior_amount=None if tax.prior is None else edge.money(tax.prior),
        certificate=tax.certificate,
        reason=tax.reason,
    )


def _tax_total(total: TaxTotal) -> pricing_pb2.TaxTotal:
    return pricing_pb2.TaxTotal(
        jurisdiction=total.jurisdiction,
        tax=total.tax,
        treatment=pricing_pb2.TaxTreatment.Value(total.treatment.value),
        rate_percent=format_decimal(total.rate),
        inclusive=total.inclusive,
        taxable_amount=edge.money(total.taxable),
        amount=edge.money(total.amount),
    )


def taxable_items(request: pricing_service_pb2.CalculateTaxRequest) -> list[TaxItem]:
    """Read amounts that may bear taxes. Raises UnknownCurrency."""
    return [TaxItem(item.tax_code, edge.money_of(item.amount)) for item in request.items]


def tax_calculated(
    items: Sequence[TaxItem], found: Sequence[tuple[TaxLine, ...]]
) -> pricing_service_pb2.CalculateTaxResponse:
    """Write amounts with their taxes."""
    response = pricing_service_pb2.CalculateTaxResponse()
    sum_ = Money(items[0].amount.currency_code, 0)
    for item, taxes in zip(items, found, strict=True):
        code = item.amount.currency_code
        without = item.amount - Money(code, included(taxes))
        owed = item.amount + Money(code, on_top(taxes))
        response.items.add(
            taxes=map(_tax_line, taxes),
            amount_without_tax=edge.money(without),
            amount_with_tax=edge.money(owed),
        )
        sum_ += owed
    response.taxes.extend(map(_tax_total, totals(tax for taxes in found for tax in taxes)))
    response.total_with_tax.CopyFrom(edge.money(sum_))
    return response


def _commission(found: Commission) -> pricing_pb2.Commission:
    earner = found.earner
    return pricing_pb2.Commission(
        partner_tier=earner.tier if earner else "",
        rate_sku=found.rate_sku,
        record_start_at=edge.stamp_or_none(earner.since if earner else None),
        stretches=[edge.period(each.start_at, each.end_at) for each in found.stretches],
        billing_account_id=earner.billing_account_id if earner else "",
    )


def _sorted_events(tally: Tally | None) -> pricing_pb2.SortedEvents | None:
    if tally is None:
        return None
    return pricing_pb2.SortedEvents(
        event_count=tally.events,
        free=_event_group(tally.free),
        crossing_amount=format_decimal(tally.crossing) if tally.crossing else "",
        charged=_event_group(tally.charged),
        raised=_event_group(tally.raised),
        lowered=_event_group(tally.lowered),
    )


def _event_group(group: EventGroup) -> pricing_pb2.EventGroup | None:
    if not group.count:
        return None
    return pricing_pb2.EventGroup(
        count=group.count,
        amount=format_decimal(group.amount),
        smallest="" if group.smallest is None else format_decimal(group.smallest),
        largest="" if group.largest is None else format_decimal(group.largest),
    )


def _share(share: Share) -> pricing_pb2.ProrationShare:
    return pricing_pb2.ProrationShare(
        unit=pricing_pb2.Proration.Value(share.unit.value),
        from_units=share.start,
        until_units=share.end,
        period_units=share.period,
    )


def _step(step: Step) -> pricing_pb2.PriceStep:
    return pricing_pb2.PriceStep(
        kind=_STEPS.write(step.kind),
        from_quantity=format_decimal(step.start),
        to_quantity=format_decimal(step.end),
        units=format_decimal(step.units),
        unit_amount=format_decimal(step.unit_amount),
        flat_amount=format_decimal(step.flat_amount),
        label=step.label,
        amount=format_decimal(step.amount),
    )


def _estimate_line(line: EstimateLine) -> pricing_service_pb2.EstimateLine:
    return pricing_service_pb2.EstimateLine(
        sku=line.sku,
        included=format_decimal(line.included),
        overage=format_decimal(line.overage),
        total=edge.money(line.total),
        exact_total=format_exact(line.exact_total),
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
        taxes=map(_tax_total, answer.taxes or ()),
        grand_total_with_tax=edge.money(answer.grand_total_with_tax) if answer.taxes else None,
    )


def rated(answer: Rated) -> pricing_service_pb2.RateUsageResponse:
    """Write what a charge for the period would be."""
    first, taxes = answer.parts[0].terms, answer.taxes
    return pricing_service_pb2.RateUsageResponse(
        lines=[_line(answer, part, line) for part, line in answer.lines],
        total=edge.money(answer.total),
        plan_id=first.plan_id,
        plan_version=first.plan_version,
        usage_snapshot=answer.usage_snapshot,
        usage_ordinal=answer.usage_ordinal,
        parts=[
            pricing_pb2.RatedPart(
                period=edge.period(*part.span),
                plan_id=part.terms.plan_id,
                plan_version=part.terms.plan_version,
            )
            for part in answer.parts
        ],
        taxes=map(_tax_total, taxes),
        total_with_tax=edge.money(answer.total_with_tax) if taxes else None,
        carried_skus=sorted(set[str]().union(*(carried_skus(part.terms) for part in answer.parts))),
    )


def span(message: type_pb2.Period) -> Span:
    """Read a period."""
    return Span(edge.moment_of(message.start_at), edge.moment_of(message.end_at))
