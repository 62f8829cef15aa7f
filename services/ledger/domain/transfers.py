"""Transfers: their content, the verdicts on them, and when two of the same id are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from uuid import UUID

KIND_POSTED = 1


class TransferResult(IntEnum):
    """Verdict on one transfer; numbers, order and meaning as in payments.ledger.v1.TransferResult."""

    OK = 1
    LINKED_EVENT_CHAIN_OPEN = 10
    LINKED_EVENT_FAILED = 11
    INVALID_TRANSFER = 12
    DUPLICATE_IN_CHAIN = 20
    ID_ALREADY_FAILED = 21
    EXISTS_WITH_DIFFERENT_LINKED = 22
    EXISTS_WITH_DIFFERENT_KIND = 23
    EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID = 25
    EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID = 26
    EXISTS_WITH_DIFFERENT_AMOUNT = 27
    EXISTS_WITH_DIFFERENT_CODE = 28
    EXISTS_WITH_DIFFERENT_METADATA = 29
    EXISTS_WITH_DIFFERENT_EFFECTIVE_AT = 30
    EXISTS = 31
    ACCOUNTS_MUST_BE_DIFFERENT = 40
    AMOUNT_MUST_BE_POSITIVE = 41
    DEBIT_ACCOUNT_NOT_FOUND = 50
    CREDIT_ACCOUNT_NOT_FOUND = 51
    ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY = 52
    AMOUNT_MUST_HAVE_THE_CURRENCY_OF_THE_ACCOUNTS = 53
    DEBIT_ACCOUNT_CLOSED = 60
    CREDIT_ACCOUNT_CLOSED = 61
    OVERFLOWS_DEBITS = 70
    OVERFLOWS_CREDITS = 71
    EXCEEDS_CREDITS = 80
    EXCEEDS_DEBITS = 81


# Refusals that hang on the state of the accounts. They burn the id: were it left free, a late retry could post
# what its sender has given up. Rule: TigerBeetle's transient errors.
BURNING = frozenset(
    {
        TransferResult.DEBIT_ACCOUNT_NOT_FOUND,
        TransferResult.CREDIT_ACCOUNT_NOT_FOUND,
        TransferResult.DEBIT_ACCOUNT_CLOSED,
        TransferResult.CREDIT_ACCOUNT_CLOSED,
        TransferResult.EXCEEDS_CREDITS,
        TransferResult.EXCEEDS_DEBITS,
    }
)


@dataclass(frozen=True, slots=True)
class Transfer:
    """One amount from one account to another.

    Attributes:
        amount_minor: minor units of `currency_code`.
        effective_at: None when the caller gave none: the time of recording counts.
        linked: tied to the next transfer of the batch.
    """

    transfer_id: UUID
    debit_account_id: str
    credit_account_id: str
    currency_code: str
    amount_minor: int
    code: int = 0
    kind: int = KIND_POSTED
    linked: bool = False
    effective_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A transfer that breaks the rules of its fields: it has no meaning, only a place in its chain."""

    message: str
    linked: bool


def fingerprint(transfer: Transfer) -> bytes:
    """Return 16 bytes that are the same for the same content, effective_at as the caller gave it."""
    effective_at = "" if transfer.effective_at is None else transfer.effective_at.isoformat()
    metadata = json.dumps(dict(transfer.metadata), sort_keys=True) if transfer.metadata else ""
    # No field but the last can hold the separator: account ids and codes come from narrow alphabets.
    content = (
        f"{transfer.debit_account_id}|{transfer.credit_account_id}|{transfer.currency_code}|"
        f"{transfer.amount_minor}|{transfer.code}|{transfer.kind}|{transfer.linked:d}|{effective_at}|{metadata}"
    )
    return hashlib.blake2b(content.encode(), digest_size=16).digest()


def first_difference(existing: Transfer, asked: Transfer) -> TransferResult:
    """Name what differs between two transfers of one id whose fingerprints differ.

    The stored effective_at no longer tells whether the caller gave it, so it is named when nothing else differs.
    """
    differences = (
        (existing.linked != asked.linked, TransferResult.EXISTS_WITH_DIFFERENT_LINKED),
        (existing.kind != asked.kind, TransferResult.EXISTS_WITH_DIFFERENT_KIND),
        (
            existing.debit_account_id != asked.debit_account_id,
            TransferResult.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID,
        ),
        (
            existing.credit_account_id != asked.credit_account_id,
            TransferResult.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID,
        ),
        (
            (existing.currency_code, existing.amount_minor)
            != (asked.currency_code, asked.amount_minor),
            TransferResult.EXISTS_WITH_DIFFERENT_AMOUNT,
        ),
        (existing.code != asked.code, TransferResult.EXISTS_WITH_DIFFERENT_CODE),
        (
            dict(existing.metadata) != dict(asked.metadata),
            TransferResult.EXISTS_WITH_DIFFERENT_METADATA,
        ),
    )
    for differs, result in differences:
        if differs:
            return result
    return TransferResult.EXISTS_WITH_DIFFERENT_EFFECTIVE_AT
