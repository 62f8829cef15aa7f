"""`tollmesh ledger balances|transfer|reverse|trial-balance`, with its other commands, and `tollmesh accounts`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, ledger_service_pb2_grpc

from services.cli import references
from services.cli.client import Client, Session
from services.cli.commands import accounts as accounts_group
from services.cli.commands import books, holds, posting, recipes, statements, transfers
from services.cli.output import (
    Format,
    OutputOption,
    as_dict,
    enum_name,
    money,
    plain_money,
    print_json,
    print_table,
    say,
    when,
)
from services.runtime.ids import derived_uuid

ledger = typer.Typer(help="The double-entry ledger.", no_args_is_help=True)


@ledger.command("balances")
def balances(
    owner: Annotated[str, typer.Option(help="only this owner's accounts")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """List accounts with their balances."""
    with Client(Session.find()) as client:
        found = list(accounts(client, owner))
    if output is Format.JSON:
        print_json({"accounts": [as_dict(account) for account in found]})
    else:
        show_balances(found)


def accounts(client: Client, owner: str = "") -> Iterator[ledger_pb2.Account]:
    """Read every account, page by page."""
    stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
    request = ledger_service_pb2.ListAccountsRequest(owner=owner, page_size=500)
    while True:
        response = client.call(stub.ListAccounts, request)
        yield from response.accounts
        if not response.next_page_token:
            return
        request.page_token = response.next_page_token


def show_balances(found: list[ledger_pb2.Account]) -> None:
    """Print accounts with debits, credits and balance, and what holds and limits leave of it where there are any."""
    rows = [
        (
            account.account_id,
            enum_name(account, "type"),
            accounts_group.amount(account, account.balances.debits_posted),
            accounts_group.amount(account, account.balances.credits_posted),
            accounts_group.amount(
                account, account.balances.debits_posted - account.balances.credits_posted
            ),
            *accounts_group.held(account),
            account.currency_code,
            accounts_group.limits(account),
        )
        for account in found
    ]
    numbers = ("debits", "credits", "debits - credits", *accounts_group.HELD)
    columns = ("account", "type", *numbers, "", "limits")
    optional = (*accounts_group.HELD, "limits")
    print_table("", columns, rows, right=numbers, optional=optional)


@ledger.command("transfer")
def transfer(
    transfer_id: Annotated[str, typer.Argument(help="id of the transfer, or of the hold")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a transfer with the amount that it came to, and how it stands if it is a hold."""
    request = ledger_service_pb2.GetTransferRequest(transfer_id=transfers.uuid_of(transfer_id))
    with Client(Session.find()) as client:
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        _show_transfer(client.call(stub.GetTransfer, request).transfer, output)


@ledger.command("reverse")
def reverse(
    transfer_id: Annotated[str, typer.Argument(help="id of the transfer to reverse")],
    reason: Annotated[str, typer.Option(help="why; kept in the metadata of the reversal")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Post the opposite of a transfer that was posted. A transfer is reversed once, however often this is repeated."""
    asked = transfers.uuid_of(transfer_id)
    request = ledger_service_pb2.ReverseTransferRequest(
        request_id=str(derived_uuid("reverse", asked, reason)), transfer_id=asked, reason=reason
    )
    with Client(Session.find()) as client:
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        _show_transfer(client.call(stub.ReverseTransfer, request).transfer, output)


def _show_transfer(found: ledger_pb2.RecordedTransfer, output: Format) -> None:
    if output is Format.JSON:
        print_json(found)
        return
    shown, hold = found.transfer, found.hold
    cells = {
        "kind": enum_name(shown, "kind").replace("_", "-"),
        "amount": money(shown.amount),
        "debit account": shown.debit_account_id,
        "credit account": shown.credit_account_id,
        "of hold": shown.pending_id,
        "reference": references.written(shown.reference),
        "reverses": found.reverses_transfer_id,
        "reversed by": found.reversed_by_transfer_id,
        "hold": enum_name(hold, "state") if found.HasField("hold") else "",
        "left": money(hold.remaining) if found.HasField("hold") else "",
        "expires at, UTC": when(hold.expires_at),
        "recorded at, UTC": when(found.recorded_at),
    }
    optional = (
        "of hold",
        "reference",
        "reverses",
        "reversed by",
        "hold",
        "left",
        "expires at, UTC",
    )
    numbers = ("amount", "left")
    print_table(shown.transfer_id, [*cells], [[*cells.values()]], right=numbers, optional=optional)
    for key, value in sorted(shown.metadata.items()):
        say(f"{key}: {value}")


@ledger.command("trial-balance")
def trial_balance(output: OutputOption = Format.TABLE) -> None:
    """Show that debits equal credits, by currency and type of account."""
    with Client(Session.find()) as client:
        found = get_trial_balance(client)
    if output is Format.JSON:
        print_json(found)
    else:
        show_trial_balance(found)


def get_trial_balance(client: Client) -> ledger_pb2.TrialBalance:
    """Read the trial balance."""
    stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
    return client.call(
        stub.GetTrialBalance, ledger_service_pb2.GetTrialBalanceRequest()
    ).trial_balance


def show_trial_balance(found: ledger_pb2.TrialBalance) -> None:
    """Print the trial balance."""
    for currency in found.currencies:
        rows = [
            (
                enum_name(item, "type"),
                str(item.accounts),
                plain_money(item.debits),
                plain_money(item.credits),
            )
            for item in currency.types
        ]
        rows.append(("all", "", plain_money(currency.debits), plain_money(currency.credits)))
        title = (
            f"trial balance {currency.currency_code}: difference {plain_money(currency.difference)}"
        )
        columns = ("type", "accounts", "debits", "credits")
        print_table(title, columns, rows, right=columns[1:])


def register(app: typer.Typer) -> None:
    """Add the commands."""
    books.register(ledger)
    statements.register(ledger)
    posting.register(ledger)
    holds.register(ledger)
    recipes.register(ledger)
    accounts_group.register(app)
    app.add_typer(ledger, name="ledger")
