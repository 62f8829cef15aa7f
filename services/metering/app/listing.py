"""Listing stored events, one by one, as of an ordinal."""

from __future__ import annotations

from services.metering.app import ordinals
from services.metering.domain.listing import EventsAsked, Listed, ListPlace
from services.metering.store import listing as store
from services.runtime.database import Database


class Listing:
    """Stored events of the tenant that the running call acts for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ordinal(self, at_ordinal: int | None) -> int:
        """Return the ordinal that a list is of.

        Raises:
            UsageOrdinalAhead: nothing has the ordinal that is asked for.
        """
        return await ordinals.reached(self._database, at_ordinal)

    async def page(self, asked: EventsAsked, ordinal: int, after: ListPlace, limit: int) -> Listed:
        """List events behind a place: a page may end early, and goes on from its end."""
        read = store.list_corrected if after.corrected else store.list_plain
        async with self._database.read() as work:
            return await read(work, asked, ordinal, after, limit)
