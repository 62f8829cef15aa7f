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

_LATE = {
    "adjust": metering_pb2.LATE_POLICY_ADJUST,
    "reject": metering_pb2.LATE_POLICY_REJECT,
}
_ANY = "any"
_NONE = "none"
_LATE_NAMES = {policy: name for name, policy in _LATE.items()}

settings = typer.Typer(
    help="Settings of the tenant: which times and metadata of usage are accepted, how it is rolled up.",
    no_args_is_help=True,
)


@settings.command("get")
def get(output: OutputOption = Format.TABLE) -> None:
    """Show how far from now usage may lie to be accepted, and what its metadata may have."""
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
    late: Annotated[
        str, typer.Option(help="usage of a period that a charge has closed: adjust or reject")
    ] = "",
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            help="key that metadata may have, repeated for each: others are rejected; `any` for all"
        ),
    ] = None,
    rollup_key: Annotated[
        list[str] | None,
        typer.Option(
            help="key of metadata whose values rollups keep apart, repeated for each, up to four; `none` for none"
        ),
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Change what is given and leave the rest. What is stored already stays as it is."""
    if not (accept_past or accept_future or late or metadata or rollup_key):
        raise CliError(
            "give --accept-past, --accept-future, --late, --metadata or --rollup-key",
            exit_code=EXIT_USAGE,
        )
    request = metering_service_pb2.UpdateIngestSettingsRequest(request_id=str(uuid4()))
    if accept_past:
        request.accept_past.FromTimedelta(durations.parse(accept_past))
    if accept_future:
        request.accept_future.FromTimedelta(durations.parse(accept_future))
    if late:
        if late not in _LATE:
            raise CliError(f"{late!r} is no policy", "use adjust or reject", exit_code=EXIT_USAGE)
        request.late = _LATE[late]
    _alone("--metadata", _ANY, metadata)
    _alone("--rollup-key", _NONE, rollup_key)
    if metadata == [_ANY]:
        request.metadata_any = True
    elif metadata:
        request.metadata_allowed.extend(metadata)
    if rollup_key == [_NONE]:
        request.rollup_keys_none = True
    elif rollup_key:
        request.rollup_keys.extend(rollup_key)
    with Client(Session.find()) as client:
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        found = client.call(stub.UpdateIngestSettings, request).ingest_settings
    _show(found, output)


def _alone(option: str, word: str, given: list[str] | None) -> None:
    """Refuse keys beside the word that stands for all or none of them: it would be taken for a key."""
    if given and word in given and len(given) > 1:
        raise CliError(
            f"{option} {word} stands alone: it cannot be given with keys", exit_code=EXIT_USAGE
        )


def _show(found: metering_pb2.IngestSettings, output: Format) -> None:
    if output is Format.JSON:
        print_json(found)
        return
    rows = [
        ("accept-past", durations.describe(found.accept_past), "how far back usage may lie"),
        ("accept-future", durations.describe(found.accept_future), "how far ahead usage may lie"),
        ("late", _LATE_NAMES.get(found.late, "?"), "what becomes of usage of a closed period"),
        ("metadata", ", ".join(found.metadata_allowed) or _ANY, "keys that metadata may have"),
        ("rollup-key", ", ".join(found.rollup_keys) or _NONE, "keys that rollups keep apart"),
    ]
    print_table("", ("setting", "value", "what it is"), rows)
    if found.HasField("updated_at"):
        say(f"set at {when(found.updated_at)} UTC")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(settings, name="settings")
