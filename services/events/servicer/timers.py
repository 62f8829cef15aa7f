"""Timers and schedules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc, timers_pb2

from services.events import incoming
from services.events.app.publisher import Unreadable
from services.events.app.timers import Timers
from services.events.checks import Checks
from services.events.domain.outside import Incoming
from services.runtime.database import UnitOfWork
from services.runtime.edge.paging import clamp_page_size, decode_token, encode_token
from services.runtime.idempotency import Idempotency
from services.runtime.outbox.publish import EventTooLarge
from services.runtime.timers.cron import Missed
from services.runtime.timers.schedules import PAYLOAD_BYTES_MAX, Schedule
from services.runtime.timers.store import Timer

# Of the payloads on one page of schedules.
SCHEDULES_PAGE_BYTES_MAX = 4 * 1024 * 1024

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


class TimerRpcs(events_service_pb2_grpc.EventServiceServicer):
    """ListTimers, CancelTimer, PutSchedule, ListSchedules and DeleteSchedule."""

    _timers: Timers
    _checks: Checks
    _idempotency: Idempotency

    async def ListTimers(
        self, request: events_service_pb2.ListTimersRequest, context: Any
    ) -> events_service_pb2.ListTimersResponse:
        """List timers by key."""
        due_before = _due_before(request)
        scope = f"events.timers:{request.key_prefix}:{due_before}"
        token = decode_token(request.page_token, scope, {"key": str})
        limit = clamp_page_size(request.page_size)
        found = await self._timers.page(
            request.key_prefix, due_before, token.get("key", ""), limit + 1
        )
        response = events_service_pb2.ListTimersResponse(timers=map(_timer, found[:limit]))
        if len(found) > limit:
            response.next_page_token = encode_token({"key": found[limit - 1].key}, scope)
        return response

    async def CancelTimer(
        self, request: events_service_pb2.CancelTimerRequest, context: Any
    ) -> events_service_pb2.CancelTimerResponse:
        """Take an event back that is yet to come."""

        async def handler(work: UnitOfWork) -> events_service_pb2.CancelTimerResponse:
            timer = await self._timers.cancel(work, request.timer_id)
            return events_service_pb2.CancelTimerResponse(timer=_timer(timer))

        return await self._idempotency.once(
            "events.cancel_timer", request, events_service_pb2.CancelTimerResponse, handler
        )

    async def PutSchedule(
        self, request: events_service_pb2.PutScheduleRequest, context: Any
    ) -> events_service_pb2.PutScheduleResponse:
        """Put a schedule."""
        asked = request.schedule
        # Before the transaction begins; what is wrong is told inside, since a repeated call has its answer already.
        event = await self._timers.check(await self._event(asked))

        async def handler(work: UnitOfWork) -> events_service_pb2.PutScheduleResponse:
            stands = await self._timers.put_schedule(
                work, event, asked.cron, asked.time_zone or "UTC", _MISSED[asked.missed]
            )
            return events_service_pb2.PutScheduleResponse(schedule=_schedule(stands))

        return await self._idempotency.once(
            "events.put_schedule", request, events_service_pb2.PutScheduleResponse, handler
        )

    async def ListSchedules(
        self, request: events_service_pb2.ListSchedulesRequest, context: Any
    ) -> events_service_pb2.ListSchedulesResponse:
        """List schedules by name."""
        scope = "events.schedules"
        token = decode_token(request.page_token, scope, {"name": str})
        limit = clamp_page_size(request.page_size)
        found = await self._timers.schedules(token.get("name", ""), limit + 1)
        response = events_service_pb2.ListSchedulesResponse()
        size = 0
        for schedule in found[:limit]:
            size += len(schedule.payload)
            if response.schedules and size > SCHEDULES_PAGE_BYTES_MAX:
                break
            response.schedules.append(_schedule(schedule))
        if len(response.schedules) < len(found):
            last = response.schedules[-1].name
            response.next_page_token = encode_token({"name": last}, scope)
        return response

    async def DeleteSchedule(
        self, request: events_service_pb2.DeleteScheduleRequest, context: Any
    ) -> events_service_pb2.DeleteScheduleResponse:
        """End a schedule."""

        async def handler(work: UnitOfWork) -> events_service_pb2.DeleteScheduleResponse:
            stood = await self._timers.delete_schedule(work, request.name)
            return events_service_pb2.DeleteScheduleResponse(schedule=_schedule(stood))

        return await self._idempotency.once(
            "events.delete_schedule", request, events_service_pb2.DeleteScheduleResponse, handler
        )

    async def _event(self, schedule: timers_pb2.Schedule) -> Incoming:
        """Return the event of a schedule, as an outside producer would send it. Raises its fault."""
        event = events_pb2.Event(id=schedule.name, subject=schedule.subject, key=schedule.key)
        kind = schedule.WhichOneof("payload")
        if kind == "data":
            event.data.CopyFrom(schedule.data)
        elif kind == "json":
            event.json = schedule.json
        request = events_service_pb2.PublishEventsRequest(events=[event])
        (found,) = await incoming.read(self._checks, request)
        if isinstance(found, Unreadable):
            raise found.error
        if len(found.payload) > PAYLOAD_BYTES_MAX:
            raise EventTooLarge(
                f"the payload weighs {len(found.payload)} bytes; publish a reference instead",
                subject=schedule.subject,
                bytes=len(found.payload),
                bytes_max=PAYLOAD_BYTES_MAX,
            )
        return found


def _due_before(request: events_service_pb2.ListTimersRequest) -> datetime | None:
    return request.due_before.ToDatetime(UTC) if request.HasField("due_before") else None


def _timer(timer: Timer) -> timers_pb2.Timer:
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


def _schedule(schedule: Schedule) -> timers_pb2.Schedule:
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
