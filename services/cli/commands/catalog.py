"""`tollmesh catalog apply` and `tollmesh estimate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer
import yaml
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from payments.pricing.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    pricing_service_pb2,
    pricing_service_pb2_grpc,
)

from services.cli.client import Client, Session
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    OutputOption,
    console,
    enum_name,
    money,
    print_json,
    print_table,
)

catalog = typer.Typer(help="The catalogue: SKUs, plans, prices, partners.", no_args_is_help=True)

_MARKS = {"created": "[green]+[/green]", "updated": "[yellow]~[/yellow]", "unchanged": " "}


@catalog.command("apply")
def apply(
    file: Annotated[
        str,
        typer.Argument(help="YAML, shaped as payments.pricing.v1.Catalog; - for standard input"),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the changes, make none")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Make the catalogue what the file says; what the file leaves out stays."""
    with Client(Session.find()) as client:
        response = apply_catalog(client, read_catalog(file), validate_only=dry_run)
    if output is Format.JSON:
        print_json(response)
        return
    show_changes(response, dry_run)


def read_catalog(file: str) -> catalog_service_pb2.Catalog:
    """Read a catalogue from YAML. Amounts must be quoted: a number in YAML is a float.

    Raises:
        CliError: the file cannot be read or is no catalogue.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        document = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CliError(f"cannot read {file}: {error}", exit_code=EXIT_USAGE) from error
    return parse_catalog(document, file)


def parse_catalog(document: Any, name: str) -> catalog_service_pb2.Catalog:
    """Turn a plain document into a catalogue. Raises CliError."""
    try:
        return json_format.ParseDict(document, catalog_service_pb2.Catalog())
    except (json_format.ParseError, TypeError, AttributeError) as error:
        raise CliError(
            f"{name} is no catalogue: {error}",
            'amounts and quantities are texts: write unit_amount: "0.000003", with the quotes',
            exit_code=EXIT_USAGE,
        ) from error


def apply_catalog(
    client: Client, wanted: catalog_service_pb2.Catalog, *, validate_only: bool = False
) -> catalog_service_pb2.ApplyCatalogResponse:
    """Apply a catalogue."""
    request = catalog_service_pb2.ApplyCatalogRequest(
        catalog=wanted, validate_only=validate_only, request_id=str(uuid4())
    )
    stub = client.stub(catalog_service_pb2_grpc.CatalogServiceStub)
    return client.call(stub.ApplyCatalog, request)


def show_changes(response: catalog_service_pb2.ApplyCatalogResponse, dry_run: bool) -> None:
    """Print the changes as a diff."""
    counts = dict.fromkeys(_MARKS, 0)
    for change in response.changes:
        kind = enum_name(change, "kind")
        counts[kind] = counts.get(kind, 0) + 1
        if kind == "unchanged":
            continue
        console.print(f"{_MARKS.get(kind, '?')} {change.entity} {change.id}", highlight=False)
        for line in _field_changes(change.before, change.after):
            console.print(f"    {line}", highlight=False, markup=False)
    verb = "would be " if dry_run else ""
    console.print(
        f"{verb}{counts['created']} created, {counts['updated']} updated, "
        f"{counts['unchanged']} unchanged",
        highlight=False,
    )


def _field_changes(before: Struct, after: Struct) -> list[str]:
    old, new = json_format.MessageToDict(before), json_format.MessageToDict(after)
    if not old:
        return []
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return [f"{name}: {old.get(name)!r} -> {new.get(name)!r}" for name in names]


def estimate(
    org_id: Annotated[str, typer.Argument(help="organisation")],
    sku: Annotated[list[str], typer.Option(help="sku=uses per lead, several times")],
    leads: Annotated[str, typer.Option(help="how many leads")],
    project: Annotated[str, typer.Option(help="project")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Preview what usage would cost under the organisation's plan."""
    pairs = dict(item.partition("=")[::2] for item in sku)
    request = pricing_service_pb2.EstimateRequest(
        org_id=org_id, project_id=project, skus=pairs, leads=leads
    )
    with Client(Session.find()) as client:
        stub = client.stub(pricing_service_pb2_grpc.PricingServiceStub)
        response = client.call(stub.Estimate, request)
    if output is Format.JSON:
        print_json(response)
        return
    rows = [(line.sku, line.included, line.overage, money(line.total)) for line in response.lines]
    rows += [("base", "", "", money(response.base)), ("total", "", "", money(response.grand_total))]
    columns = ("sku", "included", "overage", "amount")
    print_table(f"estimate for {org_id}", columns, rows, right=columns[1:])


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(catalog, name="catalog")
    app.command()(estimate)
