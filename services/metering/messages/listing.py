"""Stored events, as messages and back."""

from __future__ import annotations

from datetime import datetime

from payments.metering.v1 import drift_pb2
from payments.type.v1 import type_pb2

from services.metering.domain.listing import EventsAsked, ListedEvent
from services.metering.messages.corrections import content
from services.runtime.edge.values import moment_of


def bounds(period: type_pb2.Period) -> tuple[datetime, datetime]:
    """Read from when until when."""
    return moment_of(period.start_at), moment_of(period.end_at)


def asked(request: drift_pb2.ListStoredEventsRequest) -> EventsAsked:
    """Read which events are asked for."""
    start_at, end_at = bounds(request.period)
    return EventsAsked(
        start_at=start_at,
        end_at=end_at,
        org_id=request.org_id,
        sku=request.sku,
        include_cancelled=request.include_cancelled,
    )


def stored_event(listed: ListedEvent) -> drift_pb2.StoredEvent:
    """Write a stored event."""
    return drift_pb2.StoredEvent(
        event=content(listed.content), version=listed.version, cancelled=listed.cancelled
    )
