"""The sender of webhooks beside others, and after its own end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from aiohttp import web
from payments.events.v1 import events_service_pb2 as service_pb2
from payments.events.v1.pricing_events_pb2 import PlanCreated

from services.events import manifest, reactions
from services.events.domain.measures import ATTEMPTS
from services.runtime.clock import ManualClock
from services.runtime.context import acting
from services.runtime.events.envelope import Envelope
from services.runtime.secrets import new_key
from services.runtime.telemetry import Silent
from tests.support.events.lab import Lab, call, publish_of_later_release
from tests.support.mesh.serving import running
from tests.support.postgres.server import DatabaseUrls
from tests.support.webhooks.checks import (
    DELIVERED,
    FAILED,
    clear,
    outcomes,
)
from tests.support.webhooks.lab import (
    ALLOW,
    NOW,
    Receiver,
    WebhookLab,
    answering,
    webhook_mesh,
)

# ---- Many at once


async def test_an_endpoint_never_gets_more_at_once_than_it_takes(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    now = most = 0

    async def slow(request: web.Request) -> web.StreamResponse:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        return web.Response()

    receiver.behaviour = slow
    await webhooks.create(receiver.url, concurrency=3)
    await webhooks.publish(*(f"p{n}" for n in range(12)))
    while await webhooks.worker.sweep():
        pass
    assert len(receiver.received) == 12
    assert most == 3


async def test_an_event_of_a_later_release_is_sent_as_bytes(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    await webhooks.create(receiver.url)
    database = webhooks.mesh.node.database
    later = await publish_of_later_release(database, webhooks.tenant, b"\x0a\x05")
    await webhooks.mesh.drain_events()
    assert await webhooks.worker.sweep() == 1
    (received,) = receiver.received
    assert later.encode() in received.body
    assert b'"data_base64":"CgU="' in received.body


class Durations(Silent):
    """Telemetry that remembers durations."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def duration(self, name: str, seconds: float, **attributes: str) -> None:
        assert name == ATTEMPTS.name
        assert 0 <= seconds < 60
        self.seen.append((attributes["outcome"], attributes["status"]))


async def test_every_attempt_is_measured(webhooks: WebhookLab, receiver: Receiver) -> None:
    telemetry = Durations()
    webhooks.worker._telemetry = telemetry
    await webhooks.create(receiver.url)
    await webhooks.publish("p1")
    receiver.behaviour = answering(503)
    await webhooks.worker.sweep()
    receiver.behaviour = answering(200)
    webhooks.clock.advance(timedelta(hours=1))
    await webhooks.worker.sweep()
    assert telemetry.seen == [("refused", "5xx"), ("succeeded", "2xx")]


async def test_a_tenant_does_not_take_every_place(
    webhooks: WebhookLab, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.events.work.TENANT_SENDS_MAX", 2)
    go_on = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await go_on.wait()
        return web.Response()

    receiver.behaviour = hang
    other = WebhookLab(webhooks.mesh, webhooks.worker, webhooks.clock)
    for lab, name in ((webhooks, "many"), (other, "few")):
        for _ in range(3 if lab is webhooks else 1):
            await lab.create(f"{receiver.url}/{name}", concurrency=4)
        await lab.publish("p1", "p2", "p3")
    tasks = []
    for _ in range(3):
        tasks += (await webhooks.worker.sending.take())[0]
    await receiver.has_received(4)
    paths = sorted(received.path.rpartition("/")[2] for received in receiver.received)
    assert paths == ["few", "few", "many", "many"]
    go_on.set()
    await asyncio.gather(*tasks)
    while await webhooks.worker.sweep():
        pass
    assert len(receiver.received) == 3 * 3 + 3


async def test_two_processes_never_send_one_delivery_at_once(
    webhooks: WebhookLab, receiver: Receiver, lab: Lab
) -> None:
    keys = webhooks.mesh.node._settings.secrets_keys.get_secret_value()
    await webhooks.create(receiver.url, concurrency=16)
    async with webhook_mesh(lab.urls, webhooks.clock, secrets_keys=keys) as (_, other):
        events = await webhooks.publish(*(f"p{n}" for n in range(60)))
        while len(receiver.received) < 60:
            sent = await asyncio.gather(webhooks.worker.sweep(), other.sweep())
            assert any(sent), "each round one of the two gets the endpoint"
    ids = [received.headers["webhook-id"] for received in receiver.received]
    assert sorted(ids) == sorted(events)
    assert {each.number for each in await webhooks.attempts()} == {1}


async def test_what_a_dead_process_claimed_is_sent_again_under_the_same_id(
    webhooks: WebhookLab, receiver: Receiver, lab: Lab
) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    receiver.behaviour = hang
    endpoint_id = (await webhooks.create(receiver.url)).endpoint.endpoint_id
    (event_id,) = await webhooks.publish("p1")
    tasks, _ = await webhooks.worker.sending.take()
    await receiver.has_received(1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    receiver.behaviour = answering(200)
    assert await webhooks.worker.sweep() == 0, "its lease still stands"
    await lab.rows("UPDATE events.webhook_delivery SET lease_until = clock_timestamp()")
    assert await webhooks.worker.sweep() == 1
    assert [r.headers["webhook-id"] for r in receiver.received] == [event_id] * 2
    assert outcomes(await webhooks.attempts()) == ["SUCCEEDED", "LOST"]
    (delivery,) = await webhooks.deliveries(endpoint_id)
    assert (delivery.status, delivery.tries) == (DELIVERED, 2)


async def test_who_lost_its_claim_settles_nothing(
    webhooks: WebhookLab, receiver: Receiver, lab: Lab
) -> None:
    """A process that was paused past its lease wakes up with an answer."""
    go_on = asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        await go_on.wait()
        return web.Response(status=500)

    receiver.behaviour = wait
    endpoint_id = (await webhooks.create(receiver.url)).endpoint.endpoint_id
    await webhooks.publish("p1")
    paused, _ = await webhooks.worker.sending.take()
    await receiver.has_received(1)
    await lab.rows("UPDATE events.webhook_delivery SET lease_until = clock_timestamp()")
    receiver.behaviour = answering(200)
    assert await webhooks.worker.sweep() == 1
    go_on.set()
    await asyncio.gather(*paused)
    (delivery,) = await webhooks.deliveries(endpoint_id)
    assert delivery.status == DELIVERED
    assert (await webhooks.get(endpoint_id)).consecutive_failures == 0
    assert outcomes(await webhooks.attempts()) == ["SUCCEEDED", "REFUSED"]


async def test_a_replayed_event_is_delivered_again_and_the_same_event_never_twice(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    await webhooks.create(receiver.url)
    (event_id,) = await webhooks.publish("p1")
    await webhooks.worker.sweep()
    for generations in ([0], [1, 0], [0]):
        await handle_again(webhooks, event_id, *generations)
        await webhooks.worker.sweep()
    assert [r.headers["webhook-id"] for r in receiver.received] == [event_id] * 2


async def test_an_endpoint_gets_what_came_after_it_was_made_and_what_is_replayed(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    (event_id,) = await webhooks.publish("p1")
    page = await webhooks.stub.ListEvents(service_pb2.ListEventsRequest())
    assert [event.id for event in page.events] == [event_id]
    await webhooks.create(receiver.url)
    # The reaction was behind: the event comes to it when the endpoint is there already.
    await handle_again(webhooks, event_id, 0)
    assert await webhooks.worker.sweep() == 0
    await handle_again(webhooks, event_id, 1)
    assert await webhooks.worker.sweep() == 1


async def position_of(webhooks: WebhookLab, event_id: str) -> int:
    with acting(call(webhooks.tenant)):
        async with webhooks.mesh.node.database.read() as work:
            query = "SELECT position FROM mesh.feed WHERE tenant_id = %(t)s AND event_id = %(e)s"
            found = await work.execute(query, {"t": webhooks.tenant, "e": event_id})
            return int(found.scalar_one())


async def handle_again(webhooks: WebhookLab, event_id: str, *generations: int) -> None:
    """Give an event to the reaction once more, as a batch, by itself or as part of a replay."""
    position = await position_of(webhooks, event_id)
    first = Envelope(
        event_id=event_id,
        subject="plan.created",
        schema_version=1,
        tenant_id=webhooks.tenant,
        key="p1",
        payload=PlanCreated(plan_id="p1", plan_version=1),
        correlation_id="",
        causation_id="",
        created_at=webhooks.clock.now(),
        position=position,
    )
    envelopes = [replace(first, generation=generation) for generation in generations]
    reaction = reactions.webhooks(lambda: None)
    with acting(call(webhooks.tenant)):
        async with webhooks.mesh.node.database.unit_of_work("lab.react") as work:
            await reaction.handle_batch(work, envelopes)


async def test_what_is_old_is_removed(webhooks: WebhookLab, receiver: Receiver) -> None:
    endpoint_id = (await webhooks.create(receiver.url)).endpoint.endpoint_id
    await webhooks.publish("p1")
    await webhooks.worker.sweep()
    await webhooks.worker.prune()  # of others' tests
    webhooks.clock.advance(timedelta(days=29))
    assert await webhooks.worker.prune() == 0
    (kept,) = await webhooks.publish("p2")
    webhooks.clock.advance(timedelta(days=2))
    assert await webhooks.worker.prune() >= 2
    assert [each.event_id for each in await webhooks.deliveries(endpoint_id)] == [kept]
    assert await webhooks.attempts() == []


def test_no_more_is_removed_at_once_than_asked_for_whatever_the_plan(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    """A sub-select beside the delete may be run again for each row, and then finds others each time."""
    attempt = (
        "INSERT INTO events.webhook_attempt (tenant_id, attempt_id, endpoint_id, event_id, subject, number, outcome,"
        " started_at) SELECT 't', 'a' || n, 'e', 'v', 's', 1, 'SUCCEEDED', '2020-01-01Z'"
    )
    delivery = (
        "INSERT INTO events.webhook_delivery (tenant_id, endpoint_id, event_id, position, subject, status, next_at,"
        " created_at, updated_at) SELECT 't', 'e', 'v' || n, 1, 's', 'DELIVERED', '2020-01-01Z', '2020-01-01Z',"
        " '2020-01-01Z'"
    )
    urls = new_database()
    with psycopg.connect(urls.owner_admin, autocommit=True) as owner:
        for statement in (attempt, delivery):
            owner.execute(f"{statement} FROM generate_series(0, 0) AS n".encode())
        # From here on the planner takes each table for one of a single row.
        owner.execute("VACUUM (FULL, ANALYZE) events.webhook_attempt, events.webhook_delivery")
        for statement in (attempt, delivery):
            owner.execute(f"{statement} FROM generate_series(1, 40) AS n".encode())
    with psycopg.connect(urls.service, autocommit=True) as session:
        removed = [
            session.execute("SELECT events.prune_webhooks('2021-01-01Z', 15)").fetchone()
            for _ in range(4)
        ]
    assert removed == [(30,), (30,), (22,), (0,)]


async def test_how_far_the_deliveries_are_behind(webhooks: WebhookLab, receiver: Receiver) -> None:
    await webhooks.worker.sweep()
    before = await webhooks.worker.lag()
    await webhooks.create(receiver.url)
    await webhooks.create(f"{receiver.url}/other")
    await webhooks.publish("p1", "p2")
    since = webhooks.clock.now()
    webhooks.clock.advance(timedelta(seconds=90))
    behind = await webhooks.worker.lag()
    assert behind.due == before.due + 4
    assert behind.oldest_at is not None and behind.oldest_at <= since
    await webhooks.worker.sweep()
    assert (await webhooks.worker.lag()).due == before.due


async def test_an_endpoint_that_is_disabled_is_told_of_in_the_chain_of_the_event(
    webhooks: WebhookLab, receiver: Receiver, lab: Lab
) -> None:
    receiver.behaviour = answering(410)
    await webhooks.create(receiver.url)
    (event_id,) = await webhooks.publish("p1")
    await webhooks.worker.sweep()
    query = "SELECT subject, correlation_id, causation_id FROM mesh.event WHERE tenant_id = %s"
    found = {row["subject"]: row for row in await lab.rows(query, webhooks.tenant)}
    told = found["webhook-endpoint.disabled"]
    assert told["causation_id"] == event_id
    assert told["correlation_id"] == found["plan.created"]["correlation_id"]


async def test_an_event_that_is_not_kept_any_more_ends_its_delivery(
    webhooks: WebhookLab, receiver: Receiver, lab: Lab
) -> None:
    endpoint_id = (await webhooks.create(receiver.url)).endpoint.endpoint_id
    (event_id,) = await webhooks.publish("p1")
    await lab.rows("DELETE FROM mesh.feed WHERE event_id = %s", event_id)
    await webhooks.worker.sweep()
    (attempt,) = await webhooks.attempts()
    assert (outcomes([attempt]), "no longer stored" in attempt.error) == (["NOT_SENT"], True)
    (delivery,) = await webhooks.deliveries(endpoint_id)
    assert (delivery.status, receiver.received) == (FAILED, [])


async def test_what_kills_its_process_every_time_ends_too(
    webhooks: WebhookLab, receiver: Receiver, lab: Lab
) -> None:
    endpoint_id = (await webhooks.create(receiver.url)).endpoint.endpoint_id
    await webhooks.publish("p1")
    await lab.rows(
        "UPDATE events.webhook_delivery SET tries = 15 WHERE endpoint_id = %s", endpoint_id
    )
    await webhooks.worker.sweep()
    (delivery,) = await webhooks.deliveries(endpoint_id)
    assert (delivery.status, receiver.received) == (FAILED, [])


async def test_a_stop_waits_for_what_is_under_way(lab: Lab, receiver: Receiver) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.3)
        return web.Response()

    receiver.behaviour = slow
    keys = new_key()
    build = [manifest.SERVICE]
    async with running(lab.urls, build, secrets_keys=keys, webhook_allow=ALLOW) as mesh:
        webhooks = WebhookLab(mesh, None, ManualClock(NOW))  # type: ignore[arg-type]
        tenant = webhooks.tenant
        await webhooks.create(receiver.url)
        await webhooks.publish("p1")
        await receiver.has_received(1)
    async with webhook_mesh(lab.urls, ManualClock(NOW), secrets_keys=keys) as (mesh, worker):
        webhooks = WebhookLab(mesh, worker, ManualClock(NOW), tenant)
        assert outcomes(await webhooks.attempts()) == ["SUCCEEDED"]
    await clear(lab)


async def test_it_sends_by_itself(lab: Lab, receiver: Receiver) -> None:
    """The service as it is built in production: nobody tells the sender to work."""
    build = [manifest.SERVICE]
    async with running(lab.urls, build, secrets_keys=new_key(), webhook_allow=ALLOW) as mesh:
        webhooks = WebhookLab(mesh, None, ManualClock(NOW))  # type: ignore[arg-type]
        endpoint_id = (await webhooks.create(receiver.url)).endpoint.endpoint_id
        await webhooks.publish("p1")
        await receiver.has_received(1)
        request = service_pb2.TestWebhookEndpointRequest(
            request_id=str(uuid4()), endpoint_id=endpoint_id
        )
        answer = await webhooks.stub.TestWebhookEndpoint(request, timeout=20)
        assert outcomes([answer.attempt]) == ["SUCCEEDED"]
    await clear(lab)
