"""Use cases of holds: many callers share one transaction, and one lock of each budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from services.metering.app.books import BookMemory, tell_crossings
from services.metering.app.budgets import check_currency
from services.metering.app.guarding import rated_anew
from services.metering.domain import holds as domain
from services.metering.domain.budgets import ZERO, Book, Budget, Counter, Key
from services.metering.domain.holds import (
    HOLD_PREFIX,
    Command,
    Commit,
    Expire,
    Hold,
    Release,
    Reserve,
)
from services.metering.domain.measures import HOLDS
from services.metering.ports import Prices
from services.metering.store import budgets as budgets_store
from services.metering.store import holds as store
from services.runtime.commands import Commands, Request
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import DomainError, NotFound
from services.runtime.grouped import GroupedCommands, Kind, ResponseT
from services.runtime.ids import new_uuid

GROUP_ITEMS_MAX = 256


class Holds:
    """The holds of the tenant that the running call acts for."""

    def __init__(
        self, database: Database, commands: Commands, prices: Prices, memory: BookMemory
    ) -> None:
        self._database = database
        self._prices = prices
        self._memory = memory
        self._grouped: GroupedCommands[Command, Hold] = GroupedCommands(
            commands, "metering.holds", self._begin, items_max=GROUP_ITEMS_MAX
        )

    async def reserve(
        self,
        kind: Kind[Hold, ResponseT],
        request: Request,
        org_id: str,
        sku: str,
        quantity: Decimal,
        hold_for: timedelta,
    ) -> ResponseT:
        """Hold a quantity in all budgets that apply, or in none.

        Raises:
            BudgetExceeded: a hard one has not as much free.
            DomainError: one in money applies, and the use cannot be rated.
        """

        async def attempt() -> ResponseT:
            amounts = await self._rated(org_id, sku, quantity)
            command = Reserve(new_uuid(), org_id, sku, quantity, hold_for, amounts)
            return await self._grouped.run(kind, command, request)

        return await rated_anew(attempt)

    async def commit(
        self, kind: Kind[Hold, ResponseT], request: Request, hold_id: UUID, quantity: Decimal | None
    ) -> ResponseT:
        """Count what was used of a hold. Raises NotFound, HoldEnded, BudgetExceeded."""
        return await self._grouped.run(kind, Commit(hold_id, quantity), request)

    async def release(
        self, kind: Kind[Hold, ResponseT], request: Request, hold_id: UUID
    ) -> ResponseT:
        """Give a hold up. Raises NotFound, HoldEnded."""
        return await self._grouped.run(kind, Release(hold_id), request)

    async def expire(self, hold_id: UUID) -> Hold:
        """End a hold if its time is over; one that has ended stays as it is."""
        return await self._grouped.apply(Expire(hold_id))

    async def list(self, org_id: str, after: UUID, limit: int) -> list[Hold]:
        """List open holds behind an id, those of one organisation where one is given."""
        async with self._database.read() as work:
            return await store.page(work, org_id, after, limit)

    async def _rated(
        self, org_id: str, sku: str, quantity: Decimal
    ) -> Mapping[UUID, Decimal] | DomainError:
        """Rate a use for the budgets in money that apply, outside of the transaction that holds it.

        By the budgets that are remembered: where one was put since, the transaction finds that it was not rated for it.
        """
        book = self._memory.recent(current().tenant_id)
        if book is None:
            async with self._database.read() as work:
                book = await self._memory.fresh(work)
        in_money = book.in_money(org_id, sku)
        if not in_money:
            return {}
        async with self._database.read() as work:
            budgets = {budget.key(work.now): budget for budget in in_money}
            counters = await budgets_store.read_counters(work, budgets)
        try:
            return {
                budget.series: await self._amount(budget, counters.get(key), sku, quantity)
                for key, budget in budgets.items()
            }
        except DomainError as error:
            # Refused in the transaction, where a request that was answered before gets its answer again.
            return error

    async def _amount(
        self, budget: Budget, counter: Counter | None, sku: str, quantity: Decimal
    ) -> Decimal:
        prior = counter.quantities.get(sku, ZERO) if counter else ZERO
        price = await self._prices.price_of(budget.org_id, sku, prior, quantity)
        check_currency(budget, price.currency_code)
        return price.amount

    async def _begin(self, commands: Sequence[Command], work: UnitOfWork) -> _Decisions:
        """Lock holds, then what budgets count, each sorted."""
        hold_ids = {item.hold_id for item in commands if not isinstance(item, Reserve)}
        budgets_store.share(work)
        version = budgets_store.version_of(await work.execute(*budgets_store.asking_version(work)))
        book = await self._memory.of_version(work, version)
        holds = await store.lock(work, hold_ids)
        budgets: dict[Key, Budget] = {}
        for command in commands:
            if isinstance(command, Reserve):
                for budget in book.covering(command.org_id, command.sku):
                    budgets[budget.key(work.now)] = budget
        for hold in holds.values():
            for share in hold.shares:
                if share.series in book.by_series:
                    budgets[share.key] = book.by_series[share.series]
        counters = await budgets_store.lock_counters(work, budgets)
        return _Decisions(work, book, holds, counters)


class _Decisions:
    """What a group of commands does to holds and counters, all of them locked."""

    def __init__(
        self,
        work: UnitOfWork,
        book: Book,
        holds: dict[UUID, Hold],
        counters: dict[Key, Counter],
    ) -> None:
        self._work = work
        self._book = book
        self._holds = holds
        self._counters = counters
        self._made: list[Hold] = []
        self._ended: dict[UUID, Hold] = {}

    def decide(self, command: Command) -> Hold:
        """Carry a command out in memory. Raises what it is refused with, and has changed nothing then."""
        now = self._work.now
        if isinstance(command, Reserve):
            covering = self._book.covering(command.org_id, command.sku)
            counters = [self._counters[budget.key(now)] for budget in covering]
            hold = domain.reserve(command, counters, now)
            self._made.append(hold)
            return hold
        held = self._holds.get(command.hold_id)
        if held is None:
            raise NotFound("hold", f"{HOLD_PREFIX}_{command.hold_id}")
        match command:
            case Commit():
                hold = domain.commit(held, command.quantity, self._counters, now)
            case Release():
                hold = domain.release(held, self._counters, now)
            case Expire():
                hold = domain.expire(held, self._counters, now)
        if hold is not held:
            # What remained was true of this call alone.
            self._ended[hold.hold_id] = hold
            self._holds[hold.hold_id] = replace(hold, remaining=None)
        return hold

    def write(self) -> None:
        """Have it written with the next statement, and tell what came of it."""
        work = self._work
        store.insert(work, self._made)
        store.write(work, list(self._ended.values()))
        tell_crossings(work, self._counters.values())
        budgets_store.write_counters(work, self._counters.values())
        work.count(HOLDS, len(self._made), status="held")
        for hold in self._ended.values():
            work.count(HOLDS, 1, status=hold.status.value.lower())
