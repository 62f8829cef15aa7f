"""`tollmesh catalog get|export|assign`, `tollmesh skus`, `tollmesh plans` and `tollmesh entitlements`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer
from google.protobuf.message import Message
from payments.pricing.v1 import catalog_service_pb2 as service_pb2
from payments.pricing.v1 import catalog_service_pb2_grpc, pricing_pb2

from services.cli import lists, periods, price_rows, tax_rows
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
# The catalogue, plans with their newest prices. `tollmesh catalog apply` takes this again without a change.
"""
_SKU_COLUMNS = ("sku", "type", "unit", "aggregation", "cost", "retail", "tax code")
_PLAN_COLUMNS = ("plan", "name", "currency", "version", "status", "prices", "since, UTC", "model")
_MODEL_COLUMNS = ("model", "code", "name", "status", "version", "currency", "default plan")
_ASSIGNMENT_COLUMNS = ("organisation", "model", "plan", "assigned by", "assigned at, UTC", "notes")
_PARTNER_COLUMNS = ("partner", "name", "tier")
_RECORD_COLUMNS = ("organisation", "partner", "since, UTC", "until, UTC", "status", "dispute")
_RATE_COLUMNS = ("partner tier", "sku", "per cent")
_ACCOUNT_ORG_COLUMNS = ("billing account", "organisation", "since, UTC", "until, UTC")
_ACCOUNT_PARTNER_COLUMNS = ("billing account", "partner", "since, UTC", "until, UTC", "status")
_ENTITLEMENT_COLUMNS = ("organisation", "plan", "since, UTC", "held to", "own prices")


def get(output: OutputOption = Format.TABLE) -> None:
    """Show the catalogue, plans with their newest prices.

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
            "business_models": (_MODEL_COLUMNS, _model_row),
            "org_business_models": (_ASSIGNMENT_COLUMNS, _assignment_row),
            "entitlements": (_ENTITLEMENT_COLUMNS, _entitlement_row),
            "partners": (_PARTNER_COLUMNS, _partner_row),
            "partners_of_record": (_RECORD_COLUMNS, _record_row),
            "commission_rates": (_RATE_COLUMNS, _rate_row),
            "tax_rates": (tax_rows.RATE_COLUMNS, tax_rows.rate),
            "tax_profiles": (tax_rows.PROFILE_COLUMNS, tax_rows.profile),
            "tax_policies": (tax_rows.POLICY_COLUMNS, tax_rows.policy),
            "billing_account_orgs": (_ACCOUNT_ORG_COLUMNS, _account_org_row),
            "billing_account_partners": (_ACCOUNT_PARTNER_COLUMNS, _account_partner_row),
        }
        for name, items in _sections(client):
            columns, row = shown[name]
            say(name.replace("_", " "), style="bold")
            numbers = ("version", "prices", "own prices", "held to", "per cent")
            print_tables(columns, map(row, items), right=[n for n in numbers if n in columns])


def export(
    to: Annotated[
        Path | None, typer.Option("--to", help="file to write; standard output by default")
    ] = None,
) -> None:
    """Write the catalogue as YAML that `catalog apply` takes again without a change.

    It holds all of it, plans with their newest prices: older versions stay in the mesh, since a catalogue declares a
    plan once. Nothing is written unless all could be read.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as kept:
        with Client(Session.find()) as client:
            counts = write_catalog(kept, client)
        if to is None:
            copy_out(kept)
        else:
            _place(kept, to)
    note(", ".join(f"{name}: {count:,}" for name, count in counts.items()))


def write_catalog(kept: Any, client: Client) -> dict[str, int]:
    """Write the catalogue as YAML; returns how many things of each kind there are."""
    kept.write(_HEAD)
    return {name: _write(kept, name, items) for name, items in _sections(client)}


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
    _show_plan(found, output)


def _show_plan(found: pricing_pb2.Plan, output: Format) -> None:
    if output is Format.JSON:
        print_json(found)
        return
    print_table("", _PLAN_COLUMNS, [_plan_row(found)], right=("version", "prices"))
    for line in found.notes.splitlines():
        say(line)
    rows = (row for price in found.prices for row in price_rows.of(price))
    title = f"prices in {found.currency_code}"
    print_table(title, price_rows.COLUMNS, rows, right=price_rows.COLUMNS[2:])


@plans.command("publish")
def publish_plan(
    plan_id: Annotated[str, typer.Argument(help="id of the draft")],
    effective_at: Annotated[
        str, typer.Option(help="from when its list holds; as the draft says by default")
    ] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Publish a draft: its list becomes version 1 of the plan, and never changes from then on."""
    request = service_pb2.PublishPlanRequest(request_id=str(uuid4()), plan_id=plan_id)
    if effective_at:
        request.effective_at.FromDatetime(periods.first_instant("--effective-at", effective_at))
    with Client(Session.find()) as client:
        found = client.call(_stub(client).PublishPlan, request).plan
    _show_plan(found, output)


@plans.command("archive")
def archive_plan(
    plan_id: Annotated[str, typer.Argument(help="id of the plan")],
    output: OutputOption = Format.TABLE,
) -> None:
    """End a plan that nobody is on, nor will be."""
    request = service_pb2.ArchivePlanRequest(request_id=str(uuid4()), plan_id=plan_id)
    with Client(Session.find()) as client:
        found = client.call(_stub(client).ArchivePlan, request).plan
    _show_plan(found, output)


@plans.command("migrate")
def migrate_plan(
    plan_id: Annotated[str, typer.Argument(help="plan that is left")],
    to: Annotated[str, typer.Argument(help="plan that organisations get")],
    effective_at: Annotated[
        str, typer.Option(help="from when they are on it: 2027-01-01, or 2027-01 for its start")
    ],
    version: Annotated[int, typer.Option(min=0, help="version that is left; any by default")] = 0,
    to_version: Annotated[
        int, typer.Option(min=0, help="version that they are held to; none by default")
    ] = 0,
    drop_overrides: Annotated[
        bool, typer.Option("--drop-overrides", help="end prices of their own with the old plan")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, max=500, help="organisations in one call")] = 100,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show the first batch without moving anybody")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Move organisations from a plan, or a version of it, to another from an instant on.

    They are moved batch by batch. If it breaks off, repeat the command: it goes on with those who are left.
    """
    request = service_pb2.MigratePlanRequest(
        plan_id=plan_id,
        version=version,
        to_plan_id=to,
        to_version=to_version,
        drop_overrides=drop_overrides,
        limit=batch,
        validate_only=dry_run,
    )
    request.effective_at.FromDatetime(periods.first_instant("--effective-at", effective_at))
    done = service_pb2.MigratePlanResponse()
    with Client(Session.find()) as client:
        while True:
            request.request_id = str(uuid4())
            answer = client.call(_stub(client).MigratePlan, request)
            done.moves.extend(answer.moves)
            done.remaining = answer.remaining
            if dry_run or not answer.remaining:
                break
    if output is Format.JSON:
        print_json(done)
        return
    rows = (
        (move.org_id, move.before.plan_id or "by model", move.after.plan_id, str(move.later_count))
        for move in done.moves
    )
    columns = ("organisation", "from", "to", "later ones")
    print_tables(columns, rows, right=columns[3:])
    would = "would be " if dry_run else ""
    left = f", {done.remaining} more" if done.remaining else ""
    say(f"{len(done.moves)} {would}moved{left}")


def assign(
    org_id: Annotated[str, typer.Argument(help="organisation")],
    model_id: Annotated[str, typer.Argument(help="business model")],
    plan: Annotated[
        str, typer.Option(help="plan within the model; its default plan otherwise")
    ] = "",
    notes: Annotated[str, typer.Option(help="notes for people")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Put an organisation on a business model. Needs a key with scope pricing:admin."""
    request = service_pb2.AssignBusinessModelRequest(
        request_id=str(uuid4()), org_id=org_id, model_id=model_id, plan_id=plan, notes=notes
    )
    with Client(Session.find()) as client:
        found = client.call(_stub(client).AssignBusinessModel, request).org_business_model
    if output is Format.JSON:
        print_json(found)
        return
    print_table("", _ASSIGNMENT_COLUMNS, [_assignment_row(found)])


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
            right=("held to", "own prices"),
            limit=limit,
        )


def _stub(client: Client) -> catalog_service_pb2_grpc.CatalogServiceStub:
    return client.stub(catalog_service_pb2_grpc.CatalogServiceStub)


def _sections(client: Client) -> Iterator[tuple[str, Iterator[Any]]]:
    yield "skus", _skus(client)
    yield "plans", _plans(client)
    for name, method, request in (
        ("business_models", "ListBusinessModels", service_pb2.ListBusinessModelsRequest()),
        (
            "org_business_models",
            "ListOrgBusinessModels",
            service_pb2.ListOrgBusinessModelsRequest(),
        ),
        ("entitlements", "ListEntitlements", service_pb2.ListEntitlementsRequest()),
        ("partners", "ListPartners", service_pb2.ListPartnersRequest()),
        ("partners_of_record", "ListPartnersOfRecord", service_pb2.ListPartnersOfRecordRequest()),
        ("commission_rates", "ListCommissionRates", service_pb2.ListCommissionRatesRequest()),
        ("tax_rates", "ListTaxRates", service_pb2.ListTaxRatesRequest()),
        ("tax_profiles", "ListTaxProfiles", service_pb2.ListTaxProfilesRequest()),
        ("tax_policies", "ListTaxPolicies", service_pb2.ListTaxPoliciesRequest()),
        (
            "billing_account_orgs",
            "ListBillingAccountOrgs",
            service_pb2.ListBillingAccountOrgsRequest(),
        ),
        (
            "billing_account_partners",
            "ListBillingAccountPartners",
            service_pb2.ListBillingAccountPartnersRequest(),
        ),
    ):
        yield name, lists.pages(client, getattr(_stub(client), method), request, name)


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
    held = str(item.plan_version or "")
    return item.org_id, item.plan_id, since, held, str(len(item.overrides) or "")


def _model_row(item: pricing_pb2.BusinessModel) -> tuple[str, ...]:
    version = str(item.version or "")
    named = (item.model_id, item.code, item.name, enum_name(item, "status"), version)
    return *named, item.currency_code, item.default_plan_id


def _assignment_row(item: pricing_pb2.OrgBusinessModel) -> tuple[str, ...]:
    assigned = (item.assigned_by, when(item.assigned_at))
    return item.org_id, item.model_id, item.plan_id, *assigned, item.notes


def _partner_row(item: pricing_pb2.Partner) -> tuple[str, ...]:
    return item.partner_id, item.name, item.tier


def _record_row(item: pricing_pb2.PartnerOfRecord) -> tuple[str, ...]:
    during = (when(item.start_at) or "ever", when(item.end_at))
    return item.org_id, item.partner_id, *during, enum_name(item, "status"), _dispute(item)


def _dispute(item: pricing_pb2.PartnerOfRecord) -> str:
    if not item.HasField("dispute"):
        return "-"
    dispute = item.dispute
    if not dispute.HasField("resolution"):
        return f"{dispute.dispute_id}, open"
    return f"{dispute.dispute_id}, for {dispute.resolution.partner_id or 'nobody'}"


def _rate_row(item: pricing_pb2.CommissionRate) -> tuple[str, ...]:
    return item.partner_tier, item.sku or "all others", item.pct


def _account_org_row(item: pricing_pb2.BillingAccountOrg) -> tuple[str, ...]:
    during = (when(item.start_at) or "ever", when(item.end_at))
    return item.billing_account_id, item.org_id, *during


def _account_partner_row(item: pricing_pb2.BillingAccountPartner) -> tuple[str, ...]:
    during = (when(item.start_at) or "ever", when(item.end_at))
    return item.billing_account_id, item.partner_id, *during, enum_name(item, "status")


def register(app: typer.Typer, catalog: typer.Typer) -> None:
    """Add the commands."""
    catalog.command("get")(get)
    catalog.command("export")(export)
    catalog.command("assign")(assign)
    app.add_typer(skus, name="skus")
    app.add_typer(plans, name="plans")
    app.add_typer(entitlements, name="entitlements")
