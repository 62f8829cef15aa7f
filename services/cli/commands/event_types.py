"""`tollmesh events types|register`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer
from google.protobuf import json_format
from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.cli.client import Client, Session
from services.cli.documents import read_yaml
from services.cli.errors import EXIT_INCOMPLETE, EXIT_USAGE, CliError
from services.cli.output import Format, OutputOption, console, print_json, print_table

TYPES_PER_CALL = 100
_TAKEN = (type_pb2.OUTCOME_ACCEPTED, type_pb2.OUTCOME_DUPLICATE)
_SHAPE = "write event_types: [{subject: stock.moved, owner: depot, versions: [{version: 1, json_schema: {…}}]}]"


def types(
    subject: Annotated[str, typer.Argument(help="one subject, with its schemas")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what kinds of events there are: those of the release, and those that were registered."""
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
    print_table("", ("subject", "versions", "owner", "consumers", "ordered by"), map(_row, found))
    for item in found if subject else ():
        _describe(item)


def register(
    file: Annotated[str, typer.Argument(help="YAML or JSON; - for standard input")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Register types of events that your own systems publish, or further versions of them.

    FILE holds {"event_types": [...]}, a list of types, or one type. A type has `subject`, `owner` and `versions`, and
    may have `key_field`, `consumers` and `description`; a version has its number and its `json_schema`, as a text or
    as it stands. Within a version fields may only be added; whatever else changes needs the next one. What is
    registered already is left alone.
    """
    wanted = event_types(read_yaml(file), "standard input" if file == "-" else file)
    done = events_service_pb2.RegisterEventTypesResponse()
    with Client(Session.find()) as client:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        for first in range(0, len(wanted), TYPES_PER_CALL):
            request = events_service_pb2.RegisterEventTypesRequest(
                event_types=wanted[first : first + TYPES_PER_CALL]
            )
            for result in client.call(stub.RegisterEventTypes, request).results:
                result.index += first
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
    """Read types of events from a plain document.

    Raises:
        CliError: it holds none, or something else.
    """
    items = document
    if isinstance(document, dict):
        items = document.get("event_types", [document])
        if "event_types" in document and len(document) > 1:
            items = None
    if not isinstance(items, list) or not items:
        raise CliError(f"{name} holds no types of events", _SHAPE, exit_code=EXIT_USAGE)
    return [_event_type(item, f"{name}: event_types[{at}]") for at, item in enumerate(items)]


def _event_type(item: Any, place: str) -> events_pb2.EventType:
    try:
        return json_format.ParseDict(_plain(item, place), events_pb2.EventType())
    except (json_format.ParseError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise CliError(f"{place} is no type: {error}", _SHAPE, exit_code=EXIT_USAGE) from error


def _plain(item: Any, place: str) -> Any:
    """Return a type with its schemas as texts and its times as the proto's JSON has them."""
    if not isinstance(item, dict) or not isinstance(item.get("versions", []), list):
        return item
    return item | {"versions": [_version(v, place) for v in item.get("versions", [])]}


def _version(item: Any, place: str) -> Any:
    if not isinstance(item, dict):
        return item
    plain = {
        key: value.isoformat() if isinstance(value, datetime) else value
        for key, value in item.items()
    }
    schema = plain.get("json_schema")
    if schema is not None and not isinstance(schema, str):
        _check(schema, f"{place}.json_schema")
        plain["json_schema"] = json.dumps(schema, ensure_ascii=False, allow_nan=False)
    return plain


def _check(value: object, place: str) -> None:
    """Refuse what YAML has and JSON does not: dates, and keys that are no texts, as `on` and `1` are."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _unquoted(key, f"{place}: a key")
            _check(item, f"{place}.{key}")
    elif isinstance(value, list):
        for at, item in enumerate(value):
            _check(item, f"{place}[{at}]")
    elif not isinstance(value, str | int | float | None):
        raise _unquoted(value, place)


def _unquoted(value: object, place: str) -> CliError:
    return CliError(
        f"{place} is {value}, which YAML reads as a {type(value).__name__}",
        "put it in quotes, as it stands in the file: JSON has no dates, and every key of it is a text",
        exit_code=EXIT_USAGE,
    )


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
    console.print(f"{item.description}\n", highlight=False, markup=False)
    for version in item.versions:
        text = version.json_schema or f"message {version.protobuf_message}"
        console.print(f"version {version.version}: {text}", highlight=False, markup=False)


def _verdict(result: events_service_pb2.RegisterEventTypeResult) -> tuple[str, ...]:
    outcome = type_pb2.Outcome.Name(result.outcome).removeprefix("OUTCOME_")
    why = f"{result.reason} {result.pointer}".strip()
    return result.subject, str(result.version or ""), outcome, why, result.message


def add(events: typer.Typer) -> None:
    """Add the commands to `tollmesh events`."""
    events.command("types")(types)
    events.command("register")(register)
