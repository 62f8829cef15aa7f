"""`tollmesh catalog apply` and `tollmesh estimate`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any
from uuid import uuid4

import typer
from google.protobuf.struct_pb2 import ListValue, Struct
from payments.pricing.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    pricing_service_pb2,
    pricing_service_pb2_grpc,
)

from services.cli import strict_json
from services.cli.client import Client, Session
from services.cli.documents import read_document
from services.cli.errors import EXIT_USAGE, CliError
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


@catalog.command("apply")
def apply(
    file: Annotated[
        str,
        typer.Argument(
            help="YAML or JSON, in the shape of payments.pricing.v1.Catalog; - for standard input"
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show the changes without making them")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Bring the catalogue in line with a file. What the file leaves out stays as it is."""
    with Client(Session.find()) as client:
        response = apply_catalog(client, read_catalog(file), validate_only=dry_run)
    if output is Format.JSON:
        print_json(response)
        return
    show_changes(response, dry_run)


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
        mark, style = _MARKS.get(kind, ("?", ""))
        say(bold(mark, style), f" {change.entity} {change.id}")
        for line in _field_changes(change.before, change.after):
            say(f"    {line}")
    would = "would be " if dry_run else ""
    parts = (f"{counts[kind]} {would}{kind}" for kind in ("created", "updated"))
    say(f"{', '.join(parts)}, {counts['unchanged']} unchanged")


def _field_changes(before: Struct, after: Struct) -> list[str]:
    """Name each value that differs by its path: `prices[llm.requests].price.flat.amount: 1 -> 2`."""
    old, new = dict(_leaves(before, "")), dict(_leaves(after, ""))
    if not old:
        return [f"{path}: {value}" for path, value in new.items()]
    names = [path for path in {**old, **new} if old.get(path) != new.get(path)]
    return [f"{path}: {old.get(path, '-')} -> {new.get(path, '-')}" for path in names]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Give the values of a document by their paths; what a list holds goes by its SKU where it has one."""
    if isinstance(value, Struct):
        for key in sorted(value):
            yield from _leaves(value[key], f"{path}.{key}" if path else key)
    elif isinstance(value, ListValue):
        for index, item in enumerate(value):
            name = item["sku"] if isinstance(item, Struct) and "sku" in item else index
            yield from _leaves(item, f"{path}[{name}]")
    else:
        whole = isinstance(value, float) and value.is_integer()
        shown = int(value) if isinstance(value, float) and whole else value
        yield path, shown if isinstance(shown, str) else json.dumps(shown)


def estimate(
    org_id: Annotated[str, typer.Argument(help="organisation")],
    sku: Annotated[list[str], typer.Option(help="sku=uses per lead; may be repeated")],
    leads: Annotated[str, typer.Option(help="number of leads")],
    project: Annotated[str, typer.Option(help="project")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Preview what usage would cost under the organisation's plan."""
    pairs = dict(_uses(item) for item in sku)
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
    app.add_typer(catalog, name="catalog")
    app.command()(estimate)
