"""Who earns on an organisation in a period, stretch by stretch, and what of a line belongs to a stretch.

Rule (house, `docs/decisions/0197-partners-within-a-period.md`): what an organisation pays does not depend on who earns
on it. So a period is rated as if nobody changed, and each line is then shared out over the stretches by their lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from services.pricing.domain.proration import Proration, Share
from services.pricing.domain.values import ZERO
from services.runtime.money import CONTEXT, Money, format_exact

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Earner:
    """A partner that earns, and by which rates.

    Attributes:
        since: start of its record.
        rates: per cent by SKU, "" for all others.
        dispute_id: the dispute under which what it earns is held; "" for none.
        billing_account_id: whose partner it is; "" for the organisation's own.
    """

    partner_id: str
    tier: str
    since: datetime
    rates: Mapping[str, Decimal] = field(default_factory=dict)
    dispute_id: str = ""
    billing_account_id: str = ""

    def rate_of(self, sku: str) -> tuple[Decimal, str] | None:
        """Return the rate of a SKU, its own before the one for all, and the SKU that it names; None: there is none."""
        for named in (sku, ""):
            if named in self.rates:
                return self.rates[named], named
        return None


@dataclass(frozen=True, slots=True)
class Record:
    """From when until when somebody earns; None: no end."""

    start_at: datetime
    end_at: datetime | None
    earner: Earner


class Stretch(NamedTuple):
    """A stretch of time in which the same partner earns, or nobody."""

    start_at: datetime
    end_at: datetime
    earner: Earner | None


@dataclass(frozen=True, slots=True)
class Commission:
    """By which rule a partner earns on a line.

    Attributes:
        earner: the partner; None: nobody earns in the stretch.
        pct: per cent of the line.
        rate_sku: SKU that the rate names; "" for the one of all SKUs.
        stretches: those whose share the line is; empty: it is of the whole period.
    """

    earner: Earner | None
    pct: Decimal | None = None
    rate_sku: str = ""
    stretches: tuple[Stretch, ...] = ()


def overlaid(over: Sequence[Record], under: Sequence[Record]) -> list[Record]:
    """Return who earns when some records count before others: what the others have is cut to what is left.

    Both are in the order of their starts and do not overlap, each by itself, and so is what comes out.
    """
    found = list(over)
    for record in under:
        start_at: datetime | None = record.start_at
        for above in over:
            if start_at is None:
                break
            if above.end_at is not None and above.end_at <= start_at:
                continue
            if record.end_at is not None and above.start_at >= record.end_at:
                break
            if above.start_at > start_at:
                found.append(Record(start_at, above.start_at, record.earner))
            start_at = above.end_at
        if start_at is not None and (record.end_at is None or start_at < record.end_at):
            found.append(Record(start_at, record.end_at, record.earner))
    return sorted(found, key=lambda each: each.start_at)


def stretches(start_at: datetime, end_at: datetime, records: Sequence[Record]) -> list[Stretch]:
    """Cut a period, or a part of one, where another partner begins to earn, or nobody does.

    `records` are in the order of their starts and do not overlap. An instant is a period with nothing in it.
    """
    found: list[Stretch] = []
    at = start_at
    for record in records:
        begins, ends = max(record.start_at, at), min(record.end_at or end_at, end_at)
        if begins >= ends:
            continue
        if begins > at:
            _append(found, Stretch(at, begins, None))
        _append(found, Stretch(begins, ends, record.earner))
        at = ends
    if at < end_at or not found:
        _append(found, Stretch(at, end_at, None))
    return found


def _append(found: list[Stretch], stretch: Stretch) -> None:
    """Put a stretch behind the others, or make the last one longer: a record renewed changes nobody."""
    last = found[-1] if found else None
    if last is not None and _earns_alike(last.earner, stretch.earner):
        found[-1] = last._replace(end_at=stretch.end_at)
    else:
        found.append(stretch)


def _earns_alike(left: Earner | None, right: Earner | None) -> bool:
    if left is None or right is None:
        return left is right
    return (left.partner_id, left.dispute_id, left.rates) == (
        right.partner_id,
        right.dispute_id,
        right.rates,
    )


def commissions(found: Sequence[Stretch], sku: str) -> list[Commission]:
    """Return who earns on a line of a SKU, in the order in which they begin to; nobody is one, too.

    Empty: nobody ever does.
    """
    made: dict[tuple[str, str], Commission] = {}
    for stretch in found:
        rate = stretch.earner.rate_of(sku) if stretch.earner else None
        earner = stretch.earner if rate else None
        key = (earner.partner_id, earner.dispute_id) if earner else ("", "")
        known = made.get(key) or Commission(earner, *(rate or (None, "")))
        made[key] = replace(known, stretches=(*known.stretches, stretch))
    if all(each.earner is None for each in made.values()):
        return []
    if len(made) == 1:
        return [replace(each, stretches=()) for each in made.values()]
    return [*made.values()]


class Portion(NamedTuple):
    """What of a line belongs to some stretches."""

    quantity: Decimal
    exact: Decimal
    amount: Money


def portion(
    period: tuple[datetime, datetime],
    found: Sequence[Stretch],
    quantity: Decimal,
    exact: Decimal,
    amount: Money,
) -> Portion:
    """Return what of a line belongs to some stretches, so that the portions of all of them sum exactly to the line.

    Quotients at both ends of a stretch, counted in microseconds, each rounded half up: quantity and exact amount to 18
    places, the amount to the minor unit.
    """
    whole = Decimal(format_exact(exact))
    sums = Portion(ZERO, ZERO, Money(amount.currency_code, 0))
    for share in _shares(period, found):
        minor_units = share.of_whole(amount.minor_units)
        sums = Portion(
            CONTEXT.add(sums.quantity, share.of(quantity)),
            CONTEXT.add(sums.exact, share.of(whole)),
            sums.amount + Money(amount.currency_code, minor_units),
        )
    return sums


def whole_portion(
    period: tuple[datetime, datetime], found: Sequence[Stretch]
) -> Callable[[int], int]:
    """Return what says how much of a whole number belongs to some stretches, by the same rule."""
    shares = _shares(period, found)
    return lambda number: sum(share.of_whole(number) for share in shares)


def _shares(period: tuple[datetime, datetime], found: Sequence[Stretch]) -> list[Share]:
    start_at, end_at = period
    return [
        Share(
            Proration.SECOND,
            (stretch.start_at - start_at) // _MICROSECOND,
            (stretch.end_at - start_at) // _MICROSECOND,
            (end_at - start_at) // _MICROSECOND,
        )
        for stretch in found
    ]
