"""Seeing what consumers did not handle, and having it handled again."""

from __future__ import annotations

from services.events.app import types
from services.events.domain.operations import (
    Consumer,
    ConsumerNotReplayable,
    DeadLetter,
    Replay,
    ReplayedLetters,
    ReplayedPeriod,
    ReplayLetters,
    ReplayPeriod,
)
from services.events.store import operations as store
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound
from services.runtime.events.bus import EventBus
from services.runtime.outbox.subjects import Pattern

# Each locks lanes that dispatchers work on until it commits, so one call takes no more.
LETTERS_MAX = 1_000
PLACES_MAX = 10_000


class Operations:
    """What an operator does about consumers."""

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
        self, command: ReplayLetters, work: UnitOfWork
    ) -> ReplayedLetters:
        """Replay dead letters.

        Raises:
            NotFound: there is no such consumer, or none of the events that were named is a dead letter of it.
        """
        consumer, key, event_ids = command.consumer, command.key, command.event_ids
        await _known(work, consumer)
        count, more = await store.replay_dead_letters(work, consumer, key, event_ids, LETTERS_MAX)
        if event_ids and not count:
            raise NotFound("dead letter", event_ids[0])
        work.audit(
            "dead_letters",
            consumer,
            None,
            {"replayed": count, "key": key, "event_ids": list(event_ids)},
        )
        work.after_commit(self._bus.moved)
        return ReplayedLetters(count, more)

    async def replay_period(self, command: ReplayPeriod, work: UnitOfWork) -> ReplayedPeriod:
        """Begin a replay with its first places, or go on with one.

        Raises:
            NotFound: there is no such consumer or replay.
            TypeUnknown: there is no type of a subject.
            ConsumerNotReplayable: it may not be given events again.
        """
        if not await _known(work, command.consumer):
            raise ConsumerNotReplayable(
                f"a period cannot be replayed to {command.consumer}: its effects would happen twice. "
                "Its dead letters can be replayed",
                consumer=command.consumer,
            )
        replay = await (
            _begun(command, work) if command.generation is None else _held(command, work)
        )
        count = 0
        if not replay.is_through:
            count, replay = await store.advance(work, replay, PLACES_MAX)
        work.after_commit(self._bus.moved)
        return ReplayedPeriod(command, count, replay)


async def _begun(command: ReplayPeriod, work: UnitOfWork) -> Replay:
    period = command.period
    await types.check_subjects(work, [Pattern.parse(subject) for subject in period.subjects])
    replay = await store.begin_replay(
        work, command.consumer, period.start_at, period.end_at, period.subjects
    )
    work.audit(
        "replay",
        f"{command.consumer}/{replay.generation}",
        None,
        {
            "start_at": replay.start_at.isoformat(),
            "end_at": replay.end_at.isoformat(),
            "subjects": list(replay.subjects),
        },
    )
    return replay


async def _held(command: ReplayPeriod, work: UnitOfWork) -> Replay:
    assert command.generation is not None
    replay = await store.hold_replay(work, command.consumer, command.generation)
    if replay is None:
        raise NotFound("replay", f"{command.consumer}/{command.generation}")
    return replay


async def _known(work: UnitOfWork, consumer: str) -> bool:
    replayable = await store.consumer_is_replayable(work, consumer)
    if replayable is None:
        raise NotFound("consumer", consumer)
    return replayable
