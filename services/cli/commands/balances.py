"""`tollmesh ledger balance`, and the trial balance as of a time."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from payments.ledger.v1 import balance_pb2, ledger_service_pb2, ledger_service_pb2_grpc

from services.cli import periods
from services.cli.client import Client, Session
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    OutputOption,
    enum_name,
    plain_money,
    print_json,
    print_table,
    say,
)
from services.runtime import moments

EffectiveAtOption = Annotated[
    str,
    typer.Option(help=f"only what takes effect by then: {periods.INSTANT_HELP}", metavar="TIME"),
]
RecordedAtOption = Annotated[
    str, typer.Option(help="only what was recorded by then, written the same way", metavar="TIME")
]


def ask_as_of(
    request: ledger_service_pb2.GetBalanceRequest | ledger_service_pb2.GetTrialBalanceRequest,
    effective_at: str,
    recorded_at: str,
) -> None:
    """Write the times of two options into a request. Raises CliError."""
    if effective_at:
        instant = periods.last_instant("--effective-at", effective_at)
        request.effective_at.FromDatetime(instant)
    if recorded_at:
        request.recorded_at.FromDatetime(periods.last_instant("--recorded-at", recorded_at))


def balance(
    account_id: Annotated[str, typer.Argument(help="account; not with --prefix")] = "",
    prefix: Annotated[
        str, typer.Option(help="all accounts whose names begin so, e.g. receivable:")
    ] = "",
    effective_at: EffectiveAtOption = "",
    recorded_at: RecordedAtOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what an account, or many, add up to: now, or as of any time."""
    if bool(account_id) == bool(prefix):
        raise CliError("give an account, or --prefix", exit_code=EXIT_USAGE)
    request = ledger_service_pb2.GetBalanceRequest(account_id=account_id, account_prefix=prefix)
    ask_as_of(request, effective_at, recorded_at)
    with Client(Session.find()) as client:
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        found = client.call(stub.GetBalance, request).balance
    if output is Format.JSON:
        print_json(found)
        return
    _show(account_id or f"{prefix}…", found, is_as_of=bool(effective_at or recorded_at))


def _show(title: str, found: balance_pb2.Balance, *, is_as_of: bool) -> None:
    if not found.lines:
        say("no accounts")
        return
    rows = [
        (
            enum_name(line, "type"),
            str(line.accounts),
            plain_money(line.debits),
            plain_money(line.credits),
            plain_money(line.balance),
            _pending(line, "debits_pending"),
            _pending(line, "credits_pending"),
            line.currency_code,
        )
        for line in found.lines
    ]
    held = ("pending debits", "pending credits")
    numbers = ("accounts", "debits", "credits", "balance", *held)
    print_table(title, ("type", *numbers, ""), rows, right=numbers, optional=held)
    if is_as_of:
        say(
            as_of(found.effective_at if found.HasField("effective_at") else None, found.recorded_at)
        )


def _pending(line: balance_pb2.BalanceLine, name: str) -> str:
    amount = getattr(line, name)
    return plain_money(amount) if amount.minor_units else ""


def as_of(effective_at: Timestamp | None, recorded_at: Timestamp) -> str:
    """Say what an answer counts."""
    effect = f"in effect by {_written(effective_at)}, " if effective_at else ""
    return f"{effect}recorded by {_written(recorded_at)}"


def _written(instant: Timestamp) -> str:
    return moments.written(instant.ToDatetime(UTC))


def register(ledger: typer.Typer) -> None:
    """Add the command to `tollmesh ledger`."""
    ledger.command("balance")(balance)
