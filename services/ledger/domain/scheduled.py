"""Scheduled transfers: accepted now, posted by themselves when they are due, judged in full then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Protocol
from uuid import UUID

from services.ledger.domain.transfers import Kind, Transfer, TransferResult
from services.runtime.errors import Code, DomainError


class ScheduleState(IntEnum):
    """How a scheduled transfer stands; the numbers are stored, and as in payments.ledger.v1.ScheduleState."""

    WAITING = 1
    POSTED = 2
    REFUSED = 3
    CANCELLED = 4


class ScheduledTransferEnded(DomainError):
    """A scheduled transfer was posted, refused or cancelled before: it cannot be taken back."""

    code = Code.FAILED_PRECONDITION
    reason = "SCHEDULED_TRANSFER_ENDED"
    state_dependent = True
    transfer_id: str
    state: str


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A transfer that a batch accepted to be posted later.

    Attributes:
        position: its place in the batch.
        transfer: as it was sent.
        first_id: the first transfer of its chain, by which all of the chain are due at once; itself for one alone.
    """

    position: int
    transfer: Transfer
    fingerprint: bytes
    first_id: UUID


@dataclass(frozen=True, slots=True)
class ScheduledView:
    """A scheduled transfer as it stands.

    Attributes:
        transfer: as it was sent.
        accepted_at: when it was accepted.
        ended_at: when it was posted, refused or cancelled; None while it waits.
        refusal: why it was refused.
        cancel_reason: why it was cancelled.
    """

    transfer: Transfer
    first_id: UUID
    state: ScheduleState
    accepted_at: datetime
    ended_at: datetime | None = None
    refusal: TransferResult | None = None
    cancel_reason: str = ""


@dataclass(frozen=True, slots=True)
class Cancellation:
    """A scheduled transfer to take back, and why."""

    transfer_id: UUID
    reason: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What was taken back: the transfer that was named, and how many with it."""

    view: ScheduledView
    count: int


def not_before_refusal(transfer: Transfer, first: Transfer) -> TransferResult | None:
    """Judge when a transfer is to be posted, beside the first of its chain."""
    if transfer.not_before is not None and transfer.kind is not Kind.POSTED:
        return TransferResult.NOT_BEFORE_RESERVED_FOR_POSTED_TRANSFER
    if transfer.not_before != first.not_before:
        return TransferResult.LINKED_EVENT_HAS_DIFFERENT_NOT_BEFORE
    return None


class _Judged(Protocol):
    @property
    def result(self) -> TransferResult: ...


def refused_at(verdicts: Sequence[_Judged]) -> int | None:
    """Return which member of a chain that is due was refused first; None when all were posted."""
    if all(verdict.result is TransferResult.OK for verdict in verdicts):
        return None
    results = [verdict.result for verdict in verdicts]
    others = (TransferResult.LINKED_EVENT_FAILED, TransferResult.OK)
    return next((i for i, result in enumerate(results) if result not in others), 0)
