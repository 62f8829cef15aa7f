"""Which share of a period one of its parts has, and what of an amount that is due by the period belongs to it.

Rule (house, `docs/decisions/0205-parts-of-a-period.md`): quotients of the amount at both ends of the part, each rounded
half up to 18 places, so that the parts of a period sum exactly to the amount.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from services.runtime.money import CONTEXT

PLACES = 18


class Proration(StrEnum):
    """How what is due by the period is shared out over its parts."""

    NONE = "PRORATION_NONE"
    DAY = "PRORATION_DAY"
    SECOND = "PRORATION_SECOND"


_STEPS = {Proration.DAY: timedelta(days=1), Proration.SECOND: timedelta(seconds=1)}


@dataclass(frozen=True, slots=True)
class Share:
    """The share of a period that lies between two of its instants, counted in units from its start.

    Attributes:
        unit: days or seconds.
        start: whole units up to the start of the part.
        end: whole units up to its end.
        period: units of the period, one at least.
    """

    unit: Proration
    start: int
    end: int
    period: int

    def of(self, amount: Decimal) -> Decimal:
        """Return what of an amount of at most 18 places belongs to the part."""
        return _moved(self._up_to(amount, self.end) - self._up_to(amount, self.start))

    def of_whole(self, amount: int) -> int:
        """Return what of a whole number belongs to the part; each quotient is rounded half up."""
        return self._rounded(amount, self.end) - self._rounded(amount, self.start)

    def of_count(self, count: int) -> int:
        """Return what of a number belongs to the part, whole."""
        return count * self.end // self.period - count * self.start // self.period

    def _up_to(self, amount: Decimal, units: int) -> int:
        return self._rounded(int(amount.scaleb(PLACES, CONTEXT)), units)

    def _rounded(self, number: int, units: int) -> int:
        return (number * units * 2 + self.period) // (self.period * 2)


def _moved(scaled: int) -> Decimal:
    sign, digits, _ = Decimal(scaled).as_tuple()
    return Decimal((sign, digits, -PLACES))


def share_of(
    proration: Proration | None, period: tuple[datetime, datetime], part: tuple[datetime, datetime]
) -> Share | None:
    """Return the share that a part of a period has; None where nothing is prorated."""
    step = _STEPS.get(proration) if proration else None
    if proration is None or step is None:
        return None
    start_at, end_at = period
    # A period of local time may be an hour longer or shorter than its days.
    units = max((end_at - start_at + step / 2) // step, 1)
    begins = min((part[0] - start_at) // step, units)
    ends = units if part[1] == end_at else min((part[1] - start_at) // step, units)
    return Share(proration, begins, ends, units)


def spread(
    quantity: Decimal,
    period: tuple[datetime, datetime],
    parts: Sequence[tuple[datetime, datetime]],
) -> list[Decimal]:
    """Spread a quantity of at most 18 places evenly over a period; returns what lies in each part."""
    micro = timedelta(microseconds=1)
    whole = (period[1] - period[0]) // micro
    return [
        Share(
            Proration.SECOND,
            (start_at - period[0]) // micro,
            (end_at - period[0]) // micro,
            whole,
        ).of(quantity)
        for start_at, end_at in parts
    ]
