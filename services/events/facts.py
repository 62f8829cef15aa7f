"""What the event service publishes of itself: of webhooks, and of types."""

from __future__ import annotations

from datetime import datetime

from payments.events.v1 import webhook_events_pb2
from payments.events.v1.event_type_events_pb2 import EventTypeCutOver

from services.events.domain.webhooks import Endpoint
from services.runtime.edge import values as edge


def disabled(endpoint: Endpoint) -> webhook_events_pb2.WebhookEndpointDisabled:
    """Tell that an endpoint gets nothing from now on."""
    return webhook_events_pb2.WebhookEndpointDisabled(
        endpoint_id=endpoint.endpoint_id,
        url=endpoint.url,
        reason=endpoint.disabled_reason.value.lower(),
        failing_since=edge.stamp_or_none(endpoint.health.failing_since),
    )


def tested(endpoint_id: str) -> webhook_events_pb2.WebhookEndpointTested:
    """Tell that an endpoint is tested: it alone gets this."""
    return webhook_events_pb2.WebhookEndpointTested(endpoint_id=endpoint_id)


def cut_over(subject: str, version: int, cutover_at: datetime) -> EventTypeCutOver:
    """Tell that a version of a type is the one that holds."""
    return EventTypeCutOver(
        subject=subject,
        schema_version=version,
        retired_schema_version=version - 1,
        cutover_at=edge.stamp(cutover_at),
    )
