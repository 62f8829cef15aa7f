"""Stored events, as messages and back."""

from __future__ import annotations

from payments.metering.v1 import drift_pb2

from services.metering.domain.listing import EventsAsked, ListedEvent
from services.metering.messages.corrections import content
from services.runtime.edge.values import moment_of


def asked(request: drift_pb2.ListStoredEventsRequest) -> EventsAsked:
    """Read which events are asked for."""
    return EventsAsked(
        start_at=moment_of(request.period.start_at),
        end_at=moment_of(request.period.end_at),
        org_id=request.org_id,
        sku=request.sku,
        include_cancelled=request.include_cancelled,
    )


def stored_event(listed: ListedEvent) -> drift_pb2.StoredEvent:
    """Write a stored event."""
    return drift_pb2.StoredEvent(
        event=content(listed.content), version=listed.version, cancelled=listed.cancelled
    )
