"""Reading journeys."""

from __future__ import annotations

from typing import Any

from payments.events.v1 import events_service_pb2, events_service_pb2_grpc

from services.events.app.journeys import Journeys
from services.events.messages import journeys as messages
from services.runtime.edge.paging import Page


class JourneyRpcs(events_service_pb2_grpc.EventServiceServicer):
    """ListJourneys and GetJourney."""

    def __init__(self, journeys: Journeys) -> None:
        self._journeys = journeys

    async def ListJourneys(
        self, request: events_service_pb2.ListJourneysRequest, context: Any
    ) -> events_service_pb2.ListJourneysResponse:
        """List journeys by kind and id."""
        scope = f"events.journeys:{request.journey_type}:{request.state}:{request.status}"
        page = Page.of(request, scope, {"type": str, "id": str})
        after = (page.after.get("type", ""), page.after.get("id", ""))
        status = messages.status_of(request.status)
        found = await self._journeys.page(
            request.journey_type, request.state, status, after, page.limit
        )
        journeys, token = await page.cut(
            found,
            messages.journey,
            lambda last: {"type": last.journey_type, "id": last.journey_id},
        )
        return events_service_pb2.ListJourneysResponse(journeys=journeys, next_page_token=token)

    async def GetJourney(
        self, request: events_service_pb2.GetJourneyRequest, context: Any
    ) -> events_service_pb2.GetJourneyResponse:
        """Read a journey with its steps."""
        found, steps = await self._journeys.get(request.journey_type, request.journey_id)
        message = messages.journey(found)
        message.steps.extend(map(messages.step, steps))
        return events_service_pb2.GetJourneyResponse(journey=message)
