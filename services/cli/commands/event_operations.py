"""`tollmesh events lag|dead-letters|replay`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Annotated
from uuid import UUID, uuid4, uuid5

import typer
from payments.events.v1 import events_service_pb2 as service_pb2
from payments.events.v1 import events_service_pb2_grpc, operations_pb2

from services.cli import periods
from services.cli.client import Client, Session
from services.cli.errors import EXIT_USAGE, CliError, Resumable
from services.cli.output import (
    Format,
    OutputOption,
    as_dict,
    print_json,
    print_table,
    say,
    when,
)

_Stub = events_service_pb2_grpc.EventServiceStub
# Of 1,000 letters each. What fails again while the command works must not keep it at work for ever.
_LETTER_CALLS_MAX = 100


def lag(output: OutputOption = Format.TABLE) -> None:
    """Show how far each consumer has got, and which keys are blocked."""
    with Client(Session.find()) as client:
        found = list(_consumers(client))
    if output is Format.JSON:
        print_json(service_pb2.ListConsumersResponse(consumers=found))
        return
    numbers = ("waiting", "retrying", "dead letters")
    columns = ("consumer", "subjects", *numbers, "oldest recorded at, UTC")
    print_table("", columns, map(_row, found), right=numbers)
    failing = [(item.consumer, key) for item in found for key in item.failing_keys]
    if failing:
        columns = ("consumer", "key", "event", "tries", "next try at, UTC", "last error")
        rows = (_failing(consumer, key) for consumer, key in failing)
        print_table("Blocked keys", columns, rows, right=("tries",))


def dead_letters(
    consumer: Annotated[str, typer.Option(help="only those of this consumer")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    output: OutputOption = Format.TABLE,
) -> None:
    """List the events that a consumer gave up on."""
    with Client(Session.find()) as client:
        found, more = _letters(client, consumer, limit)
    if output is Format.JSON:
        print_json({"dead_letters": [as_dict(letter) for letter in found], "more": more})
        return
    columns = ("consumer", "parked at, UTC", "subject", "key", "event", "tries", "last error")
    print_table("", columns, map(_letter, found), right=("tries",))
    if more:
        say(f"there are more than {limit}: raise --limit")


def replay(
    consumer: Annotated[
        str, typer.Argument(help="name of the consumer, as in `tollmesh events lag`")
    ],
    dead_letters: Annotated[
        bool,
        typer.Option("--dead-letters", help="replay its dead letters, with a fresh set of tries"),
    ] = False,
    key: Annotated[str, typer.Option(help="with --dead-letters: only this key")] = "",
    event: Annotated[
        list[str] | None, typer.Option(help="with --dead-letters: only this event; may be repeated")
    ] = None,
    from_: Annotated[
        str, typer.Option("--from", help="replay events recorded at or after this time")
    ] = "",
    to: Annotated[str, typer.Option(help="with --from: and before this time; now by default")] = "",
    subject: Annotated[
        list[str] | None,
        typer.Option(help="with --from: exact, or a prefix such as payment.*; may be repeated"),
    ] = None,
    request_id: Annotated[
        str,
        typer.Option(help="UUID of an interrupted command, to resume it: nothing is done twice"),
    ] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Make a consumer handle events again: its dead letters, or everything from a period.

    Dead letters have had no effect yet. Events of a period have: the consumer repeats its work, except what it finds
    already done. Times are ISO 8601, in UTC unless a zone is given.
    """
    started = _request_id(request_id)
    if dead_letters == bool(from_):
        raise CliError("give --dead-letters or --from", exit_code=EXIT_USAGE)
    if dead_letters and (to or subject):
        raise CliError("--to and --subject go with --from", exit_code=EXIT_USAGE)
    if from_ and (key or event):
        raise CliError("--key and --event go with --dead-letters", exit_code=EXIT_USAGE)
    with Client(Session.find()) as client:
        if dead_letters:
            letters = service_pb2.ReplayDeadLettersRequest(
                consumer=consumer, key=key, event_ids=event or []
            )
            replayed, generation = _replay_letters(client, letters, started), 0
        else:
            to = to or datetime.now(UTC).isoformat()
            request = service_pb2.ReplayEventsRequest(
                consumer=consumer, period=periods.between(from_, to), subjects=subject or []
            )
            replayed, generation = _replay_period(client, request, started, to)
    if output is Format.JSON:
        print_json({"replayed_count": replayed, "generation": generation})
    else:
        as_what = f" as generation {generation}" if generation else ""
        what = "1 event" if replayed == 1 else f"{replayed} events"
        say(f"{consumer}: {what} queued again{as_what}")


def _request_id(text: str) -> UUID:
    try:
        return UUID(text) if text else uuid4()
    except ValueError as error:
        raise CliError(f"{text!r} is not a UUID", exit_code=EXIT_USAGE) from error


def _consumers(client: Client) -> Iterator[operations_pb2.Consumer]:
    request = service_pb2.ListConsumersRequest()
    while True:
        page = client.call(client.stub(_Stub).ListConsumers, request)
        yield from page.consumers
        request.page_token = page.next_page_token
        if not request.page_token:
            return


def _letters(
    client: Client, consumer: str, limit: int
) -> tuple[list[operations_pb2.DeadLetter], bool]:
    """Return up to `limit` letters, and whether there are more."""
    found: list[operations_pb2.DeadLetter] = []
    request = service_pb2.ListDeadLettersRequest(consumer=consumer)
    while len(found) < limit:
        request.page_size = min(limit - len(found), 1000)
        page = client.call(client.stub(_Stub).ListDeadLetters, request)
        found.extend(page.dead_letters)
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    return found, bool(request.page_token)


def _replay_letters(
    client: Client, request: service_pb2.ReplayDeadLettersRequest, started: UUID
) -> int:
    """Replay call by call; each call's id derives from the command's."""
    replayed = 0
    for number in range(_LETTER_CALLS_MAX):
        request.request_id = str(uuid5(started, str(number)))
        with Resumable(f"--request-id {started}"):
            answer = client.call(client.stub(_Stub).ReplayDeadLetters, request)
        replayed += answer.replayed_count
        if not answer.more or not answer.replayed_count:
            break
    return replayed


def _replay_period(
    client: Client, request: service_pb2.ReplayEventsRequest, started: UUID, to: str
) -> tuple[int, int]:
    """Replay call by call; returns how many events, and the number of the replay."""
    replayed = 0
    for number in count():
        request.request_id = str(uuid5(started, str(number)))
        with Resumable(f"--to {to} --request-id {started}"):
            answer = client.call(client.stub(_Stub).ReplayEvents, request)
        replayed += answer.replayed_count
        request.page_token = answer.next_page_token
        if not request.page_token:
            break
    return replayed, answer.generation


def _row(item: operations_pb2.Consumer) -> tuple[str, ...]:
    return (
        item.consumer,
        ", ".join(item.subjects),
        str(item.waiting_count),
        str(item.retrying_count),
        str(item.dead_letter_count),
        when(item.oldest_recorded_at),
    )


def _failing(consumer: str, key: operations_pb2.FailingKey) -> tuple[str, ...]:
    due = "after a replay" if key.parked else when(key.next_try_at)
    return consumer, key.key, key.event_id, str(key.tries), due, key.last_error


def _letter(letter: operations_pb2.DeadLetter) -> tuple[str, ...]:
    return (
        letter.consumer,
        when(letter.buried_at),
        letter.subject,
        f"{letter.key} (parked)" if letter.parked else letter.key,
        letter.event_id,
        str(letter.tries),
        letter.last_error,
    )


def register(events: typer.Typer) -> None:
    """Add the commands to `tollmesh events`."""
    events.command("lag")(lag)
    events.command("dead-letters")(dead_letters)
    events.command("replay")(replay)
