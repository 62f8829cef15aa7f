"""Whether an estimate of usage comes to what is charged for it.

A charge and an estimate go by the same prices on different ways: one line for each project, each from where the one
before it left off, and one quantity beside a base that is due without any. Both have to come to the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import groupby
from operator import attrgetter

from services.pricing.domain.models.parts import EXACT, Source
from services.pricing.domain.rating import (
    EstimatedPeriod,
    EstimateLine,
    Line,
    PartTerms,
    RatedPart,
    Span,
    estimate,
)
from services.pricing.domain.values import ZERO
from services.runtime.errors import InvalidField
from services.runtime.money import Money, format_decimal, format_money, round_to_minor, to_decimal

CONTRACT = "pricing/estimate-is-charge"
SKUS_COMPARED_MAX = 100
"""Of one part of a period; of a plan with more prices, those that come first."""
ONCE = Decimal(1)
_SKU = attrgetter("usage.sku")


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A SKU for which an estimate comes to something else than what is charged.

    Attributes:
        span: the part of the period.
        quantity: units that are charged.
        charged: what for, in major units; before rounding where it has several lines.
        estimated: the same by an estimate.
    """

    sku: str
    span: Span
    quantity: Decimal
    charged: Decimal
    estimated: Decimal
    currency_code: str

    def told(self, org_id: str) -> str:
        """Say it in a sentence."""
        return (
            f"an estimate of {format_decimal(self.quantity)} units of {self.sku} comes to"
            f" {self.estimated:f} {self.currency_code}, and {self.charged:f} is charged to {org_id} from"
            f" {self.span.start_at.isoformat()} on"
        )


def disagreements(parts: Iterable[RatedPart]) -> list[Disagreement]:
    """Estimate what was rated, part by part, and return what comes to something else.

    Prices that ask for more than a quantity are left out: an estimate has no events.

    Args:
        parts: with whole lines, before they are shared out to who earns on them.
    """
    return [found for part in parts for found in _of_part(part)]


def _of_part(part: RatedPart) -> Iterator[Disagreement]:
    lines = estimable(part)
    try:
        found = _estimated(part, lines)
    except InvalidField:
        # All projects together have more digits than the quantity of an estimate may.
        return
    for each in found:
        of_sku = lines[each.sku]
        unused = part.terms.by_sku[each.sku].price.evaluate(ZERO).exact
        charged, estimated = _both(part.terms.currency_code, of_sku, each, unused)
        if charged != estimated:
            quantity, code = _quantity(of_sku), part.terms.currency_code
            yield Disagreement(each.sku, part.span, quantity, charged, estimated, code)


def _estimated(part: RatedPart, lines: Mapping[str, Sequence[Line]]) -> Sequence[EstimateLine]:
    prices = {sku: part.terms.by_sku[sku] for sku in lines}
    terms = replace(part.terms, by_sku=prices)
    used = {sku: _quantity(of_sku) for sku, of_sku in lines.items()}
    return estimate([PartTerms(part.span, terms)], used, ONCE)[1]


def _both(
    currency_code: str, lines: Sequence[Line], estimated: EstimateLine, unused: Decimal
) -> tuple[Decimal, Decimal]:
    """Return what lines and an estimate come to: as money, or exactly where several lines round by themselves."""
    if len(lines) == 1:
        whole = round_to_minor(unused, currency_code) + estimated.total
        return to_decimal(lines[0].amount), to_decimal(whole)
    exact = ZERO
    for line in lines:
        exact = EXACT.add(exact, line.exact)
    return exact, EXACT.add(unused, estimated.exact_total)


def estimable(part: RatedPart) -> dict[str, Sequence[Line]]:
    """Return the lines of a part by SKU, of those whose price asks for a quantity alone."""
    found: dict[str, Sequence[Line]] = {}
    for sku, lines in groupby(sorted(part.lines, key=_SKU), key=_SKU):
        if part.terms.by_sku[sku].price.source is Source.QUANTITY:
            found[sku] = list(lines)
        if len(found) == SKUS_COMPARED_MAX:
            break
    return found


def quantities(part: RatedPart) -> dict[str, Decimal]:
    """Return what an estimate of a part is asked for: units by SKU."""
    return {sku: _quantity(lines) for sku, lines in estimable(part).items()}


def _quantity(lines: Sequence[Line]) -> Decimal:
    total = ZERO
    for line in lines:
        total = EXACT.add(total, line.quantity)
    return total


def differs(answered: EstimatedPeriod, computed: EstimatedPeriod) -> str:
    """Say where what Estimate answered is not what the terms of a charge come to; empty where it is."""
    if answered.base != computed.base:
        return f"the base is {_told(answered.base)}, and by the terms of a charge {_told(computed.base)}"
    for mine, theirs in zip(answered.lines, computed.lines, strict=True):
        if mine != theirs:
            return f"{mine.sku} comes to {_told(mine.total)}, and by the terms of a charge to {_told(theirs.total)}"
    return ""


def _told(amount: Money) -> str:
    return f"{format_money(amount)} {amount.currency_code}"
