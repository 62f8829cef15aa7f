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
    preview: Annotated[
        bool, typer.Option(help="only show what would be charged; nothing is stored")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="print only the id of the charge")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Rate an organisation's usage of a period, charge it and post it. A repeated command returns the same charge.

    One that was reversed meanwhile is made anew.
    """
    wanted = periods.parse(period)
    with Client(Session.find()) as client:
        if preview:
            _show_preview(_previewed(client, org_id, wanted, allow_open=allow_open), output)
            return
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
    """Create a charge, or return the one that the same request created before, unless that was reversed meanwhile."""
    bounds = [period.start_at.ToJsonString(), period.end_at.ToJsonString()]
    # Two requests: what was refused because the period is open may be asked for again with leave to charge it.
    name = "open-charge" if allow_open else "charge"
    stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
    while True:
        request = charge_service_pb2.CreateChargeRequest(
            request_id=request_id or str(derived_uuid(name, org_id, *bounds)),
            org_id=org_id,
            period=period,
            allow_open=allow_open,
        )
        made = client.call(stub.CreateCharge, request).charge
        if request_id or not _was_reversed(client, made.charge_id):
            return made
        # Each charge of the period has a request of its own, which the one before it names.
        bounds.append(made.charge_id)


def _was_reversed(client: Client, charge_id: str) -> bool:
    stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
    request = charge_service_pb2.GetChargeRequest(charge_id=charge_id)
    status = client.call(stub.GetCharge, request).charge.status
    return status == billing_pb2.CHARGE_STATUS_REVERSED


def _previewed(
    client: Client, org_id: str, period: type_pb2.Period, *, allow_open: bool
) -> billing_pb2.Charge:
    stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
    request = charge_service_pb2.PreviewChargeRequest(
        org_id=org_id, period=period, allow_open=allow_open
    )
    return client.call(stub.PreviewCharge, request).charge


def _show_preview(shown: billing_pb2.Charge, output: Format) -> None:
    if output is Format.JSON:
        print_json(shown)
        return
    _show_lines(f"{shown.org_id}: {money(shown.total)}  (a preview: nothing was stored)", shown)


def adjust(
    charge_id: Annotated[str, typer.Argument(help="charge of the period, chg_…")],
    preview: Annotated[
        bool, typer.Option(help="only show the difference; nothing is stored")
    ] = False,
    request_id: Annotated[
        str, typer.Option(help="UUID; by default derived from the charge and its corrections")
    ] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Charge the difference between what was billed for a period and what its usage comes to now.

    Late, amended and cancelled usage, and prices as they are now, end as one charge of the difference with postings of
    its own. Repeated, the command finds nothing to adjust.
    """
    with Client(Session.find()) as client:
        stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
        request = charge_service_pb2.AdjustChargeRequest(
            request_id=request_id or _of_next_correction(client, "adjust", charge_id),
            charge_id=charge_id,
            validate_only=preview,
        )
        made = client.call(stub.AdjustCharge, request).charge
    if preview:
        _show_preview(made, output)
    else:
        _show_correction(made, output)


def reverse(
    charge_id: Annotated[str, typer.Argument(help="charge of the period, chg_…")],
    reason: Annotated[str, typer.Option(help="why, for those who read the books later")],
    request_id: Annotated[str, typer.Option(help="UUID; by default derived from the charge")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Take back what was billed for a period, corrections included, and free the period. It may be repeated."""
    with Client(Session.find()) as client:
        stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
        request = charge_service_pb2.ReverseChargeRequest(
            request_id=request_id or str(derived_uuid("reverse", charge_id, reason)),
            charge_id=charge_id,
            reason=reason,
        )
        made = client.call(stub.ReverseCharge, request).charge
    _show_correction(made, output)


def _of_next_correction(client: Client, name: str, charge_id: str) -> str:
    """Derive the id of a request that is the same until the next correction is there."""
    stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
    request = charge_service_pb2.ListChargesRequest(adjusts_charge_id=charge_id, page_size=100)
    found = client.call(stub.ListCharges, request).charges
    settled = [each.charge_id for each in found if each.status != billing_pb2.CHARGE_STATUS_PENDING]
    return str(derived_uuid(name, charge_id, *sorted(settled)))


def _show_correction(made: billing_pb2.Charge, output: Format) -> None:
    if output is Format.JSON:
        print_json(made)
        return
    show_charge(made)
    kind = enum_name(made, "kind")
    say(f"{kind} of charge {made.adjusts_charge_id}")


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
    status = enum_name(made, "status")
    _show_lines(f"{made.org_id}: {money(made.total)}  ({made.charge_id}, {status})", made)


def _show_lines(title: str, made: billing_pb2.Charge) -> None:
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
    app.command()(adjust)
    app.command()(reverse)
    app.command()(explain)
