"""Refunds of orders: each payment is given back in the way in which it came, the latest first."""

from __future__ import annotations

from dataclasses import dataclass

from services.orders import facts
from services.orders.app.orders import locked
from services.orders.domain import measures
from services.orders.domain.actions import REFUNDED, ExternalAction, stated
from services.orders.domain.listing import RefundPlace
from services.orders.domain.orders import refunded
from services.orders.domain.refunds import Refund, Tender, shared_out
from services.orders.store import orders
from services.orders.store import refunds as store
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound
from services.runtime.ids import new_id
from services.runtime.money import Money


@dataclass(frozen=True, slots=True)
class Wish:
    """What InitiateRefund was told; `amount` is None for all that is left."""

    order_id: str
    amount: Money | None
    reason: str
    initiated_by: str
    via: str
    request_sha256: bytes


class Refunds:
    """The refunds of the tenant that the running call acts for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @staticmethod
    async def initiate(wish: Wish, work: UnitOfWork) -> Refund:
        """Write down what was given back. Order, refund, its parts, audit entry and events commit together.

        Raises:
            NotFound: there is no such order.
            InvalidField: the amount is not above zero, or the reason or who initiated it is blank.
            CurrencyMismatch: it is in another currency than the order.
            OrderStatusConflict: nothing was received for the order, or all was given back.
            OrderRefundExceeded: less was received and not given back.
        """
        order = await locked(work, wish.order_id)
        change, amount = refunded(order, wish.amount, wish.via, work.now)
        tenders = await store.tenders(work, order.order_id)
        refund_id = new_id("ref")
        refund = Refund(
            refund_id=refund_id,
            order_id=order.order_id,
            person_id=order.person_id,
            amount=amount,
            reason=stated("reason", wish.reason),
            initiated_by=stated("initiated_by", wish.initiated_by),
            principal_id=current().principal_id,
            completed_at=work.now,
            parts=tuple(
                _part(wish, tender, minor, refund_id, work)
                for tender, minor in shared_out(tenders, amount.minor_units)
            ),
        )
        orders.update(work, change.after)
        store.insert(work, refund)
        work.audit("order_refund", refund.refund_id, None, _audited(refund))
        if change.is_told:
            work.publish(facts.order_updated(change))
            work.count(measures.UPDATED, 1, status=change.after.status)
        work.publish(facts.refund_completed(refund))
        work.count(measures.REFUNDED, amount.minor_units, currency=amount.currency_code)
        return refund

    async def get(self, refund_id: str) -> Refund:
        """Return a refund. Raises NotFound."""
        async with self._database.read() as work:
            refund = await store.read(work, refund_id)
        if refund is None:
            raise NotFound("refund", refund_id)
        return refund

    async def list(self, order_id: str, after: RefundPlace | None, limit: int) -> list[Refund]:
        """List refunds behind `after`, the latest first. Raises NotFound: there is no such order."""
        async with self._database.read() as work:
            found = await store.list_refunds(work, order_id, after, limit)
            if order_id and not found and await orders.read(work, order_id) is None:
                raise NotFound("order", order_id)
            return found


def _part(
    wish: Wish, tender: Tender, minor: int, refund_id: str, work: UnitOfWork
) -> ExternalAction:
    external_action_id, of = new_id("ext"), tender.action
    return ExternalAction(
        external_action_id=external_action_id,
        order_id=of.order_id,
        person_id=of.person_id,
        organization_id=of.organization_id,
        action=REFUNDED,
        payment_method=of.payment_method,
        payment_path=of.payment_path,
        provider_ref=external_action_id,
        amount=Money(of.amount.currency_code, minor),
        operator=stated("initiated_by", wish.initiated_by),
        principal_id=current().principal_id,
        check_number=of.check_number,
        request_sha256=wish.request_sha256,
        occurred_at=work.now,
        recorded_at=work.now,
        refund_id=refund_id,
        refunded_action_id=of.external_action_id,
    )


def _audited(refund: Refund) -> dict[str, object]:
    return {
        "order_id": refund.order_id,
        "currency_code": refund.amount.currency_code,
        "amount_minor": refund.amount.minor_units,
        "reason": refund.reason,
        "initiated_by": refund.initiated_by,
        "parts": [part.external_action_id for part in refund.parts],
    }
