"""An event of the feed and how far it got. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from services.runtime.errors import Code, DomainError


class StreamEnded(DomainError):
    """The server is about to stop; what follows can be had from its successor."""

    code = Code.UNAVAILABLE
    reason = "STREAM_ENDED"
    state_dependent = True


class Status(StrEnum):
    """How far an event got, in the words of the seeds' envelope (`outbox_status`)."""

    PENDING = "pending"
    RETRYING = "retrying"
    DEAD = "dead"
    PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Progress:
    """What the consumers made of an event so far.

    Attributes:
        waiting: consumers that have yet to handle it.
        dead: consumers that gave it up.
        tries: most failed tries of one consumer.
        next_at: when the next try is due; None when none waits.
        last_error: what the last failed try said; empty without one.
    """

    waiting: int
    dead: int
    tries: int
    next_at: datetime | None
    last_error: str

    @property
    def status(self) -> Status:
        """The worst that can be said of it: what is dead needs a person, what waits needs time."""
        if self.dead:
            return Status.DEAD
        if not self.waiting:
            return Status.PUBLISHED
        return Status.RETRYING if self.tries else Status.PENDING


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """An event at its place in the feed.

    Attributes:
        position: its place; ordered, with gaps where other tenants' events stand.
        message_name: full name of the payload's message.
        payload: the message's bytes, untouched.
        kept: attributes of the CloudEvent that it came in as, which it has no other place for.
    """

    position: int
    event_id: str
    subject: str
    schema_version: int
    tenant_id: str
    key: str
    message_name: str
    payload: bytes
    correlation_id: str
    causation_id: str
    traceparent: str
    created_at: datetime
    progress: Progress
    kept: Mapping[str, str | int | bool] = field(default_factory=dict)
