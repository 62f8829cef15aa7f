"""Listing stored events, one by one, as of an ordinal."""

from __future__ import annotations

from datetime import datetime

from services.metering.app import ordinals
from services.metering.domain.listing import (
    EventsAsked,
    Listed,
    ListedOrgs,
    ListPlace,
    OrgPlace,
)
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

    async def orgs(
        self, start_at: datetime, end_at: datetime, after: OrgPlace, limit: int
    ) -> ListedOrgs:
        """List the organisations with an event in a period: a page may end early, and goes on from its end."""
        async with self._database.read() as work:
            return await store.list_orgs(work, start_at, end_at, after, limit)
