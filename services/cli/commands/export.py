"""`tollmesh export usage|charges|entries|payments|events|commissions|payouts`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from payments.metering.v1 import metering_pb2
from payments.orchestration.v1 import orchestration_pb2
from payments.type.v1 import type_pb2
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from services.cli import aggregations, export_files, periods, tables
from services.cli.client import Client, Session
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.export_files import FileFormat
from services.cli.output import Format, OutputOption, note, print_json, progress_console, say
from services.cli.pairs import pairs_of
from services.cli.tables import Page, Table
from services.runtime import moments

export = typer.Typer(
    help="Write usage, charges, entries, payments, events, commissions or payouts to a file, page by page.",
    no_args_is_help=True,
)

_FormatOption = Annotated[
    FileFormat | None,
    typer.Option("--format", help="by the ending of --out if left out, else csv"),
]
_OutOption = Annotated[
    str,
    typer.Option(
        "--out",
        help="file, which appears whole at the end or not at all; standard output if left out",
    ),
]
_PeriodOption = Annotated[str, typer.Option("--period", help=periods.HELP)]
_PartyOption = Annotated[str, typer.Option(help="only of this party")]


def _write(
    table: Table, pages: Iterable[Page], chosen: FileFormat | None, out: str, output: Format
) -> int:
    if output is Format.JSON and not out:
        raise CliError(
            "--output json says what was written to a file: name it with --out",
            exit_code=EXIT_USAGE,
        )
    file_format = export_files.format_of(chosen, out)
    bar = Progress(
        TextColumn(f"export {table.name}"),
        TextColumn("{task.completed:,.0f} rows"),
        TimeElapsedColumn(),
        console=progress_console,
        disable=not progress_console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task("export", total=None)
        rows = export_files.export(
            table, pages, file_format, out, lambda done: bar.update(task, completed=done)
        )
    if output is Format.JSON:
        print_json({"table": table.name, "rows": rows, "file": out, "format": file_format.value})
        return rows
    told = f"{rows:,} {'row' if rows == 1 else 'rows'}"
    if out:
        say(f"{told} written to {out}")
    else:
        note(told)
    return rows


def _period(text: str) -> type_pb2.Period | None:
    return periods.parse(text) if text else None


@export.command("usage")
def usage(
    org: Annotated[list[str], typer.Option("--org", help="organisation; may be repeated")],
    period: _PeriodOption,
    window: Annotated[str, typer.Option(help="none, hour, day or month")] = "day",
    aggregation: Annotated[str, typer.Option(help=aggregations.HELP)] = "sum",
    time_zone: Annotated[str, typer.Option(help="IANA time zone of the windows")] = "UTC",
    sku: Annotated[list[str] | None, typer.Option(help="only this SKU; may be repeated")] = None,
    project: Annotated[str, typer.Option(help="only this project")] = "",
    group_by: Annotated[
        list[str] | None, typer.Option(help="key of the metadata; up to three")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(help="key=value: only events that have it; may be repeated")
    ] = None,
    format: _FormatOption = None,
    out: _OutOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Export usage by SKU, project and window. The mesh gives usage in windows; it has no call for single events."""
    try:
        zone = moments.zone(time_zone)
    except LookupError as error:
        raise CliError(str(error), exit_code=EXIT_USAGE) from error
    asked = tables.UsageAsked(
        organisations=org,
        period=periods.parse(period),
        window=_value(metering_pb2.Window, "WINDOW_", window),
        aggregation=_value(type_pb2.Aggregation, "AGGREGATION_", aggregation),
        time_zone=time_zone,
        zone=zone,
        skus=sku or (),
        project_id=project,
        group_by=group_by or (),
        metadata=pairs_of("--metadata", metadata or (), "region=eu"),
    )
    with Client(Session.find()) as client:
        _write(tables.USAGE, tables.usage(client, asked), format, out, output)


@export.command("charges")
def charges(
    org: Annotated[
        list[str] | None,
        typer.Option("--org", help="organisation; may be repeated; all by default"),
    ] = None,
    period: _PeriodOption = "",
    format: _FormatOption = None,
    out: _OutOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Export the lines of charges; of a period, those whose period has an instant in common with it."""
    with Client(Session.find()) as client:
        pages = tables.charges(client, _period(period), org or ())
        _write(tables.CHARGES, pages, format, out, output)


@export.command("entries")
def entries(
    account: Annotated[
        list[str] | None, typer.Option("--account", help="account; may be repeated; all by default")
    ] = None,
    owner: Annotated[str, typer.Option(help="only accounts of this owner")] = "",
    period: _PeriodOption = "",
    format: _FormatOption = None,
    out: _OutOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Export the ledger's entries, account by account; of a period by when they were recorded."""
    if account and owner:
        raise CliError("give --account or --owner", exit_code=EXIT_USAGE)
    with Client(Session.find()) as client:
        pages = tables.entries(client, _period(period), account or (), owner)
        _write(tables.ENTRIES, pages, format, out, output)


@export.command("payments")
def payments(
    merchant: Annotated[str, typer.Option(help="only payments to this merchant")] = "",
    status: Annotated[str, typer.Option(help="only payments in this status, e.g. succeeded")] = "",
    period: _PeriodOption = "",
    format: _FormatOption = None,
    out: _OutOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Export payments, newest first; of a period by when they were requested."""
    wanted = _value(orchestration_pb2.PaymentStatus, "PAYMENT_STATUS_", status) if status else 0
    with Client(Session.find()) as client:
        pages = tables.payments(client, _period(period), merchant, wanted)
        _write(tables.PAYMENTS, pages, format, out, output)


@export.command("events")
def events(
    subject: Annotated[
        list[str] | None,
        typer.Option("--subject", help="exact, or a prefix such as payment.*; may be repeated"),
    ] = None,
    after: Annotated[
        str, typer.Option(help="cursor that an earlier export ended with; only what came since")
    ] = "",
    period: _PeriodOption = "",
    format: _FormatOption = None,
    out: _OutOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Export the event feed in its order, and say the cursor for the next export on standard error."""
    with Client(Session.find()) as client:
        pages, rows = tables.events(client, _period(period), subject or (), after)
        _write(tables.EVENTS, rows, format, out, output)
    if pages.last_token:
        note(f"to export what comes later: --after {pages.last_token}")


@export.command("commissions")
def commissions(
    period: _PeriodOption = "",
    party: _PartyOption = "",
    format: _FormatOption = None,
    out: _OutOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Write what partners earn line by line, the latest first. --period: when it was earned."""
    with Client(Session.find()) as client:
        pages = tables.commissions(client, _period(period), party)
        _write(tables.COMMISSIONS, pages, format, out, output)


@export.command("payouts")
def payouts(
    period: _PeriodOption = "",
    party: _PartyOption = "",
    format: _FormatOption = None,
    out: _OutOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Write payouts, the latest first. --period: when they were made."""
    with Client(Session.find()) as client:
        pages = tables.payouts(client, _period(period), party)
        _write(tables.PAYOUTS, pages, format, out, output)


def _value(enum: Any, prefix: str, text: str) -> Any:
    wanted = f"{prefix}{text.upper()}"
    known = [name for name in list(enum.keys()) if not name.endswith("_UNSPECIFIED")]
    if wanted not in known:
        names = ", ".join(name.removeprefix(prefix).lower() for name in known)
        raise CliError(f"{text!r} is not one of {names}", exit_code=EXIT_USAGE)
    return enum.Value(wanted)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(export, name="export")
