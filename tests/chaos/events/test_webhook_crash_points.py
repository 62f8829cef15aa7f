"""Kill -9 at each named point of webhooks: nothing is lost, nothing is made twice, and what is sent twice has one id.

One process after the other dies, each at another point of the job of a tenant of its own. The last one lives, and
finishes the job of everybody.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from uuid import NAMESPACE_OID, uuid5

import grpc
import pytest
from payments.events.v1 import events_pb2, events_service_pb2_grpc, webhooks_pb2
from payments.events.v1 import events_service_pb2 as service_pb2
from payments.type.v1 import type_pb2

from services.runtime.access import MeshTokens, Principal
from services.runtime.secrets import new_key
from tests.chaos import crash_points
from tests.support.events.lab import Lab, new_tenant
from tests.support.events.outside import payload_of
from tests.support.mesh.serving import MESH_SECRET
from tests.support.webhooks.lab import Receiver, receiving
from tests.support.webhooks.process import webhook_process

CONFIGURING = (
    "webhooks.create.before_commit",
    "webhooks.create.after_commit",
    "webhooks.update.before_commit",
    "webhooks.update.after_commit",
    "webhooks.rotate.before_commit",
    "webhooks.rotate.after_commit",
    "webhooks.delete.before_commit",
    "webhooks.delete.after_commit",
    "webhooks.test.before_commit",
    "webhooks.test.after_commit",
)
SENDING = (
    "webhooks.claim.before_commit",
    "webhooks.claim.after_commit",
    "webhooks.before_send",
    "webhooks.after_send",
    "webhooks.record.before_commit",
    "webhooks.record.after_commit",
    "webhooks.redeliver.before_commit",
    "webhooks.redeliver.after_commit",
    "webhooks.prune.before_commit",
    "webhooks.prune.after_commit",
)
# The first claims of a process find nothing to send.
AT_PASS = {"webhooks.claim.before_commit": 3, "webhooks.claim.after_commit": 3}
DEATH_SECONDS = 30.0
SUBJECT = "order.created"
EVENTS = 3
DELIVERED = webhooks_pb2.WEBHOOK_DELIVERY_STATUS_DELIVERED
SENDING_NOW = webhooks_pb2.WEBHOOK_ATTEMPT_OUTCOME_SENDING


@dataclass(slots=True)
class Job:
    """What one tenant does; its requests have the same ids at every run."""

    url: str
    tenant: str = field(default_factory=new_tenant)

    def request_id(self, name: str) -> str:
        return str(uuid5(NAMESPACE_OID, f"{self.tenant}/{name}"))

    async def run(self, stub: events_service_pb2_grpc.EventServiceAsyncStub) -> str:
        """Do everything once; returns the id of the endpoint."""
        kept, spare = [await self._create(stub, name) for name in ("kept", "spare")]
        delete = service_pb2.DeleteWebhookEndpointRequest(
            request_id=self.request_id("delete"), endpoint_id=spare
        )
        await stub.DeleteWebhookEndpoint(delete, metadata=self._credentials())
        update = service_pb2.UpdateWebhookEndpointRequest(
            request_id=self.request_id("update"), endpoint_id=kept, description="kept"
        )
        await stub.UpdateWebhookEndpoint(update, metadata=self._credentials())
        rotate = service_pb2.RotateWebhookSecretRequest(
            request_id=self.request_id("rotate"), endpoint_id=kept
        )
        await stub.RotateWebhookSecret(rotate, metadata=self._credentials())
        await self._publish(stub)
        test = service_pb2.TestWebhookEndpointRequest(
            request_id=self.request_id("test"), endpoint_id=kept
        )
        await stub.TestWebhookEndpoint(test, metadata=self._credentials())
        await self._all_delivered(stub, kept)
        redeliver = service_pb2.RedeliverWebhookRequest(
            request_id=self.request_id("redeliver"), endpoint_id=kept, event_id=self._event(0)
        )
        await stub.RedeliverWebhook(redeliver, metadata=self._credentials())
        await self._all_delivered(stub, kept)
        return kept

    async def deliveries(
        self, stub: events_service_pb2_grpc.EventServiceAsyncStub, endpoint_id: str
    ) -> list[webhooks_pb2.WebhookDelivery]:
        request = service_pb2.ListWebhookDeliveriesRequest(endpoint_id=endpoint_id)
        answer = await stub.ListWebhookDeliveries(request, metadata=self._credentials())
        return list(answer.deliveries)

    async def check(
        self,
        stub: events_service_pb2_grpc.EventServiceAsyncStub,
        endpoint_id: str,
        receiver: Receiver,
    ) -> None:
        """Compare what there is with what must be."""
        request = service_pb2.ListWebhookEndpointsRequest()
        found = await stub.ListWebhookEndpoints(request, metadata=self._credentials())
        (endpoint,) = found.endpoints
        assert endpoint.endpoint_id == endpoint_id
        assert len(endpoint.secrets) == 2, "one of its making, one of its rotation"
        deliveries = await self.deliveries(stub, endpoint_id)
        assert Counter(each.subject for each in deliveries) == {
            SUBJECT: EVENTS,
            "webhook-endpoint.tested": 1,
        }
        got = Counter(
            received.headers["webhook-id"]
            for received in receiver.received
            if received.path.endswith(self.tenant)
        )
        assert set(got) == {each.event_id for each in deliveries}
        assert got[self._event(0)] >= 2, "it was redelivered"
        attempts = await stub.ListWebhookAttempts(
            service_pb2.ListWebhookAttemptsRequest(), metadata=self._credentials()
        )
        assert all(each.outcome != SENDING_NOW for each in attempts.attempts)
        assert len(attempts.attempts) >= sum(got.values()), "no request without its attempt"

    async def _create(self, stub: events_service_pb2_grpc.EventServiceAsyncStub, name: str) -> str:
        request = service_pb2.CreateWebhookEndpointRequest(
            request_id=self.request_id(name),
            url=f"{self.url}/{self.tenant}",
            subjects=[SUBJECT],
        )
        made = await stub.CreateWebhookEndpoint(request, metadata=self._credentials())
        return str(made.endpoint.endpoint_id)

    async def _publish(self, stub: events_service_pb2_grpc.EventServiceAsyncStub) -> None:
        payload = json.dumps(payload_of(SUBJECT)).encode()
        events = [
            events_pb2.Event(id=self._event(number), subject=SUBJECT, json=payload)
            for number in range(EVENTS)
        ]
        request = service_pb2.PublishEventsRequest(events=events)
        for result in (await stub.PublishEvents(request, metadata=self._credentials())).results:
            assert result.outcome in (type_pb2.OUTCOME_ACCEPTED, type_pb2.OUTCOME_DUPLICATE)

    def _event(self, number: int) -> str:
        return f"{self.tenant}-{number}"

    async def _all_delivered(
        self, stub: events_service_pb2_grpc.EventServiceAsyncStub, endpoint_id: str
    ) -> None:
        async with asyncio.timeout(DEATH_SECONDS):
            while True:
                found = await self.deliveries(stub, endpoint_id)
                if len(found) > EVENTS and all(each.status == DELIVERED for each in found):
                    return
                await asyncio.sleep(0.02)

    def _credentials(self) -> tuple[tuple[str, str], ...]:
        principal = Principal(self.tenant, "test", frozenset({"*"}))
        token = MeshTokens(MESH_SECRET).issue(principal)
        return (("authorization", f"Mesh {token}"),)


@pytest.mark.parametrize("points", [CONFIGURING, SENDING], ids=["configuring", "sending"])
async def test_nothing_is_lost_or_made_twice(lab: Lab, points: Sequence[str]) -> None:
    urls, keys = json.dumps(asdict(lab.urls)), new_key()
    async with receiving() as receiver:
        points = crash_points.chosen(points)
        jobs = [Job(receiver.url) for _ in points]
        for job, point in zip(jobs, points, strict=True):
            await die_at(point, job, urls, keys)
        # As a minute later: nobody holds what the dead had claimed.
        await lab.rows("UPDATE events.webhook_delivery SET lease_until = clock_timestamp()")
        await lab.rows("UPDATE mesh.lane_lease SET until_at = clock_timestamp()")
        async with webhook_process(urls, keys, {**os.environ}) as (_, port), channel(port) as stub:
            endpoints = await asyncio.gather(*(job.run(stub) for job in jobs))
            for job, endpoint_id in zip(jobs, endpoints, strict=True):
                assert await job.run(stub) == endpoint_id, "again, nothing further happens"
                await job.check(stub, endpoint_id, receiver)


async def die_at(point: str, job: Job, urls: str, keys: str) -> None:
    """Run a job on a process that dies at a point of it."""
    environment = {**os.environ, "TOLLMESH_CRASHPOINT": f"{point}:{AT_PASS.get(point, 1)}"}
    async with webhook_process(urls, keys, environment) as (process, port):
        if port:
            async with channel(port) as stub:
                try:
                    await job.run(stub)
                except grpc.aio.AioRpcError as error:
                    assert error.code() is grpc.StatusCode.UNAVAILABLE, error
        assert await process.ended(DEATH_SECONDS) == -signal.SIGKILL, f"{point} was never passed"


class channel:  # noqa: N801 - reads as a statement at its place of use
    """A stub for a port, until the block ends."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
        )

    async def __aenter__(self) -> events_service_pb2_grpc.EventServiceAsyncStub:
        return events_service_pb2_grpc.EventServiceStub(self._channel)

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()
