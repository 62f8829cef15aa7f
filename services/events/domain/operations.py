"""Readers of the feed inside the mesh, what they did not handle, and replays. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.runtime.errors import Code, DomainError


class ConsumerNotReplayable(DomainError):
    """Doing again what the consumer did would do harm."""

    code = Code.FAILED_PRECONDITION
    reason = "CONSUMER_NOT_REPLAYABLE"
    state_dependent = True
    consumer: str


@dataclass(frozen=True, slots=True)
class FailingKey:
    """A key whose first waiting event fails, or was given up.

    Attributes:
        tries: failed tries.
        next_at: when the next try is due; None for a parked key.
        parked: its events wait until the dead letter was replayed.
    """

    key: str
    event_id: str
    tries: int
    last_error: str
    next_at: datetime | None
    parked: bool


@dataclass(frozen=True, slots=True)
class Consumer:
    """A reader, and how far it got with a tenant's events. Counts are cut off at 100,000.

    Attributes:
        subjects: what it reads.
        replayable: a period may be brought to it again.
        parks_keys: an event that it gave up holds back later events of the key.
        waiting: events that it has yet to handle.
        oldest_at: when the oldest of them was recorded.
        retrying: of those that wait, those that failed before.
        dead_letters: events that it gave up.
    """

    name: str
    subjects: Sequence[str]
    replayable: bool
    parks_keys: bool
    waiting: int
    oldest_at: datetime | None
    retrying: int
    dead_letters: int
    failing_keys: Sequence[FailingKey] = ()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a consumer gave up; position and generation name its place."""

    consumer: str
    position: int
    generation: int
    event_id: str
    subject: str
    key: str
    tries: int
    last_error: str
    buried_at: datetime
    parked: bool


@dataclass(frozen=True, slots=True)
class Replay:
    """A period that a consumer handles again.

    Attributes:
        generation: its number among the consumer's replays.
        after_position: the feed was gone through up to here.
        end_position: the last place of the period when the replay began.
    """

    consumer: str
    generation: int
    start_at: datetime
    end_at: datetime
    subjects: Sequence[str]
    after_position: int
    end_position: int

    @property
    def is_through(self) -> bool:
        """True when no place is left."""
        return self.after_position >= self.end_position


@dataclass(frozen=True, slots=True)
class Period:
    """What a replay is asked for: when the events were recorded, and of which subjects."""

    start_at: datetime
    end_at: datetime
    subjects: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ReplayLetters:
    """Dead letters of a consumer to be handled again: all, those of a key, or some."""

    consumer: str
    key: str
    event_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class ReplayedLetters:
    """How many dead letters came back, and whether there are more."""

    count: int
    more: bool


@dataclass(frozen=True, slots=True)
class ReplayPeriod:
    """A period that a consumer is to handle again; `generation` names a replay to go on with."""

    consumer: str
    period: Period
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class ReplayedPeriod:
    """How many events were put into the queue by a command, and how far the replay is."""

    command: ReplayPeriod
    count: int
    replay: Replay
