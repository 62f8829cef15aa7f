"""`tollmesh budgets put|list|status|delete` and `tollmesh budgets reserve|commit|release|holds`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any
from uuid import uuid4

import typer
from payments.metering.v1 import (
    guardrail_service_pb2,
    guardrail_service_pb2_grpc,
    guardrails_pb2,
)

from services.cli import amounts, durations, lists
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
    when,
)

budgets = typer.Typer(
    help="Budgets of organisations, and holds that ask before an action is taken.",
    no_args_is_help=True,
)

_COLUMNS = ("budget", "organisation", "sku", "period", "limit", "mode", "thresholds")
_HOLD_COLUMNS = ("hold", "organisation", "sku", "quantity", "status", "committed", "remaining")
_OPEN_COLUMNS = ("hold", "organisation", "sku", "quantity", "expires at, UTC")
_PERIODS = {
    "month": guardrails_pb2.BUDGET_PERIOD_CALENDAR_MONTH,
    "day": guardrails_pb2.BUDGET_PERIOD_DAY,
    "total": guardrails_pb2.BUDGET_PERIOD_TOTAL,
}

_HoldArgument = Annotated[
    str,
    typer.Argument(metavar="HOLD", help="id of the hold, as `tollmesh budgets reserve` prints it"),
]
_RequestIdOption = Annotated[
    str, typer.Option(help="UUID that makes a repeated call the same one; by default a new one")
]


class Lasts(StrEnum):
    """How long a budget lasts."""

    MONTH = "month"
    DAY = "day"
    TOTAL = "total"


class Mode(StrEnum):
    """What a budget does once it is used up."""

    SOFT = "soft"
    HARD = "hard"


@budgets.command("put")
def put(
    budget_id: Annotated[str, typer.Argument(help="your name of the budget, e.g. tokens:acme")],
    org: Annotated[str, typer.Option(help="organisation whose use is limited")],
    quantity: Annotated[str, typer.Option(help="limit in units of the SKU")] = "",
    amount: Annotated[str, typer.Option(help="limit in money, in major units, e.g. 250.00")] = "",
    currency: Annotated[str, typer.Option(help="ISO 4217 code of --amount")] = "USD",
    sku: Annotated[str, typer.Option(help="what is limited; all SKUs by default")] = "",
    period: Annotated[Lasts, typer.Option(help="when it begins anew")] = Lasts.MONTH,
    zone: Annotated[str, typer.Option(help="time zone of its days and months")] = "",
    mode: Annotated[Mode, typer.Option(help="soft tells, hard refuses")] = Mode.SOFT,
    threshold: Annotated[
        list[int] | None, typer.Option(help="percent of the limit to be told of; may be repeated")
    ] = None,
    enforce_in_ingest: Annotated[
        bool, typer.Option("--enforce-in-ingest", help="reject usage events beyond the limit too")
    ] = False,
    description: Annotated[str, typer.Option(help="what it is for")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Put a budget, or change its limit, mode, thresholds and description; what is used of it stays."""
    if bool(quantity) == bool(amount):
        raise CliError("give either --quantity or --amount", exit_code=EXIT_USAGE)
    budget = guardrails_pb2.Budget(
        budget_id=budget_id,
        org_id=org,
        sku=sku,
        period=_PERIODS[period],
        time_zone=zone,
        limit_quantity=quantity,
        mode=guardrails_pb2.BudgetMode.Value(f"BUDGET_MODE_{mode.upper()}"),
        thresholds_pct=threshold or [],
        enforce_in_ingest=enforce_in_ingest,
        description=description,
    )
    if amount:
        limit = amounts.parse("--amount", amount, currency, amounts.Range.NOT_NEGATIVE)
        budget.limit_amount.CopyFrom(limit)
    request = guardrail_service_pb2.PutBudgetRequest(request_id=str(uuid4()), budget=budget)
    with Client(Session.find()) as client:
        found = client.call(_stub(client).PutBudget, request).budget
    if output is Format.JSON:
        print_json(found)
    else:
        _table("", _COLUMNS, [_row(found)])


@budgets.command("list")
def list_(
    org: Annotated[str, typer.Option(help="only budgets of this organisation")] = "",
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List budgets, by name."""
    request = guardrail_service_pb2.ListBudgetsRequest(org_id=org)
    with Client(Session.find()) as client:
        found = lists.pages(client, _stub(client).ListBudgets, request, "budgets")
        lists.show(
            *(output, "budgets", found, _COLUMNS, _row),
            right=("limit",),
            optional=("thresholds",),
            limit=limit,
        )


@budgets.command("status")
def status(
    budget_id: Annotated[str, typer.Argument(help="name of the budget")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what is used, held and free of a budget in the present period."""
    request = guardrail_service_pb2.GetBudgetStatusRequest(budget_id=budget_id)
    with Client(Session.find()) as client:
        found = client.call(_stub(client).GetBudgetStatus, request).status
    if output is Format.JSON:
        print_json(found)
        return
    ends = when(found.end_at) if found.HasField("end_at") else "never"
    row = (budget_id, found.limit, found.used, found.held, found.free, ends)
    right = ("limit", "used", "held", "free")
    print_table("", ("budget", *right, "begins anew at, UTC"), [row], right=right)
    if found.thresholds:
        rows = [
            (f"{item.pct} %", item.value, "yes" if item.reached else "no")
            for item in found.thresholds
        ]
        print_table("", ("threshold", "at", "reached"), rows, right=("threshold", "at"))


@budgets.command("delete")
def delete(
    budget_id: Annotated[str, typer.Argument(help="name of the budget")],
    yes: YesOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Delete a budget, with what was counted for it."""
    confirm(f"This deletes the budget {budget_id}", yes=yes)
    request = guardrail_service_pb2.DeleteBudgetRequest(
        request_id=str(uuid4()), budget_id=budget_id
    )
    with Client(Session.find()) as client:
        ended = client.call(_stub(client).DeleteBudget, request).budget
    if output is Format.JSON:
        print_json(ended)
    else:
        say(f"{budget_id} deleted")


@budgets.command("reserve")
def reserve(
    org: Annotated[str, typer.Option(help="organisation that acts")],
    sku: Annotated[str, typer.Option(help="what it will use")],
    quantity: Annotated[str, typer.Option(help="how much, in units of the SKU")],
    hold_for: Annotated[
        str, typer.Option(help=f"until it ends by itself: {durations.HELP}")
    ] = "5m",
    request_id: _RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Hold a quantity in every budget that applies, or in none."""
    request = guardrail_service_pb2.ReserveRequest(
        request_id=request_id or str(uuid4()), org_id=org, sku=sku, quantity=quantity
    )
    request.hold_for.FromTimedelta(durations.parse(hold_for))
    _hold("Reserve", request, output)


@budgets.command("commit")
def commit(
    hold_id: _HoldArgument,
    quantity: Annotated[str, typer.Option(help="how much was used; all of it by default")] = "",
    request_id: _RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Say how much of a hold was used; the rest is free again."""
    request = guardrail_service_pb2.CommitRequest(
        request_id=request_id or str(uuid4()), hold_id=hold_id, quantity=quantity
    )
    _hold("Commit", request, output)


@budgets.command("release")
def release(
    hold_id: _HoldArgument,
    request_id: _RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Give a hold up."""
    request = guardrail_service_pb2.ReleaseRequest(
        request_id=request_id or str(uuid4()), hold_id=hold_id
    )
    _hold("Release", request, output)


@budgets.command("holds")
def holds(
    org: Annotated[str, typer.Option(help="only holds of this organisation")] = "",
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List open holds, the oldest first."""
    request = guardrail_service_pb2.ListHoldsRequest(org_id=org)
    with Client(Session.find()) as client:
        found = lists.pages(client, _stub(client).ListHolds, request, "holds")
        lists.show(
            *(output, "holds", found, _OPEN_COLUMNS, _open_row), right=("quantity",), limit=limit
        )


def _hold(method: str, request: Any, output: Format) -> None:
    with Client(Session.find()) as client:
        found = client.call(getattr(_stub(client), method), request).hold
    if output is Format.JSON:
        print_json(found)
        return
    row = (
        found.hold_id,
        found.org_id,
        found.sku,
        found.quantity,
        enum_name(found, "status"),
        found.committed_quantity,
        found.remaining,
    )
    _table("", _HOLD_COLUMNS, [row])


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    numbers = ("limit", "quantity", "committed", "remaining")
    right = tuple(name for name in columns if name in numbers)
    optional = tuple(name for name in columns if name in ("thresholds", "committed", "remaining"))
    print_table(title, columns, rows, right=right, optional=optional)


def _stub(client: Client) -> guardrail_service_pb2_grpc.GuardrailServiceStub:
    return client.stub(guardrail_service_pb2_grpc.GuardrailServiceStub)


def _row(item: guardrails_pb2.Budget) -> tuple[str, ...]:
    limit = money(item.limit_amount) if item.HasField("limit_amount") else item.limit_quantity
    mode = enum_name(item, "mode")
    return (
        item.budget_id,
        item.org_id,
        item.sku or "all",
        enum_name(item, "period").replace("_", " "),
        limit,
        f"{mode}, in ingest too" if item.enforce_in_ingest else mode,
        ", ".join(f"{pct} %" for pct in item.thresholds_pct),
    )


def _open_row(item: guardrails_pb2.Hold) -> tuple[str, ...]:
    return (item.hold_id, item.org_id, item.sku, item.quantity, when(item.expires_at))


def register(app: typer.Typer) -> None:
    """Add the commands to `tollmesh`."""
    app.add_typer(budgets, name="budgets")
