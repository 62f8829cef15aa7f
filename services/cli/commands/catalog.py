"""`tollmesh catalog apply|diff|get|export|assign|schema` and `tollmesh estimate`."""

from __future__ import annotations

import sys
from importlib import resources
from typing import Annotated, Any
from uuid import uuid4

import typer
from payments.pricing.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    pricing_service_pb2,
    pricing_service_pb2_grpc,
)

from services.cli import periods, strict_json, tax_rows
from services.cli.catalog_parts import parts
from services.cli.changes import field_changes
from services.cli.client import Client, Session
from services.cli.commands import price_lists
from services.cli.documents import read_document
from services.cli.errors import EXIT_DIFFERENT, EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    OutputOption,
    bold,
    enum_name,
    money,
    print_json,
    print_table,
    say,
)
from services.runtime.edge import json_messages

catalog = typer.Typer(help="The catalogue: SKUs, plans, prices, partners.", no_args_is_help=True)

_MARKS = {"created": ("+", "green"), "updated": ("~", "yellow"), "unchanged": (" ", "")}


_FileArgument = Annotated[
    str,
    typer.Argument(
        help="YAML or JSON, in the shape of payments.pricing.v1.Catalog; - for standard input"
    ),
]


@catalog.command("apply")
def apply(
    file: _FileArgument,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show the changes without making them")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Bring the catalogue in line with a file. What the file leaves out stays as it is.

    A file is applied in one piece: all of it or nothing. One that is too large for that is applied in several, in the
    order in which its parts refer to one another.
    """
    with Client(Session.find()) as client:
        response = apply_catalog(client, read_catalog(file), validate_only=dry_run)
    if output is Format.JSON:
        print_json(response)
        return
    show_changes(response, dry_run)


@catalog.command("diff")
def diff(
    file: _FileArgument,
    exit_code: Annotated[
        bool,
        typer.Option("--exit-code", help=f"end with {EXIT_DIFFERENT} if anything would change"),
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what `catalog apply` of the file would change, and change nothing. Needs a key that may apply it."""
    with Client(Session.find()) as client:
        response = apply_catalog(client, read_catalog(file), validate_only=True)
    if output is Format.JSON:
        print_json(response)
    else:
        show_changes(response, dry_run=True)
    if exit_code and any(enum_name(change, "kind") != "unchanged" for change in response.changes):
        raise CliError(f"{file} differs from the catalogue", exit_code=EXIT_DIFFERENT)


@catalog.command("schema")
def schema() -> None:
    """Print the JSON Schema of a catalogue's file, by which editors complete and check it."""
    copied = resources.files("services.cli.data").joinpath("catalog.schema.json")
    sys.stdout.write(copied.read_text(encoding="utf-8"))


def read_catalog(file: str) -> catalog_service_pb2.Catalog:
    """Read a catalogue from YAML or JSON. Amounts must be quoted: an unquoted decimal is a float in both.

    Raises:
        CliError: the file cannot be read or is not a catalogue.
    """
    return parse_catalog(read_document(file), file)


def parse_catalog(document: Any, name: str) -> catalog_service_pb2.Catalog:
    """Turn a plain document into a catalogue. Raises CliError."""
    if not isinstance(document, dict):
        raise CliError(
            f"{name} is not a catalogue: it holds {strict_json.name_of(document)}, not a mapping",
            f"its keys are {', '.join(catalog_service_pb2.Catalog.DESCRIPTOR.fields_by_name)}",
            exit_code=EXIT_USAGE,
        )
    try:
        return json_messages.parse(document, catalog_service_pb2.Catalog())
    except json_messages.NumberForText as error:
        raise CliError(
            f"{name} is not a catalogue: {error.place} is the number {error.number}, which may have lost digits",
            f'ids, amounts and quantities are strings: write "{error.number}", with the quotes',
            exit_code=EXIT_USAGE,
        ) from error
    except json_messages.NotThisMessage as error:
        raise CliError(f"{name} is not a catalogue: {error}", exit_code=EXIT_USAGE) from error


def apply_catalog(
    client: Client, wanted: catalog_service_pb2.Catalog, *, validate_only: bool = False
) -> catalog_service_pb2.ApplyCatalogResponse:
    """Apply a catalogue, in parts if it is too large for one call.

    Raises:
        CliError: a part was refused; those before it were applied.
    """
    stub = client.stub(catalog_service_pb2_grpc.CatalogServiceStub)
    done = catalog_service_pb2.ApplyCatalogResponse()
    for number, part in enumerate(parts(wanted)):
        request = catalog_service_pb2.ApplyCatalogRequest(
            catalog=part, validate_only=validate_only, request_id=str(uuid4())
        )
        try:
            done.changes.extend(client.call(stub.ApplyCatalog, request).changes)
        except CliError as error:
            if number and validate_only:
                hint = "the file is checked in parts: what another part of it declares counts only once it is applied"
                error.hints = [*error.hints, hint]
            elif number:
                hint = f"the first {len(done.changes):,} entries are applied: repeat the command for the rest"
                error.hints = [*error.hints, hint]
            raise
    return done


def show_changes(response: catalog_service_pb2.ApplyCatalogResponse, dry_run: bool) -> None:
    """Print the changes as a diff."""
    counts = dict.fromkeys(_MARKS, 0)
    for change in response.changes:
        kind = enum_name(change, "kind")
        counts[kind] = counts.get(kind, 0) + 1
        if kind == "unchanged":
            continue
        mark, style = _MARKS.get(kind, ("?", ""))
        say(bold(mark, style), f" {change.entity} {change.id}")
        for line in field_changes(change.before, change.after):
            say(f"    {line}")
    would = "would be " if dry_run else ""
    parts = (f"{counts[kind]} {would}{kind}" for kind in ("created", "updated"))
    say(f"{', '.join(parts)}, {counts['unchanged']} unchanged")


def estimate(
    org_id: Annotated[str, typer.Argument(help="organisation")],
    sku: Annotated[list[str], typer.Option(help="sku=uses per lead; may be repeated")],
    leads: Annotated[str, typer.Option(help="number of leads")],
    project: Annotated[str, typer.Option(help="project")] = "",
    period: Annotated[
        str,
        typer.Option(help=f"that period, on the plans of then; else one like any: {periods.HELP}"),
    ] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Preview what usage would cost under the organisation's plan."""
    pairs = dict(_uses(item) for item in sku)
    request = pricing_service_pb2.EstimateRequest(
        org_id=org_id, project_id=project, skus=pairs, leads=leads
    )
    if period:
        request.period.CopyFrom(periods.parse(period))
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
    if response.taxes:
        tax_rows.show_totals("taxes", response.taxes)
        say(f"total with tax: {money(response.grand_total_with_tax)}")


def _uses(text: str) -> tuple[str, str]:
    sku, separator, quantity = text.partition("=")
    if not separator or not quantity:
        raise CliError(
            f"{text!r} is not sku=uses per lead",
            "write e.g. --sku llm.requests=1.5",
            exit_code=EXIT_USAGE,
        )
    return sku, quantity


def register(app: typer.Typer) -> None:
    """Add the commands."""
    price_lists.register(app, catalog)
    app.add_typer(catalog, name="catalog")
    app.command()(estimate)
