"""`tollmesh events types|register`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.cli.batches import cut
from services.cli.client import Client, Session
from services.cli.documents import read_document
from services.cli.errors import EXIT_INCOMPLETE, EXIT_USAGE, CliError
from services.cli.output import Format, OutputOption, print_json, print_table, say
from services.runtime.edge import json_messages

TYPES_PER_CALL = 100
_TAKEN = (type_pb2.OUTCOME_ACCEPTED, type_pb2.OUTCOME_DUPLICATE)
_SHAPE = "write event_types: [{subject: stock.moved, owner: depot, versions: [{version: 1, json_schema: {…}}]}]"


def types(
    subject: Annotated[str, typer.Argument(help="one subject, with its schemas")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """List the event types: those of the release, and those that were registered."""
    with Client(Session.find()) as client:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        if subject:
            request = events_service_pb2.GetEventTypeRequest(subject=subject)
            found = [client.call(stub.GetEventType, request).event_type]
        else:
            found = list(_types(client, stub))
    if output is Format.JSON:
        print_json(events_service_pb2.ListEventTypesResponse(event_types=found))
        return
    print_table("", ("subject", "versions", "owner", "consumers", "ordering key"), map(_row, found))
    for item in found if subject else ():
        _describe(item)


def register(
    file: Annotated[str, typer.Argument(help="YAML or JSON; - for standard input")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Register the event types that your own systems publish, or new versions of them.

    FILE holds {"event_types": [...]}, a list of types, or one type. A type has `subject`, `owner` and `versions`, and
    may have `key_field`, `consumers` and `description`; a version has its number and its `json_schema`, as a string or
    an object. Within a version fields may only be added; any other change needs a new version. What is already
    registered stays as it is.
    """
    wanted = event_types(read_document(file), "standard input" if file == "-" else file)
    done = events_service_pb2.RegisterEventTypesResponse()
    with Client(Session.find()) as client:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        for batch in cut(wanted, events_pb2.EventType.ByteSize, TYPES_PER_CALL):
            answered = len(done.results)
            request = events_service_pb2.RegisterEventTypesRequest(event_types=batch)
            try:
                answer = client.call(stub.RegisterEventTypes, request)
            except CliError as error:
                if answered:
                    error.hints = [
                        *error.hints,
                        f"the first {answered} types were handled; repeat the command for the rest",
                    ]
                raise
            for result in answer.results:
                result.index += answered
                done.results.append(result)
    if output is Format.JSON:
        print_json(done)
    else:
        columns = ("subject", "version", "outcome", "why", "message")
        print_table("", columns, map(_verdict, done.results))
    refused = sum(result.outcome not in _TAKEN for result in done.results)
    if refused:
        what = "1 type was" if refused == 1 else f"{refused} types were"
        raise CliError(f"{what} not registered", exit_code=EXIT_INCOMPLETE)


def event_types(document: Any, name: str) -> list[events_pb2.EventType]:
    """Read event types from a parsed document.

    Raises:
        CliError: it holds none, or something else.
    """
    items = document
    if isinstance(document, dict):
        items = document.get("event_types", [document])
        if "event_types" in document and len(document) > 1:
            items = None
    if not isinstance(items, list) or not items:
        raise CliError(f"{name} holds no event types", _SHAPE, exit_code=EXIT_USAGE)
    return [_event_type(item, f"{name}: event_types[{at}]") for at, item in enumerate(items)]


def _event_type(item: Any, place: str) -> events_pb2.EventType:
    if not isinstance(item, dict):
        raise CliError(
            f"{place} is not an event type: it has to be an object", _SHAPE, exit_code=EXIT_USAGE
        )
    versions = item.get("versions")
    if isinstance(versions, list):
        at = enumerate(versions)
        item = item | {"versions": [_version(v, f"{place}.versions[{n}]") for n, v in at]}
    try:
        return json_messages.parse(item, events_pb2.EventType())
    except json_messages.NumberForText as error:
        raise CliError(
            f"{place} is not a valid event type: {error}",
            f'write "{error.number}", with the quotes',
            exit_code=EXIT_USAGE,
        ) from error
    except json_messages.NotThisMessage as error:
        raise CliError(
            f"{place} is not a valid event type: {error}", _SHAPE, exit_code=EXIT_USAGE
        ) from error


def _version(item: Any, place: str) -> Any:
    """Return a version with its schema as text."""
    if not isinstance(item, dict):
        raise CliError(
            f"{place} is not a version: it has to be an object", _SHAPE, exit_code=EXIT_USAGE
        )
    schema = item.get("json_schema")
    if schema is None or isinstance(schema, str):
        return item
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise CliError(
            f"{place}.json_schema isn't valid JSON: {error}",
            "keys are strings: quote those that look like something else",
            exit_code=EXIT_USAGE,
        ) from error
    return item | {"json_schema": text}


def _types(
    client: Client, stub: events_service_pb2_grpc.EventServiceStub
) -> Iterator[events_pb2.EventType]:
    request = events_service_pb2.ListEventTypesRequest()
    while True:
        page = client.call(stub.ListEventTypes, request)
        yield from page.event_types
        request.page_token = page.next_page_token
        if not request.page_token:
            return


def _row(item: events_pb2.EventType) -> tuple[str, ...]:
    versions = ", ".join(str(version.version) for version in item.versions)
    return item.subject, versions, item.owner, ", ".join(item.consumers), item.key_field


def _describe(item: events_pb2.EventType) -> None:
    _say_lines(item.description)
    say()
    for version in item.versions:
        text = version.json_schema or f"message {version.protobuf_message}"
        _say_lines(f"version {version.version}: {text}")


def _say_lines(text: str) -> None:
    for line in text.split("\n"):
        say(line)


def _verdict(result: events_service_pb2.RegisterEventTypeResult) -> tuple[str, ...]:
    outcome = type_pb2.Outcome.Name(result.outcome).removeprefix("OUTCOME_")
    why = f"{result.reason} {result.pointer}".strip()
    return result.subject, str(result.version or ""), outcome, why, result.message


def add(events: typer.Typer) -> None:
    """Add the commands to `tollmesh events`."""
    events.command("types")(types)
    events.command("register")(register)
