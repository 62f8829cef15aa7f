"""Webhooks: endpoints, secrets, and what was sent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from payments.events.v1 import events_service_pb2 as service_pb2
from payments.events.v1 import events_service_pb2_grpc

from services.events.app.webhooks import Webhooks
from services.events.messages import webhooks as messages
from services.runtime.commands import Commands, UseCase
from services.runtime.edge.paging import Page

# Each carries up to 16 KiB of an answer, and a page has to fit into a message.
ATTEMPTS_PAGE = 50
ATTEMPTS_PAGE_MAX = 200


class WebhookRpcs(events_service_pb2_grpc.EventServiceServicer):
    """The RPCs of webhooks."""

    def __init__(self, webhooks: Webhooks, commands: Commands) -> None:
        self._webhooks = webhooks
        self._commands = commands
        self._create = UseCase(
            "webhooks.create",
            webhooks.create,
            messages.created,
            service_pb2.CreateWebhookEndpointResponse,
            kept=messages.created_without_secret,
        )
        self._update = UseCase(
            "webhooks.update",
            webhooks.update,
            messages.changed,
            service_pb2.UpdateWebhookEndpointResponse,
        )
        self._delete_endpoint = UseCase(
            "webhooks.delete",
            webhooks.delete,
            messages.deleted,
            service_pb2.DeleteWebhookEndpointResponse,
        )
        self._rotate = UseCase(
            "webhooks.rotate",
            webhooks.rotate,
            messages.secret_rotated,
            service_pb2.RotateWebhookSecretResponse,
            kept=messages.rotated_without_secret,
        )
        self._test = UseCase(
            "webhooks.test",
            webhooks.publish_test,
            messages.tested,
            service_pb2.TestWebhookEndpointResponse,
        )
        self._redeliver = UseCase(
            "webhooks.redeliver",
            webhooks.redeliver,
            messages.redelivered,
            service_pb2.RedeliverWebhookResponse,
        )

    async def CreateWebhookEndpoint(
        self, request: service_pb2.CreateWebhookEndpointRequest, context: Any
    ) -> service_pb2.CreateWebhookEndpointResponse:
        """Make an endpoint; the stored answer leaves its secret out."""
        return await self._commands.run(self._create, messages.to_create(request), request)

    async def GetWebhookEndpoint(
        self, request: service_pb2.GetWebhookEndpointRequest, context: Any
    ) -> service_pb2.GetWebhookEndpointResponse:
        """Read an endpoint."""
        view = await self._webhooks.get(request.endpoint_id)
        return service_pb2.GetWebhookEndpointResponse(endpoint=messages.endpoint(view))

    async def ListWebhookEndpoints(
        self, request: service_pb2.ListWebhookEndpointsRequest, context: Any
    ) -> service_pb2.ListWebhookEndpointsResponse:
        """List endpoints by id, which is by age."""
        page = Page.of(request, "events.webhook_endpoints", {"after": str})
        found = await self._webhooks.page(page.after.get("after", ""), page.limit)
        endpoints, token = await page.cut(
            found, messages.endpoint, lambda view: {"after": view.endpoint.endpoint_id}
        )
        return service_pb2.ListWebhookEndpointsResponse(endpoints=endpoints, next_page_token=token)

    async def UpdateWebhookEndpoint(
        self, request: service_pb2.UpdateWebhookEndpointRequest, context: Any
    ) -> service_pb2.UpdateWebhookEndpointResponse:
        """Change an endpoint."""
        return await self._commands.run(self._update, messages.to_change(request), request)

    async def DeleteWebhookEndpoint(
        self, request: service_pb2.DeleteWebhookEndpointRequest, context: Any
    ) -> service_pb2.DeleteWebhookEndpointResponse:
        """Remove an endpoint."""
        return await self._commands.run(self._delete_endpoint, request.endpoint_id, request)

    async def RotateWebhookSecret(
        self, request: service_pb2.RotateWebhookSecretRequest, context: Any
    ) -> service_pb2.RotateWebhookSecretResponse:
        """Make a new secret; the stored answer leaves it out."""
        return await self._commands.run(self._rotate, messages.to_rotate(request), request)

    async def TestWebhookEndpoint(
        self, request: service_pb2.TestWebhookEndpointRequest, context: Any
    ) -> service_pb2.TestWebhookEndpointResponse:
        """Send a test, and wait for what comes of it."""
        response = await self._commands.run(self._test, request.endpoint_id, request)
        attempt = await self._webhooks.await_test(request.endpoint_id, response.event_id)
        if attempt is not None:
            response.attempt.CopyFrom(messages.attempt(attempt))
        return response

    async def ListWebhookDeliveries(
        self, request: service_pb2.ListWebhookDeliveriesRequest, context: Any
    ) -> service_pb2.ListWebhookDeliveriesResponse:
        """List deliveries, the newest first."""
        scope = f"events.webhook_deliveries:{request.endpoint_id}:{request.status}"
        page = Page.of(request, scope, {"at": datetime, "event": str})
        before = (page.after["at"], page.after["event"]) if page.after else None
        status = messages.status_of(request.status)
        found = await self._webhooks.deliveries(request.endpoint_id, status, before, page.limit)
        deliveries, token = await page.cut(
            found,
            messages.delivery,
            lambda each: {"at": each.created_at.isoformat(), "event": each.event_id},
        )
        return service_pb2.ListWebhookDeliveriesResponse(
            deliveries=deliveries, next_page_token=token
        )

    async def ListWebhookAttempts(
        self, request: service_pb2.ListWebhookAttemptsRequest, context: Any
    ) -> service_pb2.ListWebhookAttemptsResponse:
        """List attempts, the newest first."""
        scope = (
            f"events.webhook_attempts:{request.endpoint_id}:{request.event_id}:{request.outcome}"
        )
        page = Page.of(
            request, scope, {"before": str}, default=ATTEMPTS_PAGE, maximum=ATTEMPTS_PAGE_MAX
        )
        found = await self._webhooks.attempts(
            endpoint_id=request.endpoint_id,
            event_id=request.event_id,
            outcome=messages.outcome_of(request.outcome),
            before=page.after.get("before", ""),
            limit=page.limit,
        )
        attempts, token = await page.cut(
            found, messages.attempt, lambda each: {"before": each.attempt_id}
        )
        return service_pb2.ListWebhookAttemptsResponse(attempts=attempts, next_page_token=token)

    async def RedeliverWebhook(
        self, request: service_pb2.RedeliverWebhookRequest, context: Any
    ) -> service_pb2.RedeliverWebhookResponse:
        """Send again."""
        return await self._commands.run(self._redeliver, messages.to_redeliver(request), request)
