"""Rare meetings: a replay in the middle of a back-fill, large events by the hundred, handlers that hide an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import psycopg
import pytest

from services.runtime.context import acting
from services.runtime.database import UnitOfWork
from services.runtime.events import relay, subscriptions
from services.runtime.events.envelope import Envelope, Reaction, RetryPolicy
from services.runtime.events.relay import Relay
from services.runtime.postgres.session import Session
from tests.support.events.lab import (
    QUICK,
    Lab,
    call,
    effects_reaction,
    lab_alone,
    new_tenant,
    write_effect,
)
from tests.support.postgres.server import Server

DRAIN_SECONDS = 15
REPLAY = (
    "SELECT replayed FROM mesh.replay_events(%(consumer)s, %(generation)s, '-infinity', 'infinity', '{}', '{}', 0, "
    "1000000, 1000)"
)


@pytest.fixture
async def lab(postgres_server: Server) -> AsyncIterator[Lab]:
    """A lab of each test's own."""
    async with lab_alone(postgres_server) as lab:
        yield lab


async def run(lab: Lab, *reactions: Reaction) -> None:
    """Handle all that there is."""
    async with asyncio.timeout(DRAIN_SECONDS), lab.reacting(*reactions) as backbone:
        await backbone.drain()


async def replay(lab: Lab, tenant: str, consumer: str, generation: int) -> int:
    """Bring all of a tenant's events to a consumer again; returns how many."""
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.replay") as work:
            found = await work.execute(REPLAY, {"consumer": consumer, "generation": generation})
            return int(found.scalar_one())


async def tenant_with_a_past(lab: Lab) -> str:
    """A tenant with three events in the feed, which another consumer has handled."""
    tenant = new_tenant()
    await run(lab, effects_reaction(consumer="lab.other"))
    await lab.publish(tenant, "k", 1, 2, 3)
    await run(lab, effects_reaction(consumer="lab.other"))
    return tenant


async def test_what_is_replayed_during_a_back_fill_is_not_filled_in_again(lab: Lab) -> None:
    tenant = await tenant_with_a_past(lab)
    reaction = effects_reaction(consumer="lab.late")
    link = Relay(lab.urls.relay)
    async with await link.control() as session:
        await subscriptions.subscribe(session, reaction)
        assert await replay(lab, tenant, "lab.late", 1) == 3
        while await subscriptions.fill_page(session):
            pass
    await link.close()
    await run(lab, reaction)
    assert [e.version for e in await lab.effects(tenant, "lab.late")] == [1, 2, 3]


async def waits_for_a_lock(lab: Lab, what: asyncio.Task[object]) -> None:
    """Wait until a statement of the lab's database waits for another's transaction."""
    async with asyncio.timeout(DRAIN_SECONDS):
        while not await lab.rows(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            assert not what.done(), "it did not wait"
            await asyncio.sleep(0.01)


async def replayed_while_it_subscribes(
    lab: Lab, work: UnitOfWork, session: Session, reaction: Reaction
) -> None:
    """Let a replay wait for the days of the log, after it began and before it takes a lane; subscribe meanwhile."""
    async with await psycopg.AsyncConnection.connect(lab.urls.owner_admin) as retiring:
        await retiring.execute("SELECT pg_advisory_xact_lock(hashtextextended('tollmesh.feed', 0))")
        asked = {"consumer": reaction.consumer, "generation": 1}
        replaying = asyncio.create_task(work.execute(REPLAY, asked))
        await waits_for_a_lock(lab, replaying)
        await subscriptions.subscribe(session, reaction)
        await retiring.rollback()
        await replaying


@pytest.mark.parametrize("first", ["the replay", "the back-fill", "the subscription, between"])
async def test_a_replay_and_a_back_fill_at_once_bring_each_event_once(lab: Lab, first: str) -> None:
    tenant = await tenant_with_a_past(lab)
    reaction = effects_reaction(consumer="lab.late")
    link = Relay(lab.urls.relay)
    async with await link.control() as session:
        if first != "the subscription, between":
            await subscriptions.subscribe(session, reaction)
        if first != "the back-fill":
            with acting(call(tenant)):
                async with lab.database.unit_of_work("lab.replay") as work:
                    if first == "the replay":
                        await work.execute(REPLAY, {"consumer": "lab.late", "generation": 1})
                    else:
                        await replayed_while_it_subscribes(lab, work, session, reaction)
                    late = asyncio.create_task(subscriptions.fill_page(session))
                    await waits_for_a_lock(lab, late)
            assert await late
        else:
            async with relay.transaction(session, 10_000):
                found = await relay.row(session, "hold_back_fill")
                assert found is not None
                await relay.rows(session, "take_turns", consumer=found["consumer"])
                await relay.changed(session, "fill_page", **found, limit=100)
                replayed = asyncio.create_task(replay(lab, tenant, "lab.late", 1))
                await waits_for_a_lock(lab, replayed)
            assert await replayed == 0
        while await subscriptions.fill_page(session):
            pass
    await link.close()
    await run(lab, reaction)
    assert [e.version for e in await lab.effects(tenant, "lab.late")] == [1, 2, 3]


async def test_large_events_are_read_by_their_weight_not_their_number(lab: Lab) -> None:
    tenant = new_tenant()
    number, size = 60, 1_000_000
    batches: list[int] = []

    async def handle(work: UnitOfWork, envelopes: Sequence[Envelope]) -> None:
        batches.append(sum(len(envelope.json) for envelope in envelopes))

    reaction = Reaction(
        "lab.large", ("plan.created",), batch_handler=handle, takes_json=True, batch_size=1000
    )
    await run(lab, reaction)
    await lab.rows(
        "INSERT INTO mesh.event (tenant_id, event_id, subject, schema_version, key, message_name, payload, "
        "correlation_id, causation_id, traceparent, created_at) "
        "SELECT %s, 'e' || n, 'plan.created', 1, 'k', '', convert_to(repeat('x', %s), 'UTF8'), '', '', '', now() "
        "FROM generate_series(1, %s) AS n",
        tenant,
        size,
        number,
    )
    began = asyncio.get_running_loop().time()
    await run(lab, reaction)
    assert sum(batches) == number * size
    assert max(batches) <= relay.FETCH_BYTES_MAX + size
    # Each batch but the last is full, and the next one follows at once.
    assert len(batches) == 4
    assert asyncio.get_running_loop().time() - began < DRAIN_SECONDS / 2


async def test_a_handler_that_hides_an_error_of_the_database_has_no_effect(lab: Lab) -> None:
    tenant = new_tenant()

    async def hide(work: UnitOfWork, envelope: Envelope) -> None:
        if envelope.key == "bad":
            await write_effect(work, envelope, "lab.hides")
            with pytest.raises(psycopg.Error) as caught:
                await work.execute("SELECT 1 / 0")
            assert isinstance(caught.value, psycopg.errors.DivisionByZero)
            return
        await write_effect(work, envelope, "lab.hides")

    for number in range(3):
        await lab.publish(tenant, "bad", number)
        await lab.publish(tenant, "good", number)
    await run(lab, Reaction("lab.hides", ("plan.created",), hide, retry=QUICK))
    effects = await lab.effects(tenant, "lab.hides")
    assert [(e.key, e.version) for e in effects] == [("good", 0), ("good", 1), ("good", 2)]
    (letter,) = await lab.rows("SELECT key, last_error FROM mesh.dead_letter")
    assert letter["key"] == "bad"
    assert "InFailedSqlTransaction" in letter["last_error"]
    assert len(await lab.rows("SELECT 1 FROM mesh.inbox WHERE consumer = 'lab.hides'")) == 3


async def test_nobody_looks_for_a_next_try_behind_a_parked_key(lab: Lab) -> None:
    tenant = new_tenant()
    fails = True

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        if fails:
            raise RuntimeError("not yet")
        await write_effect(work, envelope, "lab.parks")

    patient = RetryPolicy(tries_max=2, base_ms=20)
    reaction = Reaction("lab.parks", ("plan.created",), handle, retry=patient)
    async with lab.reacting(effects_reaction(consumer="lab.other")) as backbone:
        await lab.publish(tenant, "k", 1, 2)
        await backbone.drain()
    link = Relay(lab.urls.relay)
    async with await link.control() as session:
        await subscriptions.subscribe(session, reaction)
        while await subscriptions.fill_page(session):
            pass
        # As after a replay of the first: both have failed before.
        await lab.rows("UPDATE mesh.delivery SET attempts = 1, next_at = now() - interval '1 s'")
        await run(lab, reaction)
        (waits,) = await lab.rows("SELECT position, attempts, next_at FROM mesh.delivery")
        assert (waits["attempts"], waits["next_at"]) == (1, None)
        found = await relay.row(session, "has_work", consumers=["lab.parks"], covered=1_000)
        assert found is not None and not found["work"]
    await link.close()
    fails = False
    assert await lab.replay("lab.parks", tenant) == 1
    await run(lab, reaction)
    assert [e.version for e in await lab.effects(tenant, "lab.parks")] == [1, 2]
