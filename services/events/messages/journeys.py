"""Journeys and their steps."""

from __future__ import annotations

import json

from payments.events.v1 import timers_pb2

from services.runtime.journeys.machine import Journey, Status, Step


def status_of(status: timers_pb2.JourneyStatus.ValueType) -> Status | None:
    """Read a status; None for UNSPECIFIED."""
    name = timers_pb2.JourneyStatus.Name(status).removeprefix("JOURNEY_STATUS_")
    return None if name == "UNSPECIFIED" else Status(name.lower())


def journey(journey: Journey) -> timers_pb2.Journey:
    """Write a journey without its steps."""
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


def step(step: Step) -> timers_pb2.JourneyStep:
    """Write a step."""
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
