"""`tollmesh events tail|list`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer
from google.protobuf import json_format
from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc

from services.cli.client import Client, Session
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    OutputOption,
    as_dict,
    console,
    print_json,
    print_table,
    when,
)
from services.runtime.events import registry

events = typer.Typer(help="The feed of events.", no_args_is_help=True)

_SubjectOption = Annotated[
    list[str] | None,
    typer.Option("--subject", help="exact, or a prefix such as payment.*; several times"),
]


@events.command("tail")
def tail(
    subject: _SubjectOption = None,
    after: Annotated[
        str, typer.Option(help="cursor to go on from; left out, from the oldest")
    ] = "",
    new: Annotated[bool, typer.Option("--new", help="only events from now on")] = False,
    limit: Annotated[int, typer.Option(min=0, help="end after so many; 0 never ends")] = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Follow the feed, in order, until Ctrl-C. As JSON: one document a line, each with its cursor."""
    if new and after:
        raise CliError("give --after or --new, not both", exit_code=EXIT_USAGE)
    registry.all_types()
    with Client(Session.find()) as client, contextlib.suppress(KeyboardInterrupt):
        feed = _follow(client, subject or [], after, from_start=not (after or new))
        for number, (event, cursor) in enumerate(feed, start=1):
            if output is Format.JSON:
                print_json({"event": as_dict(event), "cursor": cursor})
            else:
                _show(event)
            if number == limit:
                return


def _follow(
    client: Client, subjects: list[str], after: str, *, from_start: bool
) -> Iterator[tuple[events_pb2.Event, str]]:
    """Give events with their cursors. TailEvents starts from now on; the first page tells where the feed starts."""
    stub = client.stub(events_service_pb2_grpc.EventServiceStub)
    if from_start:
        first = events_service_pb2.ListEventsRequest(subjects=subjects, page_size=1)
        page = client.call(stub.ListEvents, first)
        after = page.next_cursor
        yield from ((event, after) for event in page.events)
    request = events_service_pb2.TailEventsRequest(subjects=subjects, after=after)
    for answer in client.stream(stub.TailEvents, request):
        yield answer.event, answer.cursor


@events.command("list")
def list_(
    subject: _SubjectOption = None,
    after: Annotated[str, typer.Option(help="next_cursor of the page before")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a page of the feed."""
    registry.all_types()
    request = events_service_pb2.ListEventsRequest(
        subjects=subject or [], after=after, page_size=limit
    )
    with Client(Session.find()) as client:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        response = client.call(stub.ListEvents, request)
    if output is Format.JSON:
        print_json(response)
        return
    rows = [
        (when(event.created_at), event.subject, event.key, _payload(event)[:160])
        for event in response.events
    ]
    print_table("", ("created at, UTC", "subject", "key", "payload"), rows)


def _show(event: events_pb2.Event) -> None:
    console.print(
        f"{when(event.created_at)}  [bold]{event.subject}[/bold]  {event.key}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"    {_payload(event)}", highlight=False, markup=False, soft_wrap=True)


def _payload(event: events_pb2.Event) -> str:
    if event.WhichOneof("payload") == "json":
        return event.json.decode(errors="replace")
    return json_format.MessageToJson(event.message, preserving_proto_field_name=True, indent=None)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(events, name="events")
