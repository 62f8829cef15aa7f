"""From metered usage to lines: which plan holds, what each line costs, who earns on it.

Rules (house, `docs/decisions/0062-rating-a-period.md` and `0205-parts-of-a-period.md`): plan and version are those in
force at the start of the period, or of the part of it in which the terms hold; a SKU's projects are rated in the order
of their ids, each from where the one before it left off; a line rounds once. Where another partner begins to earn
inside the period, each line is shared out by time (`0197-partners-within-a-period.md`), with its taxes, which are those
of the whole line (`0199-taxes.md`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, localcontext
from enum import StrEnum
from functools import reduce
from itertools import groupby, pairwise
from operator import attrgetter
from typing import NamedTuple

from services.pricing.domain.catalog import Aggregation, Entitlement
from services.pricing.domain.commissions import (
    Commission,
    Stretch,
    commissions,
    portion,
    whole_portion,
)
from services.pricing.domain.errors import PlanChangesInPeriod, SkuNotPriced, UsageNotRateable
from services.pricing.domain.models.parts import EXACT, NOTHING, Source, Tally, added
from services.pricing.domain.prices import Before, Evaluation, Price, Use
from services.pricing.domain.proration import Proration, Share, share_of, spread
from services.pricing.domain.tax_table import TaxProfile
from services.pricing.domain.taxes import TaxItem, TaxLine, TaxTotal, on_top, totals
from services.pricing.domain.values import ZERO
from services.runtime.errors import InvalidField
from services.runtime.money import (
    CONTEXT,
    DECIMAL_PATTERN,
    Money,
    format_decimal,
    round_to_minor,
)

_SKU = attrgetter("sku")
_NOTHING_YET = Before(amount=ZERO)
_PLACE = attrgetter("sku", "project_id")


class PlanSource(StrEnum):
    """How the plan of an organisation was found."""

    ENTITLEMENT = "ENTITLEMENT"
    ORG_BUSINESS_MODEL = "ORG_BUSINESS_MODEL"
    MODEL_DEFAULT = "MODEL_DEFAULT"


@dataclass(frozen=True, slots=True)
class Term:
    """What one SKU costs an organisation.

    Attributes:
        price: the price.
        overridden: True when the entitlement replaces or adds it.
        aggregation: how its events become the quantity.
        whole: the price of a whole period, where `price` is what proration leaves of it; else None.
        tax_code: of what is sold; "" for none.
    """

    price: Price
    overridden: bool = False
    aggregation: Aggregation = Aggregation.SUM
    whole: Price | None = None
    tax_code: str = ""

    def prorated(self, share: Share) -> Term:
        """Return the term of a part of a period."""
        price = self.price.prorated(share)
        return self if price == self.price else replace(self, price=price, whole=self.price)


@dataclass(frozen=True, slots=True)
class Terms:
    """What an organisation pays, and who earns on it, at one moment.

    Attributes:
        source: how the plan was found.
        entitlement_at: from when the entitlement held; None without one.
        by_sku: price of each SKU.
        earning: who earns on it, stretch by stretch of the part that they hold for; empty: nobody.
        proration: how the plan shares out what is due by the period; None: not at all.
        share: which share of the period they hold for; None: all of it, or nothing is prorated.
    """

    plan_id: str
    plan_version: int
    currency_code: str
    source: PlanSource
    entitlement_at: datetime | None
    by_sku: Mapping[str, Term]
    earning: tuple[Stretch, ...] = ()
    proration: Proration | None = None
    share: Share | None = None

    def prorated(self, share: Share | None) -> Terms:
        """Return the terms of a part of a period."""
        if share is None:
            return self
        by_sku = {sku: term.prorated(share) for sku, term in self.by_sku.items()}
        return replace(self, by_sku=by_sku, share=share)


class Span(NamedTuple):
    """A stretch of time, half open."""

    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True)
class PartTerms:
    """A part of a period, and what the organisation pays in it."""

    span: Span
    terms: Terms


@dataclass(frozen=True, slots=True)
class Usage:
    """Metered usage of one SKU in one project over the period.

    Attributes:
        project_id: "" for usage of no project, and for that of all projects where only the whole has a price.
        total: what the SKU's aggregation makes of it; the sum, for a SKU that is counted.
        quantities: the same by value of the price's dimension; None: not read.
        tally: the events as the price sorts them; None: not read.
    """

    sku: str
    project_id: str
    total: Decimal
    event_count: int
    first_event_at: datetime | None = None
    last_event_at: datetime | None = None
    quantities: Mapping[str, Decimal] | None = None
    tally: Tally | None = None


class LineTax(NamedTuple):
    """By what a line is taxed.

    Attributes:
        taxed_at: the instant whose rates and profile decide.
        profile: of the organisation; None: it has none, and is left untaxed.
        whole: the taxes of all of the line, where the line is a share of it; those of the line otherwise.
        taxes: those of the line.
    """

    taxed_at: datetime
    profile: TaxProfile | None
    whole: tuple[TaxLine, ...]
    taxes: tuple[TaxLine, ...]


class Line(NamedTuple):
    """What the usage of one SKU in one project costs, or a stretch's share of that, with all that led to it.

    Attributes:
        evaluation: of the whole usage, whatever the stretch.
        quantity: units of the line.
        exact: its amount before rounding; of a share, to 18 places.
        part_no: which of the SKU's lines it is, from 1; shares of one line have the same.
        commission: who earns on it; None: nobody, and nobody does in another stretch.
        tax: None while the tenant has no tax rate in force.
    """

    usage: Usage
    term: Term
    use: Use
    before: Before
    evaluation: Evaluation
    quantity: Decimal
    exact: Decimal
    amount: Money
    part_no: int
    commission: Commission | None = None
    tax: LineTax | None = None

    @property
    def taxes(self) -> tuple[TaxLine, ...]:
        """Its taxes."""
        return self.tax.taxes if self.tax else ()

    @property
    def partner_id(self) -> str:
        """Partner that earns on it; "" for none."""
        earner = self.commission.earner if self.commission else None
        return earner.partner_id if earner else ""

    @property
    def partner_pct(self) -> Decimal | None:
        """Its share of the amount in per cent; None when nobody earns."""
        return self.commission.pct if self.commission else None

    @property
    def dispute_id(self) -> str:
        """Dispute under which the share is held; "" for none."""
        earner = self.commission.earner if self.commission else None
        return earner.dispute_id if earner else ""

    @property
    def prior(self) -> Decimal:
        """Units of projects rated before it."""
        return self.before.quantity


@dataclass(frozen=True, slots=True)
class EstimateLine:
    """What the expected usage of one SKU adds to the base; `exact_total` is that before rounding."""

    sku: str
    included: Decimal
    overage: Decimal
    total: Money
    exact_total: Decimal

    def plus(self, other: EstimateLine) -> EstimateLine:
        """Add the same SKU's line of another part."""
        return EstimateLine(
            self.sku,
            CONTEXT.add(self.included, other.included),
            CONTEXT.add(self.overage, other.overage),
            self.total + other.total,
            CONTEXT.add(self.exact_total, other.exact_total),
        )


def changes_of_terms(
    entitlements: Sequence[Entitlement], start_at: datetime
) -> list[tuple[datetime, Entitlement | None]]:
    """Return from when in a period which entitlement holds; None where the business model decides.

    `entitlements` are the one in force at the period's start and those that begin inside it, oldest first. One that
    begins and changes nothing is left out.
    """
    held: Entitlement | None = None
    found: list[tuple[datetime, Entitlement | None]] = []
    for item in entitlements:
        if item.effective_at <= start_at:
            held = item
            continue
        if not found:
            found.append((start_at, held))
        before = found[-1][1]
        if before is None or not _same_terms(before, item):
            found.append((item.effective_at, item))
    return found or [(start_at, held)]


def parts_of(
    org_id: str, period: Span, found: Sequence[tuple[datetime, Terms]]
) -> tuple[PartTerms, ...]:
    """Cut a period where the terms of an organisation change, each part with its share of it.

    Raises:
        PlanChangesInPeriod: a plan does not say how it is prorated, or the parts are in different currencies.
    """
    starts = [start_at for start_at, _ in found]
    spans = [Span(*both) for both in pairwise([*starts, period.end_at])]
    if len(found) == 1:
        return (PartTerms(spans[0], found[0][1]),)
    silent = sorted({terms.plan_id for _, terms in found if terms.proration is None})
    if silent:
        raise terms_change(
            org_id, starts[1], f"plan {silent[0]} does not say how such a period is prorated"
        )
    if len({terms.currency_code for _, terms in found}) > 1:
        raise terms_change(org_id, starts[1], "the plans are in different currencies")
    return tuple(
        PartTerms(span, terms.prorated(share_of(terms.proration, period, span)))
        for span, (_, terms) in zip(spans, found, strict=True)
    )


def check_parts(org_id: str, parts: Sequence[PartTerms], usages: Sequence[Iterable[Usage]]) -> None:
    """Refuse usage in several parts of a period that its SKU's aggregation makes no whole of.

    Raises:
        PlanChangesInPeriod: names the SKU; each part would be priced as if it were a period.
    """
    used: set[str] = set()
    for part, seen in zip(parts, usages, strict=True):
        skus = {usage.sku for usage in seen}
        for sku in sorted(skus & used & part.terms.by_sku.keys()):
            term = part.terms.by_sku[sku]
            if not term.aggregation.adds_up and term.price.model_name != "flat":
                name = term.aggregation.value.removeprefix("AGGREGATION_")
                raise terms_change(
                    org_id,
                    part.span.start_at,
                    f"the {name} of {sku} in its parts does not add up to that of the period",
                    "rate the parts before and after separately",
                )
        used |= skus


def terms_change(
    org_id: str,
    at: datetime,
    why: str,
    remedy: str = "rate the parts before and after separately, or set `proration` of the plans",
) -> PlanChangesInPeriod:
    """Refuse a period inside which the terms change."""
    change_at = at.isoformat().replace("+00:00", "Z")
    return PlanChangesInPeriod(
        f"the terms of {org_id} change at {change_at}, inside the period, and {why}; {remedy}",
        org_id=org_id,
        change_at=change_at,
    )


def _same_terms(left: Entitlement, right: Entitlement) -> bool:
    return (left.plan_id, left.plan_version, left.overrides) == (
        right.plan_id,
        right.plan_version,
        right.overrides,
    )


def rate(terms: Terms, usages: Iterable[Usage]) -> list[Line]:
    """Rate the usage of a period that is not taxed, and what is due without any, by SKU and project.

    Raises:
        DomainError: as `rate_whole`.
    """
    return shared_out(terms, rate_whole(terms, usages))


def rate_whole(terms: Terms, usages: Iterable[Usage]) -> list[Line]:
    """Rate the usage of a period, and what is due without any, by SKU and project, whoever earns on it.

    A SKU whose price cannot be split over projects gets one line for all of them.

    Raises:
        SkuNotPriced: names every SKU with usage that the terms do not price.
        UsageNotRateable: a sum below zero.
        PriceInputMissing: usage was not read as its price asks for.
        DimensionNotPriced: a value of a dimension has usage and no amount.
        AmountOverflow: a line leaves 64-bit minor units.
    """
    ordered = sorted(usages, key=_PLACE)
    _refuse_unpriced(terms, (usage.sku for usage in ordered))
    lines: list[Line] = []
    for sku, group in groupby(ordered, key=_SKU):
        lines += _rate_sku(terms, terms.by_sku[sku], list(group))
    unused = _rate_unused(terms, {usage.sku for usage in ordered})
    if unused:
        lines += unused
        lines.sort(key=lambda line: _PLACE(line.usage))
    return lines


def shared_out(terms: Terms, lines: Sequence[Line]) -> list[Line]:
    """Say who earns on lines; those on which several partners earn in turn become a share for each."""
    if not terms.earning:
        return [*lines]
    return [share for line in lines for share in _earned(terms, line)]


def _earned(terms: Terms, line: Line) -> list[Line]:
    """Say who earns on a line; one on which several partners earn in turn becomes a share for each."""
    found = commissions(terms.earning, line.usage.sku)
    if not found:
        return [line]
    if len(found) == 1:
        return [line._replace(commission=found[0])]
    period = terms.earning[0].start_at, terms.earning[-1].end_at
    shares = []
    for commission in found:
        part = portion(period, commission.stretches, line.quantity, line.exact, line.amount)
        of_whole = whole_portion(period, commission.stretches)
        taxes = tuple(each.part(of_whole) for each in line.taxes)
        tax = line.tax._replace(taxes=taxes) if line.tax else None
        shares.append(line._replace(**part._asdict(), commission=commission, tax=tax))
    return shares


def _rate_sku(terms: Terms, term: Term, usages: Sequence[Usage]) -> list[Line]:
    if not term.price.model.splits and len(usages) > 1:
        usages = [_merged(usages)]
    if len(usages) == 1:
        return [_line(terms, term, usages[0], _use(term, usages[0]), _NOTHING_YET)]
    lines = []
    before = _NOTHING_YET
    for part_no, usage in enumerate(usages, start=1):
        use = _use(term, usage)
        line = _line(terms, term, usage, use, before, part_no)
        lines.append(line)
        before = _after(before, use, line.evaluation)
    return lines


def _after(before: Before, use: Use, evaluation: Evaluation) -> Before:
    assert before.amount is not None, "every line before it was priced here"
    return Before(
        quantity=CONTEXT.add(before.quantity, use.quantity),
        quantities=added(before.quantities, use.quantities or NOTHING),
        event_count=before.event_count + (use.tally.events if use.tally else 0),
        amount=EXACT.add(before.amount, evaluation.modelled),
        opened=True,
    )


def _merged(usages: Sequence[Usage]) -> Usage:
    """Add up the usage of all projects, for a price that only the whole has."""
    total = ZERO
    for usage in usages:
        total = CONTEXT.add(total, usage.total)
    return Usage(
        usages[0].sku,
        "",
        total,
        sum(usage.event_count for usage in usages),
        min((item.first_event_at for item in usages if item.first_event_at), default=None),
        max((item.last_event_at for item in usages if item.last_event_at), default=None),
    )


def _rate_unused(terms: Terms, used: set[str]) -> list[Line]:
    """Rate what is due without usage: flat prices, the flat amounts of first tiers, minimum amounts."""
    lines = []
    for sku, term in terms.by_sku.items():
        if sku not in used and term.price.evaluate(ZERO).exact > ZERO:
            usage = Usage(sku, "", ZERO, 0)
            lines.append(_line(terms, term, usage, Use(ZERO), _NOTHING_YET))
    return lines


def _line(
    terms: Terms, term: Term, usage: Usage, use: Use, before: Before, part_no: int = 1
) -> Line:
    evaluation = term.price.apply(use, before)
    amount = round_to_minor(evaluation.exact, terms.currency_code)
    exact = evaluation.exact
    return Line(usage, term, use, before, evaluation, use.quantity, exact, amount, part_no)


def _use(term: Term, usage: Usage) -> Use:
    use = Use(_quantity(term, usage), usage.quantities, usage.tally)
    if term.price.source is not Source.QUANTITY:
        term.price.check(use, sku=usage.sku)
    return use


def _quantity(term: Term, usage: Usage) -> Decimal:
    if term.aggregation is Aggregation.COUNT:
        return Decimal(usage.event_count)
    if usage.total < ZERO:
        quantity = format_decimal(usage.total)
        raise UsageNotRateable(
            f"usage of {usage.sku} in project {usage.project_id!r} adds up to {quantity}; a negative sum has no price",
            sku=usage.sku,
            project_id=usage.project_id,
            quantity=quantity,
        )
    return usage.total


def _refuse_unpriced(terms: Terms, skus: Iterable[str]) -> None:
    unpriced = sorted(set(skus) - set(terms.by_sku))
    if unpriced:
        names = ",".join(unpriced[:50])
        raise SkuNotPriced(
            f"plan {terms.plan_id} version {terms.plan_version} does not price {names}; "
            "price them in the plan or in an override of the entitlement",
            skus=names,
            plan_id=terms.plan_id,
            plan_version=terms.plan_version,
        )


def estimate(
    parts: Sequence[PartTerms], uses_per_lead: Mapping[str, Decimal], leads: Decimal
) -> tuple[Money, list[EstimateLine]]:
    """Preview a period: the base, due without usage, and what each SKU's usage adds to it.

    Base and lines sum to what rating the same usage gives, spread evenly over the parts of the period.

    Raises:
        SkuNotPriced: names every SKU that the terms do not price.
        PriceInputMissing: a price asks for more than a quantity: an estimate has no events.
        InvalidField: uses times leads has more digits than a quantity may have.
        AmountOverflow: an amount leaves 64-bit minor units.
    """
    whole = Span(parts[0].span.start_at, parts[-1].span.end_at)
    spans = [part.span for part in parts]
    base = Money(parts[0].terms.currency_code, 0)
    for part in parts:
        _refuse_unpriced(part.terms, uses_per_lead)
        for term in part.terms.by_sku.values():
            base += round_to_minor(term.price.evaluate(ZERO).exact, base.currency_code)
    lines = []
    for sku, uses in sorted(uses_per_lead.items()):
        quantity = expected(sku, uses, leads)
        quantities = [quantity] if len(parts) == 1 else spread(quantity, whole, spans)
        found = [
            _estimate_line(part.terms, sku, units)
            for part, units in zip(parts, quantities, strict=True)
        ]
        lines.append(reduce(EstimateLine.plus, found))
    return base, lines


def estimated_items(
    parts: Sequence[PartTerms], uses_per_lead: Mapping[str, Decimal], leads: Decimal
) -> list[TaxItem]:
    """Return what is taxed of an estimate: what rating the same usage in one project gives, line by line.

    Raises:
        AmountOverflow: an amount leaves 64-bit minor units.
    """
    whole = Span(parts[0].span.start_at, parts[-1].span.end_at)
    spans = [part.span for part in parts]
    found: list[TaxItem] = []
    for sku in sorted({sku for part in parts for sku in part.terms.by_sku}):
        quantity = expected(sku, uses_per_lead.get(sku, ZERO), leads)
        quantities = [quantity] if len(parts) == 1 else spread(quantity, whole, spans)
        for part, units in zip(parts, quantities, strict=True):
            term = part.terms.by_sku.get(sku)
            exact = term.price.evaluate(units).exact if term else ZERO
            if term is not None and (units or exact > ZERO):
                amount = round_to_minor(exact, part.terms.currency_code)
                found.append(TaxItem(term.tax_code, amount))
    return found


def _estimate_line(terms: Terms, sku: str, quantity: Decimal) -> EstimateLine:
    price = terms.by_sku[sku].price
    price.check(Use(quantity), sku=sku)
    whole, unused = price.evaluate(quantity), price.evaluate(ZERO)
    total = round_to_minor(whole.exact, terms.currency_code) - round_to_minor(
        unused.exact, terms.currency_code
    )
    exact_total = CONTEXT.subtract(whole.exact, unused.exact)
    return EstimateLine(sku, whole.included_used, whole.billable, total, exact_total)


def expected(sku: str, uses: Decimal, leads: Decimal) -> Decimal:
    """Return uses times leads. Raises InvalidField when it has more digits than a quantity may have."""
    with localcontext(CONTEXT):
        quantity = uses * leads
    if not DECIMAL_PATTERN.fullmatch(format_decimal(quantity)):
        raise InvalidField.one(
            f"skus[{sku}]",
            "uses times leads has more than 20 digits before or 18 after the decimal point",
        )
    return quantity


class RatedPart(NamedTuple):
    """A part of a period in which one plan rates an organisation, and its lines."""

    span: Span
    terms: Terms
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Rated:
    """A rated period.

    Attributes:
        parts: in their order; one, unless the organisation moves to other terms inside the period.
        usage_snapshot: which state of the usage was read, in words.
        usage_ordinal: the same as a number; None when it is not known.
        usage_log_root: root of the log of receipts at the ordinal, hexadecimal; empty when it is not known.
    """

    parts: tuple[RatedPart, ...]
    total: Money
    usage_snapshot: str
    usage_ordinal: int | None = None
    usage_log_root: str = ""

    @property
    def lines(self) -> list[tuple[RatedPart, Line]]:
        """All lines with their parts, by SKU, project and part."""
        return in_order(self.parts)

    @property
    def taxes(self) -> list[TaxTotal]:
        """What the taxes of all lines come to, each at each rate."""
        return totals(tax for _, line in self.lines for tax in line.taxes)

    @property
    def total_with_tax(self) -> Money:
        """What the organisation owes."""
        code = self.total.currency_code
        more = on_top(tax for _, line in self.lines for tax in line.taxes)
        return self.total + Money(code, more)


def in_order(parts: Iterable[RatedPart]) -> list[tuple[RatedPart, Line]]:
    """Return lines with their parts as a document has them: by SKU, project and part."""
    found = [(part, line) for part in parts for line in part.lines]
    found.sort(key=lambda both: (both[1].usage.sku, both[1].usage.project_id))
    return found


def tax_items(parts: Sequence[RatedPart]) -> list[TaxItem]:
    """Return what is taxed of whole lines, in their order."""
    return [TaxItem(line.term.tax_code, line.amount) for _, line in in_order(parts)]


def with_taxes(
    parts: Sequence[RatedPart],
    taxed_at: datetime,
    profile: TaxProfile | None,
    found: Sequence[tuple[TaxLine, ...]],
) -> tuple[RatedPart, ...]:
    """Put the taxes of whole lines, in the order of `tax_items`, to their lines."""
    by_part: dict[Span, list[Line]] = {part.span: [] for part in parts}
    for (part, line), taxes in zip(in_order(parts), found, strict=True):
        by_part[part.span].append(line._replace(tax=LineTax(taxed_at, profile, taxes, taxes)))
    return tuple(part._replace(lines=by_part[part.span]) for part in parts)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What a price comes to, exactly and rounded."""

    evaluation: Evaluation
    amount: Money


@dataclass(frozen=True, slots=True)
class EstimatedPeriod:
    """What a period would cost: the base of the plan, what each SKU adds, and both together.

    Attributes:
        taxes: on all of it; None while nothing is taxed.
    """

    base: Money
    lines: Sequence[EstimateLine]
    grand_total: Money
    taxes: Sequence[TaxTotal] | None = None

    @property
    def grand_total_with_tax(self) -> Money:
        """The grand total with all taxes."""
        more = sum(each.amount.minor_units for each in self.taxes or () if not each.inclusive)
        return self.grand_total + Money(self.grand_total.currency_code, more)
