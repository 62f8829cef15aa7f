"""Statuses of orders, and the moves between them: a table, so that what is not in it cannot happen."""

from __future__ import annotations

from enum import StrEnum

from services.runtime.errors import Code, DomainError


class Status(StrEnum):
    """Where an order stands. Stored and told as these texts; readers must bear others."""

    DRAFT = "DRAFT"
    OPEN = "OPEN"
    PARTIALLY_PAID = "PARTIALLY_PAID"
    PAID = "PAID"
    CANCELLED = "CANCELLED"
    REFUNDED = "REFUNDED"


class Move(StrEnum):
    """What is done with an order, in the words of an error."""

    CREATE = "create"
    OPEN = "open"
    ADJUST = "adjust"
    CANCEL = "cancel"
    PAY = "record a payment of"
    REFUND = "refund"


CREATED = "order.created"
UPDATED = "order.updated"

_DUE = (Status.OPEN, Status.PARTIALLY_PAID, Status.PAID)
# From which status to which by what, and the subject that tells of it, if any does. None is what an order comes from.
TRANSITIONS: dict[tuple[Status | None, Move, Status], str] = {
    (None, Move.CREATE, Status.DRAFT): CREATED,
    (None, Move.CREATE, Status.OPEN): CREATED,
    # Of a total of zero nothing is due.
    (None, Move.CREATE, Status.PAID): CREATED,
    (Status.DRAFT, Move.OPEN, Status.OPEN): UPDATED,
    (Status.DRAFT, Move.OPEN, Status.PAID): UPDATED,
    (Status.DRAFT, Move.ADJUST, Status.DRAFT): UPDATED,
    **{(before, Move.ADJUST, after): UPDATED for before in _DUE for after in _DUE},
    **{
        (before, Move.PAY, after): UPDATED
        for before in (Status.OPEN, Status.PARTIALLY_PAID)
        for after in (Status.PARTIALLY_PAID, Status.PAID)
    },
    # A part of what was received leaves the status as it is; all of it ends the order.
    (Status.PARTIALLY_PAID, Move.REFUND, Status.PARTIALLY_PAID): "",
    (Status.PAID, Move.REFUND, Status.PAID): "",
    (Status.PARTIALLY_PAID, Move.REFUND, Status.REFUNDED): UPDATED,
    (Status.PAID, Move.REFUND, Status.REFUNDED): UPDATED,
    (Status.DRAFT, Move.CANCEL, Status.CANCELLED): UPDATED,
    (Status.OPEN, Move.CANCEL, Status.CANCELLED): UPDATED,
    # Where its total is zero.
    (Status.PAID, Move.CANCEL, Status.CANCELLED): UPDATED,
}


_KNOWN = {status.value: status for status in Status}


class OrderStatusConflict(DomainError):
    """The status of an order does not allow what was asked for."""

    code = Code.FAILED_PRECONDITION
    reason = "ORDER_STATUS_CONFLICT"
    state_dependent = True
    order_id: str
    status: str


def due(total_minor: int, paid_minor: int) -> Status:
    """Return the status of an order that is neither a draft nor ended, by its amounts."""
    if paid_minor >= total_minor:
        return Status.PAID
    return Status.PARTIALLY_PAID if paid_minor else Status.OPEN


def check(order_id: str, before: str, move: Move, after: str) -> str:
    """Return the subject that tells of a move. Raises OrderStatusConflict for one that is not in the table."""
    known = _KNOWN.get(before)
    subject = TRANSITIONS.get((known, move, _KNOWN.get(after, Status.DRAFT))) if known else None
    if subject is None:
        raise conflict(order_id, before, move)
    return subject


def conflict(order_id: str, status: str, move: Move, why: str = "") -> OrderStatusConflict:
    """Refuse a move."""
    allowed = sorted({before for before, known, _ in TRANSITIONS if known is move and before})
    reason = why or f"this takes one that is {' or '.join(allowed)}"
    return OrderStatusConflict(
        f"cannot {move.value} order {order_id}, which is {status}: {reason}",
        order_id=order_id,
        status=status,
    )
