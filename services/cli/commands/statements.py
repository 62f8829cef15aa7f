"""`tollmesh ledger statement`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, statement_pb2

from services.cli import export_files, periods, references, statements
from services.cli.client import Client, Session
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.export_files import FileFormat
from services.cli.output import note, plain_money, print_tables, say, when
from services.cli.statements import Read, Row
from services.cli.tables import Column, Kind, Table

_CSV_ROWS = 1_000


class StatementFormat(StrEnum):
    """How a statement is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    HTML = "html"


class By(StrEnum):
    """Which of an entry's two times lies in the period."""

    RECORDED = "recorded"
    EFFECTIVE = "effective"


_ENDINGS = {
    ".csv": StatementFormat.CSV,
    ".json": StatementFormat.JSON,
    ".html": StatementFormat.HTML,
    ".htm": StatementFormat.HTML,
}


def statement(
    account_id: Annotated[str, typer.Argument(help="account")],
    period: Annotated[str, typer.Option("--period", help=periods.HELP)],
    by: Annotated[
        By,
        typer.Option(help="which of an entry's times lies in the period; a backdated one differs"),
    ] = By.RECORDED,
    as_of: Annotated[
        str, typer.Option(help="only what was recorded by then, ISO 8601; now by default")
    ] = "",
    last_seq: Annotated[
        int | None,
        typer.Option(
            min=0, help="only entries up to this number: with --as-of, what an earlier one was of"
        ),
    ] = None,
    format: Annotated[
        StatementFormat | None,
        typer.Option(
            "--format", help="by the ending of --out if left out, else table; html is to be printed"
        ),
    ] = None,
    out: Annotated[
        str,
        typer.Option(
            "--out",
            help="file, which appears whole at the end or not at all; standard output if left out",
        ),
    ] = "",
) -> None:
    """Show what happened on an account in a period: opening balance, entries, closing balance.

    A statement says of which point of the books it is. Made again with --as-of and --last-seq of that point it is the
    same, byte for byte, whatever is posted since.
    """
    chosen = format or _ENDINGS.get(Path(out.lower()).suffix, StatementFormat.TABLE)
    if out and chosen is StatementFormat.TABLE:
        raise CliError(
            "a table is for the terminal", "choose --format csv, json or html", exit_code=EXIT_USAGE
        )
    request = ledger_service_pb2.GetStatementRequest(
        account_id=account_id,
        period=periods.parse(period),
        by=statement_pb2.Time.Value(f"TIME_{by.name}"),
        last_seq=last_seq,
    )
    if as_of:
        try:
            request.recorded_at.FromDatetime(periods.moment(as_of))
        except (ValueError, OverflowError) as error:
            raise CliError(f"{as_of!r} is not a time: {error}", exit_code=EXIT_USAGE) from error
    with Client(Session.find()) as client:
        found = statements.read(client, request)
        _write(found, chosen, out)
    if out:
        say(f"statement of {account_id} written to {out}")
        note(f"to make it again: {statements.again(found.sums)}")


def _write(found: Read, chosen: StatementFormat, out: str) -> None:
    if chosen is StatementFormat.TABLE:
        _show(found)
        return
    if chosen is StatementFormat.CSV:
        export_files.export(_TABLE, _pages(found), FileFormat.CSV, out)
        return
    with export_files.opened(out) as file:
        if chosen is StatementFormat.JSON:
            statements.write_json(found, file)
        else:
            statements.write_html(found, file)


# ---- Table


def _show(found: Read) -> None:
    sums = found.sums
    say(f"statement of {sums.account_id}", style="bold")
    for name, value in statements.facts(sums).items():
        say(f"{name.lower()}: {value}")
    print_tables(
        ("seq", "date, UTC", "other account", "debit", "credit", "balance", "code", "reference"),
        _shown_rows(found),
        right=("seq", "debit", "credit", "balance", "code"),
        optional=("code", "reference"),
    )
    note(f"to make it again: {statements.again(sums)}")


def _shown_rows(found: Read) -> Iterator[Sequence[str]]:
    sums = found.sums
    yield ("", "", "opening balance", "", "", plain_money(sums.opening), "", "")
    for each in found.lines:
        entry = each.entry
        is_debit = entry.direction == ledger_pb2.DIRECTION_DEBIT
        amount = plain_money(entry.amount)
        yield (
            str(entry.seq),
            when(statements.time_of(sums.by, entry)),
            entry.counter_account_id,
            amount if is_debit else "",
            "" if is_debit else amount,
            plain_money(each.balance),
            str(entry.code or ""),
            references.written(entry.reference),
        )
    debits, credits_ = plain_money(sums.debits), plain_money(sums.credits)
    yield ("", "", "closing balance", debits, credits_, plain_money(sums.closing), "", "")


# ---- CSV


def _pages(found: Read) -> Iterable[list[Row]]:
    left = statements.rows(found)
    while page := list(islice(left, _CSV_ROWS)):
        yield page


def _of_entry(name: str, kind: Kind, about: str) -> Column:
    def read(row: Row) -> int | str | None:
        if row.entry is None:
            return None
        value = getattr(row.entry, name)
        if kind is Kind.TIME:
            return int(value.ToMicroseconds())
        return value if kind is Kind.INTEGER else _cell(value)

    return Column(name, kind, about, read)


def _of_reference(name: str) -> Column:
    def read(row: Row) -> str | None:
        return None if row.entry is None else _cell(getattr(row.entry.reference, name))

    return Column(f"reference_{name}", Kind.TEXT, f"{name} of the transfer's reference", read)


def _cell(text: str) -> str | None:
    return statements.spreadsheet_safe(text) or None


_TABLE = Table(
    "statement",
    "the opening balance, an entry, or the closing balance with the sums of the period",
    (
        Column("line", Kind.TEXT, "`opening`, `entry` or `closing`", lambda row: row.line),
        _of_entry("seq", Kind.INTEGER, "place among the account's entries, from 1"),
        _of_entry("recorded_at", Kind.TIME, "when it was recorded"),
        _of_entry("effective_at", Kind.TIME, "when it takes effect"),
        _of_entry("transfer_id", Kind.TEXT, "transfer that made it"),
        _of_entry("counter_account_id", Kind.TEXT, "the transfer's other account"),
        _of_reference("kind"),
        _of_reference("id"),
        _of_reference("part"),
        _of_entry("code", Kind.INTEGER, "the transfer's code"),
        Column("debit_minor", Kind.INTEGER, "amount of a debit", lambda row: row.debit_minor),
        Column("credit_minor", Kind.INTEGER, "amount of a credit", lambda row: row.credit_minor),
        Column("balance_minor", Kind.INTEGER, "balance behind it", lambda row: row.balance_minor),
        Column("currency_code", Kind.TEXT, "of all amounts", lambda row: row.currency_code),
    ),
)


def register(ledger: typer.Typer) -> None:
    """Add the command to `tollmesh ledger`."""
    ledger.command("statement")(statement)
