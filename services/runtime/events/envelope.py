"""What a reaction receives, and what it says about itself."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from google.protobuf.message import Message

from services.runtime.database import UnitOfWork
from services.runtime.outbox.subjects import Pattern


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event as a reaction sees it.

    Attributes:
        event_id: its id; the same on every try.
        subject: what happened.
        schema_version: version of the payload's schema.
        tenant_id: whose fact it is; the reaction acts for this tenant.
        key: what it is ordered by.
        payload: the fact; an Empty when an outside producer told it, in `json`, or when the reaction does not
            read it.
        correlation_id: id of the whole chain.
        causation_id: what caused it.
        created_at: when it came to be, UTC.
        generation: 0, or the number of the replay that brought it again.
        json: the fact of an outside producer, byte for byte; empty for a message of ours.
        position: its place in the feed.
    """

    event_id: str
    subject: str
    schema_version: int
    tenant_id: str
    key: str
    payload: Message
    correlation_id: str
    causation_id: str
    created_at: datetime
    generation: int = 0
    json: bytes = b""
    position: int = 0


Handler = Callable[[UnitOfWork, Envelope], Awaitable[None]]
BatchHandler = Callable[[UnitOfWork, Sequence[Envelope]], Awaitable[None]]

BATCH_SIZE_MAX = 1000


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when a failing event is tried again.

    Attributes:
        tries_max: tries in all: the first and three more.
        base_ms: wait before the second try; each further wait is twice the one before.
        jitter: share by which a wait is drawn out or cut short, so that failures do not march in step.
    """

    tries_max: int = 4
    base_ms: int = 1000
    jitter: float = 0.2

    def delay_ms(self, tries: int, draw: Callable[[], float] = random.random) -> float:
        """Return the wait after `tries` failed tries; `draw` gives a number from 0 up to 1."""
        spread = 1 - self.jitter + 2 * self.jitter * draw()
        return float(self.base_ms * 2 ** (tries - 1)) * spread


@dataclass(frozen=True, slots=True)
class Reaction:
    """What one consumer does on others' events.

    Attributes:
        consumer: its name, `<service>.<what>`, e.g. `monitoring.violations`. Never rename it: the inbox and
            the position are kept under it, and a new name would do everything again.
        subjects: subjects or patterns (`invoice.*`).
        handler: called with a unit of work; its effects and the proof that the event was handled
            commit together. It must not call over the network. Without one, `batch_handler` is given
            single events too.
        on_dead: what a dead letter does to later events of its key: `park_key` makes them wait until
            the letter was replayed (money), `skip` lets them pass (notifications).
        retry: how often it is tried.
        takes_json: its handler reads `Envelope.json` too. Without it, events of outside producers that its
            patterns match are passed over.
        reads_payload: whether its handler looks at `Envelope.payload`. Without it nothing is decoded, and the
            payload is an Empty: events of a later release, which nobody here can decode, are handled too.
        batch_handler: called with events of one tenant, in their order, in one unit of work; none of them was
            handled before. When it fails, nothing of it counts and its events are handled singly. Worth
            writing for who takes many events: one statement for hundreds of them. What it publishes
            names its cause: `work.publish(fact, cause=envelope)`.
        replayable: whether a period may be replayed to it on request. Say no where doing it again would do harm that
            the handler's own ids do not prevent; dead letters, which had no effect yet, can be replayed always.
        by_tenant: it is given events of those tenants only that `mesh.interest` names for it; the rows of a table
            name them by the trigger `mesh.note_interest`.
        batch_size: events of a lane that are handled in one transaction by `batch_handler`, 1 to 1,000.

    Raises:
        ValueError: it has no handler at all, or its batches are out of bounds.
    """

    consumer: str
    subjects: tuple[str, ...]
    handler: Handler | None = None
    on_dead: Literal["park_key", "skip"] = "park_key"
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    takes_json: bool = False
    reads_payload: bool = True
    batch_handler: BatchHandler | None = None
    batch_size: int = 300
    replayable: bool = True
    by_tenant: bool = False

    def __post_init__(self) -> None:
        if self.handler is None and self.batch_handler is None:
            raise ValueError(f"{self.consumer} has no handler")
        if not 1 <= self.batch_size <= BATCH_SIZE_MAX:
            raise ValueError(
                f"{self.consumer} takes batches of {self.batch_size} events; say 1 to {BATCH_SIZE_MAX}"
            )

    async def handle(self, work: UnitOfWork, envelope: Envelope) -> None:
        """Handle one event."""
        if self.handler is not None:
            await self.handler(work, envelope)
        elif self.batch_handler is not None:
            await self.batch_handler(work, [envelope])

    async def handle_batch(self, work: UnitOfWork, envelopes: Sequence[Envelope]) -> None:
        """Handle events of one tenant together, where the consumer can."""
        if self.batch_handler is not None:
            await self.batch_handler(work, envelopes)
            return
        for envelope in envelopes:
            await self.handle(work, envelope)

    def patterns(self) -> tuple[Pattern, ...]:
        """Return the patterns of its subjects. Raises ValueError when one breaks the grammar."""
        return tuple(Pattern.parse(subject) for subject in self.subjects)
