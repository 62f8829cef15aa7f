"""Batch handlers: hundreds of events a call, with every promise that a single event has."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count, islice

import pytest
from payments.events.v1.pricing_events_pb2 import PlanCreated, PlanUpdated

from services.runtime.context import current
from services.runtime.database import UnitOfWork
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.events.lanes import lane_of
from tests.support.events.drain import write_effects
from tests.support.events.lab import QUICK, Lab, effects_reaction, inversions, lab_alone, new_tenant
from tests.support.postgres.server import Server

DRAIN_SECONDS = 20
LANE = 7


@pytest.fixture
async def lab(postgres_server: Server) -> AsyncIterator[Lab]:
    """A lab of each test's own: a new consumer gets every event that there is."""
    async with lab_alone(postgres_server) as lab:
        yield lab


def keys_of_one_lane(tenant: str, number: int) -> list[str]:
    """Keys that all travel in lane 7: what is published for them makes one batch."""
    named = (f"k{n}" for n in count())
    return list(islice((key for key in named if lane_of(tenant, key) == LANE), number))


class Calls:
    """A consumer that writes effects in batches and remembers what it was called with."""

    def __init__(self, consumer: str, fails: Callable[[Envelope], bool] = lambda _: False) -> None:
        self.consumer = consumer
        self.batches: list[list[Envelope]] = []
        self._fails = fails

    async def handle(self, work: UnitOfWork, envelopes: Sequence[Envelope]) -> None:
        """Write the effects, then fail if one of the events is bad."""
        self.batches.append(list(envelopes))
        await write_effects(work, envelopes, self.consumer)
        if any(map(self._fails, envelopes)):
            raise RuntimeError("spoilt")

    def reaction(self, **fields: object) -> Reaction:
        """Return it as a reaction without a handler for single events."""
        fields = {"retry": QUICK, "batch_handler": self.handle, **fields}
        return Reaction(self.consumer, ("plan.created",), **fields)  # type: ignore[arg-type]

    @property
    def sizes(self) -> list[int]:
        """How many events each call was given."""
        return [len(batch) for batch in self.batches]


async def run(lab: Lab, *reactions: Reaction, **options: object) -> None:
    """Handle all that there is."""
    async with asyncio.timeout(DRAIN_SECONDS), lab.reacting(*reactions, **options) as backbone:
        await backbone.drain()


def version(envelope: Envelope) -> int:
    assert isinstance(envelope.payload, PlanCreated)
    return envelope.payload.plan_version


async def test_a_batch_holds_one_tenant_s_events_in_their_order(lab: Lab) -> None:
    tenants = new_tenant(), new_tenant()
    seen: list[tuple[object, ...]] = []
    calls = Calls("lab.batch")

    async def handle(work: UnitOfWork, envelopes: Sequence[Envelope]) -> None:
        await calls.handle(work, envelopes)
        found = await work.execute(
            "SELECT current_user::text LIKE '%%_service', mesh.current_tenant(), "
            "(SELECT array_agg(DISTINCT tenant_id) FROM probe.effect)"
        )
        seen.append((*found.one(), work.tenant_id, current().tenant_id))

    for number in range(10):
        for tenant in tenants:
            for key in keys_of_one_lane(tenant, 3):
                await lab.publish(tenant, key, number)
    await run(lab, calls.reaction(batch_handler=handle))
    assert calls.sizes == [30, 30]
    for tenant, batch, (is_service, named, visible, own, context) in zip(
        tenants, calls.batches, seen, strict=True
    ):
        assert {envelope.tenant_id for envelope in batch} == {tenant}
        assert [e.position for e in batch] == sorted(e.position for e in batch)
        assert (is_service, named, visible, own, context) == (
            True,
            tenant,
            [tenant],
            tenant,
            tenant,
        )
        effects = await lab.effects(tenant, "lab.batch")
        assert len(effects) == 30
        assert inversions(effects) == []
    assert await lab.rows("SELECT 1 FROM mesh.delivery") == []
    entered = await lab.rows("SELECT i.* FROM mesh.inbox i JOIN mesh.event e USING (recorded_at)")
    assert len({row["event_id"] for row in entered}) == 60


async def test_batches_are_as_large_as_asked_for(lab: Lab) -> None:
    tenant = new_tenant()
    calls = Calls("lab.sized")
    (key,) = keys_of_one_lane(tenant, 1)
    await lab.publish(tenant, key, *range(25))
    await run(lab, calls.reaction(batch_size=10))
    assert calls.sizes == [10, 10, 5]
    assert [e.version for e in await lab.effects(tenant, "lab.sized")] == list(range(25))


async def test_poison_in_a_batch_is_isolated_tried_four_times_and_holds_its_key(lab: Lab) -> None:
    tenant = new_tenant()
    bad, *good = keys_of_one_lane(tenant, 4)
    calls = Calls("lab.spoilt", lambda e: e.key == bad and version(e) == 2)
    for number in range(1, 6):
        for key in (*good[:1], bad, *good[1:]):
            await lab.publish(tenant, key, number)
    await run(lab, calls.reaction())
    effects = await lab.effects(tenant, "lab.spoilt")
    versions = {key: [e.version for e in effects if e.key == key] for key in (bad, *good)}
    assert versions == {bad: [1], **{key: [1, 2, 3, 4, 5] for key in good}}
    assert inversions(effects) == []
    tries = Counter(len(batch) for batch in calls.batches if any(map(calls._fails, batch)))
    # Once among the others, which does not count, and four times alone.
    assert tries == {20: 1, 1: 4}
    (letter,) = await lab.rows("SELECT * FROM mesh.dead_letter")
    assert (letter["key"], letter["attempts"]) == (bad, 4)
    assert letter["last_error"] == "RuntimeError: spoilt"


async def test_what_fails_for_one_tenant_is_done_once_for_the_other(lab: Lab) -> None:
    calls = Calls("lab.two", lambda e: e.tenant_id == unlucky)
    lucky, unlucky = new_tenant(), new_tenant()
    for tenant in (lucky, unlucky):
        await lab.publish(tenant, keys_of_one_lane(tenant, 1)[0], 1, 2, 3)
    await run(lab, calls.reaction())
    assert [e.version for e in await lab.effects(lucky, "lab.two")] == [1, 2, 3]
    assert await lab.effects(unlucky, "lab.two") == []
    assert calls.sizes == [3, 3, 1, 1, 1, 1]


async def test_a_key_recovers_in_order_after_its_batch_failed(lab: Lab) -> None:
    tenant = new_tenant()
    first, second = keys_of_one_lane(tenant, 2)
    tries = Counter[int]()

    def fails(envelope: Envelope) -> bool:
        if (envelope.key, version(envelope)) != (first, 2):
            return False
        tries[version(envelope)] += 1
        return tries[2] < 4

    calls = Calls("lab.mends", fails)
    for number in range(1, 5):
        await lab.publish(tenant, first, number)
        await lab.publish(tenant, second, number)
    await run(lab, calls.reaction())
    effects = await lab.effects(tenant, "lab.mends")
    assert [e.version for e in effects if e.key == first] == [1, 2, 3, 4]
    assert [e.version for e in effects if e.key == second] == [1, 2, 3, 4]
    assert await lab.rows("SELECT 1 FROM mesh.dead_letter") == []


async def test_what_was_handled_before_reaches_no_batch(lab: Lab) -> None:
    tenant = new_tenant()
    calls = Calls("lab.again")
    (key,) = keys_of_one_lane(tenant, 1)
    await lab.publish(tenant, key, 1, 2, 3)
    await run(lab, calls.reaction())
    # As if the deliveries had come back from a backup.
    await lab.rows("UPDATE mesh.lane_lease SET epoch = epoch + 1, owner = NULL")
    await lab.rows(
        "INSERT INTO mesh.delivery (consumer, lane, position, tenant_id, key, event_id, recorded_at) "
        "SELECT 'lab.again', lane, position, tenant_id, key, event_id, recorded_at FROM mesh.feed"
    )
    await lab.publish(tenant, key, 4, 5)
    await run(lab, calls.reaction())
    assert [[version(e) for e in batch] for batch in calls.batches] == [[1, 2, 3], [4, 5]]
    assert [e.version for e in await lab.effects(tenant, "lab.again")] == [1, 2, 3, 4, 5]
    assert await lab.rows("SELECT 1 FROM mesh.delivery") == []


async def test_a_batch_whose_commit_is_refused_is_handled_singly(lab: Lab) -> None:
    tenant = new_tenant()
    bad, good = keys_of_one_lane(tenant, 2)
    await lab.rows(
        "CREATE TABLE probe.strict (tenant_id text, key text, "
        "UNIQUE (tenant_id, key) DEFERRABLE INITIALLY DEFERRED)"
    )
    await lab.rows("GRANT INSERT ON probe.strict TO PUBLIC")
    await lab.rows("INSERT INTO probe.strict VALUES (%s, 'same')", tenant)
    calls = Calls("lab.commit")

    async def handle(work: UnitOfWork, envelopes: Sequence[Envelope]) -> None:
        await calls.handle(work, envelopes)
        for envelope in envelopes:
            key = "same" if envelope.key == bad else envelope.event_id
            await work.execute(
                "INSERT INTO probe.strict VALUES (%(t)s, %(k)s)", {"t": tenant, "k": key}
            )

    await lab.publish(tenant, bad, 1)
    await lab.publish(tenant, good, 1, 2, 3)
    await run(lab, calls.reaction(batch_handler=handle))
    assert [e.key for e in await lab.effects(tenant, "lab.commit")] == [good] * 3
    (letter,) = await lab.rows("SELECT * FROM mesh.dead_letter")
    assert (letter["key"], letter["attempts"]) == (bad, 4)


async def test_a_batch_that_takes_too_long_is_handled_singly(lab: Lab) -> None:
    tenant = new_tenant()
    calls = Calls("lab.slow")

    async def handle(work: UnitOfWork, envelopes: Sequence[Envelope]) -> None:
        await calls.handle(work, envelopes)
        if len(envelopes) > 1:
            await asyncio.sleep(60)

    await lab.publish(tenant, keys_of_one_lane(tenant, 1)[0], *range(5))
    await run(lab, calls.reaction(batch_handler=handle), lease_ms=1000)
    assert [e.version for e in await lab.effects(tenant, "lab.slow")] == list(range(5))
    assert calls.sizes == [5, 1, 1, 1, 1, 1]
    assert await lab.rows("SELECT 1 FROM mesh.dead_letter") == []


async def test_follow_ups_of_a_batch_commit_with_it_and_keep_the_chain_of_their_cause(
    lab: Lab,
) -> None:
    tenant = new_tenant()
    (key,) = keys_of_one_lane(tenant, 1)
    causes: list[Envelope] = []

    async def follow(work: UnitOfWork, envelopes: Sequence[Envelope]) -> None:
        causes.extend(envelopes)
        for envelope in envelopes:
            work.publish(PlanUpdated(plan_id=key, plan_version=version(envelope)), cause=envelope)
        work.publish(PlanUpdated(plan_id=key, plan_version=len(envelopes)))

    for number in range(3):
        await lab.publish(tenant, key, number)
    await run(lab, Reaction("lab.follow", ("plan.created",), batch_handler=follow))
    log = await lab.rows(
        "SELECT correlation_id, causation_id FROM mesh.event WHERE subject = 'plan.updated' ORDER BY seq"
    )
    expected = [(cause.correlation_id, cause.event_id) for cause in causes]
    assert len({chain for chain, _ in expected}) == 3
    assert [(row["correlation_id"], row["causation_id"]) for row in log] == [
        *expected,
        expected[-1],
    ]


async def test_payloads_from_outside_are_left_out_of_a_batch(lab: Lab) -> None:
    tenant = new_tenant()
    (key,) = keys_of_one_lane(tenant, 1)
    calls, everything = Calls("lab.ours"), Calls("lab.all")

    async def take(work: UnitOfWork, envelopes: Sequence[Envelope]) -> None:
        everything.batches.append(list(envelopes))

    await lab.publish(tenant, key, 1)
    await lab.rows(
        "INSERT INTO mesh.event (tenant_id, event_id, subject, schema_version, key, message_name, payload, "
        "correlation_id, causation_id, traceparent, created_at) "
        "VALUES (%s, 'x', 'plan.created', 1, %s, '', '{\"a\":1}', '', '', '', now())",
        tenant,
        key,
    )
    await lab.publish(tenant, key, 2)
    await run(lab, calls.reaction(), everything.reaction(batch_handler=take, takes_json=True))
    assert [[version(e) for e in batch] for batch in calls.batches] == [[1, 2]]
    assert [[e.json for e in batch] for batch in everything.batches] == [[b"", b'{"a":1}', b""]]
    assert await lab.rows("SELECT 1 FROM mesh.delivery") == []


async def test_a_handler_of_single_events_is_used_where_a_batch_failed(lab: Lab) -> None:
    tenant = new_tenant()
    single = effects_reaction(consumer="lab.both")
    calls = Calls("lab.both", lambda _: True)
    await lab.publish(tenant, keys_of_one_lane(tenant, 1)[0], 1, 2)
    await run(lab, calls.reaction(handler=single.handler))
    assert calls.sizes == [2]
    assert [e.version for e in await lab.effects(tenant, "lab.both")] == [1, 2]


def test_a_reaction_needs_a_handler_and_bounded_batches() -> None:
    with pytest.raises(ValueError, match="has no handler"):
        Reaction("lab.none", ("plan.created",))
    with pytest.raises(ValueError, match="say 1 to 1000"):
        Calls("lab.huge").reaction(batch_size=1001)
