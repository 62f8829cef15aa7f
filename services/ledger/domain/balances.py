"""Balances as of a time: of effect, of recording, or of both."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from services.ledger.domain.months import month_of
from services.ledger.domain.trial_balance import TypeSums
from services.runtime.errors import Code, DomainError
from services.runtime.money import Money

ACCOUNTS_MAX = 10_000
# Above every character of an account's name.
_ABOVE_ALL = "\x7f"


class TooManyAccounts(DomainError):
    """More accounts than one call adds up have names that begin so."""

    code = Code.FAILED_PRECONDITION
    reason = "TOO_MANY_ACCOUNTS"
    state_dependent = True
    account_prefix: str
    accounts_max: str


def too_many_accounts(prefix: str) -> TooManyAccounts:
    """Say what to do about a prefix that is too short."""
    return TooManyAccounts(
        f"more than {ACCOUNTS_MAX} accounts begin with {prefix!r}: give a longer prefix, or read the trial balance",
        account_prefix=prefix,
        accounts_max=str(ACCOUNTS_MAX),
    )


@dataclass(frozen=True, slots=True)
class AsOf:
    """What is counted: what takes effect by one instant and was recorded by another; None sets no bound."""

    effective_at: datetime | None = None
    recorded_at: datetime | None = None

    @property
    def is_now(self) -> bool:
        """True where all that is in the books counts."""
        return self.effective_at is None and self.recorded_at is None


NOW = AsOf()


@dataclass(frozen=True, slots=True)
class AccountRange:
    """The accounts whose names sort between two, both counted; names sort by their bytes."""

    first: str = ""
    last: str = _ABOVE_ALL

    @classmethod
    def one(cls, account_id: str) -> AccountRange:
        """Return the range of a single account."""
        return cls(account_id, account_id)

    @classmethod
    def beginning_with(cls, prefix: str) -> AccountRange:
        """Return the range of the accounts whose names begin so."""
        return cls(prefix, prefix + _ABOVE_ALL)


ALL_ACCOUNTS = AccountRange()


@dataclass(frozen=True, slots=True)
class BalanceLine:
    """Accounts of one type in one currency, added up. What is pending stands only in the balance of now: else None."""

    sums: TypeSums
    debits_pending_minor: int | None = None
    credits_pending_minor: int | None = None

    @property
    def debits_pending(self) -> Money | None:
        """Sum of what open holds would debit. Raises AmountOverflow."""
        return self._money(self.debits_pending_minor)

    @property
    def credits_pending(self) -> Money | None:
        """Sum of what open holds would credit. Raises AmountOverflow."""
        return self._money(self.credits_pending_minor)

    def _money(self, minor: int | None) -> Money | None:
        return None if minor is None else Money(self.sums.currency_code, minor)


@dataclass(frozen=True, slots=True)
class Bounds:
    """An instant with where its day and its month begin, in UTC."""

    instant: datetime
    day: date
    month: date


def bounds(instant: datetime) -> Bounds:
    """Cut an instant into what whole days and months do not hold."""
    in_utc = instant.astimezone(UTC)
    return Bounds(in_utc, in_utc.date(), month_of(in_utc).date())


def day_start(day: date) -> datetime:
    """Return the first instant of a day, in UTC."""
    return datetime.combine(day, time(), UTC)
