"""Webhooks end to end: a real mesh, a real receiver, and a time that moves when it is told to."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import grpc
import pytest
from aiohttp import web
from cloudevents.core.bindings.http import HTTPMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.rpc import status_pb2
from payments.events.v1 import events_pb2, webhooks_pb2
from payments.events.v1 import events_service_pb2 as service_pb2
from payments.events.v1.pricing_events_pb2 import PlanCreated
from payments.type.v1 import type_pb2
from standardwebhooks.webhooks import Webhook

from services.events import bootstrap, reactions
from services.events.domain import webhooks_policy as policy
from services.runtime.clock import ManualClock
from services.runtime.context import acting
from services.runtime.errors import DomainError
from services.runtime.events import Envelope
from services.runtime.secrets import new_key
from services.runtime.status import from_status
from tests.support.events import Lab, call
from tests.support.mesh import running
from tests.support.webhooks import (
    ALLOW,
    NOW,
    Received,
    Receiver,
    WebhookLab,
    answering,
    receiving,
    webhook_mesh,
)

PENDING = webhooks_pb2.WEBHOOK_DELIVERY_STATUS_PENDING
DELIVERED = webhooks_pb2.WEBHOOK_DELIVERY_STATUS_DELIVERED
FAILED = webhooks_pb2.WEBHOOK_DELIVERY_STATUS_FAILED
SKIPPED = webhooks_pb2.WEBHOOK_DELIVERY_STATUS_SKIPPED
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


@pytest.fixture
async def webhooks(lab: Lab) -> AsyncIterator[WebhookLab]:
    # Signatures are checked by a library that looks at the clock of the machine.
    clock = ManualClock(datetime.now(UTC))
    async with webhook_mesh(lab.urls, clock) as (mesh, worker):
        yield WebhookLab(mesh, worker, clock)
    await clear(lab)


async def clear(lab: Lab) -> None:
    """What one test left waiting is none of the next one's business."""
    await lab.rows("DELETE FROM events.webhook_endpoint")
    await lab.rows("DELETE FROM events.webhook_delivery")


def outcomes(attempts: list[webhooks_pb2.WebhookAttempt]) -> list[str]:
    names = [webhooks_pb2.WebhookAttemptOutcome.Name(each.outcome) for each in attempts]
    return [name.removeprefix("WEBHOOK_ATTEMPT_OUTCOME_") for name in names]


async def reason_of(asked: object) -> str:
    """Await a call that must be refused; returns the reason."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await asked  # type: ignore[misc]
    return typed(refused.value).reason


def typed(error: grpc.aio.AioRpcError) -> DomainError:
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    found = from_status(status_pb2.Status.FromString(details))
    assert found is not None
    return found


def verified(received: Received, secret: str) -> object:
    """Check v1 by the library of Standard Webhooks; returns the body."""
    return Webhook(secret).verify(received.body, received.headers)


def signed_by_ed25519(received: Received, public_key: str) -> bool:
    """Check v1a by what the specification says."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    headers = received.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + received.body
    for text in headers["webhook-signature"].split(" "):
        version, _, signature = text.partition(",")
        if version != "v1a":
            continue
        try:
            key.verify(base64.b64decode(signature), signed)
        except InvalidSignature:
            continue
        return True
    return False


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
    await webhooks.create(receiver.url + "/other", "plan.updated", "order.*", "plans.*")
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


# ---- Secrets


async def test_rotation_overlaps(webhooks: WebhookLab, receiver: Receiver) -> None:
    made = await webhooks.create(receiver.url)
    endpoint_id = made.endpoint.endpoint_id
    rotated = await webhooks.rotate(endpoint_id, HOUR)
    assert rotated.secret != made.secret
    assert [bool(s.HasField("expires_at")) for s in rotated.endpoint.secrets] == [False, True]
    await webhooks.publish("p1")
    await webhooks.worker.sweep()
    for secret in (made.secret, rotated.secret):
        verified(receiver.received[0], secret)
    webhooks.clock.advance(HOUR)
    await webhooks.publish("p2")
    await webhooks.worker.sweep()
    assert len(receiver.received[1].headers["webhook-signature"].split(" ")) == 1
    assert [s.secret_id for s in (await webhooks.get(endpoint_id)).secrets] == [
        rotated.endpoint.secrets[0].secret_id
    ]


async def test_after_a_leak_the_old_secret_ends_at_once(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    made = await webhooks.create(receiver.url)
    rotated = await webhooks.rotate(made.endpoint.endpoint_id, timedelta(0))
    await webhooks.publish("p1")
    await webhooks.worker.sweep()
    (received,) = receiver.received
    verified(received, rotated.secret)
    assert len(received.headers["webhook-signature"].split(" ")) == 1


async def test_from_hmac_to_ed25519_with_both_for_a_while(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    made = await webhooks.create(receiver.url)
    signing = webhooks_pb2.WEBHOOK_SIGNING_ED25519
    rotated = await webhooks.rotate(made.endpoint.endpoint_id, signing=signing)
    assert rotated.secret.startswith("whpk_")
    assert rotated.endpoint.secrets[0].public_key == rotated.secret
    expiry = rotated.endpoint.secrets[1].expires_at.ToDatetime(UTC)
    assert expiry == webhooks.clock.now() + timedelta(hours=24)
    await webhooks.publish("p1")
    await webhooks.worker.sweep()
    (received,) = receiver.received
    verified(received, made.secret)
    assert signed_by_ed25519(received, rotated.secret)
    tampered = Received(received.path, received.headers, received.body + b" ")
    assert not signed_by_ed25519(tampered, rotated.secret)
    again = await webhooks.rotate(made.endpoint.endpoint_id)
    assert again.secret.startswith("whpk_"), "the kind stays"


async def test_rotations_are_bounded_but_a_leak_can_always_be_stopped(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    endpoint_id = (await webhooks.create(receiver.url)).endpoint.endpoint_id
    for _ in range(4):
        await webhooks.rotate(endpoint_id)
    assert await reason_of(webhooks.rotate(endpoint_id)) == "WEBHOOK_SECRETS_FULL"
    assert len((await webhooks.rotate(endpoint_id, timedelta(0))).endpoint.secrets) == 1


async def test_secrets_are_shown_once_and_kept_closed(
    webhooks: WebhookLab, receiver: Receiver, lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    request = service_pb2.CreateWebhookEndpointRequest(
        request_id=str(uuid4()), url=receiver.url, subjects=["*"]
    )
    first = await webhooks.stub.CreateWebhookEndpoint(request)
    again = await webhooks.stub.CreateWebhookEndpoint(request)
    assert (first.secret[:6], again.secret) == ("whsec_", "")
    assert first.endpoint == again.endpoint
    rotated = await webhooks.rotate(first.endpoint.endpoint_id)
    await webhooks.publish("p1")
    await webhooks.worker.sweep()
    for secret in (first.secret, rotated.secret):
        raw = base64.b64decode(secret.removeprefix("whsec_"))
        for table in (
            "events.webhook_secret",
            "mesh.idempotency",
            "mesh.audit",
            "mesh.event",
        ):
            rows = await lab.rows(f"SELECT t::text AS row FROM {table} AS t")
            kept = "\n".join(row["row"] for row in rows)
            assert rows
            for form in (secret, secret[6:], raw.hex(), base64.b64encode(raw).hex()):
                assert form not in kept, table
        assert secret[6:] not in caplog.text


async def test_configuration_leaves_its_trail(
    webhooks: WebhookLab, receiver: Receiver, lab: Lab
) -> None:
    endpoint_id = (await webhooks.create(receiver.url)).endpoint.endpoint_id
    await webhooks.update(endpoint_id, description="ours", subjects=["plan.*"], concurrency=2)
    await webhooks.update(endpoint_id, description="ours")
    await webhooks.rotate(endpoint_id)
    await webhooks.stub.DeleteWebhookEndpoint(
        service_pb2.DeleteWebhookEndpointRequest(request_id=str(uuid4()), endpoint_id=endpoint_id)
    )
    rows = await lab.rows(
        "SELECT entity, before, after FROM mesh.audit WHERE tenant_id = %s ORDER BY audit_id",
        webhooks.tenant,
    )
    assert [row["entity"] for row in rows] == [
        "webhook_endpoint",
        "webhook_secret",
        "webhook_endpoint",
        "webhook_secret",
        "webhook_secret",
        "webhook_endpoint",
    ]
    changed = rows[2]
    assert (changed["before"]["subjects"], changed["after"]["subjects"]) == (["*"], ["plan.*"])
    assert rows[-1]["after"] is None


# ---- Without its key


async def test_without_its_key_it_says_so_and_goes_on_once_it_is_set(
    lab: Lab, receiver: Receiver
) -> None:
    clock = ManualClock(NOW)
    keys = new_key()
    async with webhook_mesh(lab.urls, clock, secrets_keys="") as (mesh, worker):
        webhooks = WebhookLab(mesh, worker, clock)
        assert await reason_of(webhooks.create(receiver.url)) == "SECRETS_KEY_MISSING"
    async with webhook_mesh(lab.urls, clock, secrets_keys=keys) as (mesh, worker):
        webhooks = WebhookLab(mesh, worker, clock)
        tenant = webhooks.tenant
        endpoint_id = (await webhooks.create(receiver.url)).endpoint.endpoint_id
        await webhooks.publish("p1")
    async with webhook_mesh(lab.urls, clock, secrets_keys=new_key()) as (mesh, worker):
        webhooks = WebhookLab(mesh, worker, clock, tenant)
        assert await worker.sweep() == 1
        assert receiver.received == []
        (attempt,) = await webhooks.attempts()
        assert outcomes([attempt]) == ["NOT_SENT"]
        assert "TOLLMESH_SECRETS_KEYS" in attempt.error
        assert (await webhooks.get(endpoint_id)).consecutive_failures == 0
    async with webhook_mesh(lab.urls, clock, secrets_keys=f"{new_key()},{keys}") as (mesh, worker):
        webhooks = WebhookLab(mesh, worker, clock, tenant)
        assert await webhooks.after(policy.OURS_PAUSE) == 1
        (delivery,) = await webhooks.deliveries(endpoint_id)
        assert (delivery.status, delivery.tries) == (DELIVERED, 1)
    await clear(lab)


# ---- Testing an endpoint


async def test_a_test_goes_the_real_way_to_its_endpoint_alone(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    made = await webhooks.create(receiver.url + "/tested", "order.*")
    await webhooks.create(receiver.url + "/other", "*")
    receiver.behaviour = answering(200, "hello")
    request = service_pb2.TestWebhookEndpointRequest(
        request_id=str(uuid4()), endpoint_id=made.endpoint.endpoint_id
    )
    answer = await tried(webhooks, request)
    assert outcomes([answer.attempt]) == ["SUCCEEDED"]
    assert answer.attempt.response == "hello"
    (received,) = receiver.received
    assert received.path == "/hook/tested"
    assert received.headers["webhook-id"] == answer.event_id
    verified(received, made.secret)
    assert await tried(webhooks, request) == answer, "asked again, nothing further is sent"
    assert len(receiver.received) == 1


async def test_a_test_that_fails_is_told_and_not_repeated_even_while_paused(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    receiver.behaviour = answering(429, "later", Retry_After="3600")
    endpoint_id = (await webhooks.create(receiver.url)).endpoint.endpoint_id
    await webhooks.publish("p1")
    await webhooks.worker.sweep()
    request = service_pb2.TestWebhookEndpointRequest(
        request_id=str(uuid4()), endpoint_id=endpoint_id
    )
    answer = await tried(webhooks, request)
    assert (outcomes([answer.attempt]), answer.attempt.status_code) == (["REFUSED"], 429)
    assert await webhooks.after(59 * MINUTE) == 0


async def test_nothing_can_be_tested_that_is_disabled(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    endpoint_id = (await webhooks.create(receiver.url)).endpoint.endpoint_id
    await webhooks.update(endpoint_id, disabled=True)
    request = service_pb2.TestWebhookEndpointRequest(
        request_id=str(uuid4()), endpoint_id=endpoint_id
    )
    refused = await reason_of(webhooks.stub.TestWebhookEndpoint(request))
    assert refused == "WEBHOOK_ENDPOINT_DISABLED"


async def test_a_test_that_nobody_sends_is_answered_without_its_attempt(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    endpoint_id = (await webhooks.create(receiver.url)).endpoint.endpoint_id
    request = service_pb2.TestWebhookEndpointRequest(
        request_id=str(uuid4()), endpoint_id=endpoint_id
    )
    answer = await webhooks.stub.TestWebhookEndpoint(request, timeout=1.5)
    assert answer.event_id
    assert not answer.HasField("attempt")


async def tried(
    webhooks: WebhookLab, request: service_pb2.TestWebhookEndpointRequest
) -> service_pb2.TestWebhookEndpointResponse:
    """Ask for a test, and let the sender work until it was answered."""
    asked = asyncio.ensure_future(webhooks.stub.TestWebhookEndpoint(request, timeout=20))
    while not asked.done():
        await webhooks.worker.sweep()
        await asyncio.sleep(0.02)
    answer: service_pb2.TestWebhookEndpointResponse = await asked
    return answer


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
    tasks, _ = await webhooks.worker._take()
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
    paused, _ = await webhooks.worker._take()
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


# ---- Endpoints


async def test_endpoints_are_made_read_changed_and_removed(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    made = [(await webhooks.create(receiver.url)).endpoint.endpoint_id for _ in range(3)]
    request = service_pb2.ListWebhookEndpointsRequest(page_size=2)
    first = await webhooks.stub.ListWebhookEndpoints(request)
    request.page_token = first.next_page_token
    second = await webhooks.stub.ListWebhookEndpoints(request)
    found = [each.endpoint_id for each in (*first.endpoints, *second.endpoints)]
    assert (found, second.next_page_token) == (made, "")
    changed = await webhooks.update(made[0], url=receiver.url + "/new", concurrency=1)
    assert changed == await webhooks.get(made[0])
    assert (changed.url, changed.concurrency) == (receiver.url + "/new", 1)
    await webhooks.publish("p1")
    delete = service_pb2.DeleteWebhookEndpointRequest(request_id=str(uuid4()), endpoint_id=made[1])
    await webhooks.stub.DeleteWebhookEndpoint(delete)
    await webhooks.stub.DeleteWebhookEndpoint(delete)
    assert await webhooks.worker.sweep() == 2
    assert await webhooks.deliveries(made[1]) == [], "what waited for it is dropped"
    asked = webhooks.stub.GetWebhookEndpoint(
        service_pb2.GetWebhookEndpointRequest(endpoint_id=made[1])
    )
    assert await reason_of(asked) == "NOT_FOUND"


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/latest/meta-data",
        "http://hooks.example/",
        "https://hooks.example:22/",
        "https://user@hooks.example/",
    ],
)
async def test_a_url_that_no_webhook_can_go_to_is_refused(webhooks: WebhookLab, url: str) -> None:
    assert await reason_of(webhooks.create(url)) == "WEBHOOK_URL_REFUSED"


async def test_a_change_to_such_a_url_is_refused(webhooks: WebhookLab, receiver: Receiver) -> None:
    endpoint_id = (await webhooks.create(receiver.url)).endpoint.endpoint_id
    refused = await reason_of(webhooks.update(endpoint_id, url="https://192.168.0.1/"))
    assert refused == "WEBHOOK_URL_REFUSED"


async def test_endpoints_of_a_tenant_are_bounded(
    webhooks: WebhookLab, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.events.app.webhooks.ENDPOINTS_MAX", 2)
    made = await asyncio.gather(
        *(webhooks.create(receiver.url) for _ in range(4)), return_exceptions=True
    )
    refused = [each for each in made if isinstance(each, grpc.aio.AioRpcError)]
    assert len(refused) == 2
    assert {getattr(typed(each), "reason", "") for each in refused} == {"WEBHOOK_ENDPOINTS_FULL"}


async def test_attempts_page_and_filter(webhooks: WebhookLab, receiver: Receiver) -> None:
    endpoint_id = (await webhooks.create(receiver.url)).endpoint.endpoint_id
    events = await webhooks.publish("p1", "p2", "p3")
    await webhooks.worker.sweep()
    receiver.behaviour = answering(500)
    (failed,) = await webhooks.publish("p4")
    await webhooks.worker.sweep()
    refused = webhooks_pb2.WEBHOOK_ATTEMPT_OUTCOME_REFUSED
    found = await webhooks.attempts(endpoint_id=endpoint_id, outcome=refused)
    assert [each.event_id for each in found] == [failed]
    assert len(await webhooks.attempts(event_id=events[0])) == 1
    request = service_pb2.ListWebhookAttemptsRequest(page_size=3)
    first = await webhooks.stub.ListWebhookAttempts(request)
    request.page_token = first.next_page_token
    second = await webhooks.stub.ListWebhookAttempts(request)
    paged = [each.event_id for each in (*first.attempts, *second.attempts)]
    assert (len(paged), set(paged), second.next_page_token) == (4, {*events, failed}, "")
    asked = service_pb2.ListWebhookDeliveriesRequest(endpoint_id=endpoint_id, page_size=3)
    page = await webhooks.stub.ListWebhookDeliveries(asked)
    asked.page_token = page.next_page_token
    rest = await webhooks.stub.ListWebhookDeliveries(asked)
    deliveries = (*page.deliveries, *rest.deliveries)
    assert {each.event_id for each in deliveries} == {*events, failed}
    assert len(deliveries) == 4


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


async def test_an_event_that_is_not_kept_any_more_ends_its_delivery(
    webhooks: WebhookLab, receiver: Receiver, lab: Lab
) -> None:
    endpoint_id = (await webhooks.create(receiver.url)).endpoint.endpoint_id
    (event_id,) = await webhooks.publish("p1")
    await lab.rows("DELETE FROM mesh.feed WHERE event_id = %s", event_id)
    await webhooks.worker.sweep()
    (attempt,) = await webhooks.attempts()
    assert (outcomes([attempt]), "not kept" in attempt.error) == (["NOT_SENT"], True)
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
    build = [bootstrap.build]
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
    build = [bootstrap.build]
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
