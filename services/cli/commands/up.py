"""`tollmesh up`, `doctor` and `version`."""

from __future__ import annotations

import asyncio
import platform
import re
import shlex
import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.client import Session, forget_session, left_key, save_session
from services.cli.errors import EXIT_UNAVAILABLE, EXIT_USAGE, CliError
from services.cli.output import Format, OutputOption, bold, print_json, print_table, say
from services.runtime.process.heap import loading

if TYPE_CHECKING:
    from services.local.mesh import LocalMesh

DataDirOption = Annotated[
    Path,
    typer.Option("--data-dir", envvar="TOLLMESH_DATA_DIR", help="where the mesh keeps its files"),
]
DEFAULT_DATA_DIR = Path(".tollmesh")
PORT_MAX = 65_535
_TENANT = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def up(
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    grpc_port: Annotated[
        int, typer.Option(min=0, max=PORT_MAX, help="gRPC port of all services; 0 picks a free one")
    ] = 7443,
    rest_port: Annotated[
        int, typer.Option(min=0, max=PORT_MAX, help="port of the REST facade; 0 picks a free one")
    ] = 7480,
    no_rest: Annotated[bool, typer.Option("--no-rest", help="run without the REST facade")] = False,
    database_url: Annotated[
        str,
        typer.Option(
            # By the environment, because every user of the machine can read the arguments of a process.
            envvar="TOLLMESH_OWNER_URL",
            help="an existing Postgres 15+; the login must own the database and be allowed to create roles",
        ),
    ] = "",
    tenant: Annotated[str, typer.Option(help="tenant of the API key that is printed")] = "default",
    nats: Annotated[
        str,
        typer.Option(
            help="NATS servers that carry events between sites, nats://host:4222, separated by commas; if the URL "
            "holds a password, set TOLLMESH_NATS_URL instead"
        ),
    ] = "",
    nats_site: Annotated[str, typer.Option(help="name of this site [default: main]")] = "",
    nats_from: Annotated[
        list[str] | None,
        typer.Option(help="a site to receive events from; may be repeated"),
    ] = None,
    webhook_allow: Annotated[
        str,
        typer.Option(
            help="non-public addresses, networks and hosts, with optional port, that webhooks may be sent to: "
            "127.0.0.1/32,hooks.internal:8080"
        ),
    ] = "",
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="with --database-url, if the data directory that the database was first used with is lost: set new "
            "passwords for its roles, which locks out whoever has the old ones",
        ),
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Run a whole mesh (Postgres, every service, the REST facade) until Ctrl-C or SIGTERM."""
    if not _TENANT.fullmatch(tenant):
        raise CliError(
            f"{tenant!r} is not a valid tenant: use 1 to 64 letters, digits and . _ : -",
            exit_code=EXIT_USAGE,
        )
    # Imported here: the other commands should not pay for loading every service.
    with loading():
        import uvloop  # noqa: PLC0415

        from services.cli.start_errors import cli_error  # noqa: PLC0415
        from services.local.errors import LocalError  # noqa: PLC0415
        from services.local.mesh import LocalMesh, Options, load_services  # noqa: PLC0415
        from services.runtime import telemetry  # noqa: PLC0415
        from services.runtime.addresses import AllowList  # noqa: PLC0415
        from services.runtime.config import Settings, SettingsUnfit  # noqa: PLC0415
        from services.runtime.events import jetstream  # noqa: PLC0415
        from services.runtime.process import loop_watch  # noqa: PLC0415

        load_services()
    joined = _joined(nats, nats_site, nats_from or [])
    try:
        settings = Settings.load()
        AllowList.parse(webhook_allow)
        telemetry.configure_logs(settings.log_level)
        jetstream.Options.of(settings.model_copy(update=joined))
    except SettingsUnfit as error:
        raise CliError(str(error), exit_code=EXIT_USAGE) from error
    except ValueError as error:
        raise CliError(f"--webhook-allow: {error}", exit_code=EXIT_USAGE) from error
    options = Options(
        data_dir=data_dir,
        grpc_port=grpc_port,
        rest_port=None if no_rest else rest_port,
        database_url=database_url,
        tenant=tenant,
        nats=joined,
        webhook_allow=webhook_allow,
        take_over=take_over,
    )

    async def serve() -> None:
        with loop_watch.watching(settings.loop_holds_file):
            await _serve(LocalMesh(options, partial(left_key, data_dir)), data_dir, output)

    try:
        uvloop.run(serve())
    except LocalError as error:
        raise cli_error(error) from error


def _joined(url: str, site: str, sources: list[str]) -> dict[str, Any]:
    """Return the settings of the transport that the command line gives."""
    # Imported here, as in `up`: other commands should not pay for it.
    from pydantic import SecretStr  # noqa: PLC0415

    given = {"nats_url": SecretStr(url) if url else "", "nats_site": site}
    return {
        name: value for name, value in (given | {"nats_from": ",".join(sources)}).items() if value
    }


async def _serve(mesh: LocalMesh, data_dir: Path, output: Format) -> None:
    # Imported here, as in `up`: other commands should not pay for it.
    from services.runtime.process.node import until_signalled  # noqa: PLC0415

    # Signals are heard before anything starts: one that comes while it does, or with the line that says where it
    # listens, ends it as cleanly as any other.
    asked = asyncio.create_task(until_signalled())
    await asyncio.sleep(0)
    work = asyncio.create_task(_start_and_supervise(mesh, data_dir, output))
    try:
        await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (asked, work):
            task.cancel()
        await asyncio.wait({work, asked})
        await mesh.stop()
    if not work.cancelled() and (error := work.exception()) is not None:
        raise error


async def _start_and_supervise(mesh: LocalMesh, data_dir: Path, output: Format) -> None:
    await mesh.start()
    # From here on the data directory is ours: a mesh that did not start must not forget another's session.
    session = Session(mesh.grpc_address, mesh.api_key, mesh.rest_url)
    await asyncio.to_thread(save_session, data_dir, session)
    try:
        _announce(mesh, data_dir, output)
        await mesh.supervise()
    finally:
        forget_session(data_dir)


def _announce(mesh: LocalMesh, data_dir: Path, output: Format) -> None:
    if mesh.rest_missing:
        sys.stderr.write(
            "starting without the REST facade: building it (`make gateway`) needs Go 1.24 or later\n"
        )
    if output is Format.JSON:
        print_json(
            {
                "grpc": mesh.grpc_address,
                "rest": mesh.rest_url or None,
                "api_key": mesh.api_key,
                "database_url": mesh.database_url,
            }
        )
        return
    say(bold("Tollmesh is up."), " Press Ctrl-C to stop.")
    for name, value in (
        ("gRPC", mesh.grpc_address),
        ("REST", mesh.rest_url or "-"),
        ("API key", mesh.api_key),
    ):
        say(f"  {name:<8} {value}")
    say("In another terminal:")
    if data_dir != DEFAULT_DATA_DIR:
        # Where the other commands find address and key.
        place = shlex.quote(str(data_dir.absolute()))
        say(f"  export TOLLMESH_DATA_DIR={place}")
    say("  tollmesh doctor")


def doctor(data_dir: DataDirOption = DEFAULT_DATA_DIR, output: OutputOption = Format.TABLE) -> None:
    """Check that this machine has what a mesh needs, and whether a mesh is running."""
    # Imported here, as in `up`: other commands should not pay for it.
    from services.cli.doctor import examine  # noqa: PLC0415

    checks = examine(data_dir, Session.find(data_dir))
    if output is Format.JSON:
        print_json({"checks": [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks]})
    else:
        rows = [(c.name, "ok" if c.ok else "failed", c.detail) for c in checks]
        print_table("", ("check", "state", "detail"), rows)
    if not all(check.ok for check in checks):
        failed = ", ".join(check.name for check in checks if not check.ok)
        raise CliError(f"not in order: {failed}", exit_code=EXIT_UNAVAILABLE)


def version(output: OutputOption = Format.TABLE) -> None:
    """Print the versions of Tollmesh and of its main dependencies."""
    versions = {
        name: metadata.version(name) for name in ("tollmesh", "grpcio", "protobuf", "sqlalchemy")
    }
    # Imported here, as in `up`: other commands should not pay for it.
    from services.local.postgres.server import major_version  # noqa: PLC0415

    versions["python"] = platform.python_version()
    versions["postgres"] = major_version()
    if output is Format.JSON:
        print_json(versions)
    else:
        for name, value in versions.items():
            say(f"{name} {value}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(doctor)
    app.command()(version)
