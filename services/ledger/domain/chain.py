"""The chain of blocks: all transfers in the order in which they were posted, sealed by hashes. Pure.

A block's hash covers all that is stored of its transfers and of their entries, and the hash of the block before. What
is hashed is text that anybody can write again from the rows: docs/decisions/0167 says how.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from services.ledger.domain.transfers import Transfer, moved

BLOCK_TRANSFERS_MAX = 1_000
VERSION = 1
GENESIS = bytes(32)
"""What stands for the hash of the block before the first."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a transfer stands among all: the number of its batch, and its place in that."""

    batch_no: int
    position: int


BEFORE_ALL = Place(-1, -1)


@dataclass(frozen=True, slots=True)
class BookedEntry:
    """An entry as it is stored; amounts in minor units, debits positive."""

    account_id: str
    seq: int
    transfer_id: UUID
    amount_minor: int
    balance_after_minor: int
    counter_account_id: str
    currency_code: str
    code: int
    recorded_at: datetime
    effective_at: datetime


@dataclass(frozen=True, slots=True)
class BookedTransfer:
    """A transfer as it is stored, with its entries.

    Attributes:
        flag_bits: its flags as they are stored.
        effective_at: when it takes effect, given or not.
        entries: by account and seq.
    """

    place: Place
    transfer: Transfer
    flag_bits: int
    effective_at: datetime
    recorded_at: datetime
    entries: tuple[BookedEntry, ...]


class Line(NamedTuple):
    """What is hashed of a transfer, at its place."""

    place: Place
    text: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Some transfers, sealed.

    Attributes:
        block_no: from 1, without a gap.
        first, last: the places of its first and its last transfer.
        transfer_total: how many it and all before it hold.
    """

    block_no: int
    first: Place
    last: Place
    transfer_count: int
    transfer_total: int
    previous_hash: bytes
    hash: bytes
    recorded_at: datetime


def next_block(tenant_id: str, head: Block | None, lines: Sequence[Line], now: datetime) -> Block:
    """Seal transfers, in their order, behind the newest block."""
    assert 0 < len(lines) <= BLOCK_TRANSFERS_MAX
    assert head is None or head.last < lines[0].place
    block = Block(
        block_no=1 if head is None else head.block_no + 1,
        first=lines[0].place,
        last=lines[-1].place,
        transfer_count=len(lines),
        transfer_total=len(lines) + (0 if head is None else head.transfer_total),
        previous_hash=GENESIS if head is None else head.hash,
        hash=GENESIS,
        recorded_at=now,
    )
    return _sealed(tenant_id, block, lines)


def sealed(tenant_id: str, block: Block, transfers: Iterable[BookedTransfer]) -> Block:
    """Return a block with the hash that follows from what it says and from these transfers."""
    return _sealed(tenant_id, block, map(line_of, transfers))


def line_of(booked: BookedTransfer) -> Line:
    """Write what is hashed of a transfer."""
    return Line(booked.place, _line(transfer_record(booked)))


def _sealed(tenant_id: str, block: Block, lines: Iterable[Line]) -> Block:
    digest = hashlib.sha256(_line(_block_record(tenant_id, block)))
    for line in lines:
        digest.update(line.text)
    return replace(block, hash=digest.digest())


def _block_record(tenant_id: str, block: Block) -> dict[str, Any]:
    return {
        "version": VERSION,
        "tenant_id": tenant_id,
        "block_no": block.block_no,
        "first": [block.first.batch_no, block.first.position],
        "last": [block.last.batch_no, block.last.position],
        "transfer_count": block.transfer_count,
        "transfer_total": block.transfer_total,
        "previous_hash": block.previous_hash.hex(),
        "recorded_at_us": microseconds(block.recorded_at),
    }


def transfer_record(booked: BookedTransfer) -> dict[str, Any]:
    """Return what is hashed of a transfer. What a later release adds is left out while unset: no hash changes."""
    transfer = booked.transfer
    reference = transfer.reference
    return {
        "batch_no": booked.place.batch_no,
        "position": booked.place.position,
        "transfer_id": str(transfer.transfer_id),
        "debit_account_id": transfer.debit_account_id,
        "credit_account_id": transfer.credit_account_id,
        "currency_code": transfer.currency_code,
        "amount_minor": moved(transfer),
        "code": transfer.code,
        "kind": int(transfer.kind),
        "linked": int(transfer.linked),
        "flags": booked.flag_bits,
        "asked_all": int(transfer.asked_all),
        "timeout_ms": transfer.timeout_ms,
        "effective_at_us": microseconds(booked.effective_at),
        "recorded_at_us": microseconds(booked.recorded_at),
        "metadata": dict(transfer.metadata),
        "pending_id": _text(transfer.pending_id),
        "reverses_id": _text(transfer.reverses_id),
        "posting_id": _text(transfer.posting_id),
        "not_before_us": None if transfer.not_before is None else microseconds(transfer.not_before),
        "reference": None if reference is None else [reference.kind, reference.id, reference.part],
        "entries": [_entry_record(entry) for entry in booked.entries],
    }


def _entry_record(entry: BookedEntry) -> dict[str, Any]:
    return {
        "account_id": entry.account_id,
        "seq": entry.seq,
        "amount_minor": entry.amount_minor,
        "balance_after_minor": entry.balance_after_minor,
        "counter_account_id": entry.counter_account_id,
        "currency_code": entry.currency_code,
        "code": entry.code,
        "recorded_at_us": microseconds(entry.recorded_at),
        "effective_at_us": microseconds(entry.effective_at),
    }


def canonical(record: Mapping[str, Any]) -> str:
    """Write a record in the one way that is hashed and signed: JSON by name, without spaces, what is unset left out."""
    given = {name: value for name, value in record.items() if value is not None}
    return json.dumps(given, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def microseconds(moment: datetime) -> int:
    """Return a moment as microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _line(record: Mapping[str, Any]) -> bytes:
    return canonical(record).encode() + b"\n"


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
