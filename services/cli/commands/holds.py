"""`tollmesh ledger hold|capture|void`."""

from __future__ import annotations

from typing import Annotated

import typer
from payments.ledger.v1 import ledger_pb2

from services.cli.commands import transfers
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import Format, OutputOption
from services.cli.pairs import metadata_of

_HoldArgument = Annotated[
    str, typer.Argument(metavar="HOLD", help="id of the hold, as `tollmesh ledger hold` prints it")
]


def hold(
    debit: transfers.DebitOption,
    credit: transfers.CreditOption,
    amount: Annotated[str, typer.Option(help="amount in major units, e.g. 56.84")],
    currency: transfers.CurrencyOption = "USD",
    timeout: transfers.TimeoutOption = "",
    multi_capture: transfers.MultiCaptureOption = False,
    closing_debit: transfers.ClosingDebitOption = False,
    closing_credit: transfers.ClosingCreditOption = False,
    code: transfers.CodeOption = 0,
    metadata: transfers.MetadataOption = None,
    request_id: transfers.RequestIdOption = "",
    again: Annotated[
        bool, typer.Option("--again", help="hold again what the same command has already held")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Hold an amount: it counts against all limits until it is captured, voided or its time is over.

    Repeating a command holds nothing twice; --again makes another hold on purpose. A hold that closes an account may
    be of 0.
    """
    transfer = ledger_pb2.Transfer(
        kind=ledger_pb2.KIND_PENDING,
        debit_account_id=debit,
        credit_account_id=credit,
        code=code,
        multi_capture=multi_capture,
        closing_debit=closing_debit,
        closing_credit=closing_credit,
        metadata=metadata_of(metadata or []),
    )
    if not (debit and credit and amount):
        raise CliError("--debit, --credit and --amount must not be empty", exit_code=EXIT_USAGE)
    transfers.set_amount(transfer, amount, currency)
    transfers.set_timeout(transfer, timeout)
    transfers.post_one(transfer, request_id, again=again, output=output)


def capture(
    hold_id: _HoldArgument,
    amount: Annotated[
        str, typer.Option(help="amount in major units; all that is left of the hold by default")
    ] = "",
    currency: transfers.CurrencyOption = "USD",
    metadata: transfers.MetadataOption = None,
    request_id: transfers.RequestIdOption = "",
    again: Annotated[
        bool,
        typer.Option("--again", help="capture again what the same command has already captured"),
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Post a hold, or a part of it. The rest is given up, unless the hold was made with --multi-capture.

    Repeating a command captures nothing twice; --again captures once more on purpose.
    """
    transfer = _end_of(hold_id, ledger_pb2.KIND_POST_PENDING, metadata)
    transfers.set_amount(transfer, amount, currency)
    transfers.post_one(transfer, request_id, again=again, output=output)


def void(
    hold_id: _HoldArgument,
    metadata: transfers.MetadataOption = None,
    request_id: transfers.RequestIdOption = "",
    again: Annotated[
        bool, typer.Option("--again", help="try again what the same command was refused")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Give up a hold, or what is left of it."""
    transfer = _end_of(hold_id, ledger_pb2.KIND_VOID_PENDING, metadata)
    transfers.post_one(transfer, request_id, again=again, output=output)


def _end_of(
    hold_id: str, kind: ledger_pb2.Kind.ValueType, metadata: list[str] | None
) -> ledger_pb2.Transfer:
    pending_id = transfers.uuid_of(hold_id)
    if not pending_id:
        raise CliError("give the id of a hold", exit_code=EXIT_USAGE)
    return ledger_pb2.Transfer(
        kind=kind, pending_id=pending_id, metadata=metadata_of(metadata or [])
    )


def register(ledger: typer.Typer) -> None:
    """Add the commands to `tollmesh ledger`."""
    ledger.command("hold")(hold)
    ledger.command("capture")(capture)
    ledger.command("void")(void)
