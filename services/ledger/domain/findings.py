"""What a verification of the books finds, and how far it is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from services.runtime.errors import Code, DomainError

CRITICAL = "CRITICAL"
HIGH = "HIGH"


class VerificationRunning(DomainError):
    """The books of the tenant are being verified by another call."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "VERIFICATION_RUNNING"
    state_dependent = True


class Check(StrEnum):
    """Something that must be true of the books; names as in payments.ledger.v1.IntegrityCheck."""

    CURRENCY_SUMS = "currency_sums"
    PENDING_SUMS = "pending_sums"
    BALANCES = "balances"
    ENTRIES = "entries"
    TRANSFERS = "transfers"
    TRANSFER_IDS = "transfer_ids"
    HOLDS = "holds"
    REVERSALS = "reversals"
    CHAIN = "chain"
    HEADS = "heads"
    POSTINGS = "postings"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be.

    Attributes:
        severity: HIGH or CRITICAL.
        transfer_id: the transfer or the hold at fault, if it is one.
        block_no: the block at fault; 0 when it is none.
        expected, found: what should be and what is, as text.
    """

    check: Check
    message: str
    expected: str = ""
    found: str = ""
    account_id: str = ""
    transfer_id: UUID | None = None
    block_no: int = 0
    severity: str = CRITICAL

    @property
    def subject(self) -> str:
        """What it is about, in a word."""
        block = f"block {self.block_no}" if self.block_no else ""
        return self.account_id or str(self.transfer_id or "") or block or self.check.value

    def __str__(self) -> str:
        expected = f": expected {self.expected}, found {self.found}" if self.expected else ""
        return f"{self.subject}: {self.message}{expected}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the checks of a pass are.

    Attributes:
        check: the first of them.
        looked_at: rows so far.
        done: they are through.
    """

    check: Check
    looked_at: int
    done: bool = False
