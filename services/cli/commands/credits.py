"""`tollmesh credits …`: what owners have, how they came by it, and what became of it."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from payments.orders.v1 import credit_service_pb2 as service_pb
from payments.orders.v1 import credit_service_pb2_grpc, credits_pb2

from services.cli import lists, periods
from services.cli.client import Client, Session
from services.cli.output import (
    Format,
    LimitOption,
    OutputOption,
    YesOption,
    confirm,
    print_json,
    print_table,
    when,
)

credits_ = typer.Typer(help="Credits: granted, told, taken back.", no_args_is_help=True)

_GRANTS = (
    "grant",
    "owner",
    "source",
    "amount",
    "available",
    "held",
    "used",
    "gone",
    "expires, UTC",
)
_RIGHT = ("amount", "available", "held", "used", "gone")
_OwnerArgument = Annotated[str, typer.Argument(metavar="OWNER", help="whose credits, by your id")]
_UnitOption = Annotated[
    str, typer.Option(help="ISO 4217 code, or a unit of yours such as lesson, which comes whole")
]
_RequestIdOption = Annotated[
    str, typer.Option(help="UUID that makes a repeated call the same one; by default a new one")
]


@credits_.command("grant")
def grant(
    owner: _OwnerArgument,
    amount: Annotated[str, typer.Argument(help="how much, e.g. 120.00 or 10")],
    source: Annotated[
        str, typer.Option(help="PURCHASED, PROMOTION, DOWNTIME or REFUND")
    ] = "PROMOTION",
    unit: _UnitOption = "USD",
    order: Annotated[str, typer.Option(help="which bought them; of PURCHASED alone")] = "",
    priority: Annotated[int, typer.Option(help="lower is used first")] = 0,
    effective: Annotated[str, typer.Option(help="usable from this time on; now by default")] = "",
    expires: Annotated[str, typer.Option(help="usable until just before; ever by default")] = "",
    rollover: Annotated[
        str, typer.Option(help="how much goes on into another period when it expires")
    ] = "",
    periods_: Annotated[
        int, typer.Option("--periods", help="how many more periods follow, with --rollover")
    ] = 1,
    period_days: Annotated[int, typer.Option(help="days of each, with --rollover")] = 30,
    request_id: _RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Give an owner credits."""
    wanted = credits_pb2.Grant(
        owner_id=owner,
        unit=unit,
        amount=amount,
        priority=priority,
        order_id=order,
        source=source.upper(),
        effective_at=_moment("--effective", effective),
        expires_at=_moment("--expires", expires),
    )
    if rollover:
        wanted.rollover.amount_max = rollover
        wanted.rollover.periods, wanted.rollover.period_days = periods_, period_days
    request = service_pb.GrantCreditsRequest(request_id=_id(request_id), grant=wanted)
    with Client(Session.find()) as client:
        found = client.call(_stub(client).GrantCredits, request).grant
    if output is Format.JSON:
        print_json(found)
        return
    print_table("", _GRANTS, [_row(found)], right=_RIGHT)


@credits_.command("reverse")
def reverse(
    grant_id: Annotated[
        str, typer.Argument(metavar="GRANT", help="id, as `tollmesh credits list` prints")
    ],
    reason: Annotated[str, typer.Option(help="why, for people")],
    request_id: _RequestIdOption = "",
    yes: YesOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Take back what is available of a grant, and tell what was used of it."""
    confirm(f"This takes back what is available of {grant_id}", yes=yes)
    request = service_pb.ReverseGrantRequest(
        request_id=_id(request_id), grant_id=grant_id, reason=reason
    )
    with Client(Session.find()) as client:
        found = client.call(_stub(client).ReverseGrant, request)
    if output is Format.JSON:
        print_json(found)
        return
    rows = [
        ("taken back", _amount(found.taken_back, found.grant.unit)),
        ("used before", _amount(found.used, found.grant.unit)),
        ("held by reservations", _amount(found.held, found.grant.unit)),
    ]
    print_table("", ("grant", found.grant.grant_id), rows)


@credits_.command("list")
def list_(
    owner: Annotated[str, typer.Option(help="only of this owner")] = "",
    unit: Annotated[str, typer.Option(help="only in this unit")] = "",
    order: Annotated[str, typer.Option(help="only what this order bought")] = "",
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List grants, the latest given first."""
    request = service_pb.ListGrantsRequest(owner_id=owner, unit=unit, order_id=order)
    with Client(Session.find()) as client:
        found = lists.pages(client, _stub(client).ListGrants, request, "grants")
        lists.show(*(output, "grants", found, _GRANTS, _row), right=_RIGHT, limit=limit)


@credits_.command("balance")
def balance(
    owner: _OwnerArgument,
    unit: _UnitOption = "USD",
    at: Annotated[str, typer.Option(help="when, past or future; now by default")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Tell what an owner has in a unit at a time."""
    request = service_pb.GetCreditBalanceRequest(
        owner_id=owner, unit=unit, effective_at=_moment("--at", at)
    )
    with Client(Session.find()) as client:
        found = client.call(_stub(client).GetCreditBalance, request)
    if output is Format.JSON:
        print_json(found)
        return
    rows = [("available", _amount(found.available, unit)), ("held", _amount(found.held, unit))]
    print_table("", ("owner", owner), rows)


def _moment(option: str, text: str) -> Timestamp | None:
    if not text:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(periods.first_instant(option, text))
    return stamp


def _amount(amount: str, unit: str) -> str:
    return f"{amount} {unit}"


def _id(request_id: str) -> str:
    return request_id or str(uuid4())


def _stub(client: Client) -> credit_service_pb2_grpc.CreditServiceStub:
    return client.stub(credit_service_pb2_grpc.CreditServiceStub)


def _row(item: credits_pb2.Grant) -> tuple[str, ...]:
    # What lapsed and what was taken back; both are written with the digits of the unit.
    gone = ", ".join(
        f"{amount} {how}"
        for amount, how in ((item.lapsed, "lapsed"), (item.taken_back, "taken back"))
        if amount.strip("0.")
    )
    return (
        item.grant_id,
        item.owner_id,
        item.source,
        _amount(item.amount, item.unit),
        item.available,
        item.held,
        item.used,
        gone,
        when(item.expires_at) if item.HasField("expires_at") else "",
    )


def register(app: typer.Typer) -> None:
    """Add the commands to `tollmesh`."""
    app.add_typer(credits_, name="credits")
