"""`tollmesh orders …`: what people buy, and what became of it."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

import typer
from payments.orders.v1 import order_service_pb2 as service_pb
from payments.orders.v1 import order_service_pb2_grpc, orders_pb2

from services.cli import amounts, lists, periods
from services.cli.client import Client, Session
from services.cli.output import (
    Format,
    LimitOption,
    OutputOption,
    YesOption,
    confirm,
    money,
    print_json,
    print_table,
    when,
)

orders = typer.Typer(
    help="Orders: made, opened, adjusted, paid, refunded, cancelled.", no_args_is_help=True
)

_ORDERS = ("order", "person", "organisation", "status", "total", "paid", "made at, UTC")
_ACTIONS = ("action", "what", "method", "amount", "operator", "check", "at, UTC", "in the books")
_REFUNDS = ("refund", "order", "amount", "by", "reason", "at, UTC")
_OrderArgument = Annotated[
    str, typer.Argument(metavar="ORDER", help="id of the order, as `tollmesh orders list` prints")
]
_ViaOption = Annotated[str, typer.Option(help="what does it, in the words of your events")]
_CurrencyOption = Annotated[str, typer.Option(help="ISO 4217 code of --total")]
_RequestIdOption = Annotated[
    str, typer.Option(help="UUID that makes a repeated call the same one; by default a new one")
]


@orders.command("create")
def create(
    person: Annotated[str, typer.Argument(help="whose order, per_ and a UUID of version 7")],
    organisation: Annotated[str, typer.Argument(help="who sells, org_ and a UUID of version 7")],
    total: Annotated[str, typer.Option(help="what it comes to, in major units, e.g. 120.00")],
    currency: _CurrencyOption = "USD",
    draft: Annotated[bool, typer.Option("--draft", help="not to be paid before it is opened")] = (
        False
    ),
    note: Annotated[str, typer.Option(help="for people; no event tells of it")] = "",
    flag: Annotated[list[str] | None, typer.Option(help="a mark for operators; repeatable")] = None,
    via: _ViaOption = "cli",
    request_id: _RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Make an order."""
    wanted = orders_pb2.Order(
        person_id=person,
        organization_id=organisation,
        status="DRAFT" if draft else "OPEN",
        amount_total=amounts.parse("--total", total, currency, amounts.Range.NOT_NEGATIVE),
        created_via=via,
        notes=note,
        operator_flags=flag or [],
    )
    request = service_pb.CreateOrderRequest(request_id=_id(request_id), order=wanted)
    with Client(Session.find()) as client:
        found = client.call(_stub(client).CreateOrder, request).order
    _show(found, output)


@orders.command("list")
def list_(
    person: Annotated[str, typer.Option(help="only of this person")] = "",
    organisation: Annotated[str, typer.Option(help="only of this organisation")] = "",
    status: Annotated[str, typer.Option(help="only with this status, e.g. OPEN")] = "",
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List orders, the latest made first."""
    request = service_pb.ListOrdersRequest(
        person_id=person, organization_id=organisation, status=status.upper()
    )
    with Client(Session.find()) as client:
        found = lists.pages(client, _stub(client).ListOrders, request, "orders")
        lists.show(*(output, "orders", found, _ORDERS, _row), right=("total", "paid"), limit=limit)


@orders.command("show")
def show(order_id: _OrderArgument, output: OutputOption = Format.TABLE) -> None:
    """Show an order."""
    request = service_pb.GetOrderRequest(order_id=order_id)
    with Client(Session.find()) as client:
        found = client.call(_stub(client).GetOrder, request).order
    _show(found, output)


@orders.command("open")
def open_(
    order_id: _OrderArgument,
    via: _ViaOption = "cli",
    request_id: _RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Make a draft an order that can be paid."""
    request = service_pb.OpenOrderRequest(
        request_id=_id(request_id), order_id=order_id, updated_via=via
    )
    with Client(Session.find()) as client:
        found = client.call(_stub(client).OpenOrder, request).order
    _show(found, output)


@orders.command("note")
def note(
    order_id: _OrderArgument,
    text: Annotated[str, typer.Argument(help="notes in place of those that there are")] = "",
    flag: Annotated[
        list[str] | None,
        typer.Option(help="a mark in place of those that there are; repeatable"),
    ] = None,
    request_id: _RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Replace notes and flags; no event tells of it."""
    request = service_pb.UpdateOrderNotesRequest(
        request_id=_id(request_id), order_id=order_id, notes=text, operator_flags=flag or []
    )
    with Client(Session.find()) as client:
        found = client.call(_stub(client).UpdateOrderNotes, request).order
    _show(found, output)


@orders.command("adjust")
def adjust(
    order_id: _OrderArgument,
    total: Annotated[str, typer.Option(help="what it comes to now, in major units")],
    currency: _CurrencyOption = "USD",
    via: _ViaOption = "cli",
    request_id: _RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Change what an order comes to."""
    request = service_pb.AdjustOrderTotalRequest(
        request_id=_id(request_id),
        order_id=order_id,
        amount_total=amounts.parse("--total", total, currency, amounts.Range.NOT_NEGATIVE),
        updated_via=via,
    )
    with Client(Session.find()) as client:
        found = client.call(_stub(client).AdjustOrderTotal, request).order
    _show(found, output)


@orders.command("record")
def record(
    order_id: _OrderArgument,
    amount: Annotated[str, typer.Option(help="how much was taken, in major units")],
    operator: Annotated[str, typer.Option(help="who took it")],
    currency: Annotated[str, typer.Option(help="ISO 4217 code of --amount")] = "USD",
    check: Annotated[str, typer.Option(help="number of the check; without it, it was cash")] = "",
    at: Annotated[str, typer.Option(help="when it was taken; now by default")] = "",
    via: _ViaOption = "cli",
    request_id: _RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Write down cash or a check that was taken for an order."""
    request = service_pb.RecordPaymentRequest(
        request_id=_id(request_id),
        order_id=order_id,
        method="check" if check else "cash",
        amount=amounts.parse("--amount", amount, currency),
        operator=operator,
        check_number=check,
        updated_via=via,
    )
    if at:
        request.received_at.FromDatetime(periods.first_instant("--at", at))
    with Client(Session.find()) as client:
        answer = client.call(_stub(client).RecordPayment, request)
    if output is Format.JSON:
        print_json(answer)
    else:
        _show(answer.order, output)
        print_table("", _ACTIONS, [_action_row(answer.external_action)], right=("amount",))


@orders.command("refund")
def refund(
    order_id: _OrderArgument,
    by: Annotated[str, typer.Option(help="who gives it back")],
    reason: Annotated[str, typer.Option(help="why, for people")],
    amount: Annotated[str, typer.Option(help="how much, in major units; all by default")] = "",
    currency: Annotated[str, typer.Option(help="ISO 4217 code of --amount")] = "USD",
    via: _ViaOption = "cli",
    request_id: _RequestIdOption = "",
    yes: YesOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Write down what was given back of an order, of the latest payment first."""
    request = service_pb.InitiateRefundRequest(
        request_id=_id(request_id),
        order_id=order_id,
        reason=reason,
        initiated_by=by,
        updated_via=via,
    )
    if amount:
        request.amount.CopyFrom(amounts.parse("--amount", amount, currency))
    what = money(request.amount) if amount else "all that was received"
    confirm(f"This gives back {what} of {order_id}", yes=yes)
    with Client(Session.find()) as client:
        found = client.call(_stub(client).InitiateRefund, request).refund
    if output is Format.JSON:
        print_json(found)
        return
    print_table("", _REFUNDS, [_refund_row(found)], right=("amount",))
    rows = [_action_row(each) for each in found.external_actions]
    print_table("", _ACTIONS, rows, right=("amount",))


@orders.command("refunds")
def refunds(
    order_id: Annotated[
        str, typer.Argument(metavar="[ORDER]", help="only of this order; by default of all")
    ] = "",
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List refunds, the latest first."""
    request = service_pb.ListRefundsRequest(order_id=order_id)
    with Client(Session.find()) as client:
        found = lists.pages(client, _stub(client).ListRefunds, request, "refunds")
        lists.show(
            *(output, "refunds", found, _REFUNDS, _refund_row), right=("amount",), limit=limit
        )


@orders.command("actions")
def actions(
    order_id: _OrderArgument, limit: LimitOption = 0, output: OutputOption = Format.TABLE
) -> None:
    """List what happened outside for an order, the earliest first."""
    request = service_pb.ListExternalActionsRequest(order_id=order_id)
    with Client(Session.find()) as client:
        found = lists.pages(client, _stub(client).ListExternalActions, request, "external_actions")
        lists.show(
            *(output, "external_actions", found, _ACTIONS, _action_row),
            right=("amount",),
            optional=("check",),
            limit=limit,
        )


@orders.command("cancel")
def cancel(
    order_id: _OrderArgument,
    reason: Annotated[str, typer.Option(help="why, for people")],
    via: _ViaOption = "cli",
    request_id: _RequestIdOption = "",
    yes: YesOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """End an order for which nothing was received."""
    confirm(f"This cancels {order_id} for good", yes=yes)
    request = service_pb.CancelOrderRequest(
        request_id=_id(request_id), order_id=order_id, reason=reason, updated_via=via
    )
    with Client(Session.find()) as client:
        found = client.call(_stub(client).CancelOrder, request).order
    _show(found, output)


def _id(request_id: str) -> str:
    return request_id or str(uuid4())


def _stub(client: Client) -> order_service_pb2_grpc.OrderServiceStub:
    return client.stub(order_service_pb2_grpc.OrderServiceStub)


def _show(found: orders_pb2.Order, output: Format) -> None:
    if output is Format.JSON:
        print_json(found)
        return
    rows = [
        ("person", found.person_id),
        ("organisation", found.organization_id),
        ("status", found.status),
        ("total", money(found.amount_total)),
        ("paid", money(found.amount_paid)),
        *(
            [("given back", money(found.amount_refunded))]
            if found.amount_refunded.minor_units
            else []
        ),
        ("made", f"{when(found.created_at)} UTC, by {found.created_via}"),
    ]
    if found.updated_via:
        rows.append(("changed", f"{when(found.updated_at)} UTC, by {found.updated_via}"))
    if found.HasField("cancelled_at"):
        rows.append(("cancelled", f"{when(found.cancelled_at)} UTC: {found.cancel_reason}"))
    if found.notes:
        rows.append(("notes", found.notes))
    if found.operator_flags:
        rows.append(("flags", ", ".join(found.operator_flags)))
    print_table("", ("order", found.order_id), rows)


def _row(item: orders_pb2.Order) -> tuple[str, ...]:
    return (
        item.order_id,
        item.person_id,
        item.organization_id,
        item.status,
        money(item.amount_total),
        money(item.amount_paid),
        when(item.created_at),
    )


def _action_row(item: orders_pb2.ExternalAction) -> tuple[str, ...]:
    return (
        item.external_action_id,
        item.action,
        item.payment_method,
        money(item.amount),
        item.operator,
        item.check_number,
        when(item.occurred_at),
        "yes" if item.posting_id else "on its way",
    )


def _refund_row(item: orders_pb2.Refund) -> tuple[str, ...]:
    return (
        item.refund_id,
        item.order_id,
        money(item.amount),
        item.initiated_by,
        item.reason,
        when(item.completed_at),
    )


def register(app: typer.Typer) -> None:
    """Add the commands to `tollmesh`."""
    app.add_typer(orders, name="orders")
