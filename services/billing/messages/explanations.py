"""The proof of a line as sentences: what was metered, which price held, how the amount came about."""

from __future__ import annotations

from payments.billing.v1 import billing_pb2 as pb
from payments.pricing.v1 import pricing_pb2
from payments.type.v1 import type_pb2

from services.runtime.money import Money, format_money

_SOURCES = {
    pricing_pb2.LineProof.PLAN_SOURCE_ENTITLEMENT: "from the organisation's entitlement",
    pricing_pb2.LineProof.PLAN_SOURCE_ORG_BUSINESS_MODEL: "from the organisation's business model",
    pricing_pb2.LineProof.PLAN_SOURCE_MODEL_DEFAULT: "as the default of the business model",
}


def steps(line: pb.ChargeLine) -> list[str]:
    """Tell in sentences, one a step, how a line came to its amount."""
    proof = line.proof
    told = [_metered(line), _priced(line)]
    told += [_step(step, line.amount_gross.currency_code) for step in proof.steps]
    told.append(
        f"The steps add up to {proof.unrounded} {line.amount_gross.currency_code}, rounded once, half up, to"
        f" {proof.rounding_places} places: {_money(line.amount_gross)}."
    )
    if line.partner_id:
        told.append(
            f"Partner {line.partner_id} earns {line.partner_pct} % of it: {_money(line.partner_amount)}"
            f" (an exact half goes to us); {_money(line.net)} remain."
        )
    return told


def _metered(line: pb.ChargeLine) -> str:
    proof = line.proof
    aggregation = type_pb2.Aggregation.Name(proof.aggregation).removeprefix("AGGREGATION_")
    where = f" in project {line.project_id}" if line.project_id else ""
    told = f"{aggregation} of {proof.event_count} events of {line.sku}{where} is {line.quantity}"
    if proof.event_count:
        first = proof.first_event_at.ToJsonString()
        last = proof.last_event_at.ToJsonString()
        told += f", events from {first} to {last}"
    return f"{told}; usage snapshot {proof.usage_snapshot}."


def _priced(line: pb.ChargeLine) -> str:
    proof = line.proof
    kind = (proof.price.WhichOneof("model") or "unknown").replace("_", " ")
    told = f"Plan {proof.plan_id}, version {proof.plan_version}, holds"
    told += (
        f" {_SOURCES.get(proof.plan_source, 'by a rule unknown to this version')}: a {kind} price"
    )
    if proof.overridden:
        told += " that the entitlement overrides"
    if proof.prior_quantity not in {"", "0"}:
        told += f", counted on from {proof.prior_quantity} units of other projects"
    return f"{told}; {proof.included_qty_used or '0'} units are included, {proof.billable_quantity} billable."


def _step(step: pricing_pb2.PriceStep, currency_code: str) -> str:
    kind = (
        pricing_pb2.PriceStep.Kind.Name(step.kind).removeprefix("KIND_").replace("_", " ").lower()
    )
    return (
        f"{kind.capitalize()}: units {step.from_quantity or '0'} to {step.to_quantity or '0'}, "
        f"{step.units or '0'} x {step.unit_amount or '0'} + {step.flat_amount or '0'}"
        f" = {step.amount or '0'} {currency_code}."
    )


def _money(amount: type_pb2.Money) -> str:
    return f"{format_money(Money(amount.currency_code, amount.minor_units))} {amount.currency_code}"
