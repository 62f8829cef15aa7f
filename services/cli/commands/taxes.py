"""`tollmesh taxes rates|profiles|policies|calculate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from payments.pricing.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    pricing_service_pb2,
    pricing_service_pb2_grpc,
)

from services.cli import amounts, lists, periods, tax_rows
from services.cli.client import Client, Session
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    LimitOption,
    OutputOption,
    money,
    plain_money,
    print_json,
    print_table,
    say,
)

taxes = typer.Typer(
    help="Tax rates, where organisations are taxed, and what they bear. `catalog apply` declares them.",
    no_args_is_help=True,
)

_ITEM_COLUMNS = ("tax code", "amount", "without tax", "tax", "with tax")


@taxes.command("rates")
def list_rates(
    jurisdiction: Annotated[str, typer.Option(help="only those of this one: DE, CA-QC")] = "",
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List the tax rates, superseded ones included."""
    request = catalog_service_pb2.ListTaxRatesRequest(jurisdiction=jurisdiction)
    _show("ListTaxRates", request, "tax_rates", tax_rows.RATE_COLUMNS, tax_rows.rate, output, limit)


@taxes.command("profiles")
def list_profiles(
    org: Annotated[str, typer.Option(help="only those of this organisation")] = "",
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List where organisations are taxed since when; a later entry supersedes an earlier one."""
    request = catalog_service_pb2.ListTaxProfilesRequest(org_id=org)
    columns, row = tax_rows.PROFILE_COLUMNS, tax_rows.profile
    _show("ListTaxProfiles", request, "tax_profiles", columns, row, output, limit)


@taxes.command("policies")
def list_policies(limit: LimitOption = 0, output: OutputOption = Format.TABLE) -> None:
    """List how taxes are computed, by country."""
    request = catalog_service_pb2.ListTaxPoliciesRequest()
    columns, row = tax_rows.POLICY_COLUMNS, tax_rows.policy
    _show("ListTaxPolicies", request, "tax_policies", columns, row, output, limit)


@taxes.command("calculate")
def calculate(
    org_id: Annotated[str, typer.Argument(help="organisation")],
    item: Annotated[
        list[str],
        typer.Option(help="tax code=amount, or =amount for none; may be repeated: one document"),
    ],
    currency: Annotated[str, typer.Option(help="currency of the amounts")],
    at: Annotated[
        str, typer.Option(help="instant whose rates decide, of a day its last one; now by default")
    ] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Show which taxes an organisation bears on amounts, by the rules that charges follow."""
    request = pricing_service_pb2.CalculateTaxRequest(org_id=org_id)
    for text in item:
        code, separator, amount = text.rpartition("=")
        if not separator:
            raise CliError(
                f"{text!r} is not tax code=amount",
                "write e.g. --item saas=12.50",
                exit_code=EXIT_USAGE,
            )
        found = amounts.parse("--item", amount, currency, amounts.Range.ANY)
        request.items.add(tax_code=code, amount=found)
    if at:
        request.taxed_at.FromDatetime(periods.last_instant("--at", at))
    with Client(Session.find()) as client:
        stub = client.stub(pricing_service_pb2_grpc.PricingServiceStub)
        answer = client.call(stub.CalculateTax, request)
    if output is Format.JSON:
        print_json(answer)
        return
    rows = [
        (
            asked.tax_code or "-",
            plain_money(asked.amount),
            plain_money(found.amount_without_tax),
            ", ".join(f"{plain_money(tax.amount)} {tax.tax}" for tax in found.taxes) or "-",
            plain_money(found.amount_with_tax),
        )
        for asked, found in zip(request.items, answer.items, strict=True)
    ]
    print_table(f"taxes of {org_id}", _ITEM_COLUMNS, rows, right=_ITEM_COLUMNS[1:])
    tax_rows.show_totals("", answer.taxes)
    say(f"total with tax: {money(answer.total_with_tax)}")


def _show(
    method: str,
    request: Any,
    name: str,
    columns: Sequence[str],
    row: Callable[[Any], Sequence[str]],
    output: Format,
    limit: int,
) -> None:
    with Client(Session.find()) as client:
        stub = client.stub(catalog_service_pb2_grpc.CatalogServiceStub)
        found = lists.pages(client, getattr(stub, method), request, name)
        numbers = [each for each in columns if each == "per cent"]
        lists.show(output, name, found, columns, row, right=numbers, limit=limit)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(taxes, name="taxes")
