"""Reading the feed: pages, and a tail that follows it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from services.events.app import types
from services.events.domain.feed import FeedEvent, StreamEnded
from services.events.store import feed as store
from services.runtime.context import acting, current
from services.runtime.database import Database
from services.runtime.errors import Overloaded
from services.runtime.events.bus import EventBus
from services.runtime.outbox.subjects import Pattern

TAIL_PAGE = 100
# What another process sequenced rings no bell here.
TAIL_POLL_SECONDS = 1.0
# Between two reads: the bell rings for every tenant's events.
TAIL_GAP_SECONDS = 0.01
# Of one page; a stream as a whole may last as long as its reader likes.
TAIL_PAGE_SECONDS = 10.0
TAILS_MAX = 64
# Of them one tenant may take a quarter: its readers never keep all others out.
TAILS_OF_TENANT_MAX = 16


@dataclass(frozen=True, slots=True)
class Start:
    """Where a tail starts: behind this place of the feed."""

    position: int


class EventReader:
    """Reads a tenant's events."""

    def __init__(self, database: Database, bus: EventBus) -> None:
        self._database = database
        self._bus = bus
        self._tails: Counter[str] = Counter()

    async def page(
        self, patterns: Sequence[Pattern], after: int, page_size: int
    ) -> list[FeedEvent]:
        """Return the first events behind a place of the feed; fewer when they are large.

        Raises:
            TypeUnknown: there is neither an event nor a type of a subject.
        """
        async with self._database.read() as work:
            events, _ = await store.page(work, patterns, after, page_size)
            if not events:
                await types.check_subjects(work, patterns)
            return events

    async def tail(
        self, patterns: Sequence[Pattern], after: int | None
    ) -> AsyncGenerator[Start | FeedEvent, None]:
        """Give where it starts, and then events as they are committed, one page in memory at a time.

        Without `after` it starts with what is committed from now on.

        Args:
            patterns: subjects to give; none for all.
            after: position to go on behind.

        Raises:
            TypeUnknown: there is no type of a subject.
            Overloaded: 64 streams are open in this process, or 16 of this tenant.
            StreamEnded: the process is stopping.
        """
        tenant_id = current().tenant_id
        _refuse_beyond(TAILS_MAX, self._tails.total(), "streams")
        _refuse_beyond(TAILS_OF_TENANT_MAX, self._tails[tenant_id], "streams of this tenant")
        self._tails[tenant_id] += 1
        try:
            with self._bus.listener() as bell:
                position = await self._begin(patterns, after)
                yield Start(position)
                while not bell.closed:
                    events, more = await self._next(patterns, position)
                    for event in events:
                        yield event
                        position = event.position
                    if not more:
                        await bell.wait(TAIL_POLL_SECONDS)
                        await asyncio.sleep(TAIL_GAP_SECONDS)
                raise StreamEnded("the server is stopping; call again with the last cursor")
        finally:
            self._tails -= Counter((tenant_id,))

    async def _begin(self, patterns: Sequence[Pattern], after: int | None) -> int:
        async with self._database.read() as work:
            await types.check_subjects(work, patterns)
            return await store.last_position(work) if after is None else after

    async def _next(self, patterns: Sequence[Pattern], after: int) -> tuple[list[FeedEvent], bool]:
        """Return a page, and whether more may be there at once."""
        deadline_at = time.monotonic() + TAIL_PAGE_SECONDS
        with acting(replace(current(), deadline_at=deadline_at)):
            async with self._database.read() as work:
                events, was_cut = await store.page(work, patterns, after, TAIL_PAGE)
        return events, was_cut or len(events) == TAIL_PAGE


def _refuse_beyond(limit: int, open_count: int, what: str) -> None:
    if open_count >= limit:
        raise Overloaded(
            f"{limit} {what} are open; close one, or read pages with ListEvents",
            retry_after_ms=1000,
            limit=limit,
        )
