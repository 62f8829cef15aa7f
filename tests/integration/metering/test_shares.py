"""What one tenant brings by the dozen slows down itself: another waits for what is under way, not for the rest."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from typing import Any

import psycopg
import pytest
from payments.metering.v1.metering_service_pb2_grpc import MeteringServiceStub

from services.metering.app.metering import BATCHES_MAX
from services.metering.app.sharing import EVENTS_MAX
from services.runtime import database as runtime_database
from services.runtime.fair_turns import FairTurns
from tests.support.billing.metering import batch, event
from tests.support.mesh.serving import Mesh
from tests.support.postgres.server import DatabaseUrls

FLOOD = 40
PLACES = 2
ANSWERED_MAX = 2 * BATCHES_MAX
"""Of the flood, by when the other's batch is: those that were at work, and as many once more for its transactions."""


def too_many_to_share(name: str) -> Any:
    return batch(*(event(f"{name}-{number}", quantity="1") for number in range(EVENTS_MAX + 1)))


async def test_a_batch_behind_a_flood_is_stored_before_nearly_all_of_it(
    mesh: Mesh, tenant: str, stub: Any, monkeypatch: pytest.MonkeyPatch, database: DatabaseUrls
) -> None:
    """Counted, not timed: how many of the flood have been answered by then."""
    other = f"t-{uuid.uuid4().hex[:12]}"
    small = MeteringServiceStub(mesh.channel(other))
    # Both are connected, and what is remembered of a tenant is.
    for each in (stub, small):
        await each.IngestEvents(too_many_to_share("first"))
    came = Counter[str]()
    arrived = asyncio.Condition()
    take = FairTurns.take

    async def counted(turns: FairTurns, key: str) -> None:
        came[key] += 1
        async with arrived:
            arrived.notify_all()
        await take(turns, key)

    monkeypatch.setattr(FairTurns, "take", counted)
    monkeypatch.setattr(runtime_database, "POOL_WAIT_SECONDS", 120.0)
    turns = FairTurns(PLACES)
    monkeypatch.setattr(mesh.node.database, "_turns", turns)

    async def until(key: str, count: int) -> None:
        async with asyncio.timeout(90), arrived:
            await arrived.wait_for(lambda: came[key] >= count)

    answered = 0

    async def send(name: str) -> None:
        nonlocal answered
        await stub.IngestEvents(too_many_to_share(name))
        answered += 1

    for _ in range(PLACES):
        assert turns.take_free("somebody")
    flood = asyncio.gather(*(send(f"flood-{number}") for number in range(FLOOD)))
    # All of them for their turn, and those that have it for a session.
    await until(tenant, FLOOD + BATCHES_MAX)
    asked = asyncio.ensure_future(small.IngestEvents(too_many_to_share("small")))
    await until(other, 1)
    for _ in range(PLACES):
        turns.give_back("somebody")
    assert (await asked).accepted == EVENTS_MAX + 1
    assert answered <= ANSWERED_MAX
    await flood
    with psycopg.connect(database.owner_admin) as connection:
        rows = connection.execute(
            "SELECT tenant_id, count(*) FROM metering.receipt WHERE tenant_id = ANY (%s) GROUP BY 1",
            [[tenant, other]],
        ).fetchall()
    assert dict(rows) == {tenant: FLOOD + 1, other: 2}
