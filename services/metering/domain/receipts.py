"""The durable answer to a batch: a verdict for each event, and what the batch added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from services.metering.domain.events import EVENT_CONFLICT, EVENT_DUPLICATE, Batch, StoredEvent

RECEIPT_PREFIX = "rcp_"
TOTALS_MAX = 500
"""Totals in one `usage.reported`, so that the event stays small whatever the batch."""


class Verdict(StrEnum):
    """The result for one event of a batch."""

    ACCEPTED = "ACCEPTED"
    DUPLICATE = "DUPLICATE"
    CONFLICT = "CONFLICT"
    REJECTED = "REJECTED"
    ENQUEUED = "ENQUEUED"


class ReceiptKind(StrEnum):
    """What a batch did."""

    INGEST = "INGEST"
    AMEND = "AMEND"
    CANCEL = "CANCEL"
    REPLAY = "REPLAY"


CORRECTING = frozenset({ReceiptKind.AMEND, ReceiptKind.CANCEL})
"""Kinds of batches that brought versions of events, and no event."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The verdict on an event that was not accepted."""

    index: int
    request_id: str
    verdict: Verdict
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Total:
    """What a batch added to the usage of one SKU by one organisation."""

    org_id: str
    sku: str
    event_count: int
    quantity: Decimal
    first_event_at: datetime
    last_event_at: datetime


@dataclass(frozen=True, slots=True)
class Stored:
    """What of a batch was stored.

    Attributes:
        totals: what it adds, by organisation and SKU.
        touches_closed: it may lie in periods that charges have closed.
    """

    totals: Sequence[Total] = ()
    touches_closed: bool = False

    @property
    def moments(self) -> list[datetime]:
        """The first and the last time of use of each total."""
        return [at for total in self.totals for at in (total.first_event_at, total.last_event_at)]

    @property
    def event_count(self) -> int:
        """Events that are new."""
        return sum(total.event_count for total in self.totals)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The durable answer to a batch."""

    receipt_id: str
    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    problems: Sequence[Problem]
    enqueued: int = 0


def receipt_of(receipt_id: str, batch: Batch, known: Sequence[StoredEvent]) -> Receipt:
    """Count the verdicts of a stored batch; what has no problem was accepted."""
    return counted(receipt_id, batch.size, settle(batch, known))


def counted(receipt_id: str, size: int, problems: Sequence[Problem]) -> Receipt:
    """Count the verdicts of a batch; what has no problem was accepted."""
    count = Counter(problem.verdict for problem in problems)
    return Receipt(
        receipt_id=receipt_id,
        accepted=size - len(problems),
        duplicate=count[Verdict.DUPLICATE],
        conflict=count[Verdict.CONFLICT],
        rejected=count[Verdict.REJECTED],
        problems=problems,
    )


def settle(batch: Batch, known: Sequence[StoredEvent]) -> list[Problem]:
    """Give every event of a stored batch that was not accepted its verdict, by index.

    `known` are the events that the store had before. The first of several equal ids in a batch is the one
    that counts; later ones are judged against what is stored in the end.
    """
    stored = dict(zip(batch.first_index, batch.fingerprints, strict=True))
    problems = []
    for item in known:
        same = stored[item.request_id] == item.fingerprint
        problems.append(_seen_before(batch.first_index[item.request_id], item.request_id, same))
        stored[item.request_id] = item.fingerprint
    for repeat in batch.repeats:
        same = stored[repeat.request_id] == repeat.fingerprint
        problems.append(_seen_before(repeat.index, repeat.request_id, same))
    for rejection in batch.rejections:
        problems.append(
            Problem(
                rejection.index,
                rejection.request_id,
                Verdict.REJECTED,
                rejection.reason,
                rejection.message,
            )
        )
    return sorted(problems, key=lambda problem: problem.index)


def _seen_before(index: int, request_id: str, same: bool) -> Problem:
    if same:
        return Problem(index, request_id, Verdict.DUPLICATE, EVENT_DUPLICATE, "")
    return Problem(
        index,
        request_id,
        Verdict.CONFLICT,
        EVENT_CONFLICT,
        "an event with this id is already stored with different content and stays as it is; use a new id for new usage",
    )
