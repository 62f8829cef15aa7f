"""`tollmesh catalog get|export`, `tollmesh skus`, `tollmesh plans` and `tollmesh entitlements`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.message import Message
from payments.pricing.v1 import catalog_service_pb2 as service_pb2
from payments.pricing.v1 import catalog_service_pb2_grpc, pricing_pb2

from services.cli import lists
from services.cli.client import Client, Session
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    JsonWriter,
    LimitOption,
    OutputOption,
    as_dict,
    copy_out,
    enum_name,
    no_room,
    note,
    print_json,
    print_table,
    print_tables,
    say,
    when,
)
from services.runtime import documents

skus = typer.Typer(help="What is sold: SKUs.", no_args_is_help=True)
plans = typer.Typer(help="Plans and their prices.", no_args_is_help=True)
entitlements = typer.Typer(help="Which organisation is on which plan.", no_args_is_help=True)

_HEAD = """\
# SKUs, plans with their newest prices, and entitlements. `tollmesh catalog apply` takes this again without a change.
# The mesh lists no business models, partners, partners of record and commission rates: they are not in here.
"""
_MODEL = {"per_unit": "per unit", "package": "package", "graduated": "graduated", "flat": "flat"}
_SKU_COLUMNS = ("sku", "type", "unit", "aggregation", "cost", "retail", "tax code")
_PLAN_COLUMNS = ("plan", "name", "currency", "version", "status", "prices", "since, UTC", "model")
_ENTITLEMENT_COLUMNS = ("organisation", "plan", "since, UTC", "own prices")


def get(output: OutputOption = Format.TABLE) -> None:
    """Show the catalogue: SKUs, plans with their newest prices, and entitlements.

    With --output json it is one document that `catalog apply` takes.
    """
    with Client(Session.find()) as client:
        if output is Format.JSON:
            with JsonWriter() as document:
                for name, items in _sections(client):
                    document.add_list(name, items)
            return
        shown: dict[str, tuple[Sequence[str], Callable[[Any], Sequence[str]]]] = {
            "skus": (_SKU_COLUMNS, _sku_row),
            "plans": (_PLAN_COLUMNS, _plan_row),
            "entitlements": (_ENTITLEMENT_COLUMNS, _entitlement_row),
        }
        for name, items in _sections(client):
            columns, row = shown[name]
            say(name, style="bold")
            print_tables(columns, map(row, items), right=("version", "prices", "own prices"))


def export(
    to: Annotated[
        Path | None, typer.Option("--to", help="file to write; standard output by default")
    ] = None,
) -> None:
    """Write the catalogue as YAML that `catalog apply` takes again without a change.

    It holds SKUs, plans with their newest prices, and entitlements. Business models, partners, partners of record and
    commission rates cannot be listed, so keep the file that you applied them from. Nothing is written unless all could
    be read.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as kept:
        with Client(Session.find()) as client:
            kept.write(_HEAD)
            counts = {name: _write(kept, name, items) for name, items in _sections(client)}
        if to is None:
            copy_out(kept)
        else:
            _place(kept, to)
    note(", ".join(f"{name}: {count:,}" for name, count in counts.items()))


def _write(kept: Any, name: str, items: Iterator[Message]) -> int:
    """Write a section, entry by entry; returns how many there are."""
    count = 0
    for count, item in enumerate(items, start=1):
        head = f"{name}:\n" if count == 1 else ""
        try:
            kept.write(head + documents.write([as_dict(item, zeros=False)]))
        except OSError as error:
            raise no_room(error) from error
    return count


def _place(kept: Any, to: Path) -> None:
    """Write a file whole, or leave what is there."""
    new = to.with_name(f".{to.name}.new")
    try:
        kept.seek(0)
        with new.open("w", encoding="utf-8", newline="") as written:
            for line in kept:
                written.write(line)
        new.replace(to)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise CliError(
            f"cannot write {to}: {error.strerror or error}", exit_code=EXIT_USAGE
        ) from error


@skus.command("list")
def list_skus(limit: LimitOption = 0, output: OutputOption = Format.TABLE) -> None:
    """List the SKUs, by id."""
    with Client(Session.find()) as client:
        lists.show(output, "skus", _skus(client), _SKU_COLUMNS, _sku_row, limit=limit)


@plans.command("list")
def list_plans(
    model: Annotated[str, typer.Option(help="only plans of this business model")] = "",
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List the plans with their newest prices, by id."""
    with Client(Session.find()) as client:
        found = _plans(client, model)
        numbers = ("version", "prices")
        lists.show(output, "plans", found, _PLAN_COLUMNS, _plan_row, right=numbers, limit=limit)


@plans.command("get")
def get_plan(
    plan_id: Annotated[str, typer.Argument(help="id of the plan")],
    version: Annotated[
        int, typer.Option(min=0, help="version of its prices; the newest by default")
    ] = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a plan with its prices."""
    request = service_pb2.GetPlanRequest(plan_id=plan_id, version=version)
    with Client(Session.find()) as client:
        found = client.call(_stub(client).GetPlan, request).plan
    if output is Format.JSON:
        print_json(found)
        return
    print_table("", _PLAN_COLUMNS, [_plan_row(found)], right=("version", "prices"))
    for line in found.notes.splitlines():
        say(line)
    columns = ("sku", "model", "included", "up to", "unit amount", "flat amount")
    rows = (row for price in found.prices for row in _price_rows(price))
    print_table(f"prices in {found.currency_code}", columns, rows, right=columns[2:])


@entitlements.command("list")
def list_entitlements(
    org: Annotated[str, typer.Option(help="only those of this organisation")] = "",
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List which organisation is on which plan since when; a later entry supersedes an earlier one."""
    with Client(Session.find()) as client:
        lists.show(
            output,
            "entitlements",
            _entitlements(client, org),
            _ENTITLEMENT_COLUMNS,
            _entitlement_row,
            right=("own prices",),
            limit=limit,
        )


def _stub(client: Client) -> catalog_service_pb2_grpc.CatalogServiceStub:
    return client.stub(catalog_service_pb2_grpc.CatalogServiceStub)


def _sections(client: Client) -> Iterator[tuple[str, Iterator[Any]]]:
    yield "skus", _skus(client)
    yield "plans", _plans(client)
    yield "entitlements", _entitlements(client)


def _skus(client: Client) -> Iterator[pricing_pb2.Sku]:
    return lists.pages(client, _stub(client).ListSkus, service_pb2.ListSkusRequest(), "skus")


def _plans(client: Client, model_id: str = "") -> Iterator[pricing_pb2.Plan]:
    request = service_pb2.ListPlansRequest(model_id=model_id)
    return lists.pages(client, _stub(client).ListPlans, request, "plans")


def _entitlements(client: Client, org_id: str = "") -> Iterator[pricing_pb2.Entitlement]:
    request = service_pb2.ListEntitlementsRequest(org_id=org_id)
    return lists.pages(client, _stub(client).ListEntitlements, request, "entitlements")


def _sku_row(item: pricing_pb2.Sku) -> tuple[str, ...]:
    kinds = (enum_name(item, "type"), item.unit, enum_name(item, "aggregation"))
    return item.sku, *kinds, item.cost, item.retail, item.tax_code


def _plan_row(item: pricing_pb2.Plan) -> tuple[str, ...]:
    return (
        item.plan_id,
        item.name,
        item.currency_code,
        str(item.version),
        enum_name(item, "status"),
        str(len(item.prices)),
        when(item.effective_at) or "ever",
        item.model_id,
    )


def _entitlement_row(item: pricing_pb2.Entitlement) -> tuple[str, ...]:
    since = when(item.effective_at) or "ever"
    return item.org_id, item.plan_id, since, str(len(item.overrides) or "")


def _price_rows(item: pricing_pb2.PlanPrice) -> Iterator[tuple[str, ...]]:
    price, kind = item.price, item.price.WhichOneof("model") or ""
    head = (item.sku, _MODEL.get(kind, kind), price.included_qty)
    if kind == "flat":
        yield *head, "", "", price.flat.amount
    elif kind == "per_unit":
        yield *head, "", price.per_unit.unit_amount, ""
    elif kind == "package":
        size, amount = price.package.package_size, price.package.package_amount
        yield *head, "", f"{amount} per {size}", ""
    else:
        for number, tier in enumerate(price.graduated.tiers):
            named = head if number == 0 else ("", "", "")
            yield *named, tier.up_to or "no end", tier.unit_amount or "0", tier.flat_amount
        if kind != "graduated":
            yield *head, "", "see --output json", ""


def register(app: typer.Typer, catalog: typer.Typer) -> None:
    """Add the commands."""
    catalog.command("get")(get)
    catalog.command("export")(export)
    app.add_typer(skus, name="skus")
    app.add_typer(plans, name="plans")
    app.add_typer(entitlements, name="entitlements")
