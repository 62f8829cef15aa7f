"""Seeing what consumers did not handle, and having it handled again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.events.domain.operations import Consumer, ConsumerNotReplayable, DeadLetter, Replay
from services.events.store import operations as store
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound
from services.runtime.events.bus import EventBus

# Each locks lanes that dispatchers work on until it commits, so one call takes no more.
LETTERS_MAX = 1_000
PLACES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Period:
    """What a replay is asked for: when the events were recorded, and of which subjects."""

    start_at: datetime
    end_at: datetime
    subjects: Sequence[str] = ()


class Operations:
    """What an operator does about consumers. The mutating methods run inside the caller's unit of work."""

    def __init__(self, database: Database, bus: EventBus) -> None:
        self._database = database
        self._bus = bus

    async def consumers(self, after: str, limit: int) -> list[Consumer]:
        """Return the first consumers behind a name."""
        async with self._database.read() as work:
            return await store.consumers(work, after, limit)

    async def dead_letters(
        self, consumer: str, after: tuple[str, int, int], limit: int
    ) -> list[DeadLetter]:
        """Return the first dead letters behind a place, of one consumer or of all.

        Raises:
            NotFound: there is no such consumer, and no dead letter of one.
        """
        async with self._database.read() as work:
            found = await store.dead_letters(work, consumer, after, limit)
            if consumer and not found:
                await _known(work, consumer)
            return found

    async def replay_dead_letters(
        self, work: UnitOfWork, consumer: str, key: str, event_ids: Sequence[str]
    ) -> tuple[int, bool]:
        """Bring dead letters back; returns how many, and whether more are left.

        Raises:
            NotFound: there is no such consumer.
        """
        await _known(work, consumer)
        replayed, more = await store.replay_dead_letters(
            work, consumer, key, event_ids, LETTERS_MAX
        )
        work.audit(
            "dead_letters",
            consumer,
            None,
            {"replayed": replayed, "key": key, "event_ids": list(event_ids)},
        )
        return replayed, more

    async def begin_replay(
        self, work: UnitOfWork, consumer: str, period: Period
    ) -> tuple[int, Replay]:
        """Begin a replay with its first places; returns how many events were put into the queue.

        Raises:
            NotFound: there is no such consumer.
            ConsumerNotReplayable: it may not be given events again.
        """
        await _replayable(work, consumer)
        replay = await store.begin_replay(
            work, consumer, period.start_at, period.end_at, period.subjects
        )
        work.audit(
            "replay",
            f"{consumer}/{replay.generation}",
            None,
            {
                "start_at": replay.start_at.isoformat(),
                "end_at": replay.end_at.isoformat(),
                "subjects": list(replay.subjects),
            },
        )
        return await store.advance(work, replay, PLACES_MAX)

    async def go_on(self, work: UnitOfWork, consumer: str, generation: int) -> tuple[int, Replay]:
        """Go on with a replay.

        Raises:
            NotFound: there is no such consumer or replay.
            ConsumerNotReplayable: it may not be given events again any more.
        """
        await _replayable(work, consumer)
        replay = await store.hold_replay(work, consumer, generation)
        if replay is None:
            raise NotFound("replay", f"{consumer}/{generation}")
        if replay.is_through:
            return 0, replay
        return await store.advance(work, replay, PLACES_MAX)

    def wake(self) -> None:
        """Tell the dispatcher, after the commit, that there is something to handle."""
        self._bus.moved()


async def _known(work: UnitOfWork, consumer: str) -> bool:
    replayable = await store.consumer_is_replayable(work, consumer)
    if replayable is None:
        raise NotFound("consumer", consumer)
    return replayable


async def _replayable(work: UnitOfWork, consumer: str) -> None:
    if not await _known(work, consumer):
        raise ConsumerNotReplayable(
            f"{consumer} may not be given a period again: what it did would be done twice. "
            "Its dead letters can be replayed",
            consumer=consumer,
        )
