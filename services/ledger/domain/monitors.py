"""Balance monitors: thresholds of balances, and which batches cross them.

A monitor has no state of its own: whether it is armed or triggered follows from the balance, which whoever changes it
has locked. So a crossing is seen once, by the one batch that makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from types import MappingProxyType
from typing import Protocol, TypeVar
from uuid import UUID

from services.ledger.domain.accounts import AccountType
from services.runtime.errors import Code, DomainError
from services.runtime.money import Money

MONITORS_MAX = 10_000
# Each batch of the tenant looks at all of them.
PREFIX_MONITORS_MAX = 100


class BalanceSide(IntEnum):
    """Which balance is meant; numbers as in payments.ledger.v1.BalanceSide."""

    POSTED = 1
    PENDING = 2
    AVAILABLE = 3


class Comparison(IntEnum):
    """When a balance satisfies a monitor; numbers as in payments.ledger.v1.Comparison."""

    BELOW = 1
    ABOVE = 2
    AT_OR_BELOW = 3
    AT_OR_ABOVE = 4

    def holds(self, balance_minor: int, threshold_minor: int) -> bool:
        """Compare a balance with a threshold."""
        match self:
            case Comparison.BELOW:
                return balance_minor < threshold_minor
            case Comparison.ABOVE:
                return balance_minor > threshold_minor
            case Comparison.AT_OR_BELOW:
                return balance_minor <= threshold_minor
            case Comparison.AT_OR_ABOVE:
                return balance_minor >= threshold_minor


class BalanceMonitorsFull(DomainError):
    """The tenant has as many monitors as it may."""

    code = Code.FAILED_PRECONDITION
    reason = "BALANCE_MONITORS_FULL"
    state_dependent = True
    monitors_max: int


class Watched(Protocol):
    """An account with what is posted to it and held, in minor units; `monitored` says whether a monitor names it."""

    account_id: str
    currency_code: str
    type: AccountType
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int
    monitored: bool


WatchedT = TypeVar("WatchedT", bound=Watched)
_NOTHING: Mapping[str, Watched] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Balances:
    """The balances of an account at some moment, in minor units, on the side that its type grows on.

    Attributes:
        posted: what is posted.
        pending: that, and all open holds as if they were posted.
        available: what is posted, less what open holds would take from it.
    """

    posted: int
    pending: int
    available: int

    @classmethod
    def of(cls, account: Watched) -> Balances:
        """Read the balances of an account."""
        posted = account.type.balance(account.debits_posted - account.credits_posted)
        net = account.type.balance(account.debits_pending - account.credits_pending)
        takes = account.credits_pending if account.type.grows_by_debit else account.debits_pending
        return cls(posted, posted + net, posted - takes)

    def on(self, side: BalanceSide) -> int:
        """Return one of them."""
        match side:
            case BalanceSide.POSTED:
                return self.posted
            case BalanceSide.PENDING:
                return self.pending
            case BalanceSide.AVAILABLE:
                return self.available


@dataclass(frozen=True, slots=True)
class Monitor:
    """A threshold of the balance of an account, or of each account whose name begins so.

    Attributes:
        account_id: the account; empty for a monitor of a prefix.
        account_prefix: how the accounts begin; empty for a monitor of an account.
        threshold: in the currency of the accounts that are watched.
    """

    monitor_id: str
    account_id: str
    account_prefix: str
    side: BalanceSide
    comparison: Comparison
    threshold: Money
    description: str = ""

    def watches(self, account_id: str, currency_code: str) -> bool:
        """True for an account whose balance it compares."""
        if currency_code != self.threshold.currency_code:
            return False
        if self.account_id:
            return account_id == self.account_id
        return account_id.startswith(self.account_prefix)

    def is_triggered(self, balances: Balances) -> bool:
        """True while a balance satisfies it."""
        return self.comparison.holds(balances.on(self.side), self.threshold.minor_units)


@dataclass(frozen=True, slots=True)
class MonitorView:
    """A monitor as it stands; `balances` are those of its account, None for a monitor of a prefix."""

    monitor: Monitor
    balances: Balances | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Step:
    """How an account stood behind a posting, by the posting's place in the batch."""

    position: int
    transfer_id: UUID
    balances: Balances


class Trail:
    """How the watched accounts of a batch stood before it, and behind each posting that changed them.

    Attributes:
        before: by account; empty where nothing is watched.
        steps: of those that were changed, in the order of posting.
    """

    def __init__(self, accounts: Mapping[str, Watched] = _NOTHING) -> None:
        self._accounts = accounts
        self.before = {name: Balances.of(account) for name, account in accounts.items()}
        self.steps: dict[str, list[Step]] = {}

    def note(self, position: int, transfer_id: UUID, *account_ids: str) -> None:
        """Note how the accounts of a transfer stand behind its posting."""
        for account_id in account_ids:
            account = self._accounts.get(account_id)
            if account is not None:
                step = Step(position, transfer_id, Balances.of(account))
                self.steps.setdefault(account_id, []).append(step)

    def undo(self, start: int) -> None:
        """Forget what postings from a place on have done."""
        for steps in self.steps.values():
            while steps and steps[-1].position >= start:
                steps.pop()

    def crossing(self, account_id: str, monitor: Monitor) -> Crossing | None:
        """Tell whether the batch triggered a monitor of an account that it changed."""
        before, steps = self.before[account_id], self.steps[account_id]
        if monitor.is_triggered(before) or not monitor.is_triggered(steps[-1].balances):
            return None
        crossed = steps[-1]
        for step in reversed(steps):
            if not monitor.is_triggered(step.balances):
                break
            crossed = step
        return Crossing(
            monitor,
            account_id,
            steps[-1].balances.on(monitor.side),
            before.on(monitor.side),
            crossed.transfer_id,
        )

    @property
    def named(self) -> list[str]:
        """Those of the changed accounts that monitors name."""
        return [name for name in self.changed if self._accounts[name].monitored]

    @property
    def changed(self) -> dict[str, str]:
        """The watched accounts that postings have changed, with their currencies, by name."""
        return {
            name: self._accounts[name].currency_code
            for name, steps in sorted(self.steps.items())
            if steps
        }


@dataclass(frozen=True, slots=True)
class Crossing:
    """A balance that has come to satisfy a monitor.

    Attributes:
        balance_minor: at the end of the batch.
        before_minor: before the batch.
        transfer_id: the one behind which the balance satisfied it for good.
    """

    monitor: Monitor
    account_id: str
    balance_minor: int
    before_minor: int
    transfer_id: UUID


def watched(accounts: Mapping[str, WatchedT], prefixes: Sequence[str]) -> dict[str, WatchedT]:
    """Return the accounts that a monitor names, or whose names begin as one says."""
    beginnings = tuple(prefixes)
    return {
        account_id: account
        for account_id, account in accounts.items()
        if account.monitored or (beginnings and account_id.startswith(beginnings))
    }


def crossings(monitors: Sequence[Monitor], trail: Trail) -> list[Crossing]:
    """Tell which monitors a batch has triggered, by how accounts stood before it and stand at its end."""
    found = []
    for account_id, currency_code in trail.changed.items():
        for monitor in monitors:
            if monitor.watches(account_id, currency_code):
                crossing = trail.crossing(account_id, monitor)
                found += [crossing] if crossing else []
    return found
