"""Timers and schedules."""

from __future__ import annotations

from payments.events.v1 import events_pb2, timers_pb2
from payments.events.v1 import events_service_pb2 as service_pb2

from services.runtime.timers.cron import Missed
from services.runtime.timers.schedules import Schedule
from services.runtime.timers.store import Timer

_MISSED = {
    timers_pb2.MISSED_POLICY_UNSPECIFIED: Missed.ONE,
    timers_pb2.MISSED_POLICY_SKIP: Missed.SKIP,
    timers_pb2.MISSED_POLICY_ONE: Missed.ONE,
    timers_pb2.MISSED_POLICY_BACKFILL: Missed.BACKFILL,
}
_MISSED_OUT = {
    Missed.SKIP: timers_pb2.MISSED_POLICY_SKIP,
    Missed.ONE: timers_pb2.MISSED_POLICY_ONE,
    Missed.BACKFILL: timers_pb2.MISSED_POLICY_BACKFILL,
}


def event_of(schedule: timers_pb2.Schedule) -> events_pb2.Event:
    """Return the event of a schedule, as an outside producer would send it."""
    event = events_pb2.Event(id=schedule.name, subject=schedule.subject, key=schedule.key)
    kind = schedule.WhichOneof("payload")
    if kind == "data":
        event.data.CopyFrom(schedule.data)
    elif kind == "json":
        event.json = schedule.json
    return event


def missed_of(policy: timers_pb2.MissedPolicy.ValueType) -> Missed:
    """Read what becomes of moments that a schedule missed."""
    return _MISSED[policy]


def cancelled(timer_: Timer) -> service_pb2.CancelTimerResponse:
    """Write a timer that was taken back."""
    return service_pb2.CancelTimerResponse(timer=timer(timer_))


def put(stands: Schedule) -> service_pb2.PutScheduleResponse:
    """Write a schedule that was put."""
    return service_pb2.PutScheduleResponse(schedule=schedule(stands))


def deleted(stood: Schedule) -> service_pb2.DeleteScheduleResponse:
    """Write a schedule that was ended."""
    return service_pb2.DeleteScheduleResponse(schedule=schedule(stood))


def timer(timer: Timer) -> timers_pb2.Timer:
    """Write a timer."""
    message = timers_pb2.Timer(
        timer_id=timer.timer_id,
        key=timer.key,
        subject=timer.subject,
        schema_version=timer.schema_version,
        event_key=timer.event_key,
        correlation_id=timer.correlation_id,
        causation_id=timer.causation_id,
    )
    message.due_at.FromDatetime(timer.due_at)
    message.created_at.FromDatetime(timer.created_at)
    return message


def schedule(schedule: Schedule) -> timers_pb2.Schedule:
    """Write a schedule."""
    message = timers_pb2.Schedule(
        name=schedule.name,
        cron=schedule.cron,
        time_zone=schedule.time_zone,
        missed=_MISSED_OUT[schedule.missed],
        subject=schedule.subject,
        key=schedule.event_key,
        json=schedule.payload,
    )
    for name in ("next_at", "last_at", "updated_at"):
        moment = getattr(schedule, name)
        if moment is not None:
            getattr(message, name).FromDatetime(moment)
    return message
