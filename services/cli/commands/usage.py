"""`tollmesh ingest` and `tollmesh usage`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo
from typing import Annotated, Any

import typer
from payments.metering.v1 import (
    metering_pb2,
    metering_service_pb2,
    metering_service_pb2_grpc,
    rollups_pb2,
)
from payments.type.v1 import type_pb2
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from typer.core import TyperGroup

from services.cli import aggregations, lists, periods
from services.cli.client import Client, Session
from services.cli.columns import ColumnMapping
from services.cli.commands import corrections
from services.cli.errors import (
    EXIT_DIFFERENT,
    EXIT_FAULT,
    EXIT_INCOMPLETE,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    CliError,
)
from services.cli.output import (
    Format,
    LimitOption,
    OutputOption,
    as_dict,
    note,
    print_json,
    print_table,
    progress_console,
    say,
    when,
    when_in,
)
from services.cli.pairs import pairs_of
from services.cli.readers import FileFormat, detect, read
from services.cli.sender import Reason, Sender, Totals
from services.cli.streams import Meter
from services.runtime import moments

COLUMNS_SHOWN = 10
# Hours of SKUs whose rollups are computed again in one call.
_HOURS = 500


def ingest(
    file: Annotated[
        str,
        typer.Argument(
            help="a CSV, JSON, JSON Lines or Parquet file, optionally gzipped; - for standard input"
        ),
    ],
    format: Annotated[
        FileFormat | None, typer.Option(help="needed if the file extension doesn't tell")
    ] = None,
    map: Annotated[list[str] | None, typer.Option(help="field=column; may be repeated")] = None,
    set: Annotated[
        list[str] | None, typer.Option(help="field=value for every event; may be repeated")
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Send usage events. Each is stored once, however often it is sent.

    Rows that aren't valid events, or that the mesh refuses, are counted by reason, with the row numbers of examples,
    and the exit code is 6; all others are stored. `--output json` names the first hundred of them.

    Fields: request_id, org_id, project_id, sku, quantity, event_time, source, metadata.<key>. Column names
    may be in any case. Metadata comes from one column per key, or from a `metadata` column that holds an object; --map
    overrides a key of the row, and --set overrides both. Null and empty CSV cells count as missing. An event_time
    without a time zone is in UTC, and a day alone is its midnight.

    Events that the mesh holds because its database is away count as enqueued: they are stored once it is back, and
    `tollmesh receipts spooled` tells how.
    """
    mapping = ColumnMapping.parse(map or [], set or [])
    meter = Meter()
    rows = read(file, detect(file, format), mapping, _tell_unread, meter)
    with Client(Session.find()) as client, bar("ingest") as progress:
        task = progress.add_task("ingest", total=None, rate="", events=0)
        sender = Sender(client, lambda done: advance(progress, task, done, meter))
        totals = Totals()
        failure: CliError | None = None
        try:
            sender.send(rows, totals)
        except CliError as error:
            failure = error
    if failure is None or totals.sent or totals.malformed:
        report(totals, output)
    if failure is not None:
        raise _unfinished(failure)
    if not totals.complete:
        left = totals.conflict + totals.rejected + totals.malformed
        told = "1 row was" if left == 1 else f"{left:,} rows were"
        raise CliError(f"{told} not stored", exit_code=EXIT_INCOMPLETE)


def _tell_unread(names: Sequence[str]) -> None:
    more = f" and {len(names) - COLUMNS_SHOWN} more" if len(names) > COLUMNS_SHOWN else ""
    note(f"columns that are not used: {', '.join(names[:COLUMNS_SHOWN])}{more}")


def _unfinished(error: CliError) -> CliError:
    """Add what to do next when the mesh or the file failed midway."""
    if error.exit_code not in (EXIT_UNAVAILABLE, EXIT_FAULT):
        return error
    again = "then send the file again: what is already stored counts as a duplicate"
    error.hints = [*error.hints, again]
    return error


def report(totals: Totals, output: Format) -> None:
    """Print how many rows were stored or refused."""
    counts = ("accepted", "duplicate", "conflict", "rejected", "enqueued", "malformed")
    # The reader finds its problems before the answers to the rows before them are there.
    problems = sorted(totals.problems, key=lambda problem: problem.row)
    if output is Format.JSON:
        named = [{"row": problem.row, "problem": problem.problem} for problem in problems]
        plain = {name: getattr(totals, name) for name in counts}
        reasons = [
            {"reason": each.name, "count": each.count, "rows": [row.row for row in each.examples]}
            for each in _by_count(totals)
        ]
        plain |= {"seconds": round(totals.seconds, 3), "reasons": reasons, "problems": named}
        if totals.held:
            plain["enqueued_receipts"] = totals.held
        print_json(plain)
        return
    rows = [(name, f"{getattr(totals, name):,}") for name in counts if getattr(totals, name)]
    print_table("", ("verdict", "events"), rows or [("accepted", "0")], right=["events"])
    if totals.seconds and totals.sent:
        rate = totals.sent / totals.seconds
        noun = "event" if totals.sent == 1 else "events"
        say(f"{totals.sent:,} {noun} in {totals.seconds:.1f} s, {rate:,.0f}/s")
    if totals.held:
        say(
            "the database is away: what is enqueued is stored once it is back, and is safe until then"
        )
        say(f"its verdicts: tollmesh receipts spooled {totals.held[0]}")
        if len(totals.held) > 1:
            say(f"  … and {len(totals.held) - 1:,} more receipts; --output json names them")
    for each in _by_count(totals):
        say(f"{each.name} ({each.count:,} {'row' if each.count == 1 else 'rows'})")
        for problem in each.examples:
            say(f"  row {problem.row}: {problem.problem}")
        if each.count > len(each.examples):
            say(f"  … and {each.count - len(each.examples):,} more")


def _by_count(totals: Totals) -> list[Reason]:
    return sorted(totals.reasons.values(), key=lambda each: (-each.count, each.name))


def bar(name: str) -> Progress:
    """Make a progress bar on standard error; silent if that isn't a terminal."""
    return Progress(
        TextColumn(name),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[events]:,.0f} events"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        console=progress_console,
        disable=not progress_console.is_terminal,
        transient=True,
    )


def advance(progress: Progress, task: TaskID, done: int, meter: Meter | None = None) -> None:
    """Show how many events are answered, how many a second, and how much of the file was read."""
    elapsed = progress.tasks[task].elapsed or 0.0
    rate = f"{done / elapsed:,.0f}/s" if elapsed else ""
    meter = meter or Meter()
    progress.update(task, completed=meter.done, total=meter.total, rate=rate, events=done)


def usage(
    org_id: Annotated[str, typer.Argument(help="organisation")],
    period: Annotated[str, typer.Option(help=periods.HELP)],
    window: Annotated[str, typer.Option(help="none, hour, day or month")] = "none",
    aggregation: Annotated[str, typer.Option(help=aggregations.HELP)] = "sum",
    sku: Annotated[list[str] | None, typer.Option(help="only these SKUs")] = None,
    project: Annotated[str, typer.Option(help="only this project")] = "",
    time_zone: Annotated[str, typer.Option(help="IANA time zone of the windows")] = "UTC",
    group_by: Annotated[
        list[str] | None, typer.Option(help="key of the metadata; up to three")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(help="key=value: only events that have it; may be repeated")
    ] = None,
    at: Annotated[int | None, typer.Option(help="as of this ordinal; by default now")] = None,
    rolled_up: Annotated[
        bool, typer.Option("--rolled-up", help="what rollups have, about a second behind, will do")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show an organisation's usage."""
    request = metering_service_pb2.QueryUsageRequest(
        org_id=org_id,
        project_id=project,
        skus=sku or [],
        period=periods.parse(period),
        window=_enum(metering_pb2.Window, "WINDOW", window),
        time_zone=time_zone,
        aggregation=_enum(type_pb2.Aggregation, "AGGREGATION", aggregation),
        group_by=group_by or [],
        metadata=pairs_of("--metadata", metadata or (), "region=eu"),
        at_ordinal=at,
    )
    if rolled_up:
        request.freshness = metering_pb2.FRESHNESS_ROLLED_UP
    with Client(Session.find()) as client:
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        response = client.call(stub.QueryUsage, request)
    if output is Format.JSON:
        print_json(response)
        return
    zone = _zone(time_zone)
    rows = [
        (
            row.sku,
            row.project_id or "-",
            when_in(zone, row.window_start_at),
            when_in(zone, row.window_end_at),
            *(row.group.get(key, "-") for key in group_by or ()),
            row.value,
            f"{row.event_count:,}",
        )
        for row in response.rows
    ]
    if not rows:
        say(f"{org_id} has no such usage in this period")
        return
    columns = ("sku", "project", "from", "to", *(group_by or ()), aggregation, "events")
    print_table(
        f"usage of {org_id}, {time_zone or 'UTC'}", columns, rows, right=[aggregation, "events"]
    )


def _zone(name: str) -> tzinfo:
    """Return a time zone that the service knows; UTC if this machine doesn't know it."""
    try:
        return moments.zone(name) if name else UTC
    except LookupError:
        return UTC


def audit(output: OutputOption = Format.TABLE) -> None:
    """Compute all rollups of usage again from the events, and tell which are not what their events come to.

    The exit code is 7 if anything is found.
    """
    request = rollups_pb2.VerifyRollupsRequest(page_size=_HOURS)
    hours, events, found = 0, 0, list[rollups_pb2.RollupFinding]()
    with Client(Session.find()) as client:
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        while True:
            answer = client.call(stub.VerifyRollups, request)
            hours += answer.hours
            events += answer.events
            found += answer.findings
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
    if output is Format.JSON:
        findings = [as_dict(each) for each in found]
        print_json({"hours": hours, "events": events, "findings": findings})
    else:
        say(f"{hours:,} hours with {events:,} events were computed again")
        if found:
            columns = ("organisation", "sku", "project", "from", "minutes", "expected", "found")
            rows = [
                (
                    each.org_id,
                    each.sku,
                    each.project_id or "-",
                    when(each.bucket_at),
                    str(each.minutes),
                    each.expected,
                    each.found,
                )
                for each in found
            ]
            print_table("", columns, rows, right=["minutes"])
        else:
            say("nothing was found")
    if found:
        raise CliError(
            f"{len(found):,} {'bucket is' if len(found) == 1 else 'buckets are'} not what the events come to",
            "find the cause, then have all rolled up anew: set other keys (`settings set --rollup-key`), then yours",
            exit_code=EXIT_DIFFERENT,
        )


def late_usage(
    org_id: Annotated[str, typer.Argument(help="organisation; all by default")] = "",
    period: Annotated[str, typer.Option(help=periods.HELP)] = "",
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List late usage: stored or corrected after a charge had closed its period, so no charge has it."""
    request = metering_service_pb2.ListLateEventsRequest(org_id=org_id)
    if period:
        request.period.CopyFrom(periods.parse(period))
    with Client(Session.find()) as client:
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        found = lists.pages(
            client, stub.ListLateEvents, request, "late_events", lists.page_size(limit)
        )
        lists.show(
            output,
            "late_events",
            found,
            (
                "organisation",
                "sku",
                "quantity",
                "before",
                "used, UTC",
                "stored, UTC",
                "event",
                "closed by",
            ),
            _late_row,
            right=("quantity", "before"),
            optional=("before",),
            limit=limit,
        )


def _late_row(item: metering_pb2.LateEvent) -> tuple[str, ...]:
    moments_ = (when(item.event_time), when(item.recorded_at))
    cancelled = item.change == metering_pb2.USAGE_CHANGE_CANCELLED
    quantity = "cancelled" if cancelled else item.quantity
    content = (item.org_id, item.sku, quantity, item.before.quantity)
    return *content, *moments_, item.request_id, item.charge_id


def _enum(enum: Any, prefix: str, text: str) -> Any:
    try:
        return enum.Value(f"{prefix}_{text.upper()}")
    except ValueError as error:
        known = [name.removeprefix(f"{prefix}_").lower() for name in enum.keys()[1:]]
        raise CliError(
            f"{text!r} is not a {prefix.lower()}",
            f"use one of {', '.join(known)}",
            exit_code=EXIT_USAGE,
        ) from error


class _UsageGroup(TyperGroup):
    """`tollmesh usage ORG` is `tollmesh usage show ORG`: what names no command belongs to it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Add the name of the command that is meant."""
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(ingest)
    group = typer.Typer(
        help="Usage of an organisation, by SKU and project; what came too late to be billed; corrections.",
        cls=_UsageGroup,
    )
    group.command("show")(usage)
    group.command("late")(late_usage)
    group.command("audit")(audit)
    corrections.register(group)
    app.add_typer(group, name="usage")
    # As it was called at first.
    app.command("late-usage", hidden=True)(late_usage)
