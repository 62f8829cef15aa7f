"""Holds: what an action keeps free in every budget that applies, until it says what it used, gives it up, or is late.

A hold accounts for a use once, however that becomes known. While it is open, events that name it report what it holds;
what they report beyond that counts by itself. Once it has ended it accounts for what was committed, or reported if that
is more, and events that name it count only beyond that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from uuid import UUID

from services.metering.domain.budgets import ZERO, Budget, Counter, Key
from services.runtime.errors import Code, DomainError
from services.runtime.money import CONTEXT

HOLD_PREFIX = "hold"
HOLD_FOR_DEFAULT = timedelta(minutes=5)
_PLACES = Decimal("1e-18")


class HoldStatus(StrEnum):
    """How a hold stands."""

    HELD = "HELD"
    COMMITTED = "COMMITTED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"


class HoldEnded(DomainError):
    """A hold is not open any more."""

    code = Code.FAILED_PRECONDITION
    reason = "HOLD_ENDED"
    state_dependent = True
    hold_id: str
    status: str


class NotRated(Exception):
    """A budget in money was put after the use had been rated for those that there were: rate it again."""

    def __init__(self, budget_id: str) -> None:
        super().__init__(budget_id)
        self.budget_id = budget_id


class BudgetsChanging(DomainError):
    """Budgets were put as often as the use was rated."""

    code = Code.ABORTED
    reason = "BUDGETS_CHANGING"
    state_dependent = True
    budget_id: str


@dataclass(frozen=True, slots=True)
class Share:
    """What a hold takes of one budget, in the budget's measure: held, or used once it has ended.

    Attributes:
        start_at: start of the period that it counts in.
        held: what was held; its rate stays that of the hold.
    """

    budget_id: str
    series: UUID
    start_at: datetime
    currency_code: str
    held: Decimal
    value: Decimal

    @property
    def key(self) -> Key:
        """Where it counts."""
        return self.series, self.start_at


@dataclass(frozen=True, slots=True)
class Hold:
    """A quantity that is kept free for an action.

    Attributes:
        accounted: what of it is used, once it has ended.
        reported: what of it events have reported.
        remaining: least that the hard budgets in units leave free, when it was changed last in this call.
    """

    hold_id: UUID
    org_id: str
    sku: str
    quantity: Decimal
    shares: tuple[Share, ...]
    reserved_at: datetime
    expires_at: datetime
    status: HoldStatus = HoldStatus.HELD
    accounted: Decimal = ZERO
    reported: Decimal = ZERO
    ended_at: datetime | None = None
    remaining: Decimal | None = None

    @property
    def unreported(self) -> Decimal:
        """What of it events that name it may still report without counting."""
        covers = self.quantity if self.status is HoldStatus.HELD else self.accounted
        return max(CONTEXT.subtract(covers, self.reported), ZERO)


@dataclass(frozen=True, slots=True)
class Reserve:
    """A use that is asked for.

    Attributes:
        amounts: its price by the series of each budget in money, or why it cannot be rated.
    """

    hold_id: UUID
    org_id: str
    sku: str
    quantity: Decimal
    hold_for: timedelta
    amounts: Mapping[UUID, Decimal] | DomainError


@dataclass(frozen=True, slots=True)
class Commit:
    """What was used of a hold; None: all of it."""

    hold_id: UUID
    quantity: Decimal | None


@dataclass(frozen=True, slots=True)
class Release:
    """A hold that is given up."""

    hold_id: UUID


@dataclass(frozen=True, slots=True)
class Expire:
    """A hold whose time may be over."""

    hold_id: UUID


Command = Reserve | Commit | Release | Expire


def reserve(command: Reserve, counters: Sequence[Counter], now: datetime) -> Hold:
    """Hold a quantity in all budgets that apply, whose counters are given by budget_id, or in none.

    Raises:
        BudgetExceeded: a hard one has not as much free.
        DomainError: it cannot be rated, and has to be.
    """
    values = [_value(counter.budget, command) for counter in counters]
    for counter, value in zip(counters, values, strict=True):
        if counter.budget.is_hard and not counter.has_room(value):
            raise counter.refusal(value)
    for counter, value in zip(counters, values, strict=True):
        counter.add(ZERO, value, command.sku, command.quantity)
    shares = tuple(
        Share(
            counter.budget.budget_id,
            counter.budget.series,
            counter.start_at,
            counter.budget.currency_code,
            value,
            value,
        )
        for counter, value in zip(counters, values, strict=True)
    )
    return Hold(
        hold_id=command.hold_id,
        org_id=command.org_id,
        sku=command.sku,
        quantity=command.quantity,
        shares=shares,
        reserved_at=now,
        expires_at=now + command.hold_for,
        remaining=_remaining(counters),
    )


def commit(
    hold: Hold, quantity: Decimal | None, counters: Mapping[Key, Counter], now: datetime
) -> Hold:
    """Count what was used of a hold and free the rest; counters are missing of budgets that were deleted.

    Raises:
        HoldEnded: it is not open, or its time is over.
        BudgetExceeded: more was used than is held and free; nothing changes.
    """
    if hold.status is HoldStatus.HELD and hold.expires_at <= now:
        raise _ended(hold, HoldStatus.EXPIRED)
    committed = hold.quantity if quantity is None else quantity
    return _end(hold, HoldStatus.COMMITTED, committed, counters, now)


def release(hold: Hold, counters: Mapping[Key, Counter], now: datetime) -> Hold:
    """Free what a hold keeps, but for what events have reported. Raises HoldEnded."""
    if hold.status is HoldStatus.HELD and hold.expires_at <= now:
        raise _ended(hold, HoldStatus.EXPIRED)
    return _end(hold, HoldStatus.RELEASED, ZERO, counters, now)


def expire(hold: Hold, counters: Mapping[Key, Counter], now: datetime) -> Hold:
    """Free what a hold keeps once its time is over; one that has time left, or has ended, stays as it is."""
    if hold.status is not HoldStatus.HELD or hold.expires_at > now:
        return hold
    return _end(hold, HoldStatus.EXPIRED, ZERO, counters, now)


def report(hold: Hold, quantity: Decimal) -> tuple[Hold, Decimal]:
    """Note what an event reports of a hold; returns how much of it the hold accounts for."""
    covered = min(quantity, hold.unreported)
    return replace(hold, reported=CONTEXT.add(hold.reported, covered)), covered


def unreport(hold: Hold, quantity: Decimal) -> tuple[Hold, Decimal]:
    """Take back what an event reported of a hold; returns how much of it the hold had accounted for.

    What was committed stands. A hold that was given up, or whose time was over, accounts for what events report alone,
    so it accounts for less then.
    """
    covered = min(quantity, hold.reported)
    reported = CONTEXT.subtract(hold.reported, covered)
    after = replace(hold, reported=reported)
    if hold.status in (HoldStatus.HELD, HoldStatus.COMMITTED):
        return after, covered
    shares = tuple(
        replace(share, value=_scaled(share, reported, hold.quantity)) for share in hold.shares
    )
    return replace(after, accounted=reported, shares=shares), covered


def _end(
    hold: Hold,
    status: HoldStatus,
    committed: Decimal,
    counters: Mapping[Key, Counter],
    now: datetime,
) -> Hold:
    if hold.status is not HoldStatus.HELD:
        raise _ended(hold, hold.status)
    used = max(committed, hold.reported)
    shares = tuple(
        replace(share, value=_scaled(share, used, hold.quantity)) for share in hold.shares
    )
    known = [(share, counters[share.key]) for share in shares if share.key in counters]
    for share, counter in known:
        more = CONTEXT.subtract(share.value, share.held)
        if counter.budget.is_hard and not counter.has_room(more):
            raise counter.refusal(more)
    for share, counter in known:
        more_units = CONTEXT.subtract(used, hold.quantity)
        counter.add(share.value, -share.held, hold.sku, more_units)
    return replace(
        hold,
        status=status,
        shares=shares,
        accounted=used,
        ended_at=now,
        remaining=_remaining([counter for _, counter in known]),
    )


def _ended(hold: Hold, status: HoldStatus) -> HoldEnded:
    return HoldEnded(
        f"hold {HOLD_PREFIX}_{hold.hold_id} is not open any more, it is {status}: make another",
        hold_id=f"{HOLD_PREFIX}_{hold.hold_id}",
        status=status.value,
    )


def _value(budget: Budget, command: Reserve) -> Decimal:
    if not budget.currency_code:
        return command.quantity
    if isinstance(command.amounts, DomainError):
        raise command.amounts
    if budget.series not in command.amounts:
        raise NotRated(budget.budget_id)
    return command.amounts[budget.series]


def _scaled(share: Share, used: Decimal, quantity: Decimal) -> Decimal:
    if not share.currency_code:
        return used
    exact = CONTEXT.divide(CONTEXT.multiply(share.held, used), quantity)
    return exact.quantize(_PLACES, rounding=ROUND_HALF_UP, context=CONTEXT)


def _remaining(counters: Sequence[Counter]) -> Decimal | None:
    """Return the least that hard budgets in units leave free; None when there is none."""
    free = [
        counter.free
        for counter in counters
        if counter.budget.is_hard and not counter.budget.currency_code
    ]
    return min(free, default=None)
