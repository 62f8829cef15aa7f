"""Taxes on the lines of charges, as pricing computed them: kept, added up and taken back, never computed here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from services.runtime.money import Money


class TaxKey(NamedTuple):
    """What is one tax: what is billed of it is told apart from that of any other.

    Attributes:
        jurisdiction: that levies it.
        tax: its name.
        tax_code: of the rate; "" for the one of all codes without one of their own.
        authority: who it is owed to.
        treatment: whether it is levied, and why not; number as in payments.pricing.v1.TaxTreatment.
        rate: per cent.
        inclusive: the amount of the line holds it.
        compound: it is levied on the taxes before it too.
    """

    jurisdiction: str
    tax: str
    tax_code: str
    authority: str
    treatment: int
    rate: Decimal
    inclusive: bool
    compound: bool


@dataclass(frozen=True, slots=True)
class Tax:
    """One tax on a line.

    Attributes:
        rounding: what was rounded; number as in payments.pricing.v1.TaxRounding.
        prior: what its rounding counts on from; None where it does not, and in a correction.
        before: of a correction, what had been billed; None in any other charge.
    """

    key: TaxKey
    rounding: int
    rate_effective_at: datetime
    taxable: Money
    amount: Money
    prior: Money | None = None
    certificate: str = ""
    reason: str = ""
    before: Money | None = None

    def plus(self, other: Tax) -> Tax:
        """Add another of the same key, which is the later one."""
        return replace(
            other, taxable=self.taxable + other.taxable, amount=self.amount + other.amount
        )


class TaxTotal(NamedTuple):
    """What one tax at one rate comes to in a charge."""

    jurisdiction: str
    tax: str
    treatment: int
    rate: Decimal
    inclusive: bool
    taxable: Money
    amount: Money


TaxSums = dict[TaxKey, Tax]


def included(taxes: Iterable[Tax]) -> int:
    """Return the taxes that the amount of their line holds, in minor units."""
    return sum(each.amount.minor_units for each in taxes if each.key.inclusive)


def on_top(taxes: Iterable[Tax]) -> int:
    """Return the taxes that are added to the amount of their line, in minor units."""
    return sum(each.amount.minor_units for each in taxes if not each.key.inclusive)


def added(sums: Mapping[TaxKey, Tax], taxes: Iterable[Tax]) -> TaxSums:
    """Add the taxes of one more line to what was billed."""
    found = dict(sums)
    for each in taxes:
        found[each.key] = found[each.key].plus(each) if each.key in found else each
    return found


def differ(before: Mapping[TaxKey, Tax], after: Mapping[TaxKey, Tax]) -> bool:
    """True when there is something to correct; a tax of nothing on nothing is none."""
    return _told(before) != _told(after)


def differences(before: Mapping[TaxKey, Tax], after: Mapping[TaxKey, Tax]) -> tuple[Tax, ...]:
    """Return what leads from some taxes to others: those that are there now in their order, then those that are not.

    A tax that stays as it is is named, too: with it, what is billed now can be told.
    """
    found = []
    for key in [*after, *(key for key in before if key not in after)]:
        was, now = before.get(key), after.get(key)
        shown = now or was
        assert shown is not None, "a key is of one of them"
        nothing = Money(shown.amount.currency_code, 0)
        amount_before = was.amount if was else nothing
        taxable = (now.taxable if now else nothing) - (was.taxable if was else nothing)
        amount = (now.amount if now else nothing) - amount_before
        # What is posted may go either way, so the opposite has to be an amount too.
        _ = -amount
        if any(
            each and (each.amount.minor_units or each.taxable.minor_units) for each in (was, now)
        ):
            found.append(
                replace(shown, taxable=taxable, amount=amount, prior=None, before=amount_before)
            )
    return tuple(found)


def totals(taxes: Iterable[Tax]) -> list[TaxTotal]:
    """Return what the taxes of a charge come to, each at each rate."""
    found: dict[tuple[str, str, int, Decimal, bool], TaxTotal] = {}
    for each in taxes:
        told = each.key
        key = (told.jurisdiction, told.tax, told.treatment, told.rate, told.inclusive)
        known = found.get(key)
        found[key] = TaxTotal(
            *key,
            taxable=known.taxable + each.taxable if known else each.taxable,
            amount=known.amount + each.amount if known else each.amount,
        )
    return [found[key] for key in sorted(found)]


def _told(taxes: Mapping[TaxKey, Tax]) -> dict[TaxKey, tuple[int, int]]:
    told = {key: (each.amount.minor_units, each.taxable.minor_units) for key, each in taxes.items()}
    return {key: facts for key, facts in told.items() if any(facts)}
