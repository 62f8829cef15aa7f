"""Transfers: their content, the verdicts on them, and when two of the same id are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from uuid import UUID


class Kind(IntEnum):
    """What a transfer does; numbers as in payments.ledger.v1.Kind."""

    POSTED = 1
    PENDING = 2
    POST_PENDING = 3
    VOID_PENDING = 4

    @property
    def ends_hold(self) -> bool:
        """True for the kinds that post or void a hold."""
        return self >= Kind.POST_PENDING

    @property
    def voids_hold(self) -> bool:
        """True for the kind that gives a hold up."""
        return self is Kind.VOID_PENDING


class TransferResult(IntEnum):
    """Verdict on one transfer; numbers, order and meaning as in payments.ledger.v1.TransferResult.

    The order is that of precedence: of several that apply, the first is the verdict.
    """

    OK = 1
    SCHEDULED = 2
    LINKED_EVENT_CHAIN_OPEN = 10
    LINKED_EVENT_FAILED = 11
    INVALID_TRANSFER = 12
    DUPLICATE_IN_CHAIN = 20
    ID_ALREADY_FAILED = 21
    EXISTS_WITH_DIFFERENT_LINKED = 22
    EXISTS_WITH_DIFFERENT_KIND = 23
    EXISTS_WITH_DIFFERENT_FLAGS = 32
    EXISTS_WITH_DIFFERENT_PENDING_ID = 24
    EXISTS_WITH_DIFFERENT_TIMEOUT = 33
    EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID = 25
    EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID = 26
    EXISTS_WITH_DIFFERENT_AMOUNT = 27
    EXISTS_WITH_DIFFERENT_CODE = 28
    EXISTS_WITH_DIFFERENT_METADATA = 29
    EXISTS_WITH_DIFFERENT_EFFECTIVE_AT = 30
    EXISTS_WITH_DIFFERENT_NOT_BEFORE = 39
    EXISTS_WITH_DIFFERENT_REFERENCE = 38
    EXISTS = 31
    NOT_BEFORE_RESERVED_FOR_POSTED_TRANSFER = 44
    LINKED_EVENT_HAS_DIFFERENT_NOT_BEFORE = 45
    FLAGS_ARE_MUTUALLY_EXCLUSIVE = 34
    PENDING_ID_MUST_NOT_BE_ZERO = 35
    PENDING_ID_MUST_BE_DIFFERENT = 36
    TIMEOUT_RESERVED_FOR_PENDING_TRANSFER = 37
    PENDING_TRANSFER_NOT_FOUND = 90
    PENDING_TRANSFER_NOT_PENDING = 91
    PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID = 92
    PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID = 93
    PENDING_TRANSFER_HAS_DIFFERENT_CURRENCY = 94
    PENDING_TRANSFER_HAS_DIFFERENT_CODE = 95
    EXCEEDS_PENDING_TRANSFER_AMOUNT = 96
    PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT = 97
    PENDING_TRANSFER_ALREADY_POSTED = 98
    PENDING_TRANSFER_ALREADY_VOIDED = 99
    PENDING_TRANSFER_EXPIRED = 100
    ACCOUNTS_MUST_BE_DIFFERENT = 40
    PENDING_ID_MUST_BE_ZERO = 42
    CLOSING_TRANSFER_MUST_BE_PENDING = 43
    AMOUNT_MUST_BE_POSITIVE = 41
    DEBIT_ACCOUNT_NOT_FOUND = 50
    CREDIT_ACCOUNT_NOT_FOUND = 51
    ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY = 52
    AMOUNT_MUST_HAVE_THE_CURRENCY_OF_THE_ACCOUNTS = 53
    DEBIT_ACCOUNT_CLOSED = 60
    CREDIT_ACCOUNT_CLOSED = 61
    EFFECTIVE_AT_IN_CLOSED_PERIOD = 86
    OVERFLOWS_DEBITS_PENDING = 72
    OVERFLOWS_CREDITS_PENDING = 73
    OVERFLOWS_DEBITS = 70
    OVERFLOWS_CREDITS = 71
    OVERFLOWS_TIMEOUT = 74
    EXCEEDS_CREDITS = 80
    EXCEEDS_DEBITS = 81
    DEBIT_ACCOUNT_BELOW_FLOOR = 82
    DEBIT_ACCOUNT_ABOVE_CEILING = 83
    CREDIT_ACCOUNT_BELOW_FLOOR = 84
    CREDIT_ACCOUNT_ABOVE_CEILING = 85
    CANCELLED = 110


# Refusals that hang on the state of the accounts. They burn the id: were it left free, a late retry could post
# what its sender has given up. Rule: TigerBeetle's transient errors, and our own limits.
BURNING = frozenset(
    {
        TransferResult.PENDING_TRANSFER_NOT_FOUND,
        TransferResult.DEBIT_ACCOUNT_NOT_FOUND,
        TransferResult.CREDIT_ACCOUNT_NOT_FOUND,
        TransferResult.DEBIT_ACCOUNT_CLOSED,
        TransferResult.CREDIT_ACCOUNT_CLOSED,
        TransferResult.EFFECTIVE_AT_IN_CLOSED_PERIOD,
        TransferResult.EXCEEDS_CREDITS,
        TransferResult.EXCEEDS_DEBITS,
        TransferResult.DEBIT_ACCOUNT_BELOW_FLOOR,
        TransferResult.DEBIT_ACCOUNT_ABOVE_CEILING,
        TransferResult.CREDIT_ACCOUNT_BELOW_FLOOR,
        TransferResult.CREDIT_ACCOUNT_ABOVE_CEILING,
    }
)


@dataclass(frozen=True, slots=True)
class TransferFlags:
    """What is special about a transfer.

    Attributes:
        balancing_debit: moves at most what brings the debits of the debit account up to its credits.
        balancing_credit: moves at most what brings the credits of the credit account up to its debits.
        closing_debit: the hold closes the debit account.
        closing_credit: the hold closes the credit account.
        multi_capture: the hold may be posted in several parts.
    """

    balancing_debit: bool = False
    balancing_credit: bool = False
    closing_debit: bool = False
    closing_credit: bool = False
    multi_capture: bool = False

    @property
    def is_balancing(self) -> bool:
        """True when the amount is the most that moves."""
        return self.balancing_debit or self.balancing_credit

    @property
    def is_special(self) -> bool:
        """True when any of them is set."""
        return self.is_balancing or self.is_closing or self.multi_capture

    @property
    def is_closing(self) -> bool:
        """True when an account is closed."""
        return self.closing_debit or self.closing_credit


NO_FLAGS = TransferFlags()


@dataclass(frozen=True, slots=True)
class Reference:
    """What a transfer or a posting is for, in its sender's own names.

    Attributes:
        kind: what kind of thing it is, e.g. `charge`.
        id: its id.
        part: which part of it; empty for the whole.
    """

    kind: str
    id: str
    part: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.id}" + (f" ({self.part})" if self.part else "")


@dataclass(frozen=True, slots=True)
class Transfer:
    """One amount from one account to another, now or held.

    Attributes:
        debit_account_id, credit_account_id: empty for those of the hold that is posted or voided.
        currency_code: empty where no amount is given.
        amount_minor: minor units of `currency_code`; None for all that can move.
        effective_at: None when the caller gave none: the time of recording counts.
        linked: tied to the next transfer of the batch.
        pending_id: the hold that is posted or voided.
        timeout_ms: how long a hold stands, in milliseconds; 0 for ever.
        reverses_id: the transfer whose opposite it is; no caller can say so but by reversing it.
        asked_all: what moved was all that could, as the caller had asked; of a transfer that is decided on.
        reference: what it is for; None for nothing.
        posting_id: the posting of a recipe that it belongs to; no caller can say so but by posting one.
        not_before: when it posts itself; None for at once.
    """

    transfer_id: UUID
    debit_account_id: str
    credit_account_id: str
    currency_code: str
    amount_minor: int | None
    code: int = 0
    kind: Kind = Kind.POSTED
    linked: bool = False
    effective_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    pending_id: UUID | None = None
    timeout_ms: int = 0
    flags: TransferFlags = NO_FLAGS
    asked_all: bool = False
    reverses_id: UUID | None = None
    reference: Reference | None = None
    posting_id: UUID | None = None
    not_before: datetime | None = None

    @property
    def is_plain(self) -> bool:
        """True for a transfer that says nothing which the first release did not know."""
        return (
            self.kind is Kind.POSTED
            and self.amount_minor is not None
            and self.pending_id is None
            and self.reverses_id is None
            and self.reference is None
            and self.posting_id is None
            and self.not_before is None
            and not self.timeout_ms
            and (self.flags is NO_FLAGS or self.flags == NO_FLAGS)
        )


def moved(transfer: Transfer) -> int:
    """Return the amount of a transfer that is decided on, which has one."""
    assert transfer.amount_minor is not None
    return transfer.amount_minor


@dataclass(frozen=True, slots=True)
class Malformed:
    """A transfer that breaks the rules of its fields: it has no meaning, only a place in its chain."""

    message: str
    linked: bool


def content_refusal(transfer: Transfer) -> TransferResult | None:
    """Judge what can be judged of a transfer without the books."""
    is_hold, flags, amount = transfer.kind is Kind.PENDING, transfer.flags, transfer.amount_minor
    if transfer.is_plain and transfer.debit_account_id != transfer.credit_account_id:
        return None if moved(transfer) > 0 else TransferResult.AMOUNT_MUST_BE_POSITIVE
    is_zero_allowed = is_hold and flags.is_closing
    rules = (
        (flags.multi_capture and not is_hold, TransferResult.FLAGS_ARE_MUTUALLY_EXCLUSIVE),
        (transfer.timeout_ms and not is_hold, TransferResult.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER),
        (
            transfer.debit_account_id == transfer.credit_account_id,
            TransferResult.ACCOUNTS_MUST_BE_DIFFERENT,
        ),
        (transfer.pending_id is not None, TransferResult.PENDING_ID_MUST_BE_ZERO),
        (flags.is_closing and not is_hold, TransferResult.CLOSING_TRANSFER_MUST_BE_PENDING),
        (
            amount is not None and amount < (0 if is_zero_allowed else 1),
            TransferResult.AMOUNT_MUST_BE_POSITIVE,
        ),
    )
    return next((result for broken, result in rules if broken), None)


def ending_refusal(transfer: Transfer) -> TransferResult | None:
    """Judge what can be judged of a transfer that ends a hold without the books."""
    if transfer.flags.is_special:
        return TransferResult.FLAGS_ARE_MUTUALLY_EXCLUSIVE
    if transfer.pending_id is None:
        return TransferResult.PENDING_ID_MUST_NOT_BE_ZERO
    if transfer.pending_id == transfer.transfer_id:
        return TransferResult.PENDING_ID_MUST_BE_DIFFERENT
    if transfer.timeout_ms:
        return TransferResult.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER
    return None


SHARED_ITEMS_MAX = 8


def can_share(batch: Sequence[Transfer | Malformed]) -> bool:
    """True for a few transfers that are posted as well behind, or before, those of somebody else.

    An open chain would go on in what comes behind it; a hold, and what is scheduled, keep the trail of the call that
    made them.
    """
    return (
        0 < len(batch) <= SHARED_ITEMS_MAX
        and not batch[-1].linked
        and all(isinstance(each, Transfer) and not _keeps_trail(each) for each in batch)
    )


def _keeps_trail(transfer: Transfer) -> bool:
    return transfer.kind is Kind.PENDING or transfer.not_before is not None


FINGERPRINT_BYTES = 16


def fingerprint(transfer: Transfer) -> bytes:
    """Return 16 bytes that are the same for the same content, effective_at as the caller gave it.

    There are two versions, whose contents never agree. Plain transfers keep the first, so that those of earlier
    releases are known again. The second names each field that is set, so that a field of a later release changes no
    fingerprint of a transfer without it.
    """
    if transfer.is_plain:
        return _digest(_plain_content(transfer))
    flags = transfer.flags
    fields = {
        "debit": transfer.debit_account_id,
        "credit": transfer.credit_account_id,
        "currency": transfer.currency_code,
        "amount": transfer.amount_minor,
        "code": transfer.code,
        "kind": int(transfer.kind),
        "linked": transfer.linked,
        "effective": transfer.effective_at and transfer.effective_at.isoformat(),
        "metadata": dict(transfer.metadata) or None,
        "pending": transfer.pending_id and str(transfer.pending_id),
        "reverses": transfer.reverses_id and str(transfer.reverses_id),
        "reference": transfer.reference
        and [transfer.reference.kind, transfer.reference.id, transfer.reference.part],
        "posting": transfer.posting_id and str(transfer.posting_id),
        "not_before": transfer.not_before and transfer.not_before.isoformat(),
        "timeout_ms": transfer.timeout_ms,
        "balancing_debit": flags.balancing_debit,
        "balancing_credit": flags.balancing_credit,
        "closing_debit": flags.closing_debit,
        "closing_credit": flags.closing_credit,
        "multi_capture": flags.multi_capture,
    }
    # An amount of zero is one that was given.
    given = {
        name: value for name, value in fields.items() if value or (name == "amount" and value == 0)
    }
    # Begins with a brace, which no name of an account holds.
    return _digest(json.dumps(given, sort_keys=True))


def plain_fingerprint(
    debit: str, credit: str, currency: str, amount_minor: int, code: int
) -> bytes:
    """Return the fingerprint of a transfer that says nothing else."""
    content = f"{debit}|{credit}|{currency}|{amount_minor}|{code}|1|0||"
    return hashlib.blake2b(content.encode(), digest_size=FINGERPRINT_BYTES).digest()


def _plain_content(transfer: Transfer) -> str:
    effective_at = "" if transfer.effective_at is None else transfer.effective_at.isoformat()
    metadata = json.dumps(dict(transfer.metadata), sort_keys=True) if transfer.metadata else ""
    # No field but the last can hold the separator: account ids and codes come from narrow alphabets.
    return (
        f"{transfer.debit_account_id}|{transfer.credit_account_id}|{transfer.currency_code}|"
        f"{transfer.amount_minor}|{transfer.code}|{transfer.kind:d}|{transfer.linked:d}|{effective_at}|{metadata}"
    )


def _digest(content: str) -> bytes:
    return hashlib.blake2b(content.encode(), digest_size=FINGERPRINT_BYTES).digest()


def first_difference(existing: Transfer, asked: Transfer, *, waits: bool = False) -> TransferResult:
    """Name what differs between two transfers of one id whose fingerprints differ; EXISTS when nothing does.

    `existing` has the accounts and the code that it came to, whatever was left open by its sender: what is asked for
    differs in these only where it is given. All and so much are different amounts, even where they come to the same;
    of a balancing transfer the amount is the most that may move, so any that
    allows what moved, in its currency, is the same (TigerBeetle's rule). Of one that `waits` nothing has moved: it is
    as it was sent.
    """
    differences = (
        (existing.linked != asked.linked, TransferResult.EXISTS_WITH_DIFFERENT_LINKED),
        (existing.kind != asked.kind, TransferResult.EXISTS_WITH_DIFFERENT_KIND),
        (existing.flags != asked.flags, TransferResult.EXISTS_WITH_DIFFERENT_FLAGS),
        (
            existing.pending_id != asked.pending_id,
            TransferResult.EXISTS_WITH_DIFFERENT_PENDING_ID,
        ),
        (existing.timeout_ms != asked.timeout_ms, TransferResult.EXISTS_WITH_DIFFERENT_TIMEOUT),
        (
            asked.debit_account_id not in _open(asked, existing.debit_account_id),
            TransferResult.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID,
        ),
        (
            asked.credit_account_id not in _open(asked, existing.credit_account_id),
            TransferResult.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID,
        ),
        (
            _cap_differs(existing, asked) if waits else _amount_differs(existing, asked),
            TransferResult.EXISTS_WITH_DIFFERENT_AMOUNT,
        ),
        (
            existing.code != asked.code and not (asked.kind.ends_hold and not asked.code),
            TransferResult.EXISTS_WITH_DIFFERENT_CODE,
        ),
        (
            dict(existing.metadata) != dict(asked.metadata),
            TransferResult.EXISTS_WITH_DIFFERENT_METADATA,
        ),
        (
            existing.effective_at != asked.effective_at,
            TransferResult.EXISTS_WITH_DIFFERENT_EFFECTIVE_AT,
        ),
        (
            existing.not_before != asked.not_before,
            TransferResult.EXISTS_WITH_DIFFERENT_NOT_BEFORE,
        ),
        (
            existing.reference != asked.reference,
            TransferResult.EXISTS_WITH_DIFFERENT_REFERENCE,
        ),
    )
    return next((result for differs, result in differences if differs), TransferResult.EXISTS)


def _open(asked: Transfer, existing: str) -> tuple[str, ...]:
    return (existing, "") if asked.kind.ends_hold else (existing,)


def _cap_differs(existing: Transfer, asked: Transfer) -> bool:
    return (existing.currency_code, existing.amount_minor) != (
        asked.currency_code,
        asked.amount_minor,
    )


def _amount_differs(existing: Transfer, asked: Transfer) -> bool:
    assert existing.amount_minor is not None, "what is decided on has an amount"
    if asked.flags.is_balancing:
        return asked.amount_minor is not None and (
            asked.currency_code != existing.currency_code
            or asked.amount_minor < existing.amount_minor
        )
    if asked.amount_minor is None or existing.asked_all:
        return (asked.amount_minor is None) != existing.asked_all
    return _cap_differs(existing, asked)
