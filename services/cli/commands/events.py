"""`tollmesh events publish|tail|list`, and those of `event_types` and `event_operations`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Annotated, TextIO

import typer
from google.protobuf import json_format
from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.cli.client import Client, Session
from services.cli.commands import event_operations, event_types
from services.cli.errors import EXIT_INCOMPLETE, EXIT_UNAVAILABLE, EXIT_USAGE, CliError
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

EVENTS_PER_CALL = 500
_TAKEN = (type_pb2.OUTCOME_ACCEPTED, type_pb2.OUTCOME_DUPLICATE)

events = typer.Typer(
    help="The feed of events, and what may be published into it.", no_args_is_help=True
)

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
        try:
            for number, (event, cursor) in enumerate(feed, start=1):
                after = cursor
                if output is Format.JSON:
                    print_json({"event": as_dict(event), "cursor": cursor})
                else:
                    _show(event)
                if number == limit:
                    return
        except CliError as error:
            if after and error.exit_code == EXIT_UNAVAILABLE:
                error.hints = [*error.hints, f"go on where it broke off with --after {after}"]
            raise


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


@events.command("publish")
def publish(
    file: Annotated[typer.FileText, typer.Argument(help="JSON, or one event a line; - for stdin")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Publish events of an outside producer.

    FILE holds {"events": [...]}, a list of events, one event, or one event a line. An event has `subject` and
    `data`, and may have `id`, `key` and `created_at`. An `id` that was published before is not published
    again; an event without one is a new event each time.
    """
    done = events_service_pb2.PublishEventsResponse()
    with Client(Session.find()) as client:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        for body in event_bodies(_text(file)):
            request = events_service_pb2.PublishEventsRequest(raw_request=body)
            for result in client.call(stub.PublishEvents, request).results:
                result.index = len(done.results)
                done.results.append(result)
    if output is Format.JSON:
        print_json(done)
    else:
        print_table("", ("event", "id", "outcome", "why", "message"), map(_verdict, done.results))
    refused = sum(result.outcome not in _TAKEN for result in done.results)
    if refused:
        what = "1 event was" if refused == 1 else f"{refused} events were"
        raise CliError(f"{what} not published", exit_code=EXIT_INCOMPLETE)


def _text(file: TextIO) -> str:
    try:
        return file.read()
    except UnicodeDecodeError as error:
        raise CliError(f"the file is no UTF-8: {error.reason}", exit_code=EXIT_USAGE) from error


def event_bodies(text: str) -> Iterator[bytes]:
    """Cut the text of a file into bodies of calls; the text of a payload is not touched.

    Raises:
        CliError: it is no JSON.
    """
    try:
        # Its numbers are the services' to judge, event by event.
        document = json.loads(text, parse_int=str, parse_float=str)
    except RecursionError as error:
        raise CliError("the file nests too deeply", exit_code=EXIT_USAGE) from error
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise CliError(f"the file is no JSON: {error}", exit_code=EXIT_USAGE) from error
        for first in range(0, len(lines), EVENTS_PER_CALL):
            yield f"[{','.join(lines[first : first + EVENTS_PER_CALL])}]".encode()
        return
    is_event = isinstance(document, dict) and "events" not in document
    yield f"[{text}]".encode() if is_event else text.encode()


def _verdict(result: events_service_pb2.PublishEventResult) -> tuple[str, ...]:
    outcome = type_pb2.Outcome.Name(result.outcome).removeprefix("OUTCOME_")
    why = f"{result.reason} {result.pointer}".strip()
    return str(result.index), result.id, outcome, why, result.message


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
    event_types.add(events)
    event_operations.register(events)
    app.add_typer(events, name="events")
