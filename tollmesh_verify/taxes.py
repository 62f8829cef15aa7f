"""Taxes of a line: from its amount and the rates that its proof names.

Inclusive taxes come first. Each weighs its rate, a compound one times what those before it make of 1; of the amount a
tax has its weight divided by 1 and all weights, and what they leave is the amount without tax. Of that each other tax
has its rate, a compound one of that and of all taxes before it. All are rounded half up to the minor unit, an exact
half away from zero: the tax of each line, or what the line adds to the rounded tax of the document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING, Any, NamedTuple

from tollmesh_verify.shape import decimal, instant, minor_units_of

if TYPE_CHECKING:
    from tollmesh_verify.lines import Checker

Message = Mapping[str, Any]

_HALF = Fraction(1, 2)
_MICROSECOND = Fraction(1, 10**6)
_LEVIED = "TAX_TREATMENT_TAXED"
_BY_DOCUMENT = "TAX_ROUNDING_DOCUMENT"
# What differs between a tax of a line and that of a share of it.
_AMOUNTS = ("taxable_amount", "amount")


class Key(NamedTuple):
    """What is one tax."""

    jurisdiction: str
    tax: str
    tax_code: str
    authority: str
    treatment: str
    rate: Fraction
    inclusive: bool
    compound: bool


class Levied(NamedTuple):
    """What a tax comes to: what it is levied on, and the tax, in minor units."""

    taxable: int = 0
    amount: int = 0

    def plus(self, other: Levied) -> Levied:
        """Add them up."""
        return Levied(self.taxable + other.taxable, self.amount + other.amount)

    def minus(self, other: Levied) -> Levied:
        """Return the difference."""
        return Levied(self.taxable - other.taxable, self.amount - other.amount)


NO_TAX = Levied()
Taxes = Mapping[Key, Levied]


def key_of(tax: Message) -> Key:
    """Return which tax it is."""
    return Key(
        tax["jurisdiction"],
        tax["tax"],
        tax.get("tax_code", ""),
        tax["authority"],
        tax["treatment"],
        decimal(tax, "rate_percent"),
        tax.get("inclusive", False),
        tax.get("compound", False),
    )


def plus(left: Taxes, right: Taxes) -> Taxes:
    """Add them up; what comes to nothing is left out."""
    found = {key: left.get(key, NO_TAX).plus(right.get(key, NO_TAX)) for key in {**left, **right}}
    return {key: each for key, each in found.items() if each != NO_TAX}


def minus(left: Taxes, right: Taxes) -> Taxes:
    """Return the difference; what comes to nothing is left out."""
    found = {key: left.get(key, NO_TAX).minus(right.get(key, NO_TAX)) for key in {**left, **right}}
    return {key: each for key, each in found.items() if each != NO_TAX}


def included(taxes: Taxes) -> int:
    """Return what of taxes the amount of the line holds."""
    return sum(each.amount for key, each in taxes.items() if key.inclusive)


def on_top(taxes: Taxes) -> int:
    """Return what of taxes is added to the amount of the line."""
    return sum(each.amount for key, each in taxes.items() if not key.inclusive)


def of_proof(proof: Message) -> Sequence[Message]:
    """Return the taxes that a proof names, of the whole line."""
    found: Sequence[Message] = proof.get("tax", {}).get("taxes", [])
    return found


def levied(proof: Message, amount: int) -> list[Levied]:
    """Compute the taxes that a proof names, in their order, on the amount of the whole line in minor units."""
    named = of_proof(proof)
    factors = _factors(named)
    found: list[int] = []
    net, bases = amount, []
    for tax, factor in zip(named, factors, strict=True):
        is_inclusive = tax.get("inclusive", False)
        base = amount if is_inclusive else net + (sum(found) if tax.get("compound") else 0)
        prior = minor_units_of(tax["prior_amount"]) if "prior_amount" in tax else 0
        found.append(_half_up(factor * (prior + base)) - _half_up(factor * prior))
        if is_inclusive:
            net -= found[-1]
        bases.append(base)
    shown = []
    for number, tax in enumerate(named):
        base = bases[number]
        if tax.get("inclusive"):
            base = net + (sum(found[:number]) if tax.get("compound") else 0)
        shown.append(Levied(base, found[number]))
    return shown


def _factors(named: Sequence[Message]) -> list[Fraction]:
    weights = [
        decimal(tax, "rate_percent") / 100 if tax["treatment"] == _LEVIED else Fraction(0)
        for tax in named
    ]
    whole = Fraction(1)
    for number, tax in enumerate(named):
        if tax.get("inclusive"):
            weights[number] *= whole if tax.get("compound") else 1
            whole += weights[number]
    return [
        weight / whole if tax.get("inclusive") else weight
        for weight, tax in zip(weights, named, strict=True)
    ]


def _half_up(number: Fraction) -> int:
    size = floor(abs(number) + _HALF)
    return -size if number < 0 else size


def by_key(named: Sequence[Message], found: Iterable[Levied]) -> Taxes:
    """Return computed taxes by what is one tax."""
    sums: Taxes = {}
    for tax, each in zip(named, found, strict=True):
        sums = plus(sums, {key_of(tax): each})
    return sums


# ---- What a proof says


def check_proof(check: Checker, line: Message, period: Message, whole_amount: int) -> None:
    """Compare the taxes of a proof with what they come to, and what it says of where they are levied.

    Args:
        check: notes what differs.
        line: with the proof.
        period: of the charge.
        whole_amount: of all of the line, in minor units.
    """
    proof = line["proof"]
    told = proof.get("tax")
    if told is None:
        return
    before, code = "line.proof.tax", line["amount_gross"]["currency_code"]
    taxed_at, end_at = instant(told["taxed_at"]), instant(period["end_at"])
    if taxed_at != end_at - _MICROSECOND:
        check.note(
            f"{before}.taxed_at",
            told["taxed_at"],
            f"the last microsecond before {period['end_at']}",
        )
    _check_since(check, f"{before}.profile_effective_at", told.get("profile_effective_at"), told)
    if bool(told.get("country")) != ("profile_effective_at" in told):
        check.note(f"{before}.country", told.get("country", ""), "there with a profile only")
    named = told.get("taxes", [])
    places = _places(told)
    is_inclusive = True
    for number, (tax, each) in enumerate(zip(named, levied(proof, whole_amount), strict=True)):
        field = f"{before}.taxes[{number}]"
        check.money(f"{field}.taxable_amount", tax["taxable_amount"], code, each.taxable)
        check.money(f"{field}.amount", tax["amount"], code, each.amount)
        if tax["jurisdiction"] not in places:
            told_places = " or ".join(places) or "no jurisdiction"
            check.note(f"{field}.jurisdiction", tax["jurisdiction"], told_places)
        if tax.get("tax_code", "") not in ("", told.get("tax_code", "")):
            check.note(
                f"{field}.tax_code", tax["tax_code"], f"{told.get('tax_code', '')}, or empty"
            )
        if tax.get("inclusive", False) and not is_inclusive:
            check.note(f"{field}.inclusive", "true", "false behind a tax that is added")
        is_inclusive = tax.get("inclusive", False)
        _check_since(check, f"{field}.rate_effective_at", tax.get("rate_effective_at"), told)
        _check_treatment(check, field, tax, told)
        if ("prior_amount" in tax) != (tax["rounding"] == _BY_DOCUMENT):
            wanted = f"there with {_BY_DOCUMENT} only"
            check.note(f"{field}.prior_amount", tax.get("prior_amount", ""), wanted)
        if "amount_before" in tax:
            check.note(f"{field}.amount_before", "there", "absent in a proof")


def _places(told: Message) -> list[str]:
    country, region = told.get("country", ""), told.get("region", "")
    return [country, f"{country}-{region}"][: 2 if region else 1] if country else []


def _check_since(check: Checker, field: str, since: str | None, told: Message) -> None:
    if since is not None and instant(since) > instant(told["taxed_at"]):
        check.note(field, since, f"{told['taxed_at']} or earlier")


def _check_treatment(check: Checker, field: str, tax: Message, told: Message) -> None:
    treatment, rate = tax["treatment"], decimal(tax, "rate_percent")
    has_rate = treatment in (
        _LEVIED,
        "TAX_TREATMENT_CUSTOMER_EXEMPT",
        "TAX_TREATMENT_REVERSE_CHARGE",
    )
    if not 0 <= rate <= 100 or has_rate != bool(rate):
        wanted = "above 0, up to 100" if has_rate else "0"
        check.note(f"{field}.rate_percent", rate, wanted)
    if bool(tax.get("certificate")) != (treatment == "TAX_TREATMENT_CUSTOMER_EXEMPT"):
        wanted = "there where the organisation is exempt only"
        check.note(f"{field}.certificate", tax.get("certificate", ""), wanted)
    is_reversed = told.get("reverse_charge", False)
    if is_reversed != (treatment == "TAX_TREATMENT_REVERSE_CHARGE") and (
        not is_reversed or treatment == _LEVIED
    ):
        wanted = "TAX_TREATMENT_REVERSE_CHARGE" if is_reversed else "another: nothing is reversed"
        check.note(f"{field}.treatment", treatment, wanted)


class Documents:
    """Checks that what is rounded by the document counts on from line to line."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, str, bool, Fraction], int] = {}

    def add(self, check: Checker, line: Message, whole_amount: int) -> None:
        """Take the next line; of one that is shared out, the first share."""
        proof = line["proof"]
        named, found = of_proof(proof), levied(proof, whole_amount)
        code = line["amount_gross"]["currency_code"]
        for number, (tax, each, factor) in enumerate(
            zip(named, found, _factors(named), strict=True)
        ):
            if tax["rounding"] != _BY_DOCUMENT:
                continue
            is_inclusive = tax.get("inclusive", False)
            key = (tax["jurisdiction"], tax["tax"], is_inclusive, factor)
            prior = self._counted.get(key, 0)
            if "prior_amount" in tax:
                field = f"line.proof.tax.taxes[{number}].prior_amount"
                check.money(field, tax["prior_amount"], code, prior)
            self._counted[key] = prior + (whole_amount if is_inclusive else each.taxable)


# ---- What a line says


def check_line(check: Checker, line: Message, taxes: Taxes, before: Taxes | None) -> None:
    """Compare the taxes of a line with what they come to.

    Args:
        check: notes what differs.
        line: the line.
        taxes: what they come to; of a correction, the difference.
        before: of a correction, what had been billed; None in any other charge.
    """
    written = line.get("taxes", [])
    code = line["amount_gross"]["currency_code"]
    amount = minor_units_of(line["amount_gross"])
    seen: set[Key] = set()
    for number, tax in enumerate(written):
        field, key = f"line.taxes[{number}]", key_of(tax)
        if key in seen:
            check.note(field, f"{key.jurisdiction} {key.tax} again", "each tax once")
        seen.add(key)
        wanted = taxes.get(key, NO_TAX)
        check.money(f"{field}.taxable_amount", tax["taxable_amount"], code, wanted.taxable)
        check.money(f"{field}.amount", tax["amount"], code, wanted.amount)
        if (before is None) == ("amount_before" in tax):
            told = "absent: the charge corrects nothing" if before is None else "there"
            check.note(f"{field}.amount_before", "there" if before is None else "absent", told)
        elif before is not None:
            had = before.get(key, NO_TAX).amount
            check.money(f"{field}.amount_before", tax["amount_before"], code, had)
    for key in taxes:
        if key not in seen:
            check.note("line.taxes", f"no {key.jurisdiction} {key.tax}", "all that are levied")
    if before is None:
        _check_copied(check, line)
    for name, minor_units in (
        ("amount_tax", included(taxes) + on_top(taxes)),
        ("amount_with_tax", amount + on_top(taxes)),
        ("amount_without_tax", amount - included(taxes)),
    ):
        if (name in line) != bool(written):
            check.note(f"line.{name}", line.get(name, "absent"), "there with taxes only")
        elif written:
            check.money(f"line.{name}", line[name], code, minor_units)


def _check_copied(check: Checker, line: Message) -> None:
    """All but the amounts of a tax stands in the proof, too."""
    written, proved = line.get("taxes", []), of_proof(line["proof"])
    check.same("line.taxes", f"{len(written)} taxes", f"{len(proved)} taxes")
    for number, (tax, other) in enumerate(zip(written, proved, strict=False)):
        for name in sorted({*tax, *other} - {*_AMOUNTS}):
            if tax.get(name) != other.get(name):
                check.note(f"line.taxes[{number}].{name}", tax.get(name, ""), other.get(name, ""))


def told_before(line: Message, now: Taxes) -> Taxes:
    """Return what a correction itself says that had been billed, where the file does not hold it."""
    found = dict(now)
    for tax in line.get("taxes", []):
        key = key_of(tax)
        taxable = now.get(key, NO_TAX).taxable - minor_units_of(tax["taxable_amount"])
        found[key] = Levied(taxable, minor_units_of(tax.get("amount_before", {})))
    return plus(found, {})


def of_line(line: Message) -> Taxes:
    """Return what a line says that it bills of taxes."""
    named = line.get("taxes", [])
    return by_key(
        named,
        [
            Levied(minor_units_of(tax["taxable_amount"]), minor_units_of(tax["amount"]))
            for tax in named
        ],
    )


# ---- What a charge says


def check_charge(check: Checker, charge: Message, taxes: Taxes, amount: int) -> None:
    """Compare the taxes of a charge with those of its lines, and what it comes to with them.

    Args:
        check: notes what differs.
        charge: the charge.
        taxes: of all lines.
        amount: of all lines, in minor units.
    """
    code = charge["total"]["currency_code"]
    wanted: dict[tuple[Any, ...], Levied] = {}
    for key, each in taxes.items():
        total = (key.jurisdiction, key.tax, key.treatment, key.rate, key.inclusive)
        wanted[total] = wanted.get(total, NO_TAX).plus(each)
    written = charge.get("taxes", [])
    seen = set()
    for number, tax in enumerate(written):
        field = f"taxes[{number}]"
        total = (
            tax["jurisdiction"],
            tax["tax"],
            tax["treatment"],
            decimal(tax, "rate_percent"),
            tax.get("inclusive", False),
        )
        if total in seen:
            check.note(field, f"{tax['jurisdiction']} {tax['tax']} again", "each tax once")
        seen.add(total)
        found = wanted.get(total, NO_TAX)
        check.money(f"{field}.taxable_amount", tax["taxable_amount"], code, found.taxable)
        check.money(f"{field}.amount", tax["amount"], code, found.amount)
    for total, each in wanted.items():
        if total not in seen and each != NO_TAX:
            check.note("taxes", f"no {total[0]} {total[1]}", "all that are levied")
    if ("total_with_tax" in charge) != bool(written):
        told = charge.get("total_with_tax", "absent")
        check.note("total_with_tax", told, "there with taxes only")
    elif written:
        check.money("total_with_tax", charge["total_with_tax"], code, amount + on_top(taxes))


def legs_of(line: Message, owed: str, taxes: Taxes) -> Iterable[tuple[str, str, str, int]]:
    """Yield what is posted of taxes: leg, debit, credit and amount, in the order of the line."""
    currency = line["amount_gross"]["currency_code"]
    for tax in line.get("taxes", []):
        key = key_of(tax)
        yield "tax", owed, f"tax:{key.authority}:{currency}", taxes.get(key, NO_TAX).amount
