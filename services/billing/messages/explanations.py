"""The proof of a line as sentences: what was metered, which price held, how the amount came about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

from payments.billing.v1 import billing_pb2 as pb
from payments.pricing.v1 import pricing_pb2
from payments.type.v1 import type_pb2

from services.billing.domain.charges import ChargeKind
from services.runtime.money import Money, format_money, round_to_minor

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
    told += _taxes_corrected(line)
    if line.dispute_id:
        told.append(
            f"What is held under dispute {line.dispute_id} is taken back:"
            f" {_money(before.partner_amount_before)}."
        )
    elif line.partner_id:
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
    told += _taxes_corrected(line)
    if line.partner_id:
        told.append(
            f"Partner {line.partner_id} had earned {_money(found.partner_amount_before)}: the difference is"
            f" {_money(line.partner_amount)}{_held(line)}."
        )
    return told


def _rated(
    line: pb.ChargeLine, quantity: str, amount: type_pb2.Money, partner_amount: type_pb2.Money
) -> list[str]:
    told = []
    parts = [*line.proof.earlier_parts, line.proof]
    for proof in parts:
        shares = proof.commission.stretches
        comes_to, of_part = quantity, amount
        if len(parts) > 1:
            comes_to, of_part = proof.quantity, _rounded(proof, amount.currency_code)
            told.append(f"Part of the period {_span(proof)}:")
        elif shares:
            # A share of a line has the proof of the whole line.
            comes_to, of_part = proof.quantity, _rounded(proof, amount.currency_code)
        told += [_metered(line, proof, comes_to), _priced(proof)]
        if proof.HasField("proration"):
            told.append(_shared(proof, amount.currency_code))
        told += [_step(step, amount.currency_code) for step in proof.steps]
        told.append(
            f"The steps add up to {proof.unrounded} {amount.currency_code}, rounded once, half up, to"
            f" {proof.rounding_places} places: {_money(of_part)}."
        )
        if shares and len(parts) > 1:
            told.append(
                f"Who earns changes in the period: by time, the line has what is of {_times(proof)}."
            )
        elif shares:
            told.append(_share(proof, quantity, amount))
    if len(parts) > 1:
        told.append(f"The parts add up to {quantity} units and {_money(amount)}.")
    for proof in parts:
        told += _taxed(proof, amount.currency_code, names_part=len(parts) > 1)
    if line.partner_id:
        told += _rule(line)
        each = " of each part" if len(parts) > 1 else ""
        held = _included(line, amount) if line.taxes else 0
        remain = type_pb2.Money(
            currency_code=amount.currency_code,
            minor_units=amount.minor_units - held - partner_amount.minor_units,
        )
        of = "it without tax" if held else "it"
        told.append(
            f"Partner {line.partner_id} earns {line.partner_pct} % of {of}: {_money(partner_amount)}"
            f" (an exact half{each} goes to us){_held(line)}; {_money(remain)} remain."
        )
    return told


_NOT_LEVIED = {
    pricing_pb2.TAX_TREATMENT_ZERO_RATED: "is levied at zero per cent",
    pricing_pb2.TAX_TREATMENT_EXEMPT: "is not levied: what is sold is exempt",
    pricing_pb2.TAX_TREATMENT_OUT_OF_SCOPE: "is not levied: what is sold is outside of it",
    pricing_pb2.TAX_TREATMENT_CUSTOMER_EXEMPT: "is not levied: the organisation is exempt",
    pricing_pb2.TAX_TREATMENT_REVERSE_CHARGE: "is not levied: the organisation accounts for it itself",
}


def _taxed(proof: pricing_pb2.LineProof, currency_code: str, *, names_part: bool) -> list[str]:
    """Say which taxes the line of a proof bears, all of it, and why not."""
    if not proof.HasField("tax"):
        return []
    tax = proof.tax
    at = tax.taxed_at.ToJsonString()
    of_part = f" of the part {_span(proof)}" if names_part else ""
    where = f"{tax.country}-{tax.region}" if tax.region else tax.country
    if not tax.taxes:
        why = f"no rate of {where}" if where else "no tax profile"
        return [
            f"No tax{of_part}: {why} is known at {at}, and the tax policy leaves such lines untaxed."
        ]
    code = f", tax code {tax.tax_code}" if tax.tax_code else ""
    known = f", tax id {tax.tax_id}" if tax.tax_id else ""
    told = [f"Taxed{of_part} as in {where} at {at}{code}{known}."]
    return told + [_levied(each, currency_code) for each in tax.taxes]


def _levied(tax: pricing_pb2.TaxLine, currency_code: str) -> str:
    name = f"{tax.jurisdiction} {tax.tax}"
    why = f" ({tax.reason})" if tax.reason else ""
    if tax.treatment != pricing_pb2.TAX_TREATMENT_TAXED:
        named = f", certificate {tax.certificate}" if tax.certificate else ""
        how = _NOT_LEVIED.get(tax.treatment, "is treated in a way unknown to this version")
        return f"{name} {how}{named}{why}: {_money(tax.amount)} on {_money(tax.taxable_amount)}."
    compound = " and the taxes before it" if tax.compound else ""
    base = _money(tax.taxable_amount)
    how = f"{tax.rate_percent} % of {base} without tax{compound}"
    held = ", which the amount holds" if tax.inclusive else ""
    rounded = "rounded half up"
    if tax.HasField("prior_amount"):
        what = "amounts" if tax.inclusive else "what it is levied on"
        prior = _money(tax.prior_amount)
        rounded = (
            f"what it adds to the rounded tax of the charge, whose {what} before it came to {prior}"
        )
    return f"{name}: {how}{held}, {rounded}{why}: {_money(tax.amount)}."


def _taxes_corrected(line: pb.ChargeLine) -> list[str]:
    """Say what leads from the taxes that had been billed to those of now."""
    return [
        f"{tax.jurisdiction} {tax.tax} at {tax.rate_percent} %: {_money(tax.amount_before)} had been billed; the"
        f" difference is {_money(tax.amount)}."
        for tax in line.taxes
    ]


def _included(line: pb.ChargeLine, amount: type_pb2.Money) -> int:
    """Return what the line's amount of now holds of taxes, in minor units."""
    if not line.HasField("correction"):
        return amount.minor_units - line.amount_without_tax.minor_units
    return sum(
        tax.amount.minor_units + tax.amount_before.minor_units
        for tax in line.taxes
        if tax.inclusive
    )


def _share(proof: pricing_pb2.LineProof, quantity: str, amount: type_pb2.Money) -> str:
    return (
        f"Who earns changes in the period: by time, {quantity} of {proof.quantity} units and {_money(amount)} are of"
        f" {_times(proof)}."
    )


def _times(proof: pricing_pb2.LineProof) -> str:
    return " and ".join(
        f"{each.start_at.ToJsonString()} to {each.end_at.ToJsonString()}"
        for each in proof.commission.stretches
    )


def _rule(line: pb.ChargeLine) -> list[str]:
    """Name the rate; proofs of before there were rules in them have none."""
    if not line.proof.HasField("commission"):
        return []
    rule = line.proof.commission
    what = f"for {rule.rate_sku}" if rule.rate_sku else "for all SKUs without a rate of their own"
    of = f" of billing account {rule.billing_account_id}" if rule.billing_account_id else ""
    return [
        f"Partner {line.partner_id} is the partner of record{of} since {rule.record_start_at.ToJsonString()}; tier"
        f" {rule.partner_tier} has a rate {what}: {line.partner_pct} %."
    ]


def _held(line: pb.ChargeLine) -> str:
    return f", held under dispute {line.dispute_id}" if line.dispute_id else ""


def _rounded(proof: pricing_pb2.LineProof, currency_code: str) -> type_pb2.Money:
    found = round_to_minor(Decimal(proof.unrounded or 0), currency_code)
    return type_pb2.Money(currency_code=currency_code, minor_units=found.minor_units)


def _span(proof: pricing_pb2.LineProof) -> str:
    period = proof.period
    return f"from {period.start_at.ToJsonString()} to {period.end_at.ToJsonString()}"


_UNITS = {pricing_pb2.PRORATION_DAY: "days", pricing_pb2.PRORATION_SECOND: "seconds"}


def _shared(proof: pricing_pb2.LineProof, currency_code: str) -> str:
    """Say which share of what is due or given by the period a line has, and what it is of each."""
    share = proof.proration
    units = _UNITS.get(share.unit, "units")
    told = (
        f"Its share of what the price asks for or gives by the period, {_span(proof)}, is"
        f" {share.until_units - share.from_units} of {share.period_units} {units}"
    )
    changes = [
        f"{name} {whole} becomes {part}"
        for name, whole, part in _amounts_shared(proof.whole_price, proof.price, currency_code)
        if whole != part
    ]
    return f"{told}: {'; '.join(changes)}." if changes else f"{told}."


def _amounts_shared(
    whole: pricing_pb2.Price, part: pricing_pb2.Price, currency_code: str
) -> Iterator[tuple[str, str, str]]:
    def money(text: str) -> str:
        return f"{text or '0'} {currency_code}"

    model = whole.WhichOneof("model")
    if model == "flat":
        yield "the flat amount of", money(whole.flat.amount), money(part.flat.amount)
    elif model in {"graduated", "volume", "graduated_percentage"}:
        first, left = getattr(whole, model).tiers[0], getattr(part, model).tiers[0]
        yield "the first tier's flat amount of", money(first.flat_amount), money(left.flat_amount)
    elif model == "stairstep":
        steps = zip(whole.stairstep.steps, part.stairstep.steps, strict=True)
        for number, (step, left_step) in enumerate(steps, start=1):
            yield f"the amount of step {number} of", money(step.amount), money(left_step.amount)
    elif model == "percentage":
        events, left_events = whole.percentage.free_events, part.percentage.free_events
        yield "the number of free events of", str(events), str(left_events)
        free, left_free = whole.percentage.free_amount, part.percentage.free_amount
        yield "the free amount of", money(free), money(left_free)
    yield "the included quantity of", whole.included_qty or "0", part.included_qty or "0"
    yield "the minimum of", money(whole.minimum_amount), money(part.minimum_amount)
    yield "the maximum of", money(whole.maximum_amount), money(part.maximum_amount)


def _metered(line: pb.ChargeLine, proof: pricing_pb2.LineProof, quantity: str) -> str:
    aggregation = type_pb2.Aggregation.Name(proof.aggregation).removeprefix("AGGREGATION_")
    where = f" in project {line.project_id}" if line.project_id else ""
    told = f"{aggregation} of {proof.event_count} events of {line.sku}{where} is {quantity}"
    if proof.event_count:
        first = proof.first_event_at.ToJsonString()
        last = proof.last_event_at.ToJsonString()
        told += f", events from {first} to {last}"
    if proof.aggregation == type_pb2.AGGREGATION_WEIGHTED_SUM:
        told += ", in units times hours, with the level that held before the period"
    return f"{told}; {_state(proof)}."


def _state(proof: pricing_pb2.LineProof) -> str:
    """Say which state of the usage was read; proofs from before ordinals have only the words of the database."""
    if proof.HasField("usage_ordinal"):
        return f"usage up to ordinal {proof.usage_ordinal}"
    return f"usage snapshot {proof.usage_snapshot}"


def _priced(proof: pricing_pb2.LineProof) -> str:
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
    tell = _STEPS.get(step.kind)
    amount = f"{step.amount or '0'} {currency_code}"
    if tell is not None:
        return f"{tell(step)}: {amount}."
    kind = (
        pricing_pb2.PriceStep.Kind.Name(step.kind).removeprefix("KIND_").replace("_", " ").lower()
    )
    of = f" {step.label!r}" if step.label else ""
    return (
        f"{kind.capitalize()}{of}: units {step.from_quantity or '0'} to {step.to_quantity or '0'}, "
        f"{step.units or '0'} x {step.unit_amount or '0'} + {step.flat_amount or '0'}"
        f" = {amount}."
    )


def _converted(step: pricing_pb2.PriceStep) -> str:
    return (
        f"Conversion: {step.units} metered units are the priced units {step.from_quantity} to"
        f" {step.to_quantity}, which cost by themselves"
    )


def _free(step: pricing_pb2.PriceStep) -> str:
    return f"Free: the allowance covers {step.units}"


def _percentage(step: pricing_pb2.PriceStep) -> str:
    return f"Percentage: {step.units} x {step.unit_amount}"


def _per_event(step: pricing_pb2.PriceStep) -> str:
    return f"Fixed amount: {step.units} events x {step.unit_amount}"


def _event_minimum(step: pricing_pb2.PriceStep) -> str:
    return f"Minimum of an event: {step.units} events raised to {step.unit_amount}"


def _event_maximum(step: pricing_pb2.PriceStep) -> str:
    return f"Maximum of an event: {step.units} events lowered to {step.unit_amount}"


def _stair(step: pricing_pb2.PriceStep) -> str:
    return f"Step {step.label}, above the one reached before"


def _amounts(step: pricing_pb2.PriceStep) -> str:
    return "Amounts that the events carry"


def _discount(step: pricing_pb2.PriceStep) -> str:
    return f"Discount: {step.units} x {step.unit_amount}"


def _minimum(step: pricing_pb2.PriceStep) -> str:
    return "Raised to the minimum, less what was raised before"


def _maximum(step: pricing_pb2.PriceStep) -> str:
    return "Lowered to the maximum, less what was lowered before"


_Step = pricing_pb2.PriceStep
_STEPS: dict[int, Callable[[pricing_pb2.PriceStep], str]] = {
    _Step.KIND_CONVERSION: _converted,
    _Step.KIND_FREE: _free,
    _Step.KIND_PERCENTAGE: _percentage,
    _Step.KIND_PER_EVENT: _per_event,
    _Step.KIND_EVENT_MINIMUM: _event_minimum,
    _Step.KIND_EVENT_MAXIMUM: _event_maximum,
    _Step.KIND_STAIR: _stair,
    _Step.KIND_AMOUNTS: _amounts,
    _Step.KIND_DISCOUNT: _discount,
    _Step.KIND_MINIMUM: _minimum,
    _Step.KIND_MAXIMUM: _maximum,
}


def _money(amount: type_pb2.Money) -> str:
    return f"{format_money(Money(amount.currency_code, amount.minor_units))} {amount.currency_code}"
