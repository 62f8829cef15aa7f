"""The log of receipts: what its leaves say, its heads, and what a verification compares. Pure.

The receipt with ordinal N is the leaf with index N - 1, so the size of a tree is the ordinal of its last receipt. What
is hashed is text that anybody can write again: payments/metering/v1/receipts.proto says how.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.metering.domain.events import EventContent, digest
from services.metering.domain.merkle import leaf_hash, root_of
from services.metering.domain.receipts import RECEIPT_PREFIX, ReceiptKind
from services.metering.domain.times import microseconds
from services.runtime.errors import Code, DomainError
from services.runtime.money import format_decimal

FORMAT = 1
EVENTS_A_CLOSING_MAX = 50_000
"""Events whose receipts become leaves in one transaction; at least one receipt does."""
RECEIPTS_A_CLOSING_MAX = 1_000
RETRY_SECONDS = 2
"""When a pending receipt is worth to ask for again: the log is closed at least so often."""
FINDINGS_MAX = 100
"""Told of one stretch that is verified."""


class ReceiptBehindHead(DomainError):
    """A proof is asked for in a tree that was closed before the receipt came."""

    code = Code.OUT_OF_RANGE
    reason = "RECEIPT_BEHIND_HEAD"
    state_dependent = True
    receipt_id: str
    tree_size: int
    ordinal: int


class UsageLogDamaged(Exception):
    """What is stored of a receipt's events is not what it accepted; no call is answered with this."""


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """A receipt as it is stored.

    Attributes:
        receipt_id: without its prefix.
        ordinal: None until it is given.
    """

    receipt_id: str
    ordinal: int | None
    kind: ReceiptKind
    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class LogLeaf:
    """A receipt in the log."""

    ordinal: int
    events_root: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class LogHead:
    """The state of the log at one size.

    Attributes:
        closed_at: when its last leaf was added; None for the empty log.
    """

    tree_size: int
    root_hash: bytes
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event of a receipt, or a version of one, as it is stored.

    Attributes:
        event_key, fingerprint: 32 hexadecimal digits.
    """

    receipt_id: str
    event_key: str
    fingerprint: str
    version: int
    cancelled: bool
    reason: str
    content: EventContent


@dataclass(frozen=True, slots=True)
class ReceiptProof:
    """A receipt, and its place in the log.

    Attributes:
        leaf: None while it is none.
        head: that it is proven against; the newest while it is no leaf.
        path: the hashes of the inclusion proof.
    """

    receipt: StoredReceipt
    leaf: LogLeaf | None
    head: LogHead
    path: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class Consistency:
    """Two heads, and the proof that the second begins with the first."""

    first: LogHead
    second: LogHead
    path: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class LogFinding:
    """Something that does not follow from what is stored; `ordinal` is the size where it is a head's."""

    ordinal: int
    message: str
    expected: str
    found: str
    receipt_id: str = ""


def canonical(record: dict[str, object]) -> bytes:
    """Write a record in the one way that is hashed."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def event_leaf(event: LoggedEvent) -> bytes:
    """Return the hash of the leaf of an event."""
    said = event.content
    return leaf_hash(
        canonical(
            {
                "cancelled": int(event.cancelled),
                "event_key": event.event_key,
                "event_time_us": microseconds(said.event_time),
                "fingerprint": event.fingerprint,
                "format": FORMAT,
                "metadata": dict(said.metadata),
                "org_id": said.org_id,
                "project_id": said.project_id,
                "quantity": format_decimal(said.quantity),
                "reason": event.reason,
                "request_id": said.request_id,
                "sku": said.sku,
                "source": said.source,
                "version": event.version,
            }
        )
    )


def receipt_leaf(tenant_id: str, receipt: StoredReceipt, events_root: bytes) -> LogLeaf:
    """Return the leaf of a receipt that has its ordinal."""
    assert receipt.ordinal is not None, "a leaf has its place"
    record: dict[str, object] = {
        "accepted": receipt.accepted,
        "conflict": receipt.conflict,
        "duplicate": receipt.duplicate,
        "events_root": events_root.hex(),
        "format": FORMAT,
        "kind": receipt.kind.value,
        "ordinal": receipt.ordinal,
        "receipt_id": f"{RECEIPT_PREFIX}{receipt.receipt_id}",
        "recorded_at_us": microseconds(receipt.recorded_at),
        "rejected": receipt.rejected,
        "tenant_id": tenant_id,
    }
    return LogLeaf(receipt.ordinal, events_root, leaf_hash(canonical(record)))


def sealed(tenant_id: str, receipt: StoredReceipt, events: Sequence[bytes]) -> LogLeaf:
    """Return the leaf of a receipt and the hashes of its events.

    Raises:
        UsageLogDamaged: there are more or fewer events than it accepted.
    """
    if len(events) != receipt.accepted:
        raise UsageLogDamaged(
            f"receipt {RECEIPT_PREFIX}{receipt.receipt_id} accepted {receipt.accepted} events, and {len(events)} of it"
            " are stored: compare them with a backup; the log goes on once they are what they were"
        )
    return receipt_leaf(tenant_id, receipt, root_of(events))


def few_enough(receipts: Sequence[StoredReceipt], events_max: int) -> list[StoredReceipt]:
    """Return the first receipts, as many as have no more events than that together; at least one."""
    found: list[StoredReceipt] = []
    events = 0
    for receipt in receipts:
        events += receipt.accepted
        if found and events > events_max:
            break
        found.append(receipt)
    return found


def receipt_faults(
    tenant_id: str, receipt: StoredReceipt, leaf: LogLeaf, events: Sequence[LoggedEvent]
) -> list[LogFinding]:
    """Compare what is stored of a receipt with its leaf."""
    name = f"{RECEIPT_PREFIX}{receipt.receipt_id}"

    def finding(message: str, expected: object, found: object) -> LogFinding:
        return LogFinding(leaf.ordinal, message, str(expected), str(found), name)

    findings = []
    if len(events) != receipt.accepted:
        message = "events of the receipt are missing, or were added"
        findings.append(finding(message, receipt.accepted, len(events)))
    for event in events:
        key = digest(event.content.request_id)
        if event.event_key != key:
            message = "an event is stored under the key of another request_id"
            findings.append(finding(message, key, event.event_key))
    events_root = root_of([event_leaf(event) for event in events])
    if events_root != leaf.events_root:
        message = "the events of the receipt are not those that were logged"
        findings.append(finding(message, leaf.events_root.hex(), events_root.hex()))
    found = receipt_leaf(tenant_id, receipt, leaf.events_root).hash
    if found != leaf.hash:
        message = "the receipt is not what was logged"
        findings.append(finding(message, leaf.hash.hex(), found.hex()))
    return findings


def uuid_hex(value: UUID | str) -> str:
    """Write 16 bytes that are stored as a UUID as hexadecimal digits."""
    return str(value).replace("-", "")
