"""Reversals: a posted transfer is undone by its opposite, once."""

from __future__ import annotations

from dataclasses import dataclass
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
