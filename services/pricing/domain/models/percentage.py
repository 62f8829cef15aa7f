"""A share of an amount of money, event by event where the price says so.

The events of a period come in their order. An allowance lasts until either its number of events or its amount is used
up; the event that goes beyond the amount is a paid event, for what goes beyond. An event of zero is no event here: it
costs nothing, and uses none of the allowance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from pydantic.dataclasses import dataclass

from services.pricing.domain.models.parts import (
    EXACT,
    EventGroup,
    Model,
    Part,
    Problems,
    Source,
    Step,
    StepKind,
    Tally,
    per_cent,
)
from services.pricing.domain.proration import Share
from services.pricing.domain.values import ZERO, Dec


@dataclass(frozen=True)
class Percentage(Model):
    """A share of an amount, and a fixed amount an event.

    Attributes:
        free_events: events that cost nothing; 0: no allowance of events.
        free_amount: sum of amounts that costs nothing; 0: no allowance of an amount.
        minimum_per_event: least that a paid event costs, share and fixed amount together.
        maximum_per_event: most that it costs; None: no limit.
    """

    rate_percent: Dec
    fixed_per_event: Dec = ZERO
    free_events: int = 0
    free_amount: Dec = ZERO
    minimum_per_event: Dec = ZERO
    maximum_per_event: Dec | None = None

    @property
    def source(self) -> Source:
        """The amount of each event where one matters by itself, else their sum."""
        by_event = (
            self.free_events
            or self.fixed_per_event
            or self.minimum_per_event
            or self.maximum_per_event is not None
        )
        return Source.AMOUNTS if by_event else Source.QUANTITY

    @property
    def takes_units(self) -> bool:
        """False: amounts of money are no units, and free_amount includes."""
        return False

    def prorated(self, share: Share) -> Percentage:
        """Return the model of a part of a period: its allowance is given by the period."""
        events, amount = share.of_count(self.free_events), share.of(self.free_amount)
        if (self.free_events and not events) or (self.free_amount and not amount):
            # It ends when either is used up, and zero would say that there is no such bound.
            events, amount = 0, ZERO
        return replace(self, free_events=events, free_amount=amount)

    def arithmetic(self, part: Part) -> list[Step]:
        """Return the arithmetic of a part."""
        tally = part.tally if self.source is Source.AMOUNTS else self._tally_of_sum(part)
        if tally is None:
            return []
        turn = EXACT.add(part.start, tally.free_amount)
        found = [
            Step(StepKind.FREE, part.start, turn, tally.free_amount),
            Step(
                StepKind.PERCENTAGE,
                turn,
                part.end,
                tally.charged_amount,
                per_cent(self.rate_percent),
            ),
            self._events(StepKind.PER_EVENT, part, tally.charged_events, self.fixed_per_event),
            self._events(
                StepKind.EVENT_MINIMUM, part, tally.minimum_events, self.minimum_per_event
            ),
            self._events(
                StepKind.EVENT_MAXIMUM, part, tally.maximum_events, self.maximum_per_event or ZERO
            ),
        ]
        return [step for step in found if step.units > ZERO and self._tells(step)]

    def _tells(self, step: Step) -> bool:
        return step.kind is not StepKind.PER_EVENT or self.fixed_per_event > ZERO

    @staticmethod
    def _events(kind: StepKind, part: Part, count: int, amount: Decimal) -> Step:
        return Step(kind, part.start, part.end, Decimal(count), amount)

    def _tally_of_sum(self, part: Part) -> Tally:
        """Sort a sum of amounts, where no event matters by itself."""
        left = max(EXACT.subtract(self.free_amount, part.start), ZERO)
        free = min(left, part.units)
        return Tally(free_amount=free, charged_amount=EXACT.subtract(part.units, free))

    def problems(self) -> Problems:
        """Return what is wrong with the price: (path, description)."""
        most = self.maximum_per_event
        if most is not None and most < self.minimum_per_event:
            return [("maximum_per_event", f"is below the minimum of {self.minimum_per_event:f}")]
        return []


class _Group:
    """Events that are added up; the smallest and the largest are kept where an event has limits."""

    __slots__ = ("_amount", "_count", "_largest", "_ranges", "_smallest")

    def __init__(self, *, ranges: bool) -> None:
        self._ranges = ranges
        self._count = 0
        self._amount = ZERO
        self._smallest: Decimal | None = None
        self._largest: Decimal | None = None

    def add(self, amount: Decimal) -> None:
        self._count += 1
        self._amount = EXACT.add(self._amount, amount)
        if not self._ranges:
            return
        if self._smallest is None or amount < self._smallest:
            self._smallest = amount
        if self._largest is None or amount > self._largest:
            self._largest = amount

    def closed(self) -> EventGroup:
        return EventGroup(self._count, self._amount, self._smallest, self._largest)


class Tallying:
    """Sorts the events of a period for a percentage price, one by one, in their order; holds sums only."""

    def __init__(self, price: Percentage, events: int = 0, amount: Decimal = ZERO) -> None:
        """Start behind `events` events above zero that sum to `amount`."""
        self._price = price
        self._events = events
        self._amount = amount
        self._clamps = price.minimum_per_event > ZERO or price.maximum_per_event is not None
        self._rate = per_cent(price.rate_percent)
        self._begin()

    def _begin(self) -> None:
        self._before = (self._events, self._amount)
        self._free = self._charged = ZERO
        self._charged_events = self._minimum_events = self._maximum_events = 0
        self._free_group = _Group(ranges=False)
        self._crossing = ZERO
        self._charged_group = _Group(ranges=self._clamps)
        self._raised, self._lowered = _Group(ranges=True), _Group(ranges=True)

    def add(self, amounts: Iterable[Decimal]) -> None:
        """Sort events."""
        for amount in amounts:
            if amount > ZERO:
                self._sort(amount)

    def _sort(self, amount: Decimal) -> None:
        beyond = self._beyond(amount)
        self._events += 1
        self._amount = EXACT.add(self._amount, amount)
        self._free = EXACT.add(self._free, EXACT.subtract(amount, beyond))
        if beyond == ZERO:
            self._free_group.add(amount)
            return
        fee = EXACT.fma(self._rate, beyond, self._price.fixed_per_event) if self._clamps else ZERO
        most = self._price.maximum_per_event
        if self._clamps and fee < self._price.minimum_per_event:
            self._minimum_events += 1
            group = self._raised
        elif self._clamps and most is not None and fee > most:
            self._maximum_events += 1
            group = self._lowered
        else:
            self._charged_events += 1
            self._charged = EXACT.add(self._charged, beyond)
            group = self._charged_group
        if beyond == amount:
            group.add(amount)
        else:
            self._crossing = amount

    def _beyond(self, amount: Decimal) -> Decimal:
        """Return what of an event the allowance does not cover; 0: the event is free."""
        price = self._price
        if not price.free_events and price.free_amount == ZERO:
            return amount
        if price.free_events and self._events >= price.free_events:
            return amount
        if price.free_amount == ZERO:
            return ZERO
        left = max(EXACT.subtract(price.free_amount, self._amount), ZERO)
        return max(EXACT.subtract(amount, left), ZERO)

    def close(self) -> Tally:
        """Return the tally of a part; what is added from now on belongs to the next one."""
        events, amount = self._before
        tally = Tally(
            events=self._events - events,
            amount=EXACT.subtract(self._amount, amount),
            free_amount=self._free,
            charged_events=self._charged_events,
            charged_amount=self._charged,
            minimum_events=self._minimum_events,
            maximum_events=self._maximum_events,
            free=self._free_group.closed(),
            crossing=self._crossing,
            charged=self._charged_group.closed(),
            raised=self._raised.closed(),
            lowered=self._lowered.closed(),
        )
        self._begin()
        return tally
