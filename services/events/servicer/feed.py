"""Reading events: pages, and a tail that follows them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc

from services.events import cloudevents
from services.events.app.feed import EventReader
from services.events.domain.cloudevents import render_batch
from services.events.domain.feed import FeedEvent, Progress
from services.runtime.context import current
from services.runtime.edge.paging import clamp_page_size, decode_token, encode_token
from services.runtime.errors import InvalidField, InvalidPageToken
from services.runtime.outbox.subjects import Pattern

_TYPE_URL = "type.googleapis.com/"


class FeedRpcs(events_service_pb2_grpc.EventServiceServicer):
    """ListEvents and TailEvents."""

    _reader: EventReader

    async def ListEvents(
        self, request: events_service_pb2.ListEventsRequest, context: Any
    ) -> events_service_pb2.ListEventsResponse:
        """Read a page."""
        cursors = _Cursors(request.subjects)
        after = cursors.read(request.after) if request.after else 0
        events = await self._reader.page(
            _patterns(request.subjects), after, clamp_page_size(request.page_size)
        )
        response = events_service_pb2.ListEventsResponse(
            next_cursor=cursors.write(events[-1].position if events else after)
        )
        if request.rendering == events_service_pb2.RENDERING_CLOUD_EVENTS:
            response.cloud_events = render_batch(map(cloudevents.of_feed, events))
        else:
            response.events.extend(map(_event, events))
        return response

    async def TailEvents(
        self, request: events_service_pb2.TailEventsRequest, context: Any
    ) -> AsyncIterator[events_service_pb2.TailEventsResponse]:
        """Follow the feed."""
        cursors = _Cursors(request.subjects)
        after = cursors.read(request.after) if request.after else None
        async with aclosing(self._reader.tail(_patterns(request.subjects), after)) as events:
            async for event in events:
                yield events_service_pb2.TailEventsResponse(
                    event=_event(event), cursor=cursors.write(event.position)
                )


class _Cursors:
    """Cursors of one tenant and one choice of subjects, whatever order these were named in."""

    def __init__(self, subjects: Sequence[str]) -> None:
        chosen = ",".join(sorted(set(subjects)))
        self._scope = f"events:{current().tenant_id}:{chosen}"

    def read(self, cursor: str) -> int:
        """Return the place. Raises InvalidPageToken for a cursor of others."""
        position: int = decode_token(cursor, self._scope, {"position": int})["position"]
        if position < 0:
            raise InvalidPageToken("the cursor names no place of the feed", page_token=cursor[:128])
        return position

    def write(self, position: int) -> str:
        """Return the cursor of a place."""
        return encode_token({"position": position}, self._scope)


def _patterns(subjects: Sequence[str]) -> list[Pattern]:
    try:
        return [Pattern.parse(subject) for subject in subjects]
    except ValueError as error:
        raise InvalidField.one("subjects", str(error)) from error


def _event(event: FeedEvent) -> events_pb2.Event:
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
