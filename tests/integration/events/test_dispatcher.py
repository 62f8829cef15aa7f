"""Deliveries: once in effect, in the order of the key, and a failing event blocks its own key only."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import psycopg
import pytest
from payments.events.v1.pricing_events_pb2 import PlanCreated, PlanUpdated

from services.runtime.clock import ManualClock
from services.runtime.context import acting, current
from services.runtime.database import UnitOfWork
from services.runtime.events import relay
from services.runtime.events.backbone import EventBackbone
from services.runtime.events.envelope import Envelope, Reaction, RetryPolicy
from services.runtime.events.lanes import lane_of
from services.runtime.events.owners import new_owner, take_back
from services.runtime.events.relay import Relay
from tests.support.events.lab import (
    QUICK,
    Lab,
    call,
    effects_reaction,
    inversions,
    lab_alone,
    new_tenant,
    write_effect,
)
from tests.support.postgres.server import Server

DRAIN_SECONDS = 60


@pytest.fixture
async def lab(postgres_server: Server) -> AsyncIterator[Lab]:
    """A lab of each test's own: a new consumer gets every event that there is."""
    async with lab_alone(postgres_server) as lab:
        yield lab


async def drained(backbone: EventBackbone) -> None:
    """Wait until all is handled, but not for ever."""
    async with asyncio.timeout(DRAIN_SECONDS):
        await backbone.drain()


async def evict(lab: Lab, consumer: str) -> None:
    """What comes before deliveries that no tick makes: the lanes' owners remember what they have read past."""
    await lab.rows(
        "UPDATE mesh.lane_lease SET epoch = epoch + 1, owner = NULL, until_at = clock_timestamp() "
        "WHERE consumer = %s",
        consumer,
    )


def reaction(handle: Callable[[UnitOfWork, Envelope], Awaitable[None]], consumer: str) -> Reaction:
    return Reaction(consumer, ("plan.created",), handle, retry=QUICK)


def pid_of_the_past() -> int:
    """Number of a process that has ended."""
    with subprocess.Popen(["/bin/sh", "-c", "exit 0"]) as child:
        child.wait(30)
    return child.pid


def version(envelope: Envelope) -> int:
    assert isinstance(envelope.payload, PlanCreated)
    return envelope.payload.plan_version


# ---- what a handler sees


async def test_a_handler_acts_for_its_event_s_tenant_as_the_services_role(lab: Lab) -> None:
    tenant, other = new_tenant(), new_tenant()
    seen: dict[str, tuple[object, ...]] = {}
    calls = {}

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        await write_effect(work, envelope, "lab.acts")
        result = await work.execute(
            "SELECT current_user::text, mesh.current_tenant(), "
            "(SELECT array_agg(DISTINCT tenant_id) FROM probe.effect)"
        )
        seen[work.tenant_id] = tuple(result.one())
        calls[work.tenant_id] = (current(), envelope)

    async with lab.reacting(reaction(handle, "lab.acts")) as backbone:
        (first,) = await lab.publish(tenant, "k", 1)
        await lab.publish(other, "k", 1)
        await drained(backbone)
    for who in (tenant, other):
        role, named, visible = seen[who]
        assert str(role).endswith("_service")
        assert (named, visible) == (who, [who])
    context, envelope = calls[tenant]
    assert context.principal_id == "mesh:lab.acts"
    assert context.tenant_id == tenant
    assert context.causation_id == envelope.event_id == first
    assert context.correlation_id == envelope.correlation_id
    assert (envelope.subject, envelope.key, envelope.generation) == ("plan.created", "k", 0)
    assert envelope.payload == PlanCreated(plan_id="k", plan_version=1)


async def test_a_handler_cannot_write_for_another_tenant_nor_reach_the_queue(lab: Lab) -> None:
    errors: list[str] = []

    async def attempt(work: UnitOfWork, statement: str) -> None:
        try:
            async with work.savepoint():
                await work.execute(statement)
        except Exception as error:
            errors.append(type(error).__name__)

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        await attempt(
            work,
            "INSERT INTO probe.effect (tenant_id, consumer, event_id, key, version) VALUES ('x','','','',1)",
        )
        await attempt(work, "DELETE FROM mesh.inbox")
        await attempt(work, "UPDATE mesh.delivery SET attempts = 0")
        await write_effect(work, envelope, "lab.walls")

    tenant = new_tenant()
    async with lab.reacting(reaction(handle, "lab.walls")) as backbone:
        await lab.publish(tenant, "k", 1)
        await drained(backbone)
    assert errors == ["InsufficientPrivilege"] * 3
    assert len(await lab.effects(tenant, "lab.walls")) == 1


async def test_follow_ups_commit_with_the_effect_and_keep_the_chain(lab: Lab) -> None:
    tenant = new_tenant()

    async def follow(work: UnitOfWork, envelope: Envelope) -> None:
        work.publish(PlanUpdated(plan_id=envelope.key, plan_version=2))

    ends: list[Envelope] = []

    async def end(work: UnitOfWork, envelope: Envelope) -> None:
        if envelope.tenant_id == tenant:
            ends.append(envelope)

    async with lab.reacting(
        reaction(follow, "lab.follow"), Reaction("lab.end", ("plan.updated",), end)
    ) as backbone:
        (first,) = await lab.publish(tenant, "k", 1)
        await drained(backbone)
    (envelope,) = ends
    log = await lab.rows("SELECT * FROM mesh.event WHERE event_id = %s", first)
    assert envelope.causation_id == first
    assert envelope.correlation_id == log[0]["correlation_id"]


@pytest.mark.parametrize("together", [False, True])
async def test_a_timer_that_a_reaction_sets_rings_the_pump_at_once(
    lab: Lab, together: bool
) -> None:
    async def later(work: UnitOfWork, *_: object) -> None:
        due_at = work.now + timedelta(days=1)
        await work.schedule(PlanUpdated(plan_id="k", plan_version=2), due_at, key="later")

    subjects = ("plan.created",)
    singly = Reaction("lab.later", subjects, later)
    at_once = Reaction("lab.later", subjects, batch_handler=later)
    async with lab.reacting(at_once if together else singly) as backbone:
        assert not await lab.bus.due(0.01)
        await lab.publish(new_tenant(), "k", 1)
        await drained(backbone)
        assert await lab.bus.due(0.01)


async def test_business_time_is_injected(lab: Lab) -> None:
    clock = ManualClock(datetime(2031, 5, 1, tzinfo=UTC))
    times = []

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        times.append(work.now)

    backbone = EventBackbone(
        lab.urls.relay, [reaction(handle, "lab.clock")], bus=lab.bus, clock=clock
    )
    await backbone.start()
    await lab.publish(new_tenant(), "k", 1)
    await drained(backbone)
    await backbone.stop()
    assert set(times) == {clock.now()}


# ---- once in effect


async def test_an_event_that_is_delivered_again_has_one_effect(lab: Lab) -> None:
    tenant = new_tenant()
    calls: Counter[str] = Counter()

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        calls[envelope.event_id] += 1
        await write_effect(work, envelope, "lab.again")

    async with lab.reacting(reaction(handle, "lab.again")) as backbone:
        (event_id,) = await lab.publish(tenant, "k", 1)
        await drained(backbone)
        # As if the delivery had come back from a backup, or two ticks had made it.
        await evict(lab, "lab.again")
        await lab.rows(
            "INSERT INTO mesh.delivery (consumer, lane, position, tenant_id, key, event_id, recorded_at) "
            "SELECT 'lab.again', lane, position, tenant_id, key, event_id, recorded_at FROM mesh.feed "
            "WHERE tenant_id = %s",
            tenant,
        )
        await drained(backbone)
    assert calls[event_id] == 1
    assert len(await lab.effects(tenant, "lab.again")) == 1
    assert (
        await lab.rows(
            "SELECT 1 FROM mesh.delivery WHERE tenant_id = %s AND consumer = 'lab.again'", tenant
        )
        == []
    )


async def test_many_keys_many_workers_every_event_once_and_in_order(lab: Lab) -> None:
    tenants = [new_tenant() for _ in range(3)]
    async with lab.reacting(
        effects_reaction(consumer="lab.a"),
        effects_reaction(("plan.*",), consumer="lab.b"),
        workers=6,
    ) as backbone:

        async def produce(tenant: str, key: str) -> None:
            for version in range(0, 40, 2):
                await lab.publish(tenant, key, version, version + 1)

        await asyncio.gather(*(produce(t, f"k{n}") for t in tenants for n in range(5)))
        await drained(backbone)
    for tenant in tenants:
        for consumer in ("lab.a", "lab.b"):
            effects = await lab.effects(tenant, consumer)
            assert len(effects) == 200
            assert len({effect.event_id for effect in effects}) == 200
            assert inversions(effects) == []


async def test_what_was_published_before_a_consumer_existed_reaches_it(lab: Lab) -> None:
    tenant = new_tenant()
    async with lab.reacting() as backbone:
        await lab.publish(tenant, "k", 1, 2)
        await drained(backbone)
    async with lab.reacting(effects_reaction(consumer="lab.late")) as backbone:
        await lab.publish(tenant, "k", 3)
        await drained(backbone)
    assert [effect.version for effect in await lab.effects(tenant, "lab.late")] == [1, 2, 3]


async def test_a_consumer_that_asks_for_more_gets_the_old_ones_once(lab: Lab) -> None:
    tenant = new_tenant()
    calls: Counter[str] = Counter()

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        calls[envelope.event_id] += 1

    async def run(*subjects: str) -> None:
        async with lab.reacting(Reaction("lab.more", subjects, handle, retry=QUICK)) as backbone:
            await drained(backbone)

    ids = await lab.publish(tenant, "k", 1)
    await run("plan.created")
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.publish") as work:
            ids.append(work.publish(PlanUpdated(plan_id="k", plan_version=2)))
    await run("plan.created")
    assert [calls[event_id] for event_id in ids] == [1, 0]
    await run("plan.created", "plan.*")
    assert [calls[event_id] for event_id in ids] == [1, 1]


# ---- failures


def failing(
    lab: Lab, consumer: str, fails: Callable[[Envelope, int], bool]
) -> tuple[Reaction, Counter[str]]:
    """A reaction that writes its effect and then fails when `fails(envelope, try)` says so."""
    tries: Counter[str] = Counter()

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        tries[envelope.event_id] += 1
        await write_effect(work, envelope, consumer)
        if fails(envelope, tries[envelope.event_id]):
            raise RuntimeError("no luck\0 today")

    return reaction(handle, consumer), tries


async def test_a_failing_event_is_tried_four_times_then_buried_and_its_key_waits(lab: Lab) -> None:
    tenant = new_tenant()
    react, tries = failing(lab, "lab.poison", lambda e, _: e.key == "bad" and version(e) == 2)
    async with lab.reacting(react) as backbone:
        bad = await lab.publish(tenant, "bad", 1, 2, 3)
        good = await lab.publish(tenant, "good", *range(20))
        await drained(backbone)
    assert [tries[event_id] for event_id in bad] == [1, 4, 0]
    assert all(tries[event_id] == 1 for event_id in good)
    versions = defaultdict(list)
    for effect in await lab.effects(tenant, "lab.poison"):
        versions[effect.key].append(effect.version)
    assert versions == {"bad": [1], "good": list(range(20))}
    (letter,) = await lab.rows("SELECT * FROM mesh.dead_letter WHERE tenant_id = %s", tenant)
    assert (letter["event_id"], letter["attempts"]) == (bad[1], 4)
    assert letter["last_error"] == "RuntimeError: no luck today"


async def test_a_buried_event_is_replayed_in_front_of_what_waited_behind_it(lab: Lab) -> None:
    tenant = new_tenant()
    broken = True
    react, tries = failing(lab, "lab.mended", lambda e, _: broken and version(e) == 1)
    async with lab.reacting(react) as backbone:
        ids = await lab.publish(tenant, "k", 1, 2, 3)
        await drained(backbone)
        assert await lab.effects(tenant, "lab.mended") == []
        broken = False
        assert await lab.replay("lab.mended", tenant, "k") == 1
        await drained(backbone)
        assert await lab.replay("lab.mended", tenant, "k") == 0
    assert [effect.version for effect in await lab.effects(tenant, "lab.mended")] == [1, 2, 3]
    assert [tries[event_id] for event_id in ids] == [5, 1, 1]
    assert await lab.rows("SELECT 1 FROM mesh.parked_key WHERE tenant_id = %s", tenant) == []


async def test_a_consumer_may_let_later_events_pass_a_dead_letter(lab: Lab) -> None:
    tenant = new_tenant()
    react, tries = failing(lab, "lab.skips", lambda e, _: version(e) == 1)
    skipping = Reaction("lab.skips", ("plan.created",), react.handler, on_dead="skip", retry=QUICK)
    async with lab.reacting(skipping) as backbone:
        ids = await lab.publish(tenant, "k", 1, 2)
        await drained(backbone)
    assert [effect.version for effect in await lab.effects(tenant, "lab.skips")] == [2]
    assert [tries[event_id] for event_id in ids] == [4, 1]


async def test_an_event_that_recovers_keeps_the_order_of_its_key(lab: Lab) -> None:
    tenant = new_tenant()
    react, tries = failing(lab, "lab.recovers", lambda e, n: version(e) == 2 and n < 3)
    async with lab.reacting(react) as backbone:
        await lab.publish(tenant, "k", 1, 2)
        await lab.publish(tenant, "k", 3, 4)
        await drained(backbone)
    assert [effect.version for effect in await lab.effects(tenant, "lab.recovers")] == [1, 2, 3, 4]
    assert sorted(tries.values()) == [1, 1, 1, 3]


async def test_tries_wait_longer_each_time(lab: Lab) -> None:
    tenant = new_tenant()
    at: list[float] = []

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        at.append(asyncio.get_running_loop().time())
        raise RuntimeError

    policy = RetryPolicy(base_ms=200)
    async with lab.reacting(
        Reaction("lab.waits", ("plan.created",), handle, retry=policy)
    ) as backbone:
        await lab.publish(tenant, "k", 1)
        await drained(backbone)
    of_ours = at[-4:]
    waits = [later - earlier for earlier, later in pairwise(of_ours)]
    for wait, least_s in zip(waits, (0.16, 0.32, 0.64), strict=True):
        assert wait >= least_s


async def test_a_statement_that_fails_inside_a_handler_hurts_its_own_event_only(lab: Lab) -> None:
    tenant = new_tenant()

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        await write_effect(work, envelope, "lab.sql")
        if envelope.key == "bad":
            await work.execute("SELECT 1 / 0")

    async with lab.reacting(reaction(handle, "lab.sql")) as backbone:
        await lab.publish(tenant, "bad", 1)
        for number in range(10):
            await lab.publish(tenant, f"good{number}", 1)
        await drained(backbone)
    assert len(await lab.effects(tenant, "lab.sql")) == 10
    (letter,) = await lab.rows("SELECT * FROM mesh.dead_letter WHERE tenant_id = %s", tenant)
    assert "DivisionByZero" in letter["last_error"]


async def test_an_event_whose_commit_is_refused_is_counted_and_buried(lab: Lab) -> None:
    # What only the commit finds out cannot be undone to a savepoint.
    tenant = new_tenant()
    await lab.rows(
        "CREATE TABLE IF NOT EXISTS probe.strict (tenant_id text, key text, "
        "UNIQUE (tenant_id, key) DEFERRABLE INITIALLY DEFERRED)"
    )
    await lab.rows("GRANT INSERT ON probe.strict TO PUBLIC")

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        await write_effect(work, envelope, "lab.commit")
        await work.execute(
            "INSERT INTO probe.strict VALUES (%(t)s, %(k)s)",
            {"t": envelope.tenant_id, "k": "same" if envelope.key == "bad" else envelope.event_id},
        )

    async with lab.reacting(reaction(handle, "lab.commit")) as backbone:
        await lab.rows("INSERT INTO probe.strict VALUES (%s, 'same')", tenant)
        await lab.publish(tenant, "bad", 1)
        await lab.publish(tenant, "good", 1, 2, 3)
        await drained(backbone)
    assert [e.key for e in await lab.effects(tenant, "lab.commit")] == ["good"] * 3
    (letter,) = await lab.rows("SELECT * FROM mesh.dead_letter WHERE tenant_id = %s", tenant)
    assert (letter["key"], letter["attempts"]) == ("bad", 4)


async def test_a_handler_that_takes_too_long_is_given_up(lab: Lab) -> None:
    tenant = new_tenant()
    calls = 0

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        nonlocal calls
        if envelope.tenant_id == tenant:
            calls += 1
            await write_effect(work, envelope, "lab.slow")
            await asyncio.sleep(60)

    async with lab.reacting(reaction(handle, "lab.slow"), lease_ms=3000) as backbone:
        await lab.publish(tenant, "k", 1)
        await drained(backbone)
    assert await lab.effects(tenant, "lab.slow") == []
    (letter,) = await lab.rows("SELECT * FROM mesh.dead_letter WHERE tenant_id = %s", tenant)
    assert letter["attempts"] == 4
    assert calls == 4


async def test_slow_handlers_share_no_transaction_that_would_take_too_long(lab: Lab) -> None:
    tenant = new_tenant()

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        await asyncio.sleep(0.1)
        await write_effect(work, envelope, "lab.long")

    # Together they take five times as long as a transaction may.
    async with lab.reacting(reaction(handle, "lab.long"), lease_ms=1000) as backbone:
        await lab.publish(tenant, "k", *range(30))
        await drained(backbone)
    assert [effect.version for effect in await lab.effects(tenant, "lab.long")] == list(range(30))
    assert await lab.rows("SELECT 1 FROM mesh.dead_letter") == []


async def test_a_payload_of_no_known_message_is_buried_and_says_so(lab: Lab) -> None:
    tenant = new_tenant()
    async with lab.reacting(effects_reaction(consumer="lab.unknown")) as backbone:
        async with await psycopg.AsyncConnection.connect(lab.urls.service) as connection:
            await connection.execute("SELECT set_config('mesh.tenant', %s, true)", (tenant,))
            await connection.execute(
                "INSERT INTO mesh.event (tenant_id, event_id, subject, schema_version, key, message_name,"
                " payload, correlation_id, causation_id, traceparent, created_at)"
                " VALUES (%s, 'x', 'plan.created', 9, 'k', 'payments.events.v1.Future', '', '', '', '', now())",
                (tenant,),
            )
        await drained(backbone)
    (letter,) = await lab.rows("SELECT * FROM mesh.dead_letter WHERE tenant_id = %s", tenant)
    assert "payments.events.v1.Future is not part of this release" in letter["last_error"]


# ---- leases


async def test_a_zombie_commits_nothing_once_another_holds_the_lane(lab: Lab) -> None:
    tenant = new_tenant()
    started, go_on = asyncio.Event(), asyncio.Event()
    paused = True

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        nonlocal paused
        if envelope.tenant_id == tenant and paused:
            paused = False
            started.set()
            await go_on.wait()
        await write_effect(work, envelope, "lab.zombie")

    react = reaction(handle, "lab.zombie")
    place = {"consumer": "lab.zombie", "lane": lane_of(tenant, "k")}
    link = Relay(lab.urls.relay)
    async with lab.reacting(react) as zombie, await link.control() as thief:
        await lab.publish(tenant, "k", 1)
        await asyncio.wait_for(started.wait(), 10)
        # The thief's new epoch waits for the transaction that checked the old one...
        theft = asyncio.create_task(
            thief.execute(
                "UPDATE mesh.lane_lease SET epoch = epoch + 1, owner = 'thief' "
                "WHERE consumer = %(consumer)s AND lane = %(lane)s",
                place,
            )
        )
        await asyncio.sleep(0.3)
        assert not theft.done()
        # ...while a renewal by the owner does not.
        (lease,) = await lab.rows(
            "SELECT epoch FROM mesh.lane_lease WHERE consumer = 'lab.zombie' AND lane = %s",
            place["lane"],
        )
        async with await link.control() as own:
            async with asyncio.timeout(1):
                assert await relay.changed(
                    own, "renew", **place, epoch=lease["epoch"], ttl_ms=1000
                ) in (0, 1)
        go_on.set()
        await theft
        # From here on the old epoch is fenced off.
        async with await link.control() as old:
            assert (
                await relay.row(old, "fence", **place, epoch=lease["epoch"], limit_ms="1000")
                is None
            )
            assert (
                await relay.changed(old, "renew", **place, epoch=lease["epoch"], ttl_ms=1000) == 0
            )
        await lab.rows(
            "UPDATE mesh.lane_lease SET owner = NULL, until_at = '-infinity' WHERE owner = 'thief'"
        )
        await drained(zombie)
    await link.close()
    assert len(await lab.effects(tenant, "lab.zombie")) == 1


async def test_a_lane_whose_owner_vanished_is_taken_over_when_its_lease_is_over(lab: Lab) -> None:
    tenant = new_tenant()
    link = Relay(lab.urls.relay)
    react = effects_reaction(consumer="lab.heir")
    async with lab.reacting(react) as backbone:
        await drained(backbone)
    (event_id,) = await lab.publish(tenant, "k", 1)
    async with lab.reacting() as backbone:
        await drained(backbone)
    async with await link.control() as session:
        claimed = await relay.row(
            session, "claim", consumers=["lab.heir"], owner="ghost", ttl_ms=1500, limit=1
        )
        assert claimed is not None
        async with lab.reacting(react) as backbone:
            await asyncio.sleep(0.5)
            assert await lab.effects(tenant, "lab.heir") == []
            await drained(backbone)
    await link.close()
    assert [effect.event_id for effect in await lab.effects(tenant, "lab.heir")] == [event_id]
    leases = await lab.rows(
        "SELECT owner FROM mesh.lane_lease WHERE consumer = 'lab.heir' AND owner IS NOT NULL"
    )
    assert leases == []


async def test_the_lane_of_a_process_that_was_killed_is_taken_back_by_the_next_start(
    lab: Lab,
) -> None:
    tenant = new_tenant()
    react = effects_reaction(consumer="lab.successor")
    async with lab.reacting(react) as backbone:
        await drained(backbone)
    (event_id,) = await lab.publish(tenant, "k", 1)
    async with lab.reacting() as backbone:
        await drained(backbone)
    living = new_owner()
    killed = f"{living.rsplit(':', 2)[0]}:{pid_of_the_past()}:id"
    link = Relay(lab.urls.relay)
    async with await link.control() as session:
        claim = {"consumers": ["lab.successor"], "ttl_ms": 3_600_000, "limit": 1}
        assert await relay.row(session, "claim", owner=killed, **claim) is not None
        assert await take_back(session) == 1
        # A living one's stays, however many start.
        assert await relay.row(session, "claim", owner=living, **claim) is not None
        assert await take_back(session) == 0
        await lab.rows("UPDATE mesh.lane_lease SET owner = %s WHERE owner = %s", killed, living)
        async with lab.reacting(react) as backbone:
            await drained(backbone)
    await link.close()
    assert [effect.event_id for effect in await lab.effects(tenant, "lab.successor")] == [event_id]


async def test_two_processes_share_the_lanes_of_one_consumer(lab: Lab) -> None:
    tenant = new_tenant()
    react = effects_reaction(consumer="lab.shared")
    async with lab.reacting(react) as first, lab.reacting(react) as second:
        for version in range(30):
            await asyncio.gather(*(lab.publish(tenant, f"k{n}", version) for n in range(8)))
        await drained(first)
        await drained(second)
    effects = await lab.effects(tenant, "lab.shared")
    assert len({effect.event_id for effect in effects}) == len(effects) == 240
    assert inversions(effects) == []


async def test_a_database_that_goes_away_is_waited_for(lab: Lab) -> None:
    tenant = new_tenant()
    async with lab.reacting(effects_reaction(consumer="lab.outage")) as backbone:
        await lab.publish(tenant, "k", 1)
        await drained(backbone)
        await lab.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'tollmesh-relay'"
        )
        await lab.publish(tenant, "k", 2)
        await drained(backbone)
    assert [effect.version for effect in await lab.effects(tenant, "lab.outage")] == [1, 2]
    assert await lab.rows("SELECT 1 FROM mesh.dead_letter WHERE tenant_id = %s", tenant) == []


async def test_stopping_gives_the_lanes_back_and_loses_nothing(lab: Lab) -> None:
    tenant = new_tenant()
    react = effects_reaction(consumer="lab.stops")
    async with lab.reacting(react):
        for number in range(200):
            await lab.publish(tenant, f"k{number % 20}", number)
    held = await lab.rows(
        "SELECT 1 FROM mesh.lane_lease WHERE consumer = 'lab.stops' AND owner IS NOT NULL"
    )
    assert held == []
    async with lab.reacting(react) as backbone:
        await drained(backbone)
    effects = await lab.effects(tenant, "lab.stops")
    assert len(effects) == 200
    assert inversions(effects) == []


def test_two_reactions_cannot_share_a_name(lab: Lab) -> None:
    same = effects_reaction()
    with pytest.raises(ValueError, match="share a consumer's name"):
        EventBackbone(lab.urls.relay, [same, same], bus=lab.bus, clock=lab.clock)
