"""`tollmesh settings get|set`."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

import typer
from payments.metering.v1 import metering_pb2, metering_service_pb2, metering_service_pb2_grpc

from services.cli import durations
from services.cli.client import Client, Session
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import Format, OutputOption, print_json, print_table, say, when

settings = typer.Typer(
    help="Settings of the tenant: which times of usage are accepted.", no_args_is_help=True
)


@settings.command("get")
def get(output: OutputOption = Format.TABLE) -> None:
    """Show how far from now usage may lie to be accepted."""
    with Client(Session.find()) as client:
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        request = metering_service_pb2.GetIngestSettingsRequest()
        found = client.call(stub.GetIngestSettings, request).ingest_settings
    _show(found, output)


@settings.command("set")
def set_(
    accept_past: Annotated[
        str, typer.Option(help=f"how far back usage may lie: {durations.HELP}")
    ] = "",
    accept_future: Annotated[
        str, typer.Option(help=f"how far ahead usage may lie: {durations.HELP}")
    ] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Change what is given and leave the rest. What is stored already stays as it is."""
    if not (accept_past or accept_future):
        raise CliError("give --accept-past or --accept-future", exit_code=EXIT_USAGE)
    request = metering_service_pb2.UpdateIngestSettingsRequest(request_id=str(uuid4()))
    if accept_past:
        request.accept_past.FromTimedelta(durations.parse(accept_past))
    if accept_future:
        request.accept_future.FromTimedelta(durations.parse(accept_future))
    with Client(Session.find()) as client:
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        found = client.call(stub.UpdateIngestSettings, request).ingest_settings
    _show(found, output)


def _show(found: metering_pb2.IngestSettings, output: Format) -> None:
    if output is Format.JSON:
        print_json(found)
        return
    rows = [
        ("accept-past", durations.describe(found.accept_past), "how far back usage may lie"),
        ("accept-future", durations.describe(found.accept_future), "how far ahead usage may lie"),
    ]
    print_table("", ("setting", "value", "what it is"), rows)
    if found.HasField("updated_at"):
        say(f"set at {when(found.updated_at)} UTC")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(settings, name="settings")
