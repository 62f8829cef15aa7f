"""The proof of a line as sentences: what was metered, which price held, how the amount came about."""

from __future__ import annotations

from payments.billing.v1 import billing_pb2 as pb
from payments.pricing.v1 import pricing_pb2
from payments.type.v1 import type_pb2

from services.billing.domain.charges import ChargeKind
from services.runtime.money import Money, format_money

_SOURCES = {
    pricing_pb2.LineProof.PLAN_SOURCE_ENTITLEMENT: "from the organisation's entitlement",
    pricing_pb2.LineProof.PLAN_SOURCE_ORG_BUSINESS_MODEL: "from the organisation's business model",
    pricing_pb2.LineProof.PLAN_SOURCE_MODEL_DEFAULT: "as the default of the business model",
}


def steps(line: pb.ChargeLine, kind: ChargeKind, adjusts_charge_id: str, cause: str) -> list[str]:
    """Tell in sentences, one a step, how a line came to its amount."""
    if kind is ChargeKind.REVERSAL:
        return _taken_back(line, adjusts_charge_id, cause)
    if kind is ChargeKind.ADJUSTMENT:
        return _adjusted(line, adjusts_charge_id)
    return _rated(line, line.quantity, line.amount_gross, line.partner_amount)


def _taken_back(line: pb.ChargeLine, adjusts_charge_id: str, cause: str) -> list[str]:
    before = line.correction
    told = [
        f"Charge {adjusts_charge_id} and its corrections had billed {before.quantity_before} units of {line.sku} for"
        f" {_money(before.amount_before)}. All of it is taken back, because: {cause}."
    ]
    if line.partner_id:
        told.append(
            f"Partner {line.partner_id} gives back what it had earned:"
            f" {_money(before.partner_amount_before)}."
        )
    return told


def _adjusted(line: pb.ChargeLine, adjusts_charge_id: str) -> list[str]:
    found = line.correction
    is_gone = not found.amount_after.minor_units and found.quantity_after == "0"
    told = (
        [f"The period has no billable usage of {line.sku} like that any more."]
        if is_gone
        else _rated(line, found.quantity_after, found.amount_after, found.partner_amount_after)
    )
    told.append(
        f"Charge {adjusts_charge_id} and its corrections had billed {found.quantity_before} units for"
        f" {_money(found.amount_before)}: the difference is {line.quantity} units and {_money(line.amount_gross)}."
    )
    if line.partner_id:
        told.append(
            f"Partner {line.partner_id} had earned {_money(found.partner_amount_before)}: the difference is"
            f" {_money(line.partner_amount)}."
        )
    return told


def _rated(
    line: pb.ChargeLine, quantity: str, amount: type_pb2.Money, partner_amount: type_pb2.Money
) -> list[str]:
    proof = line.proof
    told = [_metered(line, quantity), _priced(line)]
    told += [_step(step, amount.currency_code) for step in proof.steps]
    told.append(
        f"The steps add up to {proof.unrounded} {amount.currency_code}, rounded once, half up, to"
        f" {proof.rounding_places} places: {_money(amount)}."
    )
    if line.partner_id:
        remain = type_pb2.Money(
            currency_code=amount.currency_code,
            minor_units=amount.minor_units - partner_amount.minor_units,
        )
        told.append(
            f"Partner {line.partner_id} earns {line.partner_pct} % of it: {_money(partner_amount)}"
            f" (an exact half goes to us); {_money(remain)} remain."
        )
    return told


def _metered(line: pb.ChargeLine, quantity: str) -> str:
    proof = line.proof
    aggregation = type_pb2.Aggregation.Name(proof.aggregation).removeprefix("AGGREGATION_")
    where = f" in project {line.project_id}" if line.project_id else ""
    told = f"{aggregation} of {proof.event_count} events of {line.sku}{where} is {quantity}"
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
