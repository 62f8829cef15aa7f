"""Reservations of credits: a table of moves, the funding beside it, and the one holder of a lock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from services.orders.domain.credits import Part
from services.runtime.errors import Code, DomainError


class Status(StrEnum):
    """Where a reservation stands. Stored and told as these texts; readers must bear others."""

    RESERVED = "RESERVED"
    LOCKED = "LOCKED"
    CONSUMED = "CONSUMED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"


class Funding(StrEnum):
    """Whether what is reserved has been paid for."""

    UNFUNDED = "UNFUNDED"
    FUNDED = "FUNDED"


class Move(StrEnum):
    """What is done with a reservation, in the words of an error."""

    LOCK = "lock"
    FUND = "fund"
    CONSUME = "consume"
    RELEASE = "release"
    EXPIRE = "expire"


_State = tuple[Status, Funding]
_R, _L = Status.RESERVED, Status.LOCKED
_NOT, _PAID = Funding.UNFUNDED, Funding.FUNDED
# From which state to which by what. What is not in it cannot happen. Only what is locked and funded is consumed,
# and what somebody has locked does not expire under him.
TRANSITIONS: dict[tuple[_State, Move], _State] = {
    ((_R, _NOT), Move.LOCK): (_L, _NOT),
    ((_R, _PAID), Move.LOCK): (_L, _PAID),
    ((_R, _NOT), Move.FUND): (_R, _PAID),
    ((_L, _NOT), Move.FUND): (_L, _PAID),
    ((_L, _PAID), Move.CONSUME): (Status.CONSUMED, _PAID),
    **{
        ((status, funding), Move.RELEASE): (Status.RELEASED, funding)
        for status in (_R, _L)
        for funding in Funding
    },
    **{((_R, funding), Move.EXPIRE): (Status.EXPIRED, funding) for funding in Funding},
}


class ReservationStatusConflict(DomainError):
    """The state of a reservation does not allow what was asked for."""

    code = Code.FAILED_PRECONDITION
    reason = "RESERVATION_STATUS_CONFLICT"
    state_dependent = True
    reservation_id: str
    status: str
    funding: str


class ReservationLockHeld(DomainError):
    """Another holder has the lock of a reservation."""

    code = Code.FAILED_PRECONDITION
    reason = "RESERVATION_LOCK_HELD"
    state_dependent = True
    reservation_id: str
    holder: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """Credits promised to one purpose.

    Attributes:
        parts: of which grants, in their order of use.
        expires_at: a reservation that nobody has locked by then expires.
        holder: who has locked it; kept when it ends, to tell who had.
    """

    reservation_id: str
    owner_id: str
    unit: str
    parts: tuple[Part, ...]
    created_at: datetime
    expires_at: datetime
    status: str = Status.RESERVED
    funding: str = Funding.UNFUNDED
    holder: str = ""

    @property
    def amount(self) -> int:
        """In the unit's smallest parts."""
        return sum(part.amount for part in self.parts)


def moved(reservation: Reservation, move: Move) -> Reservation:
    """Move a reservation by the table. Raises ReservationStatusConflict for a move that is not in it."""
    after = next(
        (
            after
            for ((status, funding), known), after in TRANSITIONS.items()
            if known is move and (status, funding) == (reservation.status, reservation.funding)
        ),
        None,
    )
    if after is None:
        raise conflict(reservation, move)
    return replace(reservation, status=after[0], funding=after[1])


def locked(reservation: Reservation, holder: str, at: datetime) -> Reservation:
    """Give the lock to a holder; to the one who has it already, nothing changes.

    Raises ReservationLockHeld if another has it, ReservationStatusConflict if the reservation has ended or its time is
    over, though no timer has told so yet.
    """
    if reservation.status == Status.LOCKED:
        _held_by(reservation, holder)
        return reservation
    if reservation.status == Status.RESERVED and reservation.expires_at <= at:
        raise conflict(
            reservation, Move.LOCK, f"its time was over at {reservation.expires_at.isoformat()}"
        )
    return replace(moved(reservation, Move.LOCK), holder=holder)


def consumed(reservation: Reservation, holder: str) -> Reservation:
    """Use up what is reserved. Raises ReservationLockHeld for one who has not the lock."""
    if reservation.status == Status.LOCKED:
        _held_by(reservation, holder)
    return moved(reservation, Move.CONSUME)


def expired(reservation: Reservation, at: datetime) -> Reservation:
    """End what nobody has locked in time. Raises ReservationStatusConflict before its time, or when it has ended."""
    if reservation.expires_at > at:
        raise conflict(
            reservation, Move.EXPIRE, f"its time is over at {reservation.expires_at.isoformat()}"
        )
    return moved(reservation, Move.EXPIRE)


def conflict(reservation: Reservation, move: Move, why: str = "") -> ReservationStatusConflict:
    """Refuse a move."""
    allowed = sorted(
        {f"{status} and {funding}" for (status, funding), known in TRANSITIONS if known is move}
    )
    reason = why or f"this takes one that is {' or '.join(allowed)}"
    return ReservationStatusConflict(
        f"cannot {move.value} reservation {reservation.reservation_id}, which is {reservation.status} and "
        f"{reservation.funding}: {reason}",
        reservation_id=reservation.reservation_id,
        status=reservation.status,
        funding=reservation.funding,
    )


def _held_by(reservation: Reservation, holder: str) -> None:
    if reservation.holder != holder:
        raise ReservationLockHeld(
            f"the lock of reservation {reservation.reservation_id} is held by {reservation.holder}: "
            "wait until it is released, or ask its holder",
            reservation_id=reservation.reservation_id,
            holder=reservation.holder,
        )
