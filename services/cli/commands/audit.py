"""`tollmesh audit list`."""

from __future__ import annotations

from typing import Annotated

import typer
from payments.access.v1 import access_pb2, access_service_pb2, access_service_pb2_grpc

from services.cli import lists, periods
from services.cli.changes import field_changes
from services.cli.client import Client, Session
from services.cli.output import Format, LimitOption, OutputOption, say, when

audit = typer.Typer(help="Who changed what in configuration and prices.", no_args_is_help=True)

_COLUMNS = ("recorded at, UTC", "kind", "subject", "actor", "change")


@audit.command("list")
def list_(
    kind: Annotated[
        list[str] | None,
        typer.Option(help="only this kind of thing, e.g. plan or api_key; may be repeated"),
    ] = None,
    subject: Annotated[str, typer.Option(help="only the thing with this key")] = "",
    actor: Annotated[str, typer.Option(help="only what this key or service changed")] = "",
    period: Annotated[
        str, typer.Option(help=f"only what was recorded within: {periods.HELP}")
    ] = "",
    fields: Annotated[
        bool, typer.Option("--fields", help="show what changed, field by field, instead of a table")
    ] = False,
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List changes of configuration and reference data, the newest first."""
    request = access_service_pb2.ListAuditEntriesRequest(
        kinds=kind or [], subject_id=subject, actor=actor
    )
    if period:
        request.period.CopyFrom(periods.parse(period))
    with Client(Session.find()) as client:
        stub = client.stub(access_service_pb2_grpc.AccessServiceStub)
        found = lists.pages(client, stub.ListAuditEntries, request, "entries")
        if fields and output is not Format.JSON:
            _show_fields(lists.Limited(found, limit))
            return
        lists.show(output, "entries", found, _COLUMNS, _row, limit=limit)


def _show_fields(entries: lists.Limited[access_pb2.AuditEntry]) -> None:
    for entry in entries:
        said = f"{when(entry.recorded_at)} {entry.kind} {entry.subject_id} {_change(entry)}"
        say(f"{said} by {entry.actor}")
        for line in field_changes(entry.before, entry.after):
            say(f"    {line}")


def _row(entry: access_pb2.AuditEntry) -> tuple[str, ...]:
    return when(entry.recorded_at), entry.kind, entry.subject_id, entry.actor, _change(entry)


def _change(entry: access_pb2.AuditEntry) -> str:
    if not entry.HasField("before"):
        return "created"
    return "updated" if entry.HasField("after") else "removed"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(audit, name="audit")
