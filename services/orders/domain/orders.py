"""Orders: what they are, and what changes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.orders.domain.statuses import Move, Status, check, conflict, due
from services.runtime.cards import holds_card_number
from services.runtime.errors import Code, CurrencyMismatch, DomainError, InvalidField
from services.runtime.money import Money

# Events carry amounts as JSON numbers, of which 15 digits have one reading everywhere.
TOTAL_MINOR_MAX = 10**15 - 1
# What made or changed an order whose caller named nothing.
VIA_DEFAULT = "api"


class OrderTotalTooLow(DomainError):
    """The total of an order would be less than what is paid of it."""

    code = Code.FAILED_PRECONDITION
    reason = "ORDER_TOTAL_TOO_LOW"
    state_dependent = True
    order_id: str
    currency_code: str
    paid_minor: int


class OrderAmountExceeded(DomainError):
    """More than is due of an order."""

    code = Code.FAILED_PRECONDITION
    reason = "ORDER_AMOUNT_EXCEEDED"
    state_dependent = True
    order_id: str
    currency_code: str
    due_minor: int


class OrderRefundExceeded(DomainError):
    """More than was received for an order and not given back."""

    code = Code.FAILED_PRECONDITION
    reason = "ORDER_REFUND_EXCEEDED"
    state_dependent = True
    order_id: str
    currency_code: str
    refundable_minor: int


@dataclass(frozen=True, slots=True)
class Order:
    """What a person buys of an organisation.

    Attributes:
        status: a text of `Status`, or of a later release.
        total: 0 to 10^15 - 1 minor units, in the currency of the order.
        paid_minor: what was received, refunds not taken off.
        refunded_minor: what was given back of it.
    """

    order_id: str
    person_id: str
    organization_id: str
    status: str
    total: Money
    created_via: str
    created_at: datetime
    paid_minor: int = 0
    refunded_minor: int = 0
    updated_via: str = ""
    notes: str = ""
    operator_flags: tuple[str, ...] = ()
    cancel_reason: str = ""
    cancelled_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """An order before and after what happened to it."""

    before: Order
    after: Order

    @property
    def is_told(self) -> bool:
        """True when a field changed that `order.updated` tells of."""
        return _told(self.before) != _told(self.after)


def _told(order: Order) -> tuple[object, ...]:
    return order.status, order.paid_minor, order.total, order.cancelled_at


def placed(order: Order) -> Order:
    """Return a new order as it is to be stored.

    Raises:
        InvalidField: it begins with another status than OPEN or DRAFT, its total is out of range, or a text of it
            holds the number of a card.
    """
    if order.status not in ("", Status.OPEN, Status.DRAFT):
        raise InvalidField.one("order.status", "must be OPEN or DRAFT, or empty for OPEN")
    check_total("order.amount_total", order.total)
    notes = cardless("order.notes", order.notes)
    status = Status.DRAFT if order.status == Status.DRAFT else due(order.total.minor_units, 0)
    return replace(
        order,
        status=status.value,
        created_via=cardless("order.created_via", order.created_via) or VIA_DEFAULT,
        notes=notes,
        operator_flags=_flags("order.operator_flags", order.operator_flags),
    )


def opened(order: Order, via: str, now: datetime) -> Change:
    """Make a draft an order that can be paid. Raises OrderStatusConflict."""
    status = due(order.total.minor_units, order.paid_minor)
    check(order.order_id, order.status, Move.OPEN, status)
    return _changed(order, via, now, status=status.value)


def adjusted(order: Order, total: Money, via: str, now: datetime) -> Change:
    """Change what an order comes to; the status follows.

    Raises:
        InvalidField: the total is out of range.
        CurrencyMismatch: it is in another currency than the order.
        OrderStatusConflict: the order has ended.
        OrderTotalTooLow: more is paid.
    """
    check_total("amount_total", total)
    _check_currency(order, total)
    is_draft = order.status == Status.DRAFT
    status = Status.DRAFT if is_draft else due(total.minor_units, order.paid_minor)
    check(order.order_id, order.status, Move.ADJUST, status)
    if total.minor_units < order.paid_minor:
        raise OrderTotalTooLow(
            f"{order.paid_minor} minor units of {total.currency_code} are paid of order {order.order_id}: its total"
            " can be no less; refund the difference instead",
            order_id=order.order_id,
            currency_code=total.currency_code,
            paid_minor=order.paid_minor,
        )
    if total == order.total:
        return Change(order, order)
    return _changed(order, via, now, total=total, status=status.value)


def cancelled(order: Order, reason: str, via: str, now: datetime) -> Change:
    """End an order for which nothing was received. Raises OrderStatusConflict."""
    check(order.order_id, order.status, Move.CANCEL, Status.CANCELLED)
    if order.paid_minor:
        raise conflict(
            order.order_id,
            order.status,
            Move.CANCEL,
            f"{order.paid_minor} minor units were received for it; refund them instead",
        )
    return _changed(
        order, via, now, status=Status.CANCELLED.value, cancelled_at=now, cancel_reason=reason
    )


def paid(order: Order, amount: Money, via: str, now: datetime) -> Change:
    """Add what was received for an order.

    Raises:
        InvalidField: the amount is not above zero.
        CurrencyMismatch: it is in another currency than the order.
        OrderStatusConflict: the order is a draft, or nothing is due of it.
        OrderAmountExceeded: less is due.
    """
    if amount.minor_units <= 0:
        raise InvalidField.one("amount", "must be above zero")
    _check_currency(order, amount)
    due_minor = order.total.minor_units - order.paid_minor
    paid_minor = order.paid_minor + amount.minor_units
    status = due(order.total.minor_units, paid_minor)
    check(order.order_id, order.status, Move.PAY, status)
    if amount.minor_units > due_minor:
        raise OrderAmountExceeded(
            f"{due_minor} minor units of {amount.currency_code} are due of order {order.order_id}: record no more, and"
            " give back what was taken beyond that",
            order_id=order.order_id,
            currency_code=amount.currency_code,
            due_minor=due_minor,
        )
    return _changed(order, via, now, paid_minor=paid_minor, status=status.value)


def refunded(order: Order, amount: Money | None, via: str, now: datetime) -> tuple[Change, Money]:
    """Give back what was received for an order, or a part of it; returns how much, too.

    Raises:
        InvalidField: the amount is not above zero.
        CurrencyMismatch: it is in another currency than the order.
        OrderStatusConflict: nothing was received for the order, or all was given back.
        OrderRefundExceeded: less was received and not given back.
    """
    rest_minor = order.paid_minor - order.refunded_minor
    if amount is None:
        amount = Money(order.total.currency_code, rest_minor)
    elif amount.minor_units <= 0:
        raise InvalidField.one("amount", "must be above zero")
    _check_currency(order, amount)
    ends = amount.minor_units >= rest_minor
    status = Status.REFUNDED.value if ends else order.status
    check(order.order_id, order.status, Move.REFUND, status)
    if not rest_minor:
        raise conflict(order.order_id, order.status, Move.REFUND, "nothing was received for it")
    if amount.minor_units > rest_minor:
        raise OrderRefundExceeded(
            f"{rest_minor} minor units of {amount.currency_code} were received for order {order.order_id} and not given"
            " back: give back no more",
            order_id=order.order_id,
            currency_code=amount.currency_code,
            refundable_minor=rest_minor,
        )
    refunded_minor = order.refunded_minor + amount.minor_units
    return _changed(order, via, now, refunded_minor=refunded_minor, status=status), amount


def noted(order: Order, notes: str, operator_flags: Sequence[str], now: datetime) -> Change:
    """Replace notes and flags. Raises InvalidField: they hold the number of a card."""
    after = replace(
        order,
        notes=cardless("notes", notes),
        operator_flags=_flags("operator_flags", operator_flags),
    )
    return Change(order, order if after == order else replace(after, updated_at=now))


def check_total(field: str, total: Money) -> None:
    """Raises InvalidField for a total that no order has."""
    if not 0 <= total.minor_units <= TOTAL_MINOR_MAX:
        raise InvalidField.one(field, f"must be 0 to {TOTAL_MINOR_MAX} minor units")


def _check_currency(order: Order, amount: Money) -> None:
    if amount.currency_code != order.total.currency_code:
        raise CurrencyMismatch(
            f"order {order.order_id} is in {order.total.currency_code}, which cannot change",
            left=amount.currency_code,
            right=order.total.currency_code,
        )


def cardless(field: str, text: str) -> str:
    """Return a text that may be kept. Raises InvalidField when it holds the number of a card."""
    if holds_card_number(text):
        raise InvalidField.one(
            field, "holds what may be the number of a card, which is never stored: leave it out"
        )
    return text


def _flags(field: str, flags: Sequence[str]) -> tuple[str, ...]:
    # Together, as a number may stand in several of them.
    cardless(field, " ".join(flags))
    return tuple(dict.fromkeys(flags))


def _via(via: str) -> str:
    return cardless("updated_via", via) or VIA_DEFAULT


def _changed(order: Order, via: str, now: datetime, **fields: object) -> Change:
    after = replace(order, updated_via=_via(via), updated_at=now, **fields)  # type: ignore[arg-type] # each of them a field, by its name
    return Change(order, after)
