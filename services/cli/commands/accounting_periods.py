"""`tollmesh ledger periods close|reopen|list`."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated
from uuid import uuid4

import typer
from payments.ledger.v1 import ledger_service_pb2, ledger_service_pb2_grpc, period_pb2

from services.cli import periods
from services.cli.client import Client, Session
from services.cli.output import Format, OutputOption, print_json, print_table, say, when
from services.runtime import moments

group = typer.Typer(help="How far the books are closed.", no_args_is_help=True)

CurrencyOption = Annotated[str, typer.Option(help="ISO 4217 code of the books")]


@group.command("close")
def close(
    through: Annotated[
        str, typer.Argument(help=f"last instant that is closed: {periods.INSTANT_HELP}")
    ],
    currency: CurrencyOption = "USD",
    output: OutputOption = Format.TABLE,
) -> None:
    """Close the books of a currency: nothing that takes effect by then is posted any more."""
    request = ledger_service_pb2.ClosePeriodRequest(request_id=str(uuid4()), currency_code=currency)
    request.closed_through.FromDatetime(periods.last_instant("the period", through))
    with Client(Session.find()) as client:
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        _show(client.call(stub.ClosePeriod, request).period, output)


@group.command("reopen")
def reopen(
    reason: Annotated[str, typer.Option(help="why; kept with the period and in its event")],
    through: Annotated[
        str,
        typer.Option(
            help="last instant that stays closed, written as of close; all is opened without"
        ),
    ] = "",
    currency: CurrencyOption = "USD",
    output: OutputOption = Format.TABLE,
) -> None:
    """Open the books of a currency again, behind an earlier instant or wholly."""
    request = ledger_service_pb2.ReopenPeriodRequest(
        request_id=str(uuid4()), currency_code=currency, reason=reason
    )
    if through:
        request.closed_through.FromDatetime(periods.last_instant("--through", through))
    with Client(Session.find()) as client:
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        _show(client.call(stub.ReopenPeriod, request).period, output)


@group.command("list")
def list_periods(output: OutputOption = Format.TABLE) -> None:
    """Show how far the books of each currency are closed."""
    request = ledger_service_pb2.ListPeriodsRequest(page_size=1000)
    with Client(Session.find()) as client:
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        # One element a currency: they fit on a page.
        response = client.call(stub.ListPeriods, request)
    if output is Format.JSON:
        print_json(response)
        return
    rows = [
        (item.currency_code, _through(item), when(item.updated_at), item.reason)
        for item in response.periods
    ]
    columns = ("currency", "closed through", "since, UTC", "reopened because")
    print_table("", columns, rows, optional=("reopened because",))


def _show(period: period_pb2.AccountingPeriod, output: Format) -> None:
    if output is Format.JSON:
        print_json(period)
    elif period.HasField("closed_through"):
        say(f"the books of {period.currency_code} are closed through {_through(period)}")
    else:
        say(f"the books of {period.currency_code} are open")


def _through(period: period_pb2.AccountingPeriod) -> str:
    if not period.HasField("closed_through"):
        return "open"
    return moments.written(period.closed_through.ToDatetime(UTC))


def register(ledger: typer.Typer) -> None:
    """Add the commands to `tollmesh ledger`."""
    ledger.add_typer(group, name="periods")
