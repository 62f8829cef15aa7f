"""Reversals: a posted transfer is undone by its opposite, once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Self
from uuid import UUID

from services.ledger.domain.transfers import Kind, Transfer
from services.runtime.errors import Code, DomainError
from services.runtime.ids import derived_uuid

# Result of a refusal that no account has.
REVERSED_IN_PART = "REVERSED_IN_PART"


class TransferNotReversible(DomainError):
    """A hold, or what voided one: nothing was posted by it."""

    code = Code.FAILED_PRECONDITION
    reason = "TRANSFER_NOT_REVERSIBLE"
    state_dependent = True
    transfer_id: str
    kind: str


class TransferAlreadyReversed(DomainError):
    """The opposite of the transfer is in the books."""

    code = Code.FAILED_PRECONDITION
    reason = "TRANSFER_ALREADY_REVERSED"
    state_dependent = True
    transfer_id: str
    reversal_id: str


class ReversalRefused(DomainError):
    """An account refuses the opposite of the transfer, or a part was reversed before; nothing was posted."""

    code = Code.FAILED_PRECONDITION
    reason = "REVERSAL_REFUSED"
    state_dependent = True
    transfer_id: str
    result: str

    @classmethod
    def in_part(cls, transfer_id: UUID, taken_minor: int, amount_minor: int) -> Self:
        """Say how much of a transfer was reversed before."""
        return cls(
            f"transfer {transfer_id} is not reversed as a whole: {taken_minor} of its {amount_minor} minor units were"
            " reversed by recipes; reverse what is left by a recipe, or reverse those reversals first",
            transfer_id=str(transfer_id),
            result=REVERSED_IN_PART,
        )

    @classmethod
    def by_others(cls, transfer_id: UUID, beyond: Above, left_minor: int) -> Self:
        """Say that what it once took back has been taken back by others since."""
        return cls(
            f"transfer {transfer_id} is not reversed: it gives back what was taken of transfer {beyond.transfer_id},"
            f" and of that only {left_minor} of {beyond.posted_minor} minor units are left",
            transfer_id=str(transfer_id),
            result=REVERSED_IN_PART,
        )


@dataclass(frozen=True, slots=True)
class Above:
    """What a reversal touches further up: the transfer that it reverses, what that one reverses, and so on.

    Attributes:
        takes: true where taking back the reversal takes back of this one too, false where it gives to it again.
        posted_minor: what this one moved.
    """

    transfer_id: UUID
    takes: bool
    posted_minor: int

    def change_minor(self, amount_minor: int) -> int:
        """Return what is taken of it when so much of the reversal is taken back."""
        return amount_minor if self.takes else -amount_minor


@dataclass(slots=True)
class Taken:
    """What was taken back of transfers.

    Attributes:
        minor: of each, net of reversals that were reversed themselves.
        above: of those that are reversals, what they touch.
    """

    minor: dict[UUID, int] = field(default_factory=dict)
    above: Mapping[UUID, tuple[Above, ...]] = field(default_factory=dict)

    def exceeds(self, transfer_id: UUID, posted_minor: int, amount_minor: int) -> bool:
        """True where more is taken back than is left of a transfer, or of what is taken back with it."""
        left_minor = posted_minor - self.minor.get(transfer_id, 0)
        is_own = amount_minor > max(0, left_minor)
        return is_own or self.beyond(transfer_id, amount_minor) is not None

    def beyond(self, transfer_id: UUID, amount_minor: int) -> tuple[Above, int] | None:
        """Return what has less left than is taken of it with a transfer, and how much that is."""
        for each in self.above.get(transfer_id, ()):
            left_minor = each.posted_minor - self.minor.get(each.transfer_id, 0)
            if each.change_minor(amount_minor) > max(0, left_minor):
                return each, left_minor
        return None

    def take(self, transfer_id: UUID, amount_minor: int) -> None:
        """Take back so much; below zero it goes the same way again."""
        self._add(transfer_id, amount_minor)
        for each in self.above.get(transfer_id, ()):
            self._add(each.transfer_id, each.change_minor(amount_minor))

    def touched(self, transfer_ids: Collection[UUID]) -> dict[UUID, int]:
        """Return what was taken back of these and of all that is taken back with them."""
        found = {*transfer_ids}
        found |= {each.transfer_id for one in transfer_ids for each in self.above.get(one, ())}
        return {each: self.minor.get(each, 0) for each in found}

    def _add(self, transfer_id: UUID, amount_minor: int) -> None:
        self.minor[transfer_id] = self.minor.get(transfer_id, 0) + amount_minor


@dataclass(frozen=True, slots=True)
class Reversal:
    """A transfer to reverse, and why."""

    transfer_id: UUID
    reason: str


def reversal_id(transfer_id: UUID) -> UUID:
    """Return the id of the transfer that reverses one; each has its own, so that no two can."""
    return derived_uuid("ledger.reversal", str(transfer_id))


def opposite(transfer: Transfer, reason: str) -> Transfer:
    """Return the transfer that reverses one.

    Raises:
        TransferNotReversible: it posted nothing.
    """
    if transfer.kind not in (Kind.POSTED, Kind.POST_PENDING):
        raise TransferNotReversible(
            f"transfer {transfer.transfer_id} is {transfer.kind.name}: only what was posted can be reversed; a hold is "
            "given up by KIND_VOID_PENDING",
            transfer_id=str(transfer.transfer_id),
            kind=transfer.kind.name,
        )
    return Transfer(
        transfer_id=reversal_id(transfer.transfer_id),
        debit_account_id=transfer.credit_account_id,
        credit_account_id=transfer.debit_account_id,
        currency_code=transfer.currency_code,
        amount_minor=transfer.amount_minor,
        code=transfer.code,
        metadata={"reason": reason},
        reverses_id=transfer.transfer_id,
        reference=transfer.reference,
    )
