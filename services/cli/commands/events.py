"""`tollmesh events publish|tail|list`, and those of `event_types` and `event_operations`."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Annotated

import typer
from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.cli import streams, strict_json
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
# A payload may weigh 1 MiB; the event around it needs room.
EVENT_CHARS_MAX = 2 * 1024 * 1024
_HEAD_CHARS = 4_096
_LIST = re.compile(r'\{\s*"events"\s*:\s*\[')
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
        str, typer.Option(help="cursor to continue from; the oldest event by default")
    ] = "",
    new: Annotated[bool, typer.Option("--new", help="only events from now on")] = False,
    limit: Annotated[
        int, typer.Option(min=0, help="stop after this many events; 0 for no limit")
    ] = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Follow the feed, in order, until Ctrl-C. With --output json: one document per line, each with its cursor."""
    if new and after:
        raise CliError("use --after or --new, not both", exit_code=EXIT_USAGE)
    registry.all_types()
    with Client(Session.find()) as client, contextlib.suppress(KeyboardInterrupt):
        feed = _follow(client, subject or [], after, from_start=not (after or new))
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
        for batch in cut(event_texts(stream), lambda text: len(text.body), EVENTS_PER_CALL):
            done.results.extend(_published(client, stub, batch, len(done.results)))
    if output is Format.JSON:
        print_json(done)
    else:
        print_table("", ("event", "id", "outcome", "why", "message"), map(_verdict, done.results))
    refused = sum(result.outcome not in _TAKEN for result in done.results)
    if refused:
        what = "1 event was" if refused == 1 else f"{refused} events were"
        raise CliError(f"{what} not published", exit_code=EXIT_INCOMPLETE)


# A text that may be too long, and where it starts.
_Placed = tuple[str | None, strict_json.Place]


@dataclass(frozen=True, slots=True)
class EventText:
    """An event of a file.

    Attributes:
        body: its text, unchanged.
        problem: why it is not sent; empty when it can be.
    """

    body: bytes
    problem: str = ""


def event_texts(stream: IO[str]) -> Iterator[EventText]:
    """Split a text into events; payloads keep their text.

    Raises:
        CliError: it isn't valid JSON, or is cut off.
    """
    try:
        yield from map(_checked, _texts(stream))
    except streams.Damaged as error:
        raise CliError(f"the file isn't valid JSON: {error}", exit_code=EXIT_USAGE) from error


def _texts(stream: IO[str]) -> Iterator[_Placed]:
    start = strict_json.START
    while (first := stream.read(1)).isspace():
        start = start.behind(first)
    if first == "[":
        return streams.elements(stream, EVENT_CHARS_MAX, start=start.behind(first))
    if first != "{":
        raise streams.Damaged("it starts with neither { nor [")
    head = first + stream.read(_HEAD_CHARS)
    if found := _LIST.match(head):
        rest = streams.Ahead(head[found.end() :], stream)
        start = start.behind(found[0])
        return streams.elements(rest, EVENT_CHARS_MAX, behind="}", start=start)
    return _lines_or_one(streams.Ahead(head, stream), start)


def _lines_or_one(stream: streams.Ahead, start: strict_json.Place) -> Iterator[_Placed]:
    """Give one event per line, or a single event that spans several lines."""
    begun = stream.readline(EVENT_CHARS_MAX + 1)
    if not _is_json(begun):
        begun += stream.read(EVENT_CHARS_MAX + 1 - len(begun))
        if _is_json(begun):
            yield begun, start
            return
    yield from _lines(streams.Ahead(begun, stream), start)


def _lines(stream: streams.Ahead, start: strict_json.Place) -> Iterator[_Placed]:
    lines = streams.Lines(stream, before=start.line - 1, chars_max=EVENT_CHARS_MAX)
    for number, line in lines.numbered():
        at = strict_json.Place(number, start.column if number == start.line else 1)
        if line is None:
            yield None, at
        else:
            yield line.strip(), at.behind(line[: len(line) - len(line.lstrip())])


def _is_json(text: str) -> bool:
    try:
        # Its numbers are the services' to judge, event by event.
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def _checked(placed: _Placed) -> EventText:
    text, place = placed
    if text is None:
        return EventText(b"", f"is longer than {EVENT_CHARS_MAX:,} characters")
    try:
        strict_json.decode(text, place)
        return EventText(text.encode())
    except UnicodeEncodeError:
        return EventText(b"", "has bytes that aren't UTF-8")
    except ValueError as error:
        return EventText(b"", f"is not valid JSON: {error}")


def _published(
    client: Client,
    stub: events_service_pb2_grpc.EventServiceStub,
    batch: list[EventText],
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
