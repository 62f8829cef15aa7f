"""`tollmesh usage amend|cancel|event|events|rejected|replay`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import uuid4

import typer
from payments.metering.v1 import (
    corrections_pb2,
    metering_pb2,
    metering_service_pb2,
    metering_service_pb2_grpc,
)

from services.cli import lists, periods
from services.cli.client import Client, Session
from services.cli.errors import EXIT_INCOMPLETE, EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    LimitOption,
    OutputOption,
    print_json,
    print_table,
    say,
    when,
)
from services.runtime.edge import json_messages

_PROBLEMS_SHOWN = 20
ReasonOption = Annotated[str, typer.Option(help="why, for people")]
RequestIdOption = Annotated[
    str, typer.Option(help="idempotency key, a UUID; the same one again changes nothing")
]


def amend(
    event_id: Annotated[str, typer.Argument(help="request_id of the event")],
    reason: ReasonOption = "",
    org: Annotated[str | None, typer.Option(help="new organisation")] = None,
    project: Annotated[str | None, typer.Option(help="new project; empty for none")] = None,
    sku: Annotated[str | None, typer.Option(help="new SKU")] = None,
    quantity: Annotated[str | None, typer.Option(help="new quantity")] = None,
    time: Annotated[str | None, typer.Option(help="new time of use, RFC 3339")] = None,
    drop_metadata: Annotated[
        list[str] | None, typer.Option(help="key of the metadata to be dropped")
    ] = None,
    request_id: RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Give a usage event another content. What was sent stays; what isn't given stays as it is."""
    given = {"org_id": org, "project_id": project, "sku": sku, "quantity": quantity, "time": time}
    given = {name: text for name, text in given.items() if text is not None}
    if not (given or drop_metadata):
        raise CliError(
            "give --org, --project, --sku, --quantity, --time or --drop-metadata",
            exit_code=EXIT_USAGE,
        )
    with Client(Session.find()) as client:
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        asked = corrections_pb2.GetEventRequest(event_id=event_id)
        newest = client.call(stub.GetEvent, asked).versions[-1]
        request = corrections_pb2.AmendEventsRequest(request_id=request_id or str(uuid4()))
        changed = _changed(newest.event, given)
        for key in drop_metadata or ():
            changed.metadata.pop(key, None)
        request.amendments.add(event=changed, reason=reason)
        answer = client.call(stub.AmendEvents, request)
    _tell(answer, "amended", "had this content already", output)


def _changed(
    event: metering_pb2.EventContent, given: dict[str, str | None]
) -> metering_pb2.UsageEvent:
    try:
        json_messages.parse(given, patch := metering_pb2.UsageEvent())
    except json_messages.NotThisMessage as error:
        raise CliError(str(error), exit_code=EXIT_USAGE) from error
    # The same fields, by number.
    changed = metering_pb2.UsageEvent.FromString(event.SerializeToString())
    for name in given:
        if name == "time":
            changed.event_time.CopyFrom(patch.event_time)
        else:
            setattr(changed, name, getattr(patch, name))
    return changed


def cancel(
    event_ids: Annotated[list[str], typer.Argument(help="request_ids of events")],
    reason: Annotated[str, typer.Option(help="why, for people")],
    request_id: RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Have usage events count nowhere, for good. What was sent stays, and its id stays used."""
    request = corrections_pb2.CancelEventsRequest(
        request_id=request_id or str(uuid4()), request_ids=event_ids, reason=reason
    )
    with Client(Session.find()) as client:
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        answer = client.call(stub.CancelEvents, request)
    _tell(answer, "cancelled", "were cancelled before", output)


def _tell(answer: Any, done: str, known: str, output: Format) -> None:
    if output is Format.JSON:
        print_json(answer)
    else:
        say(f"{answer.accepted:,} {done}, receipt {answer.receipt_id}")
        if answer.duplicate:
            say(f"{answer.duplicate:,} {known}")
        _tell_problems(answer.problems)
    _end(answer.rejected)


def _tell_problems(problems: Sequence[metering_pb2.EventProblem]) -> None:
    told = [problem for problem in problems if problem.message]
    for problem in told[:_PROBLEMS_SHOWN]:
        say(f"  {problem.request_id}: {problem.reason}: {problem.message}")
    if len(told) > _PROBLEMS_SHOWN:
        say(f"  … and {len(told) - _PROBLEMS_SHOWN:,} more")


def _end(left: int) -> None:
    if left:
        noun = "event was" if left == 1 else "events were"
        raise CliError(f"{left:,} {noun} rejected", exit_code=EXIT_INCOMPLETE)


def event(
    event_id: Annotated[str, typer.Argument(help="request_id of the event")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a usage event as it was sent, and what corrections made of it."""
    with Client(Session.find()) as client:
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        answer = client.call(stub.GetEvent, corrections_pb2.GetEventRequest(event_id=event_id))
    if output is Format.JSON:
        print_json(answer)
        return
    columns = ("version", "organisation", "project", "sku", "quantity", "used, UTC", "stored, UTC")
    rows = [_version_row(version) for version in answer.versions]
    print_table(event_id, (*columns, "by", "why"), rows, right=["version", "quantity"])


def events(
    org_id: Annotated[str, typer.Argument(metavar="ORG", help="organisation")],
    period: Annotated[str, typer.Option(help=periods.HELP)],
    sku: Annotated[str, typer.Option(help="only of this SKU")] = "",
    at: Annotated[int | None, typer.Option(help="as of this ordinal; by default now")] = None,
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List the usage events of an organisation as they count: amended, and without those cancelled."""
    request = metering_service_pb2.ListEventsRequest(
        org_id=org_id, sku=sku, period=periods.parse(period), at_ordinal=at
    )
    with Client(Session.find()) as client:
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        lists.show(
            output,
            "events",
            lists.pages(client, stub.ListEvents, request, "events"),
            ("event", "project", "sku", "quantity", "used, UTC", "labels"),
            _event_row,
            right=("quantity",),
            optional=("labels",),
            limit=limit,
        )


def _event_row(said: metering_pb2.EventContent) -> tuple[str, ...]:
    labels = ", ".join(f"{key}={said.metadata[key]}" for key in sorted(said.metadata))
    used = when(said.event_time)
    return said.request_id, said.project_id or "-", said.sku, said.quantity, used, labels


def _version_row(version: corrections_pb2.EventVersion) -> tuple[str, ...]:
    said = version.event
    quantity = "cancelled" if version.cancelled else said.quantity
    moments = (when(said.event_time), when(version.recorded_at))
    content = (said.org_id, said.project_id or "-", said.sku, quantity)
    return str(version.version), *content, *moments, version.recorded_by, version.reason


def rejected(
    org: Annotated[str, typer.Option(help="only of this organisation")] = "",
    sku: Annotated[str, typer.Option(help="only of this SKU")] = "",
    reason: Annotated[str, typer.Option(help="only for this reason, e.g. UNKNOWN_SKU")] = "",
    period: Annotated[str, typer.Option(help=f"when they were rejected: {periods.HELP}")] = "",
    all: Annotated[bool, typer.Option("--all", help="those that were replayed too")] = False,
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List usage events that broke a rule. They are kept whole; `usage replay` takes them in."""
    request = corrections_pb2.ListRejectedEventsRequest(
        org_id=org, sku=sku, reason=reason, include_replayed=all
    )
    if period:
        request.period.CopyFrom(periods.parse(period))
    with Client(Session.find()) as client:
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        lists.show(
            output,
            "rejected_events",
            lists.pages(client, stub.ListRejectedEvents, request, "rejected_events"),
            ("rejected", "organisation", "sku", "quantity", "event", "reason", "replayed with"),
            _rejected_row,
            right=("quantity",),
            optional=("replayed with",),
            limit=limit,
        )


def _rejected_row(item: corrections_pb2.RejectedEvent) -> tuple[str, ...]:
    said = item.event
    place = f"{item.receipt_id}/{item.index}"
    content = (said.org_id, said.sku, said.quantity, said.request_id)
    return place, *content, item.reason, item.replayed_receipt_id


def replay(
    rejected_ids: Annotated[
        list[str] | None, typer.Argument(help="rejected events as `usage rejected` names them")
    ] = None,
    org: Annotated[str, typer.Option(help="all of this organisation")] = "",
    sku: Annotated[str, typer.Option(help="all of this SKU")] = "",
    reason: Annotated[str, typer.Option(help="all with this reason")] = "",
    period: Annotated[str, typer.Option(help=f"all rejected in it: {periods.HELP}")] = "",
    fix: Annotated[
        list[str] | None, typer.Option(help="field=value for each, e.g. sku=api.calls")
    ] = None,
    drop_metadata: Annotated[
        list[str] | None, typer.Option(help="key of the metadata to be dropped from each")
    ] = None,
    request_id: RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Take rejected usage events in after all, each once; a thousand at a time."""
    request = corrections_pb2.ReplayRejectedEventsRequest(
        request_id=request_id or str(uuid4()),
        events=map(_rejected_id, rejected_ids or []),
        org_id=org,
        sku=sku,
        reason=reason,
    )
    if period:
        request.period.CopyFrom(periods.parse(period))
    if fix:
        request.fix.CopyFrom(_fix(fix))
    if drop_metadata:
        request.fix.drop_metadata.extend(drop_metadata)
    with Client(Session.find()) as client:
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        answer = client.call(stub.ReplayRejectedEvents, request)
    if output is Format.JSON:
        print_json(answer)
    else:
        told = f", receipt {answer.receipt_id}" if answer.receipt_id else ""
        say(f"{answer.accepted:,} of {len(answer.events):,} taken in{told}")
        if answer.duplicate:
            say(f"{answer.duplicate:,} were stored before")
        _tell_problems(answer.problems)
    _end(answer.rejected + answer.conflict)


def _rejected_id(text: str) -> corrections_pb2.RejectedEventId:
    receipt_id, slash, index = text.partition("/")
    if not (slash and index.isdecimal()):
        raise CliError(
            f"{text!r} names no rejected event",
            "use the first column of `tollmesh usage rejected`, e.g. rcp_…/3",
            exit_code=EXIT_USAGE,
        )
    return corrections_pb2.RejectedEventId(receipt_id=receipt_id, index=int(index))


def _fix(pairs: Sequence[str]) -> corrections_pb2.EventFix:
    given = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise CliError(f"{pair!r} is not field=value", exit_code=EXIT_USAGE)
        given["time" if name == "event_time" else name] = text
    try:
        return json_messages.parse(given, corrections_pb2.EventFix())
    except json_messages.NotThisMessage as error:
        raise CliError(str(error), exit_code=EXIT_USAGE) from error


def register(group: typer.Typer) -> None:
    """Add the commands to those of usage."""
    for command in (amend, cancel, event, events, rejected, replay):
        group.command()(command)
