"""`tollmesh events publish|tail|list`, and those of `event_types` and `event_operations`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Annotated

import typer
from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.cli import items, streams
from services.cli.batches import cut
from services.cli.client import Client, Session
from services.cli.commands import event_operations, event_types
from services.cli.errors import EXIT_INCOMPLETE, EXIT_UNAVAILABLE, EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    OutputOption,
    as_dict,
    bold,
    print_json,
    print_table,
    say,
    when,
)
from services.runtime.outbox import registry

EVENTS_PER_CALL = 500
_TAKEN = (type_pb2.OUTCOME_ACCEPTED, type_pb2.OUTCOME_DUPLICATE)

events = typer.Typer(
    help="The event feed: read it, publish to it, and operate its consumers.", no_args_is_help=True
)

_SubjectOption = Annotated[
    list[str] | None,
    typer.Option("--subject", help="exact, or a prefix such as payment.*; may be repeated"),
]


@events.command("tail")
def tail(
    subject: _SubjectOption = None,
    after: Annotated[
        str, typer.Option(help="cursor to continue from; by default only what comes from now on")
    ] = "",
    from_start: Annotated[
        bool, typer.Option("--from-start", help="begin with the first event that is kept")
    ] = False,
    limit: Annotated[
        int, typer.Option(min=0, help="stop after this many events; 0 for no limit")
    ] = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Follow the feed, in order, until Ctrl-C. With --output json: one document per line, each with its cursor."""
    if from_start and after:
        raise CliError("use --after or --from-start, not both", exit_code=EXIT_USAGE)
    registry.all_types()
    with Client(Session.find()) as client, contextlib.suppress(KeyboardInterrupt):
        feed = _follow(client, subject or [], after, from_start=from_start)
        try:
            for number, (event, cursor) in enumerate(feed, start=1):
                after = cursor
                if output is Format.JSON:
                    print_json({"event": as_dict(event), "cursor": cursor}, more=True)
                else:
                    _show(event)
                if number == limit:
                    return
        except CliError as error:
            if after and error.exit_code == EXIT_UNAVAILABLE:
                error.hints = [*error.hints, f"to continue where it stopped: --after {after}"]
            raise


def _follow(
    client: Client, subjects: list[str], after: str, *, from_start: bool
) -> Iterator[tuple[events_pb2.Event, str]]:
    """Give events with their cursors."""
    stub = client.stub(events_service_pb2_grpc.EventServiceStub)
    request = events_service_pb2.TailEventsRequest(
        subjects=subjects, after=after, from_start=from_start
    )
    for answer in client.stream(stub.TailEvents, request):
        yield answer.event, answer.cursor


@events.command("list")
def list_(
    subject: _SubjectOption = None,
    after: Annotated[str, typer.Option(help="next_cursor of the previous page")] = "",
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
    file: Annotated[
        str, typer.Argument(help="JSON or JSON Lines, optionally gzipped; - for standard input")
    ],
    output: OutputOption = Format.TABLE,
) -> None:
    """Publish events from your own systems.

    FILE holds {"events": [...]}, a list of events, one event, or one event per line. An event has `subject` and
    `data`, and may have `id`, `key` and `created_at`. An event whose `id` was published before is not
    published again; an event without an `id` is new each time.
    """
    done = events_service_pb2.PublishEventsResponse()
    with Client(Session.find()) as client, streams.opened(file) as stream:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        for batch in cut(
            items.texts(stream, "events"), lambda text: len(text.body), EVENTS_PER_CALL
        ):
            done.results.extend(_published(client, stub, batch, len(done.results)))
    if output is Format.JSON:
        print_json(done)
    else:
        print_table("", ("event", "id", "outcome", "why", "message"), map(_verdict, done.results))
    refused = sum(result.outcome not in _TAKEN for result in done.results)
    if refused:
        what = "1 event was" if refused == 1 else f"{refused} events were"
        raise CliError(f"{what} not published", exit_code=EXIT_INCOMPLETE)


def _published(
    client: Client,
    stub: events_service_pb2_grpc.EventServiceStub,
    batch: list[items.ItemText],
    first: int,
) -> Iterator[events_service_pb2.PublishEventResult]:
    """Publish some events; gives a verdict on each, in order, also on those that are not sent."""
    sent = [text.body for text in batch if not text.problem]
    answer = events_service_pb2.PublishEventsResponse()
    if sent:
        body = b"[" + b",".join(sent) + b"]"
        request = events_service_pb2.PublishEventsRequest(raw_request=body)
        answer = client.call(stub.PublishEvents, request)
    results = iter(answer.results)
    for index, text in enumerate(batch, start=first):
        if text.problem:
            yield events_service_pb2.PublishEventResult(
                index=index,
                outcome=type_pb2.OUTCOME_REJECTED,
                reason="INVALID_FIELD",
                message=text.problem,
            )
        else:
            result = next(results)
            result.index = index
            yield result


def _verdict(result: events_service_pb2.PublishEventResult) -> tuple[str, ...]:
    outcome = type_pb2.Outcome.Name(result.outcome).removeprefix("OUTCOME_")
    why = f"{result.reason} {result.pointer}".strip()
    return str(result.index), result.id, outcome, why, result.message


def _show(event: events_pb2.Event) -> None:
    say(f"{when(event.created_at)}  ", bold(event.subject), f"  {event.key}")
    say(f"    {_payload(event)}")


def _payload(event: events_pb2.Event) -> str:
    if event.WhichOneof("payload") == "json":
        return event.json.decode(errors="replace")
    return json.dumps(as_dict(event.message, zeros=False))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    event_types.add(events)
    event_operations.register(events)
    app.add_typer(events, name="events")
