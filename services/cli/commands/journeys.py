"""`tollmesh journeys list|show`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import typer
from payments.events.v1 import events_service_pb2, events_service_pb2_grpc, timers_pb2

from services.cli.client import Client, Session
from services.cli.output import (
    Format,
    OutputOption,
    enum_name,
    print_json,
    print_table,
    say,
    when,
)

journeys = typer.Typer(
    help="Journeys: processes that wait for events and for time, step by step.",
    invoke_without_command=True,
)

_COLUMNS = ("journey", "id", "version", "state", "status", "deadline, UTC", "updated at, UTC")


class Status(StrEnum):
    """Whether a journey is still running, or how it ended."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@journeys.callback()
def main(context: typer.Context) -> None:
    """List journeys, or show one with its steps."""
    if context.invoked_subcommand is None:
        list_()


@journeys.command("list")
def list_(
    journey_type: Annotated[str, typer.Option("--type", help="only journeys of this type")] = "",
    state: Annotated[str, typer.Option(help="only journeys in this state")] = "",
    status: Annotated[Status | None, typer.Option(help="only journeys with this status")] = None,
    limit: Annotated[int, typer.Option(min=1, help="maximum number of journeys")] = 1000,
    output: OutputOption = Format.TABLE,
) -> None:
    """List journeys, by type and id."""
    request = events_service_pb2.ListJourneysRequest(
        journey_type=journey_type, state=state, page_size=min(limit, 1000)
    )
    if status is not None:
        request.status = timers_pb2.JourneyStatus.Value(f"JOURNEY_STATUS_{status.upper()}")
    with Client(Session.find()) as client:
        found = [item for _, item in zip(range(limit), _journeys(client, request), strict=False)]
    if output is Format.JSON:
        print_json(events_service_pb2.ListJourneysResponse(journeys=found))
    elif found:
        print_table("", _COLUMNS, map(_row, found))
    else:
        say("no journeys found")


def _journeys(
    client: Client, request: events_service_pb2.ListJourneysRequest
) -> Iterator[timers_pb2.Journey]:
    stub = client.stub(events_service_pb2_grpc.EventServiceStub)
    while True:
        page = client.call(stub.ListJourneys, request)
        yield from page.journeys
        request.page_token = page.next_page_token
        if not request.page_token:
            return


@journeys.command("show")
def show(
    journey_type: Annotated[str, typer.Argument(help="type of the journey")],
    journey_id: Annotated[str, typer.Argument(help="id of the journey")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a journey and its history."""
    request = events_service_pb2.GetJourneyRequest(journey_type=journey_type, journey_id=journey_id)
    with Client(Session.find()) as client:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        found = client.call(stub.GetJourney, request).journey
    if output is Format.JSON:
        print_json(found)
        return
    print_table("", _COLUMNS, [_row(found)])
    if found.reason:
        say(f"reason: {found.reason}")
    say(f"data: {found.data}")
    columns = ("at, UTC", "what happened", "cause", "from", "to", "commands")
    print_table("", columns, map(_step_row, found.steps))


def _row(journey: timers_pb2.Journey) -> tuple[str, ...]:
    return (
        journey.journey_type,
        journey.journey_id,
        str(journey.version),
        journey.state,
        enum_name(journey, "status"),
        when(journey.deadline_at),
        when(journey.updated_at),
    )


def _step_row(step: timers_pb2.JourneyStep) -> tuple[str, ...]:
    commands = "; ".join(
        " ".join(f"{name} {_shown(value)}" for name, value in command.items())
        for command in json.loads(step.commands)
    )
    kind = enum_name(step, "kind").replace("_", " ")
    return when(step.at), kind, step.cause, step.from_state, step.to_state, commands


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(journeys, name="journeys")
