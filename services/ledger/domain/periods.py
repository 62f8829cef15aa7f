"""Accounting periods: the books of a currency are closed through an instant, further or less far."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.runtime import moments
from services.runtime.errors import Code, DomainError


class PeriodInFuture(DomainError):
    """The instant has not passed yet."""

    code = Code.FAILED_PRECONDITION
    reason = "PERIOD_IN_FUTURE"
    state_dependent = True
    currency_code: str
    closed_through: str
    now: str


class PeriodAlreadyClosed(DomainError):
    """The books are closed further."""

    code = Code.FAILED_PRECONDITION
    reason = "PERIOD_ALREADY_CLOSED"
    state_dependent = True
    currency_code: str
    closed_through: str


class PeriodNotClosed(DomainError):
    """There is nothing to reopen."""

    code = Code.FAILED_PRECONDITION
    reason = "PERIOD_NOT_CLOSED"
    state_dependent = True
    currency_code: str
    closed_through: str | None = None


@dataclass(frozen=True, slots=True)
class AccountingPeriod:
    """How far the books of a currency are closed.

    Attributes:
        closed_through: nothing that takes effect then or before is posted any more; None where all is open.
        reason: why it was reopened; empty when it was closed last.
        updated_at: when it was last closed or reopened.
    """

    currency_code: str
    closed_through: datetime | None
    reason: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Closing:
    """The books of a currency, to be closed through an instant."""

    currency_code: str
    closed_through: datetime


@dataclass(frozen=True, slots=True)
class Reopening:
    """The books of a currency, to stay closed through an earlier instant only, or not at all (None), and why."""

    currency_code: str
    closed_through: datetime | None
    reason: str


def close(before: AccountingPeriod | None, asked: Closing, now: datetime) -> AccountingPeriod:
    """Return the books closed as asked; as they were, when they are closed so far already.

    Raises:
        PeriodInFuture: the instant is still to come.
        PeriodAlreadyClosed: they are closed further.
    """
    code, through = asked.currency_code, asked.closed_through
    if through > now:
        raise PeriodInFuture(
            f"books are closed through an instant that has passed; {moments.written(through)} is still to come",
            currency_code=code,
            closed_through=moments.written(through),
            now=moments.written(now),
        )
    closed_through = before.closed_through if before else None
    if before is None or closed_through is None or closed_through < through:
        return AccountingPeriod(code, through, "", now)
    if closed_through > through:
        raise PeriodAlreadyClosed(
            f"the books of {code} are closed through {moments.written(closed_through)}, which is later; to open what is"
            " behind an earlier instant, reopen them",
            currency_code=code,
            closed_through=moments.written(closed_through),
        )
    return before


def reopen(before: AccountingPeriod | None, asked: Reopening, now: datetime) -> AccountingPeriod:
    """Return the books opened as asked.

    Raises:
        PeriodNotClosed: they are not closed, or not beyond that instant.
    """
    code, through = asked.currency_code, asked.closed_through
    closed_through = before.closed_through if before else None
    if closed_through is None:
        raise PeriodNotClosed(
            f"the books of {code} are not closed: there is nothing to reopen",
            currency_code=code,
            closed_through=None,
        )
    if through is not None and through >= closed_through:
        raise PeriodNotClosed(
            f"the books of {code} are closed through {moments.written(closed_through)} only: give an earlier instant,"
            " or none to open them wholly",
            currency_code=code,
            closed_through=moments.written(closed_through),
        )
    return AccountingPeriod(code, through, asked.reason, now)
