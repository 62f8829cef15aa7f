"""`tollmesh agreements …`: contracts, what is edited of them, and what was true and known when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any
from uuid import uuid4

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from payments.agreements.v1 import agreement_service_pb2 as service_pb
from payments.agreements.v1 import agreement_service_pb2_grpc, agreements_pb2

from services.cli import lists, periods
from services.cli.client import Client, Session
from services.cli.documents import read_document
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    LimitOption,
    OutputOption,
    money,
    print_json,
    print_table,
    when,
)
from services.runtime.edge import json_messages

agreements = typer.Typer(
    help="Agreements: edited, shown as of two times, and their logs.", no_args_is_help=True
)

# The most that one page may hold: agreements are large.
_PAGE_SIZE = 100
_AGREEMENTS = ("agreement", "buyer", "seller", "status", "products", "ends at, UTC", "revision")
_EDITS = ("revision", "edit", "what", "holds from, UTC", "written at, UTC", "by")
_CHANGES = ("what", "before", "after")
_PRODUCTS = ("product", "sku", "quantity", "unit price", "minimum", "hosting")
_AgreementArgument = Annotated[
    str,
    typer.Argument(
        metavar="AGREEMENT", help="id of the agreement, as `tollmesh agreements list` prints"
    ),
]
_FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="a JSON list of edits; - reads standard input")
]
_AgreementOption = Annotated[
    str, typer.Option("--agreement", help="which agreement; without it a new one is begun")
]
_AtOption = Annotated[
    str,
    typer.Option(
        "--at",
        help="from when the edits hold: 2023-11-16T12:30:00, or a day or a month for its beginning; by default now",
    ),
]
_RevisionOption = Annotated[
    int, typer.Option(min=0, help="revision that you have seen; with another nothing is written")
]


@agreements.command("apply")
def apply(
    file: _FileArgument,
    agreement_id: _AgreementOption = "",
    at: _AtOption = "",
    expected_revision: _RevisionOption = 0,
    request_id: Annotated[
        str, typer.Option(help="UUID that makes a repeated call the same one; by default a new one")
    ] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Write edits to the log of an agreement, all or none, and show what they change."""
    request = _request(file, agreement_id, at, expected_revision)
    request.request_id = request_id or str(uuid4())
    _changed(request, output)


@agreements.command("diff")
def diff(
    file: _FileArgument,
    agreement_id: _AgreementOption = "",
    at: _AtOption = "",
    expected_revision: _RevisionOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what edits would change; nothing is stored."""
    request = _request(file, agreement_id, at, expected_revision)
    request.request_id, request.validate_only = str(uuid4()), True
    _changed(request, output)


@agreements.command("show")
def show(
    agreement_id: _AgreementArgument,
    as_of: Annotated[
        str,
        typer.Option("--as-of", help=f"at what time: {periods.INSTANT_HELP}; by default now"),
    ] = "",
    known_at: Annotated[
        str,
        typer.Option(
            "--known-at",
            help=f"by what was written until when: {periods.INSTANT_HELP}; by default all of it",
        ),
    ] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Show an agreement as it was at one time, by what was known at another."""
    request = service_pb.GetAgreementRequest(
        agreement_id=agreement_id,
        effective_at=_moment(periods.last_instant, "--as-of", as_of),
        recorded_at=_moment(periods.last_instant, "--known-at", known_at),
    )
    with Client(Session.find()) as client:
        found = client.call(_stub(client).GetAgreement, request).agreement
    if output is Format.JSON:
        print_json(found)
        return
    print_table("", ("agreement", found.agreement_id), _facts(found))
    print_table(
        "",
        _PRODUCTS,
        [
            (
                each.product_id,
                each.sku,
                each.quantity_in_force,
                f"{each.unit_price} {found.currency_code}",
                money(each.minimum_commitment) if each.HasField("minimum_commitment") else "",
                money(each.hosting_fee) if each.HasField("hosting_fee") else "",
            )
            for each in found.products
        ],
        right=("quantity", "unit price", "minimum", "hosting"),
        optional=("minimum", "hosting"),
    )


@agreements.command("list")
def list_(limit: LimitOption = 0, output: OutputOption = Format.TABLE) -> None:
    """List agreements as they stand now, the latest made first."""
    request = service_pb.ListAgreementsRequest()
    with Client(Session.find()) as client:
        method = _stub(client).ListAgreements
        found = lists.pages(client, method, request, "agreements", _PAGE_SIZE)
        lists.show(
            *(output, "agreements", found, _AGREEMENTS, _row),
            right=("products", "revision"),
            limit=limit,
        )


@agreements.command("edits")
def edits(
    agreement_id: _AgreementArgument, limit: LimitOption = 0, output: OutputOption = Format.TABLE
) -> None:
    """List the log of an agreement, in the order in which it was written."""
    request = service_pb.ListEditsRequest(agreement_id=agreement_id)
    with Client(Session.find()) as client:
        found = lists.pages(client, _stub(client).ListEdits, request, "edits")
        lists.show(
            *(output, "edits", found, _EDITS, _edit_row),
            right=("revision",),
            optional=("what",),
            limit=limit,
        )


def _request(
    file: str, agreement_id: str, at: str, expected_revision: int
) -> service_pb.ApplyEditsRequest:
    try:
        found = json_messages.parse({"edits": read_document(file)}, service_pb.ApplyEditsRequest())
    except json_messages.NotThisMessage as error:
        raise CliError(
            f"{file}: {error}",
            'write a list of edits, as [{"activate": {}}]',
            exit_code=EXIT_USAGE,
        ) from error
    found.agreement_id, found.expected_revision = agreement_id, expected_revision
    if (moment := _moment(periods.first_instant, "--at", at)) is not None:
        found.effective_at.CopyFrom(moment)
    return found


def _changed(request: service_pb.ApplyEditsRequest, output: Format) -> None:
    with Client(Session.find()) as client:
        answer = client.call(_stub(client).ApplyEdits, request)
    if output is Format.JSON:
        print_json(answer)
        return
    if not request.validate_only:
        head = answer.agreement
        print_table("", ("agreement", head.agreement_id), [("revision", str(head.revision))])
    print_table("", _CHANGES, [(each.path, each.before, each.after) for each in answer.changes])


def _moment(read: Callable[[str, str], datetime], option: str, text: str) -> Timestamp | None:
    if not text:
        return None
    found = Timestamp()
    found.FromDatetime(read(option, text))
    return found


def _facts(found: agreements_pb2.Agreement) -> list[tuple[str, str]]:
    term = f"{when(found.term.start_at)} to {when(found.term.end_at) or 'no end'}, UTC"
    rows = [
        ("buyer", found.buyer),
        ("seller", found.seller),
        ("status", _name(agreements_pb2.Status.Name(found.status), "STATUS_")),
        (
            "service",
            _name(agreements_pb2.ServiceStatus.Name(found.service_status), "SERVICE_STATUS_"),
        ),
        (
            "billing",
            _name(agreements_pb2.BillingStatus.Name(found.billing_status), "BILLING_STATUS_"),
        ),
        ("term", term),
    ]
    if found.HasField("auto_renew"):
        renewal = found.auto_renew
        rows.append(
            (
                "renews",
                f"by {renewal.months} months, prices by {renewal.price_change_pct}%,"
                f" notice {renewal.notice_days} days",
            )
        )
    if found.HasField("downpayment"):
        rows.append(("down payment", money(found.downpayment)))
    rows.extend(
        (
            _name(agreements_pb2.Role.Name(each.role), "ROLE_").lower(),
            f"{each.party_id}, {each.share_pct}%",
        )
        for each in found.parties
    )
    if found.net_days:
        rows.append(("pays within", f"{found.net_days} days"))
    if found.reference:
        rows.append(("reference", found.reference))
    rows.append(("true at", f"{when(found.effective_at)} UTC"))
    rows.append(("revision", f"{found.revision}, written {when(found.recorded_at)} UTC"))
    return rows


def _row(item: agreements_pb2.Agreement) -> tuple[str, ...]:
    return (
        item.agreement_id,
        item.buyer,
        item.seller,
        _name(agreements_pb2.Status.Name(item.status), "STATUS_"),
        str(len(item.products)),
        when(item.term.end_at),
        str(item.revision),
    )


def _edit_row(item: agreements_pb2.AppliedEdit) -> tuple[str, ...]:
    kind = item.edit.WhichOneof("edit") or ""
    said = MessageToDict(item.edit, preserving_proto_field_name=True).get(kind, {})
    return (
        str(item.revision),
        kind,
        ", ".join(_said(said)),
        when(item.effective_at),
        when(item.recorded_at),
        item.principal_id,
    )


def _said(values: Any, path: str = "") -> list[str]:
    """Write the values of an edit, each with its name."""
    if isinstance(values, dict):
        return [
            text
            for key, value in values.items()
            for text in _said(value, f"{path}.{key}" if path else key)
        ]
    if isinstance(values, list):
        return [
            text for index, value in enumerate(values) for text in _said(value, f"{path}[{index}]")
        ]
    return [f"{path} {values}"]


def _name(text: str, prefix: str) -> str:
    return text.removeprefix(prefix)


def _stub(client: Client) -> Any:
    return client.stub(agreement_service_pb2_grpc.AgreementServiceStub)


def register(app: typer.Typer) -> None:
    """Add the commands to `tollmesh`."""
    app.add_typer(agreements, name="agreements")
