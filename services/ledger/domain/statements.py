"""Statements: what happened on an account in a period, as of a point of its books that can be gone back to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from services.ledger.domain.accounts import AccountType, EntryView
from services.ledger.domain.reads import Span
from services.runtime.errors import InvalidField


class Time(IntEnum):
    """One of the two times of an entry; numbers as in payments.ledger.v1.Time."""

    RECORDED = 1
    EFFECTIVE = 2


@dataclass(frozen=True, slots=True)
class StatementWanted:
    """The statement that is asked for.

    Attributes:
        recorded_at: only what was recorded at this instant or before; None for now.
        last_seq: only entries up to this number; None for all.
    """

    account_id: str
    span: Span
    by: Time = Time.RECORDED
    recorded_at: datetime | None = None
    last_seq: int | None = None


@dataclass(frozen=True, slots=True)
class StatementHead:
    """What is fixed about an account, and the number of its last entry."""

    account_id: str
    currency_code: str
    type: AccountType
    owner: str
    last_seq: int


@dataclass(frozen=True, slots=True)
class Sums:
    """Of the entries of a period, in minor units: debits and credits, both positive, how many there are.

    Attributes:
        first_seq, last_seq: the lowest and the highest number among them; 0 where there are none.
    """

    debits_minor: int
    credits_minor: int
    entries: int
    first_seq: int
    last_seq: int

    @property
    def net_minor(self) -> int:
        """Debits less credits."""
        return self.debits_minor - self.credits_minor


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement without its lines.

    The entries of an account are numbered in the order in which they become visible, without a gap. So the entries up
    to `last_seq` that were recorded by `recorded_at` are the same for ever, whatever is posted later.

    Attributes:
        opening_minor: debits less credits before the period, in minor units.
    """

    head: StatementHead
    span: Span
    by: Time
    recorded_at: datetime
    last_seq: int
    opening_minor: int
    sums: Sums

    @property
    def closing_minor(self) -> int:
        """Debits less credits at the end of the period."""
        return self.opening_minor + self.sums.net_minor


@dataclass(frozen=True, slots=True)
class LinePlace:
    """A place in a statement: the time and the number of its line, and debits less credits behind it."""

    at: datetime
    seq: int
    balance_minor: int


@dataclass(frozen=True, slots=True)
class Line:
    """An entry, and debits less credits behind it in the order of the statement."""

    entry: EntryView
    balance_minor: int

    @property
    def place(self) -> LinePlace:
        """Where it stands in the statement."""
        return LinePlace(self.entry.effective_at, self.entry.seq, self.balance_minor)


def last_seq_of(wanted: StatementWanted, head: StatementHead) -> int:
    """Return the number up to which entries are in a statement. Raises InvalidField: the account has not so many."""
    if wanted.last_seq is None:
        return head.last_seq
    if wanted.last_seq > head.last_seq:
        raise InvalidField.one(
            "last_seq",
            f"account {head.account_id} has {head.last_seq} entries, not {wanted.last_seq}: give the last_seq of one "
            "of its statements, or none",
        )
    return wanted.last_seq


def lines(entries: Iterable[EntryView], balance_minor: int) -> Iterator[Line]:
    """Give each entry with the balance behind it, which was `balance_minor` before the first."""
    for entry in entries:
        balance_minor += entry.amount_minor
        yield Line(entry, balance_minor)


def start_of(statement: Statement) -> LinePlace:
    """Return the place before the first line."""
    # By the time of recording lines are found by their number, and the first one's is known.
    seq = max(statement.sums.first_seq - 1, 0) if statement.by is Time.RECORDED else 0
    return LinePlace(statement.span.start_at, seq, statement.opening_minor)
