"""Webhooks: endpoints, secrets, and what was sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from payments.events.v1 import events_service_pb2 as service_pb2
from payments.events.v1 import events_service_pb2_grpc, webhooks_pb2

from services.events.app.webhooks import OVERLAP_DEFAULT, Change, Shown, Wanted, Webhooks
from services.events.domain.webhooks import (
    CONCURRENCY_DEFAULT,
    Attempt,
    Delivery,
    DeliveryStatus,
    DisabledReason,
    Endpoint,
    Format,
    Outcome,
    Secret,
    Signing,
)
from services.runtime.database import UnitOfWork
from services.runtime.edge.paging import clamp_page_size, decode_token, encode_token
from services.runtime.idempotency import Idempotency

# Each carries up to 16 KiB of an answer, and a page has to fit into a message.
ATTEMPTS_PAGE = 50
ATTEMPTS_PAGE_MAX = 200
_ENDPOINTS = "events.webhook_endpoints"

NameT = TypeVar("NameT")

_FORMATS = {
    format_: webhooks_pb2.WebhookFormat.Value(f"WEBHOOK_FORMAT_{format_.value}")
    for format_ in Format
}
_SIGNINGS = {
    kind: webhooks_pb2.WebhookSigning.Value(f"WEBHOOK_SIGNING_{kind.value}") for kind in Signing
}
_STATUSES = {
    status: webhooks_pb2.WebhookDeliveryStatus.Value(f"WEBHOOK_DELIVERY_STATUS_{status.value}")
    for status in DeliveryStatus
}
_OUTCOMES = {
    outcome: webhooks_pb2.WebhookAttemptOutcome.Value(f"WEBHOOK_ATTEMPT_OUTCOME_{outcome.value}")
    for outcome in Outcome
}
_REASONS = {
    reason: webhooks_pb2.WebhookDisabledReason.Value(
        f"WEBHOOK_DISABLED_REASON_{reason.value or 'UNSPECIFIED'}"
    )
    for reason in DisabledReason
}


class WebhookRpcs(events_service_pb2_grpc.EventServiceServicer):
    """The RPCs of webhooks."""

    _webhooks: Webhooks
    _idempotency: Idempotency

    async def CreateWebhookEndpoint(
        self, request: service_pb2.CreateWebhookEndpointRequest, context: Any
    ) -> service_pb2.CreateWebhookEndpointResponse:
        """Make an endpoint; the stored answer leaves its secret out."""
        secrets: list[str] = []

        async def handler(work: UnitOfWork) -> service_pb2.CreateWebhookEndpointResponse:
            shown = await self._webhooks.create(work, _wanted(request))
            secrets.append(shown.secret)
            return service_pb2.CreateWebhookEndpointResponse(endpoint=_endpoint(shown))

        response = await self._idempotency.once(
            "webhooks.create", request, service_pb2.CreateWebhookEndpointResponse, handler
        )
        response.secret = secrets[0] if secrets else ""
        return response

    async def GetWebhookEndpoint(
        self, request: service_pb2.GetWebhookEndpointRequest, context: Any
    ) -> service_pb2.GetWebhookEndpointResponse:
        """Read an endpoint."""
        shown = await self._webhooks.get(request.endpoint_id)
        return service_pb2.GetWebhookEndpointResponse(endpoint=_endpoint(shown))

    async def ListWebhookEndpoints(
        self, request: service_pb2.ListWebhookEndpointsRequest, context: Any
    ) -> service_pb2.ListWebhookEndpointsResponse:
        """List endpoints by id, which is by age."""
        token = decode_token(request.page_token, _ENDPOINTS, {"after": str})
        size = clamp_page_size(request.page_size)
        found = await self._webhooks.page(token.get("after", ""), size + 1)
        response = service_pb2.ListWebhookEndpointsResponse(
            endpoints=[_endpoint(shown) for shown in found[:size]]
        )
        if len(found) > size:
            last = found[size - 1].endpoint.endpoint_id
            response.next_page_token = encode_token({"after": last}, _ENDPOINTS)
        return response

    async def UpdateWebhookEndpoint(
        self, request: service_pb2.UpdateWebhookEndpointRequest, context: Any
    ) -> service_pb2.UpdateWebhookEndpointResponse:
        """Change an endpoint."""

        async def handler(work: UnitOfWork) -> service_pb2.UpdateWebhookEndpointResponse:
            shown = await self._webhooks.update(work, request.endpoint_id, _change(request))
            return service_pb2.UpdateWebhookEndpointResponse(endpoint=_endpoint(shown))

        return await self._idempotency.once(
            "webhooks.update", request, service_pb2.UpdateWebhookEndpointResponse, handler
        )

    async def DeleteWebhookEndpoint(
        self, request: service_pb2.DeleteWebhookEndpointRequest, context: Any
    ) -> service_pb2.DeleteWebhookEndpointResponse:
        """Remove an endpoint."""

        async def handler(work: UnitOfWork) -> service_pb2.DeleteWebhookEndpointResponse:
            await self._webhooks.delete(work, request.endpoint_id)
            return service_pb2.DeleteWebhookEndpointResponse()

        return await self._idempotency.once(
            "webhooks.delete", request, service_pb2.DeleteWebhookEndpointResponse, handler
        )

    async def RotateWebhookSecret(
        self, request: service_pb2.RotateWebhookSecretRequest, context: Any
    ) -> service_pb2.RotateWebhookSecretResponse:
        """Make a new secret; the stored answer leaves it out."""
        secrets: list[str] = []
        has_overlap = request.HasField("overlap")
        overlap = request.overlap.ToTimedelta() if has_overlap else OVERLAP_DEFAULT

        async def handler(work: UnitOfWork) -> service_pb2.RotateWebhookSecretResponse:
            wanted = _named(_SIGNINGS, request.signing)
            shown = await self._webhooks.rotate(work, request.endpoint_id, overlap, wanted)
            secrets.append(shown.secret)
            return service_pb2.RotateWebhookSecretResponse(endpoint=_endpoint(shown))

        response = await self._idempotency.once(
            "webhooks.rotate", request, service_pb2.RotateWebhookSecretResponse, handler
        )
        response.secret = secrets[0] if secrets else ""
        return response

    async def TestWebhookEndpoint(
        self, request: service_pb2.TestWebhookEndpointRequest, context: Any
    ) -> service_pb2.TestWebhookEndpointResponse:
        """Send a test, and wait for what comes of it."""

        async def handler(work: UnitOfWork) -> service_pb2.TestWebhookEndpointResponse:
            event_id = await self._webhooks.publish_test(work, request.endpoint_id)
            return service_pb2.TestWebhookEndpointResponse(event_id=event_id)

        response = await self._idempotency.once(
            "webhooks.test", request, service_pb2.TestWebhookEndpointResponse, handler
        )
        attempt = await self._webhooks.await_test(request.endpoint_id, response.event_id)
        if attempt is not None:
            response.attempt.CopyFrom(_attempt(attempt))
        return response

    async def ListWebhookDeliveries(
        self, request: service_pb2.ListWebhookDeliveriesRequest, context: Any
    ) -> service_pb2.ListWebhookDeliveriesResponse:
        """List deliveries, the newest first."""
        scope = f"events.webhook_deliveries:{request.endpoint_id}:{request.status}"
        size = clamp_page_size(request.page_size)
        found = await self._webhooks.deliveries(
            request.endpoint_id,
            _named(_STATUSES, request.status),
            _before(request.page_token, scope),
            size + 1,
        )
        response = service_pb2.ListWebhookDeliveriesResponse(
            deliveries=[_delivery(each) for each in found[:size]]
        )
        if len(found) > size:
            last = found[size - 1]
            place = {"at": last.created_at.isoformat(), "event": last.event_id}
            response.next_page_token = encode_token(place, scope)
        return response

    async def ListWebhookAttempts(
        self, request: service_pb2.ListWebhookAttemptsRequest, context: Any
    ) -> service_pb2.ListWebhookAttemptsResponse:
        """List attempts, the newest first."""
        scope = (
            f"events.webhook_attempts:{request.endpoint_id}:{request.event_id}:{request.outcome}"
        )
        token = decode_token(request.page_token, scope, {"before": str})
        size = clamp_page_size(request.page_size, ATTEMPTS_PAGE, ATTEMPTS_PAGE_MAX)
        found = await self._webhooks.attempts(
            endpoint_id=request.endpoint_id,
            event_id=request.event_id,
            outcome=_named(_OUTCOMES, request.outcome),
            before=token.get("before", ""),
            limit=size + 1,
        )
        response = service_pb2.ListWebhookAttemptsResponse(
            attempts=[_attempt(each) for each in found[:size]]
        )
        if len(found) > size:
            last = found[size - 1].attempt_id
            response.next_page_token = encode_token({"before": last}, scope)
        return response

    async def RedeliverWebhook(
        self, request: service_pb2.RedeliverWebhookRequest, context: Any
    ) -> service_pb2.RedeliverWebhookResponse:
        """Send again."""

        async def handler(work: UnitOfWork) -> service_pb2.RedeliverWebhookResponse:
            if request.WhichOneof("what") == "event_id":
                await self._webhooks.redeliver_event(work, request.endpoint_id, request.event_id)
                return service_pb2.RedeliverWebhookResponse(redelivered=1)
            count, more = await self._webhooks.redeliver_period(
                work,
                request.endpoint_id,
                _named(_STATUSES, request.status),
                *_bounds(request),
            )
            return service_pb2.RedeliverWebhookResponse(redelivered=count, more=more)

        return await self._idempotency.once(
            "webhooks.redeliver", request, service_pb2.RedeliverWebhookResponse, handler
        )


def _named(names: Mapping[NameT, int], number: int) -> NameT | None:
    """Return what a number of an enum means; None for UNSPECIFIED."""
    return next((name for name, value in names.items() if value == number), None)


def _wanted(request: service_pb2.CreateWebhookEndpointRequest) -> Wanted:
    return Wanted(
        url=request.url,
        subjects=tuple(dict.fromkeys(request.subjects)),
        description=request.description,
        format=_named(_FORMATS, request.format) or Format.JSON,
        concurrency=request.concurrency or CONCURRENCY_DEFAULT,
        signing=_named(_SIGNINGS, request.signing) or Signing.HMAC,
    )


def _change(request: service_pb2.UpdateWebhookEndpointRequest) -> Change:
    has = request.HasField
    return Change(
        url=request.url if has("url") else None,
        subjects=tuple(dict.fromkeys(request.subjects)) or None,
        description=request.description if has("description") else None,
        format=_named(_FORMATS, request.format),
        concurrency=request.concurrency if has("concurrency") else None,
        disabled=request.disabled if has("disabled") else None,
    )


def _bounds(request: service_pb2.RedeliverWebhookRequest) -> tuple[datetime, datetime]:
    period = request.period
    return period.start_at.ToDatetime(UTC), period.end_at.ToDatetime(UTC)


def _before(page_token: str, scope: str) -> tuple[datetime, str] | None:
    place = decode_token(page_token, scope, {"at": datetime, "event": str})
    return (place["at"], place["event"]) if place else None


def _endpoint(shown: Shown) -> webhooks_pb2.WebhookEndpoint:
    endpoint: Endpoint = shown.endpoint
    message = webhooks_pb2.WebhookEndpoint(
        endpoint_id=endpoint.endpoint_id,
        url=endpoint.url,
        subjects=endpoint.subjects,
        description=endpoint.description,
        format=_FORMATS[endpoint.format],
        concurrency=endpoint.concurrency,
        disabled=endpoint.is_disabled,
        disabled_reason=_REASONS[endpoint.disabled_reason],
        secrets=[_secret(secret) for secret in shown.secrets],
        consecutive_failures=endpoint.health.failures,
    )
    for field, moment in (
        ("disabled_at", endpoint.disabled_at),
        ("failing_since", endpoint.health.failing_since),
        ("paused_until", endpoint.health.paused_until),
        ("created_at", endpoint.created_at),
        ("updated_at", endpoint.updated_at),
    ):
        if moment is not None:
            getattr(message, field).FromDatetime(moment)
    return message


def _secret(secret: Secret) -> webhooks_pb2.WebhookSecret:
    message = webhooks_pb2.WebhookSecret(
        secret_id=secret.secret_id,
        signing=_SIGNINGS[secret.signing],
        public_key=secret.public_key,
    )
    message.created_at.FromDatetime(secret.created_at)
    if secret.expires_at is not None:
        message.expires_at.FromDatetime(secret.expires_at)
    return message


def _delivery(delivery: Delivery) -> webhooks_pb2.WebhookDelivery:
    message = webhooks_pb2.WebhookDelivery(
        endpoint_id=delivery.endpoint_id,
        event_id=delivery.event_id,
        subject=delivery.subject,
        status=_STATUSES[delivery.status],
        tries=delivery.tries,
    )
    if delivery.status is DeliveryStatus.PENDING:
        message.next_attempt_at.FromDatetime(delivery.next_at)
    message.created_at.FromDatetime(delivery.created_at)
    message.updated_at.FromDatetime(delivery.updated_at)
    return message


def _attempt(attempt: Attempt) -> webhooks_pb2.WebhookAttempt:
    message = webhooks_pb2.WebhookAttempt(
        attempt_id=attempt.attempt_id,
        endpoint_id=attempt.endpoint_id,
        event_id=attempt.event_id,
        subject=attempt.subject,
        number=attempt.number,
        outcome=_OUTCOMES[attempt.outcome],
        status_code=attempt.status_code,
        response=attempt.response,
        error=attempt.error,
        latency_ms=attempt.latency_ms,
    )
    message.started_at.FromDatetime(attempt.started_at)
    return message
