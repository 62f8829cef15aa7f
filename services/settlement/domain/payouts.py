"""Payouts: amounts on their way to parties, and how far they have come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID

from services.runtime.cards import holds_card_number
from services.runtime.errors import Code, DomainError, InvalidField, UnfitNow
from services.runtime.money import Money
from services.settlement.domain.earnings import Earning

# Clocks and time zones differ by no more: what is said to happen later than this is a mistake.
AHEAD_MAX = timedelta(days=1)


class PayoutKind(IntEnum):
    """What led to a payout; numbers as in payments.settlement.v1.PayoutKind."""

    REALTIME = 1
    SWEEP = 2
    REQUESTED = 3


class PayoutStatus(IntEnum):
    """How far a payout has come; numbers as in payments.settlement.v1.PayoutStatus."""

    PENDING = 1
    CLAIMED = 2
    PAID = 3
    RETURNED = 4


class Leg(IntEnum):
    """What the ledger posts for a payout, in order; the numbers are stored."""

    CLAIM = 1
    PAID = 2
    RETURNED = 3

    @property
    def recipe(self) -> str:
        """Name of the recipe that posts it."""
        return {1: "payout-claim", 2: "payout-paid", 3: "payout-returned"}[self.value]


class PayoutExceedsBalance(DomainError):
    """A payout is greater than what is owed."""

    code = Code.FAILED_PRECONDITION
    reason = "PAYOUT_EXCEEDS_BALANCE"
    state_dependent = True
    party: str
    currency_code: str
    carried_minor: int


class PayoutStatusConflict(DomainError):
    """A payout has not come as far as a call needs, or further."""

    code = Code.FAILED_PRECONDITION
    reason = "PAYOUT_STATUS_CONFLICT"
    state_dependent = True
    payout_id: str
    status: str


class PayoutNotBookable(DomainError):
    """The ledger takes no posting of a payout."""

    code = Code.FAILED_PRECONDITION
    reason = "PAYOUT_NOT_BOOKABLE"
    state_dependent = True
    payout_id: str
    recipe: str
    result: str


@dataclass(frozen=True, slots=True)
class Posting:
    """What the ledger is to make of a payout, or has made.

    Attributes:
        effective_at: when it happened. A claim takes effect once it is in the books, which may be closed behind it.
        was_paid: of a return: the party had the money.
        posting_id: of the ledger; None while it is on its way there.
    """

    payout_id: str
    leg: Leg
    effective_at: datetime
    was_paid: bool = False
    posting_id: UUID | None = None
    posted_at: datetime | None = None

    @property
    def item_id(self) -> str:
        """Names it in its queue."""
        return f"{self.payout_id}:{self.leg.value}"


@dataclass(frozen=True, slots=True)
class Payout:
    """An amount on its way to a party.

    Attributes:
        amount: above zero.
        line_no: of the charge; 0 unless it is paid at once.
    """

    payout_id: str
    party: str
    amount: Money
    kind: PayoutKind
    status: PayoutStatus
    created_at: datetime
    destination: str = ""
    charge_id: str = ""
    line_no: int = 0
    sweep_id: str = ""
    claimed_at: datetime | None = None
    paid_at: datetime | None = None
    returned_at: datetime | None = None
    payment_reference: str = ""
    return_code: str = ""
    postings: tuple[Posting, ...] = ()

    @property
    def claim(self) -> Posting:
        """What brings it into the books."""
        return Posting(self.payout_id, Leg.CLAIM, self.created_at)


def at_once(payout_id: str, earning: Earning, amount: Money, now: datetime) -> Payout:
    """Return the payout of a line above the threshold."""
    return Payout(
        payout_id,
        earning.party,
        amount,
        PayoutKind.REALTIME,
        PayoutStatus.PENDING,
        now,
        charge_id=earning.charge_id,
        line_no=earning.line_no,
    )


def check_destination(destination: str) -> None:
    """Raises InvalidField when a destination is, or holds, the number of a card."""
    if holds_card_number(destination):
        raise InvalidField.one(
            "destination",
            "holds what may be the number of a card, which is never stored: name the account by a token or an id of"
            " those who pay, and write an IBAN without spaces",
        )


def check_moment(field: str, moment: datetime, now: datetime) -> None:
    """Raises UnfitNow when something is said to have happened that cannot have happened yet."""
    if moment > now + AHEAD_MAX:
        raise UnfitNow.one(field, "is more than a day in the future: say when it happened")


def check_order(payout: Payout, returned_at: datetime) -> None:
    """Raises UnfitNow when a payout is said to have come back before it was paid, by more than zones explain."""
    if payout.paid_at is not None and returned_at < payout.paid_at - AHEAD_MAX:
        raise UnfitNow.one(
            "returned_at", f"is more than a day before it was paid, {payout.paid_at.isoformat()}"
        )


def check_status(payout: Payout, *wanted: PayoutStatus) -> None:
    """Raises PayoutStatusConflict when a payout is in none of the states that a call needs."""
    if payout.status in wanted:
        return
    if payout.status is PayoutStatus.PENDING:
        what = "its claim is not in the books yet; repeat the same call in a moment"
    else:
        what = f"it is {payout.status.name}; get it to see what happened to it"
    raise PayoutStatusConflict(
        f"payout {payout.payout_id} must be {' or '.join(each.name for each in wanted)} for this: {what}",
        payout_id=payout.payout_id,
        status=payout.status.name,
    )


def exceeds_balance(party: str, currency_code: str, carried_minor: int) -> PayoutExceedsBalance:
    """Refuse a payout that is greater than what is owed."""
    return PayoutExceedsBalance(
        f"{party} is owed {carried_minor} minor units of {currency_code}: pay out no more than that",
        party=party,
        currency_code=currency_code,
        carried_minor=carried_minor,
    )


def not_bookable(posting: Posting, result: str) -> PayoutNotBookable:
    """Say that the ledger takes no posting of a payout."""
    return PayoutNotBookable(
        f"the ledger refused {posting.leg.recipe} of payout {posting.payout_id} with {result}; put its account right,"
        " it is tried again by itself",
        payout_id=posting.payout_id,
        recipe=posting.leg.recipe,
        result=result,
    )
