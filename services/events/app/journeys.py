"""Reading journeys: who runs them is their service."""

from __future__ import annotations

from services.runtime.database import Database
from services.runtime.errors import NotFound
from services.runtime.journeys import store
from services.runtime.journeys.machine import Journey, Status, Step

STEPS_MAX = 500


class Journeys:
    """A tenant's journeys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        journey_type: str,
        state: str,
        status: Status | None,
        after: tuple[str, str],
        limit: int,
    ) -> list[Journey]:
        """Return the first journeys behind a kind and id; empty filters leave none out."""
        async with self._database.read() as work:
            return await store.page(work, journey_type, state, status, after, limit)

    async def get(self, journey_type: str, journey_id: str) -> tuple[Journey, list[Step]]:
        """Return a journey and its last 500 steps, oldest first. Raises NotFound."""
        async with self._database.read() as work:
            found = await store.find(work, journey_type, journey_id)
            if found is None:
                raise NotFound("journey", f"{journey_type}/{journey_id}")
            return found, await store.steps(work, journey_type, journey_id, STEPS_MAX)
