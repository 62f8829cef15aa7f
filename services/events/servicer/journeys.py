"""Reading journeys."""

from __future__ import annotations

import json
from typing import Any

from payments.events.v1 import events_service_pb2, events_service_pb2_grpc, timers_pb2

from services.events.app.journeys import Journeys
from services.runtime.edge.paging import clamp_page_size, decode_token, encode_token
from services.runtime.journeys.machine import Journey, Status, Step

# Of what the journeys on one page know.
PAGE_BYTES_MAX = 4 * 1024 * 1024


class JourneyRpcs(events_service_pb2_grpc.EventServiceServicer):
    """ListJourneys and GetJourney."""

    _journeys: Journeys

    async def ListJourneys(
        self, request: events_service_pb2.ListJourneysRequest, context: Any
    ) -> events_service_pb2.ListJourneysResponse:
        """List journeys by kind and id."""
        scope = f"events.journeys:{request.journey_type}:{request.state}:{request.status}"
        token = decode_token(request.page_token, scope, {"type": str, "id": str})
        after = (token.get("type", ""), token.get("id", ""))
        limit = clamp_page_size(request.page_size)
        found = await self._journeys.page(
            request.journey_type, request.state, _status(request.status), after, limit + 1
        )
        response = events_service_pb2.ListJourneysResponse()
        size = 0
        for journey in found[:limit]:
            message = _journey(journey)
            size += message.ByteSize()
            if response.journeys and size > PAGE_BYTES_MAX:
                break
            response.journeys.append(message)
        if len(response.journeys) < len(found):
            last = response.journeys[-1]
            position = {"type": last.journey_type, "id": last.journey_id}
            response.next_page_token = encode_token(position, scope)
        return response

    async def GetJourney(
        self, request: events_service_pb2.GetJourneyRequest, context: Any
    ) -> events_service_pb2.GetJourneyResponse:
        """Read a journey with its steps."""
        found, steps = await self._journeys.get(request.journey_type, request.journey_id)
        message = _journey(found)
        message.steps.extend(map(_step, steps))
        return events_service_pb2.GetJourneyResponse(journey=message)


def _status(status: timers_pb2.JourneyStatus.ValueType) -> Status | None:
    name = timers_pb2.JourneyStatus.Name(status).removeprefix("JOURNEY_STATUS_")
    return None if name == "UNSPECIFIED" else Status(name.lower())


def _journey(journey: Journey) -> timers_pb2.Journey:
    message = timers_pb2.Journey(
        journey_type=journey.journey_type,
        journey_id=journey.journey_id,
        version=journey.version,
        state=journey.state,
        status=timers_pb2.JourneyStatus.Value(f"JOURNEY_STATUS_{journey.status.upper()}"),
        data=json.dumps(journey.data, ensure_ascii=False),
        reason=journey.reason,
        correlation_id=journey.correlation_id,
        step_count=journey.step_count,
    )
    for name in ("deadline_at", "started_at", "updated_at", "ended_at"):
        moment = getattr(journey, name)
        if moment is not None:
            getattr(message, name).FromDatetime(moment)
    return message


def _step(step: Step) -> timers_pb2.JourneyStep:
    message = timers_pb2.JourneyStep(
        kind=timers_pb2.JourneyStepKind.Value(f"JOURNEY_STEP_KIND_{step.kind.upper()}"),
        from_state=step.from_state,
        to_state=step.to_state,
        cause=step.cause,
        cause_id=step.cause_id,
        commands=json.dumps(step.commands),
    )
    message.at.FromDatetime(step.at)
    return message
