"""Webhooks end to end: what arrives, and what becomes of what does not. Time moves when it is told to."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from payments.events.v1 import events_pb2, webhooks_pb2
from payments.events.v1 import events_service_pb2 as service_pb2
from payments.type.v1 import type_pb2

from services.events.domain import webhooks_policy as policy
from tests.support.webhooks.checks import (
    DELIVERED,
    FAILED,
    HOUR,
    SECOND,
    SKIPPED,
    outcomes,
    reason_of,
    verified,
)
from tests.support.webhooks.lab import (
    Receiver,
    WebhookLab,
    answering,
    receiving,
)

# ---- What arrives


async def test_an_event_of_ours_arrives_signed(webhooks: WebhookLab, receiver: Receiver) -> None:
    made = await webhooks.create(receiver.url, "plan.*")
    (event_id,) = await webhooks.publish("p1")
    assert await webhooks.worker.sweep() == 1
    (received,) = receiver.received
    assert received.headers["webhook-id"] == event_id
    assert received.headers["webhook-timestamp"] == str(int(webhooks.clock.now().timestamp()))
    assert received.headers["content-type"] == "application/json"
    body = verified(received, made.secret)
    assert isinstance(body, dict)
    assert body["type"] == "plan.created"
    assert body["data"] == {"plan_id": "p1", "plan_version": 1}
    assert (body["id"], body["key"]) == (event_id, "p1")
    assert datetime.fromisoformat(body["timestamp"]) == webhooks.clock.now()
    (attempt,) = await webhooks.attempts()
    assert (outcomes([attempt]), attempt.status_code, attempt.number) == (["SUCCEEDED"], 204, 1)
    (delivery,) = await webhooks.deliveries(made.endpoint.endpoint_id)
    assert (delivery.status, delivery.event_id) == (DELIVERED, event_id)
    assert await webhooks.worker.sweep() == 0


async def test_an_event_from_outside_arrives_byte_for_byte(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    made = await webhooks.create(receiver.url, "lesson.*")
    payload = b'{"lesson_id" :  "l-1", "scheduled_at": "2026-05-04T10:00:00Z", "n":1.10}'
    kind = events_pb2.EventType(subject="lesson.moved", owner="school")
    kind.versions.add(version=1, json_schema='{"type": "object"}')
    await webhooks.stub.RegisterEventTypes(
        service_pb2.RegisterEventTypesRequest(event_types=[kind])
    )
    # An id that no header could carry, and that holds a dot.
    event = events_pb2.Event(id="lesson 1.é", subject="lesson.moved", json=payload)
    answer = await webhooks.stub.PublishEvents(service_pb2.PublishEventsRequest(events=[event]))
    assert answer.results[0].outcome == type_pb2.OUTCOME_ACCEPTED
    await webhooks.mesh.drain_events()
    assert await webhooks.worker.sweep() == 1
    (received,) = receiver.received
    verified(received, made.secret)
    assert payload in received.body
    assert json.loads(received.body)["id"] == "lesson 1.é"
    assert received.headers["webhook-id"].startswith("evt_")


async def test_a_tenant_without_endpoints_costs_the_sender_nothing(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    async def handled() -> int:
        query = (
            "SELECT count(*) FROM mesh.inbox WHERE tenant_id = %s AND consumer = 'events.webhooks'"
        )
        url = webhooks.mesh.node._settings.relay_url
        async with await psycopg.AsyncConnection.connect(url) as connection:
            found = await (await connection.execute(query, [webhooks.tenant])).fetchone()
        assert found is not None
        return int(found[0])

    await webhooks.publish("before")
    assert await handled() == 0
    await webhooks.create(receiver.url)
    await webhooks.publish("after")
    assert await webhooks.worker.sweep() == 1
    assert await handled() == 1


async def test_as_a_cloud_event(webhooks: WebhookLab, receiver: Receiver) -> None:
    made = await webhooks.create(receiver.url, format=webhooks_pb2.WEBHOOK_FORMAT_CLOUDEVENTS)
    (event_id,) = await webhooks.publish("p1")
    await webhooks.worker.sweep()
    (received,) = receiver.received
    assert received.headers["content-type"] == "application/cloudevents+json"
    body = verified(received, made.secret)
    assert isinstance(body, dict)
    assert (body["specversion"], body["id"], body["type"]) == ("1.0", event_id, "plan.created")
    assert body["data"] == {"plan_id": "p1", "plan_version": 1}


async def test_as_a_cloud_event_in_binary_mode(webhooks: WebhookLab, receiver: Receiver) -> None:
    binary = webhooks_pb2.WEBHOOK_FORMAT_CLOUDEVENTS_BINARY
    made = await webhooks.create(receiver.url, format=binary)
    assert made.endpoint.format == binary
    (event_id,) = await webhooks.publish("pé 1")
    await webhooks.worker.sweep()
    (received,) = receiver.received
    assert verified(received, made.secret) == {"plan_id": "pé 1", "plan_version": 1}
    assert received.headers["content-type"] == "application/json"
    found = from_binary(HTTPMessage(dict(received.headers), received.body), JSONFormat())
    assert (found.get_id(), found.get_type()) == (event_id, "plan.created")
    assert (found.get_subject(), found.get_specversion()) == ("pé 1", "1.0")
    assert found.get_time() is not None


async def test_only_what_was_asked_for_and_only_the_tenants(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    await webhooks.create(receiver.url + "/exact", "plan.created")
    await webhooks.create(receiver.url + "/part", "plan.*")
    await webhooks.create(receiver.url + "/all", "*")
    await webhooks.create(receiver.url + "/other", "plan.updated", "order.*")
    other = WebhookLab(webhooks.mesh, webhooks.worker, webhooks.clock)
    await other.create(receiver.url + "/foreign", "*")
    await webhooks.publish("p1", "p2")
    await webhooks.worker.sweep()
    paths = sorted(received.path for received in receiver.received)
    assert paths == sorted(["/hook/exact", "/hook/part", "/hook/all"] * 2)


# ---- Failing, and trying again


async def test_ten_attempts_then_failed_and_redelivered(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    receiver.behaviour = answering(500, "no")
    made = await webhooks.create(receiver.url)
    endpoint_id = made.endpoint.endpoint_id
    (event_id,) = await webhooks.publish("p1")
    await webhooks.worker.sweep()
    for seconds in policy.SCHEDULE_SECONDS:
        (delivery,) = await webhooks.deliveries(endpoint_id)
        due = delivery.next_attempt_at.ToDatetime(UTC) - webhooks.clock.now()
        assert due == timedelta(seconds=seconds), "draws in the middle leave no jitter"
        assert await webhooks.after(due - SECOND) == 0
        assert await webhooks.after(SECOND) == 1
    (delivery,) = await webhooks.deliveries(endpoint_id)
    assert (delivery.status, delivery.tries) == (FAILED, 10)
    assert len(receiver.received) == 10
    assert {received.headers["webhook-id"] for received in receiver.received} == {event_id}
    stamps = [received.headers["webhook-timestamp"] for received in receiver.received]
    assert len(set(stamps)) == 10, "each attempt has a time of its own"
    attempts = await webhooks.attempts(event_id=event_id)
    assert [each.number for each in attempts] == list(range(10, 0, -1))
    assert {each.response for each in attempts} == {"no"}
    await webhooks.update(endpoint_id, disabled=False)
    receiver.behaviour = answering(200)
    assert (await webhooks.redeliver(endpoint_id, event_id=event_id)).redelivered == 1
    assert await webhooks.after(HOUR) == 1
    (delivery,) = await webhooks.deliveries(endpoint_id)
    assert (delivery.status, delivery.tries) == (DELIVERED, 1)


async def test_a_redirect_to_a_private_address_is_not_followed(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    async with receiving() as private:
        receiver.behaviour = answering(302, Location=private.url)
        await webhooks.create(receiver.url)
        await webhooks.publish("p1")
        await webhooks.worker.sweep()
        (attempt,) = await webhooks.attempts()
        assert (outcomes([attempt]), attempt.status_code) == (["REDIRECTED"], 302)
        assert private.received == []


async def test_410_disables_and_says_so(webhooks: WebhookLab, receiver: Receiver) -> None:
    async with receiving() as watcher:
        gone = (await webhooks.create(receiver.url, "plan.created")).endpoint.endpoint_id
        await webhooks.create(watcher.url, "webhook-endpoint.disabled")
        receiver.behaviour = answering(410)
        await webhooks.publish("p1")
        await webhooks.worker.sweep()
        endpoint = await webhooks.get(gone)
        assert endpoint.disabled
        assert endpoint.disabled_reason == webhooks_pb2.WEBHOOK_DISABLED_REASON_GONE
        (delivery,) = await webhooks.deliveries(gone)
        assert delivery.status == FAILED
        await webhooks.mesh.drain_events()
        assert await webhooks.worker.sweep() == 1
        (told,) = watcher.received
        data = json.loads(told.body)["data"]
        assert (data["endpoint_id"], data["reason"]) == (gone, "gone")


async def test_who_asks_for_a_pause_gets_one(webhooks: WebhookLab, receiver: Receiver) -> None:
    receiver.behaviour = answering(429, Retry_After="120")
    made = await webhooks.create(receiver.url)
    await webhooks.publish("p1")
    await webhooks.worker.sweep()
    await webhooks.publish("p2")
    assert await webhooks.after(119 * SECOND) == 0, "the pause is the endpoint's, not the event's"
    receiver.behaviour = answering(200)
    assert await webhooks.after(SECOND) == 2
    date = format_date(webhooks.clock.now() + 300 * SECOND)
    receiver.behaviour = answering(503, Retry_After=date)
    await webhooks.publish("p3")
    await webhooks.worker.sweep()
    assert await webhooks.after(298 * SECOND) == 0
    assert await webhooks.after(3 * SECOND) == 1
    assert (await webhooks.get(made.endpoint.endpoint_id)).consecutive_failures == 2


def format_date(moment: datetime) -> str:
    return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")


async def test_the_breaker_opens_tries_one_and_closes(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    receiver.behaviour = answering(500)
    made = await webhooks.create(receiver.url, concurrency=8)
    endpoint_id = made.endpoint.endpoint_id
    await webhooks.publish(*(f"p{n}" for n in range(8)))
    assert await webhooks.worker.sweep() == 8
    endpoint = await webhooks.get(endpoint_id)
    assert endpoint.consecutive_failures == policy.BREAKER_FAILURES, "stragglers count no further"
    until = endpoint.paused_until.ToDatetime(UTC)
    assert until == webhooks.clock.now() + policy.BREAKER_PAUSE
    assert await webhooks.after(policy.BREAKER_PAUSE - SECOND) == 0
    assert await webhooks.after(SECOND) == 1, "one request tries it"
    endpoint = await webhooks.get(endpoint_id)
    assert endpoint.paused_until.ToDatetime(UTC) == webhooks.clock.now() + 2 * policy.BREAKER_PAUSE
    receiver.behaviour = answering(200)
    assert await webhooks.after(2 * policy.BREAKER_PAUSE) == 1
    assert (await webhooks.get(endpoint_id)).consecutive_failures == 0
    assert await webhooks.after(HOUR) == 7, "all others"
    assert all(each.status == DELIVERED for each in await webhooks.deliveries(endpoint_id))


async def test_five_days_of_failures_disable(webhooks: WebhookLab, receiver: Receiver) -> None:
    receiver.behaviour = answering(500)
    endpoint_id = (await webhooks.create(receiver.url)).endpoint.endpoint_id
    for day in range(6):
        assert not (await webhooks.get(endpoint_id)).disabled
        await webhooks.publish(f"p{day}")
        await webhooks.worker.sweep()
        webhooks.clock.advance(timedelta(days=1))
    endpoint = await webhooks.get(endpoint_id)
    assert endpoint.disabled_reason == webhooks_pb2.WEBHOOK_DISABLED_REASON_FAILING
    await webhooks.mesh.drain_events()
    page = await webhooks.stub.ListEvents(
        service_pb2.ListEventsRequest(subjects=["webhook-endpoint.disabled"])
    )
    assert [event.key for event in page.events] == [endpoint_id]


async def test_disabled_then_skipped_then_redelivered(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    endpoint_id = (await webhooks.create(receiver.url, "plan.*")).endpoint.endpoint_id
    (waiting,) = await webhooks.publish("p0")
    began = webhooks.clock.now()
    await webhooks.update(endpoint_id, disabled=True)
    skipped = await webhooks.publish("p1", "p2")
    assert await webhooks.worker.sweep() == 0
    found = await webhooks.deliveries(endpoint_id, status=SKIPPED)
    assert {each.event_id for each in found} == {waiting, *skipped}
    period = type_pb2.Period()
    period.start_at.FromDatetime(began - HOUR)
    period.end_at.FromDatetime(began + HOUR)
    refused = await reason_of(webhooks.redeliver(endpoint_id, period=period))
    assert refused == "WEBHOOK_ENDPOINT_DISABLED"
    await webhooks.update(endpoint_id, disabled=False)
    assert await webhooks.worker.sweep() == 0, "nothing is sent unasked"
    answer = await webhooks.redeliver(endpoint_id, period=period)
    assert (answer.redelivered, answer.more) == (3, False)
    assert await webhooks.worker.sweep() == 3
    sent = {received.headers["webhook-id"] for received in receiver.received}
    assert sent == {waiting, *skipped}
    assert (await webhooks.redeliver(endpoint_id, period=period)).redelivered == 0


async def test_a_period_is_redelivered_in_bounded_parts(
    webhooks: WebhookLab, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.events.app.webhooks.REDELIVERIES_MAX", 2)
    endpoint_id = (await webhooks.create(receiver.url, "plan.*")).endpoint.endpoint_id
    await webhooks.update(endpoint_id, disabled=True)
    await webhooks.publish("p1", "p2", "p3")
    await webhooks.update(endpoint_id, disabled=False)
    period = type_pb2.Period()
    period.start_at.FromDatetime(webhooks.clock.now() - HOUR)
    period.end_at.FromDatetime(webhooks.clock.now() + HOUR)
    first = await webhooks.redeliver(endpoint_id, period=period, status=SKIPPED)
    second = await webhooks.redeliver(endpoint_id, period=period, status=SKIPPED)
    assert [(a.redelivered, a.more) for a in (first, second)] == [(2, True), (1, False)]
