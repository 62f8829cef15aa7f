"""Usage that is stored for a period behind its charge: listed, told of and reported once, whatever came first."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from payments.contracts.v1 import contracts_service_pb2, contracts_service_pb2_grpc
from payments.events.v1.billing_events_pb2 import ChargeReversed, RatingCompleted, UsageAggregated
from payments.events.v1.metering_events_pb2 import UsageLate
from payments.metering.v1 import (
    corrections_pb2,
    metering_pb2,
    metering_service_pb2,
    metering_service_pb2_grpc,
)
from payments.type.v1 import type_pb2
from payments.type.v1.type_pb2 import Period

from services.metering import manifest as metering
from services.metering.app import late as late_usage
from services.metering.domain.late import Closing
from services.metering.store import closings, events
from services.monitoring import manifest as monitoring
from services.runtime.clock import ManualClock
from services.runtime.context import acting
from services.runtime.database import UnitOfWork
from services.runtime.edge.status import RemoteError
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.service import Runtime, Service
from tests.support.billing.metering import NOW, batch, catalogue_of, event, usage_query
from tests.support.events.lab import call
from tests.support.jetstream.sites import eventually
from tests.support.mesh.serving import Mesh, Served, running
from tests.support.postgres.server import DatabaseUrls

if TYPE_CHECKING:
    from payments.metering.v1.metering_service_pb2_grpc import MeteringServiceAsyncStub

DAY = timedelta(days=1)
START = NOW.replace(hour=0, minute=0) - DAY
IN_PERIOD = START + timedelta(hours=3)


class World:
    """Metering and the contract monitor, and every `usage.late` that was heard."""

    def __init__(self, mesh: Mesh, runtime: Runtime, heard: list[Envelope]) -> None:
        self.mesh = mesh
        self.database = runtime.database
        self._heard = heard

    def told(self, tenant: str) -> list[UsageLate]:
        """What a tenant was told."""
        return [
            item.payload
            for item in self._heard
            if item.tenant_id == tenant and isinstance(item.payload, UsageLate)
        ]

    @asynccontextmanager
    async def work(self, tenant: str) -> AsyncIterator[UnitOfWork]:
        """A transaction of the tenant's."""
        with acting(call(tenant)):
            async with self.database.unit_of_work("lab.late") as work:
                yield work

    async def freeze(self, tenant: str, org_id: str = "chat", **changes: Any) -> Closing:
        """Read usage as a charge does; nobody is told of the charge yet."""
        stub = metering_service_pb2_grpc.MeteringServiceStub(self.mesh.channel(tenant))
        answer = await stub.QueryUsage(usage_query(org_id, start_at=START))
        made = {"start_at": START, "end_at": START + DAY, **changes}
        return Closing(f"chg_{uuid4()}", org_id, usage_ordinal=answer.usage_ordinal, **made)

    async def publish(
        self, tenant: str, closing: Closing, kind: Any = UsageAggregated, **more: str
    ) -> None:
        """Tell of the charge as billing does."""
        fact = kind(charge_id=closing.charge_id, org_id=closing.org_id, **more)
        if not isinstance(fact, ChargeReversed):
            fact.usage_snapshot = closing.usage_snapshot
            if closing.usage_ordinal is not None:
                fact.usage_ordinal = closing.usage_ordinal
        if isinstance(fact, UsageAggregated):
            fact.carried_skus.extend(closing.carried_skus)
        fact.period.start_at.FromDatetime(closing.start_at)
        fact.period.end_at.FromDatetime(closing.end_at)
        async with self.work(tenant) as work:
            work.publish(fact)


@pytest.fixture(scope="module")
async def world(database: DatabaseUrls) -> AsyncIterator[World]:
    runtimes: list[Runtime] = []
    heard: list[Envelope] = []

    async def hear(_work: object, envelope: Envelope) -> None:
        heard.append(envelope)

    def build_listener(runtime: Runtime) -> Service:
        runtimes.append(runtime)
        return Service([], reactions=[Reaction("test.late", ("usage.late",), hear)])

    builds: Served = [
        metering.SERVICE,
        monitoring.SERVICE,
        catalogue_of("llm.tokens", "gpu.seconds").build,
        build_listener,
    ]
    async with running(database, builds, clock=ManualClock(NOW)) as mesh:
        yield World(mesh, runtimes[0], heard)


@pytest.fixture
def stub(world: World, tenant: str) -> MeteringServiceAsyncStub:
    return metering_service_pb2_grpc.MeteringServiceStub(world.mesh.channel(tenant))


async def listed(stub: Any, **filters: Any) -> list[str]:
    """The ids of all late events, read page by page."""
    found: list[str] = []
    token = ""
    while True:
        request = metering_service_pb2.ListLateEventsRequest(
            page_size=2, page_token=token, **filters
        )
        page = await stub.ListLateEvents(request)
        found += [item.request_id for item in page.late_events]
        token = page.next_page_token
        if not token:
            return found


async def send(stub: Any, *ids: str, at: datetime = IN_PERIOD, **fields: Any) -> None:
    """Send events, a second apart."""
    second = timedelta(seconds=1)
    sent = [event(name, at=at + index * second, **fields) for index, name in enumerate(ids)]
    answer = await stub.IngestEvents(batch(*sent))
    assert answer.accepted == len(ids)


async def test_what_comes_behind_a_charge_is_late_and_the_rest_is_not(
    world: World, stub: Any, tenant: str
) -> None:
    await send(stub, "seen")
    closing = await world.freeze(tenant)
    await send(stub, "unseen")
    await world.publish(tenant, closing)
    await world.publish(tenant, closing, RatingCompleted)
    await world.mesh.drain_events()
    assert await listed(stub) == ["unseen"]
    await send(stub, "late-1", "late-2", "late-3", at=IN_PERIOD + timedelta(minutes=1))
    await send(stub, "other", org_id="code")
    await send(stub, "first", "last", at=START + DAY - timedelta(microseconds=1))
    await send(stub, "before", at=START - timedelta(microseconds=1))
    # The same events again are known, and not late a second time.
    again = await stub.IngestEvents(batch(event("late-1", at=IN_PERIOD + timedelta(minutes=1))))
    assert again.duplicate == 1
    await world.mesh.drain_events()
    assert await listed(stub) == ["unseen", "late-1", "late-2", "late-3", "first"]
    told = world.told(tenant)
    assert [item.event_count for item in told] == [1, 3, 1]
    assert [bool(item.receipt_id) for item in told] == [False, True, True]
    assert {item.charge_id for item in told} == {closing.charge_id}
    (total,) = told[1].totals
    assert (total.sku, total.quantity, total.event_count) == ("llm.tokens", "37.5", 3)
    assert told[1].first_event_at.ToDatetime(UTC) == IN_PERIOD + timedelta(minutes=1)


async def test_late_batches_that_come_at_once_are_each_told_of(
    world: World, stub: Any, tenant: str
) -> None:
    await world.publish(tenant, await world.freeze(tenant))
    await world.mesh.drain_events()
    await asyncio.gather(*(send(stub, f"e-{n}") for n in range(20)))
    await world.mesh.drain_events()
    assert sorted(await listed(stub)) == sorted(f"e-{n}" for n in range(20))
    told = world.told(tenant)
    assert [item.event_count for item in told] == [1] * 20
    assert len({item.receipt_id for item in told}) == 20


async def test_each_late_event_shows_what_was_sent_and_which_charge_missed_it(
    world: World, stub: Any, tenant: str
) -> None:
    closing = await world.freeze(tenant)
    await world.publish(tenant, closing)
    await world.mesh.drain_events()
    sent = event("e", at=IN_PERIOD, sku="gpu.seconds", quantity="0.25", metadata={"region": "eu"})
    answer = await stub.IngestEvents(batch(sent))
    (found,) = (
        await stub.ListLateEvents(metering_service_pb2.ListLateEventsRequest(org_id="chat"))
    ).late_events
    for field in ("request_id", "org_id", "project_id", "sku", "quantity", "event_time"):
        assert getattr(found, field) == getattr(sent, field)
    assert dict(found.metadata) == {"region": "eu"}
    assert found.source == metering_pb2.SOURCE_BACKEND
    assert found.charge_id == closing.charge_id
    assert found.receipt_id == answer.receipt_id
    assert found.recorded_at.ToDatetime(UTC) == NOW


async def test_late_usage_breaks_a_contract_once_a_batch(
    world: World, stub: Any, tenant: str
) -> None:
    closing = await world.freeze(tenant)
    await world.publish(tenant, closing)
    await world.mesh.drain_events()
    for number in range(2):
        await send(stub, f"a{number}", f"b{number}")
    await world.mesh.drain_events()
    monitor = contracts_service_pb2_grpc.ContractMonitorServiceStub(world.mesh.channel(tenant))
    answer = await monitor.ListViolations(
        contracts_service_pb2.ListViolationsRequest(contract_id="metering/late-usage")
    )
    assert [item.subject_id for item in answer.violations] == [closing.charge_id] * 2
    assert all(item.contract_registered for item in answer.violations)
    assert all(item.message.startswith("2 usage events of chat") for item in answer.violations)
    assert len({item.fingerprint for item in answer.violations}) == 1


async def test_what_an_adjustment_saw_is_late_no_more(world: World, stub: Any, tenant: str) -> None:
    closing = await world.freeze(tenant)
    await send(stub, "unseen")
    await world.publish(tenant, closing)
    await world.mesh.drain_events()
    await send(stub, "late", at=IN_PERIOD + timedelta(seconds=30))
    adjustment = await world.freeze(tenant)
    await send(stub, "later", at=IN_PERIOD + timedelta(minutes=1))
    assert await listed(stub) == ["unseen", "late", "later"]
    for _ in range(2):  # told again, it changes nothing
        await world.publish(tenant, adjustment, adjusts_charge_id=closing.charge_id)
        await world.mesh.drain_events()
        assert await listed(stub) == ["later"]
    await send(stub, "last", at=IN_PERIOD + timedelta(minutes=2))
    assert await listed(stub) == ["later", "last"]
    answer = await stub.ListLateEvents(metering_service_pb2.ListLateEventsRequest())
    assert {item.charge_id for item in answer.late_events} == {closing.charge_id}


async def test_corrections_that_an_adjustment_saw_are_late_no_more(
    world: World, stub: Any, tenant: str
) -> None:
    await send(stub, "a", "b", quantity="10")
    closing = await world.freeze(tenant)
    await stub.AmendEvents(amendment(event("a", at=IN_PERIOD, quantity="8")))
    await world.publish(tenant, closing)
    await world.mesh.drain_events()
    await stub.CancelEvents(cancellation("b"))
    adjustment = await world.freeze(tenant)
    await stub.AmendEvents(amendment(event("a", at=IN_PERIOD, quantity="7")))
    assert await listed(stub) == ["a", "a", "b"]
    await world.publish(tenant, adjustment, adjusts_charge_id=closing.charge_id)
    await world.mesh.drain_events()
    answer = await stub.ListLateEvents(metering_service_pb2.ListLateEventsRequest())
    assert [(item.request_id, item.version) for item in answer.late_events] == [("a", 2)]
    # Told again, behind another one: what was billed stays billed.
    last = await world.freeze(tenant)
    for told in (last, adjustment):
        await world.publish(tenant, told, adjusts_charge_id=closing.charge_id)
        await world.mesh.drain_events()
        assert await listed(stub) == []


async def test_nothing_is_late_by_a_charge_that_was_taken_back(
    world: World, stub: Any, tenant: str
) -> None:
    closing = await world.freeze(tenant)
    await world.publish(tenant, closing)
    await world.mesh.drain_events()
    await send(stub, "late")
    assert await listed(stub) == ["late"]
    await world.publish(tenant, closing, ChargeReversed)
    await world.mesh.drain_events()
    assert await listed(stub) == []
    await send(stub, "free")
    assert await listed(stub) == []
    anew = await world.freeze(tenant)
    await world.publish(tenant, anew)
    await world.mesh.drain_events()
    await send(stub, "late again")
    assert await listed(stub) == ["late again"]


async def test_filters_of_the_list(world: World, stub: Any, tenant: str) -> None:
    for org_id in ("chat", "code"):
        await world.publish(tenant, await world.freeze(tenant, org_id))
    await world.mesh.drain_events()
    for org_id in ("code", "chat"):
        await send(stub, f"{org_id}-1", f"{org_id}-2", f"{org_id}-3", org_id=org_id)
    assert await listed(stub) == [f"{org}-{n}" for org in ("chat", "code") for n in (1, 2, 3)]
    assert await listed(stub, org_id="code") == ["code-1", "code-2", "code-3"]
    period = Period()
    period.start_at.FromDatetime(IN_PERIOD + timedelta(seconds=1))
    period.end_at.FromDatetime(IN_PERIOD + timedelta(seconds=2))
    assert await listed(stub, period=period) == ["chat-2", "code-2"]
    first = await stub.ListLateEvents(metering_service_pb2.ListLateEventsRequest(page_size=1))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.ListLateEvents(
            metering_service_pb2.ListLateEventsRequest(
                org_id="code", page_size=1, page_token=first.next_page_token
            )
        )
    assert RemoteError.of(failed.value, "metering").reason == "INVALID_PAGE_TOKEN"


async def test_a_batch_that_is_under_way_while_its_period_closes_is_told_of_once(
    world: World, stub: Any, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored, and not yet asking for closings, when the closing is kept: the batch sees it and tells."""
    closing = await world.freeze(tenant)
    stored, go_on = asyncio.Event(), asyncio.Event()
    hold = closings.hold_closings

    async def paused(work: UnitOfWork) -> None:
        stored.set()
        await go_on.wait()
        await hold(work)

    monkeypatch.setattr(events, "FEW_MAX", 0)
    monkeypatch.setattr(closings, "hold_closings", paused)
    sending = asyncio.ensure_future(send(stub, "a"))
    await asyncio.wait_for(stored.wait(), 10)
    await world.publish(tenant, closing)
    await world.mesh.drain_events()
    go_on.set()
    await sending
    await world.mesh.drain_events()
    assert await listed(stub) == ["a"]
    assert [item.event_count for item in world.told(tenant)] == [1]


async def test_a_closing_waits_for_batches_that_did_not_see_it(
    world: World, stub: Any, tenant: str, database: DatabaseUrls
) -> None:
    """Past its question for closings, and not committed: the closing waits, then finds what was stored."""
    closing = await world.freeze(tenant)
    stored, go_on = asyncio.Event(), asyncio.Event()
    touches = closings.touches_closed

    async def paused(work: UnitOfWork, totals: Any) -> bool:
        touched = await touches(work, totals)
        stored.set()
        await go_on.wait()
        return touched

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "FEW_MAX", 0)
        patch.setattr(closings, "touches_closed", paused)
        sending = asyncio.ensure_future(send(stub, "a"))
        await asyncio.wait_for(stored.wait(), 10)

    async def close() -> None:
        async with world.work(tenant) as work:
            await late_usage.close_period(work, closing)

    closing_it = asyncio.ensure_future(close())
    await _until_somebody_waits(database)
    assert not closing_it.done()
    go_on.set()
    await asyncio.gather(sending, closing_it)
    await world.mesh.drain_events()
    assert await listed(stub) == ["a"]
    assert [(item.event_count, item.receipt_id) for item in world.told(tenant)] == [(1, "")]


async def _until_somebody_waits(database: DatabaseUrls) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with await psycopg.AsyncConnection.connect(
        database.owner_admin, autocommit=True
    ) as connection:

        async def somebody_waits() -> bool:
            return await (await connection.execute(waiting)).fetchone() != (0,)

        await eventually(somebody_waits)


async def test_whatever_the_order_each_late_event_is_told_of_once(
    world: World, stub: Any, tenant: str, database: DatabaseUrls
) -> None:
    chance = random.Random(11)
    closings: list[Closing] = []

    async def batches(worker: int) -> None:
        for number in range(8):
            names = [f"e-{worker}-{number}-{index}" for index in range(chance.randrange(1, 5))]
            org_id = chance.choice(["chat", "code"])
            await send(stub, *names, at=IN_PERIOD, org_id=org_id)

    async def charges(org_id: str) -> None:
        await asyncio.sleep(0.02)
        closing = await world.freeze(tenant, org_id)
        closings.append(closing)
        await asyncio.sleep(0.03)
        await world.publish(tenant, closing)

    await asyncio.gather(*map(batches, range(4)), charges("chat"), charges("code"))
    await send(stub, "last", org_id="chat")
    await world.mesh.drain_events()
    expected: set[str] = set()
    async with await psycopg.AsyncConnection.connect(database.owner_admin) as connection:
        for closing in closings:
            rows = await connection.execute(
                "SELECT request_id FROM metering.usage_event JOIN metering.receipt USING (tenant_id, receipt_id)"
                " WHERE tenant_id = %s AND org_id = %s AND event_time >= %s AND event_time < %s"
                " AND coalesce(ordinal > %s, true)",
                [tenant, closing.org_id, closing.start_at, closing.end_at, closing.usage_ordinal],
            )
            expected |= {row[0] for row in await rows.fetchall()}
    found = await listed(stub)
    assert sorted(found) == sorted(expected)
    assert sum(item.event_count for item in world.told(tenant)) == len(expected) > 0


def amendment(*events: metering_pb2.UsageEvent) -> corrections_pb2.AmendEventsRequest:
    """Ask for events to have another content."""
    request = corrections_pb2.AmendEventsRequest(request_id=str(uuid4()))
    for item in events:
        request.amendments.add(event=item)
    return request


def cancellation(*ids: str) -> corrections_pb2.CancelEventsRequest:
    """Ask for events to be cancelled."""
    return corrections_pb2.CancelEventsRequest(
        request_id=str(uuid4()), request_ids=ids, reason="never happened"
    )


async def test_a_correction_of_a_closed_period_is_late_and_shows_what_changed(
    world: World, stub: Any, tenant: str
) -> None:
    await send(stub, "amended", "cancelled", "moved", "kept", quantity="10")
    closing = await world.freeze(tenant)
    await world.publish(tenant, closing)
    await world.mesh.drain_events()
    await stub.AmendEvents(
        amendment(
            event("amended", at=IN_PERIOD, quantity="4"),
            event("moved", at=START - DAY, quantity="10"),
        )
    )
    await stub.CancelEvents(cancellation("cancelled"))
    await world.mesh.drain_events()
    answer = await stub.ListLateEvents(metering_service_pb2.ListLateEventsRequest())
    late = {item.request_id: item for item in answer.late_events}
    shown = {
        name: (item.change, item.before.quantity, item.quantity) for name, item in late.items()
    }
    assert shown == {
        "amended": (metering_pb2.USAGE_CHANGE_AMENDED, "10", "4"),
        "moved": (metering_pb2.USAGE_CHANGE_AMENDED, "10", "10"),
        "cancelled": (metering_pb2.USAGE_CHANGE_CANCELLED, "10", "10"),
    }
    assert {item.charge_id for item in late.values()} == {closing.charge_id}
    told = [(item.event_count, item.totals[0].quantity) for item in world.told(tenant)]
    assert told == [(2, "-16"), (1, "-10")]
    assert await listed(stub) == ["amended", "cancelled", "moved"]


async def test_a_correction_that_the_charge_did_not_see_is_late_once(
    world: World, stub: Any, tenant: str
) -> None:
    """Amended once before the charge read usage, once behind it, and once more when the closing was known."""
    await send(stub, "a", quantity="10")
    await stub.AmendEvents(amendment(event("a", at=IN_PERIOD, quantity="8")))
    closing = await world.freeze(tenant)
    await stub.AmendEvents(amendment(event("a", at=IN_PERIOD, quantity="7")))
    await world.publish(tenant, closing)
    await world.mesh.drain_events()
    await stub.AmendEvents(amendment(event("a", at=IN_PERIOD, quantity="5")))
    await world.mesh.drain_events()
    # Gives what has none its ordinal.
    await stub.QueryUsage(usage_query(start_at=START))
    answer = await stub.ListLateEvents(metering_service_pb2.ListLateEventsRequest())
    changes = [(item.version, item.before.quantity, item.quantity) for item in answer.late_events]
    assert changes == [(2, "8", "7"), (3, "7", "5")]
    assert [item.totals[0].quantity for item in world.told(tenant)] == ["-1", "-2"]
    assert all(item.ordinal > (closing.usage_ordinal or 0) for item in answer.late_events)


async def test_a_tenant_may_refuse_late_usage(world: World, stub: Any, tenant: str) -> None:
    await send(stub, "seen", quantity="10")
    closing = await world.freeze(tenant)
    await world.publish(tenant, closing)
    await world.mesh.drain_events()
    settings = metering_service_pb2.UpdateIngestSettingsRequest(
        request_id=str(uuid4()), late=metering_pb2.LATE_POLICY_REJECT
    )
    changed = (await stub.UpdateIngestSettings(settings)).ingest_settings
    assert changed.late == metering_pb2.LATE_POLICY_REJECT
    seen = event("seen", at=IN_PERIOD, quantity="10")
    late = event("late", at=IN_PERIOD)
    for few in (True, False):
        rest = [] if few else [event(f"open-{n}", at=START + DAY) for n in range(events.FEW_MAX)]
        answer = await stub.IngestEvents(batch(seen, late, late, event("open"), *rest))
        assert [(item.index, item.reason) for item in answer.problems[:3]] == [
            (0, "EVENT_DUPLICATE"),
            (1, "PERIOD_CLOSED"),
            (2, "PERIOD_CLOSED"),
        ]
        assert closing.charge_id in answer.problems[1].message
        assert answer.rejected == 2
    amended = await stub.AmendEvents(
        amendment(
            event("seen", at=IN_PERIOD, quantity="1"), event("open", at=IN_PERIOD, quantity="1")
        )
    )
    assert [item.reason for item in amended.problems] == ["PERIOD_CLOSED"] * 2
    cancelled = await stub.CancelEvents(cancellation("seen", "open"))
    assert [(item.index, item.reason) for item in cancelled.problems] == [(0, "PERIOD_CLOSED")]
    assert await listed(stub) == []
    usage = await stub.QueryUsage(usage_query(start_at=START))
    assert [row.value for row in usage.rows] == ["10"]
    kept = await stub.ListRejectedEvents(
        corrections_pb2.ListRejectedEventsRequest(reason="PERIOD_CLOSED")
    )
    assert [item.event.request_id for item in kept.rejected_events] == ["late"] * 4


async def test_a_charge_from_before_ordinals_is_closed_by_its_snapshot(
    world: World, stub: Any, tenant: str, database: DatabaseUrls
) -> None:
    """Its fact was published by the release before, and is handled by this one."""
    await send(stub, "seen")
    await send(stub, "unseen")
    closing = await world.freeze(tenant)
    with psycopg.connect(database.owner_admin) as owner:
        owner.execute(
            "UPDATE metering.receipt SET recorded_xid = (ordinal + 10)::text::xid8 WHERE tenant_id = %s",
            [tenant],
        )
    told = replace(closing, usage_ordinal=None, usage_snapshot="12:12:")
    await world.publish(tenant, told)
    await world.mesh.drain_events()
    assert await listed(stub) == ["unseen"]


async def test_an_adjustment_from_before_ordinals_is_taken_by_its_snapshot(
    world: World, stub: Any, tenant: str, database: DatabaseUrls
) -> None:
    closing = await world.freeze(tenant)
    await world.publish(tenant, closing)
    await world.mesh.drain_events()
    await send(stub, "billed")
    await send(stub, "later", at=IN_PERIOD + timedelta(seconds=30))
    adjustment = await world.freeze(tenant)
    with psycopg.connect(database.owner_admin) as owner:
        owner.execute(
            "UPDATE metering.receipt SET recorded_xid = (ordinal + 10)::text::xid8 WHERE tenant_id = %s",
            [tenant],
        )
    told = replace(adjustment, usage_ordinal=None, usage_snapshot="12:12:")
    await world.publish(tenant, told, adjusts_charge_id=closing.charge_id)
    await world.mesh.drain_events()
    assert await listed(stub) == ["later"]


async def test_a_tenants_closings_concern_no_other(world: World, stub: Any, tenant: str) -> None:
    other = f"{tenant}-other"
    await world.publish(other, await world.freeze(other))
    await world.mesh.drain_events()
    await send(stub, "a")
    assert await listed(stub) == []
    assert world.told(tenant) == []


def test_the_question_for_closings_finds_its_index(untouched_database: DatabaseUrls) -> None:
    with psycopg.connect(untouched_database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', 't', true)")
        connection.execute("SET LOCAL enable_seqscan = off")
        asked = "EXPLAIN " + closings._SQL["touches_closed"]
        instants = {
            "org_ids": ["chat"],
            "skus": ["s"],
            "firsts": [NOW],
            "lasts": [NOW],
            "tenant_id": "t",
        }
        rows = connection.execute(asked.encode(), instants).fetchall()
    plan = "\n".join(row[0] for row in rows)
    assert "closed_period_by_end" in plan
    assert "carried_sku_pkey" in plan


LEVELS = ("gpu.seconds",)


async def close_days(world: World, tenant: str, *days: int, **more: Any) -> list[Closing]:
    """Charge days, counted from that of START, all of whose SKU is read as levels."""
    closed = []
    for day in days:
        start_at = START + day * DAY
        bounds = {"start_at": start_at, "end_at": start_at + DAY}
        closing = await world.freeze(tenant, **{"carried_skus": LEVELS, **bounds, **more})
        await world.publish(tenant, closing)
        closed.append(closing)
    await world.mesh.drain_events()
    return closed


async def missed(stub: Any, closings: list[Closing], **filters: Any) -> dict[str, list[int]]:
    """Which of some charges miss which late events, by id."""
    answer = await stub.ListLateEvents(metering_service_pb2.ListLateEventsRequest(**filters))
    places = [closing.charge_id for closing in closings]
    found: dict[str, list[int]] = {}
    for late in answer.late_events:
        found.setdefault(late.request_id, []).append(places.index(late.charge_id))
    return found


async def test_a_late_level_is_missed_by_every_charge_until_the_next_event_of_its_series(
    world: World, stub: Any, tenant: str
) -> None:
    level = {"sku": "gpu.seconds"}
    await send(stub, "next", at=START - DAY, **level)
    closings = await close_days(world, tenant, -4, -2, 0)
    await send(stub, "ended", at=START - 3 * DAY, **level)
    await send(stub, "at the start", at=START - 2 * DAY, project_id="batch", **level)
    await send(stub, "no level", at=START - 5 * DAY)
    await send(stub, "on and on", at=START - 6 * DAY, project_id="night", **level)
    await send(stub, "same instant", at=START - DAY, quantity="99", **level)
    await send(stub, "other organisation", at=START - 6 * DAY, org_id="code", **level)
    # An event at the start of a period takes the place of what held before.
    await send(stub, "not once more", at=START - 5 * DAY, project_id="batch", **level)
    assert await missed(stub, closings) == {
        "ended": [1],
        "at the start": [1, 2],
        "on and on": [0, 1, 2],
        "same instant": [2],
        "not once more": [0],
    }
    await world.mesh.drain_events()
    assert sum(len(told.totals) for told in world.told(tenant)) == 8
    # Each is listed for the periods in which it counts.
    period = Period()
    period.start_at.FromDatetime(START)
    period.end_at.FromDatetime(START + DAY)
    assert await missed(stub, closings, period=period) == {
        "at the start": [2],
        "on and on": [2],
        "same instant": [2],
    }
    again = await stub.IngestEvents(
        batch(event("on and on", at=START - 6 * DAY, project_id="night", **level))
    )
    assert again.duplicate == 1
    # What one charge has, the others still miss.
    adjustment = await world.freeze(tenant, start_at=closings[0].start_at, carried_skus=LEVELS)
    adjustment = replace(adjustment, end_at=closings[0].end_at)
    await world.publish(tenant, adjustment, adjusts_charge_id=closings[0].charge_id)
    await world.mesh.drain_events()
    assert (await missed(stub, closings))["on and on"] == [1, 2]
    await world.publish(tenant, closings[2], ChargeReversed)
    await world.mesh.drain_events()
    assert (await missed(stub, closings))["on and on"] == [1]


async def test_late_levels_are_refused_where_late_usage_is(
    world: World, stub: Any, tenant: str
) -> None:
    level = {"sku": "gpu.seconds"}
    await send(stub, "kept", at=START - 2 * DAY, **level)
    await send(stub, "last", at=START - timedelta(hours=2), **level)
    await send(stub, "night", at=START - 3 * DAY, project_id="night", **level)
    (closing,) = await close_days(world, tenant, 0)
    settings = metering_service_pb2.UpdateIngestSettingsRequest(
        request_id=str(uuid4()), late=metering_pb2.LATE_POLICY_REJECT
    )
    await stub.UpdateIngestSettings(settings)
    answer = await stub.IngestEvents(
        batch(
            event("before", at=START - DAY, **level),
            event("behind", at=START - timedelta(hours=1), **level),
            event("at the start of it", at=START, **level),
            event("not shielded by what is refused", at=START - timedelta(minutes=90), **level),
            event("kept", at=START - 2 * DAY, **level),
            event("sums", at=START - DAY),
        )
    )
    assert [(item.index, item.reason) for item in answer.problems] == [
        (1, "PERIOD_CLOSED"),
        (2, "PERIOD_CLOSED"),
        (3, "PERIOD_CLOSED"),
        (4, "EVENT_DUPLICATE"),
    ]
    assert (answer.accepted, answer.duplicate) == (2, 1)
    amended = await stub.AmendEvents(
        amendment(
            event("kept", at=START - 2 * DAY, quantity="1", **level),
            event("night", at=START - 3 * DAY, quantity="1", project_id="night", **level),
            event("before", at=START - timedelta(minutes=30), **level),
        )
    )
    assert [(item.index, item.reason) for item in amended.problems] == [
        (1, "PERIOD_CLOSED"),
        (2, "PERIOD_CLOSED"),
    ]
    cancelled = await stub.CancelEvents(cancellation("last"))
    (problem,) = cancelled.problems
    assert problem.message.startswith(f"charge {closing.charge_id} has closed")
    assert await missed(stub, [closing]) == {}


async def test_no_change_of_what_a_charge_of_levels_reads_is_lost(
    world: World, stub: Any, tenant: str
) -> None:
    """Whatever is stored, amended or cancelled: a charge whose reading comes to something else is told of."""
    chance = random.Random(5)
    days = (-3, -1, 0)

    def drawn(request_id: str) -> metering_pb2.UsageEvent:
        hours = chance.randrange(6 * 8) * 3
        return event(
            request_id,
            at=START - 5 * DAY + timedelta(hours=hours),
            sku="gpu.seconds",
            quantity=str(chance.randrange(4)),
            project_id=chance.choice(["web", "night"]),
        )

    async def readings() -> list[dict[str, str]]:
        found = []
        for day in days:
            asked = usage_query(
                start_at=START + day * DAY,
                skus=["gpu.seconds"],
                aggregation=type_pb2.AGGREGATION_WEIGHTED_SUM,
            )
            answer = await stub.QueryUsage(asked)
            found.append({row.project_id: row.value for row in answer.rows if row.value != "0"})
        return found

    sent = [f"seen-{number}" for number in range(6)]
    await stub.IngestEvents(batch(*map(drawn, sent)))
    closings = await close_days(world, tenant, *days)
    before = await readings()
    moved = set()
    for number in range(25):
        kind = chance.choice(["store", "store", "amend", "cancel"])
        if kind == "store":
            sent.append(f"new-{number}")
            await stub.IngestEvents(batch(drawn(sent[-1])))
        elif kind == "amend":
            await stub.AmendEvents(amendment(drawn(chance.choice(sent))))
        elif sent:
            gone = sent.pop(chance.randrange(len(sent)))
            await stub.CancelEvents(cancellation(gone))
        after = await readings()
        moved |= {place for place in range(3) if after[place] != before[place]}
        answer = await stub.ListLateEvents(metering_service_pb2.ListLateEventsRequest())
        told = {item.charge_id for item in answer.late_events}
        assert {closings[place].charge_id for place in moved} <= told, (number, kind)
    assert moved == {0, 1, 2}
