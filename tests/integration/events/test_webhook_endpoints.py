"""Endpoints of webhooks: made, changed, tested and removed, and the secrets that they are signed with."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, timedelta
from uuid import uuid4

import grpc
import pytest
from payments.events.v1 import events_service_pb2 as service_pb2
from payments.events.v1 import webhooks_pb2

from services.events.domain import webhooks_policy as policy
from services.runtime.clock import ManualClock
from services.runtime.secrets import new_key
from tests.support.events.lab import Lab
from tests.support.webhooks.checks import (
    DELIVERED,
    HOUR,
    MINUTE,
    clear,
    outcomes,
    reason_of,
    signed_by_ed25519,
    typed,
    verified,
)
from tests.support.webhooks.lab import (
    NOW,
    Received,
    Receiver,
    WebhookLab,
    answering,
    webhook_mesh,
)

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
    assert await reason_of(webhooks.deliveries(made[1])) == "NOT_FOUND"
    asked = webhooks.stub.GetWebhookEndpoint(
        service_pb2.GetWebhookEndpointRequest(endpoint_id=made[1])
    )
    assert await reason_of(asked) == "NOT_FOUND"


async def test_an_endpoint_that_there_is_not_has_no_list_at_all(
    webhooks: WebhookLab, receiver: Receiver
) -> None:
    made = (await webhooks.create(receiver.url)).endpoint.endpoint_id
    assert await webhooks.deliveries(made) == []
    for unknown in ("whe_none", made + "0", made.upper()):
        asked = service_pb2.ListWebhookAttemptsRequest(endpoint_id=unknown)
        assert await reason_of(webhooks.stub.ListWebhookAttempts(asked)) == "NOT_FOUND"
        assert await reason_of(webhooks.deliveries(unknown)) == "NOT_FOUND"


@pytest.mark.parametrize("subject", ["none.such", "paymnt.*", "plan.creatd", "plan.created.*"])
async def test_subjects_that_no_type_has_are_refused(
    webhooks: WebhookLab, receiver: Receiver, subject: str
) -> None:
    assert await reason_of(webhooks.create(receiver.url, "plan.*", subject)) == "EVENT_TYPE_UNKNOWN"
    made = (await webhooks.create(receiver.url, "plan.*")).endpoint.endpoint_id
    assert await reason_of(webhooks.update(made, subjects=[subject])) == "EVENT_TYPE_UNKNOWN"


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
