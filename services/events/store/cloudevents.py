"""Attributes of CloudEvents that an event has no other place for: kept beside it, gone with it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from services.events.domain.outside import Sound
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.events", "queries.sql")


async def keep(work: UnitOfWork, events: Sequence[Sound]) -> None:
    """Keep what the events brought, in the transaction that publishes them."""
    brought = [event.incoming for event in events if event.incoming.kept]
    if not brought:
        return
    asked = {
        "tenant_id": work.tenant_id,
        "event_id": [event.event_id for event in brought],
        "attributes": [json.dumps(dict(event.kept)) for event in brought],
    }
    await work.execute(_SQL["keep_attributes"], asked)
    limit = 2 * len(brought)
    await work.execute(_SQL["forget_attributes"], {"tenant_id": work.tenant_id, "limit": limit})
