"""Webhooks: endpoints, secrets, and what was sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, timedelta
from typing import TypeVar

from payments.events.v1 import events_service_pb2 as service_pb2
from payments.events.v1 import webhooks_pb2

from services.events.domain.webhooks import (
    CONCURRENCY_DEFAULT,
    OVERLAP_DEFAULT,
    Attempt,
    ChangeEndpoint,
    CreateEndpoint,
    Delivery,
    DeliveryStatus,
    DisabledReason,
    EndpointView,
    Format,
    Outcome,
    Redelivered,
    RedeliverEvent,
    RedeliverPeriod,
    RotateSecret,
    Secret,
    Signing,
)

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


# ---- In


def to_create(request: service_pb2.CreateWebhookEndpointRequest) -> CreateEndpoint:
    """Read which endpoint is to be made."""
    return CreateEndpoint(
        url=request.url,
        subjects=tuple(dict.fromkeys(request.subjects)),
        description=request.description,
        format=_named(_FORMATS, request.format) or Format.JSON,
        concurrency=request.concurrency or CONCURRENCY_DEFAULT,
        signing=_named(_SIGNINGS, request.signing) or Signing.HMAC,
    )


def to_change(request: service_pb2.UpdateWebhookEndpointRequest) -> ChangeEndpoint:
    """Read what is to be changed of an endpoint."""
    has = request.HasField
    return ChangeEndpoint(
        endpoint_id=request.endpoint_id,
        url=request.url if has("url") else None,
        subjects=tuple(dict.fromkeys(request.subjects)) or None,
        description=request.description if has("description") else None,
        format=_named(_FORMATS, request.format),
        concurrency=request.concurrency if has("concurrency") else None,
        disabled=request.disabled if has("disabled") else None,
    )


def to_rotate(request: service_pb2.RotateWebhookSecretRequest) -> RotateSecret:
    """Read whose secret is to be replaced, and by what."""
    overlap: timedelta = OVERLAP_DEFAULT
    if request.HasField("overlap"):
        overlap = request.overlap.ToTimedelta()
    return RotateSecret(request.endpoint_id, overlap, _named(_SIGNINGS, request.signing))


def to_redeliver(request: service_pb2.RedeliverWebhookRequest) -> RedeliverEvent | RedeliverPeriod:
    """Read what is to be sent again."""
    if request.WhichOneof("what") == "event_id":
        return RedeliverEvent(request.endpoint_id, request.event_id)
    period = request.period
    return RedeliverPeriod(
        request.endpoint_id,
        status_of(request.status),
        period.start_at.ToDatetime(UTC),
        period.end_at.ToDatetime(UTC),
    )


def status_of(status: int) -> DeliveryStatus | None:
    """Read a status; None for UNSPECIFIED."""
    return _named(_STATUSES, status)


def outcome_of(outcome: int) -> Outcome | None:
    """Read an outcome; None for UNSPECIFIED."""
    return _named(_OUTCOMES, outcome)


def _named(names: Mapping[NameT, int], number: int) -> NameT | None:
    return next((name for name, value in names.items() if value == number), None)


# ---- Out


def created(view: EndpointView) -> service_pb2.CreateWebhookEndpointResponse:
    """Write an endpoint that was just made, with its secret."""
    return service_pb2.CreateWebhookEndpointResponse(endpoint=endpoint(view), secret=view.secret)


def created_without_secret(
    response: service_pb2.CreateWebhookEndpointResponse,
) -> service_pb2.CreateWebhookEndpointResponse:
    """Leave the secret out: it is shown once."""
    return service_pb2.CreateWebhookEndpointResponse(endpoint=response.endpoint)


def changed(view: EndpointView) -> service_pb2.UpdateWebhookEndpointResponse:
    """Write an endpoint that was changed."""
    return service_pb2.UpdateWebhookEndpointResponse(endpoint=endpoint(view))


def deleted(_: None) -> service_pb2.DeleteWebhookEndpointResponse:
    """Write that an endpoint was removed."""
    return service_pb2.DeleteWebhookEndpointResponse()


def secret_rotated(view: EndpointView) -> service_pb2.RotateWebhookSecretResponse:
    """Write an endpoint with its new secret."""
    return service_pb2.RotateWebhookSecretResponse(endpoint=endpoint(view), secret=view.secret)


def rotated_without_secret(
    response: service_pb2.RotateWebhookSecretResponse,
) -> service_pb2.RotateWebhookSecretResponse:
    """Leave the secret out: it is shown once."""
    return service_pb2.RotateWebhookSecretResponse(endpoint=response.endpoint)


def tested(event_id: str) -> service_pb2.TestWebhookEndpointResponse:
    """Write which event tests an endpoint."""
    return service_pb2.TestWebhookEndpointResponse(event_id=event_id)


def redelivered(done: Redelivered) -> service_pb2.RedeliverWebhookResponse:
    """Write how much is sent again."""
    return service_pb2.RedeliverWebhookResponse(redelivered=done.count, more=done.more)


def endpoint(view: EndpointView) -> webhooks_pb2.WebhookEndpoint:
    """Write an endpoint."""
    shown = view.endpoint
    message = webhooks_pb2.WebhookEndpoint(
        endpoint_id=shown.endpoint_id,
        url=shown.url,
        subjects=shown.subjects,
        description=shown.description,
        format=_FORMATS[shown.format],
        concurrency=shown.concurrency,
        disabled=shown.is_disabled,
        disabled_reason=_REASONS[shown.disabled_reason],
        secrets=[_secret(secret) for secret in view.secrets],
        consecutive_failures=shown.health.failures,
    )
    for field, moment in (
        ("disabled_at", shown.disabled_at),
        ("failing_since", shown.health.failing_since),
        ("paused_until", shown.health.paused_until),
        ("created_at", shown.created_at),
        ("updated_at", shown.updated_at),
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


def delivery(delivery: Delivery) -> webhooks_pb2.WebhookDelivery:
    """Write a delivery."""
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


def attempt(attempt: Attempt) -> webhooks_pb2.WebhookAttempt:
    """Write an attempt."""
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
