"""Orders: stored, opened, adjusted, cancelled, read. Each change tells of itself in its own transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from services.orders import facts
from services.orders.domain import measures
from services.orders.domain.listing import OrderFilter, Place
from services.orders.domain.orders import Change, Order, adjusted, cancelled, noted, opened, placed
from services.orders.store import orders as store
from services.runtime.cards import remark
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound
from services.runtime.ids import new_id
from services.runtime.money import Money


@dataclass(frozen=True, slots=True)
class Opening:
    """What OpenOrder was asked for."""

    order_id: str
    via: str


@dataclass(frozen=True, slots=True)
class Notes:
    """What UpdateOrderNotes was asked for."""

    order_id: str
    notes: str
    operator_flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What AdjustOrderTotal was asked for."""

    order_id: str
    total: Money
    via: str


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What CancelOrder was asked for."""

    order_id: str
    reason: str
    via: str


class Orders:
    """The orders of the tenant that the running call acts for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @staticmethod
    async def create(order: Order, work: UnitOfWork) -> Order:
        """Store an order.

        Raises:
            InvalidField: it begins with a status that no order begins with, its total is out of range, or its notes
                hold the number of a card.
        """
        order = placed(replace(order, order_id=new_id("ord"), created_at=work.now))
        store.insert(work, order)
        work.publish(facts.order_created(order))
        work.count(measures.CREATED, 1, currency=order.total.currency_code)
        return order

    @staticmethod
    async def open(asked: Opening, work: UnitOfWork) -> Order:
        """Make a draft an order that can be paid. Raises NotFound, OrderStatusConflict."""
        return await _change(work, asked.order_id, lambda order: opened(order, asked.via, work.now))

    @staticmethod
    async def note(asked: Notes, work: UnitOfWork) -> Order:
        """Replace notes and flags. Raises NotFound, InvalidField."""
        return await _change(
            work,
            asked.order_id,
            lambda order: noted(order, asked.notes, asked.operator_flags, work.now),
        )

    @staticmethod
    async def adjust(asked: Adjustment, work: UnitOfWork) -> Order:
        """Change what an order comes to.

        Raises:
            NotFound: there is no such order.
            InvalidField: the total is out of range.
            CurrencyMismatch: it is in another currency than the order.
            OrderStatusConflict: the order has ended.
            OrderTotalTooLow: more is paid.
        """
        return await _change(
            work, asked.order_id, lambda order: adjusted(order, asked.total, asked.via, work.now)
        )

    @staticmethod
    async def cancel(asked: Cancellation, work: UnitOfWork) -> Order:
        """End an order for which nothing was received. Raises NotFound, OrderStatusConflict."""
        reason = remark(asked.reason)
        return await _change(
            work, asked.order_id, lambda order: cancelled(order, reason, asked.via, work.now)
        )

    async def get(self, order_id: str) -> Order:
        """Return an order. Raises NotFound."""
        async with self._database.read() as work:
            return _existing(await store.read(work, order_id), order_id)

    async def list(self, wanted: OrderFilter, after: Place | None, limit: int) -> list[Order]:
        """List orders behind `after`, the latest made first."""
        async with self._database.read() as work:
            return await store.list_orders(work, wanted, after, limit)


async def locked(work: UnitOfWork, order_id: str) -> Order:
    """Return an order that nobody else changes until this transaction ends. Raises NotFound."""
    return _existing(await store.lock(work, order_id), order_id)


async def _change(work: UnitOfWork, order_id: str, decide: Callable[[Order], Change]) -> Order:
    """Change an order under its lock, and tell of it where a field changed that events tell of."""
    change = decide(await locked(work, order_id))
    if change.after == change.before:
        return change.after
    store.update(work, change.after)
    if change.is_told:
        work.publish(facts.order_updated(change))
        work.count(measures.UPDATED, 1, status=change.after.status)
    return change.after


def _existing(order: Order | None, order_id: str) -> Order:
    if order is None:
        raise NotFound("order", order_id)
    return order
