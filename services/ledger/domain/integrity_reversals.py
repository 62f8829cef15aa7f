"""Checks of what is noted of reversals: by it is judged how much may still be taken back. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from services.ledger.domain.findings import Check, Finding


@dataclass(frozen=True, slots=True)
class Note:
    """What a transfer is noted to take back of another; below zero where it goes the same way again."""

    reversed_id: UUID
    amount_minor: int

    def __str__(self) -> str:
        return f"{self.amount_minor} minor units of {self.reversed_id}"


@dataclass(frozen=True, slots=True)
class KeptReversal:
    """A note that a transfer takes so much of another back.

    Attributes:
        amount_minor: what is noted; below zero where it goes the same way again.
        moved_minor: what the reversing transfer moves; None where there is none.
        posted_minor: what was posted of the reversed one, and may still be of a hold; None where there is none.
    """

    reversed_id: UUID
    transfer_id: UUID
    amount_minor: int
    moved_minor: int | None
    posted_minor: int | None


def reversals_faults(page: Sequence[KeptReversal], taken: Mapping[UUID, int]) -> list[Finding]:
    """Judge notes; `taken` is what was taken back in all, by what it was taken of."""
    return [finding for each in page for finding in _faults(each, taken.get(each.reversed_id, 0))]


def _faults(note: KeptReversal, taken_minor: int) -> Iterator[Finding]:
    if note.moved_minor is None:
        yield _finding(note, "a reversal that is noted is not in the books", "a transfer", "none")
    elif note.moved_minor != abs(note.amount_minor):
        message = "a reversal moves another amount than is noted"
        yield _finding(note, message, str(abs(note.amount_minor)), str(note.moved_minor))
    if note.posted_minor is None:
        message = f"the reversed transfer {note.reversed_id} is not in the books"
        yield _finding(note, message, "a transfer", "none")
    elif taken_minor > note.posted_minor:
        message = f"more was taken back of transfer {note.reversed_id} than it posted"
        yield _finding(note, message, f"at most {note.posted_minor}", str(taken_minor))


def _finding(note: KeptReversal, message: str, expected: str, found: str) -> Finding:
    return Finding(Check.REVERSALS, message, expected, found, transfer_id=note.transfer_id)
