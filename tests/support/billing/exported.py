"""Charges as the engine rates, corrects and explains them, exported: without a server, with the recipe's legs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID, uuid5

from services.billing import clients
from services.billing.domain.charges import Charge, ChargeStatus, RatedLine, Rating, Span, freeze
from services.billing.domain.corrections import Billed, adjusted, reversed_by
from services.billing.domain.transfers import LedgerTransfer, Posting
from services.billing.messages import charges as messages
from services.cli import proofs
from services.pricing import messages as pricing_messages
from services.pricing.app import pricing
from services.pricing.domain.catalog import Aggregation
from services.pricing.domain.commissions import Earner, Record, stretches
from services.pricing.domain.models.parts import Source, summed
from services.pricing.domain.models.percentage import Tallying
from services.pricing.domain.prices import Price
from services.pricing.domain.proration import Proration
from services.pricing.domain.rating import (
    PartTerms,
    PlanSource,
    Term,
    Terms,
    Usage,
    parts_of,
    tax_items,
)
from services.pricing.domain.rating import Span as RatedSpan
from services.pricing.domain.taxes import TaxDocument, TaxRules, taxed
from services.pricing.ports import UsageSnapshot
from services.runtime.money import Money
from tests.support.billing import raw_usage
from tests.support.billing.raw_usage import Raw

NOW = datetime(2026, 11, 20, tzinfo=UTC)
PERIOD = Span(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
TAXED_AT = PERIOD.end_at - timedelta(microseconds=1)
_FIRST, _LAST = datetime(2026, 10, 3, 4, 5, 6, 789_000, UTC), datetime(2026, 10, 31, tzinfo=UTC)
_NAMES = UUID("00000000-0000-0000-0000-00000000c0de")
ZERO = Decimal(0)


@dataclass(frozen=True)
class Used:
    """What a project used of a SKU: events with a quantity, and the value of the price's dimension, each."""

    sku: str
    project_id: str
    events: tuple[tuple[Decimal, str], ...]


@dataclass(frozen=True)
class Catalogue:
    """Prices by SKU, and who earns how much on which SKU."""

    prices: Mapping[str, Price]
    currency_code: str = "USD"
    partner_id: str = ""
    partner_pcts: Mapping[str, Decimal] = field(default_factory=dict)
    aggregation: Aggregation = Aggregation.SUM
    dispute_id: str = ""
    later_earners: tuple[tuple[datetime, Earner | None], ...] = ()
    taxes: TaxRules | None = None
    tax_codes: Mapping[str, str] = field(default_factory=dict)


def rating(
    catalogue: Catalogue,
    used: Sequence[Used],
    snapshot: str = "1:1:",
    *,
    changes_at: Sequence[datetime] = (),
    proration: Proration = Proration.NONE,
) -> Rating:
    """Rate usage as pricing does, and take the answer as billing does.

    Where the plan changes within the period, items were used in its parts in turn.
    """
    terms = Terms(
        plan_id="plan",
        plan_version=3,
        currency_code=catalogue.currency_code,
        source=PlanSource.ENTITLEMENT,
        entitlement_at=datetime(2026, 1, 1, tzinfo=UTC),
        by_sku={
            sku: Term(
                price,
                aggregation=catalogue.aggregation,
                tax_code=catalogue.tax_codes.get(sku, ""),
            )
            for sku, price in catalogue.prices.items()
        },
    )
    period = RatedSpan(PERIOD.start_at, PERIOD.end_at)
    terms = replace(terms, proration=proration)
    found = [
        (at, replace(terms, plan_version=3 + no))
        for no, at in enumerate([PERIOD.start_at, *changes_at])
    ]
    parts = tuple(
        replace(
            part,
            terms=replace(part.terms, earning=tuple(stretches(*part.span, _records(catalogue)))),
        )
        for part in parts_of("acme", period, found)
    )
    seen = [
        UsageSnapshot(tuple(_usages(catalogue, used[no :: len(parts)], part)), snapshot)
        for no, part in enumerate(parts)
    ]
    whole = pricing._rated_whole(parts, seen)
    profile = catalogue.taxes.profile if catalogue.taxes else None
    document = TaxDocument("acme", profile, TAXED_AT, tax_items(whole))
    taxes = taxed(document, catalogue.taxes) if catalogue.taxes else None
    rated = pricing._taxed(whole, seen[0], document, taxes)
    return clients._rating("acme", pricing_messages.rated(rated))


def _records(catalogue: Catalogue) -> list[Record]:
    """Each partner earns until the next one begins."""
    if not catalogue.partner_id:
        return []
    begins = datetime(2026, 1, 1, tzinfo=UTC)
    first = Earner(
        catalogue.partner_id, "gold", begins, catalogue.partner_pcts, catalogue.dispute_id
    )
    turns = [(begins, first), *catalogue.later_earners]
    ends = [at for at, _ in turns[1:]] + [None]
    return [
        Record(at, end_at, earner)
        for (at, earner), end_at in zip(turns, ends, strict=True)
        if earner is not None
    ]


def _within(span: RatedSpan, at: datetime) -> datetime:
    return min(max(at, span.start_at), span.end_at - timedelta(microseconds=1))


def _usages(catalogue: Catalogue, used: Sequence[Used], part: PartTerms) -> list[Usage]:
    found = []
    tallying: dict[str, Tallying] = {}
    for item in sorted(used, key=lambda each: (each.sku, each.project_id)):
        price, span = part.terms.by_sku[item.sku].price, part.span
        amounts = [amount for amount, _ in item.events]
        usage = Usage(
            item.sku,
            item.project_id,
            _aggregated(catalogue.aggregation, amounts, span),
            len(item.events),
            _within(span, _FIRST) if item.events else None,
            _within(span, _LAST) if item.events else None,
        )
        if price.source is Source.AMOUNTS:
            assert price.percentage is not None
            tally = tallying.setdefault(item.sku, Tallying(price.percentage))
            tally.add(amount for amount, _ in item.events)
            usage = replace(usage, tally=tally.close())
        elif price.source is Source.QUANTITIES:
            counts = catalogue.aggregation is Aggregation.COUNT
            by_value: dict[str, list[Decimal]] = {}
            for amount, value in item.events:
                by_value.setdefault(value, []).append(Decimal(1) if counts else amount)
            values = {
                value: _aggregated(catalogue.aggregation, some, span)
                for value, some in by_value.items()
            }
            usage = replace(usage, quantities=values)
            if not counts:
                usage = replace(usage, total=summed(values))
        found.append(usage)
    return found


def _aggregated(aggregation: Aggregation, amounts: Sequence[Decimal], span: RatedSpan) -> Decimal:
    """Aggregate events that are spread over a span; a level of 3 holds from before it. Of counted events, the sum."""
    step = (span.end_at - span.start_at) / (len(amounts) + 1)
    events = [
        Raw(0, str(number), span.start_at + number * step, Fraction(amount))
        for number, amount in enumerate(amounts, start=1)
    ]
    if aggregation is Aggregation.WEIGHTED_SUM:
        before = Raw(0, "before", span.start_at - step, Fraction(3))
        made = raw_usage.integral([before, *events], span.start_at, span.end_at)
    elif not events:
        return ZERO
    else:
        name = aggregation.value.removeprefix("AGGREGATION_")
        made = raw_usage.AGGREGATIONS["SUM" if name == "COUNT" else name](events)
    return Decimal(raw_usage.spelt(raw_usage.rounded(made)))


def charge(rated: Rating, charge_id: str = "chg_base") -> Charge:
    """Freeze a charge, and post it."""
    return posted(freeze(charge_id, "acme", PERIOD, rated, NOW))


def adjustment(billed: Billed, rated: Rating) -> Charge:
    """Make a charge of the difference, and post it."""
    return posted(adjusted(f"chg_adjust_{billed.next_no}", billed, rated, NOW))


def reversal(billed: Billed) -> Charge:
    """Make a charge of the opposite, and post it."""
    return posted(reversed_by("chg_reverse", billed, "typing error", NOW))


def posted(made: Charge) -> Charge:
    """Post a charge as version 3 of the recipe says."""
    transfers = [*_transfers(made)]
    posting = Posting(uuid5(_NAMES, made.charge_id), "charge", 3) if transfers else None
    return replace(
        made,
        status=ChargeStatus.SETTLED,
        transfers=tuple(transfers),
        posting=posting,
        settled_at=NOW,
    )


def _transfers(made: Charge) -> list[LedgerTransfer]:
    found: list[LedgerTransfer] = []
    for line in made.lines:
        code = line.rated.amount.currency_code
        for leg, debit, credit, amount in (
            (
                "gross",
                f"receivable:{made.org_id}:{code}",
                f"revenue:{line.rated.sku}:{code}",
                line.rated.without_tax,
            ),
            (
                "held" if line.rated.dispute_id else "partner",
                f"commission:{code}",
                _earned_at(line.rated, code),
                line.partner_amount,
            ),
            *(
                (
                    "tax",
                    f"receivable:{made.org_id}:{code}",
                    f"tax:{tax.key.authority}:{code}",
                    tax.amount,
                )
                for tax in line.rated.taxes
            ),
        ):
            if not amount.minor_units:
                continue
            sides = (debit, credit) if amount.minor_units > 0 else (credit, debit)
            transfer_id = uuid5(_NAMES, f"{made.charge_id} {line.line_id} {leg} {len(found)}")
            size = Money(code, abs(amount.minor_units))
            found.append(
                LedgerTransfer(transfer_id, line.line_id, leg, *sides, size, 1001, made.created_at)
            )
    return found


def _earned_at(rated: RatedLine, code: str) -> str:
    if rated.dispute_id:
        return f"held:commission:{rated.dispute_id}:{code}"
    return f"payable:partner:{rated.partner_id}:{code}"


def tree(*charges: Charge) -> dict[str, Any]:
    """Export charges: a charge of usage and its corrections so far."""
    text, _ = proofs.content([proofs._plain(messages.explanation(each)) for each in charges])
    found: dict[str, Any] = json.loads(text)
    return found


def content(document: Mapping[str, Any]) -> bytes:
    """Write a document that was changed; its seal stays as it is."""
    return json.dumps(document).encode()
