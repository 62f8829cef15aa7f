"""Usage events of a batch: their identity, and what the rules make of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import NamedTuple

from services.metering.domain.times import instant

EVENTS_MAX = 10_000
"""Events in one batch: what one transaction stores in well under a second."""
# Reasons of verdicts, documented in payments.errors.v1.ErrorReason.
EVENT_TOO_OLD = "EVENT_TOO_OLD"
EVENT_TOO_NEW = "EVENT_TOO_NEW"
UNKNOWN_SKU = "UNKNOWN_SKU"
EVENT_DUPLICATE = "EVENT_DUPLICATE"
EVENT_CONFLICT = "EVENT_CONFLICT"
EVENT_ENQUEUED = "EVENT_ENQUEUED"
EVENT_KEY_ENDED = "EVENT_KEY_ENDED"
EVENT_NOT_STORED = "EVENT_NOT_STORED"
EVENT_NOT_FOUND = "EVENT_NOT_FOUND"
EVENT_CANCELLED = "EVENT_CANCELLED"
PERIOD_CLOSED = "PERIOD_CLOSED"
METADATA_NOT_ALLOWED = "METADATA_NOT_ALLOWED"
BY_SETTINGS = frozenset({EVENT_TOO_OLD, EVENT_TOO_NEW, METADATA_NOT_ALLOWED})
"""Reasons that other settings would not have."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What events are judged by: the tenant's window in microseconds since 1970, its SKUs, and the keys that metadata
    may have; None: any.
    """

    earliest_us: int
    latest_us: int
    skus: Set[str]
    metadata_allowed: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """An event that breaks a rule, with the bytes it came as; of one that could never be taken, with a part of them."""

    index: int
    request_id: str
    reason: str
    message: str
    content: bytes
    org_id: str = ""
    sku: str = ""


Refuse = Callable[[int, str, str], Rejection]
"""Makes a refusal of the event at a position of its batch, with reason and message."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """An event whose id stood earlier in the same batch."""

    index: int
    request_id: str
    fingerprint: str


Row = tuple[str, str, str, str, str]
"""An event to be stored: request_id, content (org, project, SKU, quantity, time in microseconds, source, each with a
tab behind it), metadata as JSON or an empty text, key, fingerprint."""


class Place(NamedTuple):
    """Where an event counts: in the period of its time, and one that sets a level up to the next of the SKU."""

    org_id: str
    project_id: str
    sku: str
    event_time: datetime


def place_of(row: Row) -> Place:
    """Return where an event to be stored counts."""
    org_id, project_id, sku, _, at_us, *_ = row[1].split("\t")
    return Place(org_id, project_id, sku, instant(int(at_us)))


@dataclass(slots=True)
class Batch:
    """A batch after the rules: what to store, what repeats within it, what is refused.

    Attributes:
        size: events in it.
        rows: one for each distinct id.
        first_index: position in the batch of each row, by request_id.
        repeats: later events of an id that has a row.
        rejections: events that break a rule.
    """

    size: int
    rows: list[Row] = field(default_factory=list)
    first_index: dict[str, int] = field(default_factory=dict)
    repeats: list[Repeat] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)

    @property
    def event_keys(self) -> list[str]:
        """Under which its distinct ids are stored, in the order of the rows."""
        return [key for *_, key, _ in self.rows]

    @property
    def fingerprints(self) -> list[str]:
        """What its distinct events say, in the order of the rows."""
        return [fingerprint for *_, fingerprint in self.rows]


@dataclass(frozen=True, slots=True)
class StoreBatch:
    """A judged batch to be stored, and the receipt that it gets.

    Attributes:
        refuse: makes a refusal of an event that has no fault of its own.
        refuses_late: events of closed periods are refused.
        keeps_refused: refused events are kept; those of a replay are kept already.
        received_at: periods that were closed after this moment do not refuse; None: all do.
    """

    receipt_id: str
    batch: Batch
    refuse: Refuse
    refuses_late: bool = False
    keeps_refused: bool = True
    received_at: datetime | None = None


def all_refused(size: int, reason: str, message: str, refuse: Refuse) -> Batch:
    """Return a batch of which every event is refused for the same reason."""
    return Batch(size, rejections=[refuse(index, reason, message) for index in range(size)])


def without(batch: Batch, refused: Mapping[str, tuple[str, str]], refuse: Refuse) -> Batch:
    """Return a batch in which events that had no fault of their own are refused.

    Args:
        refused: reason and message by the id of the event.
    """
    left = Batch(size=batch.size)
    left.rejections = list(batch.rejections)
    for row in batch.rows:
        request_id, index = row[0], batch.first_index[row[0]]
        if request_id in refused:
            left.rejections.append(refuse(index, *refused[request_id]))
        else:
            left.rows.append(row)
            left.first_index[request_id] = index
    for repeat in batch.repeats:
        if repeat.request_id in refused:
            left.rejections.append(refuse(repeat.index, *refused[repeat.request_id]))
        else:
            left.repeats.append(repeat)
    left.rejections.sort(key=lambda item: item.index)
    return left


@dataclass(frozen=True, slots=True)
class EventContent:
    """What an event says.

    Attributes:
        source: number of payments.metering.v1.Source.
    """

    request_id: str
    org_id: str
    project_id: str
    sku: str
    quantity: Decimal
    event_time: datetime
    source: int
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of the batch whose id was stored before, with the fingerprint of the stored content."""

    request_id: str
    fingerprint: str


def canonical_quantity(text: str) -> str:
    """Spell a quantity the one way that equal quantities share: `007.50` becomes `7.5`."""
    whole, point, places = text.partition(".")
    whole = whole.lstrip("0") or "0"
    places = places.rstrip("0")
    return f"{whole}.{places}" if point and places else whole


def digest(text: str) -> str:
    """Return 16 bytes of BLAKE2b as hexadecimal: key of an id, fingerprint of a content.

    Sixteen bytes keep the unique index a third of the size that the ids themselves would need; two of
    10^12 events share one with a chance of 10^-15.
    """
    return blake2b(text.encode(), digest_size=16).hexdigest()


def batch_digest(batch: Batch) -> str:
    """Return 16 bytes, as hexadecimal, that say what a batch says, event by event in its order.

    The same batch has the same, whatever of it is stored; reasons of refusals are in it, their messages, which tell
    the time, are not.
    """
    found = blake2b(str(batch.size).encode(), digest_size=16)
    found.update("".join(f"\n{key}{fingerprint}" for *_, key, fingerprint in batch.rows).encode())
    for repeat in batch.repeats:
        found.update(f"\n={repeat.index} {digest(repeat.request_id)}{repeat.fingerprint}".encode())
    for item in batch.rejections:
        found.update(f"\n!{item.index} {item.reason} {len(item.content)}\n".encode())
        found.update(item.content)
    return found.hexdigest()


def rejections_by_reason(batch: Batch) -> Counter[str]:
    """Count the refused events of a batch by reason."""
    return Counter(item.reason for item in batch.rejections)


def rejections_message(batch: Batch) -> str:
    """Say in one sentence why events of a batch were refused, for the contract monitor."""
    reasons = rejections_by_reason(batch)
    told = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    return f"{len(batch.rejections)} of {batch.size} usage events were rejected: {told}"
