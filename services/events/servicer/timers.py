"""Timers and schedules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from payments.events.v1 import events_service_pb2, events_service_pb2_grpc, timers_pb2

from services.events.adapters.checks import Checks
from services.events.app.timers import PutSchedule, Timers
from services.events.domain.outside import Incoming, Unreadable
from services.events.messages import timers as messages
from services.events.servicer import incoming
from services.runtime.commands import Commands, UseCase
from services.runtime.edge.paging import Page
from services.runtime.outbox.publish import EventTooLarge
from services.runtime.timers.schedules import PAYLOAD_BYTES_MAX


class TimerRpcs(events_service_pb2_grpc.EventServiceServicer):
    """ListTimers, CancelTimer, PutSchedule, ListSchedules and DeleteSchedule."""

    def __init__(self, timers: Timers, checks: Checks, commands: Commands) -> None:
        self._timers = timers
        self._checks = checks
        self._commands = commands
        self._cancel = UseCase(
            "events.cancel_timer",
            timers.cancel,
            messages.cancelled,
            events_service_pb2.CancelTimerResponse,
        )
        self._put = UseCase(
            "events.put_schedule",
            timers.put_schedule,
            messages.put,
            events_service_pb2.PutScheduleResponse,
        )
        self._delete_schedule = UseCase(
            "events.delete_schedule",
            timers.delete_schedule,
            messages.deleted,
            events_service_pb2.DeleteScheduleResponse,
        )

    async def ListTimers(
        self, request: events_service_pb2.ListTimersRequest, context: Any
    ) -> events_service_pb2.ListTimersResponse:
        """List timers by key."""
        due_before = _due_before(request)
        page = Page.of(request, f"events.timers:{request.key_prefix}:{due_before}", {"key": str})
        found = await self._timers.page(
            request.key_prefix, due_before, page.after.get("key", ""), page.limit
        )
        timers, token = await page.cut(found, messages.timer, lambda timer: {"key": timer.key})
        return events_service_pb2.ListTimersResponse(timers=timers, next_page_token=token)

    async def CancelTimer(
        self, request: events_service_pb2.CancelTimerRequest, context: Any
    ) -> events_service_pb2.CancelTimerResponse:
        """Take a pending event back."""
        return await self._commands.run(self._cancel, request.timer_id, request)

    async def PutSchedule(
        self, request: events_service_pb2.PutScheduleRequest, context: Any
    ) -> events_service_pb2.PutScheduleResponse:
        """Put a schedule."""
        # Before the transaction begins; what is wrong is told inside, since a repeated call has its answer already.
        asked = request.schedule
        event = await self._timers.check(await self._event(asked))
        missed = messages.missed_of(asked.missed)
        command = PutSchedule(event, asked.cron, asked.time_zone or "UTC", missed)
        return await self._commands.run(self._put, command, request)

    async def ListSchedules(
        self, request: events_service_pb2.ListSchedulesRequest, context: Any
    ) -> events_service_pb2.ListSchedulesResponse:
        """List schedules by name."""
        page = Page.of(request, "events.schedules", {"name": str})
        found = await self._timers.schedules(page.after.get("name", ""), page.limit)
        schedules, token = await page.cut(
            found, messages.schedule, lambda each: {"name": each.name}
        )
        return events_service_pb2.ListSchedulesResponse(schedules=schedules, next_page_token=token)

    async def DeleteSchedule(
        self, request: events_service_pb2.DeleteScheduleRequest, context: Any
    ) -> events_service_pb2.DeleteScheduleResponse:
        """End a schedule."""
        return await self._commands.run(self._delete_schedule, request.name, request)

    async def _event(self, schedule: timers_pb2.Schedule) -> Incoming:
        """Read the event of a schedule. Raises its fault."""
        request = events_service_pb2.PublishEventsRequest(events=[messages.event_of(schedule)])
        (found,) = await incoming.read(self._checks, request)
        if isinstance(found, Unreadable):
            raise found.error
        if len(found.payload) > PAYLOAD_BYTES_MAX:
            raise EventTooLarge(
                f"the payload has {len(found.payload)} bytes, which is too large; publish a reference instead",
                subject=schedule.subject,
                bytes=len(found.payload),
                bytes_max=PAYLOAD_BYTES_MAX,
            )
        return found


def _due_before(request: events_service_pb2.ListTimersRequest) -> datetime | None:
    return request.due_before.ToDatetime(UTC) if request.HasField("due_before") else None
