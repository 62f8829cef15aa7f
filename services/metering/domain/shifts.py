"""What corrections of usage change of budgets: each counts by its difference.

An amended event is taken away as it was and brought as it is; a cancelled one is taken away. Both sides count in the
period of their event_time, at every budget that covers them, but for what a hold that they name accounts for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from uuid import UUID

from services.metering.domain.budgets import ZERO, Book, Budget, BudgetExceeded, Counter, Key
from services.metering.domain.corrections import Change
from services.metering.domain.enforcing import HOLD_LABEL, PLACES, Use, hold_id_of, keys_of, use_of
from services.metering.domain.holds import Hold, report, unreport
from services.runtime.money import CONTEXT

Place = tuple[Key, str]
"""A budget in a period, and a SKU that counts in it."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A correction, as budgets see it; without `after` it is a cancellation."""

    index: int
    before: Use
    after: Use | None

    @property
    def uses(self) -> tuple[Use, ...]:
        """Both sides."""
        return (self.before,) if self.after is None else (self.before, self.after)


@dataclass(frozen=True, slots=True)
class ShiftRate:
    """What a budget in money takes for the units that corrections take away, and for those that they bring."""

    taken: Decimal
    taken_amount: Decimal
    brought: Decimal
    brought_amount: Decimal

    def value(self, units: Decimal) -> Decimal:
        """Return the worth of so many units that are brought; of less than zero that are taken away."""
        of, amount = self.brought, self.brought_amount
        if units < 0:
            of, amount = self.taken, self.taken_amount
        if not of:
            return ZERO
        exact = CONTEXT.divide(CONTEXT.multiply(amount, units), of)
        return exact.quantize(PLACES, rounding=ROUND_HALF_UP, context=CONTEXT)


ShiftRates = Mapping[Place, ShiftRate]


def shifts_of(changes: Iterable[Change], book: Book) -> list[Shift]:
    """Return the changes of which budgets cover a side, in the order of their batch."""
    if not book.by_series:
        return []
    found = []
    for change in changes:
        row = change.correction.row
        index = change.correction.index
        shift = Shift(index, _before(change), None if row is None else use_of(row, index))
        if any(book.covering(use.org_id, use.sku) for use in shift.uses):
            found.append(shift)
    found.sort(key=lambda shift: shift.index)
    return found


def _before(change: Change) -> Use:
    said = change.before.content
    return Use(
        index=change.correction.index,
        request_id=said.request_id,
        event_key=change.before.key,
        org_id=said.org_id,
        sku=said.sku,
        quantity=said.quantity,
        event_time=said.event_time,
        hold_id=hold_id_of(said.metadata.get(HOLD_LABEL, "")),
    )


def shift_keys(
    shifts: Sequence[Shift], holds: Mapping[UUID, Hold], book: Book
) -> dict[Key, Budget]:
    """Return what changes are counted by: where both sides count, and where the holds do that they name."""
    keys = keys_of((use for shift in shifts for use in shift.uses), book)
    for hold in holds.values():
        for share in hold.shares:
            if share.series in book.by_series:
                keys[share.key] = book.by_series[share.series]
    return keys


def moved_units(shifts: Iterable[Shift], book: Book) -> dict[Place, tuple[Decimal, Decimal]]:
    """Add up the units that budgets in money lose and get, whatever holds account for."""
    taken: defaultdict[Place, Decimal] = defaultdict(Decimal)
    brought: defaultdict[Place, Decimal] = defaultdict(Decimal)
    for shift in shifts:
        for use in shift.uses:
            side = taken if use is shift.before else brought
            for budget in book.in_money(use.org_id, use.sku):
                place = budget.key(use.event_time), use.sku
                side[place] = CONTEXT.add(side[place], use.quantity)
    return {place: (taken[place], brought[place]) for place in [*taken, *(brought.keys() - taken)]}


def covered(rates: ShiftRates, place: Place, units: tuple[Decimal, Decimal]) -> bool:
    """Whether units that are taken away and brought were rated, be it as another number of them."""
    if place not in rates:
        return False
    taken, brought = units
    rate = rates[place]
    return bool((rate.taken or not taken) and (rate.brought or not brought))


@dataclass(slots=True)
class _Difference:
    """What one correction changes: at each counter, the value and the units by SKU; and the holds that it names."""

    values: defaultdict[Key, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    units: defaultdict[Key, dict[str, Decimal]] = field(default_factory=lambda: defaultdict(dict))
    holds: dict[UUID, Hold] = field(default_factory=dict)

    def add(self, key: Key, value: Decimal, sku: str, units: Decimal) -> None:
        """Add to what counts at a counter."""
        self.values[key] = CONTEXT.add(self.values[key], value)
        by_sku = self.units[key]
        by_sku[sku] = CONTEXT.add(by_sku.get(sku, ZERO), units)


class ShiftTally:
    """Counts corrections.

    Args:
        book: the budgets.
        counters: of all that the corrections are counted by; they change.
        holds: those that events name, by id.
        rates: of all that budgets in money lose and get.

    Attributes:
        refusals: by the index of the correction.
    """

    def __init__(
        self,
        book: Book,
        counters: Mapping[Key, Counter],
        holds: Mapping[UUID, Hold],
        rates: ShiftRates,
    ) -> None:
        self._book = book
        self._counters = counters
        self._rates = rates
        self._holds = dict(holds)
        self._changed: set[UUID] = set()
        self.refusals: dict[int, BudgetExceeded] = {}

    @property
    def changed_holds(self) -> list[Hold]:
        """Holds of which less or more is reported now, by id."""
        return [self._holds[hold_id] for hold_id in sorted(self._changed)]

    def count(self, shift: Shift) -> None:
        """Count a correction by its difference, or refuse it: an enforced budget has no room for more."""
        difference = _Difference()
        self._move(shift.before, difference, away=True)
        if shift.after is not None:
            self._move(shift.after, difference, away=False)
        for key, value in difference.values.items():
            counter = self._counters[key]
            if counter.budget.enforce_in_ingest and not counter.has_room(value):
                self.refusals[shift.index] = counter.refusal(value)
                return
        for key, value in difference.values.items():
            self._counters[key].correct(value, difference.units[key])
        self._holds |= difference.holds
        self._changed |= difference.holds.keys()

    def _move(self, use: Use, difference: _Difference, *, away: bool) -> None:
        hold = self._hold_of(use, difference)
        covered_units, exempt = ZERO, frozenset[UUID]()
        if hold is not None:
            after, covered_units = (unreport if away else report)(hold, use.quantity)
            exempt = frozenset(share.series for share in hold.shares)
            difference.holds[hold.hold_id] = after
            self._free(hold, after, difference)
        for budget in self._book.covering(use.org_id, use.sku):
            units = use.quantity
            if budget.series in exempt:
                units = CONTEXT.subtract(units, covered_units)
            self._add(budget, use, -units if away else units, difference)

    def _free(self, hold: Hold, after: Hold, difference: _Difference) -> None:
        """Give back what an ended hold accounts for no more, where it counts."""
        units = CONTEXT.subtract(after.accounted, hold.accounted)
        for share, left in zip(hold.shares, after.shares, strict=True):
            if units and share.key in self._counters:
                value = CONTEXT.subtract(left.value, share.value)
                difference.add(share.key, value, hold.sku, units)

    def _add(self, budget: Budget, use: Use, units: Decimal, difference: _Difference) -> None:
        key = budget.key(use.event_time)
        value = units
        if budget.currency_code:
            rate = self._rates.get((key, use.sku))
            value = rate.value(units) if rate else ZERO
        difference.add(key, value, use.sku, units)

    def _hold_of(self, use: Use, difference: _Difference) -> Hold | None:
        if use.hold_id is None:
            return None
        hold = difference.holds.get(use.hold_id) or self._holds.get(use.hold_id)
        # A hold of something else accounts for nothing of this.
        return hold if hold and (hold.org_id, hold.sku) == (use.org_id, use.sku) else None
