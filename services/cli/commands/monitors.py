"""`tollmesh ledger monitors put|list|delete`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import uuid4

import typer
from payments.ledger.v1 import ledger_service_pb2_grpc, monitor_pb2

from services.cli import amounts, lists
from services.cli.client import Client, Session
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    LimitOption,
    OutputOption,
    YesOption,
    confirm,
    enum_name,
    money,
    print_json,
    print_table,
    say,
)

monitors = typer.Typer(
    help="Thresholds of balances; events tell what crosses them.", no_args_is_help=True
)

_COLUMNS = ("monitor", "watches", "balance", "when", "threshold", "state", "description")


class Side(StrEnum):
    """Which balance is watched."""

    POSTED = "posted"
    PENDING = "pending"
    AVAILABLE = "available"


@monitors.command("put")
def put(
    monitor_id: Annotated[str, typer.Argument(help="your name of the monitor, e.g. low:acme")],
    account: Annotated[str, typer.Option(help="the account to watch")] = "",
    prefix: Annotated[
        str, typer.Option(help="watch each account whose id begins so, e.g. wallet:")
    ] = "",
    below: Annotated[str, typer.Option(help="tell when the balance falls below this amount")] = "",
    above: Annotated[str, typer.Option(help="tell when the balance rises above this amount")] = "",
    at_or_below: Annotated[
        str, typer.Option(help="tell when the balance falls to this amount or below")
    ] = "",
    at_or_above: Annotated[
        str, typer.Option(help="tell when the balance rises to this amount or above")
    ] = "",
    side: Annotated[Side, typer.Option(help="which balance")] = Side.POSTED,
    currency: Annotated[str, typer.Option(help="ISO 4217 code")] = "USD",
    description: Annotated[str, typer.Option(help="told with each crossing")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Watch a balance: each crossing of the threshold is told by one event `ledger.balance.crossed`.

    The same name again changes the monitor. The next crossing is told once the balance has come back.
    """
    comparisons = {
        "below": below,
        "above": above,
        "at_or_below": at_or_below,
        "at_or_above": at_or_above,
    }
    given = {name: amount for name, amount in comparisons.items() if amount}
    if len(given) != 1:
        raise CliError(
            "give one of --below, --above, --at-or-below and --at-or-above", exit_code=EXIT_USAGE
        )
    if bool(account) == bool(prefix):
        raise CliError("give --account or --prefix", exit_code=EXIT_USAGE)
    ((name, amount),) = given.items()
    option = f"--{name.replace('_', '-')}"
    monitor = monitor_pb2.BalanceMonitor(
        monitor_id=monitor_id,
        account_id=account,
        account_prefix=prefix,
        side=monitor_pb2.BalanceSide.Value(f"BALANCE_SIDE_{side.upper()}"),
        comparison=monitor_pb2.Comparison.Value(f"COMPARISON_{name.upper()}"),
        threshold=amounts.parse(option, amount, currency, amounts.Range.ANY),
        description=description,
    )
    request = monitor_pb2.PutBalanceMonitorRequest(request_id=str(uuid4()), monitor=monitor)
    with Client(Session.find()) as client:
        _show(client.call(_stub(client).PutBalanceMonitor, request).monitor, output)


@monitors.command("list")
def list_(
    account: Annotated[str, typer.Option(help="only monitors that watch this account")] = "",
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List monitors, by name."""
    request = monitor_pb2.ListBalanceMonitorsRequest(account_id=account)
    with Client(Session.find()) as client:
        found = lists.pages(client, _stub(client).ListBalanceMonitors, request, "monitors")
        lists.show(
            *(output, "monitors", found, _COLUMNS, _row),
            right=("threshold",),
            optional=("state", "description"),
            limit=limit,
        )


@monitors.command("delete")
def delete(
    monitor_id: Annotated[str, typer.Argument(help="name of the monitor")],
    yes: YesOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Delete a monitor."""
    confirm(f"This deletes the monitor {monitor_id}", yes=yes)
    request = monitor_pb2.DeleteBalanceMonitorRequest(
        request_id=str(uuid4()), monitor_id=monitor_id
    )
    with Client(Session.find()) as client:
        ended = client.call(_stub(client).DeleteBalanceMonitor, request).monitor
    if output is Format.JSON:
        print_json(ended)
    else:
        say(f"{monitor_id} deleted")


def _stub(client: Client) -> ledger_service_pb2_grpc.LedgerServiceStub:
    return client.stub(ledger_service_pb2_grpc.LedgerServiceStub)


def _show(found: monitor_pb2.BalanceMonitor, output: Format) -> None:
    if output is Format.JSON:
        print_json(found)
        return
    optional = ("state", "description")
    print_table("", _COLUMNS, [_row(found)], right=("threshold",), optional=optional)


def _row(item: monitor_pb2.BalanceMonitor) -> tuple[str, ...]:
    is_of_prefix = item.state == monitor_pb2.MONITOR_STATE_UNSPECIFIED
    return (
        item.monitor_id,
        item.account_id or f"{item.account_prefix}*",
        enum_name(item, "side"),
        enum_name(item, "comparison").replace("_", " "),
        money(item.threshold),
        "" if is_of_prefix else enum_name(item, "state"),
        item.description,
    )


def register(ledger: typer.Typer) -> None:
    """Add the commands to `tollmesh ledger`."""
    ledger.add_typer(monitors, name="monitors")
