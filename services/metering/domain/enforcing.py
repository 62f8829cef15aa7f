"""What the usage events of a batch count against budgets, and which of them are beyond one.

Events are looked at in the order of their batch. Each counts at every budget that covers it, in the period of its
event_time, but for what a hold that it names accounts for. One that a budget enforced in ingest has no room for is
refused and counts nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from uuid import UUID

from services.metering.domain.budgets import ZERO, Book, Budget, BudgetExceeded, Counter, Key
from services.metering.domain.events import Batch, Row
from services.metering.domain.holds import HOLD_PREFIX, Hold, report, unreport
from services.metering.domain.times import instant
from services.runtime.money import CONTEXT

HOLD_LABEL = "hold_id"
"""Key of an event's metadata that names the hold whose use it reports."""
PLACES = Decimal("1e-18")
"""To which what a budget in money takes is rounded."""

Rates = Mapping[tuple[UUID, str], tuple[Decimal, Decimal]]
"""By the series of a budget in money and SKU: units of a batch, and what they cost."""


@dataclass(frozen=True, slots=True)
class Use:
    """A usage event, as budgets see it.

    Attributes:
        index: its position in the batch.
        hold_id: the hold that it names; None for none.
    """

    index: int
    request_id: str
    event_key: str
    org_id: str
    sku: str
    quantity: Decimal
    event_time: datetime
    hold_id: UUID | None


@dataclass(slots=True)
class Counted:
    """What a use has added, so that it can be taken back: what it is worth to each counter."""

    use: Use
    parts: list[tuple[Counter, Decimal, Decimal]] = field(default_factory=list)
    covered: Decimal = ZERO


def uses_of(batch: Batch, book: Book) -> list[Use]:
    """Return the events of a batch whose organisations have budgets that cover them, in their order."""
    found = []
    for row in batch.rows:
        org_id, _, sku, *_ = row[1].split("\t")
        if book.has_org(org_id) and book.covering(org_id, sku):
            found.append(use_of(row, batch.first_index[row[0]]))
    found.sort(key=lambda use: use.index)
    return found


def use_of(row: Row, index: int) -> Use:
    """Return an event that is to be stored, at its position in the batch."""
    org_id, _, sku, quantity, at_us, *_ = row[1].split("\t")
    at = instant(int(at_us))
    return Use(index, row[0], row[3], org_id, sku, Decimal(quantity), at, _hold_of(row))


def keys_of(uses: Iterable[Use], book: Book) -> dict[Key, Budget]:
    """Return what uses are counted by."""
    return {
        budget.key(use.event_time): budget
        for use in uses
        for budget in book.covering(use.org_id, use.sku)
    }


class Tally:
    """Counts the uses of a batch.

    Args:
        book: the budgets.
        counters: of all that the uses are counted by; they change.
        holds: those that uses name, by id.
        rates: what a budget in money takes a batch's units of a SKU for; what is missing costs nothing.

    Attributes:
        refusals: by the index of the event.
        holds: as they stand, once uses have reported of them.
        reported: the holds that have changed.
    """

    def __init__(
        self,
        book: Book,
        counters: Mapping[Key, Counter],
        holds: Mapping[UUID, Hold],
        rates: Rates,
    ) -> None:
        self._book = book
        self._counters = counters
        self._rates = rates
        self._counted: dict[str, Counted] = {}
        self.holds = dict(holds)
        self.reported: set[UUID] = set()
        self.refusals: dict[int, BudgetExceeded] = {}

    def count(self, use: Use) -> None:
        """Count a use that is new, or refuse it."""
        counted = Counted(use)
        hold = self._hold_of(use)
        exempt: set[UUID] = set()
        if hold is not None:
            after, counted.covered = report(hold, use.quantity)
            exempt = {share.series for share in hold.shares}
        for budget in self._book.covering(use.org_id, use.sku):
            counter = self._counters[budget.key(use.event_time)]
            covered = counted.covered if budget.series in exempt else ZERO
            units = CONTEXT.subtract(use.quantity, covered)
            value = self._value(budget, use, units)
            if budget.enforce_in_ingest and not counter.has_room(value):
                self.refusals[use.index] = counter.refusal(value)
                return
            counted.parts.append((counter, value, units))
        for counter, value, units in counted.parts:
            counter.add(value, ZERO, use.sku, units)
        if hold is not None and counted.covered:
            self.holds[hold.hold_id] = after
            self.reported.add(hold.hold_id)
        self._counted[use.request_id] = counted

    def take_back(self, request_id: str) -> None:
        """Let a use that turned out not to be new count nothing."""
        counted = self._counted.pop(request_id, None)
        if counted is None:
            return
        for counter, value, units in counted.parts:
            counter.add(-value, ZERO, counted.use.sku, -units)
        hold_id = counted.use.hold_id
        if counted.covered and hold_id is not None:
            self.holds[hold_id], _ = unreport(self.holds[hold_id], counted.covered)

    def _hold_of(self, use: Use) -> Hold | None:
        hold = self.holds.get(use.hold_id) if use.hold_id is not None else None
        # A hold of something else accounts for nothing of this.
        return hold if hold and (hold.org_id, hold.sku) == (use.org_id, use.sku) else None

    def _value(self, budget: Budget, use: Use, units: Decimal) -> Decimal:
        if not budget.currency_code:
            return units
        quantity, amount = self._rates.get((budget.series, use.sku), (ZERO, ZERO))
        if not quantity:
            return ZERO
        exact = CONTEXT.divide(CONTEXT.multiply(amount, units), quantity)
        return exact.quantize(PLACES, rounding=ROUND_HALF_UP, context=CONTEXT)


def _hold_of(row: Row) -> UUID | None:
    metadata = row[2]
    if f'"{HOLD_LABEL}"' not in metadata:
        return None
    return hold_id_of(json.loads(metadata).get(HOLD_LABEL, ""))


def hold_id_of(text: str) -> UUID | None:
    """Read the id of a hold; None for what is none."""
    prefix, _, rest = text.partition("_")
    try:
        return UUID(rest) if prefix == HOLD_PREFIX else None
    except ValueError:
        return None
