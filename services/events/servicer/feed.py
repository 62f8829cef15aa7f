"""Reading events: pages, and a tail that follows them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from payments.events.v1 import events_service_pb2, events_service_pb2_grpc

from services.events.app.feed import EventReader
from services.events.domain.cloudevents import render_batch
from services.events.domain.feed import FeedEvent
from services.events.messages import cloudevents
from services.events.messages import feed as messages
from services.runtime.context import current
from services.runtime.edge.paging import clamp_page_size, decode_token, encode_token
from services.runtime.edge.streams import stream_begun
from services.runtime.errors import InvalidField, InvalidPageToken
from services.runtime.outbox.subjects import Pattern


class FeedRpcs(events_service_pb2_grpc.EventServiceServicer):
    """ListEvents and TailEvents."""

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader

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
            response.events.extend(map(messages.event, events))
        return response

    async def TailEvents(
        self, request: events_service_pb2.TailEventsRequest, context: Any
    ) -> AsyncIterator[events_service_pb2.TailEventsResponse]:
        """Follow the feed."""
        cursors = _Cursors(request.subjects)
        if request.from_start and request.after:
            raise InvalidField.one("from_start", "give either after or from_start, not both")
        start = 0 if request.from_start else None
        after = cursors.read(request.after) if request.after else start
        async with aclosing(self._reader.tail(_patterns(request.subjects), after)) as answers:
            async for found in answers:
                if isinstance(found, FeedEvent):
                    yield events_service_pb2.TailEventsResponse(
                        event=messages.event(found),
                        cursor=cursors.write(found.position),
                        position=found.position,
                    )
                    continue
                await stream_begun()
                if request.announce:
                    yield events_service_pb2.TailEventsResponse(
                        cursor=cursors.write(found.position), position=found.position
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
            raise InvalidPageToken(
                "the cursor is not a position in the feed", page_token=cursor[:128]
            )
        return position

    def write(self, position: int) -> str:
        """Return the cursor of a place."""
        return encode_token({"position": position}, self._scope)


def _patterns(subjects: Sequence[str]) -> list[Pattern]:
    try:
        return [Pattern.parse(subject) for subject in subjects]
    except ValueError as error:
        raise InvalidField.one("subjects", str(error)) from error
