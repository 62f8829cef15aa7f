"""`tollmesh charge`, `tollmesh charges` and `tollmesh explain`."""

from __future__ import annotations

from typing import Annotated

import typer
from payments.billing.v1 import billing_pb2, charge_service_pb2, charge_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.cli import periods
from services.cli.client import Client, Session
from services.cli.output import (
    Format,
    OutputOption,
    bold,
    enum_name,
    money,
    plain_money,
    print_json,
    print_table,
    say,
)
from services.runtime.ids import derived_uuid


def charge(
    org_id: Annotated[str, typer.Argument(help="organisation")],
    period: Annotated[str, typer.Option(help=periods.HELP)],
    request_id: Annotated[
        str, typer.Option(help="UUID; by default derived from the organisation and the period")
    ] = "",
    allow_open: Annotated[
        bool, typer.Option(help="charge a period that hasn't ended yet, up to now")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="print only the id of the charge")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Rate an organisation's usage of a period, charge it and post it. A repeated command returns the same charge."""
    wanted = periods.parse(period)
    with Client(Session.find()) as client:
        made = create_charge(client, org_id, wanted, request_id, allow_open=allow_open)
    if quiet:
        say(made.charge_id)
        return
    if output is Format.JSON:
        print_json(made)
        return
    show_charge(made)
    if made.period.end_at.ToNanoseconds() < wanted.end_at.ToNanoseconds():
        closed_at = made.period.end_at.ToJsonString()
        say(f"the charge ends at {closed_at}; the next one starts there")


def create_charge(
    client: Client,
    org_id: str,
    period: type_pb2.Period,
    request_id: str = "",
    *,
    allow_open: bool = False,
) -> billing_pb2.Charge:
    """Create a charge, or return the one that the same request created before."""
    bounds = (period.start_at.ToJsonString(), period.end_at.ToJsonString())
    # Two requests: what was refused because the period is open may be asked for again with leave to charge it.
    name = "open-charge" if allow_open else "charge"
    request = charge_service_pb2.CreateChargeRequest(
        request_id=request_id or str(derived_uuid(name, org_id, *bounds)),
        org_id=org_id,
        period=period,
        allow_open=allow_open,
    )
    stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
    return client.call(stub.CreateCharge, request).charge


def charges(
    org_id: Annotated[str, typer.Argument(help="organisation; all by default")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="maximum number, newest first")] = 100,
    output: OutputOption = Format.TABLE,
) -> None:
    """List charges."""
    with Client(Session.find()) as client:
        stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
        request = charge_service_pb2.ListChargesRequest(org_id=org_id, page_size=limit)
        response = client.call(stub.ListCharges, request)
    if output is Format.JSON:
        print_json(response)
        return
    rows = [
        (
            item.charge_id,
            item.org_id,
            periods.describe(item.period),
            money(item.total),
            enum_name(item, "status"),
        )
        for item in response.charges
    ]
    if not rows and org_id:
        say(f"{org_id} has no charges")
        return
    print_table("", ("charge", "organisation", "period", "total", "status"), rows, right=["total"])


def explain(
    charge_id: Annotated[str, typer.Argument(help="id of the charge, chg_…")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Show every event range, price, tier, rounding and posting behind a charge."""
    with Client(Session.find()) as client:
        stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
        request = charge_service_pb2.ExplainChargeRequest(charge_id=charge_id)
        explanation = client.call(stub.ExplainCharge, request).explanation
    if output is Format.JSON:
        print_json(explanation)
        return
    say(
        bold(explanation.charge_id),
        f"  {explanation.org_id}, {periods.describe(explanation.period)}: ",
        bold(money(explanation.total)),
    )
    if explanation.recipe:
        recipe = f"{explanation.recipe}, version {explanation.recipe_version}"
        say(f"posted by recipe {recipe}: posting {explanation.posting_id}")
    for item in explanation.lines:
        _show_line(item)


def show_charge(made: billing_pb2.Charge) -> None:
    """Print a charge as a table of its lines."""
    rows = [
        (
            line.sku,
            f"{line.quantity}",
            line.exact_amount.rstrip("0").rstrip("."),
            plain_money(line.amount_gross),
            f"{line.partner_id} {line.partner_pct} %" if line.partner_id else "-",
            plain_money(line.partner_amount) if line.partner_id else "-",
        )
        for line in made.lines
    ]
    columns = ("sku", "quantity", "exact", "amount", "partner", "commission")
    title = f"{made.org_id}: {money(made.total)}  ({made.charge_id}, {enum_name(made, 'status')})"
    print_table(title, columns, rows, right=("quantity", "exact", "amount", "commission"))


def _show_line(item: billing_pb2.LineExplanation) -> None:
    line = item.line
    project = f" of {line.project_id}" if line.project_id else ""
    say()
    say(bold(line.sku), f"{project}: {money(line.amount_gross)}")
    for step in item.steps:
        say(f"  {step}")
    for posting in item.postings:
        amount, debit, credit = posting.amount, posting.debit_account_id, posting.credit_account_id
        say(f"  posted {money(amount)}: {debit} → {credit}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(charge)
    app.command()(charges)
    app.command()(explain)
