"""`tollmesh ledger post`: one transfer, or those of a file."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated

import typer
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2

from services.cli import items, references, transfer_rows
from services.cli.client import Client, Session
from services.cli.columns import ColumnMapping
from services.cli.commands.transfers import (
    ACCEPTED,
    BURNING,
    ClosingCreditOption,
    ClosingDebitOption,
    CodeOption,
    CreditOption,
    CurrencyOption,
    DebitOption,
    MetadataOption,
    MultiCaptureOption,
    ReferenceOption,
    RequestIdOption,
    TimeoutOption,
    batches,
    moment_of,
    post_one,
    posted,
    salt_of,
    set_amount,
    set_timeout,
    uuid_of,
    why,
    with_ids,
)
from services.cli.errors import EXIT_INCOMPLETE, EXIT_USAGE, CliError, Resumable
from services.cli.output import (
    Format,
    JsonWriter,
    OutputOption,
    enum_name,
    note,
    print_table,
    say,
)
from services.cli.pairs import metadata_of
from services.cli.transfer_rows import RowFormat

PROBLEMS_SHOWN = 20
COLUMNS_SHOWN = 10

_BURNING_NAMES = {
    ledger_service_pb2.TransferResult.Name(result).removeprefix("TRANSFER_RESULT_").lower()
    for result in BURNING
}
_BURNT = (
    "the same command will not post those that hang on their accounts later either: once that is put right, post them "
    "from a file of their own with --again"
)


class TransferKind(StrEnum):
    """What a transfer does."""

    POSTED = "posted"
    PENDING = "pending"
    POST_PENDING = "post-pending"
    VOID_PENDING = "void-pending"


def post(
    file: Annotated[
        str,
        typer.Argument(
            help="transfers in the shape of payments.ledger.v1.Transfer, as YAML, JSON or JSON Lines, or rows of a CSV "
            "or Parquet file, optionally gzipped; - for standard input"
        ),
    ] = "",
    format: Annotated[
        RowFormat | None,
        typer.Option(
            help="the file's rows are transfers, a column a field; by the endings .csv and .parquet if left out"
        ),
    ] = None,
    map: Annotated[
        list[str] | None, typer.Option(help="field=column of a file of rows; may be repeated")
    ] = None,
    set: Annotated[
        list[str] | None, typer.Option(help="field=value for every row; may be repeated")
    ] = None,
    debit: DebitOption = "",
    credit: CreditOption = "",
    amount: Annotated[
        str,
        typer.Option(
            help="amount in major units, e.g. 56.84; without one a balancing transfer moves all that it can, and the "
            "end of a hold what is left of it"
        ),
    ] = "",
    currency: CurrencyOption = "USD",
    kind: Annotated[
        TransferKind | None,
        typer.Option(
            help="pending holds the amount, post-pending captures a hold and void-pending gives it up: the same as "
            "`ledger hold`, `ledger capture` and `ledger void`; posted by default"
        ),
    ] = None,
    pending_id: Annotated[
        str, typer.Option(help="the hold that is captured or voided, by its transfer_id")
    ] = "",
    timeout: TimeoutOption = "",
    multi_capture: MultiCaptureOption = False,
    balancing_debit: Annotated[
        bool,
        typer.Option(
            "--balancing-debit",
            help="move at most what brings the debits of the debit account, holds counted, up to its credits",
        ),
    ] = False,
    balancing_credit: Annotated[
        bool,
        typer.Option(
            "--balancing-credit",
            help="move at most what brings the credits of the credit account, holds counted, up to its debits",
        ),
    ] = False,
    closing_debit: ClosingDebitOption = False,
    closing_credit: ClosingCreditOption = False,
    code: CodeOption = 0,
    reference: ReferenceOption = "",
    effective_at: Annotated[
        str, typer.Option(help="when it takes effect, ISO 8601; when it is recorded by default")
    ] = "",
    metadata: MetadataOption = None,
    request_id: RequestIdOption = "",
    again: Annotated[
        bool, typer.Option("--again", help="post again what the same command has already posted")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Post a transfer, or the transfers of a file.

    Repeating a command posts nothing twice: a transfer without a transfer_id gets one that follows from what it moves,
    and the second of two equal ones in a file another. --again posts them once more on purpose. Linked transfers are
    posted together or not at all. A transfer that cannot be read ends the command; those before it are posted.

    Fields of rows: transfer_id, debit_account_id, credit_account_id, amount (major units) or amount_minor,
    currency_code, code, kind, pending_id, timeout, effective_at, reference_kind, reference_id, reference_part, linked,
    the flags of the options below, metadata.<key>. Column names may be in any case. A file of rows is read to its end
    first: when a row is no transfer, by the ledger's own rules too, such rows are named and nothing is posted. What the
    books refuse, as a closed account does, is told with its row once the others are posted.
    """
    of_one = (
        debit,
        credit,
        amount,
        kind,
        pending_id,
        timeout,
        code,
        reference,
        effective_at,
        metadata,
    )
    flags = (multi_capture, balancing_debit, balancing_credit, closing_debit, closing_credit)
    if file:
        if any(of_one) or any(flags):
            raise CliError(
                "the options of a single transfer do not go with a file: write them into it",
                exit_code=EXIT_USAGE,
            )
        salt = salt_of(request_id, again=again)
        to_repeat = f"--request-id {salt}" if again else ""
        row_format = transfer_rows.format_of(file, format)
        if row_format is None:
            _no_rows(map, set)
            _post_file(_messages(file), salt, to_repeat, output)
            return
        mapping = transfer_rows.MAPPING.parsed(map or [], set or [])
        with transfer_rows.readable_twice(file) as kept:
            transfer_rows.checked(
                kept,
                row_format,
                mapping,
                _tell_unread,
                lambda found: batches(with_ids(found, salt)),
            )
            _post_file(_rows(kept, row_format, mapping), salt, to_repeat, output)
        return
    _no_rows(map, set, format)
    if kind in (TransferKind.POST_PENDING, TransferKind.VOID_PENDING):
        if not pending_id:
            raise CliError("give the hold with --pending-id", exit_code=EXIT_USAGE)
    elif not (debit and credit and (amount or balancing_debit or balancing_credit)):
        raise CliError("give a file, or --debit, --credit and --amount", exit_code=EXIT_USAGE)
    transfer = ledger_pb2.Transfer(
        debit_account_id=debit,
        credit_account_id=credit,
        code=code,
        pending_id=uuid_of(pending_id),
        multi_capture=multi_capture,
        balancing_debit=balancing_debit,
        balancing_credit=balancing_credit,
        closing_debit=closing_debit,
        closing_credit=closing_credit,
        metadata=metadata_of(metadata or []),
    )
    if kind is not None:
        transfer.kind = ledger_pb2.Kind.Value(f"KIND_{kind.name}")
    if effective_at:
        transfer.effective_at.CopyFrom(moment_of(effective_at))
    if reference:
        transfer.reference.CopyFrom(references.parse(reference))
    set_amount(transfer, amount, currency)
    set_timeout(transfer, timeout)
    post_one(transfer, request_id, again=again, output=output)


def _no_rows(*options: object) -> None:
    """Raises CliError: options of a file of rows are given without one."""
    if any(options):
        raise CliError(
            "--format, --map and --set go with a file of rows",
            "a file that does not end with .csv or .parquet needs --format",
            exit_code=EXIT_USAGE,
        )


def _tell_unread(names: Sequence[str]) -> None:
    more = f" and {len(names) - COLUMNS_SHOWN} more" if len(names) > COLUMNS_SHOWN else ""
    note(f"columns that are not used: {', '.join(names[:COLUMNS_SHOWN])}{more}")


# What is read of a file: a transfer, and how its problems name it.
_Named = tuple[str, ledger_pb2.Transfer]


def _messages(file: str) -> Iterator[_Named]:
    found = items.messages(file, "transfers", ledger_pb2.Transfer)
    return ((f"transfer {number}", item) for number, item in enumerate(found, start=1))


def _rows(file: str, row_format: RowFormat, mapping: ColumnMapping) -> Iterator[_Named]:
    found = transfer_rows.transfers(file, row_format, mapping)
    return ((f"row {item.row}", item.transfer) for item in found)


class _Tally:
    """What came of the transfers of a file: how many of each result, and the first that were refused."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        # Of the transfers that are sent and not answered yet.
        self._names: deque[str] = deque()

    @property
    def refused(self) -> int:
        """How many are not in the books, nor waiting to be."""
        accepted = ("ok", "exists", "scheduled")
        return sum(self.counts.values()) - sum(self.counts[name] for name in accepted)

    def counted(
        self, client: Client, read: Iterator[_Named], salt: str
    ) -> Iterator[ledger_service_pb2.PostTransferResult]:
        """Post transfers and give the verdicts."""
        for result in posted(client, with_ids(self._named(read), salt)):
            name = self._names.popleft()
            self.counts[enum_name(result, "result")] += 1
            if result.result not in ACCEPTED and len(self.problems) < PROBLEMS_SHOWN:
                self.problems.append(f"{name}, {result.transfer_id}: {why(result)}")
            yield result

    def _named(self, read: Iterator[_Named]) -> Iterator[ledger_pb2.Transfer]:
        for name, transfer in read:
            self._names.append(name)
            yield transfer


def _post_file(read: Iterator[_Named], salt: str, to_repeat: str, output: Format) -> None:
    tally = _Tally()
    failure: CliError | None = None
    try:
        with Client(Session.find()) as client, Resumable(to_repeat):
            results = tally.counted(client, read, salt)
            if output is Format.JSON:
                with JsonWriter() as document:
                    document.add_list("results", results)
            else:
                deque(results, maxlen=0)
    except CliError as error:
        failure = error
    # "Nothing found" would be no answer to a file that ended at its first transfer.
    if output is Format.TABLE and (tally.counts or failure is None):
        _show_counts(tally)
    if failure is not None:
        raise failure
    _tell_left(tally)


def _tell_left(tally: _Tally) -> None:
    """Raises CliError: some were refused."""
    if existing := tally.counts["exists"]:
        note(
            f"{existing:,} transfers were posted before: nothing more was posted for them;"
            " --again posts them once more"
        )
    if tally.refused:
        what = "1 transfer was" if tally.refused == 1 else f"{tally.refused:,} transfers were"
        raise CliError(
            f"{what} not posted",
            *([_BURNT] if tally.counts.keys() & _BURNING_NAMES else []),
            exit_code=EXIT_INCOMPLETE,
        )


def _show_counts(tally: _Tally) -> None:
    rows = [(name, f"{count:,}") for name, count in sorted(tally.counts.items())]
    print_table("", ("result", "transfers"), rows, right=("transfers",))
    for line in tally.problems:
        say(line)
    if tally.refused > len(tally.problems):
        say("… more with --output json")


def register(ledger: typer.Typer) -> None:
    """Add the command to `tollmesh ledger`."""
    ledger.command("post")(post)
