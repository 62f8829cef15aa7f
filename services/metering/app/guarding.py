"""What is stored of usage against budgets: what it adds or takes away, and what a budget has no room for.

A tenant without budgets pays one look into memory, and two statements that travel with the next one: that its budgets
stand still, and that they are those which were remembered. Where they are not the transaction is run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

from services.metering.app.books import BookMemory, tell_crossings
from services.metering.domain.budgets import ZERO, Book, Budget, Counter, Key
from services.metering.domain.corrections import Change, Corrected, CorrectionBatch, correct
from services.metering.domain.corrections import without as without_changes
from services.metering.domain.enforcing import Rates, Tally, Use, keys_of, uses_of
from services.metering.domain.events import Batch, Refuse, StoredEvent, without
from services.metering.domain.holds import BudgetsChanging, Hold, NotRated
from services.metering.domain.shifts import (
    Shift,
    ShiftRate,
    ShiftRates,
    ShiftTally,
    covered,
    moved_units,
    shift_keys,
    shifts_of,
)
from services.metering.ports import Prices
from services.metering.store import budgets as store
from services.metering.store import corrections as corrections_store
from services.metering.store import events as events_store
from services.metering.store import holds as holds_store
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import DomainError
from services.runtime.money import CONTEXT

COST_NOTHING = frozenset({"NO_PLAN", "SKU_NOT_PRICED"})
"""Refusals of pricing for usage that no charge would bill: it is stored, and takes nothing of a budget in money."""
RATINGS_MAX = 3
"""How often a use is rated because a budget in money was put meanwhile."""
RETRY_AFTER_MS = 100
"""How long to wait before a call whose use was rated so often is repeated."""

AnswerT = TypeVar("AnswerT")


async def rated_anew(attempt: Callable[[], Awaitable[AnswerT]]) -> AnswerT:
    """Rate uses and count them, and do both again where a budget in money was put between the two.

    Raises:
        BudgetsChanging: one was put each time; the same call may succeed.
    """
    budget_id = ""
    for _ in range(RATINGS_MAX):
        try:
            return await attempt()
        except NotRated as overtaken:
            budget_id = overtaken.budget_id
    raise BudgetsChanging(
        f"budget {budget_id} was put, or events were corrected, {RATINGS_MAX} times while the use was rated; repeat the"
        " same call",
        budget_id=budget_id,
        retry_after_ms=RETRY_AFTER_MS,
    )


class Guarding:
    """Prepares what is to be counted."""

    def __init__(self, database: Database, prices: Prices, memory: BookMemory) -> None:
        self._database = database
        self._prices = prices
        self._memory = memory

    async def guard(self, batch: Batch, refuse: Refuse) -> Guard:
        """Look at a batch before its transaction begins, and rate it for budgets in money.

        Args:
            refuse: makes a refusal of an event that a budget has no room for.

        Raises:
            DependencyUnavailable: pricing is needed and cannot be reached.
        """
        book = await self._recent_book()
        uses = uses_of(batch, book) if book.by_series else []
        return Guard(self._memory, refuse, await self._rated(book, uses))

    async def watches(self) -> bool:
        """Whether the tenant has budgets, as far as is remembered."""
        return bool((await self._recent_book()).by_series)

    async def correction_guard(self, batch: CorrectionBatch) -> CorrectionGuard:
        """Look at corrections before their transaction begins, and rate what they change for budgets in money.

        Raises:
            DependencyUnavailable: pricing is needed and cannot be reached.
        """
        book = await self._recent_book()
        if not any(budget.currency_code for budget in book.by_series.values()):
            return CorrectionGuard(self._memory, {})
        async with self._database.read() as work:
            held = await corrections_store.newest(work, [item.key for item in batch.items])
        shifts = shifts_of(correct(batch, held).changes, book)
        return CorrectionGuard(self._memory, await self._rated_shifts(book, shifts))

    async def _recent_book(self) -> Book:
        book = self._memory.recent(current().tenant_id)
        if book is None:
            async with self._database.read() as work:
                book = await self._memory.fresh(work)
        return book

    async def _rated(self, book: Book, uses: Sequence[Use]) -> Rates:
        units: dict[tuple[UUID, str], Decimal] = {}
        latest: dict[tuple[UUID, str], datetime] = {}
        for use in uses:
            for budget in book.in_money(use.org_id, use.sku):
                key = (budget.series, use.sku)
                units[key] = CONTEXT.add(units.get(key, ZERO), use.quantity)
                latest[key] = max(latest.get(key, use.event_time), use.event_time)
        if not units:
            return {}
        budgets = {
            book.by_series[series].key(latest[(series, sku)]): book.by_series[series]
            for series, sku in units
        }
        counters = await self._counters(budgets)
        asked = [
            self._amount(
                book.by_series[series],
                _prior(counters.get(book.by_series[series].key(latest[(series, sku)])), sku),
                sku,
                quantity,
            )
            for (series, sku), quantity in units.items()
        ]
        amounts = await asyncio.gather(*asked)
        return {
            key: (quantity, amount)
            for (key, quantity), amount in zip(units.items(), amounts, strict=True)
        }

    async def _rated_shifts(self, book: Book, shifts: Sequence[Shift]) -> ShiftRates:
        moved = moved_units(shifts, book)
        if not moved:
            return {}
        budgets = {key: book.by_series[key[0]] for key, _ in moved}
        counters = await self._counters(budgets)
        asked = [
            self._shift_rate(budgets[key], _prior(counters.get(key), sku), sku, *units)
            for (key, sku), units in moved.items()
        ]
        return dict(zip(moved, await asyncio.gather(*asked), strict=True))

    async def _shift_rate(
        self, budget: Budget, prior: Decimal, sku: str, taken: Decimal, brought: Decimal
    ) -> ShiftRate:
        """Rate both behind what is left once the units are taken: what they made, and what those make that come."""
        left = max(CONTEXT.subtract(prior, taken), ZERO)
        amounts = await asyncio.gather(
            self._amount(budget, left, sku, taken), self._amount(budget, left, sku, brought)
        )
        return ShiftRate(taken, amounts[0], brought, amounts[1])

    async def _counters(self, budgets: Mapping[Key, Budget]) -> dict[Key, Counter]:
        async with self._database.read() as work:
            return await store.read_counters(work, budgets)

    async def _amount(self, budget: Budget, prior: Decimal, sku: str, quantity: Decimal) -> Decimal:
        if not quantity:
            return ZERO
        try:
            price = await self._prices.price_of(budget.org_id, sku, prior, quantity)
        except DomainError as error:
            if error.reason in COST_NOTHING:
                return ZERO
            raise
        return price.amount if price.currency_code == budget.currency_code else ZERO


def _prior(counter: Counter | None, sku: str) -> Decimal:
    return counter.quantities.get(sku, ZERO) if counter else ZERO


class _Guard:
    """Counts in one transaction, which may be run several times."""

    def __init__(self, memory: BookMemory) -> None:
        self._memory = memory
        self._begun = False
        self._counters: dict[Key, Counter] = {}

    async def _shared_book(self, work: UnitOfWork) -> Book:
        """Keep the tenant's budgets as they are until the commit, and return them."""
        self._counters = {}
        store.share(work)
        kept = self._memory.recent(work.tenant_id)
        if self._begun or kept is None:
            return await self._memory.fresh(work)
        self._begun = True
        store.check_version(work, kept.version)
        return kept

    def _write(self, work: UnitOfWork, holds: Iterable[Hold]) -> None:
        holds_store.write(work, list(holds))
        tell_crossings(work, self._counters.values())
        store.write_counters(work, self._counters.values())


class BudgetsWatch(Exception):
    """The tenant has budgets, so what is stored must be counted."""


class Unguarded(_Guard):
    """What is stored of a tenant without budgets."""

    async def hold(self, work: UnitOfWork) -> None:
        """Let no budget be put until the commit. Raises BudgetsWatch: one was."""
        if (await self._shared_book(work)).by_series:
            raise BudgetsWatch


class Guard(_Guard):
    """One batch of events: locked, then counted, then stored, then written."""

    def __init__(self, memory: BookMemory, refuse: Refuse, rates: Rates) -> None:
        super().__init__(memory)
        self._refuse = refuse
        self._rates = rates
        self._book = Book(0)
        self._holds: dict[UUID, Hold] = {}
        self._tally: Tally | None = None

    async def lock(self, work: UnitOfWork, batch: Batch) -> None:
        """Lock what a batch is counted by, before anything else that the transaction locks.

        Raises:
            NotRated: a budget in money was put since it was rated.
        """
        self._tally = None
        self._book = await self._shared_book(work)
        uses = self._uses(batch)
        if uses:
            self._holds = await holds_store.lock(work, {use.hold_id for use in uses if use.hold_id})
            self._check_rated(uses)
            self._counters = await store.lock_counters(work, keys_of(uses, self._book))

    async def count(self, work: UnitOfWork, batch: Batch) -> Batch:
        """Count what is left of a locked batch, before anything of it is stored; returns it without what is refused."""
        uses = self._uses(batch)
        if not uses:
            return batch
        stored = await events_store.stored_keys(work, [use.event_key for use in uses])
        self._tally = Tally(self._book, self._counters, self._holds, self._rates)
        for use in uses:
            if use.event_key not in stored:
                self._tally.count(use)
        if not self._tally.refusals:
            return batch
        refused = {
            use.request_id: (refusal.reason, refusal.message)
            for use in uses
            if (refusal := self._tally.refusals.get(use.index))
        }
        return without(batch, refused, self._refuse)

    def end(self, work: UnitOfWork, known: Sequence[StoredEvent]) -> None:
        """Write what was counted, once it is certain what was stored; `known` was stored by others."""
        tally = self._tally
        if tally is None:
            return
        for event in known:
            tally.take_back(event.request_id)
        self._write(work, [tally.holds[hold_id] for hold_id in sorted(tally.reported)])

    def _uses(self, batch: Batch) -> list[Use]:
        return uses_of(batch, self._book) if self._book.by_series else []

    def _check_rated(self, uses: Sequence[Use]) -> None:
        for use in uses:
            for budget in self._book.in_money(use.org_id, use.sku):
                if (budget.series, use.sku) not in self._rates:
                    raise NotRated(budget.budget_id)


class CorrectionGuard(_Guard):
    """One batch of corrections: locked, then counted, then stored."""

    def __init__(self, memory: BookMemory, rates: ShiftRates) -> None:
        super().__init__(memory)
        self._rates = rates
        self._book = Book(0)
        self._holds: dict[UUID, Hold] = {}

    async def lock(self, work: UnitOfWork, changes: Sequence[Change]) -> None:
        """Lock what changes are counted by.

        Raises:
            NotRated: a budget in money was put, or an event was corrected, since they were rated.
        """
        self._book = await self._shared_book(work)
        shifts = shifts_of(changes, self._book)
        if not shifts:
            return
        named = {use.hold_id for shift in shifts for use in shift.uses if use.hold_id}
        self._holds = await holds_store.lock(work, named)
        for place, units in moved_units(shifts, self._book).items():
            (series, _), _ = place
            if not covered(self._rates, place, units):
                raise NotRated(self._book.by_series[series].budget_id)
        keys = shift_keys(shifts, self._holds, self._book)
        self._counters = await store.lock_counters(work, keys)

    def count(self, work: UnitOfWork, corrected: Corrected) -> Corrected:
        """Count what is left of locked changes by their differences; returns them without what is refused."""
        shifts = shifts_of(corrected.changes, self._book)
        if not shifts:
            return corrected
        tally = ShiftTally(self._book, self._counters, self._holds, self._rates)
        for shift in shifts:
            tally.count(shift)
        self._write(work, tally.changed_holds)
        refused = {
            index: (refusal.reason, refusal.message) for index, refusal in tally.refusals.items()
        }
        return without_changes(corrected, refused)
