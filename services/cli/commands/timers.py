"""`tollmesh timers list|cancel` and `tollmesh schedules list|put|delete`."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated
from uuid import uuid4

import typer
from payments.events.v1 import events_service_pb2, events_service_pb2_grpc, timers_pb2

from services.cli import periods
from services.cli.client import Client, Session
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    OutputOption,
    YesOption,
    confirm,
    enum_name,
    print_json,
    print_table,
    when,
)

timers = typer.Typer(
    help="Pending timers: events that are published when they are due.", invoke_without_command=True
)
schedules = typer.Typer(help="Recurring events, by a cron expression.", invoke_without_command=True)

_TIMER_COLUMNS = ("due at, UTC", "key", "becomes", "ordering key", "timer")
_SCHEDULE_COLUMNS = (
    "name",
    "cron",
    "time zone",
    "missed",
    "publishes",
    "next at, UTC",
    "last at, UTC",
)


class Missed(StrEnum):
    """What to do about runs that were missed while the mesh was down."""

    SKIP = "skip"
    ONE = "one"
    BACKFILL = "backfill"


@timers.callback()
def timers_main(context: typer.Context) -> None:
    """List pending timers, or cancel one."""
    if context.invoked_subcommand is None:
        list_timers()


@timers.command("list")
def list_timers(
    key: Annotated[str, typer.Option(help="only keys with this prefix")] = "",
    due_before: Annotated[
        str, typer.Option(help="only timers due before this time, ISO 8601")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="maximum number of timers")] = 1000,
    output: OutputOption = Format.TABLE,
) -> None:
    """List pending timers, by key."""
    request = events_service_pb2.ListTimersRequest(key_prefix=key, page_size=min(limit, 1000))
    if due_before:
        try:
            request.due_before.FromDatetime(periods.moment(due_before))
        except ValueError as error:
            raise CliError(
                f"{due_before!r} is not a time: {error}", exit_code=EXIT_USAGE
            ) from error
    with Client(Session.find()) as client:
        found = [timer for _, timer in zip(range(limit), _timers(client, request), strict=False)]
    if output is Format.JSON:
        print_json(events_service_pb2.ListTimersResponse(timers=found))
    else:
        print_table("", _TIMER_COLUMNS, map(_timer_row, found))


def _timers(
    client: Client, request: events_service_pb2.ListTimersRequest
) -> Iterator[timers_pb2.Timer]:
    stub = client.stub(events_service_pb2_grpc.EventServiceStub)
    while True:
        page = client.call(stub.ListTimers, request)
        yield from page.timers
        request.page_token = page.next_page_token
        if not request.page_token:
            return


@timers.command("cancel")
def cancel(
    timer_id: Annotated[str, typer.Argument(help="key of the timer, as in `timers list`")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Cancel a pending timer."""
    request = events_service_pb2.CancelTimerRequest(request_id=str(uuid4()), timer_id=timer_id)
    with Client(Session.find()) as client:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        timer = client.call(stub.CancelTimer, request).timer
    if output is Format.JSON:
        print_json(timer)
    else:
        print_table("cancelled", _TIMER_COLUMNS, [_timer_row(timer)])


def _timer_row(timer: timers_pb2.Timer) -> tuple[str, ...]:
    return when(timer.due_at), timer.key, timer.subject, timer.event_key, timer.timer_id


@schedules.callback()
def schedules_main(context: typer.Context) -> None:
    """List schedules, create or change one, or delete one."""
    if context.invoked_subcommand is None:
        list_schedules()


@schedules.command("list")
def list_schedules(output: OutputOption = Format.TABLE) -> None:
    """List schedules, by name."""
    request = events_service_pb2.ListSchedulesRequest()
    found: list[timers_pb2.Schedule] = []
    with Client(Session.find()) as client:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        while True:
            page = client.call(stub.ListSchedules, request)
            found += page.schedules
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    if output is Format.JSON:
        print_json(events_service_pb2.ListSchedulesResponse(schedules=found))
    else:
        print_table("", _SCHEDULE_COLUMNS, map(_schedule_row, found))


@schedules.command("put")
def put(
    name: Annotated[str, typer.Argument(help="name; an existing name changes that schedule")],
    cron: Annotated[str, typer.Option(help="minute hour day month weekday, e.g. '0 2 * * MON'")],
    subject: Annotated[str, typer.Option(help="a registered event type")],
    data: Annotated[str, typer.Option(help="JSON payload of each event")] = "{}",
    time_zone: Annotated[str, typer.Option(help="IANA time zone, e.g. Europe/Berlin")] = "UTC",
    missed: Annotated[Missed, typer.Option(help="what to do about missed runs")] = Missed.ONE,
    key: Annotated[str, typer.Option(help="ordering key of the events")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Create or change a schedule that publishes an event again and again."""
    schedule = timers_pb2.Schedule(
        name=name,
        cron=cron,
        time_zone=time_zone,
        missed=timers_pb2.MissedPolicy.Value(f"MISSED_POLICY_{missed.upper()}"),
        subject=subject,
        key=key,
        json=data.encode(),
    )
    request = events_service_pb2.PutScheduleRequest(request_id=str(uuid4()), schedule=schedule)
    with Client(Session.find()) as client:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        stands = client.call(stub.PutSchedule, request).schedule
    _show(stands, output)


@schedules.command("delete")
def delete(
    name: Annotated[str, typer.Argument(help="name of the schedule")],
    yes: YesOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Delete a schedule. The events it published stay."""
    confirm(f"This deletes the schedule {name}", yes=yes)
    request = events_service_pb2.DeleteScheduleRequest(request_id=str(uuid4()), name=name)
    with Client(Session.find()) as client:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        stood = client.call(stub.DeleteSchedule, request).schedule
    _show(stood, output, "deleted")


def _show(schedule: timers_pb2.Schedule, output: Format, title: str = "") -> None:
    if output is Format.JSON:
        print_json(schedule)
    else:
        print_table(title, _SCHEDULE_COLUMNS, [_schedule_row(schedule)])


def _schedule_row(schedule: timers_pb2.Schedule) -> tuple[str, ...]:
    return (
        schedule.name,
        schedule.cron,
        schedule.time_zone,
        enum_name(schedule, "missed"),
        schedule.subject,
        when(schedule.next_at),
        when(schedule.last_at),
    )


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(timers, name="timers")
    app.add_typer(schedules, name="schedules")
