"""`tollmesh ledger entries|transfers|accounts|view`: what is in the books."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import typer
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, ledger_service_pb2_grpc

from services.cli import lists, periods, references
from services.cli.client import Client, Session
from services.cli.commands import accounts as accounts_group
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    JsonWriter,
    LimitOption,
    OutputOption,
    console,
    enum_name,
    money,
    print_table,
    say,
    when,
)
from services.cli.sparkline import sparkline

ENTRIES_SHOWN = 50

_CodeFilter = Annotated[
    int | None, typer.Option("--code", min=0, max=65_535, help="only with this code")
]
_PeriodOption = Annotated[
    str, typer.Option("--period", help=f"only what was recorded in it: {periods.HELP}")
]
_OLDEST = typer.Option("--oldest-first", help="oldest first; newest first by default")


def entries(
    account_id: Annotated[str, typer.Argument(help="account")] = "",
    prefix: Annotated[
        str, typer.Option(help="all accounts whose names begin so, instead of one")
    ] = "",
    code: _CodeFilter = None,
    period: _PeriodOption = "",
    effective: Annotated[
        str, typer.Option("--effective", help="only what takes effect in this period")
    ] = "",
    oldest_first: Annotated[bool, _OLDEST] = False,
    limit: LimitOption = ENTRIES_SHOWN,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show entries of an account, the newest first, or of many accounts, account by account."""
    if bool(account_id) == bool(prefix):
        raise CliError(
            "give account_id, or --prefix for many accounts",
            "see tollmesh ledger entries --help",
            exit_code=EXIT_USAGE,
        )
    request = ledger_service_pb2.ListEntriesRequest(
        account_id=account_id,
        account_prefix=prefix,
        recorded_in=periods.parse(period) if period else None,
        effective_in=periods.parse(effective) if effective else None,
        code=code,
        newest_first=not oldest_first,
    )
    with Client(Session.find()) as client:
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        found = lists.pages(client, stub.ListEntries, request, "entries", lists.page_size(limit))
        if account_id and output is Format.TABLE:
            say(account_id, style="bold")
        columns = ("account", *_ENTRY_COLUMNS)
        lists.show(
            *(output, "entries", found, columns, lambda item: _entry_row(item, prefix)),
            right=("seq", "amount", "balance after", "code"),
            optional=("account", "effective at, UTC", "code", "reference"),
            limit=limit,
        )


_ENTRY_COLUMNS = (
    "seq",
    "recorded at, UTC",
    "effective at, UTC",
    "side",
    "amount",
    "balance after",
    "other account",
    "code",
    "reference",
)


def _entry_row(entry: ledger_pb2.Entry, prefix: str) -> tuple[str, ...]:
    is_dated = entry.effective_at != entry.recorded_at
    return (
        entry.account_id if prefix else "",
        str(entry.seq),
        when(entry.recorded_at),
        when(entry.effective_at) if is_dated else "",
        enum_name(entry, "direction"),
        money(entry.amount),
        money(entry.balance_after),
        entry.counter_account_id,
        str(entry.code or ""),
        references.written(entry.reference),
    )


def transfers(
    reference: Annotated[str, typer.Option(help=f"only of this: {references.HELP}")] = "",
    account: Annotated[str, typer.Option(help="only what debits or credits this account")] = "",
    code: _CodeFilter = None,
    period: _PeriodOption = "",
    oldest_first: Annotated[bool, _OLDEST] = False,
    limit: LimitOption = ENTRIES_SHOWN,
    output: OutputOption = Format.TABLE,
) -> None:
    """List transfers, all or those of a reference, an account, a code or a period."""
    request = ledger_service_pb2.ListTransfersRequest(
        account_id=account,
        code=code,
        recorded_in=periods.parse(period) if period else None,
        newest_first=not oldest_first,
    )
    if reference:
        wanted = references.parse(reference)
        request.reference_kind, request.reference_id = wanted.kind, wanted.id
        if references.has_part(reference):
            request.reference_part = wanted.part
    with Client(Session.find()) as client:
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        found = lists.pages(
            client, stub.ListTransfers, request, "transfers", lists.page_size(limit)
        )
        lists.show(
            *(output, "transfers", found, _TRANSFER_COLUMNS, _transfer_row),
            right=("amount", "code"),
            optional=("effective at, UTC", "code", "reference", "hold", "of hold", "reversed by"),
            limit=limit,
        )


_TRANSFER_COLUMNS = (
    "transfer",
    "recorded at, UTC",
    "effective at, UTC",
    "kind",
    "amount",
    "debit account",
    "credit account",
    "code",
    "reference",
    "hold",
    "of hold",
    "reversed by",
)


def _transfer_row(found: ledger_pb2.RecordedTransfer) -> tuple[str, ...]:
    shown = found.transfer
    is_dated = shown.effective_at != found.recorded_at
    return (
        shown.transfer_id,
        when(found.recorded_at),
        when(shown.effective_at) if is_dated else "",
        enum_name(shown, "kind").replace("_", "-"),
        money(shown.amount),
        shown.debit_account_id,
        shown.credit_account_id,
        str(shown.code or ""),
        references.written(shown.reference),
        enum_name(found.hold, "state") if found.HasField("hold") else "",
        shown.pending_id,
        found.reversed_by_transfer_id,
    )


def view(
    account_id: Annotated[str, typer.Argument(help="account")],
    limit: Annotated[int, typer.Option(min=1, max=1000, help="how many entries to look back")] = 30,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show how an account stands: its balance, how that went, and its newest entries, the newest last."""
    with Client(Session.find()) as client:
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        asked = ledger_service_pb2.GetAccountRequest(account_id=account_id)
        account = client.call(stub.GetAccount, asked).account
        found = list(islice(_newest(client, account_id, limit), limit))[::-1]
    if output is Format.JSON:
        with JsonWriter() as document:
            document.add_list("accounts", [account])
            document.add_list("entries", found)
        return
    _show_head(account)
    if found:
        _show_line(account, found)
    rows = [_entry_row(entry, "") for entry in found]
    optional = ("account", "effective at, UTC", "code", "reference")
    print_table(
        "",
        ("account", *_ENTRY_COLUMNS),
        rows,
        right=("seq", "amount", "balance after", "code"),
        optional=optional,
    )


def _newest(client: Client, account_id: str, limit: int) -> Iterator[ledger_pb2.Entry]:
    stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
    request = ledger_service_pb2.ListEntriesRequest(account_id=account_id, newest_first=True)
    return lists.pages(client, stub.ListEntries, request, "entries", limit)


def _show_head(account: ledger_pb2.Account) -> None:
    sums = account.balances
    grows_by_debit = account.type in (
        ledger_pb2.ACCOUNT_TYPE_ASSET,
        ledger_pb2.ACCOUNT_TYPE_EXPENSE,
    )
    balance = sums.debits_posted - sums.credits_posted
    amount = accounts_group.amount
    say(f"{account.account_id}, {enum_name(account, 'type')}", style="bold")
    told = [
        f"balance {amount(account, balance if grows_by_debit else -balance)} {account.currency_code}",
        f"debits {amount(account, sums.debits_posted)}",
        f"credits {amount(account, sums.credits_posted)}",
    ]
    if limits := accounts_group.limits(account):
        told.append(limits)
    say(" · ".join(told))
    held = dict(zip(accounts_group.HELD, accounts_group.held(account), strict=True))
    if any(held.values()):
        say(" · ".join(f"{name} {cell}" for name, cell in held.items()))


def _show_line(account: ledger_pb2.Account, found: list[ledger_pb2.Entry]) -> None:
    balances = [entry.balance_after.minor_units for entry in found]
    low, high = (accounts_group.amount(account, bound(balances)) for bound in (min, max))
    say(f"{sparkline(balances, max(console.width // 2, 10))}  {low} to {high}")


def register(ledger: typer.Typer) -> None:
    """Add the commands to `tollmesh ledger`."""
    ledger.command("accounts")(accounts_group.list_)
    ledger.command("entries")(entries)
    ledger.command("transfers")(transfers)
    ledger.command("view")(view)
