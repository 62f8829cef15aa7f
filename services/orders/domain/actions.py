"""External actions: what happened outside for an order, as it was written down."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from services.orders.domain.orders import cardless
from services.runtime.cards import remark
from services.runtime.errors import Code, DomainError, InvalidField, UnfitNow
from services.runtime.money import Money

# Clocks and time zones differ by no more: what is said to happen later than this is a mistake.
AHEAD_MAX = timedelta(days=1)
RECEIVED = "payment.received"
REFUNDED = "payment.refunded"
# The payer came by himself, and we learn of it: nobody charged him.
PATH = "invoice_paid"


class Method(StrEnum):
    """How an operator is paid."""

    CASH = "cash"
    CHECK = "check"


class OrderCheckRecorded(DomainError):
    """A check of this number was recorded for the order before."""

    code = Code.FAILED_PRECONDITION
    reason = "ORDER_CHECK_RECORDED"
    state_dependent = True
    order_id: str
    check_number: str
    external_action_id: str


class OrderPaymentNotBookable(DomainError):
    """The ledger takes no posting of a payment of an order."""

    code = Code.FAILED_PRECONDITION
    reason = "ORDER_PAYMENT_NOT_BOOKABLE"
    state_dependent = True
    external_action_id: str
    recipe: str
    result: str


@dataclass(frozen=True, slots=True)
class ExternalAction:
    """What an operator took for an order.

    Attributes:
        action: what happened, e.g. `payment.received`; a later release may store others.
        payment_method: of `Method`, or of a later release.
        provider_ref: by which the payment is known; the id of the action where no provider was called.
        operator: who acted, in the words of who told of it.
        principal_id: who told of it.
        request_sha256: digest of what was told, without its request_id.
        occurred_at: as it was told.
        posting_id: in the ledger; None while it is on its way there.
        refund_id: of what was given back; empty otherwise.
        refunded_action_id: by which was received what it gives back; empty otherwise.
    """

    external_action_id: str
    order_id: str
    person_id: str
    organization_id: str
    action: str
    payment_method: str
    payment_path: str
    provider_ref: str
    amount: Money
    operator: str
    principal_id: str
    check_number: str
    request_sha256: bytes
    occurred_at: datetime
    recorded_at: datetime
    posting_id: UUID | None = None
    refund_id: str = ""
    refunded_action_id: str = ""

    @property
    def recipe(self) -> str:
        """Name of the recipe that posts it."""
        verb = "refunded" if self.action == REFUNDED else "received"
        return f"{self.payment_method}-{verb}"


def check_number(method: Method, number: str) -> None:
    """Raises InvalidField for a check without a number, for cash with one, and for the number of a card."""
    cardless("check_number", number)
    if method is Method.CHECK and not number:
        raise InvalidField.one("check_number", "a check has one: write it as it is printed")
    if method is Method.CASH and number:
        raise InvalidField.one("check_number", "cash has none: leave it out")


def stated(field: str, text: str) -> str:
    """Return what must be said, as it is stored: without card numbers. Raises InvalidField when it says nothing."""
    if not text.strip():
        raise InvalidField.one(field, "holds nothing but blanks: say it in words")
    return remark(text)


def check_moment(received_at: datetime, now: datetime) -> None:
    """Raises UnfitNow when something is said to have happened that cannot have happened yet."""
    if received_at > now + AHEAD_MAX:
        raise UnfitNow.one("received_at", "is more than a day in the future: say when it happened")


def recorded_before(action: ExternalAction) -> OrderCheckRecorded:
    """Refuse a check that is there already."""
    return OrderCheckRecorded(
        f"check {action.check_number} was recorded for order {action.order_id} before, as {action.external_action_id}:"
        " if it is the same check, nothing is left to do",
        order_id=action.order_id,
        check_number=action.check_number,
        external_action_id=action.external_action_id,
    )


def not_bookable(action: ExternalAction, result: str) -> OrderPaymentNotBookable:
    """Say that the ledger takes no posting of a payment."""
    recipe = action.recipe
    return OrderPaymentNotBookable(
        f"the ledger refused {recipe} of {action.external_action_id} with {result}; put its account right, it is tried"
        " again by itself",
        external_action_id=action.external_action_id,
        recipe=recipe,
        result=result,
    )
