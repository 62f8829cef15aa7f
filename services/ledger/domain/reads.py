"""What lists of the books are asked for, and how far a page of them has looked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from services.ledger.domain.accounts import AccountType, EntryPlace, EntryView
from services.ledger.domain.holds import TransferView

# Rows that a page looks at where a filter may pass most of them over.
LOOKED_AT_MAX = 5_000
# Accounts that a page of entries looks into.
ACCOUNTS_LOOKED_AT_MAX = 1_000
_SEQ_MAX = 2**63 - 1

ItemT = TypeVar("ItemT")
PlaceT = TypeVar("PlaceT")


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time: `start_at` belongs to it, `end_at` does not."""

    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True)
class Looked(Generic[ItemT, PlaceT]):
    """What a page found, and the place behind which more may stand; None when nothing does."""

    items: Sequence[ItemT]
    place: PlaceT | None

    def up_to(self, count: int, place_of: Callable[[ItemT], PlaceT]) -> Looked[ItemT, PlaceT]:
        """Return the first items, behind the last of which more stand if any are left out."""
        if count == len(self.items):
            return self
        return Looked(self.items[:count], place_of(self.items[count - 1]))


@dataclass(frozen=True, slots=True)
class TypedEntry:
    """An entry, and the type of its account, which says on which side a balance grows."""

    entry: EntryView
    type: AccountType

    @property
    def place(self) -> EntryPlace:
        """Where it stands among all entries."""
        return EntryPlace(self.entry.account_id, self.entry.seq)


@dataclass(frozen=True, slots=True)
class EntriesWanted:
    """Which entries to list, by account and number; None means any.

    Attributes:
        account_id: of this account; empty for those of a prefix.
        account_prefix: of all accounts whose names begin so.
        code: of transfers with this code.
        newest_first: within each account.
    """

    account_id: str = ""
    account_prefix: str = ""
    recorded_in: Span | None = None
    effective_in: Span | None = None
    code: int | None = None
    newest_first: bool = False

    @property
    def is_filtered(self) -> bool:
        """True when a page may have to look at entries that it does not show."""
        return any(each is not None for each in (self.recorded_in, self.effective_in, self.code))

    def behind_all(self, account_id: str) -> EntryPlace:
        """Return the place behind all entries of an account."""
        return EntryPlace(account_id, 0 if self.newest_first else _SEQ_MAX)

    def before_all(self, account_id: str) -> EntryPlace:
        """Return the place before all entries of an account."""
        return EntryPlace(account_id, _SEQ_MAX if self.newest_first else 0)


@dataclass(frozen=True, slots=True)
class TransfersWanted:
    """Which transfers to list; empty and None mean any.

    Attributes:
        reference_kind, reference_id: of this reference; both or neither.
        reference_part: of this part of it; an empty text is what is of the whole.
        account_id: that debit or credit this account.
        code: with this code.
    """

    reference_kind: str = ""
    reference_id: str = ""
    reference_part: str | None = None
    account_id: str = ""
    code: int | None = None
    recorded_in: Span | None = None
    newest_first: bool = False

    @property
    def is_filtered(self) -> bool:
        """True when a page may have to look at transfers that it does not show."""
        return bool(
            self.reference_part is not None
            or self.account_id
            or self.code is not None
            or (self.reference_id and self.recorded_in)
        )


@dataclass(frozen=True, slots=True)
class TransferPlace:
    """A place among all transfers: when they were recorded, by which batch, and where in that."""

    recorded_at: datetime
    batch_no: int
    position: int


@dataclass(frozen=True, slots=True)
class PlacedTransfer:
    """A transfer, and its place among all."""

    view: TransferView
    place: TransferPlace


def behind_prefix(prefix: str) -> str:
    """Return the first text, in the order of bytes, behind all that begin with a prefix of ASCII; empty for none."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else ""


def next_moment(moment: datetime) -> datetime:
    """Return the microsecond behind a moment; the last one of all is behind itself."""
    last = datetime.max.replace(tzinfo=UTC)
    return last if moment >= last else moment + datetime.resolution
