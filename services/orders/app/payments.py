"""Payments of orders: written down in one transaction with order and event, and brought into the books after it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.orders import facts
from services.orders.app.orders import locked
from services.orders.domain import measures
from services.orders.domain.actions import (
    PATH,
    RECEIVED,
    ExternalAction,
    Method,
    check_moment,
    check_number,
    recorded_before,
    stated,
)
from services.orders.domain.listing import ActionPlace
from services.orders.domain.orders import Order, paid
from services.orders.ports import Books
from services.orders.store import actions as store
from services.orders.store import orders
from services.runtime.context import current
from services.runtime.crashpoints import crashpoint
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound
from services.runtime.ids import new_id
from services.runtime.money import Money


@dataclass(frozen=True, slots=True)
class Payment:
    """What RecordPayment was told; `received_at` is None for now."""

    order_id: str
    method: Method
    amount: Money
    operator: str
    check_number: str
    received_at: datetime | None
    via: str
    request_sha256: bytes


class Payments:
    """The payments of the tenant that the running call acts for."""

    def __init__(self, database: Database, books: Books) -> None:
        self._database = database
        self._books = books

    @staticmethod
    async def record(payment: Payment, work: UnitOfWork) -> tuple[Order, ExternalAction]:
        """Write down what an operator took. Order, action, audit entry and events commit together.

        Raises:
            InvalidField: the amount is not above zero, the operator is blank, or the number of the check is missing
                or too much.
            UnfitNow: it is said to be taken in the future.
            NotFound: there is no such order.
            CurrencyMismatch: the amount is in another currency than the order.
            OrderStatusConflict: the order is a draft, or nothing is due of it.
            OrderAmountExceeded: less is due.
            OrderCheckRecorded: the check was recorded for the order before.
        """
        check_number(payment.method, payment.check_number)
        at = payment.received_at or work.now
        check_moment(at, work.now)
        order = await locked(work, payment.order_id)
        known = None
        if payment.check_number:
            known = await store.recorded_check(work, order.order_id, payment.check_number)
        if known is not None:
            raise recorded_before(known)
        change = paid(order, payment.amount, payment.via, work.now)
        action = _action(payment, change.after, at, work.now)
        orders.update(work, change.after)
        store.insert(work, action)
        work.audit("order_payment", action.external_action_id, None, _audited(action))
        work.publish(facts.order_updated(change))
        work.publish(facts.payment_received(action))
        amount = action.amount
        work.count(measures.UPDATED, 1, status=change.after.status)
        work.count(
            measures.RECEIVED,
            amount.minor_units,
            currency=amount.currency_code,
            method=action.payment_method,
        )
        return change.after, action

    async def list(
        self, order_id: str, after: ActionPlace | None, limit: int
    ) -> list[ExternalAction]:
        """List what happened outside for an order, the earliest first. Raises NotFound."""
        async with self._database.read() as work:
            found = await store.of_order(work, order_id, after, limit)
            if not found and await orders.read(work, order_id) is None:
                raise NotFound("order", order_id)
            return found

    async def post(self, external_action_id: str) -> None:
        """Bring a payment into the books.

        Raises:
            OrderPaymentNotBookable: the ledger refuses it.
            DomainError: the ledger cannot be reached.
        """
        async with self._database.read() as work:
            action = await store.read(work, external_action_id)
        assert action is not None, "it was leased, and actions stay"
        if action.posting_id is not None:
            return
        crashpoint("orders.posting.before_post")
        posting_id = await self._books.post(action)
        crashpoint("orders.posting.after_post")
        async with self._database.unit_of_work("orders.posting.settle") as work:
            await store.settle(work, external_action_id, posting_id)


def _action(payment: Payment, order: Order, at: datetime, now: datetime) -> ExternalAction:
    external_action_id = new_id("ext")
    return ExternalAction(
        external_action_id=external_action_id,
        order_id=order.order_id,
        person_id=order.person_id,
        organization_id=order.organization_id,
        action=RECEIVED,
        payment_method=payment.method.value,
        payment_path=PATH,
        provider_ref=external_action_id,
        amount=payment.amount,
        operator=stated("operator", payment.operator),
        principal_id=current().principal_id,
        check_number=payment.check_number,
        request_sha256=payment.request_sha256,
        occurred_at=at,
        recorded_at=now,
    )


def _audited(action: ExternalAction) -> dict[str, object]:
    return {
        "order_id": action.order_id,
        "payment_method": action.payment_method,
        "currency_code": action.amount.currency_code,
        "amount_minor": action.amount.minor_units,
        "operator": action.operator,
        "check_number": action.check_number,
    }
