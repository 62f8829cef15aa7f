"""Taxes on the amounts of a document, such as a charge: exact until each is rounded, half up, to the minor unit.

Rules (house, `docs/decisions/0199-taxes.md`): inclusive taxes are taken out of an amount first, and what they leave is
the amount without tax, whatever was rounded; the others are added to it in their order. What is rounded by the document
counts on from line to line, so that the lines sum exactly to the tax of the document.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import NamedTuple

from services.pricing.domain.errors import TaxProfileMissing, TaxRateMissing
from services.pricing.domain.tax_table import (
    TaxMissing,
    TaxPolicy,
    TaxProfile,
    TaxRate,
    TaxRounding,
    Treatment,
)
from services.runtime.errors import CurrencyMismatch
from services.runtime.money import Money

_HALF = Fraction(1, 2)
_NAMED_MAX = 20


class TaxItem(NamedTuple):
    """An amount of a document, with taxes that prices hold; below zero for a credit."""

    tax_code: str
    amount: Money


@dataclass(frozen=True, slots=True)
class TaxDocument:
    """What is taxed together.

    Attributes:
        profile: where and how the organisation is taxed then; None: it is not known.
        taxed_at: the instant whose rates decide.
    """

    org_id: str
    profile: TaxProfile | None
    taxed_at: datetime
    items: Sequence[TaxItem]


@dataclass(frozen=True, slots=True)
class TaxLine:
    """One tax on an item.

    Attributes:
        tax_code: of the rate; "" for the one of all codes without one of their own.
        rate: per cent; of a tax that is not levied on the organisation, what it would be.
        taxable: the amount without tax, and of a compound tax those before it too.
        prior: with rounding by the document, what items before this one add to what it counts on from.
        certificate: by which the organisation is exempt; "" if it is not.
        reason: in the words of the rate.
    """

    jurisdiction: str
    tax: str
    tax_code: str
    authority: str
    treatment: Treatment
    rate: Decimal
    inclusive: bool
    compound: bool
    rounding: TaxRounding
    rate_effective_at: datetime
    taxable: Money
    amount: Money
    prior: Money | None = None
    certificate: str = ""
    reason: str = ""

    def part(self, of_whole: Callable[[int], int]) -> TaxLine:
        """Return what a share of the item has of it; `of_whole` says how much of a number the share has."""
        return replace(
            self,
            taxable=Money(self.taxable.currency_code, of_whole(self.taxable.minor_units)),
            amount=Money(self.amount.currency_code, of_whole(self.amount.minor_units)),
        )


class TaxTotal(NamedTuple):
    """What one tax at one rate comes to in a document."""

    jurisdiction: str
    tax: str
    treatment: Treatment
    rate: Decimal
    inclusive: bool
    taxable: Money
    amount: Money


@dataclass(frozen=True, slots=True)
class TaxRules:
    """By what the items of a document are taxed.

    Attributes:
        profile: where and how the organisation is taxed; None: nothing is known of it.
        rates: those in force, by jurisdiction and tax, and then by tax code.
    """

    profile: TaxProfile | None
    policy: TaxPolicy
    rates: Mapping[tuple[str, str], Mapping[str, TaxRate]]

    @classmethod
    def of(
        cls, profile: TaxProfile | None, policy: TaxPolicy, in_force: Iterable[TaxRate]
    ) -> TaxRules:
        """Sort rates."""
        rates: dict[tuple[str, str], dict[str, TaxRate]] = {}
        for rate in in_force:
            rates.setdefault((rate.jurisdiction, rate.tax), {})[rate.tax_code] = rate
        return cls(profile, policy, rates)

    def rates_of(self, tax_code: str) -> tuple[TaxRate, ...]:
        """Return the rates of a tax code, in the order in which they are computed."""
        found = (codes.get(tax_code) or codes.get("") for codes in self.rates.values())
        return tuple(
            sorted(
                (rate for rate in found if rate),
                key=lambda each: (
                    not each.inclusive,
                    each.position,
                    each.jurisdiction,
                    each.tax,
                ),
            )
        )


# What a tax that is rounded by the document counts on from: jurisdiction, tax, whether it is inclusive, and the share
# that it has of what it is levied on.
_Counted = dict[tuple[str, str, bool, Fraction], int]


def taxed(document: TaxDocument, rules: TaxRules) -> list[tuple[TaxLine, ...]]:
    """Return the taxes on each item, in the order in which they are computed.

    Raises:
        TaxProfileMissing: it is not known where the organisation is taxed.
        TaxRateMissing: names the tax codes that no rate is in force for.
        CurrencyMismatch: the items are in several currencies.
        AmountOverflow: an amount leaves 64-bit minor units.
    """
    by_code = {code: rules.rates_of(code) for code in {item.tax_code for item in document.items}}
    if rules.policy.missing is TaxMissing.REFUSE:
        _refuse_missing(document, rules, by_code)
    _refuse_currencies(document.items)
    counted: _Counted = defaultdict(int)
    return [
        _taxes_on(item.amount, by_code[item.tax_code], rules, counted) for item in document.items
    ]


def _refuse_missing(
    document: TaxDocument, rules: TaxRules, by_code: Mapping[str, Sequence[TaxRate]]
) -> None:
    at = document.taxed_at.isoformat().replace("+00:00", "Z")
    if not document.items:
        return
    if rules.profile is None:
        raise TaxProfileMissing(
            f"{document.org_id} has no tax profile at {at}: declare where it is taxed in tax_profiles of the catalogue,"
            " or a tax policy with TAX_MISSING_UNTAXED",
            org_id=document.org_id,
            taxed_at=at,
        )
    missing = sorted(code for code, rates in by_code.items() if not rates)
    if missing:
        place = rules.profile.jurisdictions[-1]
        told = ", ".join(repr(code) for code in missing[:_NAMED_MAX])
        raise TaxRateMissing(
            f"no tax rate of {place} is in force at {at} for tax code {told}: declare one in tax_rates of the"
            " catalogue, TAX_TREATMENT_OUT_OF_SCOPE if nothing is levied, or a tax policy with TAX_MISSING_UNTAXED",
            org_id=document.org_id,
            jurisdiction=place,
            tax_codes=",".join(missing[:_NAMED_MAX]),
            taxed_at=at,
        )


def _refuse_currencies(items: Sequence[TaxItem]) -> None:
    codes = sorted({item.amount.currency_code for item in items})
    if len(codes) > 1:
        raise CurrencyMismatch(
            f"a document has one currency, and its items are in {codes[0]} and {codes[1]}",
            left=codes[0],
            right=codes[1],
        )


def _taxes_on(
    amount: Money, rates: Sequence[TaxRate], rules: TaxRules, counted: _Counted
) -> tuple[TaxLine, ...]:
    assessed = [(rate, *_treated(rate, rules.profile)) for rate in rates]
    factors = _factors([(rate, treatment) for rate, treatment, _ in assessed])
    found: list[TaxLine] = []
    for (rate, treatment, certificate), factor in zip(assessed, factors, strict=True):
        base = amount.minor_units
        if not rate.inclusive:
            base = _taxable(amount, found, compound=rate.compound)
        prior = None
        if rules.policy.rounding is TaxRounding.DOCUMENT:
            key = (rate.jurisdiction, rate.tax, rate.inclusive, factor)
            prior = counted[key]
            counted[key] = prior + base
        minor_units = _half_up(factor * ((prior or 0) + base)) - _half_up(factor * (prior or 0))
        found.append(
            TaxLine(
                jurisdiction=rate.jurisdiction,
                tax=rate.tax,
                tax_code=rate.tax_code,
                authority=rate.authority or rate.jurisdiction,
                treatment=treatment,
                rate=rate.per_cent,
                inclusive=rate.inclusive,
                compound=rate.compound,
                rounding=rules.policy.rounding,
                rate_effective_at=rate.effective_at,
                taxable=Money(amount.currency_code, base),
                amount=Money(amount.currency_code, minor_units),
                prior=None if prior is None else Money(amount.currency_code, prior),
                certificate=certificate,
                reason=rate.reason,
            )
        )
    return _with_taxable(amount, found)


def _treated(rate: TaxRate, profile: TaxProfile | None) -> tuple[Treatment, str]:
    """Say whether a tax is levied on an organisation, and by which certificate it is not."""
    if profile is None or rate.treatment is not Treatment.TAXED:
        return rate.treatment, ""
    certificate = profile.certificate(rate.jurisdiction)
    if certificate:
        return Treatment.CUSTOMER_EXEMPT, certificate
    return (Treatment.REVERSE_CHARGE if profile.reverse_charge else Treatment.TAXED), ""


def _factors(assessed: Sequence[tuple[TaxRate, Treatment]]) -> list[Fraction]:
    """Return which share each tax has: an inclusive one of the amount, another of what it is levied on."""
    weights = [
        Fraction(rate.per_cent) / 100 if treatment is Treatment.TAXED else Fraction(0)
        for rate, treatment in assessed
    ]
    whole = Fraction(1)
    for number, (rate, _) in enumerate(assessed):
        if rate.inclusive:
            weights[number] *= whole if rate.compound else 1
            whole += weights[number]
    return [
        weight / whole if rate.inclusive else weight
        for weight, (rate, _) in zip(weights, assessed, strict=True)
    ]


def _taxable(amount: Money, before: Sequence[TaxLine], *, compound: bool) -> int:
    """Return what a tax behind all inclusive ones is levied on, in minor units."""
    net = amount.minor_units - sum(each.amount.minor_units for each in before if each.inclusive)
    return net + sum(each.amount.minor_units for each in before) if compound else net


def _with_taxable(amount: Money, found: Sequence[TaxLine]) -> tuple[TaxLine, ...]:
    """Say of inclusive taxes too what they are levied on, which is known when all are taken out."""
    net = _taxable(amount, found, compound=False)
    shown = []
    before = 0
    for each in found:
        base = net + before if each.compound else net
        taxable = Money(amount.currency_code, base)
        shown.append(replace(each, taxable=taxable) if each.inclusive else each)
        before += each.amount.minor_units
    return tuple(shown)


def _half_up(number: Fraction) -> int:
    """Round to a whole number; an exact half goes away from zero, so that a credit is the opposite of its debit."""
    size = floor(abs(number) + _HALF)
    return -size if number < 0 else size


def included(taxes: Iterable[TaxLine]) -> int:
    """Return the taxes that the amount holds, in minor units."""
    return sum(each.amount.minor_units for each in taxes if each.inclusive)


def on_top(taxes: Iterable[TaxLine]) -> int:
    """Return the taxes that come on top of the amount, in minor units."""
    return sum(each.amount.minor_units for each in taxes if not each.inclusive)


def totals(taxes: Iterable[TaxLine]) -> list[TaxTotal]:
    """Return what the taxes of a document come to, each at each rate, by jurisdiction, tax and rate."""
    found: dict[tuple[str, str, str, Decimal, bool], TaxTotal] = {}
    for each in taxes:
        key = (each.jurisdiction, each.tax, each.treatment.value, each.rate, each.inclusive)
        known = found.get(key)
        found[key] = TaxTotal(
            each.jurisdiction,
            each.tax,
            each.treatment,
            each.rate,
            each.inclusive,
            known.taxable + each.taxable if known else each.taxable,
            known.amount + each.amount if known else each.amount,
        )
    return [found[key] for key in sorted(found)]
