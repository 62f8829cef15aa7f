"""Events of the feed."""

from __future__ import annotations

from payments.events.v1 import events_pb2

from services.events.domain.feed import FeedEvent, Progress

_TYPE_URL = "type.googleapis.com/"


def event(event: FeedEvent) -> events_pb2.Event:
    """Write an event of the feed."""
    message = events_pb2.Event(
        id=event.event_id,
        subject=event.subject,
        schema_version=event.schema_version,
        tenant_id=event.tenant_id,
        key=event.key,
        metadata=_metadata(event, event.progress),
    )
    if event.message_name:
        message.message.type_url = _TYPE_URL + event.message_name
        message.message.value = event.payload
    else:
        message.json = event.payload
    message.created_at.FromDatetime(event.created_at)
    return message


def _metadata(event: FeedEvent, progress: Progress) -> events_pb2.EventMetadata:
    metadata = events_pb2.EventMetadata(
        tenant_id=event.tenant_id,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        outbox_status=progress.status,
        outbox_retry_count=progress.tries,
        outbox_last_error=progress.last_error,
        traceparent=event.traceparent,
    )
    if progress.next_at is not None:
        metadata.outbox_next_attempt_at.FromDatetime(progress.next_at)
    return metadata
