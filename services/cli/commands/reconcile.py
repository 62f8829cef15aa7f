"""`tollmesh reconcile usage`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from itertools import islice
from pathlib import PurePath
from typing import Annotated, Any
from uuid import NAMESPACE_URL, uuid5

import typer
from payments.metering.v1 import drift_pb2, metering_service_pb2_grpc

from services.cli import durations, periods
from services.cli.client import Client, Session
from services.cli.columns import ColumnMapping
from services.cli.commands.usage import advance, bar
from services.cli.drift import Bounds, Comparison, Finding, Group, Kind, grouped, microseconds
from services.cli.errors import EXIT_DIFFERENT, EXIT_INCOMPLETE, EXIT_USAGE, CliError
from services.cli.lists import Limited
from services.cli.output import JsonWriter, note, print_line, print_table, print_tables, say
from services.cli.readers import FileFormat, detect
from services.cli.unusual import BASELINE_DAYS, THRESHOLD
from services.cli.usage_sides import Log, Stored, Wanted, read_log

FINDINGS_PER_CALL = 200
_PROVIDER = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-")
_ID_CHARS_MAX = 64
_COLUMNS = ("kind", "org_id", "sku", "day", "request_id", "logged", "stored", "detail")
_THRESHOLD_MAX = Decimal(1000)


class Output(StrEnum):
    """How the result is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Result:
    """What a comparison came to.

    Attributes:
        ordinal: of the stored usage.
        late: usage of the period that came after a charge had closed it.
        rejected: events of the period that were rejected and not taken in since, whether the log has them or not.
        reported: findings that the contract monitor was told of.
    """

    provider: str
    wanted: Wanted
    log: Log
    comparison: Comparison
    ordinal: int
    late: int
    rejected: int
    reported: int

    def counts(self) -> dict[str, int]:
        """Return all counts, by name."""
        counts = self.comparison.counts
        found = {kind.word: counts.found[kind] for kind in Kind}
        return {
            "logged": counts.logged,
            "outside": self.log.outside,
            "malformed": self.log.malformed,
            "stored": counts.stored,
            "matched": counts.matched,
            **found,
            "late": self.late,
            "rejected_in_all": self.rejected,
        }

    @property
    def found(self) -> int:
        """How many findings there are."""
        return sum(self.comparison.counts.found.values())

    def groups(self) -> Iterator[Group]:
        """Give the findings, added up."""
        return grouped(self.comparison.findings())


def usage(
    files: Annotated[
        list[str],
        typer.Argument(
            help="the provider's log: CSV, JSON, JSON Lines or Parquet files, optionally gzipped; - for standard input"
        ),
    ],
    period: Annotated[str, typer.Option(help=periods.HELP)],
    provider: Annotated[
        str, typer.Option(help="whose log it is; by default the name of the first file")
    ] = "",
    format: Annotated[
        FileFormat | None, typer.Option(help="needed if a file extension doesn't tell")
    ] = None,
    map: Annotated[list[str] | None, typer.Option(help="field=column; may be repeated")] = None,
    set: Annotated[
        list[str] | None, typer.Option(help="field=value for every row; may be repeated")
    ] = None,
    org: Annotated[str, typer.Option(help="only usage of this organisation")] = "",
    sku: Annotated[str, typer.Option(help="only usage of this SKU")] = "",
    time_tolerance: Annotated[
        str, typer.Option(help=f"by how much times may differ: {durations.HELP}")
    ] = "1s",
    slack: Annotated[
        str,
        typer.Option(
            help=f"how far outside the period the other half of an event is looked for: {durations.HELP}"
        ),
    ] = "1h",
    baseline: Annotated[
        int, typer.Option(min=0, max=366, help="days that a day is held against; 0 for none")
    ] = BASELINE_DAYS,
    threshold: Annotated[
        str, typer.Option(help="standard deviations beyond which a day is unlike those before")
    ] = str(THRESHOLD),
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="tell the contract monitor of findings")
    ] = True,
    limit: Annotated[
        int, typer.Option(min=0, help="maximum number of findings in the table; 0 shows all")
    ] = 100,
    output: Annotated[
        Output,
        typer.Option(
            "--output", "-o", help="table for people, json for programs, csv an event a row"
        ),
    ] = Output.TABLE,
) -> None:
    """Compare a provider's log of a period with the usage that is stored, event by event.

    Findings are events that only one of the two has, that differ, or that were rejected or cancelled, and days with far
    more or far less usage than the days before. The contract monitor is told of them and keeps each once; the exit
    code is 7. Without findings it is 6 if rows of the log could not be read. Memory is bounded, however large the log:
    what does not fit is sorted in files without a name, in TMPDIR.

    Fields and columns are those of `tollmesh ingest`. A row without a project is compared without it.
    """
    formats = [(file, detect(file, format)) for file in files]
    mapping = ColumnMapping.parse(map or [], set or [])
    wanted = Wanted(periods.parse(period), durations.parse(slack), org, sku)
    name = _named(provider or PurePath(files[0]).name)
    deviations = _threshold(threshold)
    bounds = Bounds(
        microseconds(wanted.start_at),
        microseconds(wanted.end_at),
        durations.microseconds(wanted.slack),
        durations.microseconds(durations.parse(time_tolerance)),
    )
    with Client(Session.find()) as client, Comparison(bounds) as comparison:
        with bar("reconcile") as progress:
            task = progress.add_task("reconcile", total=None, rate="", events=0)

            def step(done: int) -> None:
                advance(progress, task, done)

            log = read_log(formats, mapping, wanted, comparison, step)
            stored = Stored(client, wanted)
            ordinal = stored.read(comparison, step)
        rejected, late = stored.read_rejected(comparison), stored.count_late()
        comparison.compare()
        days = stored.unusual_days(
            comparison.organisations(), baseline, deviations, datetime.now(UTC)
        )
        for finding in days:
            comparison.add(finding)
        told = tell(client, name, grouped(comparison.findings())) if report else 0
        result = Result(name, wanted, log, comparison, ordinal, late, rejected, told)
        _print(result, output, limit)
    _end(result)


def tell(client: Client, provider: str, groups: Iterable[Group]) -> int:
    """Tell the contract monitor of findings; returns how many. The same findings are the same call."""
    stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
    told = 0
    while part := list(islice(groups, FINDINGS_PER_CALL)):
        request = drift_pb2.ReportUsageDriftRequest(provider=provider, findings=map(_finding, part))
        content = request.SerializeToString(deterministic=True)
        request.request_id = str(uuid5(NAMESPACE_URL, content.hex()))
        told += client.call(stub.ReportUsageDrift, request).reported
    return told


def _finding(group: Group) -> drift_pb2.DriftFinding:
    finding = drift_pb2.DriftFinding(
        kind=drift_pb2.DriftKind.Value(f"DRIFT_KIND_{group.kind.name}"),
        org_id=group.org_id[:_ID_CHARS_MAX],
        sku=group.sku[:_ID_CHARS_MAX],
        event_count=group.events,
        quantity=group.logged,
        stored_quantity=group.stored,
        detail=group.detail,
    )
    finding.start_at.FromDatetime(datetime.combine(group.day, time(), UTC))
    return finding


def _named(name: str) -> str:
    """Return a name that the contract monitor takes for a provider."""
    return "".join(c if c in _PROVIDER else "-" for c in name)[:_ID_CHARS_MAX].strip("-") or "log"


def _threshold(text: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal(0)
    if not (found.is_finite() and 0 < found <= _THRESHOLD_MAX):
        raise CliError(
            f"--threshold {text!r} is not a number above 0 and up to {_THRESHOLD_MAX}",
            exit_code=EXIT_USAGE,
        )
    return found


def _print(result: Result, output: Output, limit: int) -> None:
    for path, problem in result.log.problems:
        note(f"{path}, row {problem.row}: {problem.problem}")
    if result.log.malformed > len(result.log.problems):
        note(
            f"… and {result.log.malformed - len(result.log.problems):,} more rows that do not read"
        )
    if output is Output.JSON:
        _print_json(result)
    elif output is Output.CSV:
        _print_csv(result.comparison.findings())
        note(", ".join(f"{name} {count:,}" for name, count in result.counts().items() if count))
    else:
        _print_tables(result, limit)


def _print_json(result: Result) -> None:
    with JsonWriter() as document:
        document.add("provider", result.provider)
        document.add("start_at", result.wanted.period.start_at.ToJsonString())
        document.add("end_at", result.wanted.period.end_at.ToJsonString())
        document.add("usage_ordinal", result.ordinal)
        document.add("counts", result.counts())
        document.add("reported", result.reported)
        document.add_list("findings", (group.as_dict() for group in result.groups()))
        document.add_list("events", _as_dicts(result.comparison.findings()))


def _as_dicts(findings: Iterable[Finding]) -> Iterator[dict[str, Any]]:
    return (finding.as_dict() for finding in findings if finding.request_id)


def _print_csv(findings: Iterable[Finding]) -> None:
    print_line(",".join(_COLUMNS))
    for finding in findings:
        text = io.StringIO()
        plain = finding.as_dict()
        csv.writer(text, lineterminator="").writerow([plain[name] for name in _COLUMNS])
        print_line(text.getvalue())


def _print_tables(result: Result, limit: int) -> None:
    said = periods.describe(result.wanted.period)
    title = f"{result.provider}, {said}, usage ordinal {result.ordinal}"
    rows = [(_LABELS[name], f"{count:,}") for name, count in result.counts().items() if count]
    print_table(title, ("what", "events"), rows or [("events", "0")], right=["events"])
    if not result.found:
        say("no findings")
        return
    limited = Limited(result.groups(), limit)
    columns = ("finding", "organisation", "sku", "day", "events", "logged", "stored", "which")
    print_tables(columns, map(_row, limited), right=("events", "logged", "stored"))
    if limited.more:
        say(f"there are more than {limit}: raise --limit, or use --limit 0")
    if result.reported:
        noun = "finding" if result.reported == 1 else "findings"
        say(f"{result.reported:,} {noun} told to the contract monitor, as metering/usage-drift")


_LABELS = {
    "logged": "in the log",
    "outside": "in the log, of other periods or usage",
    "malformed": "rows of the log that are no events",
    "stored": "stored",
    "matched": "the same in both",
    "missing": "in the log, never stored",
    "rejected": "in the log, rejected",
    "cancelled": "in the log, cancelled",
    "extra": "stored, not in the log",
    "differing": "in both, differing",
    "repeated": "twice in the log, differing",
    "spike": "days with far more usage than before",
    "drop": "days with far less usage than before",
    "late": "late: stored or changed after a charge",
    "rejected_in_all": "rejected in all, in the log or not",
}


def _row(group: Group) -> tuple[str, ...]:
    unusual = group.kind in (Kind.SPIKE, Kind.DROP)
    events = "" if unusual else f"{group.events:,}"
    logged = f"expected {group.logged}" if unusual else group.logged
    about = (group.kind.word, group.org_id, group.sku, group.day.isoformat())
    return *about, events, logged, group.stored, group.detail


def _end(result: Result) -> None:
    if result.found:
        noun = "finding" if result.found == 1 else "findings"
        raise CliError(
            f"{result.found:,} {noun}: the log of {result.provider} and usage are not the same",
            "send what is missing (`tollmesh ingest`), take in what was rejected (`usage replay`), correct what "
            "differs (`usage amend`, `usage cancel`), then repeat the command",
            exit_code=EXIT_DIFFERENT,
        )
    if result.log.malformed:
        noun = "row" if result.log.malformed == 1 else "rows"
        raise CliError(
            f"{result.log.malformed:,} {noun} of the log could not be compared",
            exit_code=EXIT_INCOMPLETE,
        )


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Compare what others have with what is stored.", no_args_is_help=True)
    # A group, although it has one command.
    group.callback()(lambda: None)
    group.command("usage")(usage)
    app.add_typer(group, name="reconcile")
