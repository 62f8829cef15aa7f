"""`tollmesh accounts create|get|list`."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import typer
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, ledger_service_pb2_grpc

from services.cli import amounts, items, lists
from services.cli.batches import cut
from services.cli.client import Client, Session
from services.cli.errors import EXIT_INCOMPLETE, EXIT_USAGE, CliError, Resumable
from services.cli.output import (
    Format,
    JsonWriter,
    LimitOption,
    OutputOption,
    enum_name,
    print_json,
    print_table,
    print_tables,
    say,
    when,
)
from services.cli.pairs import metadata_of
from services.runtime.money import Money, format_money

accounts = typer.Typer(help="Accounts of the ledger.", no_args_is_help=True)

ACCOUNTS_PER_CALL = 8_190
_THERE = (ledger_service_pb2.ACCOUNT_RESULT_OK, ledger_service_pb2.ACCOUNT_RESULT_EXISTS)
# Shown where an account has open holds.
HELD = ("pending debits", "pending credits", "available")
_NUMBERS = ("debits", "credits", "debits - credits", *HELD)
_COLUMNS = ("account", "type", "owner", *_NUMBERS, "currency", "limits")


class AccountType(StrEnum):
    """Which side of the books an account is on."""

    ASSET = "asset"
    LIABILITY = "liability"
    EQUITY = "equity"
    INCOME = "income"
    EXPENSE = "expense"


_TypeOption = Annotated[AccountType | None, typer.Option("--type", help="side of the books")]


@accounts.command("create")
def create(
    account_id: Annotated[
        str, typer.Argument(help="id of the account, e.g. wallet:acme:USD; not with --file")
    ] = "",
    account_type: _TypeOption = None,
    currency: Annotated[str, typer.Option(help="ISO 4217 code")] = "USD",
    owner: Annotated[str, typer.Option(help="whose it is: an org_id, a partner_id")] = "",
    no_overdraft: Annotated[
        bool, typer.Option("--no-overdraft", help="debits may not exceed credits: a wallet")
    ] = False,
    no_overpayment: Annotated[
        bool, typer.Option("--no-overpayment", help="credits may not exceed debits: a receivable")
    ] = False,
    floor: Annotated[
        str,
        typer.Option(
            help="lowest balance in major units, zero or less: -500.00 is an overdraft of 500.00"
        ),
    ] = "",
    ceiling: Annotated[
        str,
        typer.Option(
            help="highest balance in major units, zero or more: 500.00 on a receivable is a credit line"
        ),
    ] = "",
    metadata: Annotated[list[str] | None, typer.Option(help="key=value; may be repeated")] = None,
    file: Annotated[
        str,
        typer.Option(
            help="accounts in the shape of payments.ledger.v1.Account, as YAML, JSON or JSON Lines; - for standard "
            "input"
        ),
    ] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Create an account, or those of a file. What exists with the same content is left alone."""
    if bool(account_id) == bool(file):
        raise CliError("give the id of an account, or --file", exit_code=EXIT_USAGE)
    if file:
        _create_all(file, output)
        return
    if account_type is None:
        raise CliError("give the --type of the account", exit_code=EXIT_USAGE)
    account = ledger_pb2.Account(
        account_id=account_id,
        currency_code=currency,
        type=ledger_pb2.AccountType.Value(f"ACCOUNT_TYPE_{account_type.upper()}"),
        owner=owner,
        metadata=metadata_of(metadata or []),
    )
    if no_overdraft or no_overpayment:
        account.flags.debits_must_not_exceed_credits = no_overdraft
        account.flags.credits_must_not_exceed_debits = no_overpayment
    if floor:
        lowest = amounts.parse("--floor", floor, currency, amounts.Range.NOT_POSITIVE)
        account.limits.floor.CopyFrom(lowest)
    if ceiling:
        highest = amounts.parse("--ceiling", ceiling, currency, amounts.Range.NOT_NEGATIVE)
        account.limits.ceiling.CopyFrom(highest)
    _create_one(account, output)


def _create_one(account: ledger_pb2.Account, output: Format) -> None:
    with Client(Session.find()) as client, Resumable(""):
        (result,) = _created(client, iter([account]))
    if output is Format.JSON:
        print_json(ledger_service_pb2.CreateAccountsResponse(results=[result]))
    elif result.result in _THERE:
        exists = result.result != ledger_service_pb2.ACCOUNT_RESULT_OK
        say(f"{account.account_id} {'exists already' if exists else 'created'}")
    if result.result not in _THERE:
        why = f"{enum_name(result, 'result')}{result.message and ': '}{result.message}"
        raise CliError(f"{account.account_id} was not created: {why}")


def _create_all(file: str, output: Format) -> None:
    refused = 0

    def counted(client: Client) -> Iterator[ledger_service_pb2.CreateAccountResult]:
        nonlocal refused
        for result in _created(client, items.messages(file, "accounts", ledger_pb2.Account)):
            refused += result.result not in _THERE
            yield result

    with Client(Session.find()) as client, Resumable(""):
        if output is Format.JSON:
            with JsonWriter() as document:
                document.add_list("results", counted(client))
        else:
            print_tables(("account", "result", "message"), map(_verdict, counted(client)))
    if refused:
        what = "1 account was" if refused == 1 else f"{refused:,} accounts were"
        raise CliError(f"{what} not created", exit_code=EXIT_INCOMPLETE)


@accounts.command("get")
def get(
    account_id: Annotated[str, typer.Argument(help="id of the account")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Show an account with its balances."""
    with Client(Session.find()) as client:
        request = ledger_service_pb2.GetAccountRequest(account_id=account_id)
        found = client.call(_stub(client).GetAccount, request).account
    if output is Format.JSON:
        print_json(found)
        return
    print_table("", _COLUMNS, [_row(found)], right=_NUMBERS, optional=HELD)
    for key, value in sorted(found.metadata.items()):
        say(f"{key}: {value}")
    say(
        f"created at {when(found.created_at)} UTC; its entries: tollmesh ledger entries {account_id}"
    )


@accounts.command("list")
def list_(
    owner: Annotated[str, typer.Option(help="only this owner's accounts")] = "",
    currency: Annotated[str, typer.Option(help="only accounts in this currency")] = "",
    account_type: _TypeOption = None,
    prefix: Annotated[str, typer.Option(help="only accounts whose names begin so")] = "",
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List accounts with their balances, by id."""
    request = ledger_service_pb2.ListAccountsRequest(
        owner=owner, currency_code=currency, account_prefix=prefix
    )
    if account_type is not None:
        request.type = ledger_pb2.AccountType.Value(f"ACCOUNT_TYPE_{account_type.upper()}")
    with Client(Session.find()) as client:
        found = lists.pages(client, _stub(client).ListAccounts, request, "accounts")
        lists.show(
            *(output, "accounts", found, _COLUMNS, _row),
            right=_NUMBERS,
            optional=HELD,
            limit=limit,
        )


def _stub(client: Client) -> ledger_service_pb2_grpc.LedgerServiceStub:
    return client.stub(ledger_service_pb2_grpc.LedgerServiceStub)


def _created(
    client: Client, wanted: Iterator[ledger_pb2.Account]
) -> Iterator[ledger_service_pb2.CreateAccountResult]:
    done = 0
    for batch in cut(wanted, ledger_pb2.Account.ByteSize, ACCOUNTS_PER_CALL):
        request = ledger_service_pb2.CreateAccountsRequest(accounts=batch)
        for result in client.call(_stub(client).CreateAccounts, request).results:
            result.index += done
            yield result
        done += len(batch)


def _verdict(result: ledger_service_pb2.CreateAccountResult) -> tuple[str, ...]:
    return result.account_id, enum_name(result, "result"), result.message


def _row(account: ledger_pb2.Account) -> tuple[str, ...]:
    debits, credits_ = account.balances.debits_posted, account.balances.credits_posted
    sums = (debits, credits_, debits - credits_)
    return (
        account.account_id,
        enum_name(account, "type"),
        account.owner or "-",
        *(amount(account, each) for each in sums),
        *held(account),
        account.currency_code,
        limits(account) or "-",
    )


def held(account: ledger_pb2.Account) -> tuple[str, ...]:
    """Write the cells of HELD: empty for an account without open holds.

    What is available is the balance on the side that the type grows on, less what open holds would take from it.
    """
    sums = account.balances
    if not (sums.debits_pending or sums.credits_pending):
        return ("",) * len(HELD)
    balance = sums.debits_posted - sums.credits_posted
    grows_by_debit = account.type in (
        ledger_pb2.ACCOUNT_TYPE_ASSET,
        ledger_pb2.ACCOUNT_TYPE_EXPENSE,
    )
    available = balance - sums.credits_pending if grows_by_debit else -balance - sums.debits_pending
    cells = (sums.debits_pending, sums.credits_pending, available)
    return tuple(amount(account, each) for each in cells)


def limits(account: ledger_pb2.Account) -> str:
    """Write the limits of an account, and whether it is closed; empty for none."""
    flags, bounds = account.flags, account.limits
    found = {
        "no overdraft": flags.debits_must_not_exceed_credits,
        "no overpayment": flags.credits_must_not_exceed_debits,
        f"floor {amount(account, bounds.floor.minor_units)}": bounds.HasField("floor"),
        f"ceiling {amount(account, bounds.ceiling.minor_units)}": bounds.HasField("ceiling"),
        "closed": flags.closed,
    }
    return ", ".join(name for name, is_set in found.items() if is_set)


def amount(account: ledger_pb2.Account, minor_units: int) -> str:
    """Write an amount in the currency of an account, without its code."""
    return format_money(Money(account.currency_code, minor_units))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(accounts, name="accounts")
