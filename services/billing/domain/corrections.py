"""Corrections: charges of the difference to what an earlier charge, with its corrections, has billed.

What was billed stays as it is. An adjustment brings it to what the period's usage comes to now: usage that came late,
was amended or cancelled, or has another price by now. A reversal brings it to nothing and frees the period. Shares of
partners go the same way, to the minor unit: what was earned is given back as it was earned, and what is held under a
dispute leaves the account that holds it, once the dispute is resolved to whoever earns by then. So do taxes, each by
itself: what was billed at one rate is given back at it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from services.billing.domain import taxes as taxing
from services.billing.domain.charges import (
    Charge,
    ChargeKind,
    ChargeStatus,
    Line,
    RatedLine,
    Rating,
    Total,
    check_postings,
    check_size,
    rated_line,
)
from services.billing.domain.taxes import TaxSums
from services.runtime.errors import Code, DomainError
from services.runtime.money import Money


class ChargeNotCorrectable(DomainError):
    """A charge that is reversed, or is a correction itself, takes none."""

    code = Code.FAILED_PRECONDITION
    reason = "CHARGE_NOT_CORRECTABLE"
    state_dependent = True
    charge_id: str
    why: str
    correct_charge_id: str


class NothingToAdjust(DomainError):
    """The usage of the period comes to what was billed."""

    code = Code.FAILED_PRECONDITION
    reason = "NOTHING_TO_ADJUST"
    state_dependent = True
    charge_id: str


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What AdjustCharge was asked for."""

    request_id: str
    charge_id: str


@dataclass(frozen=True, slots=True)
class Reversal:
    """What ReverseCharge was asked for.

    Attributes:
        cause: why, in words.
    """

    request_id: str
    charge_id: str
    cause: str


@dataclass(frozen=True, slots=True)
class Billed:
    """A charge and its corrections so far, in their order: what an organisation was billed for a period.

    Attributes:
        base: the charge that was made for the period.
    """

    base: Charge
    corrections: tuple[Charge, ...] = ()

    @property
    def charges(self) -> tuple[Charge, ...]:
        """All of them."""
        return (self.base, *self.corrections)

    @property
    def next_no(self) -> int:
        """Number of the next correction, from 1."""
        return len(self.corrections) + 1


# What one sum is kept of: SKU, project, the partner that earns on it, and the dispute under which that is held.
_Key = tuple[str, str, str, str]


@dataclass(slots=True)
class _Sum:
    """What several lines come to together.

    Attributes:
        proofs: of what they come to, one of each part of the period.
        taxes: on them, by what is one tax.
    """

    quantity: Decimal
    exact_amount: Decimal
    amount: Money
    partner_amount: Money
    last: RatedLine
    proofs: tuple[bytes, ...]
    taxes: TaxSums

    def add(self, line: Line) -> None:
        """Take one more."""
        self.quantity += line.rated.quantity
        self.exact_amount += line.rated.exact_amount
        self.amount += line.rated.amount
        self.partner_amount += line.partner_amount
        self.last = line.rated
        self.taxes = taxing.added(self.taxes, line.rated.taxes)
        # A correction proves all that its key comes to, a line of usage its own part alone.
        is_correction = line.quantity_before is not None
        self.proofs = _proofs_of(line) if is_correction else (*self.proofs, *_proofs_of(line))


def _proofs_of(line: Line) -> tuple[bytes, ...]:
    return (*line.rated.earlier_proofs, line.rated.proof)


def check_correctable(charge: Charge) -> None:
    """Raises ChargeNotCorrectable for a reversed charge, and for one that is a correction."""
    if charge.adjusts_charge_id:
        raise ChargeNotCorrectable(
            f"{charge.charge_id} is a correction of charge {charge.adjusts_charge_id}; correct that one",
            charge_id=charge.charge_id,
            why="IS_CORRECTION",
            correct_charge_id=charge.adjusts_charge_id,
        )
    if charge.status is ChargeStatus.REVERSED:
        raise ChargeNotCorrectable(
            f"charge {charge.charge_id} was reversed by {charge.reversed_by_charge_id}; charge its period anew",
            charge_id=charge.charge_id,
            why="REVERSED",
            correct_charge_id="",
        )


def adjusted(charge_id: str, billed: Billed, rating: Rating, now: datetime) -> Charge:
    """Make the charge of the difference between what was billed and what the usage comes to now.

    Raises:
        NothingToAdjust: there is none.
        ChargeNotCorrectable: the plan's currency is another one by now.
        ChargeTooLarge, AmountOverflow: as for any charge.
    """
    base = billed.base
    if rating.currency_code != base.total.currency_code:
        raise ChargeNotCorrectable(
            f"charge {base.charge_id} is in {base.total.currency_code} and its plan in {rating.currency_code} by now;"
            " reverse it and charge the period anew",
            charge_id=base.charge_id,
            why="CURRENCY_CHANGED",
            correct_charge_id=base.charge_id,
        )
    check_size(base.org_id, rating)
    after = _sums(rated_line(str(no), line) for no, line in enumerate(rating.lines, start=1))
    lines = _differences(_sums_of(billed), after)
    if not lines:
        raise NothingToAdjust(
            f"the usage of {base.org_id} in the period of charge {base.charge_id} comes to what was billed",
            charge_id=base.charge_id,
        )
    return _correction(charge_id, billed, lines, rating, ChargeKind.ADJUSTMENT, now)


def reversed_by(charge_id: str, billed: Billed, cause: str, now: datetime) -> Charge:
    """Make the charge that takes all back that was billed for a period."""
    base = billed.base
    lines = _differences(_sums_of(billed), {})
    as_billed = Rating(
        lines=(),
        currency_code=base.total.currency_code,
        plan_id=base.plan_id,
        plan_version=base.plan_version,
        usage_snapshot=billed.charges[-1].usage_snapshot,
        usage_ordinal=billed.charges[-1].usage_ordinal,
    )
    return _correction(charge_id, billed, lines, as_billed, ChargeKind.REVERSAL, now, cause)


def _sums_of(billed: Billed) -> dict[_Key, _Sum]:
    return _sums(line for charge in billed.charges for line in charge.lines)


def _sums(lines: Iterable[Line]) -> dict[_Key, _Sum]:
    sums: dict[_Key, _Sum] = {}
    for line in lines:
        rated = line.rated
        key = (rated.sku, rated.project_id, rated.partner_id, rated.dispute_id)
        if key in sums:
            sums[key].add(line)
        else:
            sums[key] = _Sum(
                rated.quantity,
                rated.exact_amount,
                rated.amount,
                line.partner_amount,
                rated,
                _proofs_of(line),
                taxing.added({}, rated.taxes),
            )
    return sums


def _differences(before: dict[_Key, _Sum], after: dict[_Key, _Sum]) -> tuple[Line, ...]:
    keys = [key for key in sorted({*before, *after}) if _differ(before.get(key), after.get(key))]
    return tuple(
        _difference(str(no), before.get(key), after.get(key))
        for no, key in enumerate(keys, start=1)
    )


def _differ(before: _Sum | None, after: _Sum | None) -> bool:
    """True when there is something to correct; a sum of nothing is none."""
    facts = [
        (0, 0, 0, 0)
        if each is None
        else (
            each.quantity,
            each.exact_amount,
            each.amount.minor_units,
            each.partner_amount.minor_units,
        )
        for each in (before, after)
    ]
    taxes_before, taxes_after = (each.taxes if each else {} for each in (before, after))
    return facts[0] != facts[1] or taxing.differ(taxes_before, taxes_after)


def _difference(line_id: str, before: _Sum | None, after: _Sum | None) -> Line:
    """Write the way from one sum to the other as a line; its proofs are those of the newer one."""
    shown = after or before
    assert shown is not None, "a key is of one of them"
    was, now = before or _nothing_of(shown), after or _nothing_of(shown)
    last = shown.last
    amount, partner_amount = now.amount - was.amount, now.partner_amount - was.partner_amount
    # What is posted may go either way, so the opposite has to be an amount too.
    _ = (-amount, -partner_amount)
    rated = RatedLine(
        sku=last.sku,
        project_id=last.project_id,
        quantity=now.quantity - was.quantity,
        exact_amount=now.exact_amount - was.exact_amount,
        amount=amount,
        partner_id=last.partner_id,
        partner_pct=last.partner_pct,
        proof=shown.proofs[-1],
        earlier_proofs=shown.proofs[:-1],
        dispute_id=last.dispute_id,
        taxes=taxing.differences(was.taxes, now.taxes),
    )
    return Line(
        line_id,
        rated,
        partner_amount,
        rated.without_tax - partner_amount,
        quantity_before=was.quantity,
        amount_before=was.amount,
        partner_amount_before=was.partner_amount,
    )


def _nothing_of(other: _Sum) -> _Sum:
    zero = Money(other.amount.currency_code, 0)
    return _Sum(Decimal(0), Decimal(0), zero, zero, other.last, (), {})


def _correction(
    charge_id: str,
    billed: Billed,
    lines: Sequence[Line],
    rating: Rating,
    kind: ChargeKind,
    now: datetime,
    cause: str = "",
) -> Charge:
    base = billed.base
    check_postings(base.org_id, lines)
    zero = Money(rating.currency_code, 0)
    return Charge(
        charge_id=charge_id,
        org_id=base.org_id,
        period=base.period,
        lines=tuple(lines),
        total=sum((line.rated.amount for line in lines), zero),
        partner_total=sum((line.partner_amount for line in lines), zero),
        status=ChargeStatus.PENDING,
        plan_id=rating.plan_id,
        plan_version=rating.plan_version,
        usage_snapshot=rating.usage_snapshot,
        transfer_round=1,
        created_at=now,
        kind=kind,
        adjusts_charge_id=base.charge_id,
        correction_no=billed.next_no,
        cause=cause,
        usage_ordinal=rating.usage_ordinal,
    )


def totals_after(billed: Billed, correction: Charge) -> list[Total]:
    """Say what the usage of a period comes to once a correction counts."""
    after: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for charge in (*billed.charges, correction):
        for line in charge.lines:
            after[line.rated.sku, line.rated.project_id].append(line)
    zero = Money(correction.total.currency_code, 0)
    return [
        Total(
            sku,
            project_id,
            sum((line.rated.quantity for line in lines), Decimal(0)),
            sum((line.rated.amount for line in lines), zero),
        )
        for (sku, project_id), lines in sorted(after.items())
    ]
