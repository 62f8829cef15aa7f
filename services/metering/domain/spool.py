"""Batches that are held while the database is away: what travels with one, and what is known of it afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.metering.domain.events import EVENT_ENQUEUED
from services.metering.domain.receipts import Problem, Receipt, Verdict
from services.runtime.errors import Code, DomainError

TRIES_MAX = 4
"""How often a batch may fail by itself before its events are kept as rejected: the first time, and three more."""
RETRY_MS = 1000


class HeldCall(StrEnum):
    """The call that brought a batch, by which its bytes are read."""

    EVENTS = "IngestEvents"
    CLOUD_EVENTS = "IngestCloudEvents"


@dataclass(frozen=True, slots=True)
class HeldBatch:
    """A batch as it is held: the call byte for byte, who made it and when.

    Attributes:
        receipt_id: that the caller was told.
        call: which one it was.
        tenant_id: whose usage it is.
        principal_id: who sent it.
        key_sha256: digest of its key, which is looked up again before anything is stored; empty inside the mesh.
        received_at: business time at which it was taken; its events are judged as of then.
        authenticated_at: the same moment by the machine's clock, by which keys end.
        request_id, correlation_id, causation_id, traceparent, tracestate: the trail of the call.
        events: how many it has.
        content: the request.
    """

    receipt_id: str
    call: HeldCall
    tenant_id: str
    principal_id: str
    key_sha256: bytes
    received_at: datetime
    authenticated_at: datetime
    request_id: str
    correlation_id: str
    causation_id: str
    traceparent: str
    tracestate: str
    events: int
    content: bytes


@dataclass(frozen=True, slots=True)
class SpooledBatch:
    """A batch that was held, and what became of it.

    Attributes:
        receipt_id: that the caller was told.
        events: how many it has.
        received_at: when it was taken.
        drained_at: when it was stored; None while it waits.
        stored: its receipt, whose id is another one where all of the batch was stored before; None while it waits.
    """

    receipt_id: str
    events: int
    received_at: datetime
    drained_at: datetime | None = None
    stored: Receipt | None = None


@dataclass(frozen=True, slots=True)
class SpoolLevel:
    """What the spool holds.

    Attributes:
        made_at: when the spool was made; one that was made again has another moment.
        batches: how many wait.
        size_bytes: what they weigh.
        bytes_max: what they may weigh; -1 for no limit.
        oldest_at: when the oldest one was taken; None while none waits.
    """

    made_at: datetime
    batches: int
    size_bytes: int
    bytes_max: int
    oldest_at: datetime | None

    @property
    def takes_more(self) -> bool:
        """Whether there is room."""
        return self.bytes_max < 0 or self.size_bytes < self.bytes_max


class SpoolUnavailable(DomainError):
    """The database is away, and the spool cannot hold a batch, or cannot be asked; nothing was acknowledged."""

    code = Code.UNAVAILABLE
    reason = "SPOOL_UNAVAILABLE"
    state_dependent = True
    batch_bytes: int | None = None
    batch_bytes_max: int | None = None


class SpoolNotDrained(DomainError):
    """A correction names an event that is not stored, and may be held."""

    code = Code.UNAVAILABLE
    reason = "SPOOL_NOT_DRAINED"
    state_dependent = True


def enqueued(receipt_id: str, request_ids: Sequence[str]) -> Receipt:
    """Answer for a batch that is held."""
    problems = [
        Problem(index, request_id, Verdict.ENQUEUED, EVENT_ENQUEUED, "")
        for index, request_id in enumerate(request_ids)
    ]
    return Receipt(receipt_id, 0, 0, 0, 0, problems, enqueued=len(problems))


def fails_alone(error: Exception) -> bool:
    """Whether an error is the batch's own: others would be stored meanwhile."""
    return not isinstance(error, DomainError) or error.code not in {
        Code.UNAVAILABLE,
        Code.RESOURCE_EXHAUSTED,
        Code.ABORTED,
        Code.DEADLINE_EXCEEDED,
    }
